"""Traces of whole dubs with stand-in engines: their file's structure, and that they cost nothing when off."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import raydub
from actors.errors import ConfigError, MediaError
from cluster.tracing import spans
from cluster.tracing.chrome import TraceFile, document, read_trace
from cluster.tracing.config import TraceConfig
from cluster.tracing.flows import flows
from cluster.tracing.spans import TraceParent, TraceSpan
from cluster.tracing.tracer import Tracer
from tests.media import AudioSpec, VideoSpec, make_media, tone

SETTINGS = {
    "ray.mode": "inline",
    "store.url": "none",
    "quality.check": "none",
    "transcription.engine": "tests.standins.hears",
    "translation": {"engine": "tests.standins.translates", "num_candidates": 1},
    "speech.engine": "tests.standins.speaks",
    "alignment.strategy": "length",
}
CUES = "WEBVTT\n\n00:00.200 --> 00:01.800\nThe first line.\n\n00:02.200 --> 00:03.800\nThe second line.\n"
STEPS = {"group", "translate", "align", "plan", "speak", "fit", "mix", "mux", "preview", "write", "report"}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of a dub of two lines into two languages."""
    folder = tmp_path_factory.mktemp("traced")
    talk = folder / "talk.mp4"
    make_media(talk, audio=[AudioSpec(samples=tone(4.0))], video=[VideoSpec(duration_s=4.0, rate=5)])
    talk.with_suffix(".vtt").write_text(CUES)
    path = folder / "trace.json"
    settings = {**SETTINGS, "trace.path": str(path)}
    asyncio.run(dub_once(talk, settings))
    return path


async def dub_once(talk: Path, settings: dict[str, Any]) -> None:
    out, subtitles = talk.parent / "out", talk.with_suffix(".vtt")
    async with raydub.Dubber("base", settings=settings) as dubber:
        await dubber.dub(talk, to=["pt", "es"], source_language="en", out=out, subtitles=subtitles)


def events_of(path: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(path.read_bytes())["traceEvents"] if event["ph"] == kind]


def test_events_of_one_thread_follow_each_other(traced: Path) -> None:
    threads = defaultdict(list)
    for event in events_of(traced, "X"):
        threads[event["pid"], event["tid"]].append(event)
    named = {(event["pid"], event["tid"]) for event in events_of(traced, "M") if event["name"] == "thread_name"}
    assert set(threads) == named
    for events in threads.values():
        for before, after in itertools.pairwise(events):
            assert before["ts"] >= 0
            assert before["ts"] + before["dur"] <= after["ts"]


def test_an_arrow_leads_from_inside_one_event_to_inside_another(traced: Path) -> None:
    begins, ends = events_of(traced, "s"), events_of(traced, "f")
    assert [event["id"] for event in begins] == [event["id"] for event in ends] == list(range(1, len(begins) + 1))
    for begin, end in zip(begins, ends, strict=True):
        assert begin["ts"] <= end["ts"]
        for event in (begin, end):
            around = [
                each
                for each in events_of(traced, "X")
                if (each["pid"], each["tid"]) == (event["pid"], event["tid"])
                and each["ts"] <= event["ts"] <= each["ts"] + each["dur"]
            ]
            assert around


def test_each_line_passes_every_step_in_one_trace(traced: Path) -> None:
    trace = read_trace(traced)
    steps = [span for span in trace.spans if span.kind == "step"]
    assert {span.name for span in steps} >= STEPS
    assert {span.lane for span in steps} >= {"translate pt", "translate es", "speak pt", "speak es"}
    [trace_id] = {span.trace_id for span in trace.spans if span.trace_id}
    assert len(trace_id) == 32
    known = {span.span_id for span in trace.spans}
    assert {span.parent_id for span in trace.spans if span.parent_id} <= known
    by_id = {span.span_id: span for span in steps}
    sources = {(by_id[target].name, by_id[source].name) for target, found in flows(steps).items() for source in found}
    assert sources >= {("translate", "group"), ("plan", "translate"), ("speak", "plan"), ("mix", "speak")}


def test_each_request_waits_then_runs_in_one_batch(traced: Path) -> None:
    trace = read_trace(traced)
    requests = {span.span_id: span for span in trace.spans if span.kind == "request"}
    batches = [span for span in trace.spans if span.kind == "batch"]
    assert sorted(each for batch in batches for each in batch.attributes["requests"]) == sorted(requests)
    for batch in batches:
        assert batch.attributes["num_items"] == len(batch.attributes["requests"])
        for each in batch.attributes["requests"]:
            times = requests[each].attributes
            assert 0 <= times["sent_after_s"] <= times["began_after_s"] <= times["ended_after_s"]
            assert requests[each].begin_s + times["began_after_s"] == pytest.approx(batch.begin_s, abs=1e-5)
    assert set(trace.pools) == {span.track for span in trace.spans if span.kind == "batch"}
    assert {span.track for span in trace.spans if span.kind == "load"} == set(trace.pools)


def test_a_file_is_read_as_it_was_written(traced: Path, tmp_path: Path) -> None:
    trace = read_trace(traced)
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(document(trace, 0.0)))
    assert read_trace(copy) == trace


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(MediaError, match="must be a trace"):
        read_trace(path)


def span_at(begin_s: float) -> TraceSpan:
    end_s = begin_s + 1
    return TraceSpan(name="translate", kind="step", track="job", lane="translate pt", begin_s=begin_s, end_s=end_s)


def test_the_file_is_bounded_and_tells_what_is_missing(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "trace.json", max_events=100)
    for number in range(150):
        file.add(span_at(file.started_s + number))
    file.write()
    trace = read_trace(file.path)
    assert (len(trace.spans), trace.num_dropped) == (100, 50)


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = TraceFile(folder / "trace.json", max_events=100)
    folder.rename(tmp_path / "moved")
    file.write()
    assert "trace not written" in caplog.text
    assert list((tmp_path / "moved").iterdir()) == []


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must exist"):
        Tracer(TraceConfig(path=str(tmp_path / "no" / "trace.json")))


async def ask(number: int) -> int:
    return number


def test_nothing_is_wrapped_where_nothing_is_recorded() -> None:
    items = iter([1, 2])
    with spans.root_span(Tracer(TraceConfig()).sink, TraceParent.inside(None), None, track="job"):
        assert spans.current() is None
        assert spans.traced(ask, "translate", str) is ask
        assert spans.produced(items, "decode", str) is items
        assert spans.consumed(items, "mix", str, "pt") is items


@pytest.mark.parametrize(
    ("header", "is_valid"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("4bf92f3577b34da6a3ce929d0e0e4736", False),
        ("", False),
        (None, False),
    ],
)
def test_a_trace_parent_is_read_or_ignored(header: str | None, is_valid: bool) -> None:
    assert (TraceParent.read(header) is not None) is is_valid


def test_an_error_is_in_its_span(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "trace.json", max_events=100)
    with (
        pytest.raises(ValueError, match="no"),
        spans.root_span(file, TraceParent.inside(None), None, track="job"),
        spans.span("translate", item="u0001"),
    ):
        raise ValueError("no")
    file.write()
    found = sorted(read_trace(file.path).spans, key=lambda span: span.end_s)
    assert [(span.name, span.attributes["error"]) for span in found] == [
        ("translate", "ValueError"),
        ("dub", "ValueError"),
    ]
