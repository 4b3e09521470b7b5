"""NLLB-200 on transformers: the reference for the CTranslate2 engine.

Slower by a factor of two to five on a CPU, and without word alignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from actors import hub
from actors.device import Dtype, release_memory, torch_device, torch_dtype
from actors.translation._nllb.base import NllbConfig, NllbEngine
from actors.translation._seq2seq.hypotheses import Decoding, Hypothesis
from actors.translation._seq2seq.text import END
from actors.translation._seq2seq.units import UnitWindow

if TYPE_CHECKING:
    import torch

PADDING = "<pad>"


class Engine(NllbEngine):
    """600M parameters take 2.5 GB as float32, 1.3 GB in half precision."""

    class Config(NllbConfig):
        """NLLB's options, and the precision."""

        dtype: Dtype = "auto"

    packages: ClassVar[Mapping[str, str]] = {
        "torch": "torch",
        "transformers": "transformers",
        "tokenizers": "tokenizers",
        "huggingface_hub": "huggingface-hub",
    }
    config: Config
    _model: Any = None

    def close(self) -> None:
        super().close()
        self._model = None
        release_memory()

    def _load_model(self) -> Path:
        import torch
        from transformers import M2M100ForConditionalGeneration

        device = torch_device(self.config.device, self.num_gpus)
        folder = hub.resolve(self.config.model)
        if device == "cpu":
            torch.set_num_threads(self.config.threads)
        model: Any = M2M100ForConditionalGeneration.from_pretrained(
            folder, dtype=torch_dtype(self.config.dtype, device), local_files_only=True, weights_only=True
        )
        self._model = model.to(device).eval()
        return folder

    def _decode(self, decoding: Decoding, batch: Sequence[UnitWindow]) -> list[list[Hypothesis]]:
        import torch

        ids, mask = self._padded([[window.source, *window.tokens, END] for window in batch])
        starts, _ = self._padded([[END, window.target] for window in batch])
        with torch.inference_mode():
            found = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                decoder_input_ids=starts,  # a language for each item, where forced_bos_token_id is one for all
                num_beams=decoding.beam_size,
                num_return_sequences=decoding.num_hypotheses,
                no_repeat_ngram_size=decoding.no_repeat_ngram_size,
                max_new_tokens=decoding.max_tokens,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
            )
            steps = self._model.compute_transition_scores(
                found.sequences, found.scores, getattr(found, "beam_indices", None), decoding.beam_size == 1
            )
        sequences, log_probabilities = found.sequences[:, starts.shape[1] :].tolist(), steps.float().tolist()
        flat = [self._hypothesis(*pair) for pair in zip(sequences, log_probabilities, strict=True)]
        return [flat[at : at + decoding.num_hypotheses] for at in range(0, len(flat), decoding.num_hypotheses)]

    def _hypothesis(self, ids: Sequence[int], log_probabilities: Sequence[float]) -> Hypothesis:
        assert self._tokenizer is not None
        tokens = [self._tokenizer.id_to_token(index) or "<unk>" for index in ids]
        finished = END in tokens
        num_said = tokens.index(END) if finished else len(tokens)
        return Hypothesis(
            tokens=tuple(tokens[:num_said]),
            finished=finished,
            log_probability=sum(log_probabilities[: num_said + finished]),
            attention=None,
        )

    def _padded(self, rows: Sequence[Sequence[str]]) -> tuple[torch.Tensor, torch.Tensor]:
        """int64 (num_rows, longest) ids and mask."""
        import torch

        assert self._tokenizer is not None
        longest = max(map(len, rows))
        padded = [[*row, *[PADDING] * (longest - len(row))] for row in rows]
        ids = torch.tensor([[self._tokenizer.token_to_id(token) for token in row] for row in padded])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return ids.to(self._model.device), mask.to(self._model.device)
