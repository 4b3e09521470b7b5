"""MADLAD-400 on CTranslate2: 400 languages, free for commercial use (Apache-2.0).

Takes a checkpoint in transformers' format and converts it once per node, or a converted folder.
At run time it needs neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

from actors.translation._madlad import marks
from actors.translation._madlad.convert import MADLAD
from actors.translation._madlad.models import DEFAULT_MODEL, KNOWN_MODELS
from actors.translation._seq2seq.ct2 import CTranslate2Config, CTranslate2Engine
from actors.translation._seq2seq.text import CONTROL_TOKENS, UNSPACED_SCRIPTS, tokenizer_file
from actors.translation._seq2seq.units import UnitWindow


class Engine(CTranslate2Engine):
    """3B parameters take 3 GB as int8, 6 GB as bfloat16, and about as much again for large batches.

    The model is told the target language alone, and finds the source's by itself.
    """

    class Config(CTranslate2Config):
        """The model, search, precision, and word alignment."""

        model: str = DEFAULT_MODEL
        """Hub id, "id@revision", folder, or "wheel:package/path"."""

        @classmethod
        def code_of(cls, language: str) -> str | None:
            return marks.code_of(language, marks.PUBLISHED)

    family = MADLAD
    beyond_float16 = True  # T5 was trained in bfloat16: in float16 its sums overflow, and it says nothing of sense
    known_models = KNOWN_MODELS
    config: Config
    _control_tokens: frozenset[str] = frozenset(CONTROL_TOKENS)
    _loaded_codes: tuple[str, ...] | None = None

    @property
    def codes(self) -> tuple[str, ...]:
        """Those of the vocabulary, once it is loaded or if it is in a folder; else those of the published models."""
        if self._loaded_codes is not None:
            return self._loaded_codes
        tokenizer = Path(self.config.model) / "tokenizer.json"
        return marks.codes_in(tokenizer) if tokenizer.is_file() else marks.PUBLISHED

    @property
    def control_tokens(self) -> frozenset[str]:
        return self._control_tokens

    def code_of(self, tag: str) -> str | None:
        return marks.code_of(tag, self.codes)

    def tag_of(self, code: str) -> str:
        return marks.tag_of(code)

    def language_token(self, code: str) -> str:
        return marks.mark(code)

    def is_unspaced(self, code: str) -> bool:
        return marks.script_of(marks.tag_of(code)) in UNSPACED_SCRIPTS

    def source_start(self, window: UnitWindow) -> tuple[str, ...]:
        """The target's token, after the space that SentencePiece may put before it."""
        assert self._tokenizer is not None
        wanted = self.language_token(window.target)
        tokens = self._tokenizer.encode(wanted, add_special_tokens=False).tokens
        return tuple(tokens) if tokens[-1:] == [wanted] and len(tokens) < 3 else (wanted,)

    def target_start(self, window: UnitWindow) -> tuple[str, ...]:
        return ()

    def _load_model(self) -> Path:
        folder = super()._load_model()
        tokenizer = tokenizer_file(folder)
        self._control_tokens = marks.all_marks(tokenizer) | frozenset(CONTROL_TOKENS)
        self._loaded_codes = marks.codes_in(tokenizer)
        return folder
