"""Metrics of whole jobs: a job is one input, dubbed into all its languages by this process.

They begin when the input is opened: an input that could not be fetched is none of them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from actors.errors import CapacityError, ConfigError, DubbingError, EngineLoadError, MediaError, first_of
from cluster.flags import DEGRADING, Flag
from cluster.manifest import Manifest
from cluster.metrics.meters import MetricCounter, MetricGauge, MetricHistogram

FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (ConfigError, "config"),
    (MediaError, "media"),
    (CapacityError, "capacity"),
    (EngineLoadError, "engine_load"),
    (DubbingError, "engine"),
)
UNEXPECTED = "unexpected"
JOB_SECONDS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0)
WAIT_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)

_running = MetricGauge("raydub_jobs_running", "Jobs that run now.")
_running_peak = MetricGauge("raydub_jobs_running_peak", "Most jobs at once since this process started.")
_busy_s = MetricCounter("raydub_jobs_busy_seconds", "Seconds in which at least one job ran.")
_ended = MetricCounter("raydub_jobs", "Jobs that ended: done, degraded, unchanged, failed or cancelled.", ("outcome",))
_failures = MetricCounter("raydub_job_failures", "Jobs that failed, by the kind of error.", ("kind",))
_degradations = MetricCounter("raydub_job_degradations", "Degraded jobs that have this flag, by flag.", ("kind",))
_segments = MetricCounter("raydub_job_segments", "Segments spoken, or left as they sound; once a target language.")
_finished_segments = MetricCounter("raydub_job_finished_segments", "Segments of jobs that ended well; once a language.")
_mixed_s = MetricCounter("raydub_job_mixed_seconds", "Seconds of media dubbed, as they are mixed; once a language.")
_media_s = MetricCounter("raydub_job_media_seconds", "Seconds of media of jobs that ended well.")
_wall_s = MetricHistogram("raydub_job_wall_seconds", "Time that a job took which ended well.", JOB_SECONDS)
_realtime = MetricHistogram("raydub_job_realtime_ratio", "Seconds of media dubbed per second, of a job.", RATIOS)
_first_s = MetricHistogram("raydub_job_first_utterance_seconds", "Time until a job's first dubbed line.", WAIT_SECONDS)
_lag_s = MetricGauge("raydub_job_lag_seconds", "Media heard but not mixed yet, of the running job with the most.")
_peak_bytes = MetricGauge(
    "raydub_driver_peak_bytes", "Resident memory of the driver's process at its largest.", ("models",)
)


@dataclass(slots=True)
class _Running:
    """The jobs that run in this process. Its callers may be several event loops, so there is a lock."""

    lags_s: dict[int, float] = field(default_factory=dict)
    """Lag by the job's number."""
    peak: int = 0
    counted_s: float = 0.0
    """Time up to which ``_busy_s`` has counted."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, number: int) -> None:
        with self.lock:
            self._count()
            self.lags_s[number] = 0.0
            self.peak = max(self.peak, len(self.lags_s))
            self._export()

    def advance(self, number: int, lag_s: float) -> None:
        with self.lock:
            if number in self.lags_s:
                self._count()
                self.lags_s[number] = lag_s
                _lag_s.set(max(self.lags_s.values()))

    def end(self, number: int) -> None:
        with self.lock:
            self._count()
            self.lags_s.pop(number, None)
            self._export()

    def _count(self) -> None:
        now_s = time.monotonic()
        if self.lags_s:
            _busy_s.inc(now_s - self.counted_s)
        self.counted_s = now_s

    def _export(self) -> None:
        _running.set(len(self.lags_s))
        _running_peak.set(self.peak)
        _lag_s.set(max(self.lags_s.values(), default=0.0))


_jobs = _Running()


class MeasuredJob:
    """One running job, until ``note_end``."""

    manifest: Manifest | None = None

    def note_end(self, manifest: Manifest) -> Manifest:
        """The job has its results."""
        self.manifest = manifest
        return manifest


@asynccontextmanager
async def measured(number: int) -> AsyncIterator[MeasuredJob]:
    """Measure the job inside, whose number is unlike that of any other of this process. Errors pass through."""
    job = MeasuredJob()
    _jobs.begin(number)
    try:
        yield job
    except asyncio.CancelledError:
        _ended.inc(1, {"outcome": "cancelled"})
        raise
    except Exception as error:
        _ended.inc(1, {"outcome": "failed"})
        _failures.inc(1, {"kind": failure_kind(error)})
        raise
    else:
        if job.manifest is not None:
            _note_end(job.manifest)
    finally:
        _jobs.end(number)


def advance(number: int, lag_s: float, num_segments: int, mixed_s: float) -> None:
    """Note a step of a job: its lag in seconds of media, and the segments spoken and the media mixed with it."""
    _segments.inc(num_segments)
    _mixed_s.inc(mixed_s)
    _jobs.advance(number, lag_s)


def failure_kind(error: Exception) -> str:
    """The kind of the first error of a job."""
    reason = first_of(error)
    return next((kind for error_class, kind in FAILURES if isinstance(reason, error_class)), UNEXPECTED)


def holds_models(manifest: Manifest) -> bool:
    """True if the models ran in the driver's process, so that its memory is theirs too."""
    ray: Mapping[str, object] = manifest.config.get("ray", {})
    return ray.get("mode") == "inline"


def _note_end(manifest: Manifest) -> None:
    lines = [line for dub in manifest.dubs for line in dub.utterances]
    timings, media_s = manifest.timings, manifest.input.duration_s
    _ended.inc(1, {"outcome": manifest.status})
    _finished_segments.inc(len(lines))
    _media_s.inc(media_s)
    _wall_s.observe(timings.wall_s)
    _realtime.observe(timings.realtime_factor)
    if timings.first_utterance_s is not None:
        _first_s.observe(timings.first_utterance_s)
    _peak_bytes.set(timings.driver_peak_bytes, {"models": "inside" if holds_models(manifest) else "apart"})
    flags = {*manifest.flags, *(flag for line in lines for flag in line.flags)}
    for flag in sorted(flags & {*DEGRADING, Flag.TRANSCRIPTION_FAILED}):
        _degradations.inc(1, {"kind": flag.value})
