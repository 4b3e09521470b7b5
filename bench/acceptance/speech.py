"""Checks 5 and 6: VITS, and the shapes of LaBSE and XTTS."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from acceptance import stubs
from acceptance.report import Bench, Findings, fastest_s, memory_bytes, timed
from acceptance.shapes import make_vits

FRAMES_PER_TOKEN = 6
HZ = 22_050
HOP = 256
MAX_HALF_ERROR = 0.02
"""Share of full scale: −34 dB, below what the mix leaves audible under speech."""


def vits(bench: Bench, found: Findings) -> None:
    """Speech for each second of work, by batch; first calls against later ones; plans alone and in a batch."""
    stubs.install()
    import torch

    from actors.speech._coqui import vits as network_module

    def make(dtype: torch.dtype) -> network_module.Network:
        model = make_vits(bench.sizes.vits)
        options = {"device": torch.device(bench.device), "noise_scale": 0.667, "compiled": False}
        return network_module.BucketedNetwork(model, None, decoder_dtype=dtype, **options)

    half = make(torch.float16 if bench.device == "cuda" else torch.float32)
    lines = [_line(number, bench.sizes.num_tokens) for number in range(max(bench.sizes.speech_items))]
    for num_items in bench.sizes.speech_items:
        _measure(half, lines[:num_items], bench, found)
    _compare_durations(half, lines, found, "ieee", wanted_equal=True)
    full_float32, network_module.full_float32 = network_module.full_float32, contextlib.nullcontext
    try:
        _compare_durations(half, lines, found, "tf32", wanted_equal=False)
    finally:
        network_module.full_float32 = full_float32
    frames = [_frames(bench.sizes.num_tokens)]
    [fast], [exact] = half.speak(lines[:1], frames), make(torch.float32).speak(lines[:1], frames)
    error = float(np.abs(np.asarray(fast) - np.asarray(exact)).max())
    found.expect("half_precision_error", error, error <= MAX_HALF_ERROR, f"at most {MAX_HALF_ERROR}")
    found.note("memory_bytes", memory_bytes(bench))
    found.note("stubbed", stubs.stubbed())


def _measure(network, lines: Sequence, bench: Bench, found: Findings) -> None:  # type: ignore[no-untyped-def, type-arg]
    frames = [_frames(bench.sizes.num_tokens)] * len(lines)
    spoken_s = len(lines) * int(frames[0].sum()) * HOP / HZ
    _, first_s = timed(lambda: network.speak(lines, frames))
    later_s = fastest_s(lambda: network.speak(lines, frames), bench.sizes.num_runs)
    found.note(f"first_s_{len(lines)}", first_s)
    found.note(f"later_s_{len(lines)}", later_s)
    found.note(f"times_realtime_{len(lines)}", spoken_s / later_s)


def _compare_durations(network, lines: Sequence, found: Findings, name: str, *, wanted_equal: bool) -> None:  # type: ignore[no-untyped-def, type-arg]
    """Plans of lines alone against those in one batch, of which a longer line makes the padding."""
    longer = _line(0, 2 * len(lines[0].tokens))
    together = network.durations([*lines, longer])
    alone = [network.durations([line])[0] for line in lines]
    differ = sum(not np.array_equal(a, b) for a, b in zip(alone, together, strict=False))
    found.expect(f"durations_that_differ_{name}", differ, not (wanted_equal and differ), "0")


def _line(number: int, num_tokens: int):  # type: ignore[no-untyped-def]
    from actors.speech._coqui.vits import EncodedLine

    tokens = np.random.default_rng(number).integers(1, 20, num_tokens)
    return EncodedLine(tokens=tokens.astype(np.int64), speaker=0, language=0, seed=number)


def _frames(num_tokens: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.full(num_tokens, FRAMES_PER_TOKEN, np.int64)


def embedding_and_codes(bench: Bench, found: Findings) -> None:
    """Sentences a second of LaBSE's shape; codes a second of XTTS's, alone and eight at a time."""
    import torch
    from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

    device, sizes = torch.device(bench.device), bench.sizes
    dtype = torch.bfloat16 if bench.device == "cuda" else torch.float32
    width = 4 * sizes.embedder["hidden_size"]
    bert = BertModel(BertConfig(**sizes.embedder, intermediate_size=width)).to(device, dtype).eval()
    tokens = torch.randint(1, 90, (64, 32), device=device)
    num_batches = max(1, sizes.num_sentences // len(tokens))

    def embed() -> None:
        with torch.inference_mode():
            for _ in range(num_batches):
                bert(tokens).last_hidden_state[:, 0].float().cpu()

    found.note("sentences_per_s", num_batches * len(tokens) / fastest_s(embed, sizes.num_runs))
    gpt = GPT2LMHeadModel(GPT2Config(**sizes.codes)).to(device, dtype).eval()
    for num_items in (1, 8):
        start = torch.ones((num_items, 16), dtype=torch.long, device=device)
        options = {"max_new_tokens": sizes.num_codes, "min_new_tokens": sizes.num_codes, "pad_token_id": 0}

        def speak(start: torch.Tensor = start, options: dict[str, int] = options) -> object:
            return gpt.generate(start, attention_mask=torch.ones_like(start), do_sample=False, **options)

        found.note(f"codes_per_s_{num_items}", num_items * sizes.num_codes / fastest_s(speak, sizes.num_runs))
