"""What becomes of a mix that is cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.config.load import load_config
from cluster.media.plan import OutputPlan
from cluster.media.probe import probe
from cluster.steps.mix import mix_down
from cluster.steps.mix_cache import MixCache
from cluster.steps.progress import Progress
from cluster.steps.records import MixedBlock, SourceMedia, Spoken, branches_of
from tests.media import AudioSpec, make_media, tone


async def nothing() -> AsyncIterator[Spoken]:
    for line in ():
        yield line


async def test_cancelled_at_its_end_it_leaves_no_thread_that_mixes(tmp_path: Path) -> None:
    media = make_media(tmp_path / "tone.m4a", audio=[AudioSpec(samples=tone(12.0))])
    config = load_config("offline")
    info = probe(media, config.media)
    [branch] = branches_of(("pt",), (), config)
    mixing = asyncio.Event()
    loop = asyncio.get_running_loop()
    mixed: list[MixedBlock] = []
    is_cancelled = threading.Event()

    def observe(block: MixedBlock) -> None:
        mixed.append(block)
        loop.call_soon_threadsafe(mixing.set)
        is_cancelled.wait()
        time.sleep(0.1)

    task = asyncio.create_task(
        mix_down(
            nothing(),
            branch=branch,
            media=SourceMedia(info=info, track=info.audio[0], plan=OutputPlan(suffix=".mka", streams=())),
            audio=tmp_path / "dub.m4a",
            progress=Progress(job="tone"),
            observe=observe,
            cache=MixCache(None, media),
        )
    )
    await mixing.wait()  # nothing is to be said: all that is left is the end of the encoding
    task.cancel()
    is_cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    num_mixed = len(mixed)
    await asyncio.sleep(0.5)
    assert len(mixed) == num_mixed
