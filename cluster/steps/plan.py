"""Chooses the text to say: all candidates of a unit are planned by the speech engine, compared and ranked.

A unit's lines are shares of one translation, so all of them take theirs from the same candidate: with
shares of different ones, words between them would be said twice or not at all.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from actors import languages
from actors.engine import engine_class
from actors.errors import ItemError, ReplicaLostError
from actors.spoken.lexicon import Lexicon
from actors.types import Candidate, Plan, PlanRequest
from cluster.casting.cast import Cast
from cluster.casting.voices import voice_for
from cluster.config.schema import Config, StageConfig
from cluster.pools.pool_set import JobPool
from cluster.steps.progress import Progress
from cluster.steps.records import CandidatePlan, PlannedLine, Utterance
from cluster.steps.similarity import SimilarityScorer
from cluster.timing.fit import PlannedLength, choose, rate_needed, room_s
from cluster.timing.pace import Pace, planned_length
from cluster.timing.ranking import Ranking, Scored, Standing, rank


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Share:
    """One line's part of one candidate, as the speech engine planned it."""

    candidate: Candidate
    outcome: Plan | ItemError | ReplicaLostError
    length: PlannedLength | None
    """None without a plan."""

    def judged(self, standing: Standing, *, cosine: float | None = None, penalty: float | None = None) -> CandidatePlan:
        plan, error = (self.outcome, None) if isinstance(self.outcome, Plan) else (None, self.outcome.message)
        return CandidatePlan(
            candidate=self.candidate,
            plan=plan,
            error=error,
            natural_s=None if self.length is None else self.length.natural_s,
            cosine=cosine,
            penalty=penalty,
            standing=standing,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _UnitCandidate:
    """One translation of a whole unit: a share for each of its lines."""

    shares: tuple[_Share, ...]
    cosine: float | None

    @property
    def lengths(self) -> list[PlannedLength]:
        """The planned lengths of the lines that could be planned."""
        return [share.length for share in self.shares if share.length is not None]

    @property
    def scored(self) -> Scored:
        is_whole = len(self.lengths) == len(self.shares)
        natural_s = sum(length.natural_s for length in self.lengths) if is_whole else None
        return Scored(cosine=self.cosine, natural_s=natural_s)


def lexicon_of(config: Config, target: str, stage: StageConfig) -> Lexicon:
    """The pronunciations of a dub into ``target``, as its speech engine takes them."""
    match = languages.best_match(target, config.speech.lexicon)
    words = {} if match is None else config.speech.lexicon[match]
    return Lexicon(words, target, takes_ipa=engine_class("speech", stage.engine).takes_ipa)


class Planner:
    """Plans units of one language."""

    def __init__(
        self,
        config: Config,
        pool: JobPool,
        target: str,
        progress: Progress,
        similarity: SimilarityScorer | None,
        pace: Pace,
        lexicon: Lexicon,
        cast: Cast | None = None,
    ) -> None:
        """``pool`` speaks ``target``. Without ``similarity``, candidates keep the translator's order.

        Without ``cast``, everybody has the configured voice of the language.
        """
        self._config = config
        self._pool = pool
        self._voice = voice_for(config, target)
        self._cast = cast
        self._lexicon = lexicon
        self._progress = progress
        self._similarity = similarity
        self._pace = pace

    async def plan(self, lines: Sequence[Utterance]) -> list[PlannedLine]:
        """Plan the lines of one unit, given in order. Lines without words have no part in the choice."""
        for line in lines:  # units begin in order, and their speakers are cast in that order
            self._voice_of(line)
        worded = [line for line in lines if line.candidates]
        if 0 < len(worded) < len(lines):
            planned_words = iter(await self.plan(worded))
            silent = (PlannedLine(utterance=line, candidates=()) if not line.candidates else None for line in lines)
            return [each if each is not None else next(planned_words) for each in silent]
        shares = await self._shares(lines)
        if len({len(own) for own in shares}) != 1:
            # Some line has no share of some candidate: the first is said, as far as it goes.
            return [_first_chosen(line, own) for line, own in zip(lines, shares, strict=True)]
        candidates = await self._unit_candidates(lines, shares)
        slots_s = sum(line.slot.duration_s for line in lines)
        ranking = rank([candidate.scored for candidate in candidates], slots_s, self._config.candidates)
        chosen = self._choose(ranking, candidates, lines)
        others = [index for index in ranking.order if index != chosen] if len(lines) == 1 else []
        planned = []
        for line, own in zip(lines, shares, strict=True):
            judged = [
                share.judged(
                    ranking.standing(index, chosen),
                    cosine=candidates[index].cosine,
                    penalty=ranking.penalties[index],
                )
                for index, share in enumerate(own)
            ]
            alternatives = tuple(judged[index] for index in others)
            planned.append(PlannedLine(utterance=line, candidates=tuple(judged), others=alternatives))
        return planned

    async def _shares(self, lines: Sequence[Utterance]) -> list[list[_Share]]:
        """Per line, its share of each candidate."""
        outcomes = await asyncio.gather(*(self._plan_all(line) for line in lines))
        return [
            [
                _Share(
                    candidate=candidate,
                    outcome=outcome,
                    length=planned_length(outcome, self._pace) if isinstance(outcome, Plan) else None,
                )
                for candidate, outcome in zip(line.candidates, of_line, strict=True)
            ]
            for line, of_line in zip(lines, outcomes, strict=True)
        ]

    async def _unit_candidates(
        self, lines: Sequence[Utterance], shares: Sequence[Sequence[_Share]]
    ) -> list[_UnitCandidate]:
        whole = list(zip(*shares, strict=True))
        cosines = await self._cosines(lines) if len(whole) > 1 else [None] * len(whole)
        return [_UnitCandidate(shares=own, cosine=cosine) for own, cosine in zip(whole, cosines, strict=True)]

    def _choose(self, ranking: Ranking, candidates: Sequence[_UnitCandidate], lines: Sequence[Utterance]) -> int | None:
        """Index of the candidate to say; None if no line of any could be planned."""
        if not ranking.order:
            return next((index for index, each in enumerate(candidates) if each.lengths), None)
        config = self._config.fitting
        rooms_s = [room_s(line.slot, line.room_end_s, config) for line in lines]
        nearest, most = ranking.nearest, self._config.candidates.nearest_rate
        if nearest is not None and rate_needed(candidates[nearest].lengths, rooms_s, config) <= most:
            return nearest
        return ranking.order[choose([candidates[index].lengths for index in ranking.order], rooms_s, config)]

    async def _cosines(self, lines: Sequence[Utterance]) -> list[float | None]:
        """Per candidate, the similarity of the unit's whole translation to its source."""
        first = lines[0]
        if self._similarity is None or not self._similarity.reads(first.segment.language, first.target):
            return [None] * len(first.candidates)
        source = " ".join(line.segment.text for line in lines)
        shares = zip(*(line.candidates for line in lines), strict=True)
        texts = [" ".join(share.text.strip() for share in candidate) for candidate in shares]
        return await self._similarity.cosines(source, texts, self._due_s(first))

    async def _plan_all(self, line: Utterance) -> list[Plan | ItemError | ReplicaLostError]:
        """A plan of each candidate, or why there is none."""
        return list(await asyncio.gather(*(self._plan(line, candidate.text) for candidate in line.candidates)))

    async def _plan(self, line: Utterance, text: str) -> Plan | ItemError | ReplicaLostError:
        request = PlanRequest(
            text=self._lexicon.spoken(text),
            language=line.target,
            voice=self._voice_of(line),
            reference=line.reference,
        )
        try:
            plan: Plan = await self._pool.submit(request, order=self._due_s(line))
            if line.voice not in (None, plan.voice) and line.reference is None:
                request = dataclasses.replace(request, voice=line.voice)
                plan = await self._pool.submit(request, order=self._due_s(line))
        except (ItemError, ReplicaLostError) as error:
            return error
        return plan

    def _voice_of(self, line: Utterance) -> str | None:
        return self._voice if self._cast is None else self._cast.voice_of(line.segment.speaker, line.pitch_hz)

    def _due_s(self, line: Utterance) -> float:
        return self._progress.due_s(line.segment.start_s)


def _first_chosen(line: Utterance, shares: Sequence[_Share]) -> PlannedLine:
    """The line by its first candidate, compared with no other."""
    candidates = tuple(
        share.judged(Standing.UNPLANNED if index else Standing.CHOSEN) for index, share in enumerate(shares)
    )
    return PlannedLine(utterance=line, candidates=candidates)
