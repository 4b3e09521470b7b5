"""Check 4: whisper's shape, and what it costs the CPU before the GPU can begin."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from acceptance import stubs
from acceptance.report import Bench, Findings, fastest_s, memory_bytes, timed
from acceptance.shapes import NUM_LANGUAGES, NUM_TEXT_TOKENS, make_whisper
from actors.device import compute_type, ctranslate2_device
from actors.types import ASR_HZ, Samples

WINDOW_S = 30
NUM_FRAMES = 3000
START = NUM_TEXT_TOKENS + 1
TRANSCRIBE = START + NUM_LANGUAGES + 2
NUM_ALIGNED_TOKENS = 40


def whisper(bench: Bench, found: Findings) -> None:
    """Windows a second of the encoder, the decoder with a beam of 5 and the alignment; preparation on the CPU."""
    import ctranslate2

    device = ctranslate2_device("auto", bench.num_gpus)
    kind = compute_type("auto", device, ctranslate2.get_supported_compute_types(device))
    size, num, num_runs = bench.sizes.whisper, bench.sizes.num_windows, bench.sizes.num_runs
    folder = make_whisper(bench.folder / "whisper", size, "float16" if device == "cuda" else "int8")
    model = ctranslate2.models.Whisper(str(folder), device=device, compute_type=kind)
    rng = np.random.default_rng(0)
    features = ctranslate2.StorageView.from_array(
        rng.standard_normal((num, size["mels"], NUM_FRAMES), dtype=np.float32)
    )
    encoded = model.encode(features, to_cpu=False)
    prompt = [[START, START + 1, TRANSCRIBE]] * num
    length = 64 if bench.device == "cuda" else 8

    def decode() -> Any:
        return model.generate(encoded, prompt, beam_size=5, max_length=length, return_scores=True)

    def align() -> Any:
        tokens = [list(range(100, 100 + (NUM_ALIGNED_TOKENS if bench.device == "cuda" else 4)))] * num
        return model.align(encoded, prompt[0], tokens, [NUM_FRAMES] * num)

    encode_s = fastest_s(lambda: model.encode(features, to_cpu=True), num_runs)
    _, first_align_s = timed(align)
    decode_s, align_s = fastest_s(decode, num_runs), fastest_s(align, num_runs)
    found.note("encode_s", encode_s)
    found.note(f"decode_s_{length}_tokens", decode_s)
    found.note("align_s", align_s)
    found.note("first_align_s", first_align_s)
    found.note("windows_per_s", num / (encode_s + decode_s + align_s))
    found.note("memory_bytes", memory_bytes(bench))
    _prepare(bench, found, rng.standard_normal(WINDOW_S * ASR_HZ).astype(np.float32) * np.float32(0.05))
    model.unload_model()


def _prepare(bench: Bench, found: Findings, samples: Samples) -> None:
    """Milliseconds of a core for one window: voice detection and mel spectrogram."""
    stubs.install()
    from faster_whisper.feature_extractor import FeatureExtractor
    from faster_whisper.vad import get_vad_model

    extract, detect = FeatureExtractor(feature_size=bench.sizes.whisper["mels"]), get_vad_model()
    num_runs = bench.sizes.num_runs
    found.note("mel_ms_per_window", 1000 * fastest_s(lambda: extract(samples), num_runs))
    found.note("vad_ms_per_window", 1000 * fastest_s(lambda: detect(np.resize(samples, 512 * 938).copy()), num_runs))
    found.note("stubbed", stubs.stubbed() if "av" in sys.modules else [])
