"""Checks 7, 8 and 10: memory that runs out, a broken context, and memory over many batches."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from acceptance.report import Bench, Findings, memory_bytes
from acceptance.translation import greedy, load_translator, window
from actors.device import DeviceFault, HalvingBatch, device_fault
from actors.device.memory import FIRST_PATIENCE_BATCHES
from actors.translation._seq2seq.units import UnitWindow

NUM_ITEMS = 128
NUM_LONG_TOKENS = 200
LEFT_BYTES = 300_000_000
"""Memory that a neighbour leaves free: enough for some items, too little for the batch."""
START_TIMEOUT_S = 60.0
NUM_BATCHES = 50
NUM_WARM_BATCHES = 10
MAX_GROWTH = 0.05

FILL = """
import sys, time, torch
free, total = torch.cuda.mem_get_info()
block = torch.empty(max(1, free - int(sys.argv[1])), dtype=torch.uint8, device="cuda")
print("full", flush=True)
sys.stdin.read()
"""
"""Takes all but so many bytes of the card until its input ends."""

BREAK = """
import json, sys, torch
from actors.device import device_fault
from actors.device.trial import LIBRARIES
found = {}
try:
    torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")].cpu()
except Exception as error:
    found["torch"] = {"message": str(error)[:500], "fault": device_fault(error)}
print(json.dumps(found), flush=True)
try:
    LIBRARIES["ctranslate2"]("cuda")
except Exception as error:
    found["ctranslate2"] = {"message": str(error)[:500], "fault": device_fault(error)}
print(json.dumps(found), flush=True)
"""
"""Breaks its context by an index out of bounds, then asks the other library in the same process."""


def exhaustion(bench: Bench, found: Findings) -> None:
    """A neighbour fills the card: each message must be recognised, batches halve, never to one item, and grow again."""
    engine = load_translator(bench, "nllb_ct2")
    messages: dict[str, str | None] = {}
    sizes: list[int] = []
    is_full = bench.device == "cpu"  # on a CPU the neighbour is played

    def call(items: list[UnitWindow]) -> Sequence[Any]:
        if bench.device == "cpu" and is_full and len(items) > NUM_ITEMS // 4:
            raise _recorded(RuntimeError("CUDA failed with error out of memory"), messages)
        try:
            outcomes = engine._decode(greedy(bench.sizes.num_target_tokens), items)
        except Exception as error:
            raise _recorded(error, messages) from None
        sizes.append(len(items))
        return outcomes

    length = NUM_LONG_TOKENS if bench.device == "cuda" else 4
    windows = [window(number, length) for number in range(NUM_ITEMS)]
    batches = HalvingBatch(float(NUM_ITEMS))
    costs = [1.0] * NUM_ITEMS
    with _neighbour(bench):
        outcomes = batches.run(windows, costs, call)
    found.expect("num_outcomes", len(outcomes), len(outcomes) == NUM_ITEMS, str(NUM_ITEMS))
    found.note("messages", messages)
    unknown = [message for message, fault in messages.items() if fault not in (DeviceFault.MEMORY, DeviceFault.STALE)]
    found.expect("unrecognised", unknown, not unknown, "none")
    found.expect(
        "sizes_while_full", sizes.copy(), bool(messages) and max(sizes) > 1, "smaller batches than 128, not all of one"
    )
    is_full = False
    few = windows[:2]
    for _ in range(4 * FIRST_PATIENCE_BATCHES):
        if batches.max_cost == NUM_ITEMS:
            break
        batches.run(few, costs[:2], call)
    sizes.clear()
    batches.run(windows, costs, call)
    found.expect("sizes_after", sizes, sizes == [NUM_ITEMS], f"one batch of {NUM_ITEMS}")
    engine.close()


def _recorded(error: Exception, messages: dict[str, str | None]) -> Exception:
    messages[f"{type(error).__name__}: {error}"[:300]] = device_fault(error)
    return error


class _neighbour:  # noqa: N801  # a context manager
    """A process that fills the card; nothing on a CPU."""

    def __init__(self, bench: Bench) -> None:
        self._is_needed = bench.device == "cuda"

    def __enter__(self) -> None:
        if self._is_needed:
            command = [sys.executable, "-c", FILL, str(LEFT_BYTES)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "full\n", "the neighbour must take the memory"

    def __exit__(self, *_: object) -> None:
        if self._is_needed:
            self._process.communicate(timeout=START_TIMEOUT_S)


def broken_context(bench: Bench, found: Findings) -> None:
    """An assertion on the device, in a process of its own: both libraries' errors must say that the device is lost."""
    bench.require_cuda()
    done = subprocess.run(
        [sys.executable, "-c", BREAK], capture_output=True, text=True, timeout=3 * START_TIMEOUT_S, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    told = json.loads(lines[-1]) if lines else {}
    found.note("told", told)
    found.note("exit_status", done.returncode)
    fault = told.get("torch", {}).get("fault")
    found.expect("torch_fault", fault, fault == DeviceFault.LOST, DeviceFault.LOST)
    # CTranslate2 may end the process instead of raising: then a replica is lost, as it should be.
    is_lost = done.returncode != 0 or told.get("ctranslate2", {}).get("fault") == DeviceFault.LOST
    found.expect("ctranslate2_is_lost", is_lost, is_lost, "True")


def growth(bench: Bench, found: Findings) -> None:
    """Fifty batches of random sizes: after the first ten, memory must hardly grow."""
    engine = load_translator(bench, "nllb_ct2")
    rng = np.random.default_rng(0)
    most_items, most_tokens = (96, 120) if bench.device == "cuda" else (4, 8)

    def run(num_batches: int) -> int:
        for _ in range(num_batches):
            num_items, num_tokens = int(rng.integers(1, most_items)), int(rng.integers(2, most_tokens))
            engine._decode(greedy(bench.sizes.num_target_tokens), [window(n, num_tokens) for n in range(num_items)])
        return memory_bytes(bench)

    # The largest batch comes first, as memory that is kept for it is no leak.
    engine._decode(greedy(bench.sizes.num_target_tokens), [window(n, most_tokens) for n in range(most_items)])
    before, start_s = run(NUM_WARM_BATCHES), time.monotonic()
    after = run(NUM_BATCHES - NUM_WARM_BATCHES)
    share = after / before - 1
    found.note("batches_s", time.monotonic() - start_s)
    found.expect("growth", share, share < MAX_GROWTH, f"below {MAX_GROWTH}")
    engine.close()
