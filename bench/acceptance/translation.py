"""Checks 1 to 3: the environment, and NLLB on CTranslate2 and on transformers."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle, islice
from typing import Any

from acceptance.report import Bench, Findings, fastest_s, memory_bytes
from acceptance.shapes import converted, make_translator
from actors.device import GpuMeter, installed_driver, resolve_device
from actors.device.trial import LIBRARIES, try_library
from actors.engine import make_engine
from actors.host import EngineHost
from actors.translation._nllb.base import NllbEngine
from actors.translation._nllb.flores import CODES
from actors.translation._seq2seq.hypotheses import Decoding
from actors.translation._seq2seq.units import UnitWindow, max_target_tokens
from actors.types import TranslateRequest, Translation

PACKAGES = (
    "ctranslate2",
    "torch",
    "transformers",
    "sentence-transformers",
    "ray",
    "faster-whisper",
    "coqui-tts",
    "numpy",
)
NUM_SOURCE_TOKENS = 24
MIXED_TOKENS = (6, 12, 20, 28, 40, 60)
"""Lengths of sentences in a batch as a talk gives them."""
SENTENCES = (
    "hello world",
    "we kept the windows closed",
    "good morning and hello",
    "bread under light",
    "one two three",
)
"""In words that the copying model knows."""


def environment(bench: Bench, found: Findings) -> None:
    """Versions, driver, one product of matrices a library, and the device that ``auto`` takes."""
    found.note("python", platform.python_version())
    found.note("versions", {name: _version(name) for name in PACKAGES})
    driver = installed_driver()
    found.note("driver", None if driver is None else str(driver))
    found.note("gpu", str(GpuMeter().read()))
    for library in LIBRARIES:
        error = try_library(library, bench.device)
        found.expect(f"product_{library}", error, error is None, "computed")
    for num_gpus, wanted in ((0.0, "cpu"), (0.5, "cuda")):
        device = resolve_device("auto", num_gpus)
        found.expect(f"auto_{num_gpus:g}", device, device == wanted, wanted)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def ctranslate2_speed(bench: Bench, found: Findings) -> None:
    """Tokens a second of NLLB's shape: greedy in batches of 32 and 128, a beam of 4, one batch against split ones."""
    engine = load_translator(bench, "nllb_ct2")
    num_runs = bench.sizes.num_runs
    for name, num_items, beam_size in (("greedy_32", 32, 1), ("greedy_128", 128, 1), ("beam4_32", 32, 4)):
        found.note(f"{name}_tokens_per_s", speed(engine, bench, num_items, beam_size))
    lengths = list(islice(cycle(MIXED_TOKENS), 48 if bench.device == "cuda" else 6))
    windows = [window(number, length) for number, length in enumerate(lengths)]
    groups: dict[int, list[UnitWindow]] = {}
    for each, length in zip(windows, lengths, strict=True):
        groups.setdefault(min(max_target_tokens(length), 64), []).append(each)
    largest = max(groups)
    split_s = fastest_s(lambda: [engine._decode(greedy(limit), group) for limit, group in groups.items()], num_runs)
    merged_s = fastest_s(lambda: engine._decode(greedy(largest), windows), num_runs)
    found.note("split_s", split_s)
    found.note("merged_s", merged_s)
    found.note("split_over_merged", split_s / merged_s)
    found.note("memory_bytes", memory_bytes(bench))
    engine.close()


def transformers_speed(bench: Bench, found: Findings) -> None:
    """The same on transformers; then both engines on a small model that copies: their texts must be equal."""
    engine = load_translator(bench, "nllb")
    for num_items in (32, 128):
        found.note(f"greedy_{num_items}_tokens_per_s", speed(engine, bench, num_items, 1))
    engine.close()
    from tests import tiny

    folder = tiny.nllb(bench.folder / "nllb-copying", "copying")
    texts = {
        "nllb": translate(bench, "nllb", {"model": str(folder)}),
        "nllb_ct2": translate(
            bench, "nllb_ct2", {"model": str(converted(folder, "float32")), "compute_type": "float32"}
        ),
    }
    for name, said in texts.items():
        found.expect(f"texts_{name}", said, said == list(SENTENCES), "the sentences")


def translate(bench: Bench, engine: str, options: dict[str, Any]) -> list[str]:
    host = EngineHost("translation", engine, options, num_gpus=bench.num_gpus)
    host.load()
    requests = [TranslateRequest(text=text, source_language="en", target_language="pt") for text in SENTENCES]
    results = host.run(requests).results
    host.close()
    return [each.candidates[0].text if isinstance(each, Translation) else each.error.message for each in results]


def load_translator(bench: Bench, engine: str) -> NllbEngine:
    """NLLB's shape, loaded on the bench's device."""
    folder = make_translator(bench.folder / "nllb", bench.sizes.translator)
    if engine == "nllb_ct2":
        folder = converted(folder, "float16" if bench.device == "cuda" else "int8")
    loaded = make_engine("translation", engine, {"model": str(folder), "threads": 1})
    assert isinstance(loaded, NllbEngine)
    loaded.num_gpus = bench.num_gpus
    loaded.load()
    return loaded


def speed(engine: NllbEngine, bench: Bench, num_items: int, beam_size: int) -> float:
    """Target tokens a second, of the fastest run."""
    limit = bench.sizes.num_target_tokens
    decoding = Decoding(beam_size=beam_size, num_hypotheses=1, max_tokens=limit)
    batch = [window(number) for number in range(num_items)]
    num_predicted = sum(best.num_predicted for best, *_ in engine._decode(decoding, batch))
    return num_predicted / fastest_s(lambda: engine._decode(decoding, batch), bench.sizes.num_runs)


def greedy(max_tokens: int) -> Decoding:
    return Decoding(beam_size=1, num_hypotheses=1, max_tokens=max_tokens)


def window(number: int, num_tokens: int = NUM_SOURCE_TOKENS) -> UnitWindow:
    """A sentence of tokens that every NLLB vocabulary has."""
    return UnitWindow(
        text="",
        tokens=tuple(islice(cycle(CODES), number, number + num_tokens)),
        words=tuple(range(num_tokens)),
        source="eng_Latn",
        target="por_Latn",
        num_candidates=1,
        terms=(),
    )
