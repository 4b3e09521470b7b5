"""The work of a trace as a graph: steps, their requests, and what each waited for.

A step waits for those whose results it needs, and, in ordered streams, for all before them. What held a step back
beside that (a full buffer, a neighbour's times) is taken to be the work behind it or beside it that ended last before.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.analysis.replay_engine import RecordedRequest
from cluster.tracing.chrome import Trace
from cluster.tracing.flows import flows
from cluster.tracing.spans import TraceSpan

AT_ONCE_S = 0.01
"""Time within which an idle driver acts on the end of what it waits for."""
ONE_BY_ONE = ("decode", "mix")
"""Steps that run one after another."""
HELD_BY: Mapping[str, tuple[str, ...]] = {
    "decode": ("transcribe",),
    "transcribe": ("transcribe",),
    "group": ("translate",),
    "translate": ("plan",),
    "plan": ("speak",),
    "speak": ("plan", "speak", "mix"),
    "mix": ("speak",),
    "mux": ("mix",),
    "preview": ("mux",),
}
"""Steps that may hold one back beside those whose results it needs: full buffers, and neighbours."""
LAST = "write"
"""The step that waits for all others."""


@dataclass(slots=True, eq=False, kw_only=True)
class Dependency:
    """Until ``delay_s`` after the last of these things."""

    since_s: float = 0.0
    """Start of the trace, or of the step that waits inside."""
    steps: list[Step] = field(default_factory=list)
    ordered: list[Step] = field(default_factory=list)
    """Steps that count as ended when all before them in their lanes have ended too."""
    requests: list[RecordedRequest] = field(default_factory=list)
    delay_s: float = 0.0

    @property
    def over_s(self) -> float:
        """Time at which the last of them had ended."""
        ends_s = [step.end_s for step in self.steps] + [step.settled_s for step in self.ordered]
        return max([self.since_s, *ends_s, *(request.answered_s for request in self.requests)])


@dataclass(slots=True, eq=False, kw_only=True)
class Step:
    """A step of a job with the requests it made. Times are in seconds since the trace's start."""

    id: str
    name: str
    lane: str
    job: str
    begin_s: float
    end_s: float
    previous: Step | None = None
    """The step before it in its lane."""
    settled_s: float = 0.0
    """Time at which it and all before it in its lane had ended."""
    begin: Dependency = field(default_factory=Dependency)
    requests: list[tuple[RecordedRequest, Dependency]] = field(default_factory=list)
    end: Dependency = field(default_factory=Dependency)


def work_graph(trace: Trace) -> list[Step]:
    """The steps of a trace, in the order in which they began."""
    steps = _steps(trace)
    of_jobs: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        of_jobs[step.job].append(step)
    needed = flows(trace.spans)
    for own in of_jobs.values():
        _link(own, needed)
    return steps


def recorded_requests(spans: Iterable[TraceSpan]) -> dict[str, RecordedRequest]:
    """The answered requests, by their ids."""
    found = {}
    for span in spans:
        if span.kind == "request" and "error" not in span.attributes:
            told = span.attributes
            found[span.span_id] = RecordedRequest(
                id=span.span_id,
                pool=span.track,
                kind=told["request"],
                cost=told["cost"],
                order=told["order"],
                job=told["job"],
                priority=told["priority"],
                replica=told["replica"],
                queued_s=span.begin_s,
                sent_s=span.begin_s + told["sent_after_s"],
                began_s=span.begin_s + told["began_after_s"],
                ended_s=span.begin_s + told["ended_after_s"],
                answered_s=span.end_s,
            )
    return found


def _steps(trace: Trace) -> list[Step]:
    """The outermost steps with all requests made inside them; a request outside of all is a step of its own."""
    by_id = {span.span_id: span for span in trace.spans if span.span_id}
    requests = recorded_requests(trace.spans)
    steps: dict[str, Step] = {}
    for span in trace.spans:
        if span.kind == "step" and _outermost(span, by_id) is span:
            steps[span.span_id] = _step(span, span.track)
    for span in trace.spans:
        if span.kind == "request" and span.span_id in requests:
            owner = _outermost(span, by_id)
            request = requests[span.span_id]
            step = steps.setdefault(owner.span_id, _step(owner, request.job))
            step.requests.append((request, Dependency()))
    for step in steps.values():
        step.requests.sort(key=lambda made: made[0].queued_s)
    return sorted(steps.values(), key=lambda step: (step.begin_s, step.end_s))


def _step(span: TraceSpan, job: str) -> Step:
    return Step(id=span.span_id, name=span.name, lane=span.lane, job=job, begin_s=span.begin_s, end_s=span.end_s)


def _outermost(span: TraceSpan, by_id: Mapping[str, TraceSpan]) -> TraceSpan:
    while (outer := by_id.get(span.parent_id)) is not None and outer.kind == "step":
        span = outer
    return span


def _link(steps: Sequence[Step], needed: Mapping[str, Sequence[str]]) -> None:
    """Find what each step of one job, each request and each end waited for."""
    by_id = {step.id: step for step in steps}
    latest: dict[str, Step] = {}
    for step in steps:
        step.previous = latest.get(step.lane)
        latest[step.lane] = step
        step.settled_s = max(step.end_s, 0.0 if step.previous is None else step.previous.settled_s)
    ends = sorted(steps, key=lambda step: step.end_s)
    held_by = {name: [step for step in ends if step.name in names] for name, names in HELD_BY.items()}
    for step in steps:
        holders = held_by.get(step.name, ends)
        step.begin = _found_wait(step.begin_s, _before(step, steps, by_id, needed), holders)
        made: list[RecordedRequest] = []
        for number, (request, _) in enumerate(step.requests):
            answered = [each for each in made if each.answered_s <= request.queued_s]
            wait = Dependency(requests=answered, since_s=step.begin_s)
            step.requests[number] = request, _found_wait(request.queued_s, wait, holders)
            made.append(request)
        answered = [each for each in made if each.answered_s <= step.end_s]
        step.end = Dependency(requests=answered, since_s=step.begin_s)
        step.end.delay_s = max(0.0, step.end_s - step.end.over_s)


def _before(
    step: Step, steps: Sequence[Step], by_id: Mapping[str, Step], needed: Mapping[str, Sequence[str]]
) -> Dependency:
    """The steps whose results a step needs."""
    if step.name == LAST:
        return Dependency(steps=[each for each in steps if each.end_s <= step.begin_s])
    sources = [by_id[each] for each in needed.get(step.id, ()) if each in by_id]
    if step.name in ONE_BY_ONE and step.previous is not None:
        sources.append(step.previous)
    # Streams keep their order: what a step needs comes behind all before it in its lane.
    ordered = [each for each in sources if each.settled_s <= step.begin_s]
    rest = [each for each in sources if each.settled_s > step.begin_s and each.end_s <= step.begin_s]
    return Dependency(ordered=ordered, steps=rest)


def _found_wait(at_s: float, wait: Dependency, holders: Sequence[Step]) -> Dependency:
    """The wait of something that came at ``at_s``, also for the holder that ended last, if nothing else explains it."""
    if at_s - wait.over_s > AT_ONCE_S:
        number = bisect.bisect_right(holders, at_s, key=lambda step: step.end_s)
        if number and holders[number - 1].end_s > wait.over_s:
            wait.steps.append(holders[number - 1])
    wait.delay_s = max(0.0, at_s - wait.over_s)
    return wait
