"""The path of the lines at the service times of a dubbing service, in virtual time: no machine is too busy for it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping
from typing import Any

import pytest

from actors.types import SynthesiseRequest, Task, TranslateRequest
from bench.guard.path import (
    EXTRACT_S,
    FOUNDING,
    ONE_EACH,
    Latencies,
    PathResult,
    Video,
    dub_lines,
    make_units,
    path_config,
    pools_of,
    run_path,
    run_videos,
)
from cluster.analysis.bottleneck import StageLoad, replay
from cluster.flags import Flag
from tests.virtual_time import run_in_virtual_time

MAX_S_PER_100, MIN_SEGMENTS_PER_S, MIN_SPEEDUP = 15.0, 7.0, 3.0


@functools.cache
def run_of(num_segments: int) -> tuple[PathResult, float]:
    """The path and the CPU time of this process that it took."""
    start_s = time.process_time()
    return run_path(num_segments), time.process_time() - start_s


def test_a_hundred_segments_take_little_more_than_the_fullest_stage() -> None:
    result, _ = run_of(100)
    assert len(result.lines) == 100
    assert all(line.clip is not None for line in result.lines)
    bound_s = EXTRACT_S + max(stage.engine_s / FOUNDING[_task(stage.name)] for stage in result.stats)
    assert bound_s <= result.wall_s <= 1.2 * bound_s
    assert result.wall_s < MAX_S_PER_100
    assert 100 / result.wall_s > MIN_SEGMENTS_PER_S


def test_the_first_line_does_not_wait_for_the_others() -> None:
    assert run_of(1000)[0].first_s == run_of(100)[0].first_s < 5 * EXTRACT_S


def test_pools_are_three_times_as_fast_as_one_line_at_a_time() -> None:
    one_by_one = run_path(100, path_config(ONE_EACH, ["pipeline.max_utterances=1"]))
    assert one_by_one.wall_s >= MIN_SPEEDUP * run_of(100)[0].wall_s


def test_videos_at_once_take_no_longer_than_one_after_another() -> None:
    videos = [Video(units=make_units(50), job=f"video {number}") for number in range(4)]
    results = run_in_virtual_time(run_videos(videos, path_config(FOUNDING)))
    assert {len(result.lines) for result in results} == {50}
    assert max(result.wall_s for result in results) <= 4 * run_path(50).wall_s


def test_every_run_takes_the_same_time_and_says_the_same() -> None:
    runs = [run_path(60) for _ in range(4)]
    assert len({run.wall_s for run in runs}) == 1
    assert len({tuple((line.text, line.start_s) for line in run.lines) for run in runs}) == 1


def test_time_grows_with_the_segments_and_no_faster() -> None:
    (short, short_cpu_s), (middle, _), (long, long_cpu_s) = run_of(100), run_of(500), run_of(1000)
    early_s, late_s = (middle.wall_s - short.wall_s) / 400, (long.wall_s - middle.wall_s) / 500
    assert late_s == pytest.approx(early_s, rel=0.1)
    assert long.wall_s <= 1.1 * 10 * short.wall_s
    assert long_cpu_s <= 3 * 10 * short_cpu_s


@pytest.mark.parametrize("slow", ["translation", "embedding", "speech"])
def test_the_bottleneck_is_named_and_what_one_replica_more_gives(slow: Task) -> None:
    times: Mapping[Task, Latencies] = {
        "translation": Latencies(translate_s=0.2),
        "embedding": Latencies(align_s=0.2),
        "speech": Latencies(speak_s=0.4),
    }
    replicas: dict[Task, int] = {"translation": 2, "embedding": 2, "speech": 2}
    before = run_path(200, path_config(replicas), times[slow])
    after = run_path(200, path_config(replicas | {slow: 3}), times[slow])
    loads = [_load(stage, replicas[_task(stage.name)]) for stage in before.stats]
    bound = max(loads, key=lambda load: load.bound_s)
    assert bound.task == slow
    assert before.wall_s == pytest.approx(bound.bound_s, rel=0.1)
    gain = replay(loads, {}) / replay(loads, {bound.pool: 1})
    assert before.wall_s / after.wall_s == pytest.approx(gain, rel=0.1)


def _task(pool: str) -> Task:
    return pool.partition("/")[0]  # type: ignore[return-value]


def _load(stage: Any, replicas: int) -> StageLoad:
    return StageLoad(
        pool=stage.name,
        setting="",
        replicas=replicas,
        num_items=stage.num_items,
        num_batches=stage.num_batches,
        engine_s=stage.engine_s,
    )


@pytest.mark.parametrize(
    ("kind", "flag"), [(TranslateRequest, Flag.TRANSLATION_FAILED), (SynthesiseRequest, Flag.SPEECH_FAILED)]
)
def test_failures_cost_their_lines_and_less_than_a_second(kind: type, flag: Flag) -> None:
    num_seen = 0

    def fails(request: Any) -> bool:
        nonlocal num_seen
        num_seen += isinstance(request, kind)
        return isinstance(request, kind) and num_seen % 10 == 0

    well, well_cpu_s = run_of(100)
    start_s = time.process_time()
    [failed] = run_in_virtual_time(run_videos([Video(units=make_units(100))], path_config(FOUNDING), fails=fails))
    cpu_s = time.process_time() - start_s
    flags = [line.flags for line in failed.lines]
    assert len(flags) == 100
    assert 5 <= sum(flag in each for each in flags) <= 20
    assert {each for each in flags if each} == {(flag,)}
    assert failed.wall_s <= well.wall_s + 1.0
    assert cpu_s <= 3 * well_cpu_s + 1.0


def test_a_cancelled_video_leaves_the_pools_to_the_others() -> None:
    alone_s = run_path(50).wall_s
    result, num_done = run_in_virtual_time(cancel_one())
    assert len(result.lines) == 50
    # What was running when it was cancelled is finished; nothing more of it is begun.
    assert result.wall_s <= alone_s + Latencies().speak_s + 3 * Latencies().translate_s
    counts = {_task(stage.name): stage.num_items for stage in result.stats}
    running = {"translation": 2 * 4, "embedding": 2 * 2, "speech": 2 * 10}
    assert all(counts[task] <= num_done[task] + _requests(result)[task] + running[task] for task in counts)


async def cancel_one() -> tuple[PathResult, dict[Task, int]]:
    """Cancel a long video after a second, and dub a short one on the same pools; also the requests done by then."""
    config = path_config(FOUNDING)
    async with pools_of(config) as pools:
        cancelled = asyncio.create_task(dub_lines(Video(units=make_units(400), job="gone"), config, pools))
        await asyncio.sleep(1.0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert asyncio.get_running_loop().time() == 1.0
        assert [stage.queue_items for stage in pools.stats()] == [0, 0, 0]
        num_done = {_task(stage.name): stage.num_items for stage in pools.stats()}
        return await dub_lines(Video(units=make_units(50), job="stays"), config, pools), num_done


def _requests(result: PathResult) -> dict[Task, int]:
    """A unit is translated once and embedded twice, as source and target; a line is planned and spoken."""
    num_units = len({line.utterance.unit_id for line in result.lines})
    return {"translation": num_units, "embedding": 2 * num_units, "speech": 2 * len(result.lines)}


def test_a_short_video_beside_a_long_one_and_all_of_it_in_the_time_of_the_work() -> None:
    videos = [Video(units=make_units(400), job="long")]
    videos += [Video(units=make_units(20), job=f"short {number}") for number in range(3)]
    long, *shorts = run_in_virtual_time(run_videos(videos, path_config(FOUNDING)))
    alone_s, work_s = run_path(20).wall_s, run_path(460).wall_s
    assert long.wall_s <= 1.1 * work_s
    assert max(short.wall_s for short in shorts) <= 4 * 1.5 * alone_s
    assert max(short.wall_s for short in shorts) <= 0.5 * long.wall_s


def test_requests_are_those_of_the_lines() -> None:
    result, _ = run_of(100)
    assert {_task(stage.name): stage.num_items for stage in result.stats} == _requests(result)
