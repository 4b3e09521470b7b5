"""Spans: something that ran from one time to another, for a job or in a pool.

The code that runs says ``with span("translate", item=unit.id)``. Where no trace is recorded, that costs a lookup.
"""

from __future__ import annotations

import contextlib
import functools
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Kind = Literal["job", "step", "request", "batch", "load"]
EPOCH_S = time.time() - time.monotonic()
"""Unix time at which this process's monotonic clock was 0. Times on it never go back."""
NOT_RECORDED = nullcontext()
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
"""The header of https://www.w3.org/TR/trace-context."""


@dataclass(slots=True, kw_only=True)
class TraceSpan:
    """Something that ran. Times are Unix times."""

    name: str
    kind: Kind
    track: str
    """The job, or the pool."""
    lane: str
    """A step with its branch, or a replica: shown as one row of its track, or several where spans overlap."""
    begin_s: float
    end_s: float
    item: str = ""
    """Id of the window, unit or utterance that it worked on."""
    trace_id: str = ""
    """32 hexadecimal digits; empty for what belongs to no job."""
    span_id: str = ""
    """16 hexadecimal digits; empty for a batch, whose requests may be of several jobs."""
    parent_id: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


class SpanSink(Protocol):
    """Takes spans as they end, on any thread."""

    def add(self, span: TraceSpan) -> None: ...

    def add_later(self, spans: Callable[[], Iterable[TraceSpan]], number: int) -> None:
        """Add ``number`` spans that are made once, when they are needed."""


@dataclass(slots=True, kw_only=True, eq=False)
class SpanContext:
    """The span inside which code runs."""

    sink: SpanSink
    track: str
    trace_id: str
    span_id: str
    branch: str = ""
    step: str = ""
    item: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceParent:
    """A span by the ids under which others belong to it."""

    trace_id: str
    span_id: str

    @classmethod
    def inside(cls, caller: TraceParent | None) -> TraceParent:
        """A new span in the caller's trace, or in a new one."""
        trace_id = f"{_nonzero(128):032x}" if caller is None else caller.trace_id
        return cls(trace_id=trace_id, span_id=new_span_id())

    @property
    def header(self) -> str:
        """Its ``traceparent`` header."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    @classmethod
    def read(cls, header: str | None) -> TraceParent | None:
        """The parent in a ``traceparent`` header; None if it has none that is valid."""
        found = None if header is None else TRACEPARENT.fullmatch(header.strip())
        if found is None or not int(found[1], 16) or not int(found[2], 16):
            return None
        return cls(trace_id=found[1], span_id=found[2])


_current: ContextVar[SpanContext | None] = ContextVar("span", default=None)


_parent: ContextVar[TraceParent | None] = ContextVar("trace_parent", default=None)


def now_s() -> float:
    """Unix time that never goes back."""
    return EPOCH_S + time.monotonic()


def current() -> SpanContext | None:
    """The span inside which this runs; None where nothing is recorded."""
    return _current.get()


def named_trace() -> TraceParent | None:
    """The span that a caller named by ``in_trace``."""
    return _parent.get()


@contextlib.contextmanager
def in_trace(caller: TraceParent | None) -> Iterator[None]:
    """Make the jobs inside belong to this span, if there is one."""
    token = _parent.set(caller)
    try:
        yield
    finally:
        _parent.reset(token)


def new_span_id() -> str:
    return f"{_nonzero(64):016x}"


def _nonzero(bits: int) -> int:
    return random.getrandbits(bits) or 1  # no secret


def root_span(
    sink: SpanSink | None, own: TraceParent, caller: TraceParent | None, *, track: str, name: str = "dub"
) -> AbstractContextManager[None]:
    """Record a job or a request of HTTP as ``own``, and all that runs inside; nothing without a sink."""
    if sink is None:
        return NOT_RECORDED
    context = SpanContext(sink=sink, track=track, trace_id=own.trace_id, span_id=own.span_id)
    return _Recorded(context, name, "job", name, "" if caller is None else caller.span_id, {})


def span(name: str, *, item: str = "", branch: str = "", **attributes: Any) -> AbstractContextManager[None]:
    """Record a step of the job. Item and branch are those of the step around it, unless they are given."""
    outer = _current.get()
    if outer is None:
        return NOT_RECORDED
    context = SpanContext(
        sink=outer.sink,
        track=outer.track,
        trace_id=outer.trace_id,
        span_id=new_span_id(),
        branch=branch or outer.branch,
        step=name,
        item=item or outer.item,
    )
    return _Recorded(context, name, "step", f"{name} {context.branch}".strip(), outer.span_id, attributes)


class _Recorded:
    """Records what runs inside, when it ends. A class, as a generator costs twice the time."""

    __slots__ = ("_attributes", "_begin_s", "_context", "_end_s", "_kind", "_lane", "_name", "_parent_id", "_token")

    def __init__(
        self, context: SpanContext, name: str, kind: Kind, lane: str, parent_id: str, attributes: Mapping[str, Any]
    ) -> None:
        self._context, self._name, self._kind, self._lane = context, name, kind, lane
        self._parent_id, self._attributes = parent_id, attributes

    def __enter__(self) -> None:
        self._begin_s, self._token = now_s(), _current.set(self._context)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_s = now_s()
        _current.reset(self._token)
        if kind is not None:
            self._attributes = {**self._attributes, "error": kind.__name__}
        self._context.sink.add_later(self._spans, 1)

    def _spans(self) -> tuple[TraceSpan]:
        context = self._context
        return (
            TraceSpan(
                name=self._name,
                kind=self._kind,
                track=context.track,
                lane=self._lane,
                begin_s=self._begin_s,
                end_s=self._end_s,
                item=context.item,
                trace_id=context.trace_id,
                span_id=context.span_id,
                parent_id=self._parent_id,
                attributes=self._attributes,
            ),
        )


def note(name: str, *, item: str, branch: str = "", **attributes: Any) -> None:
    """Record a step that takes no time of its own."""
    if _current.get() is not None:
        with span(name, item=item, branch=branch, **attributes):
            pass


def traced(
    function: Callable[[T], Awaitable[R]], name: str, item: Callable[[T], str], branch: str = ""
) -> Callable[[T], Awaitable[R]]:
    """The same function, with a span for each call; the function itself where nothing is recorded."""
    if _current.get() is None:
        return function

    @functools.wraps(function)
    async def call(argument: T) -> R:
        with span(name, item=item(argument), branch=branch):
            return await function(argument)

    return call


def produced(source: Iterable[T], name: str, item: Callable[[T], str]) -> Iterator[T]:
    """The same items, with a span for the making of each; the source itself where nothing is recorded."""
    return iter(source) if _current.get() is None else _produced(iter(source), name, item)


def _produced(items: Iterator[T], name: str, item: Callable[[T], str]) -> Iterator[T]:
    try:
        begin_s = now_s()
        for each in items:
            _add_step(name, item(each), "", begin_s)
            yield each
            begin_s = now_s()
    finally:
        getattr(items, "close", lambda: None)()


def consumed(source: Iterable[T], name: str, item: Callable[[T], str], branch: str) -> Iterable[T]:
    """The same items, with a span for what the caller does with each before it asks for the next."""
    return source if _current.get() is None else _consumed(source, name, item, branch)


def _consumed(source: Iterable[T], name: str, item: Callable[[T], str], branch: str) -> Iterator[T]:
    for each in source:
        begin_s = now_s()
        try:
            yield each
        finally:  # the caller may stop before the end
            _add_step(name, item(each), branch, begin_s)


def _add_step(name: str, item: str, branch: str, begin_s: float) -> None:
    outer = _current.get()
    if outer is not None:
        outer.sink.add(
            TraceSpan(
                name=name,
                kind="step",
                track=outer.track,
                lane=f"{name} {branch}".strip(),
                begin_s=begin_s,
                end_s=now_s(),
                item=item,
                trace_id=outer.trace_id,
                span_id=new_span_id(),
                parent_id=outer.span_id,
            )
        )
