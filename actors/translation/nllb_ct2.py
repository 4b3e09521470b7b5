"""NLLB-200 on CTranslate2: the translator of a GPU cluster, and fast on CPUs too.

Takes a checkpoint in transformers' format and converts it once per node, or a converted folder.
At run time it needs neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from actors import hub
from actors.device import ComputeType, compute_type, resolve_device
from actors.translation._hypotheses import Decoding, Hypothesis
from actors.translation._nllb import END, NllbConfig, NllbEngine, Window, source_attention
from actors.translation._nllb_convert import converted

if TYPE_CHECKING:
    from ctranslate2 import TranslationResult, Translator


class Engine(NllbEngine):
    """600M parameters take 0.7 GB as int8, 1.3 GB as float16, and about as much again for large batches."""

    class Config(NllbConfig):
        """In which precision, and whether it says what it looked at."""

        compute_type: ComputeType = "auto"
        """auto: int8 on a CPU, float16 on a GPU; int8_float16 halves a GPU's memory again."""
        alignment: bool = True
        """Whether candidates say which source word each of their words was read from."""

    packages: ClassVar[Mapping[str, str]] = {
        "ctranslate2": "ctranslate2",
        "tokenizers": "tokenizers",
        "huggingface_hub": "huggingface-hub",
    }
    config: Config
    _translator: Translator | None = None

    def close(self) -> None:
        super().close()
        if self._translator is not None:
            self._translator.unload_model()
            self._translator = None

    def _load_model(self) -> Path:
        import ctranslate2

        device = resolve_device(self.config.device, ctranslate2.get_cuda_device_count())
        kind = compute_type(self.config.compute_type, device, ctranslate2.get_supported_compute_types(device))
        folder = converted(hub.resolve(self.config.model), kind, self.config.threads)
        self._translator = ctranslate2.Translator(
            str(folder), device=device, compute_type=kind, inter_threads=1, intra_threads=self.config.threads
        )
        return folder

    def _decode(self, decoding: Decoding, batch: Sequence[Window]) -> list[list[Hypothesis]]:
        assert self._translator is not None
        results = self._translator.translate_batch(
            [[window.source, *window.tokens, END] for window in batch],
            target_prefix=[[window.target] for window in batch],
            beam_size=decoding.beam_size,
            num_hypotheses=decoding.num_hypotheses,
            no_repeat_ngram_size=decoding.no_repeat_ngram_size,
            max_decoding_length=decoding.max_tokens + 1,  # it counts the language, too
            max_input_length=0,  # it would cut without a word
            return_end_token=True,
            return_scores=True,
            return_attention=self.config.alignment,
        )
        return [_hypotheses(window, result) for window, result in zip(batch, results, strict=True)]


def _hypotheses(window: Window, result: TranslationResult) -> list[Hypothesis]:
    attentions = result.attention or [None] * len(result.hypotheses)
    found = []
    for tokens, score, attention in zip(result.hypotheses, result.scores, attentions, strict=True):
        finished = tokens[-1] == END
        said = tuple(tokens[1 : -1 if finished else None])
        found.append(
            Hypothesis(
                tokens=said,
                finished=finished,
                # CTranslate2 divides by the number of tokens, the given language among them.
                log_probability=score * len(tokens),
                attention=None
                if attention is None
                else source_attention(np.asarray(attention, np.float32), len(said), len(window.tokens)),
            )
        )
    return found
