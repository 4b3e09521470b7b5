"""Speaking it: every line is fitted to its time by its plan, and only then synthesised.

What cannot be spoken keeps its original audio, and is flagged.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import python_stretch

from actors.errors import ItemError, ReplicaLostError
from actors.types import (
    Clip,
    Plan,
    PlanRequest,
    Samples,
    SynthesiseRequest,
)
from cluster.candidates import Standing
from cluster.config import Config
from cluster.fitting import Fit, PlannedLength, Rung, fit, lead_wanted_s, room_s
from cluster.manifest import Flag, flags_of
from cluster.pace import Pace
from cluster.planning import CandidateScore, PlannedLine, pace_key, planned_length
from cluster.pools import JobPool
from cluster.progress import Progress, Stage
from cluster.translating import Utterance


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spoken:
    """An utterance as it will sound, or why it will not."""

    utterance: Utterance
    text: str
    clip: Clip | None
    start_s: float
    """Where it sounds: at its slot, or a little before."""
    voice: str | None
    fit: Fit | None
    scores: tuple[CandidateScore, ...]
    """Of each candidate."""
    flags: tuple[Flag, ...]
    error: str | None

    @property
    def end_s(self) -> float:
        """Until when it sounds; until when the original does, if that is kept."""
        return self.utterance.segment.end_s if self.clip is None else self.start_s + self.clip.duration_s


Ahead: TypeAlias = tuple[PlannedLine, Awaitable[PlannedLine | None]]
"""A line, and the one behind it once that is known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Neighbours:
    """What a line's fit depends on beside the line."""

    before: asyncio.Future[float] | None
    """Where the line before it ends; None for the first."""
    following: Awaitable[PlannedLine | None]
    """The line behind it; None for the last."""

    async def free_from_s(self) -> float:
        return 0.0 if self.before is None else await asyncio.shield(self.before)


class Speaker:
    """Speaks lines of one language, each fitted to its time before anything expensive runs.

    ``speak`` is called in the order of the lines, since neighbours share the time between them: a line that
    would be too fast starts early, if the one before can end early enough.
    """

    def __init__(self, config: Config, pool: JobPool, target: str, progress: Progress, pace: Pace) -> None:
        self._config = config
        self._pool = pool
        self._target = target
        self._progress = progress
        self._pace = pace
        self._last_end: asyncio.Future[float] | None = None
        """Where the last line that was asked for ends."""

    async def speak(self, ahead: Ahead) -> Spoken:
        line, following = ahead
        end: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        near = _Neighbours(before=self._last_end, following=following)
        self._last_end = end
        try:
            spoken = await self._speak(line, near, end)
        finally:
            if not end.done():  # kept in the original, which sounds until then
                end.set_result(line.utterance.segment.end_s)
        if spoken.clip is not None:
            self._progress.note_utterance()
        self._progress.advance(Stage.SPEAK, line.utterance.segment.end_s, self._target)
        return spoken

    async def speak_other(self, line: PlannedLine, spoken: Spoken) -> Spoken | None:
        """The line by its next candidate, from its slot's start to where no neighbour minds; None if that cannot be."""
        utterance, index, config = line.utterance, line.others[0], self._config.fitting
        plan = line.plans[index]
        if plan is None:
            return None
        # The next line may have been promised all but its longest lead.
        end_s = config.gap_s + max(spoken.end_s, utterance.room_end_s - config.gap_s - config.max_lead_s)
        chosen = fit(planned_length(plan, self._pace), utterance.slot, end_s, config)
        if chosen.rung in (Rung.CUT, Rung.NO_ROOM):
            return None
        try:
            clip = await self._synthesise(plan, chosen, utterance)
            if not plan.exact:
                chosen = fit(_as_spoken(clip), utterance.slot, end_s, config)
            if chosen.rung is Rung.CUT:
                return None
            clip = await asyncio.to_thread(stretched, clip, chosen)
        except (ItemError, ReplicaLostError):  # the line is said already
            return None
        standings = {line.chosen: Standing.FAILED, index: Standing.CHOSEN}
        return dataclasses.replace(
            spoken,
            text=utterance.candidates[index].text,
            clip=clip,
            start_s=utterance.slot.start_s,
            fit=chosen,
            scores=tuple(
                dataclasses.replace(score, standing=standings.get(at, score.standing))
                for at, score in enumerate(line.scores)
            ),
            flags=tuple(flags_of(chosen, config.ordinary_rate)),
        )

    async def _speak(self, line: PlannedLine, near: _Neighbours, end: asyncio.Future[float]) -> Spoken:
        utterance = line.utterance
        plan = None if line.chosen is None else line.plans[line.chosen]
        if line.chosen is None or plan is None:
            return _silent(line, (Flag.SPEECH_FAILED,) if utterance.candidates else utterance.flags, line.error)
        text = utterance.candidates[line.chosen].text
        try:
            # The length of a line without a planned one is known once it is spoken: no reason to wait before.
            free_from_s = await near.free_from_s() if plan.exact else None
            chosen = await self._fit_planned(plan, utterance, near, free_from_s)
            if chosen.rung is Rung.NO_ROOM:
                return _silent(line, (Flag.NO_ROOM,), None)
            is_cut = chosen.rung is Rung.CUT
            if is_cut:
                plan, text, chosen = await self._cut(utterance, text, plan, free_from_s)
            if plan.exact:
                end.set_result(_end_s(utterance, chosen))
            clip = await self._synthesise(plan, chosen, utterance)
            if not plan.exact:
                chosen = self._fit_as_spoken(clip, utterance, await near.free_from_s())
                is_cut = is_cut or chosen.rung is Rung.CUT
                end.set_result(_end_s(utterance, chosen))
            clip = await asyncio.to_thread(stretched, clip, chosen)
        except (ItemError, ReplicaLostError) as error:
            return _silent(line, (Flag.SPEECH_FAILED,), error.message)
        return Spoken(
            utterance=utterance,
            text=text,
            clip=clip,
            start_s=utterance.slot.start_s - chosen.lead_s,
            voice=plan.voice,
            fit=chosen,
            scores=line.scores,
            flags=(*flags_of(chosen, self._config.fitting.ordinary_rate), *([Flag.CUT] if is_cut else [])),
            error=None,
        )

    async def _fit_planned(self, plan: Plan, utterance: Utterance, near: _Neighbours, free_from_s: float | None) -> Fit:
        planned, config = planned_length(plan, self._pace), self._config.fitting
        latest_s = utterance.slot.start_s + room_s(utterance.slot, utterance.room_end_s, config)
        # A line that ends long before the next leaves it all it may want, whatever that is: no reason to wait for it.
        is_near = utterance.slot.start_s + planned.natural_s > latest_s - config.max_lead_s
        following = await near.following if is_near and plan.exact else None
        wanted_s = 0.0 if following is None else self._wanted_s(following, utterance.room_end_s)
        return self._fit(planned, utterance, free_from_s, wanted_s)

    def _wanted_s(self, following: PlannedLine, room_end_s: float) -> float:
        """How much before the end of its room a line should end, for the one behind it."""
        plan = None if following.chosen is None else following.plans[following.chosen]
        if plan is None:
            return 0.0
        line = following.utterance
        lead_s = lead_wanted_s(planned_length(plan, self._pace), line.slot, line.room_end_s, self._config.fitting)
        return max(0.0, lead_s - (line.slot.start_s - room_end_s))

    async def _synthesise(self, plan: Plan, chosen: Fit, utterance: Utterance) -> Clip:
        request = SynthesiseRequest(plan=plan, duration_s=chosen.spoken_s if plan.exact else plan.natural_s)
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
        request = PlanRequest(text=text, language=utterance.target, voice=whole.voice, reference=utterance.reference)
        plan: Plan = await self._pool.submit(request, order=self._due_s(utterance))
        return plan


def _as_spoken(clip: Clip) -> PlannedLength:
    return PlannedLength(natural_s=clip.duration_s, shortest_s=clip.duration_s, exact=False)


def _end_s(utterance: Utterance, chosen: Fit) -> float:
    return utterance.slot.start_s - chosen.lead_s + chosen.duration_s


def _silent(line: PlannedLine, flags: tuple[Flag, ...], error: str | None) -> Spoken:
    return Spoken(
        utterance=line.utterance,
        text="",
        clip=None,
        start_s=line.utterance.slot.start_s,
        voice=None,
        fit=None,
        scores=line.scores,
        flags=flags,
        error=error,
    )


def stretched(clip: Clip, chosen: Fit) -> Clip:
    """The clip as the fit wants it: sped up by its stretch, cut off at its duration.

    Raises ItemError if its samples are not finite.
    """
    if not np.isfinite(clip.samples).all():
        raise ItemError("speech must be finite samples; the engine returned others")
    samples = clip.samples
    if chosen.stretch > 1.0:
        samples = at_tempo(clip, chosen.stretch)
    return Clip(samples=samples[: math.ceil(chosen.duration_s * clip.sample_hz)], sample_hz=clip.sample_hz)


def at_tempo(clip: Clip, factor: float) -> Samples:
    """The clip's samples, ``factor`` times as fast; the pitch stays."""
    stretch = python_stretch.Signalsmith.Stretch(0)  # seeded: the same clip gives the same samples
    stretch.preset(1, clip.sample_hz)
    stretch.setTimeFactor(factor)
    # A copy: arrays that come through Ray are read-only, which the library refuses.
    channels = stretch.process(np.array(clip.samples[None, :]))
    samples: Samples = np.asarray(channels, dtype=np.float32)[0]
    return samples
