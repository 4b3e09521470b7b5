"""The normalising flows of VITS run backwards: from noise to durations, and from the prior to the latent sound.

shapes: B items · T tokens · F frames · C hidden channels
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def stochastic_log_durations(
    predictor: Any, hidden: Tensor, mask: Tensor, speaker: Tensor | None, language: Tensor | None
) -> Tensor:
    """(B, 1, T), without noise: the centre of the predicted distribution (Coqui's default draws at random).

    Equal to ``StochasticDurationPredictor.forward(reverse=True, noise_scale=0)``.
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
    nflows. Values outside are computed like the others and then replaced: selecting them first would
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


def reverse_flow(flow: Any, latent: Tensor, mask: Tensor, speaker: Tensor | None) -> Tensor:
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
