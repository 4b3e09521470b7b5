"""Aligns translations with segments, asking models for evidence: vectors, and each segment's own translation.

Requests of all units and videos fill the pools' batches together. Evidence that cannot be had is done without:
a failure here costs a unit no more than the accuracy of its breaks, and the method names the evidence that was used.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from actors.engine import make_engine
from actors.errors import DubbingError
from actors.sentences import as_sentence
from actors.types import Candidate, Embedding, EmbedRequest, TokenVectors, TranslateRequest, Translation, Unit
from cluster.alignment.align import Alignment, align
from cluster.alignment.config import AlignConfig
from cluster.alignment.inputs import AlignTask, Evidence
from cluster.config.schema import StageConfig
from cluster.pools.pool_set import JobPool
from cluster.steps.align_shadow import try_second

log = logging.getLogger(__name__)


def needs_embedding(config: AlignConfig) -> bool:
    return config.strategy != "length"


class Aligner:
    """Divides translations of units into one language among their segments."""

    def __init__(
        self, config: AlignConfig, stage: StageConfig, embedding: JobPool | None, translation: JobPool, target: str
    ) -> None:
        """``embedding`` holds replicas of ``stage``; None where no strategy asks for it."""
        self._config = config
        self._embedding = embedding
        self._translation = translation
        self._target = target
        self._embedder = make_engine("embedding", stage.engine, stage.options)

    async def align(self, unit: Unit, candidates: Sequence[Candidate], order: float) -> list[Alignment]:
        """One alignment per candidate; the first has a second strategy's result too, if the unit is sampled."""
        tasks = [self._task(unit, candidate) for candidate in candidates]
        evidence = await self.gather(unit, candidates, order)
        alignments = [align(task, known, self._config) for task, known in zip(tasks, evidence, strict=True)]
        if alignments:
            second = try_second(unit, tasks[0], evidence[0], alignments[0], self._config)
            alignments[0] = dataclasses.replace(alignments[0], second=second)
        return alignments

    async def gather(self, unit: Unit, candidates: Sequence[Candidate], order: float) -> list[Evidence]:
        """The evidence for the configured strategy, per candidate; another strategy's ``align`` may use it too."""
        if len(unit.segments) == 1 or self._config.strategy == "length":
            return [Evidence() for _ in candidates]
        has_links = all(candidate.alignment is not None for candidate in candidates)
        vectors, translations = await asyncio.gather(
            self._vectors(unit, [candidate.text for candidate in candidates], order),
            self._segment_translations(unit, order, is_asked_for=not has_links),
        )
        source, *targets = vectors
        return [
            Evidence(source=source, target=target, links=candidate.alignment, translations=translations)
            for candidate, target in zip(candidates, targets, strict=True)
        ]

    def _task(self, unit: Unit, candidate: Candidate) -> AlignTask:
        return AlignTask(
            segments=tuple(segment.text for segment in unit.segments),
            source=unit.text,
            target=candidate.text,
            language=self._target,
            rooms_s=rooms_s(unit),
        )

    async def _vectors(self, unit: Unit, targets: Sequence[str], order: float) -> list[TokenVectors | None]:
        """Token vectors of the source and each target; all None where the embedder does not know both languages."""
        pool = self._embedding
        if pool is None or not (self._embedder.supports(unit.language) and self._embedder.supports(self._target)):
            return [None] * (1 + len(targets))
        requests = [EmbedRequest(text=text, with_tokens=True) for text in (unit.text, *targets)]
        outcomes: list[Embedding | None] = await _ask(pool, requests, order)
        return [None if outcome is None else outcome.tokens for outcome in outcomes]

    async def _segment_translations(self, unit: Unit, order: float, *, is_asked_for: bool) -> tuple[str, ...] | None:
        """Each segment translated on its own; None unless asked for, or if one is missing.

        The words of the missing one would be taken for another segment's.
        """
        if not (is_asked_for and self._config.segment_translations and self._config.strategy == "hybrid"):
            return None
        requests = [
            TranslateRequest(
                text=as_sentence(segment.text), source_language=unit.language, target_language=self._target
            )
            for segment in unit.segments
        ]
        outcomes: list[Translation | None] = await _ask(self._translation, requests, order)
        texts = [outcome.candidates[0].text for outcome in outcomes if outcome is not None]
        return tuple(texts) if len(texts) == len(requests) else None


def rooms_s(unit: Unit) -> tuple[float, ...]:
    """Each segment's slot and half the pause after it."""
    ends_s = [*(segment.start_s for segment in unit.segments[1:]), unit.room_end_s]
    return tuple(
        max(0.0, (segment.end_s + max(segment.end_s, end_s)) / 2 - segment.start_s)
        for segment, end_s in zip(unit.segments, ends_s, strict=True)
    )


async def _ask(pool: JobPool, requests: Sequence[Any], order: float) -> list[Any]:
    """The result of each request; None for one that failed, which is logged."""
    outcomes = await asyncio.gather(
        *(pool.submit(request, order=order) for request in requests), return_exceptions=True
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, DubbingError):
            raise outcome
    failures = [outcome for outcome in outcomes if isinstance(outcome, DubbingError)]
    if failures:
        log.warning("alignment evidence missing pool=%s num=%d error=%s", pool.name, len(failures), failures[0].message)
    return [None if isinstance(outcome, DubbingError) else outcome for outcome in outcomes]
