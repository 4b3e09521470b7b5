"""The NLLB engines without their decoders: any two of 202 languages by their FLORES codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from actors.engine import EngineConfig, KnownModel
from actors.translation._nllb.flores import CODES, bcp47, flores
from actors.translation._nllb.models import DEFAULT_MODEL, KNOWN_MODELS
from actors.translation._seq2seq.base import Seq2SeqConfig, Seq2SeqEngine
from actors.translation._seq2seq.text import CONTROL_TOKENS, UNSPACED_SCRIPTS

_CONTROL = frozenset((*CONTROL_TOKENS, *CODES))


class NllbConfig(Seq2SeqConfig):
    model: str = DEFAULT_MODEL
    """Hub id, "id@revision", folder, or "wheel:package/path"."""

    @classmethod
    def code_of(cls, language: str) -> str | None:
        return flores(language)


class NllbEngine(Seq2SeqEngine):
    """NLLB's languages and their tokens."""

    Config: ClassVar[type[EngineConfig]] = NllbConfig
    known_models: ClassVar[tuple[KnownModel, ...]] = KNOWN_MODELS
    config: NllbConfig

    @property
    def codes(self) -> Sequence[str]:
        return CODES

    @property
    def control_tokens(self) -> frozenset[str]:
        return _CONTROL

    def tag_of(self, code: str) -> str:
        return bcp47(code)

    def language_token(self, code: str) -> str:
        return code

    def is_unspaced(self, code: str) -> bool:
        return code.endswith(UNSPACED_SCRIPTS)
