"""Speaking it: every utterance is planned, fitted to its time and only then synthesised.

What cannot be spoken keeps its original audio, and is flagged.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import python_stretch

from actors import languages
from actors.errors import ItemError, ReplicaLostError
from actors.types import (
    Clip,
    Plan,
    PlanRequest,
    SynthesiseRequest,
)
from cluster.config import Config
from cluster.fitting import Fit, PlannedLength, Rung, fit
from cluster.manifest import Flag, flags_of
from cluster.pools import JobPool
from cluster.progress import Progress, Stage
from cluster.translating import Utterance


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spoken:
    """An utterance as it will sound, or why it will not."""

    utterance: Utterance
    text: str
    clip: Clip | None
    voice: str | None
    fit: Fit | None
    natural_s: tuple[float | None, ...]
    """Planned length of each candidate; None for one that could not be planned."""
    flags: tuple[Flag, ...]
    error: str | None


class Speaker:
    """Speaks utterances of one language, each fitted to its time before anything expensive runs."""

    def __init__(self, config: Config, pool: JobPool, target: str, progress: Progress) -> None:
        self._config = config
        self._pool = pool
        self._target = target
        match = languages.best_match(target, config.speech.voices)
        self._voice = None if match is None else config.speech.voices[match]
        self._progress = progress

    async def speak(self, utterance: Utterance) -> Spoken:
        spoken = await self._speak(utterance)
        if spoken.clip is not None:
            self._progress.note_utterance()
        self._progress.advance(Stage.SPEAK, utterance.segment.end_s, self._target)
        return spoken

    async def _speak(self, utterance: Utterance) -> Spoken:
        if not utterance.candidates:
            return _silent(utterance, utterance.flags, utterance.error)
        try:
            planned = await self._plan_all(utterance)
            natural_s = tuple(plan.natural_s if isinstance(plan, Plan) else None for plan in planned)
            plans = [(index, plan) for index, plan in enumerate(planned) if isinstance(plan, Plan)]
            chosen = self._fit([plan for _, plan in plans], utterance)
            if chosen.rung is Rung.NO_ROOM:
                return _silent(utterance, (Flag.NO_ROOM,), None)
            index, plan = plans[chosen.candidate]
            text = utterance.candidates[index].text
            is_cut = chosen.rung is Rung.CUT
            if is_cut:
                plan, text, chosen = await self._cut(utterance, text)
            request = SynthesiseRequest(plan=plan, duration_s=chosen.spoken_s)
            clip: Clip = await self._pool.submit(request, order=self._due_s(utterance))
            if not plan.exact:
                chosen = self._fit_as_spoken(clip, utterance)
                is_cut = is_cut or chosen.rung is Rung.CUT
            clip = await asyncio.to_thread(stretched, clip, chosen)
        except (ItemError, ReplicaLostError) as error:
            return _silent(utterance, (Flag.SPEECH_FAILED,), error.message)
        return Spoken(
            utterance=utterance,
            text=text,
            clip=clip,
            voice=plan.voice,
            fit=chosen,
            natural_s=natural_s,
            flags=(*flags_of(chosen, self._config.fitting.ordinary_rate), *([Flag.CUT] if is_cut else [])),
            error=None,
        )

    async def _plan_all(self, utterance: Utterance) -> list[Plan | ItemError | ReplicaLostError]:
        """A plan, or why there is none, per candidate. Raises an item's error if no candidate has a plan."""
        planned = await asyncio.gather(
            *(self._plan(utterance, candidate.text) for candidate in utterance.candidates), return_exceptions=True
        )
        for outcome in planned:
            if isinstance(outcome, BaseException) and not isinstance(outcome, ItemError | ReplicaLostError):
                raise outcome
        failures = [outcome for outcome in planned if isinstance(outcome, ItemError | ReplicaLostError)]
        if len(failures) == len(planned):
            raise failures[0]
        return [outcome for outcome in planned if isinstance(outcome, Plan | ItemError | ReplicaLostError)]

    def _due_s(self, utterance: Utterance) -> float:
        return self._progress.due_s(utterance.segment.start_s)

    async def _plan(self, utterance: Utterance, text: str) -> Plan:
        request = PlanRequest(text=text, language=utterance.target, voice=self._voice, reference=utterance.reference)
        plan: Plan = await self._pool.submit(request, order=self._due_s(utterance))
        if utterance.voice not in (None, plan.voice) and utterance.reference is None:
            request = dataclasses.replace(request, voice=utterance.voice)
            plan = await self._pool.submit(request, order=self._due_s(utterance))
        return plan

    def _fit(self, plans: Sequence[Plan], utterance: Utterance) -> Fit:
        lengths = [
            PlannedLength(natural_s=plan.natural_s, shortest_s=plan.shortest_s, exact=plan.exact) for plan in plans
        ]
        return fit(lengths, utterance.slot, utterance.room_end_s, self._config.fitting)

    def _fit_as_spoken(self, clip: Clip, utterance: Utterance) -> Fit:
        """The fit of a line whose length is known only now; past the highest rate its end is cut off."""
        length = PlannedLength(natural_s=clip.duration_s, shortest_s=clip.duration_s, exact=False)
        found = fit([length], utterance.slot, utterance.room_end_s, self._config.fitting)
        if found.rung is not Rung.CUT:
            return found
        max_rate = self._config.fitting.max_rate
        return dataclasses.replace(found, spoken_s=found.duration_s * max_rate, rate=max_rate)

    async def _cut(self, utterance: Utterance, text: str) -> tuple[Plan, str, Fit]:
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
            plan = await self._plan(utterance, prefix)
            attempt = self._fit([plan], utterance)
            if attempt.rung is Rung.CUT:
                most = num_words - 1
            else:
                found = plan, prefix, attempt
                fewest = num_words + 1
        if found is None:
            room_s = utterance.room_end_s - utterance.slot.start_s
            raise ItemError(f"one word must fit {room_s:.2f} s; none of {text!r} does")
        return found


def _silent(utterance: Utterance, flags: tuple[Flag, ...], error: str | None) -> Spoken:
    return Spoken(
        utterance=utterance,
        text="",
        clip=None,
        voice=None,
        fit=None,
        natural_s=(None,) * len(utterance.candidates),
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
        stretch = python_stretch.Signalsmith.Stretch(0)  # seeded: the same clip gives the same samples
        stretch.preset(1, clip.sample_hz)
        stretch.setTimeFactor(chosen.stretch)
        # A copy: arrays that come through Ray are read-only, which the library refuses.
        channels: npt.NDArray[np.float32] = np.asarray(stretch.process(np.array(samples[None, :])), dtype=np.float32)
        samples = channels[0]
    return Clip(samples=samples[: math.ceil(chosen.duration_s * clip.sample_hz)], sample_hz=clip.sample_hz)
