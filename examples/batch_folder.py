"""Dub every video of a folder on one set of models: ``python examples/batch_folder.py talks --to pt,es``.

A bad file is named and the others are done. Run it again after a crash: finished results come from the store.
"""

import argparse
import asyncio
import sys
from pathlib import Path

import raydub

SUFFIXES = {".mp4", ".mkv", ".mov", ".webm"}


async def dub_all(videos: list[Path], to: str, out: Path, config: str) -> int:
    """Number of files that failed."""
    num_failed = 0

    async def dub(video: Path) -> None:
        nonlocal num_failed
        try:
            result = await dubber.dub(video, to=to, out=out)
        except raydub.DubbingError as error:
            num_failed += 1
            print(f"{video.name}: {error.message}", file=sys.stderr)
        else:
            flagged = sum(bool(line.flags) for tag in result.subtitles for line in result.utterances(tag))
            print(f"{video.name}: {result.status}, {flagged} lines to look at in {result.report}")

    # Starting all of them at once is fine: at most `pipeline.max_videos` are dubbed at a time.
    async with raydub.Dubber(config) as dubber, asyncio.TaskGroup() as group:
        for video in videos:
            group.create_task(dub(video))
    return num_failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", required=True, help="target languages, by commas")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--config", default="offline", help="a configuration's name, or a YAML file")
    arguments = parser.parse_args()
    videos = sorted(path for path in arguments.folder.iterdir() if path.suffix in SUFFIXES)
    return 1 if asyncio.run(dub_all(videos, arguments.to, arguments.out, arguments.config)) else 0


if __name__ == "__main__":
    sys.exit(main())
