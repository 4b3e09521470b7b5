"""Events of running jobs. They are stored with the job, so that clients can read them again from any point."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Mapping
from typing import Any

from cluster.pipeline import PipelineEvent
from cluster.steps.progress import Progress
from cluster.steps.records import HeardUnit, MixedBlock, Spoken, Utterance
from serve.jobs.database import until_it_answers
from serve.jobs.following import EventFeed
from serve.jobs.leases import Leases
from serve.jobs.tables import Dub
from serve.storage.bucket import BucketError
from serve.storage.files import JobFiles

log = logging.getLogger(__name__)

FLUSH_S = 0.1
"""Events of one job within this time are written together."""
PROGRESS_S = 1.0

EventData = tuple[str, Mapping[str, Any]]
"""Kind and data of an event."""


class Recorder:
    """Writes the events of one job. Use with ``async with``, which writes the remaining events at its end."""

    def __init__(self, dub: Dub, leases: Leases, files: JobFiles, feed: EventFeed) -> None:
        self._dub_id = dub.id
        self._num_events = dub.num_events
        self._num_spoken = 0
        self._leases = leases
        self._files = files
        self._feed = feed
        self._queue: asyncio.Queue[PipelineEvent | EventData | None] = asyncio.Queue()
        """Events to write. None ends it."""
        self._progress: dict[str, Any] = {}
        self._progress_s = 0.0
        self._has_first_utterance = False
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Recorder:
        self._writing = asyncio.create_task(self._write_forever())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._writing is not None
        if kind is not None and not issubclass(kind, Exception):  # cancelled: the next attempt sends these events again
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
            return
        self._queue.put_nowait(None)
        await self._writing

    def observe(self, event: PipelineEvent) -> None:
        if not isinstance(event, MixedBlock):
            self._queue.put_nowait(event)

    def record(self, kind: str, **data: Any) -> None:
        self._queue.put_nowait((kind, data))

    def on_change(self, progress: Progress) -> None:
        self._progress = describe(progress)
        if progress.first_utterance_s is not None and not self._has_first_utterance:
            self._has_first_utterance = True
            self.record("kpi", first_utterance_s=round(progress.first_utterance_s, 3))
        now_s = time.monotonic()
        if now_s - self._progress_s >= PROGRESS_S:
            self._progress_s = now_s
            self.record("progress", **self._progress)

    async def _write_forever(self) -> None:
        is_last = False
        while not is_last:
            batch = [await self._queue.get()]
            await asyncio.sleep(FLUSH_S)
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            is_last = batch[-1] is None
            events = [data for event in batch if event is not None for data in await self._data_of(event)]
            self._num_spoken += sum(kind == "utterance" for kind, _ in events)
            note = functools.partial(
                self._leases.note, self._dub_id, self._num_events, events, self._progress, self._num_spoken
            )
            await until_it_answers(note)
            self._num_events += len(events)
            self._feed.notify(self._dub_id)

    async def _data_of(self, event: PipelineEvent | EventData) -> list[EventData]:
        match event:
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
                text = event.candidates[0].text if event.candidates else ""
                return [("translation", {**_line(event), "text": text})]
            case Spoken():
                return [("utterance", await self._utterance(event))]
            case (str(kind), data):
                return [(kind, data)]
        raise TypeError(f"an event must be a PipelineEvent; found {type(event).__name__}")

    async def _utterance(self, spoken: Spoken) -> dict[str, Any]:
        utterance, clip = spoken.utterance, spoken.clip
        url = None
        if clip is not None:
            try:
                await asyncio.to_thread(self._files.save_clip, self._dub_id, utterance.id, clip)
                url = f"/v1/dubs/{self._dub_id}/clips/{utterance.id}"
            except (BucketError, OSError) as error:
                log.warning("clip not kept utterance=%s error=%s", utterance.id, error)
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
    """The share of the media that each stage has processed."""
    stages: dict[str, dict[str, float]] = {}
    for (stage, target), reached_s in progress.reached_s.items():
        share = min(1.0, reached_s / progress.duration_s) if progress.duration_s else 0.0
        stages.setdefault(stage.value, {})[target or "all"] = round(share, 4)
    return {"duration_s": round(progress.duration_s, 3), "elapsed_s": round(progress.elapsed_s, 2), "stages": stages}
