"""Metrics of the service, for Prometheus: HTTP requests, event streams, and dubs that wait or run."""

from __future__ import annotations

from contextlib import AbstractContextManager

from cluster.metrics.meters import SECONDS, MetricCounter, MetricGauge, MetricHistogram

ROUTE = ("route", "method")
NO_ROUTE = "none"
"""Value of the tag ``route`` for requests that were refused before their route was known, or have none."""
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
TOO_MANY = 429

_requests = MetricCounter(
    "raydub_http_requests", "Requests answered, by status: 2xx, 3xx, 4xx, 429 apart, 5xx.", (*ROUTE, "status")
)
_answer_s = MetricHistogram("raydub_http_answer_seconds", "Time until the answer to a request begins.", SECONDS, ROUTE)
_open_requests = MetricGauge("raydub_http_open_requests", "Requests that are being answered, streams included.")
_event_lag_s = MetricHistogram(
    "raydub_event_lag_seconds", "Time from when an event of a dub is written until it is sent to a follower.", SECONDS
)
_followers = MetricGauge("raydub_event_followers", "Open streams of dubs' events.")
_dubs = MetricGauge(
    "raydub_dubs",
    "Dubs of all dispatchers: queued; fetching, whose source is not here yet; running; abandoned, whose lease ended.",
    ("state",),
)
_oldest_wait_s = MetricGauge("raydub_dubs_oldest_wait_seconds", "Wait of the queued dub that waits longest.")
_leases = MetricGauge("raydub_leases", "Dubs that this dispatcher holds a lease of.")
_lost_leases = MetricCounter("raydub_lost_leases", "Dubs that this dispatcher stopped, as another one holds them.")


def count_request(route: str, method: str, status: int, answer_s: float) -> None:
    """Count a request whose answer began after so long. Routes are templates, so that they are few."""
    tags = {"route": route, "method": method if method in KNOWN_METHODS else "other"}
    kind = str(status) if status == TOO_MANY else f"{status // 100}xx"
    _requests.inc(1, {**tags, "status": kind})
    _answer_s.observe(answer_s, tags=tags)


def open_request() -> AbstractContextManager[None]:
    """Count a request as open inside."""
    return _open_requests.one_more()


def following() -> AbstractContextManager[None]:
    """Count a follower of a dub's events inside."""
    return _followers.one_more()


def note_event(lag_s: float) -> None:
    """Note that an event was sent so long after it was written; the two clocks may differ."""
    _event_lag_s.observe(max(0.0, lag_s))


def set_dubs(states: dict[str, int], oldest_wait_s: float, num_leases: int) -> None:
    for state, number in states.items():
        _dubs.set(number, {"state": state})
    _oldest_wait_s.set(oldest_wait_s)
    _leases.set(num_leases)


def lease_lost() -> None:
    _lost_leases.inc()
