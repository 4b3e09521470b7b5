"""Speaks planned lines: each is fitted to its time by its plan, and only then synthesised.

A line that cannot be spoken keeps its original audio, and is flagged.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass

import numpy as np

from actors.errors import ItemError, ReplicaLostError
from actors.spoken.lexicon import Lexicon
from actors.types import Candidate, Clip, Plan, PlanRequest, SynthesiseRequest
from cluster.audio.tempo import at_tempo
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.pools.pool_set import JobPool
from cluster.steps.progress import Progress, Stage
from cluster.steps.records import CandidatePlan, PlannedLine, Spoken, Utterance
from cluster.streams import closing, with_next
from cluster.timing.fit import Fit, PlannedLength, Rung, fit, lead_wanted_s, room_s
from cluster.timing.pace import Pace, pace_key, planned_length
from cluster.timing.ranking import Standing
from cluster.tracing.spans import span


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueuedLine:
    """A line with its neighbours, with which it shares the time between them."""

    line: PlannedLine
    following: Awaitable[PlannedLine | None]
    """The next line as soon as it is planned; None after the last."""
    previous_end_s: asyncio.Future[float] | None
    """End of the previous line's sound; None for the first line."""
    end_s: asyncio.Future[float]
    """End of this line's sound, known as soon as it is fitted: the next line's ``previous_end_s``."""

    async def free_from_s(self) -> float:
        """End of the previous line's sound, once it is known."""
        return 0.0 if self.previous_end_s is None else await asyncio.shield(self.previous_end_s)

    def settle(self, end_s: float) -> None:
        """Tell the next line where this one ends. The first call counts."""
        if not self.end_s.done():
            self.end_s.set_result(end_s)


async def with_neighbours(planned: AsyncIterator[PlannedLine]) -> AsyncIterator[QueuedLine]:
    """Each line as soon as it is planned, linked with the one before and the one after."""
    loop = asyncio.get_running_loop()
    previous_end_s: asyncio.Future[float] | None = None
    async with closing(with_next(planned)) as lines:
        async for line, following in lines:
            end_s: asyncio.Future[float] = loop.create_future()
            yield QueuedLine(line=line, following=following, previous_end_s=previous_end_s, end_s=end_s)
            previous_end_s = end_s


class Speaker:
    """Speaks lines of one language, each fitted to its time before anything expensive runs.

    A line that would be too fast starts early, if the one before can end early enough.
    """

    def __init__(
        self,
        config: Config,
        pool: JobPool,
        target: str,
        progress: Progress,
        pace: Pace,
        lexicon: Lexicon,
    ) -> None:
        self._config = config
        self._lexicon = lexicon
        self._pool = pool
        self._target = target
        self._progress = progress
        self._pace = pace

    async def speak(self, queued: QueuedLine) -> Spoken:
        """Fit and synthesise the line. An engine's failure gives a line without a clip."""
        original_end_s = queued.line.utterance.segment.end_s
        try:
            spoken = await self._speak(queued)
        finally:
            queued.settle(original_end_s)  # of a line that keeps its original
        if spoken.clip is not None:
            self._progress.note_utterance()
        self._progress.advance(Stage.SPEAK, original_end_s, self._target)
        return spoken

    async def speak_other(self, line: PlannedLine, other: CandidatePlan, spoken: Spoken) -> Spoken | None:
        """Say ``line`` by another of its candidates, from its slot's start to where no neighbour minds.

        None if that cannot be done.
        """
        fitted = None if other.plan is None else self._fit_again(planned_length(other.plan, self._pace), line, spoken)
        if other.plan is None or fitted is None:
            return None
        said = await self._say_again(other.plan, fitted, line, spoken)
        if said is None:
            return None
        return dataclasses.replace(
            said, text=other.candidate.text, candidates=_chosen_instead(spoken.candidates, other.candidate)
        )

    async def speak_again(self, line: PlannedLine, rate: float, take: int, spoken: Spoken) -> Spoken | None:
        """Say the same words in another take, ``rate`` times as fast as the voice's own pace.

        An engine that has no pace to choose keeps its own. None where there is no room for it.
        """
        chosen = next((each for each in spoken.candidates if each.standing is Standing.CHOSEN), None)
        if chosen is None or chosen.plan is None or chosen.candidate.text != spoken.text:
            return None
        plan = chosen.plan
        if not plan.exact:
            fitted = self._fit_again(planned_length(plan, self._pace), line, spoken)
            return None if fitted is None else await self._say_again(plan, fitted, line, spoken, take)
        length_s = plan.natural_s / rate
        if not plan.shortest_s <= length_s <= plan.longest_s:
            return None
        fitted = self._fit_again(PlannedLength(natural_s=length_s, shortest_s=length_s, exact=True), line, spoken)
        if fitted is None or fitted.rate > 1.0:
            return None
        return await self._say_again(plan, dataclasses.replace(fitted, rate=rate), line, spoken, take)

    def _fit_again(self, planned: PlannedLength, line: PlannedLine, spoken: Spoken) -> Fit | None:
        """The fit of another length of a line that is spoken already; None if it does not fit whole."""
        utterance, config = line.utterance, self._config.fitting
        # The next line may have been promised all but its longest lead.
        end_s = config.gap_s + max(spoken.end_s, utterance.room_end_s - config.gap_s - config.max_lead_s)
        fitted = fit(planned, utterance.slot, end_s, config)
        return None if fitted.rung in (Rung.CUT, Rung.NO_ROOM) else fitted

    async def _say_again(
        self, plan: Plan, fitted: Fit, line: PlannedLine, spoken: Spoken, take: int = 0
    ) -> Spoken | None:
        utterance = line.utterance
        try:
            clip = await self._synthesise(plan, fitted, utterance, take)
            again = fitted if plan.exact else self._fit_again(_as_spoken(clip), line, spoken)
            if again is None:
                return None
            clip = await asyncio.to_thread(stretched, clip, again)
        except (ItemError, ReplicaLostError):  # the line is said already
            return None
        return dataclasses.replace(
            spoken,
            clip=clip,
            start_s=utterance.slot.start_s,
            fit=again,
            flags=(*utterance.flags, *flags_of(again, self._config.fitting.ordinary_rate)),
        )

    async def _speak(self, queued: QueuedLine) -> Spoken:
        line, utterance, chosen = queued.line, queued.line.utterance, queued.line.chosen
        if chosen is None or chosen.plan is None:
            return _silent(line, (Flag.SPEECH_FAILED,) if utterance.candidates else utterance.flags, line.error)
        plan, text = chosen.plan, chosen.candidate.text
        try:
            # The length of a line without a planned one is known once it is spoken: no reason to wait before.
            with span("fit"):
                free_from_s = await queued.free_from_s() if plan.exact else None
                fitted = await self._fit_planned(plan, queued, free_from_s)
            if fitted.rung is Rung.NO_ROOM:
                return _silent(line, (Flag.NO_ROOM,), None)
            is_cut = fitted.rung is Rung.CUT
            if is_cut:
                plan, text, fitted = await self._cut(utterance, text, plan, free_from_s)
            if plan.exact:
                queued.settle(_end_s(utterance, fitted))
            clip = await self._synthesise(plan, fitted, utterance)
            if not plan.exact:
                fitted = self._fit_as_spoken(clip, utterance, await queued.free_from_s())
                is_cut = is_cut or fitted.rung is Rung.CUT
                queued.settle(_end_s(utterance, fitted))
            clip = await asyncio.to_thread(stretched, clip, fitted)
        except (ItemError, ReplicaLostError) as error:
            return _silent(line, (Flag.SPEECH_FAILED,), error.message)
        return Spoken(
            utterance=utterance,
            text=text,
            clip=clip,
            start_s=utterance.slot.start_s - fitted.lead_s,
            voice=plan.voice,
            fit=fitted,
            candidates=line.candidates,
            flags=(
                *utterance.flags,
                *flags_of(fitted, self._config.fitting.ordinary_rate),
                *([Flag.CUT] if is_cut else []),
            ),
            error=None,
        )

    async def _fit_planned(self, plan: Plan, queued: QueuedLine, free_from_s: float | None) -> Fit:
        utterance, planned, config = queued.line.utterance, planned_length(plan, self._pace), self._config.fitting
        latest_s = utterance.slot.start_s + room_s(utterance.slot, utterance.room_end_s, config)
        # A line that ends long before the next leaves it all it may want, whatever that is: no reason to wait for it.
        is_near = utterance.slot.start_s + planned.natural_s > latest_s - config.max_lead_s
        following = await queued.following if is_near and plan.exact else None
        wanted_s = 0.0 if following is None else self._wanted_s(following, utterance.room_end_s)
        return self._fit(planned, utterance, free_from_s, wanted_s)

    def _wanted_s(self, following: PlannedLine, room_end_s: float) -> float:
        """Seconds before the end of its room at which a line should end, so that the next can start early."""
        chosen, line = following.chosen, following.utterance
        if chosen is None or chosen.plan is None:
            return 0.0
        planned = planned_length(chosen.plan, self._pace)
        lead_s = lead_wanted_s(planned, line.slot, line.room_end_s, self._config.fitting)
        return max(0.0, lead_s - (line.slot.start_s - room_end_s))

    async def _synthesise(self, plan: Plan, fitted: Fit, utterance: Utterance, take: int = 0) -> Clip:
        duration_s = fitted.spoken_s if plan.exact else plan.natural_s
        request = SynthesiseRequest(plan=plan, duration_s=duration_s, take=take)
        clip: Clip = await self._pool.submit(request, order=self._due_s(utterance))
        if not plan.exact:
            self._pace.observe(pace_key(plan), plan.natural_s, clip.duration_s)
        return clip

    def _due_s(self, utterance: Utterance) -> float:
        return self._progress.due_s(utterance.segment.start_s)

    def _fit(
        self, planned: PlannedLength, utterance: Utterance, free_from_s: float | None, wanted_s: float = 0.0
    ) -> Fit:
        slot, config = utterance.slot, self._config.fitting
        return fit(planned, slot, utterance.room_end_s, config, free_from_s=free_from_s, wanted_s=wanted_s)

    def _fit_as_spoken(self, clip: Clip, utterance: Utterance, free_from_s: float) -> Fit:
        """The fit of a line whose length is known only now; past the highest rate its end is cut off."""
        found = self._fit(_as_spoken(clip), utterance, free_from_s)
        if found.rung is not Rung.CUT:
            return found
        max_rate = self._config.fitting.max_rate
        return dataclasses.replace(found, spoken_s=found.duration_s * max_rate, rate=max_rate)

    async def _cut(
        self, utterance: Utterance, text: str, whole: Plan, free_from_s: float | None
    ) -> tuple[Plan, str, Fit]:
        """As many of the first words as there is time for at the highest rate; at least one.

        Raises ItemError if not even one fits.
        """
        words = text.split() if " " in text else list(text)
        joint = " " if " " in text else ""
        found: tuple[Plan, str, Fit] | None = None
        fewest, most = 1, len(words) - 1
        while fewest <= most:
            num_words = (fewest + most) // 2
            prefix = joint.join(words[:num_words]).rstrip(",;:—–-")
            plan = await self._plan_as(whole, utterance, prefix)
            attempt = self._fit(planned_length(plan, self._pace), utterance, free_from_s)
            if attempt.rung is Rung.CUT:
                most = num_words - 1
            else:
                found = plan, prefix, attempt
                fewest = num_words + 1
        if found is None:
            room_s = utterance.room_end_s - utterance.slot.start_s
            raise ItemError(f"one word must fit {room_s:.2f} s; none of {text!r} does")
        return found

    async def _plan_as(self, whole: Plan, utterance: Utterance, text: str) -> Plan:
        """A plan of other words in the same voice."""
        request = PlanRequest(
            text=self._lexicon.spoken(text),
            language=utterance.target,
            voice=whole.voice,
            reference=utterance.reference,
        )
        plan: Plan = await self._pool.submit(request, order=self._due_s(utterance))
        return plan


def _as_spoken(clip: Clip) -> PlannedLength:
    return PlannedLength(natural_s=clip.duration_s, shortest_s=clip.duration_s, exact=False)


def _chosen_instead(candidates: Sequence[CandidatePlan], chosen: Candidate) -> tuple[CandidatePlan, ...]:
    """The candidates with another one chosen; the one before has failed."""
    standings = [
        Standing.CHOSEN
        if each.candidate is chosen
        else Standing.FAILED
        if each.standing is Standing.CHOSEN
        else each.standing
        for each in candidates
    ]
    return tuple(dataclasses.replace(each, standing=now) for each, now in zip(candidates, standings, strict=True))


def flags_of(fit: Fit, ordinary_rate: float) -> list[Flag]:
    # A hair of tolerance: a line exactly at the ordinary rate is not fast.
    return [Flag.FAST] if fit.rate > ordinary_rate + 1e-6 else []


def _end_s(utterance: Utterance, fitted: Fit) -> float:
    return utterance.slot.start_s - fitted.lead_s + fitted.duration_s


def _silent(line: PlannedLine, flags: tuple[Flag, ...], error: str | None) -> Spoken:
    """A line that keeps its original audio."""
    return Spoken(
        utterance=line.utterance,
        text="",
        clip=None,
        start_s=line.utterance.slot.start_s,
        voice=None,
        fit=None,
        candidates=line.candidates,
        flags=flags,
        error=error,
    )


def stretched(clip: Clip, fitted: Fit) -> Clip:
    """The clip sped up by the fit's stretch and cut off at the fit's duration.

    Raises ItemError if its samples are not finite.
    """
    if not np.isfinite(clip.samples).all():
        raise ItemError("speech must be finite samples; the engine returned others")
    samples = clip.samples
    if fitted.stretch > 1.0:
        samples = at_tempo(clip, fitted.stretch)
    return Clip(samples=samples[: math.ceil(fitted.duration_s * clip.sample_hz)], sample_hz=clip.sample_hz)
