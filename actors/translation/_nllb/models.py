"""The published NLLB models, pinned."""

from __future__ import annotations

from actors.engine import KnownModel

DEFAULT_MODEL = "facebook/nllb-200-distilled-600M"
KNOWN_MODELS = (
    KnownModel(
        task="translation",
        ref="facebook/nllb-200-distilled-600M@f8d333a098d19b4fd9a8b18f94170487ad3f821d",
        languages="202",
        licence="CC-BY-NC-4.0",
        size_bytes=2_480_000_000,
        sha256={
            "pytorch_model.bin": "c266c2cfd19758b6d09c1fc31ecdf1e485509035f6b51dfe84f1ada83eefcc42",
            "tokenizer.json": "e316b82de11d0f951f370943b3c438311629547285129b0b81dadabd01bca665",
        },
    ),
    KnownModel(
        task="translation",
        ref="facebook/nllb-200-distilled-1.3B@7be3e24664b38ce1cac29b8aeed6911aa0cf0576",
        languages="202",
        licence="CC-BY-NC-4.0",
        size_bytes=5_500_000_000,
        sha256={"pytorch_model.bin": "7e40f838a5aad3d60e9254632ab876bda44340386ca7ebad3e099db7432b04e1"},
    ),
    KnownModel(
        task="translation",
        ref="facebook/nllb-200-3.3B@1a07f7d195896b2114afcb79b7b57ab512e7b43e",
        languages="202",
        licence="CC-BY-NC-4.0",
        size_bytes=17_600_000_000,
    ),
)
