"""VITS in two steps that batch: durations from tokens, and samples from tokens and chosen durations.

The modules and weights are Coqui's, the way through them is not: theirs draws noise for the whole
batch at once, reads tensors back from the GPU in the middle (masked assignment, assertions on
values), which also breaks ``torch.compile``, and ignores chosen durations in batches. Needs torch:
imported by ``coqui.Engine.load`` alone.

shapes: B items · T tokens · F frames · C hidden channels · D conditioning channels · S samples = F · hop
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import parametrize

from actors.device import HalvingBatch
from actors.speech._base import ChosenFrames, Frames, Tokens
from actors.speech._batched import round_up
from actors.speech._waveform import channels_last, decoder_reach_frames, waveform
from actors.types import ItemFailure, Samples

BUCKET_FRAMES = 64
"""On a GPU every length is rounded up to a multiple, so that few shapes are compiled or tuned for."""
MAX_ITEMS = 32
MAX_FRAMES = 16_384
"""Of one call of the decoder, padding included: 190 s at 22 kHz."""
MAX_TOKENS = 16_384
"""Of one call of the encoder, padding included."""
MAX_KEPT_TOKENS = 16_384
"""Of the lines that were planned and may be spoken next; 25 MB in all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """What is said in one go, and by whom."""

    tokens: Tokens
    speaker: int
    """Row of the speaker table; 0 where there is none."""
    language: int
    """Row of the language table; 0 where there is none."""
    seed: int
    """Of the noise that gives timbre its variety."""


class Prior(NamedTuple):
    """What the text says about the latent audio, by token."""

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
        """``speakers``: (num_speakers, D), already normalised as the model wants them."""
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

    @abstractmethod
    def _samples_of(self, timed: Sequence[tuple[Line, ChosenFrames]]) -> list[Samples]: ...

    @torch.inference_mode()
    def durations(self, lines: Sequence[Line]) -> list[Frames | ItemFailure]:
        """The model's own duration of each token: float32 (num_tokens,) for each line, in whole frames.

        An ItemFailure stands for a line too long for the device's memory, here and in ``speak``. Rounded
        up, as VITS does when it speaks: that is its natural pace, a quarter slower than unrounded.
        """
        costs = [max(len(line.tokens), MAX_TOKENS / MAX_ITEMS) for line in lines]
        return self._encode_batches.run(lines, costs, self._durations_of)

    @torch.inference_mode()
    def speak(self, lines: Sequence[Line], frames: Sequence[ChosenFrames]) -> list[Samples | ItemFailure]:
        """``frames[i].sum() * hop`` samples for each line: float32, mono."""
        costs = [max(self._width(int(chosen.sum())), MAX_FRAMES / MAX_ITEMS) for chosen in frames]
        return self._decode_batches.run(list(zip(lines, frames, strict=True)), costs, self._samples_of)

    def warm_up(self) -> None:
        """Run the shapes that compile differently: one item, several, and more than one length."""
        for num_items in (1, 2, MAX_ITEMS) if self.device.type == "cuda" else (1, 2):
            for num_tokens in (16, 96):
                line = Line(tokens=np.ones(num_tokens, np.int64), speaker=0, language=0, seed=0)
                self.durations([line] * num_items)
                self.speak([line] * num_items, [np.full(num_tokens, 2, np.int64)] * num_items)

    def _durations_of(self, lines: Sequence[Line]) -> list[Frames]:
        rows = self._prior(lines).durations.ceil().cpu().numpy()
        return [row[: len(line.tokens)].astype(np.float32) for line, row in zip(lines, rows, strict=True)]

    def _prior(self, lines: Sequence[Line]) -> Prior:
        num_tokens = [len(line.tokens) for line in lines]
        tokens = np.zeros((len(lines), max(num_tokens)), np.int64)
        for row, line in enumerate(lines):
            tokens[row, : len(line.tokens)] = line.tokens
        language = None
        if self._languages is not None:
            language = self._languages[[line.language for line in lines]].unsqueeze(-1)
        on_device = torch.from_numpy(tokens).to(self.device)
        parts = self._encode(self._model, on_device, self._lengths(num_tokens), self._speaker_of(lines), language)
        return Prior(*parts)

    def _vocalise(self, prior: Prior, lines: Sequence[Line], frames: Sequence[ChosenFrames]) -> list[Samples]:
        """All the lines in one call of the decoder."""
        totals = [int(chosen.sum()) for chosen in frames]
        width = self._width(max(totals))
        # Which token sounds in each frame is known here: expanding by it needs no path matrix.
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

    def _noise(self, lines: Sequence[Line], totals: Sequence[int], width: int, num_channels: int) -> Tensor:
        """(B, C, width): each item's own noise at its own length, so that it is the same in any batch."""
        noise = torch.zeros(len(lines), num_channels, width, device=self.device)
        if self._noise_scale == 0:
            return noise
        for row, (line, total) in enumerate(zip(lines, totals, strict=True)):
            generator = torch.Generator(self.device).manual_seed(line.seed)
            noise[row, :, :total] = torch.randn(num_channels, total, generator=generator, device=self.device)
        return noise * self._noise_scale

    def _speaker_of(self, lines: Sequence[Line]) -> Tensor | None:
        if self._speakers is None:
            return None
        return self._speakers[[line.speaker for line in lines]].unsqueeze(-1)

    def _lengths(self, lengths: Sequence[int]) -> Tensor:
        return torch.tensor(lengths, device=self.device)


class BucketedNetwork(Network):
    """As a GPU wants it: groups of lines, padded to common lengths.

    Each line is followed by at least the decoder's reach of silence, so that neither the padding nor
    the neighbours change it by more than rounding (1e-4 of full scale).
    """

    def __init__(self, model: Any, speakers: Tensor | None, **options: Any) -> None:
        super().__init__(model, speakers, **options)
        self._reach_frames = decoder_reach_frames(model.args)

    def _width(self, num_frames: int) -> int:
        return round_up(num_frames + self._reach_frames, BUCKET_FRAMES)

    def _samples_of(self, timed: Sequence[tuple[Line, ChosenFrames]]) -> list[Samples]:
        lines = [line for line, _ in timed]
        return self._vocalise(self._prior(lines), lines, [frames for _, frames in timed])


class SequentialNetwork(Network):
    """As a CPU wants it: texts in batches, audio line by line at its own length, channels innermost.

    Batched decoding is 2–3 times slower there. What the encoder made of a line that was planned is
    kept for when it is spoken, up to ``MAX_KEPT_TOKENS``: an eighth of the work.
    """

    def __init__(self, model: Any, speakers: Tensor | None, **options: Any) -> None:
        super().__init__(model, speakers, **options)
        channels_last(self._model.waveform_decoder)
        self._kept: OrderedDict[tuple[bytes, int, int], Prior] = OrderedDict()
        self._kept_tokens = 0

    def _width(self, num_frames: int) -> int:
        return num_frames

    def _samples_of(self, timed: Sequence[tuple[Line, ChosenFrames]]) -> list[Samples]:
        new = [line for line, _ in timed if self._key(line) not in self._kept]
        made = dict(zip(map(self._key, new), self._priors(new), strict=True)) if new else {}
        samples = []
        for line, frames in timed:
            key = self._key(line)
            samples += self._vocalise(made[key] if key in made else self._kept[key], [line], [frames])
        return samples

    def _durations_of(self, lines: Sequence[Line]) -> list[Frames]:
        priors = self._priors(lines)
        for line, prior in zip(lines, priors, strict=True):
            self._keep(self._key(line), prior)
        return [prior.durations[0].ceil().numpy().astype(np.float32) for prior in priors]

    def _priors(self, lines: Sequence[Line]) -> list[Prior]:
        """One for each line, B = 1, without padding."""
        together = self._prior(lines)
        return [
            Prior(*(part[row : row + 1, ..., : len(line.tokens)].clone() for part in together))
            for row, line in enumerate(lines)
        ]

    def _keep(self, key: tuple[bytes, int, int], prior: Prior) -> None:
        if key in self._kept:
            return
        self._kept[key] = prior
        self._kept_tokens += prior.durations.shape[1]
        while self._kept_tokens > MAX_KEPT_TOKENS:
            _, oldest = self._kept.popitem(last=False)
            self._kept_tokens -= oldest.durations.shape[1]

    def _key(self, line: Line) -> tuple[bytes, int, int]:
        return line.tokens.tobytes(), line.speaker, line.language


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
        log_durations = _stochastic_log_durations(predictor, hidden, mask, by_speaker, language)
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
    latent = _reverse_flow(model.flow, latent, mask, speaker) * mask
    dtype = next(model.waveform_decoder.parameters()).dtype
    return waveform(model.waveform_decoder, latent.to(dtype), None if speaker is None else speaker.to(dtype)).float()


def _stripped(model: Any) -> Any:
    """Without what only training needs, and with weights that aren't normalised anew on every call."""
    for part in ("posterior_encoder", "disc", "speaker_encoder"):
        if hasattr(model, part):
            delattr(model, part)
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)
    return model


def _stochastic_log_durations(
    predictor: Any, hidden: Tensor, mask: Tensor, speaker: Tensor | None, language: Tensor | None
) -> Tensor:
    """(B, 1, T), at no noise: the middle of what the predictor holds likely (Coqui's default draws at random).

    ``StochasticDurationPredictor.forward(reverse=True, noise_scale=0)`` without its detours.
    """
    condition = predictor.pre(hidden)
    if speaker is not None:
        condition = condition + predictor.cond(speaker)
    if language is not None:
        condition = condition + predictor.cond_lang(language)
    condition = predictor.proj(predictor.convs(condition, mask)) * mask
    affine, _, *splines = predictor.flows  # the second flow is trained, but unused (VITS, models.py: "useless vflow")
    durations = torch.zeros_like(hidden[:, :2])
    for spline in reversed(splines):
        durations = _reverse_spline_flow(spline, durations.flip(1), mask, condition)
    log_durations: Tensor = affine(durations.flip(1), mask, reverse=True)[:, :1]
    return log_durations


def _reverse_spline_flow(flow: Any, inputs: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
    """``ConvFlow.forward(reverse=True)``. inputs: (B, 2, T); condition: (B, hidden, T)."""
    kept, changed = inputs.chunk(2, dim=1)
    shape = flow.proj(flow.convs(flow.pre(kept), mask, g=condition)) * mask
    shape = shape.unflatten(1, (1, -1)).transpose(2, 3)
    num_bins, scale = flow.num_bins, math.sqrt(flow.hidden_channels)
    changed = inverse_spline(
        changed,
        widths=shape[..., :num_bins] / scale,
        heights=shape[..., num_bins : 2 * num_bins] / scale,
        slopes=shape[..., 2 * num_bins :],
        bound=flow.tail_bound,
    )
    return torch.cat([kept, changed], 1) * mask


def inverse_spline(values: Tensor, *, widths: Tensor, heights: Tensor, slopes: Tensor, bound: float) -> Tensor:
    """Monotone rational-quadratic spline on [−bound, bound], identity beyond, inverted.

    Neural Spline Flows (https://arxiv.org/abs/1906.04032), equations 6–8; least bin size and slope as in
    nflows. Values outside are computed like the others and then dropped: selecting them first would
    make the shapes depend on the values. values: (...); widths and heights, unnormalised: (..., bins);
    slopes, unnormalised, at the inner knots: (..., bins − 1).
    """
    least = 1e-3
    edge_slope = math.log(math.exp(1 - least) - 1)  # so that softplus gives slope 1, the tails'
    knots_x, knots_y = _knots(widths, least, bound), _knots(heights, least, bound)
    slopes = least + functional.softplus(functional.pad(slopes, (1, 1), value=edge_slope))
    inside = (values >= -bound) & (values <= bound)
    clamped = values.clamp(-bound, bound)
    num_bins = widths.shape[-1]
    index = ((clamped[..., None] >= knots_y[..., :-1]).sum(-1, keepdim=True) - 1).clamp(0, num_bins - 1)

    def at(table: Tensor) -> Tensor:
        return table.gather(-1, index)[..., 0]

    width, height = knots_x.diff(dim=-1), knots_y.diff(dim=-1)
    left, bin_width, bottom, bin_height = at(knots_x), at(width), at(knots_y), at(height)
    slope, slope_before, slope_after = at(height / width), at(slopes), at(slopes[..., 1:])
    rise, bend = clamped - bottom, slope_before + slope_after - 2 * slope
    a = rise * bend + bin_height * (slope - slope_before)
    b = bin_height * slope_before - rise * bend
    c = -slope * rise
    root = 2 * c / (-b - torch.sqrt((b * b - 4 * a * c).clamp_min(0)))
    return torch.where(inside, root * bin_width + left, values)


def _knots(unnormalised: Tensor, least: float, bound: float) -> Tensor:
    """(..., bins + 1), from −bound to bound exactly."""
    num_bins = unnormalised.shape[-1]
    sizes = least + (1 - least * num_bins) * functional.softmax(unnormalised, dim=-1)
    inner = 2 * bound * sizes.cumsum(-1)[..., :-1] - bound
    return functional.pad(functional.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


def _reverse_flow(flow: Any, latent: Tensor, mask: Tensor, speaker: Tensor | None) -> Tensor:
    """``ResidualCouplingBlocks.forward(reverse=True)``; its couplings are mean-only. latent: (B, C, F)."""
    for block in reversed(flow.flows):
        kept, changed = latent.flip(1).chunk(2, dim=1)
        hidden = _wavenet(block.enc, block.pre(kept) * mask, mask, speaker)
        latent = torch.cat([kept, (changed - block.post(hidden)) * mask], 1)
    return latent


def _wavenet(network: Any, inputs: Tensor, mask: Tensor, speaker: Tensor | None) -> Tensor:
    """``WN.forward``, halved by ``chunk``: slicing by a channel count kept in a tensor breaks the graph."""
    condition = None if speaker is None else network.cond_layer(speaker).chunk(len(network.in_layers), dim=1)
    output = torch.zeros_like(inputs)
    layers = list(zip(network.in_layers, network.res_skip_layers, strict=True))
    for index, (layer, residual_and_skip) in enumerate(layers):
        gates = layer(inputs)
        if condition is not None:
            gates = gates + condition[index]
        signal, gate = gates.chunk(2, dim=1)
        result = residual_and_skip(torch.tanh(signal) * torch.sigmoid(gate))
        if index < len(layers) - 1:
            residual, result = result.chunk(2, dim=1)
            inputs = (inputs + residual) * mask
        output = output + result
    return output * mask
