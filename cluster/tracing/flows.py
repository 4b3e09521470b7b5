"""The way of the work through the steps: which spans a span follows on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from cluster.tracing.spans import TraceSpan

OF_UNITS = ("translate", "plan", "speak", "mix")
"""Steps of one branch, in order. Each has a span for a unit, or several for the unit's lines."""


def flows(spans: Iterable[TraceSpan]) -> dict[str, list[str]]:
    """TraceSpan id → ids of the spans whose results it needed, among the steps of its job."""
    jobs: dict[str, list[TraceSpan]] = defaultdict(list)
    for span in spans:
        if span.kind == "step":
            jobs[span.trace_id].append(span)
    found: dict[str, list[str]] = {}
    for steps in jobs.values():
        found |= _flows_of_job(steps)
    return found


def _flows_of_job(steps: Sequence[TraceSpan]) -> dict[str, list[str]]:
    by_name: dict[str, list[TraceSpan]] = defaultdict(list)
    for step in steps:
        by_name[step.name].append(step)
    found: dict[str, list[str]] = {}
    decoded = {step.item: step for step in by_name["decode"]}
    for heard in by_name["transcribe"]:
        if heard.item in decoded:
            found[heard.span_id] = [decoded[heard.item].span_id]
    for group in by_name["group"]:
        found[group.span_id] = [heard.span_id for heard in by_name["transcribe"] if _overlap(heard, group)]
    for branch in {step.lane.partition(" ")[2] for step in steps} - {""}:
        spoken = {step.item: step for step in by_name["speak"] if step.lane == f"speak {branch}"}
        for check in by_name["check"]:
            if check.lane == f"check {branch}" and check.item in spoken:
                found[check.span_id] = [spoken[check.item].span_id]
        before = {group.item: [group] for group in by_name["group"]}
        for name in OF_UNITS:
            own = [step for step in by_name[name] if step.lane == f"{name} {branch}"]
            for step in own:
                found[step.span_id] = [each.span_id for each in _before(step, before)]
            before = _by_unit(own) or before
    return found


def _overlap(heard: TraceSpan, group: TraceSpan) -> bool:
    """True if the unit has speech of the window."""
    window, unit = heard.attributes, group.attributes
    return bool(window["start_s"] < unit["end_s"] and unit["start_s"] < window["end_s"])


def _by_unit(steps: Iterable[TraceSpan]) -> dict[str, list[TraceSpan]]:
    found: dict[str, list[TraceSpan]] = defaultdict(list)
    for step in steps:
        found[unit_of(step.item)].append(step)
    return found


def _before(step: TraceSpan, before: Mapping[str, Sequence[TraceSpan]]) -> Sequence[TraceSpan]:
    """The same line in the step before, else all of its unit."""
    candidates = before.get(unit_of(step.item), ())
    return [each for each in candidates if each.item == step.item] or candidates


def unit_of(item: str) -> str:
    """The unit of a line: u0012 of pt:u0012-1."""
    return item.rpartition(":")[2].partition("-")[0]
