"""Plans against the code's own pools on a clock that jumps; bench/bench_plan.py does it up to 1,000 GPUs."""

from __future__ import annotations

import pytest

from bench import plan_pools
from bench.plan_simulation import Simulation, World
from cluster.analysis.plan import CapacityPlanner, PlanTask
from cluster.analysis.workload import PoolWork, Workload
from cluster.config.load import load_config

WORKLOAD = Workload(
    pools=(
        PoolWork(
            name="transcription/faster_whisper", shared_per_hour=120, language_per_hour=40, call_s=0.5, item_s=0.5
        ),
        PoolWork(name="translation/nllb_ct2", language_per_hour=720, call_s=0.05, item_s=0.05),
        PoolWork(name="speech/coqui", language_per_hour=720, call_s=0.1, item_s=0.4),
    ),
    lines_per_hour=720,
    videos_s=(300.0, 600.0),
)
CONFIG = load_config("gpu", ["speech.engine=coqui", "speech.pool={num_gpus: 0.25, batch: {max_items: 4}}"])


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_plan_and_the_simulation_take_as_long_as_the_pools(gpus: int) -> None:
    task = PlanTask(hours=0.5, languages=2, max_gpus=gpus, start_s=20.0, driver_cpu_s=0.01)
    planner = CapacityPlanner(WORKLOAD, CONFIG, task)
    planned = planner.fastest()
    world = World(start_s=(10.0, 20.0), driver_realtime=planner.driver_realtime)
    took_s = plan_pools.wall_s(WORKLOAD, CONFIG, planned, planner.videos_s, 2, world)
    simulated = Simulation(WORKLOAD, CONFIG, planned, planner.videos_s, 2, world).run()
    assert simulated.num_lines == 720
    assert simulated.wall_s == pytest.approx(took_s, rel=0.15)
    assert planned.wall_s == pytest.approx(took_s, rel=0.15)
