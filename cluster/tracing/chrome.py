"""Trace files in Chrome's format, which Perfetto shows: written, and read again to be analysed.

Each job and each pool is a process there, each lane one or more threads in which no two events overlap. Requests are
shown while they wait, batches while an engine works on them; arrows lead a line from step to step.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.errors import ConfigError, MediaError
from cluster.storage.files import replace_bytes
from cluster.tracing.flows import flows
from cluster.tracing.spans import TraceSpan, now_s

log = logging.getLogger(__name__)

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSetting:
    """The settings of a pool, by which its work can be replayed."""

    setting: str
    """Key of its settings."""
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """All that a trace file tells."""

    spans: tuple[TraceSpan, ...]
    pools: Mapping[str, PoolSetting]
    num_dropped: int = 0


@dataclass(slots=True, eq=False)
class TraceFile:
    """Keeps spans for a file. Raises ConfigError if the file's folder does not exist."""

    path: Path
    max_events: int
    started_s: float = field(default_factory=now_s)
    _spans: list[Callable[[], Iterable[TraceSpan]]] = field(default_factory=list)
    _pools: dict[str, PoolSetting] = field(default_factory=dict)
    _num_events: int = 0
    _num_dropped: int = 0

    def __post_init__(self) -> None:
        if not self.path.absolute().parent.is_dir():
            raise ConfigError(f"the folder of a trace must exist; {self.path.absolute().parent} does not; make it")

    def add(self, span: TraceSpan) -> None:
        self.add_later(lambda: (span,), 1)

    def add_later(self, spans: Callable[[], Iterable[TraceSpan]], number: int) -> None:
        if self._num_events + number <= self.max_events:
            self._num_events += number
            self._spans.append(spans)
        else:
            self._num_dropped += number

    def note_pool(self, name: str, setting: PoolSetting) -> None:
        self._pools[name] = setting

    def write(self) -> None:
        """Write the file, whole or not at all. A dub does not fail for it."""
        trace = Trace(
            spans=tuple(span for make in self._spans for span in make()),
            pools=self._pools,
            num_dropped=self._num_dropped,
        )
        try:
            replace_bytes(self.path, json.dumps(document(trace, self.started_s), separators=(",", ":")).encode())
        except OSError as error:
            log.error("trace not written path=%s error=%s", self.path, error)


def document(trace: Trace, started_s: float) -> dict[str, Any]:
    """The JSON of a trace file; its times begin at ``started_s``."""
    return {
        "traceEvents": list(_events(trace.spans, started_s)),
        "displayTimeUnit": "ms",
        "otherData": {
            "raydub_trace": VERSION,
            "started_s": started_s,
            "dropped_events": trace.num_dropped,
            "pools": {name: {"setting": pool.setting, "config": pool.config} for name, pool in trace.pools.items()},
        },
    }


def _events(spans: Sequence[TraceSpan], started_s: float) -> Iterator[dict[str, Any]]:
    places: dict[str, dict[str, Any]] = {}
    processes: dict[str, int] = {}
    threads: dict[tuple[str, str, int], int] = {}
    for span, row in lanes(spans):
        key = (span.track, span.lane, row)
        if span.track not in processes:
            processes[span.track] = len(processes) + 1
            yield _name("process_name", processes[span.track], 0, span.track)
        if key not in threads:
            threads[key] = len(threads) + 1
            name = span.lane if row == 0 else f"{span.lane} ({row + 1})"
            yield _name("thread_name", processes[span.track], threads[key], name)
        event = _event(span, started_s) | {"pid": processes[span.track], "tid": threads[key]}
        places[span.span_id] = event
        yield event
    yield from _arrows(spans, places)


def _event(span: TraceSpan, started_s: float) -> dict[str, Any]:
    begin_us = round(1e6 * (span.begin_s - started_s))
    args = {"item": span.item, "trace": span.trace_id, "span": span.span_id, "parent": span.parent_id}
    return {
        "name": f"{span.name} {span.item}".strip(),
        "cat": span.kind,
        "ph": "X",
        "ts": begin_us,
        "dur": max(0, round(1e6 * (_shown_end_s(span) - started_s)) - begin_us),
        "args": {
            **{key: value for key, value in args.items() if value},
            **span.attributes,
            "step": span.name,
            "lane": span.lane,
            "end_us": round(1e6 * (span.end_s - started_s)),
        },
    }


def _shown_end_s(span: TraceSpan) -> float:
    """A request is shown until it goes to a replica."""
    return span.begin_s + span.attributes["sent_after_s"] if span.kind == "request" else span.end_s


def _arrows(spans: Sequence[TraceSpan], places: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    numbers = itertools.count(1)
    for target, sources in flows(spans).items():
        for source in sources:
            begin, end, number = places[source], places[target], next(numbers)
            tail = {"name": "line", "cat": "flow", "id": number}
            last_us = begin["ts"] + max(0, begin["dur"] - 1)  # inside the event, as the format asks
            yield {**tail, "ph": "s", "ts": last_us, "pid": begin["pid"], "tid": begin["tid"]}
            yield {
                **tail, "ph": "f", "bp": "e", "ts": max(last_us, end["ts"]), "pid": end["pid"], "tid": end["tid"]
            }  # fmt: skip


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def lanes(spans: Sequence[TraceSpan]) -> Iterator[tuple[TraceSpan, int]]:
    """Each span with the row of its lane, in which no two overlap."""
    ends_s: dict[tuple[str, str], list[float]] = {}
    for span in sorted(spans, key=lambda span: (span.begin_s, span.end_s)):
        rows = ends_s.setdefault((span.track, span.lane), [])
        row = next((row for row, end_s in enumerate(rows) if end_s <= span.begin_s), len(rows))
        rows[row : row + 1] = [_shown_end_s(span)]
        yield span, row


def is_trace(path: Path) -> bool:
    """True if the file looks like one of ``TraceFile``."""
    with path.open("rb") as file:
        return file.read(32).startswith(b'{"traceEvents":')


def read_trace(path: Path) -> Trace:
    """Read a trace file. Raises MediaError if it is not one of this version."""
    try:
        found = json.loads(path.read_bytes())
        other = found["otherData"]
        if other["raydub_trace"] != VERSION:
            raise ValueError(f"version {other['raydub_trace']}")
        events = found["traceEvents"]
        tracks = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
        return Trace(
            spans=tuple(_span(event, tracks) for event in events if event["ph"] == "X"),
            pools={
                name: PoolSetting(setting=pool["setting"], config=pool["config"])
                for name, pool in other["pools"].items()
            },
            num_dropped=other["dropped_events"],
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise MediaError(
            f"{path} must be a trace of this version of raydub; {type(error).__name__}: {error}; dub again with --trace"
        ) from error


KNOWN = ("item", "trace", "span", "parent", "step", "lane", "end_us")


def _span(event: Mapping[str, Any], tracks: Mapping[int, str]) -> TraceSpan:
    args = event["args"]
    return TraceSpan(
        name=args["step"],
        kind=event["cat"],
        track=tracks[event["pid"]],
        lane=args["lane"],
        begin_s=event["ts"] / 1e6,
        end_s=args["end_us"] / 1e6,
        item=args.get("item", ""),
        trace_id=args.get("trace", ""),
        span_id=args.get("span", ""),
        parent_id=args.get("parent", ""),
        attributes={key: value for key, value in args.items() if key not in KNOWN},
    )
