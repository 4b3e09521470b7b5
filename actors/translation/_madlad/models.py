"""The published MADLAD-400 models, pinned."""

from __future__ import annotations

from actors.engine import KnownModel

DEFAULT_MODEL = "google/madlad400-3b-mt"
KNOWN_MODELS = (
    KnownModel(
        task="translation",
        ref="google/madlad400-3b-mt@fa184c675da0b5c9e1c8694fccd4e12e2d422094",
        languages="452",
        licence="Apache-2.0",
        size_bytes=11_800_000_000,
    ),
)
