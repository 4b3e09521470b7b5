"""Jobs are counted by how they end, with the time, the lag and the segments of each."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors.errors import CapacityError, ConfigError, EngineLoadError, ItemError, MediaError
from cluster.config.schema import PoolConfig, PriceConfig
from cluster.flags import Flag
from cluster.metrics import jobs
from cluster.metrics.meters import exposition
from cluster.pools.metrics import PoolMetrics
from cluster.steps.progress import Progress, Stage
from tests.unit.manifests import sample_manifest


def samples() -> dict[tuple[str, ...], float]:
    """(name, values of its tags) → value."""
    families = text_string_to_metric_families(exposition().decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def value(*name: str) -> float:
    return samples().get(name, 0.0)


class Growth:
    """The growth of samples since it was made: other tests of this process count as well."""

    def __init__(self) -> None:
        self._before = samples()

    def of(self, *name: str) -> float:
        return value(*name) - self._before.get(name, 0.0)


async def test_a_job_that_ends_well_is_counted_with_its_times() -> None:
    manifest = sample_manifest()
    lines = manifest.dubs[0].utterances
    assert manifest.status == "degraded"
    growth = Growth()
    async with jobs.measured(-1) as job:
        assert value("ray_raydub_jobs_running") == 1
        assert job.note_end(manifest) is manifest
    assert value("ray_raydub_jobs_running") == 0
    assert value("ray_raydub_jobs_running_peak") >= 1
    assert growth.of("ray_raydub_jobs_total", "degraded") == 1
    assert growth.of("ray_raydub_job_finished_segments_total") == len(lines)
    assert growth.of("ray_raydub_job_media_seconds_total") == pytest.approx(manifest.input.duration_s)
    assert growth.of("ray_raydub_job_wall_seconds_sum") == pytest.approx(manifest.timings.wall_s)
    assert growth.of("ray_raydub_job_realtime_ratio_sum") == pytest.approx(manifest.timings.realtime_factor)
    assert growth.of("ray_raydub_job_first_utterance_seconds_count") == 1
    assert growth.of("ray_raydub_jobs_busy_seconds_total") > 0
    assert value("ray_raydub_driver_peak_bytes", "apart") == manifest.timings.driver_peak_bytes
    assert growth.of("ray_raydub_job_degradations_total", Flag.SPEECH_FAILED.value) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError("no"), "config"),
        (MediaError("no"), "media"),
        (CapacityError("no"), "capacity"),
        (EngineLoadError("no"), "engine_load"),
        (ItemError("no"), "engine"),
        (ExceptionGroup("of a task group", [MediaError("no")]), "media"),
        (ZeroDivisionError(), "unexpected"),
    ],
)
async def test_a_job_that_fails_is_counted_by_the_kind_of_error(error: Exception, kind: str) -> None:
    growth = Growth()
    with pytest.raises(type(error)):
        async with jobs.measured(-1):
            raise error
    assert growth.of("ray_raydub_jobs_total", "failed") == 1
    assert growth.of("ray_raydub_job_failures_total", kind) == 1
    assert value("ray_raydub_jobs_running") == 0


async def test_a_cancelled_job_is_no_failure() -> None:
    growth = Growth()
    with pytest.raises(asyncio.CancelledError):
        async with jobs.measured(-1):
            raise asyncio.CancelledError
    assert growth.of("ray_raydub_jobs_total", "cancelled") == 1
    assert growth.of("ray_raydub_jobs_total", "failed") == 0


async def test_the_lag_is_that_of_the_job_furthest_behind() -> None:
    growth = Growth()
    fast, slow = Progress(job="fast"), Progress(job="slow")
    async with jobs.measured(fast.number), jobs.measured(slow.number):
        for progress in (fast, slow):
            progress.advance(Stage.TRANSCRIBE, 60.0)
        for target, reached_s in (("pt", 50.0), ("es", 45.0)):
            fast.advance(Stage.SPEAK, reached_s, target)
            fast.advance(Stage.MIX, reached_s, target)
        slow.advance(Stage.MIX, 20.0, "pt")
        assert (fast.lag_s, slow.lag_s) == (15.0, 40.0)
        assert value("ray_raydub_job_lag_seconds") == 40.0
        slow.advance(Stage.MIX, 60.0, "pt")
        assert value("ray_raydub_job_lag_seconds") == 15.0
    assert value("ray_raydub_job_lag_seconds") == 0.0
    assert growth.of("ray_raydub_job_segments_total") == 2


def test_engine_time_is_counted_with_what_it_costs() -> None:
    growth = Growth()
    price = PriceConfig(gpu_hour=3.6, cpu_hour=0.36, currency="EUR")
    metrics = PoolMetrics("speech/counted", PoolConfig(num_gpus=0.5, num_cpus=2), price)
    for run_s in (4.0, 6.0):
        metrics.batch_done(run_s)
    metrics.set_state(0, 0.0, {})
    assert growth.of("ray_raydub_pool_gpu_seconds_total", "speech/counted") == 5.0
    assert growth.of("ray_raydub_pool_cpu_seconds_total", "speech/counted") == 20.0
    cost = growth.of("ray_raydub_pool_cost_total", "EUR", "speech/counted")
    assert cost + growth.of("ray_raydub_pool_cost_total", "speech/counted", "EUR") == pytest.approx(0.007)
