"""The interface of whatever supplies a dub's speech, and the surroundings that all steps of one dub share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from actors.types import Samples, Task
from cluster.config.schema import Config, StageConfig
from cluster.pools.pool_set import JobPool, PoolSet
from cluster.steps.progress import Progress
from cluster.steps.records import HeardUnit, HearingNotes, Utterance
from cluster.subtitles.records import GivenSubtitlesRecord


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DubContext:
    """The configuration, pools and progress of one job. A branch that is compared has a configuration of its own."""

    config: Config
    pools: PoolSet
    progress: Progress

    @property
    def media_end_s(self) -> float:
        """Duration of the media; known once the progress has begun."""
        return self.progress.duration_s

    @property
    def track(self) -> str:
        """Name of the job in traces, unlike that of any other of this process."""
        return self.progress.job_priority.name

    async def pool(self, task: Task, stage: StageConfig) -> JobPool:
        """The pool of a task's engine, as this job uses it. Raises what ``PoolSet.get`` raises."""
        return await self.pools.get(task, stage, self.progress.job_priority)


class Source(Protocol):
    """Supplies the speech of one input: heard, or read from its subtitles or from a manifest."""

    @property
    def language(self) -> str | None:
        """BCP-47; None until it is known."""
        ...

    @property
    def language_probability(self) -> float | None:
        """None if a person said which language it is."""
        ...

    @property
    def num_failed(self) -> int:
        """Windows that could not be transcribed, and keep their original sound."""
        ...

    @property
    def notes(self) -> HearingNotes:
        """Doubts about what was heard; complete once all units were taken."""
        ...

    @property
    def damaged(self) -> bool:
        """Parts of the audio are known to be unreadable."""
        ...

    @property
    def given_subtitles(self) -> tuple[GivenSubtitlesRecord, ...]:
        """The subtitle files that were brought along, as they were read."""
        ...

    @property
    def only(self) -> Collection[str]:
        """Ids of utterances to synthesise again, though their result is stored."""
        ...

    def units(self, audio: Iterator[Samples], context: DubContext) -> AsyncIterator[HeardUnit]:
        """Units in order, each as soon as its sentence has ended; ``audio`` is mono at ``ASR_HZ``, in blocks."""
        ...

    def lines(
        self, units: AsyncIterator[HeardUnit], target: str, context: DubContext
    ) -> AsyncIterator[Utterance] | None:
        """The lines of ``target`` as they were brought along; None where they must be translated."""
        ...
