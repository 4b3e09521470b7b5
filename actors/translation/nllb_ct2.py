"""NLLB-200 on CTranslate2: the translator of a GPU cluster, and fast on CPUs too.

Takes a checkpoint in transformers' format and converts it once per node, or a converted folder.
At run time it needs neither torch nor transformers.
"""

from __future__ import annotations

from actors.translation._nllb.base import NllbConfig, NllbEngine
from actors.translation._nllb.convert import NLLB
from actors.translation._seq2seq.ct2 import CTranslate2Config, CTranslate2Engine
from actors.translation._seq2seq.units import UnitWindow


class Engine(CTranslate2Engine, NllbEngine):
    """600M parameters take 0.7 GB as int8, 1.3 GB as float16, and about as much again for large batches."""

    class Config(NllbConfig, CTranslate2Config):
        """NLLB's options, the precision, and word alignment."""

    family = NLLB
    config: Config

    def source_start(self, window: UnitWindow) -> tuple[str, ...]:
        return (window.source,)

    def target_start(self, window: UnitWindow) -> tuple[str, ...]:
        return (window.target,)
