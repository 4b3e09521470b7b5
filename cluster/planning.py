"""Choosing what to say: all candidates of a unit are planned by the speech engine, compared and fitted.

A unit's lines are shares of one translation, so all of them take theirs from the same candidate: with
shares of different ones, words between them would be said twice or not at all.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from actors import languages
from actors.errors import ItemError, ReplicaLostError
from actors.types import Plan, PlanRequest
from cluster.candidates import Ranking, Scored, Standing, rank
from cluster.config import Config
from cluster.fitting import PlannedLength, choose, rate_needed, room_s
from cluster.meaning import Meaning
from cluster.pace import Pace, PaceKey
from cluster.pools import JobPool
from cluster.progress import Progress
from cluster.translating import Utterance

Planned: TypeAlias = Plan | ItemError | ReplicaLostError
"""A plan, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateScore:
    """What decided about a candidate."""

    natural_s: float | None
    """Planned length; None if it could not be planned."""
    cosine: float | None
    """Of its unit's translation with the source; None if not compared."""
    penalty: float | None
    """For how its unit's lines fill their slots; None if not planned."""
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedLine:
    """An utterance and how it could be said."""

    utterance: Utterance
    plans: tuple[Plan | None, ...]
    """Of each candidate; None for one that could not be planned."""
    chosen: int | None
    """Index of the candidate to say; None if there is none."""
    others: tuple[int, ...]
    """Those that could be said instead of it, best first: none in a unit of several lines."""
    scores: tuple[CandidateScore, ...]
    error: str | None
    """Why none could be planned."""


class Planner:
    """Plans units of one language."""

    def __init__(
        self, config: Config, pool: JobPool, target: str, progress: Progress, meaning: Meaning | None, pace: Pace
    ) -> None:
        self._config = config
        self._pool = pool
        match = languages.best_match(target, config.speech.voices)
        self._voice = None if match is None else config.speech.voices[match]
        self._progress = progress
        self._meaning = meaning
        self._pace = pace

    async def plan(self, lines: Sequence[Utterance]) -> list[PlannedLine]:
        """The lines of one unit, in order."""
        outcomes = await asyncio.gather(*(self._plan_all(line) for line in lines))
        if len({len(line.candidates) for line in lines}) != 1:
            # Some line has no share of some candidate: the first is said, as far as it goes.
            return [self._first_of(line, planned) for line, planned in zip(lines, outcomes, strict=True)]
        num_candidates = len(lines[0].candidates)
        lengths = [
            [self._length(planned[index]) for planned in outcomes]  # of a candidate, its lines
            for index in range(num_candidates)
        ]
        cosines = await self._cosines(lines) if num_candidates > 1 else [None] * num_candidates
        ranking = self._rank(lines, lengths, cosines)
        chosen = self._choose(ranking, lines, lengths)
        others = tuple(index for index in ranking.order if index != chosen) if len(lines) == 1 else ()
        return [
            _planned_line(
                line,
                planned,
                chosen,
                others,
                tuple(
                    CandidateScore(
                        natural_s=length.natural_s if (length := own[at]) is not None else None,
                        cosine=cosines[index],
                        penalty=ranking.penalties[index],
                        standing=ranking.standing(index, chosen),
                    )
                    for index, own in enumerate(lengths)
                ),
            )
            for at, (line, planned) in enumerate(zip(lines, outcomes, strict=True))
        ]

    def _first_of(self, line: Utterance, planned: Sequence[Planned]) -> PlannedLine:
        scores = tuple(
            CandidateScore(
                natural_s=None if (length := self._length(plan)) is None else length.natural_s,
                cosine=None,
                penalty=None,
                standing=Standing.UNPLANNED if index else Standing.CHOSEN,
            )
            for index, plan in enumerate(planned)
        )
        return _planned_line(line, planned, 0 if planned else None, (), scores)

    def _rank(
        self,
        lines: Sequence[Utterance],
        lengths: Sequence[Sequence[PlannedLength | None]],
        cosines: Sequence[float | None],
    ) -> Ranking:
        """Of the unit's candidates, by the slots of all its lines taken together."""
        scored = []
        for own, cosine in zip(lengths, cosines, strict=True):
            known = [length.natural_s for length in own if length is not None]
            scored.append(Scored(cosine=cosine, natural_s=sum(known) if len(known) == len(own) else None))
        return rank(scored, sum(line.slot.duration_s for line in lines), self._config.candidates)

    def _choose(
        self,
        ranking: Ranking,
        lines: Sequence[Utterance],
        lengths: Sequence[Sequence[PlannedLength | None]],
    ) -> int | None:
        if not ranking.order:
            return next((index for index, own in enumerate(lengths) if any(own)), None)
        known = [[length for length in own if length is not None] for own in lengths]
        config = self._config.fitting
        rooms_s = [room_s(line.slot, line.room_end_s, config) for line in lines]
        nearest, most = ranking.nearest, self._config.candidates.nearest_rate
        if nearest is not None and rate_needed(known[nearest], rooms_s, config) <= most:
            return nearest
        return ranking.order[choose([known[index] for index in ranking.order], rooms_s, config)]

    async def _cosines(self, lines: Sequence[Utterance]) -> list[float | None]:
        """Of each candidate of the unit, whole, with the unit's source."""
        first = lines[0]
        if self._meaning is None or not self._meaning.reads(first.segment.language, first.target):
            return [None] * len(first.candidates)
        source = " ".join(line.segment.text for line in lines)
        shares = zip(*(line.candidates for line in lines), strict=True)
        texts = [" ".join(share.text.strip() for share in candidate) for candidate in shares]
        return await self._meaning.cosines(source, texts, self._due_s(first))

    async def _plan_all(self, line: Utterance) -> list[Planned]:
        """Per candidate."""
        return list(await asyncio.gather(*(self._plan(line, candidate.text) for candidate in line.candidates)))

    async def _plan(self, line: Utterance, text: str) -> Planned:
        request = PlanRequest(text=text, language=line.target, voice=self._voice, reference=line.reference)
        try:
            plan: Plan = await self._pool.submit(request, order=self._due_s(line))
            if line.voice not in (None, plan.voice) and line.reference is None:
                request = dataclasses.replace(request, voice=line.voice)
                plan = await self._pool.submit(request, order=self._due_s(line))
        except (ItemError, ReplicaLostError) as error:
            return error
        return plan

    def _length(self, plan: Planned) -> PlannedLength | None:
        return planned_length(plan, self._pace) if isinstance(plan, Plan) else None

    def _due_s(self, line: Utterance) -> float:
        return self._progress.due_s(line.segment.start_s)


def pace_key(plan: Plan) -> PaceKey:
    return PaceKey(engine=plan.engine, voice=plan.voice, language=plan.language)


def planned_length(plan: Plan, pace: Pace) -> PlannedLength:
    if plan.exact:
        return PlannedLength(natural_s=plan.natural_s, shortest_s=plan.shortest_s, exact=True)
    natural_s = pace.natural_s(pace_key(plan), plan.natural_s)
    return PlannedLength(natural_s=natural_s, shortest_s=natural_s, exact=False)


def _planned_line(
    line: Utterance,
    planned: Sequence[Planned],
    chosen: int | None,
    others: tuple[int, ...],
    scores: tuple[CandidateScore, ...],
) -> PlannedLine:
    plans = tuple(plan if isinstance(plan, Plan) else None for plan in planned)
    errors = [plan.message for plan in planned if not isinstance(plan, Plan)]
    is_silent = chosen is None or plans[chosen] is None
    return PlannedLine(
        utterance=line,
        plans=plans,
        chosen=None if is_silent else chosen,
        others=others,
        scores=scores,
        error=errors[0] if is_silent and errors else line.error,
    )
