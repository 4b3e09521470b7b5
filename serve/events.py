"""What a job tells while it runs: kept with the job, so that it can be read again from any point by anybody later."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from actors.errors import DubbingError
from cluster.listening import HeardUnit
from cluster.mixdown import MixedBlock
from cluster.pipeline import Happening
from cluster.progress import Progress
from cluster.speaking import Spoken
from cluster.translating import Utterance
from serve.bucket import BucketError
from serve.database import until_it_answers
from serve.files import JobFiles
from serve.jobs import Jobs
from serve.leases import Leases
from serve.tables import Dub, DubState, Event

log = logging.getLogger(__name__)

FLUSH_S = 0.1
"""Events of one job that come closer than this are written together."""
PROGRESS_S = 1.0
LOOK_S = 0.5
"""How often to look for events that another dispatcher writes."""

FINAL = frozenset({DubState.DONE.value, DubState.FAILED.value, DubState.CANCELLED.value})

Written = tuple[str, Mapping[str, Any]]


class Bells:
    """Wakes those who follow a job when this dispatcher has written something of it."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def ring(self, dub_id: str) -> None:
        for event in self._waiting.get(dub_id, ()):
            event.set()

    async def wait(self, dub_id: str, timeout_s: float) -> None:
        event = asyncio.Event()
        waiting = self._waiting.setdefault(dub_id, set())
        waiting.add(event)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await event.wait()
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(dub_id, None)


class Recorder:
    """Writes down what becomes of one job; use ``async with``, which writes the rest at its end."""

    def __init__(self, dub: Dub, leases: Leases, files: JobFiles, bells: Bells) -> None:
        self._dub_id = dub.id
        self._num_events = dub.num_events
        self._leases = leases
        self._files = files
        self._bells = bells
        self._happened: asyncio.Queue[Happening | Written | None] = asyncio.Queue()
        """Ends with None."""
        self._progress: dict[str, Any] = {}
        self._told_s = 0.0
        self._has_told_first = False
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Recorder:
        self._writing = asyncio.create_task(self._write_forever())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._writing is not None
        if kind is not None and not issubclass(kind, Exception):  # cancelled: what was not written will come again
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
            return
        self._happened.put_nowait(None)
        await self._writing

    def observe(self, happening: Happening) -> None:
        if not isinstance(happening, MixedBlock):
            self._happened.put_nowait(happening)

    def tell(self, kind: str, **data: Any) -> None:
        self._happened.put_nowait((kind, data))

    def on_change(self, progress: Progress) -> None:
        self._progress = describe(progress)
        if progress.first_utterance_s is not None and not self._has_told_first:
            self._has_told_first = True
            self.tell("kpi", first_utterance_s=round(progress.first_utterance_s, 3))
        now_s = time.monotonic()
        if now_s - self._told_s >= PROGRESS_S:
            self._told_s = now_s
            self.tell("progress", **self._progress)

    async def _write_forever(self) -> None:
        is_last = False
        while not is_last:
            happened = [await self._happened.get()]
            await asyncio.sleep(FLUSH_S)
            while not self._happened.empty():
                happened.append(self._happened.get_nowait())
            is_last = happened[-1] is None
            events = [event for one in happened if one is not None for event in await self._events(one)]
            note = functools.partial(self._leases.note, self._dub_id, self._num_events, events, self._progress)
            await until_it_answers(note)
            self._num_events += len(events)
            self._bells.ring(self._dub_id)

    async def _events(self, happening: Happening | Written) -> list[Written]:
        match happening:
            case HeardUnit(unit=unit):
                return [
                    (
                        "segment",
                        {
                            "id": segment.id,
                            "unit_id": unit.id,
                            "start_s": round(segment.start_s, 3),
                            "end_s": round(segment.end_s, 3),
                            "text": segment.text,
                            "language": segment.language,
                            "speaker": segment.speaker,
                        },
                    )
                    for segment in unit.segments
                ]
            case Utterance():
                text = happening.candidates[0].text if happening.candidates else ""
                return [("translation", {**_line(happening), "text": text})]
            case Spoken():
                return [("utterance", await self._utterance(happening))]
            case (str(kind), data):
                return [(kind, data)]
        raise TypeError(f"what happened must be one of Happening, found {type(happening).__name__}")

    async def _utterance(self, spoken: Spoken) -> dict[str, Any]:
        utterance, clip = spoken.utterance, spoken.clip
        url = None
        if clip is not None:
            try:
                await asyncio.to_thread(self._files.save_clip, self._dub_id, utterance.id, clip)
                url = f"/v1/dubs/{self._dub_id}/clips/{utterance.id}"
            except BucketError:
                log.warning("clip not kept utterance=%s", utterance.id)
        start_s = utterance.slot.start_s
        return {
            **_line(utterance),
            "start_s": round(start_s, 3),
            "end_s": round(start_s + clip.duration_s if clip is not None else utterance.slot.end_s, 3),
            "text": spoken.text,
            "voice": spoken.voice,
            "clip": url,
            "flags": [flag.value for flag in spoken.flags],
            "error": spoken.error,
        }


def _line(utterance: Utterance) -> dict[str, Any]:
    return {
        "id": utterance.id,
        "unit_id": utterance.unit_id,
        "segment_id": utterance.segment.id,
        "language": utterance.target,
    }


def describe(progress: Progress) -> dict[str, Any]:
    """How far each stage is, as a share of the media."""
    stages: dict[str, dict[str, float]] = {}
    for (stage, target), reached_s in progress.reached_s.items():
        share = min(1.0, reached_s / progress.duration_s) if progress.duration_s else 0.0
        stages.setdefault(stage.value, {})[target or "all"] = round(share, 4)
    return {"duration_s": round(progress.duration_s, 3), "elapsed_s": round(progress.elapsed_s, 2), "stages": stages}


async def follow(
    jobs: Jobs, bells: Bells, owner: str, dub_id: str, after: int, is_leaving: Callable[[], bool]
) -> AsyncIterator[Event]:
    """Events behind number ``after``, those to come too; ends with the job, when it is deleted, or on leaving."""
    while not is_leaving():
        try:
            view = await until_it_answers(lambda: jobs.get(owner, dub_id))
        except DubbingError:
            return
        events = await until_it_answers(functools.partial(jobs.events_after, dub_id, after))
        for event in events:
            after = event.number
            yield event
        if not events:
            if view.dub.state in FINAL:  # before its events were read: these are all there will be
                return
            await bells.wait(dub_id, LOOK_S)
