"""VITS in two steps that batch: durations from tokens, and samples from tokens and chosen durations.

The modules and weights are Coqui's; the forward pass is not: Coqui's draws noise for the whole
batch at once, reads tensors back from the GPU in the middle (masked assignment, assertions on
values), which also breaks ``torch.compile``, and ignores chosen durations in batches. Needs torch:
imported only while the engine coqui loads.

shapes: B items · T tokens · F frames · C hidden channels · D conditioning channels · S samples = F · hop
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from actors.device import HalvingBatch
from actors.speech._coqui.flows import reverse_flow, stochastic_log_durations
from actors.speech._coqui.waveform import channels_last, decoder_reach_frames, waveform
from actors.speech._planned.model import ChosenFrames, Frames, Tokens
from actors.types import ItemFailure, Samples

T = TypeVar("T")

BUCKET_FRAMES = 64
"""On a GPU every length is rounded up to a multiple, which bounds the number of compiled or tuned shapes."""
MAX_ITEMS = 32
MAX_FRAMES = 16_384
"""Frames in one call of the decoder, padding included: 190 s at 22 kHz."""
MAX_TOKENS = 16_384
"""Tokens in one call of the encoder, padding included."""
MAX_CACHED_TOKENS = 16_384
"""Tokens of planned lines whose encoding is cached for synthesis; 25 MB in all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedLine:
    """A passage as input of the network."""

    tokens: Tokens
    speaker: int
    """Row of the speaker table; 0 where there is none."""
    language: int
    """Row of the language table; 0 where there is none."""
    seed: int
    """Seed of the noise that gives timbre its variety."""


class Prior(NamedTuple):
    """Distribution of the latent audio for each token of the text."""

    mean: Tensor
    """(B, C, T)"""
    log_scale: Tensor
    """(B, C, T)"""
    durations: Tensor
    """(B, T), in frames, 0 beyond an item's end."""


class Network(ABC):
    """Coqui's VITS, stripped for inference, on one device."""

    def __init__(
        self,
        model: Any,
        speakers: Tensor | None,
        *,
        device: torch.device,
        decoder_dtype: torch.dtype,
        noise_scale: float,
        compiled: bool,
    ) -> None:
        """``speakers``: (num_speakers, D), normalised as the model requires."""
        self._model = _stripped(model).to(device).eval()
        self._model.waveform_decoder.to(decoder_dtype)
        self._speakers = None if speakers is None else speakers.to(device)
        self._languages = model.emb_l.weight if hasattr(model, "emb_l") else None
        self.device = device
        self._noise_scale = noise_scale
        self._encode_batches, self._decode_batches = HalvingBatch(MAX_TOKENS), HalvingBatch(MAX_FRAMES)
        self._hop = math.prod(model.args.upsample_rates_decoder)
        self._encode = torch.compile(encode, dynamic=True) if compiled else encode
        self._decode = torch.compile(decode, dynamic=True) if compiled else decode

    @abstractmethod
    def _width(self, num_frames: int) -> int:
        """Frames to decode for a line of ``num_frames``, padding included."""

    def _token_cost(self, num_tokens: int) -> float:
        """Share of ``MAX_TOKENS`` that a line of so many takes up in a batch of lines no longer."""
        return max(num_tokens, MAX_TOKENS / MAX_ITEMS)

    def _frame_cost(self, num_frames: int) -> float:
        """Share of ``MAX_FRAMES`` that a line of so many takes up in a batch of lines no longer."""
        return max(self._width(num_frames), MAX_FRAMES / MAX_ITEMS)

    @abstractmethod
    def _samples_of(self, timed: Sequence[tuple[EncodedLine, ChosenFrames]]) -> list[Samples]: ...

    @torch.inference_mode()
    def durations(self, lines: Sequence[EncodedLine]) -> list[Frames | ItemFailure]:
        """The model's own duration of each token: float32 (num_tokens,) for each line, in whole frames.

        A line too long for the device's memory gives an ItemFailure, here and in ``speak``. Durations are
        rounded up, as VITS does in synthesis: its natural pace is a quarter slower than unrounded.
        """
        costs = [self._token_cost(len(line.tokens)) for line in lines]
        return self._encode_batches.run(lines, costs, self._durations_of)

    @torch.inference_mode()
    def speak(self, lines: Sequence[EncodedLine], frames: Sequence[ChosenFrames]) -> list[Samples | ItemFailure]:
        """``frames[i].sum() * hop`` samples for each line: float32, mono."""
        costs = [self._frame_cost(int(chosen.sum())) for chosen in frames]
        return self._decode_batches.run(list(zip(lines, frames, strict=True)), costs, self._samples_of)

    def warm_up(self) -> None:
        """Run the shapes that compile differently: one item, several, and more than one length."""
        for num_items in (1, 2, MAX_ITEMS) if self.device.type == "cuda" else (1, 2):
            for num_tokens in (16, 96):
                line = EncodedLine(tokens=np.ones(num_tokens, np.int64), speaker=0, language=0, seed=0)
                self.durations([line] * num_items)
                self.speak([line] * num_items, [np.full(num_tokens, 2, np.int64)] * num_items)

    def _durations_of(self, lines: Sequence[EncodedLine]) -> list[Frames]:
        rows = self._prior(lines).durations.ceil().cpu().numpy()
        return [row[: len(line.tokens)].astype(np.float32) for line, row in zip(lines, rows, strict=True)]

    def _prior(self, lines: Sequence[EncodedLine]) -> Prior:
        num_tokens = [len(line.tokens) for line in lines]
        tokens = np.zeros((len(lines), max(num_tokens)), np.int64)
        for row, line in enumerate(lines):
            tokens[row, : len(line.tokens)] = line.tokens
        language = None
        if self._languages is not None:
            language = self._languages[[line.language for line in lines]].unsqueeze(-1)
        on_device = torch.from_numpy(tokens).to(self.device)
        with full_float32():
            parts = self._encode(self._model, on_device, self._lengths(num_tokens), self._speaker_of(lines), language)
        return Prior(*parts)

    def _synthesise(self, prior: Prior, lines: Sequence[EncodedLine], frames: Sequence[ChosenFrames]) -> list[Samples]:
        """All the lines in one call of the decoder."""
        totals = [int(chosen.sum()) for chosen in frames]
        width = self._width(max(totals))
        # The token of each frame is known here, so expanding needs no path matrix.
        token_of_frame = np.zeros((len(lines), width), np.int64)
        for row, chosen in enumerate(frames):
            token_of_frame[row, : totals[row]] = np.repeat(np.arange(len(chosen)), chosen)
        num_channels = prior.mean.shape[1]
        picks = torch.from_numpy(token_of_frame).to(self.device)[:, None].expand(-1, num_channels, -1)
        audio = self._decode(
            self._model,
            prior.mean.gather(2, picks),
            prior.log_scale.gather(2, picks),
            self._noise(lines, totals, width, num_channels),
            self._lengths(totals),
            self._speaker_of(lines),
        )
        return [row[: total * self._hop] for row, total in zip(audio.cpu().numpy(), totals, strict=True)]

    def _noise(self, lines: Sequence[EncodedLine], totals: Sequence[int], width: int, num_channels: int) -> Tensor:
        """(B, C, width): noise drawn for each item at its own length, so that it is the same in any batch."""
        noise = torch.zeros(len(lines), num_channels, width, device=self.device)
        if self._noise_scale == 0:
            return noise
        for row, (line, total) in enumerate(zip(lines, totals, strict=True)):
            generator = torch.Generator(self.device).manual_seed(line.seed)
            noise[row, :, :total] = torch.randn(num_channels, total, generator=generator, device=self.device)
        return noise * self._noise_scale

    def _speaker_of(self, lines: Sequence[EncodedLine]) -> Tensor | None:
        if self._speakers is None:
            return None
        return self._speakers[[line.speaker for line in lines]].unsqueeze(-1)

    def _lengths(self, lengths: Sequence[int]) -> Tensor:
        return torch.tensor(lengths, device=self.device)


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is not below ``value``."""
    return -(-value // multiple) * multiple


def power_of_two_share(cost: float, maximum: float) -> float:
    """``cost``, raised so that a power of two of items fill ``maximum``; no less than the cost of ``MAX_ITEMS``."""
    number = max(1, min(MAX_ITEMS, int(maximum // cost)))
    return max(cost, maximum / (1 << (number.bit_length() - 1)))


def filled(items: Sequence[T]) -> list[T]:
    """The items, and copies of the last one up to a power of two in all."""
    number = 1 << (len(items) - 1).bit_length()
    return [*items, *[items[-1]] * (number - len(items))]


class BucketedNetwork(Network):
    """The network for a GPU: lines in groups, padded to common lengths and numbers.

    A group is filled up to a power of two with copies of its last line: cuDNN tunes, and a compiler compiles, for each
    shape, and there would be as many as there are numbers of lines.

    Each line is followed by at least the decoder's reach of silence, so that neither the padding nor
    the neighbours change it by more than rounding (1e-4 of full scale).
    """

    def __init__(self, model: Any, speakers: Tensor | None, **options: Any) -> None:
        super().__init__(model, speakers, **options)
        self._reach_frames = decoder_reach_frames(model.args)

    def _width(self, num_frames: int) -> int:
        return round_up(num_frames + self._reach_frames, BUCKET_FRAMES)

    def _token_cost(self, num_tokens: int) -> float:
        return power_of_two_share(super()._token_cost(num_tokens), MAX_TOKENS)

    def _frame_cost(self, num_frames: int) -> float:
        return power_of_two_share(super()._frame_cost(num_frames), MAX_FRAMES)

    def _durations_of(self, lines: Sequence[EncodedLine]) -> list[Frames]:
        return super()._durations_of(filled(lines))[: len(lines)]

    def _samples_of(self, timed: Sequence[tuple[EncodedLine, ChosenFrames]]) -> list[Samples]:
        whole = filled(timed)
        lines = [line for line, _ in whole]
        return self._synthesise(self._prior(lines), lines, [frames for _, frames in whole])[: len(timed)]


class SequentialNetwork(Network):
    """The network for a CPU: texts in batches, audio line by line at its own length, channels innermost.

    Batched decoding is 2–3 times slower there. The encodings of planned lines are cached for their
    synthesis, up to ``MAX_CACHED_TOKENS``: an eighth of the work.
    """

    def __init__(self, model: Any, speakers: Tensor | None, **options: Any) -> None:
        super().__init__(model, speakers, **options)
        channels_last(self._model.waveform_decoder)
        self._cached: OrderedDict[tuple[bytes, int, int], Prior] = OrderedDict()
        self._cached_tokens = 0

    def _width(self, num_frames: int) -> int:
        return num_frames

    def _samples_of(self, timed: Sequence[tuple[EncodedLine, ChosenFrames]]) -> list[Samples]:
        new = [line for line, _ in timed if self._key(line) not in self._cached]
        made = dict(zip(map(self._key, new), self._priors(new), strict=True)) if new else {}
        samples = []
        for line, frames in timed:
            key = self._key(line)
            samples += self._synthesise(made[key] if key in made else self._cached[key], [line], [frames])
        return samples

    def _durations_of(self, lines: Sequence[EncodedLine]) -> list[Frames]:
        priors = self._priors(lines)
        for line, prior in zip(lines, priors, strict=True):
            self._cache(self._key(line), prior)
        return [prior.durations[0].ceil().numpy().astype(np.float32) for prior in priors]

    def _priors(self, lines: Sequence[EncodedLine]) -> list[Prior]:
        """One prior for each line, B = 1, without padding."""
        together = self._prior(lines)
        return [
            Prior(*(part[row : row + 1, ..., : len(line.tokens)].clone() for part in together))
            for row, line in enumerate(lines)
        ]

    def _cache(self, key: tuple[bytes, int, int], prior: Prior) -> None:
        if key in self._cached:
            return
        self._cached[key] = prior
        self._cached_tokens += prior.durations.shape[1]
        while self._cached_tokens > MAX_CACHED_TOKENS:
            _, oldest = self._cached.popitem(last=False)
            self._cached_tokens -= oldest.durations.shape[1]

    def _key(self, line: EncodedLine) -> tuple[bytes, int, int]:
        return line.tokens.tobytes(), line.speaker, line.language


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Let convolutions inside compute in float32 proper.

    On a GPU, cuDNN's default is TF32 with 10 bits, whose rounding depends on the kernel and so on the batch's shape. A
    duration is rounded up to whole frames: the plan of a line could then depend on its batch.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # a module replaced at run time
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def encode(
    model: Any, tokens: Tensor, lengths: Tensor, speaker: Tensor | None, language: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Text encoder and duration predictor: a ``Prior``'s parts.

    tokens: int64 (B, T), 0 beyond ``lengths`` (B,); speaker (B, D, 1); language (B, D, 1).
    """
    hidden, mean, log_scale, mask = model.text_encoder(tokens, lengths, lang_emb=language)
    predictor = model.duration_predictor
    by_speaker = speaker if model.args.condition_dp_on_speaker else None
    if model.args.use_sdp:
        log_durations = stochastic_log_durations(predictor, hidden, mask, by_speaker, language)
    else:
        log_durations = predictor(hidden, mask, g=by_speaker, lang_emb=language)
    durations = torch.exp(log_durations) * mask * model.args.length_scale
    return mean, log_scale, durations[:, 0]


def decode(
    model: Any, mean: Tensor, log_scale: Tensor, noise: Tensor, lengths: Tensor, speaker: Tensor | None
) -> Tensor:
    """Flow and waveform decoder: float32 (B, S).

    mean, log_scale and noise: (B, C, F); lengths: (B,) in frames; speaker: (B, D, 1).
    """
    mask = (torch.arange(mean.shape[2], device=mean.device) < lengths[:, None]).to(mean.dtype)[:, None]
    latent = (mean + noise * torch.exp(log_scale)) * mask
    latent = reverse_flow(model.flow, latent, mask, speaker) * mask
    dtype = next(model.waveform_decoder.parameters()).dtype
    return waveform(model.waveform_decoder, latent.to(dtype), None if speaker is None else speaker.to(dtype)).float()


def _stripped(model: Any) -> Any:
    """The model without its training-only parts, and with weights normalised once instead of on every call."""
    for part in ("posterior_encoder", "disc", "speaker_encoder"):
        if hasattr(model, part):
            delattr(model, part)
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)
    return model
