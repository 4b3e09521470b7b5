"""The lines that a person sees while a run is under way."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from cluster.batch.runner import ItemOutcome
from cluster.cli.display import PlainDisplay, SteadyConsole, one_line
from cluster.cli.dub import exit_status
from cluster.config.load import load_config
from cluster.flags import Flag
from cluster.pipeline import Job
from cluster.steps.progress import Progress
from cluster.verdicts import video_verdict
from tests.unit.manifests import sample_manifest


def job(name: str) -> Job:
    source = Path("/films") / name
    return Job(source=source, targets=("pt",), source_language="en", audio_track=None, out=Path("/out") / source.stem)


def shown(num_jobs: int, *outcomes: ItemOutcome) -> str:
    text = io.StringIO()
    display = PlainDisplay(SteadyConsole(file=text, width=500), num_jobs)
    for outcome in outcomes:
        display.finish(outcome)
    if num_jobs > 1:
        display.summarise()
    return text.getvalue()


def test_several_inputs_are_counted_with_the_time_left_and_summed_up() -> None:
    done = ItemOutcome(job=job("a.mp4"), manifest=sample_manifest(), error=None)
    failed = ItemOutcome(job=job("b.mp4"), manifest=None, error="input must exist")
    text = shown(3, done, failed)
    assert re.search(r"^\[1/3, about .+ left\] a\.mp4: degraded, ", text, re.MULTILINE)
    assert re.search(r"^\[2/3, about .+ left\] b\.mp4: failed: input must exist$", text, re.MULTILINE)
    assert text.endswith("3 inputs: 1 done, 1 of them with flagged lines, 1 failed; results in /out\n")


def test_the_last_line_counts_the_lines_to_look_at() -> None:
    manifest = sample_manifest(20)
    num = sum(bool(line.flags) for line in manifest.dubs[0].utterances)
    assert num > 1
    text = shown(1, ItemOutcome(job=job("a.mp4"), manifest=manifest, error=None))
    assert text.endswith(f"\n{num} of 20 lines to look at: /out/a/report.html\n")


@pytest.mark.parametrize(
    ("num_lines", "flags", "line"),
    [
        (1, (Flag.HEARD_WRONG,), "1 of 1 line to look at: "),
        (2, (Flag.HEARD_WRONG, Flag.TOO_FAST), "1 of 2 lines to look at: "),
        (2, (Flag.NOISE,), None),
        (2, (), None),
    ],
)
def test_lines_to_look_at_are_counted_once_and_none_is_no_line(
    num_lines: int, flags: tuple[Flag, ...], line: str | None
) -> None:
    manifest = sample_manifest(num_lines)
    [dub] = manifest.dubs
    lines = [
        each.model_copy(update={"flags": flags if index == 0 else ()}) for index, each in enumerate(dub.utterances)
    ]
    manifest = manifest.model_copy(update={"dubs": (dub.model_copy(update={"utterances": tuple(lines)}),)})
    text = shown(1, ItemOutcome(job=job("a.mp4"), manifest=manifest, error=None))
    assert ("to look at" in text) == (line is not None)
    assert line is None or line in text


@pytest.mark.parametrize(
    ("settings", "outcomes", "status"),
    [
        ((), ["failed"], 0),
        (("quality.strict=true",), ["failed", "passed"], 3),
        (("quality.strict=true",), ["passed"], 0),
        (("quality.strict=true",), ["failed", None], 1),
    ],
)
def test_only_a_strict_run_fails_by_its_verdicts(
    settings: tuple[str, ...], outcomes: list[str | None], status: int
) -> None:
    manifests = [
        None
        if outcome is None
        else sample_manifest(4).model_copy(
            update={"verdict": video_verdict([[Flag.CUT]], 1.0 if outcome == "passed" else 0.5)}
        )
        for outcome in outcomes
    ]
    assert exit_status(manifests, load_config("offline", settings)) == status


def test_one_input_is_not_counted() -> None:
    assert shown(1, ItemOutcome(job=job("a.mp4"), manifest=None, error="no")) == "a.mp4: failed: no\n"


def test_a_line_feed_in_a_name_is_escaped() -> None:
    assert one_line("a\nb\tc") == "a\\x0ab\\x09c"
    assert shown(1, ItemOutcome(job=job("a\nb.mp4"), manifest=None, error="no")).count("\n") == 1
    text = io.StringIO()
    PlainDisplay(SteadyConsole(file=text, width=500)).show(Progress(job="a\nb.mp4", duration_s=9.0))
    assert text.getvalue() == "a\\x0ab.mp4: starting\n"


def test_a_reader_that_goes_away_ends_nothing() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        display = PlainDisplay(SteadyConsole(file=pipe, width=500), 3)
        os.close(read)
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            display.finish(ItemOutcome(job=job(name), manifest=None, error="no"))
        display.summarise()
