"""HiFi-GAN's generator, the decoder of VITS, written for speed on the device it runs on. Needs torch.

The weights are those of Coqui's ``HifiganGenerator``; its ``forward`` allocates memory for every
operation and, on a CPU, meets the slow cases of one-dimensional convolution. The forward pass here
works in place, and ``channels_last`` turns its layers into two-dimensional ones of height 1, whose
kernels are up to 4 times faster with the channels innermost.

shapes: B items · C channels · F frames · S samples = F · hop
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAK = 0.1
"""Slope of all activations except the last, which has torch's default."""


def waveform(decoder: Any, latent: Tensor, speaker: Tensor | None) -> Tensor:
    """``HifiganGenerator.forward``. latent: (B, C, F); speaker: (B, D, 1). Returns (B, S)."""
    audio = decoder.conv_pre(_as_wanted(decoder, latent))
    if speaker is not None:
        audio = audio + decoder.cond_layer(_as_wanted(decoder, speaker))
    num_blocks = decoder.num_kernels
    for stage, upsample in enumerate(decoder.ups):
        audio = upsample(functional.leaky_relu_(audio, LEAK))
        active = functional.leaky_relu(audio, LEAK)  # every block begins with it
        total: Tensor | None = None
        for block in decoder.resblocks[stage * num_blocks : (stage + 1) * num_blocks]:
            one = _residual_block(block, audio, active)
            total = one if total is None else total.add_(one)
        assert total is not None
        audio = total.div_(num_blocks)
    return decoder.conv_post(functional.leaky_relu_(audio)).tanh_().flatten(1)  # type: ignore[no-any-return]


def channels_last(decoder: Any) -> None:
    """Make the decoder's layers two-dimensional, channels innermost, in place. ``waveform`` takes either kind."""
    for module in list(decoder.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.ConvTranspose1d):
                setattr(module, name, Upsample(layer))
            elif isinstance(layer, nn.Conv1d):
                setattr(module, name, _two_dimensional(layer))


class Upsample(nn.Module):
    """A transposed convolution as a plain one that makes all the samples between two inputs at once.

    Sample t·stride + j is the sum over i of input t−i times weight i·stride + j: for each j a
    convolution over the inputs. Their outputs, interleaved, are the result; with the channels
    innermost they already lie interleaved.
    """

    def __init__(self, layer: nn.ConvTranspose1d) -> None:
        super().__init__()
        assert isinstance(layer.padding, tuple)
        (self.stride,), (kernel,), (self.cropped,) = layer.stride, layer.kernel_size, layer.padding
        self.num_out, self.num_taps = layer.out_channels, -(-kernel // self.stride)
        self.excess = kernel - self.stride  # beyond stride samples for each input, before cropping
        weight = functional.pad(layer.weight.detach(), (0, self.num_taps * self.stride - kernel))
        taps = weight.reshape(*weight.shape[:2], self.num_taps, self.stride)
        phases = taps.flip(2).permute(3, 1, 0, 2)
        self.weight = nn.Parameter(_height_1(phases.flatten(0, 1)))
        assert layer.bias is not None
        self.bias = nn.Parameter(layer.bias.detach().repeat(self.stride))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, 1, W) → (B, C', 1, W · stride) for the kernels of HiFi-GAN."""
        made = functional.conv2d(inputs, self.weight, self.bias, padding=(0, self.num_taps - 1))
        num_samples = inputs.shape[3] * self.stride + self.excess - 2 * self.cropped
        interleaved = made.permute(0, 2, 3, 1).reshape(made.shape[0], 1, -1, self.num_out).permute(0, 3, 1, 2)
        return interleaved[..., self.cropped : self.cropped + num_samples]


def decoder_reach_frames(args: Any) -> int:
    """Half the decoder's receptive field: the frames on either side of a frame that its audio depends on.

    The sum over its layers of half a kernel times dilation, each at its layer's sample rate (HiFi-GAN,
    https://arxiv.org/abs/2010.05646, table 5). The longest residual block of each stage counts.
    """
    reach, rate = 3.0, 1  # the first convolution spans 7 frames
    for stride, kernel in zip(args.upsample_rates_decoder, args.upsample_kernel_sizes_decoder, strict=True):
        reach += kernel / stride / 2 / rate
        rate *= stride
        undilated = 1 if args.resblock_type_decoder == "1" else 0  # each followed by another convolution
        blocks = zip(args.resblock_kernel_sizes_decoder, args.resblock_dilation_sizes_decoder, strict=True)
        reach += max((size - 1) / 2 * sum(step + undilated for step in steps) for size, steps in blocks) / rate
    return math.ceil(reach + 3.0 / rate)


def _residual_block(block: Any, inputs: Tensor, active: Tensor) -> Tensor:
    """``ResBlock1`` or ``ResBlock2``. active: ``inputs`` after the activation; neither is written to."""
    firsts = block.convs1 if hasattr(block, "convs1") else block.convs
    seconds = block.convs2 if hasattr(block, "convs2") else [None] * len(firsts)
    output = inputs
    for index, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        change = first(active if index == 0 else functional.leaky_relu(output, LEAK))
        if second is not None:
            change = second(functional.leaky_relu_(change, LEAK))
        output = change.add_(output)
    return output


def _as_wanted(decoder: Any, inputs: Tensor) -> Tensor:
    return _height_1(inputs) if isinstance(decoder.conv_pre, nn.Conv2d) else inputs


def _two_dimensional(layer: nn.Conv1d) -> nn.Conv2d:
    (kernel,), (dilation,) = layer.kernel_size, layer.dilation
    assert isinstance(layer.padding, tuple)
    flat = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (1, kernel),
        padding=(0, layer.padding[0]),
        dilation=(1, dilation),
        bias=layer.bias is not None,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
    )
    flat.weight = nn.Parameter(_height_1(layer.weight.detach()))
    if layer.bias is not None:
        flat.bias = layer.bias
    return flat


def _height_1(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(2).contiguous(memory_format=torch.channels_last)
