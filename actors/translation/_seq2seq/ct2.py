"""The decoder of encoder-decoder translators on CTranslate2. At run time it needs neither torch nor transformers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from actors import hub
from actors.device import ComputeType, compute_type, ctranslate2_device
from actors.engine import EngineConfig
from actors.translation._seq2seq.base import Seq2SeqConfig, Seq2SeqEngine
from actors.translation._seq2seq.convert import ModelFamily, converted
from actors.translation._seq2seq.hypotheses import Decoding, Hypothesis
from actors.translation._seq2seq.text import END
from actors.translation._seq2seq.units import UnitWindow

if TYPE_CHECKING:
    from ctranslate2 import TranslationResult, Translator


class CTranslate2Config(Seq2SeqConfig):
    """The model's options, the precision, and word alignment."""

    compute_type: ComputeType = "auto"
    """auto: int8 on a CPU, half precision on a GPU; int8_float16 or int8_bfloat16 halve a GPU's memory again."""
    alignment: bool = True
    """Give candidates an alignment of their words to those of the source."""


class CTranslate2Engine(Seq2SeqEngine):
    """A translator whose checkpoint, in transformers' format, is converted once per node; or a converted folder."""

    Config: ClassVar[type[EngineConfig]] = CTranslate2Config
    packages: ClassVar[Mapping[str, str]] = {
        "ctranslate2": "ctranslate2",
        "tokenizers": "tokenizers",
        "huggingface_hub": "huggingface-hub",
    }
    family: ClassVar[ModelFamily]
    beyond_float16: ClassVar[bool] = False
    """True for models with values that float16 cannot hold."""
    config: CTranslate2Config
    _translator: Translator | None = None

    def close(self) -> None:
        super().close()
        if self._translator is not None:
            self._translator.unload_model()
            self._translator = None

    @abstractmethod
    def source_start(self, window: UnitWindow) -> tuple[str, ...]:
        """Tokens that the encoder reads before the text."""

    @abstractmethod
    def target_start(self, window: UnitWindow) -> tuple[str, ...]:
        """Tokens that the decoder is given before its own."""

    def _load_model(self) -> Path:
        import ctranslate2

        device = ctranslate2_device(self.config.device, self.num_gpus)
        supported = ctranslate2.get_supported_compute_types(device)
        kind = compute_type(self.config.compute_type, device, supported, beyond_float16=self.beyond_float16)
        folder = converted(hub.resolve(self.config.model), kind, self.config.threads, self.family)
        self._translator = ctranslate2.Translator(
            str(folder), device=device, compute_type=kind, inter_threads=1, intra_threads=self.config.threads
        )
        return folder

    def _decode(self, decoding: Decoding, batch: Sequence[UnitWindow]) -> list[list[Hypothesis]]:
        assert self._translator is not None
        starts = [self.target_start(window) for window in batch]
        num_given = len(starts[0])
        results = self._translator.translate_batch(
            [[*self.source_start(window), *window.tokens, END] for window in batch],
            target_prefix=[list(start) for start in starts] if num_given else None,
            beam_size=decoding.beam_size,
            num_hypotheses=decoding.num_hypotheses,
            no_repeat_ngram_size=decoding.no_repeat_ngram_size,
            max_decoding_length=decoding.max_tokens + num_given,  # it counts the given ones, too
            max_input_length=0,  # it would cut without a word
            return_end_token=True,
            return_scores=True,
            return_attention=self.config.alignment,
        )
        return [
            _hypotheses(result, num_given, len(self.source_start(window)), len(window.tokens))
            for window, result in zip(batch, results, strict=True)
        ]


def _hypotheses(result: TranslationResult, num_given: int, first_column: int, num_source: int) -> list[Hypothesis]:
    attentions = result.attention or [None] * len(result.hypotheses)
    found = []
    for tokens, score, attention in zip(result.hypotheses, result.scores, attentions, strict=True):
        finished = tokens[-1] == END
        said = tuple(tokens[num_given : -1 if finished else None])
        rows, columns = slice(num_given, num_given + len(said)), slice(first_column, first_column + num_source)
        found.append(
            Hypothesis(
                tokens=said,
                finished=finished,
                # CTranslate2 divides by the number of tokens, the given ones among them.
                log_probability=score * len(tokens),
                attention=None if attention is None else np.asarray(attention, np.float32)[rows, columns],
            )
        )
    return found
