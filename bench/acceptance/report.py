"""Runs checks, times them, and keeps what they found in a JSON file that is complete after each check."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from acceptance.shapes import Sizes
from actors.device import Device, GpuMeter

T = TypeVar("T")

Status = Literal["ok", "unmet", "failed", "skipped"]


class SkippedError(Exception):
    """A check that cannot run here; its message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The device and the sizes of the models that all checks run with."""

    device: Device
    sizes: Sizes
    folder: Path
    """Scratch folder for models; checks share what lies there."""

    @property
    def num_gpus(self) -> float:
        return 1.0 if self.device == "cuda" else 0.0

    def require_cuda(self) -> None:
        """Raise SkippedError on a CPU."""
        if self.device != "cuda":
            raise SkippedError("it needs a GPU")


@dataclass(slots=True)
class Findings:
    """Figures of one check, and the expectations that they met or did not."""

    figures: dict[str, Any] = field(default_factory=dict)
    unmet: list[str] = field(default_factory=list)

    def note(self, name: str, value: Any) -> None:
        self.figures[name] = round(value, 4) if isinstance(value, float) else value

    def expect(self, name: str, value: Any, holds: bool, wanted: str) -> None:
        self.note(name, value)
        if not holds:
            self.unmet.append(f"{name} must be {wanted}; found {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    number: int
    name: str
    run: Callable[[Bench, Findings], None]


def run_checks(checks: Sequence[Check], bench: Bench, report: dict[str, Any], out: Path, budget_s: float) -> bool:
    """True if no check failed. A check that begins after ``budget_s`` is skipped."""
    start_s = time.monotonic()
    report["checks"] = []
    for check in checks:
        if time.monotonic() - start_s > budget_s:
            found: dict[str, Any] = {"status": "skipped", "reason": f"the {budget_s:g} s were over"}
        else:
            found = _run(check, bench)
        report["checks"].append({"number": check.number, "name": check.name, **found})
        report["wall_s"] = round(time.monotonic() - start_s, 1)
        out.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
        print(f"{check.number:2} {check.name}: {found['status']} {json.dumps(found, default=str)}", flush=True)
    return all(each["status"] in ("ok", "skipped") for each in report["checks"])


def _run(check: Check, bench: Bench) -> dict[str, Any]:
    findings = Findings()
    start_s = time.monotonic()
    status: Status = "ok"
    more: dict[str, Any] = {}
    try:
        check.run(bench, findings)
    except SkippedError as skipped:
        status, more = "skipped", {"reason": str(skipped)}
    except Exception as error:  # the next check may still tell something
        lines = traceback.format_exception(error)
        status, more = "failed", {"error": f"{type(error).__name__}: {error}", "traceback": "".join(lines)[-3000:]}
    if status == "ok" and findings.unmet:
        status = "unmet"
    wall_s = round(time.monotonic() - start_s, 2)
    return {"status": status, "wall_s": wall_s, **more, "unmet": findings.unmet, "figures": findings.figures}


def fastest_s(call: Callable[[], object], num_runs: int) -> float:
    """Seconds of the fastest of ``num_runs`` calls, after one that is not counted."""
    call()
    times_s = []
    for _ in range(num_runs):
        start_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start_s)
    return min(times_s)


def timed(call: Callable[[], T]) -> tuple[T, float]:
    start_s = time.perf_counter()
    return call(), time.perf_counter() - start_s


def memory_bytes(bench: Bench) -> int:
    """Memory in use: of the whole GPU, or on a CPU of this process."""
    if bench.device == "cuda":
        use = GpuMeter().read()
        if use is not None:
            return use.used_bytes
    import psutil

    return int(psutil.Process().memory_info().rss)
