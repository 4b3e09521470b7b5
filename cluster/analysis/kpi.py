"""Key figures against their targets: from the files of finished dubs, or from a service's metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.parser import text_string_to_metric_families

from actors.errors import ConfigError
from cluster.analysis.recorded import RecordedDub
from cluster.metrics.jobs import holds_models
from cluster.metrics.meters import PREFIX

FINISHED, FAILED = ("done", "degraded", "unchanged"), "failed"
NO_DUBS = "no dub has ended yet"
NO_SEGMENTS = "no segment was dubbed"
NO_SPANS = "manifests do not tell when their dubs ran; give the folder of a batch"
ENDED = "the processes that dubbed have ended, and tell it no more; give the folder of the batch"
MODELS_INSIDE = "ray.mode is inline: the models are in the same process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The values to meet. A segment counts once a target language."""

    seconds_per_100: float = 15.0
    """Upper bound of the wall time of a dub for 100 segments."""
    segments_per_s: float = 7.0
    """Lower bound of the segments per second, of all dubs together, while any of them runs."""
    failed_percent: float = 1.0
    """Upper bound of the share of dubs that fail."""
    memory_gb: float = 2.0
    """Upper bound of a driver's memory, in 10⁹ bytes, without the models."""
    videos_at_once: int = 10
    """Lower bound, itself enough, of the dubs that have run at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A measured value, or the reason why there is none."""

    value: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigures:
    """The five measured values, in the units of ``Targets``."""

    seconds_per_100: Measured
    segments_per_s: Measured
    failed_percent: Measured
    memory_gb: Measured
    videos_at_once: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiResult:
    """One figure against its target."""

    name: str
    bound: Literal["<", ">", "≥"]
    target: float
    unit: str
    measured: float | None
    why: str
    """The reason why it was not measured."""

    @property
    def verdict(self) -> Literal["met", "missed", "not measured"]:
        if self.measured is None:
            return "not measured"
        is_met = {
            "<": self.measured < self.target,
            ">": self.measured > self.target,
            "≥": self.measured >= self.target,
        }[self.bound]
        return "met" if is_met else "missed"


def judge(figures: KeyFigures, targets: Targets) -> list[KpiResult]:
    """Each figure beside its target."""
    rows: tuple[tuple[str, Literal["<", ">", "≥"], float, str, Measured], ...] = (
        ("time per 100 segments", "<", targets.seconds_per_100, "s", figures.seconds_per_100),
        ("throughput", ">", targets.segments_per_s, "segments/s", figures.segments_per_s),
        ("failed videos", "<", targets.failed_percent, "%", figures.failed_percent),
        ("memory beside the models", "<", targets.memory_gb, "GB", figures.memory_gb),
        ("videos at once", "≥", targets.videos_at_once, "", figures.videos_at_once),
    )
    return [
        KpiResult(name=name, bound=bound, target=target, unit=unit, measured=found.value, why=found.why)
        for name, bound, target, unit, found in rows
    ]


# --- from files


def of_dubs(dubs: Sequence[RecordedDub]) -> KeyFigures:
    """The figures that these dubs' files tell."""
    return KeyFigures(
        seconds_per_100=_seconds_per_100(dubs),
        segments_per_s=_segments_per_s(dubs),
        failed_percent=_failed_percent(dubs),
        memory_gb=_memory_gb(dubs),
        videos_at_once=_videos_at_once(dubs),
    )


def _seconds_per_100(dubs: Sequence[RecordedDub]) -> Measured:
    num_segments = sum(dub.num_segments for dub in dubs)
    wall_s = sum(dub.manifest.timings.wall_s for dub in dubs if dub.manifest is not None and dub.num_segments)
    return Measured(value=100 * wall_s / num_segments) if num_segments else Measured(why=NO_SEGMENTS)


def _segments_per_s(dubs: Sequence[RecordedDub]) -> Measured:
    spoken = [dub for dub in dubs if dub.num_segments]
    if not spoken:
        return Measured(why=NO_SEGMENTS)
    num_segments = sum(dub.num_segments for dub in spoken)
    if len(spoken) == 1 and spoken[0].manifest is not None:
        return Measured(value=num_segments / spoken[0].manifest.timings.wall_s)
    spans_s = _spans_s(spoken)
    if spans_s is None:
        return Measured(why=NO_SPANS)
    return Measured(value=num_segments / _covered_s(spans_s))


def _failed_percent(dubs: Sequence[RecordedDub]) -> Measured:
    states = [dub.status.state for dub in dubs if dub.status is not None]
    ended = [state for state in states if state in (*FINISHED, FAILED)]
    if not ended or len(states) < len(dubs):
        return Measured(why="a dub that fails writes no manifest; give the folder of a batch")
    return Measured(value=100 * ended.count(FAILED) / len(ended))


def _memory_gb(dubs: Sequence[RecordedDub]) -> Measured:
    manifests = [dub.manifest for dub in dubs if dub.manifest is not None]
    if not manifests:
        return Measured(why="no dub has results")
    if any(holds_models(manifest) for manifest in manifests):
        return Measured(why=MODELS_INSIDE)
    return Measured(value=max(manifest.timings.driver_peak_bytes for manifest in manifests) / 1e9)


def _videos_at_once(dubs: Sequence[RecordedDub]) -> Measured:
    made = [dub for dub in dubs if dub.manifest is not None]
    spans_s = _spans_s(made)
    if not spans_s:
        return Measured(why=NO_SPANS)
    changes = sorted([(start_s, 1) for start_s, _ in spans_s] + [(end_s, -1) for _, end_s in spans_s])
    running = peak = 0
    for _, change in changes:  # of one time, ends come before starts
        running += change
        peak = max(peak, running)
    return Measured(value=peak)


def _spans_s(dubs: Sequence[RecordedDub]) -> list[tuple[float, float]] | None:
    """Begin and end of each dub; None if one does not tell."""
    spans_s = [dub.span_s for dub in dubs]
    told = [span_s for span_s in spans_s if span_s is not None]
    return told if len(told) == len(spans_s) else None


def _covered_s(spans_s: Sequence[tuple[float, float]]) -> float:
    """Time inside at least one span."""
    covered_s, reached_s = 0.0, float("-inf")
    for start_s, end_s in sorted(spans_s):
        covered_s += max(0.0, end_s - max(start_s, reached_s))
        reached_s = max(reached_s, end_s)
    return covered_s


# --- from metrics


def of_metrics(text: str) -> KeyFigures:
    """The figures that metrics in Prometheus's text format tell, since their processes started.

    Raises ConfigError if the text is not of that format.
    """
    try:
        return of_families(text_string_to_metric_families(text))
    except ValueError as error:
        raise ConfigError(f"metrics must be in Prometheus's text format; {error}; see docs/operations.md") from error


def of_families(families: Iterable[MetricFamily]) -> KeyFigures:
    """The figures that metrics tell, since their processes started."""
    found = _by_name(families)

    def total(name: str, **tags: str) -> float:
        samples = found.get(f"{PREFIX}raydub_{name}", ())
        return sum(value for labels, value in samples if tags.items() <= labels.items())

    def largest(name: str) -> float:
        return max((value for _, value in found.get(f"{PREFIX}raydub_{name}", ())), default=0.0)

    # Of several processes that work at the same time, the one that was busy longest tells for how long.
    busy_s = largest("jobs_busy_seconds_total")
    segments = total("job_finished_segments_total")
    wall_s, spoken = total("job_wall_seconds_sum"), total("job_segments_total")
    ended = sum(total("jobs_total", outcome=outcome) for outcome in (*FINISHED, FAILED))
    failed = total("jobs_total", outcome=FAILED)
    peak = max(largest("jobs_running_peak"), total("jobs_running"))
    return KeyFigures(
        seconds_per_100=Measured(value=100 * wall_s / segments) if segments else Measured(why=NO_DUBS),
        segments_per_s=Measured(value=spoken / busy_s) if spoken and busy_s else Measured(why=NO_DUBS),
        failed_percent=Measured(value=100 * failed / ended) if ended else Measured(why=NO_DUBS),
        memory_gb=_told_memory_gb(found.get(f"{PREFIX}raydub_driver_peak_bytes", ()), ENDED if ended else NO_DUBS),
        videos_at_once=Measured(value=peak) if peak else Measured(why=ENDED if ended else "no dub has begun yet"),
    )


def _told_memory_gb(samples: Sequence[tuple[Mapping[str, str], float]], why_none: str) -> Measured:
    if any(labels.get("models") == "inside" for labels, _ in samples):
        return Measured(why=MODELS_INSIDE)
    return Measured(value=max(value for _, value in samples) / 1e9) if samples else Measured(why=why_none)


def _by_name(families: Iterable[MetricFamily]) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    found: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    for family in families:
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found
