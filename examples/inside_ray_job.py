"""Dub inside a Ray program of your own, and give what is spoken to your own Ray tasks while the dub is made.

``python examples/inside_ray_job.py talk.mp4``, or on a cluster
``ray job submit -- python examples/inside_ray_job.py s3://bucket/talk.mp4``.
"""

import argparse
import asyncio

import numpy as np
import ray

import raydub


@ray.remote
def level_dbfs(samples: np.ndarray) -> float:
    """Stands for work of your own."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


async def dub_and_measure(source: str, to: str, out: str, config: str) -> dict[str, float]:
    """Line's id to its level."""
    measured = {}
    # Ray runs already: the dubber uses it, and leaves it running.
    async with raydub.Dubber(config) as dubber:
        async for event in dubber.stream(source, to=to, out=out):
            if isinstance(event, raydub.UtteranceSpoken) and event.samples is not None:
                measured[event.id] = level_dbfs.remote(event.samples)
                print(f"{event.start_s:7.2f} s  {event.text}")
    return dict(zip(measured, await asyncio.gather(*measured.values()), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--to", default="pt")
    parser.add_argument("--out", default="out")
    parser.add_argument("--config", default="offline", help="a configuration's name, or a YAML file")
    arguments = parser.parse_args()
    # Logical CPUs: each pool's replica takes up to one, and your own tasks need some too.
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        levels = asyncio.run(dub_and_measure(arguments.source, arguments.to, arguments.out, arguments.config))
        for line, level in levels.items():
            print(f"{line}: {level:.1f} dBFS")
        assert ray.is_initialized()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
