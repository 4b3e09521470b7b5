"""The steps of the pipeline that call models: each takes one item and gives what the next step needs.

A failed item never fails its video: what cannot be translated or spoken keeps its original audio,
and is flagged.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import python_stretch

from actors import languages
from actors.errors import ConfigError, ItemError, ReplicaLostError
from actors.types import (
    ASR_HZ,
    Candidate,
    Clip,
    Plan,
    PlanRequest,
    Reference,
    Samples,
    Segment,
    Span,
    SynthesiseRequest,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
    Unit,
    Window,
)
from cluster.alignment import split_translation
from cluster.config import Config
from cluster.fitting import Fit, PlannedLength, Rung, fit
from cluster.grouping import Grouper, segments_of
from cluster.logs import log_context
from cluster.loudness import SpeechLoudness
from cluster.manifest import Flag, flags_of
from cluster.pool import Pool
from cluster.pools import check_languages
from cluster.progress import Progress, Stage
from cluster.streams import closing

log = logging.getLogger(__name__)

SPEAKER = "speaker0"
"""Everybody, until speakers are told apart."""

SURE_OF_LANGUAGE = 0.6
"""Probability from which one window decides. Whisper-base gives 0.9 and more on a sentence, 0.2 on one word."""

CLOSING = set(".!?…:;,。！？、，؟।\"'”’»)]}-—–")
"""A text that ends in one of these is left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardUnit:
    """A unit, and how loud its speaker has been up to its end."""

    unit: Unit
    source_lufs: float | None
    reference: Reference | None = None
    """The speaker's voice, where it is to be cloned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One line of one target language, with the time it may use. Ids read pt:u0012, or pt:u0012-1 in a longer unit."""

    id: str
    unit_id: str
    segment: Segment
    target: str
    room_end_s: float
    source_lufs: float | None
    reference: Reference | None
    candidates: tuple[Candidate, ...]
    """Best first; none if there is nothing to say."""
    flags: tuple[Flag, ...]
    error: str | None

    @property
    def slot(self) -> Span:
        return Span(start_s=self.segment.start_s, end_s=min(self.segment.end_s, self.room_end_s))


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


class Listener:
    """Transcribes windows; where no language is given, the first that are heard decide for all.

    A window that leaves the language in doubt (one word, some music) does not decide alone: it waits
    for those behind it, and is transcribed again if they know better.
    """

    def __init__(
        self, config: Config, pool: Pool, language: str | None, targets: tuple[str, ...], progress: Progress
    ) -> None:
        self._config = config
        self._pool = pool
        self._targets = targets
        self._progress = progress
        self._voting = asyncio.Lock()
        self._decided = asyncio.Event()
        self._failure: Exception | None = None
        self._votes: list[Transcript] = []
        self._num_since_first_vote = 0
        self.language = language
        self.language_probability: float | None = None
        self.num_failed = 0
        """Windows that could not be transcribed, and keep their original sound."""

    async def watch(self, windows: AsyncIterator[Window]) -> AsyncIterator[Window]:
        """The same windows; should their source fail, none waits any longer for those behind it."""
        try:
            async with closing(windows):
                async for window in windows:
                    yield window
        except Exception as error:
            self._fail(error)
            raise

    async def transcribe(self, window: Window) -> tuple[Window, Transcript]:
        """Raises ConfigError if the detected language is not one the other engines can work on."""
        transcript = None
        if self.language is None:
            async with self._voting:  # windows come in order, and vote in order
                if self.language is None:
                    transcript = await self._hear_and_vote(window)
            if transcript is None or transcript.segments:
                await self._decided.wait()
            if self._failure is not None:
                raise self._failure
        if transcript is None or (transcript.segments and transcript.language != self.language):
            transcript = await self._submit(window)
        self._progress.advance(Stage.TRANSCRIBE, window.end_s)
        return window, transcript

    async def _hear_and_vote(self, window: Window) -> Transcript:
        try:
            transcript = await self._submit(window)
            self._vote(transcript, is_last=window.next_speech_s is None)
        except Exception as error:
            self._fail(error)
            raise
        return transcript

    def _fail(self, error: Exception) -> None:
        # Results are taken in order: a window before this one that waited on would hide the error for ever.
        self._failure = error
        self._decided.set()

    def _vote(self, transcript: Transcript, *, is_last: bool) -> None:
        if transcript.segments:
            self._votes.append(transcript)
        if not self._votes:
            return
        self._num_since_first_vote += 1
        best = max(self._votes, key=lambda vote: vote.language_probability)
        # As many windows as may be under way: while the first waits for a decision, no more will come.
        is_full = self._num_since_first_vote == self._config.pipeline.max_windows
        if best.language_probability >= SURE_OF_LANGUAGE or is_full or is_last:
            self._check(best)
            self.language, self.language_probability = best.language, best.language_probability
            self._decided.set()

    def _check(self, transcript: Transcript) -> None:
        for target in self._targets:
            if languages.same(transcript.language, target):
                raise ConfigError(
                    f"--to must differ from the language spoken, which sounds like {transcript.language} (probability "
                    f"{transcript.language_probability:.2f}); found {target}; if that is wrong, give --from"
                )
        check_languages(self._config, transcript.language, self._targets)

    async def _submit(self, window: Window) -> Transcript:
        request = TranscribeRequest(samples=window.samples, language=self.language)
        try:
            transcript: Transcript = await self._pool.submit(request, order=self._progress.due_s(window.start_s))
        except (ItemError, ReplicaLostError) as error:
            self.num_failed += 1
            with log_context(stage=self._pool.name):
                log.warning(
                    "window not transcribed index=%d start_s=%.2f error=%s", window.index, window.start_s, error
                )
            return Transcript(language=self.language or "und", language_probability=0.0, segments=())
        return transcript


async def group_units(
    heard: AsyncIterator[tuple[Window, Transcript]], config: Config, media_end_s: float
) -> AsyncIterator[HeardUnit]:
    """Units in order, each as soon as its sentence has ended."""
    grouper = Grouper(config.grouping, media_end_s)
    loudness = SpeechLoudness(ASR_HZ)
    voice = ReferenceVoice(config.speech.clone_reference_s) if config.speech.clone else None
    async with closing(heard):
        async for window, transcript in heard:
            for span in window.speech:
                loudness.feed(_samples_of(window, span))
                if voice is not None:
                    voice.hear(_samples_of(window, span))
            segments = segments_of(window, transcript, SPEAKER, config.grouping)
            starts: list[float | None] = [*(segment.start_s for segment in segments[1:]), window.next_speech_s]
            for segment, next_start_s in zip(segments, starts, strict=False):
                for unit in grouper.push(segment, next_start_s):
                    yield HeardUnit(
                        unit=unit, source_lufs=loudness.lufs(), reference=None if voice is None else voice.reference()
                    )
    for unit in grouper.flush():
        yield HeardUnit(unit=unit, source_lufs=loudness.lufs(), reference=None if voice is None else voice.reference())


class ReferenceVoice:
    """A speaker's first seconds of speech, to clone the voice from; fixed once they are long enough."""

    def __init__(self, wanted_s: float) -> None:
        self._wanted_samples = round(wanted_s * ASR_HZ)
        self._heard = np.zeros(0, np.float32)
        self._reference: Reference | None = None

    def hear(self, samples: Samples) -> None:
        missing = self._wanted_samples - len(self._heard)
        if missing > 0:
            self._heard = np.concatenate((self._heard, samples[:missing]))
            self._reference = None

    def reference(self) -> Reference | None:
        """None until anything was heard."""
        if self._reference is None and len(self._heard):
            key = hashlib.sha256(self._heard.tobytes()).hexdigest()
            self._reference = Reference(samples=self._heard, sample_hz=ASR_HZ, key=key)
        return self._reference


def _samples_of(window: Window, span: Span) -> Samples:
    first, end = (max(0, round((edge_s - window.start_s) * ASR_HZ)) for edge_s in (span.start_s, span.end_s))
    return window.samples[first:end]


def as_sentence(text: str) -> str:
    """With a capital and a full stop, which translators are trained on: without, "banana" becomes "a banana"."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in CLOSING else ".")


class Translator:
    """Translates units into one language and gives each of their segments its share."""

    def __init__(self, config: Config, pool: Pool, target: str, progress: Progress) -> None:
        self._config = config
        self._pool = pool
        self._target = target
        self._progress = progress

    async def translate(self, heard: HeardUnit) -> list[Utterance]:
        unit = heard.unit
        request = TranslateRequest(
            text=as_sentence(unit.text),
            source_language=unit.language,
            target_language=self._target,
            num_candidates=self._config.translation.num_candidates,
        )
        due_s = self._progress.due_s(unit.segments[0].start_s)
        try:
            translation: Translation = await self._pool.submit(request, order=due_s)
            utterances = self._share_out(heard, translation.candidates)
        except (ItemError, ReplicaLostError) as error:
            utterances = self._share_out(heard, (), flag=Flag.TRANSLATION_FAILED, error=error.message)
        self._progress.advance(Stage.TRANSLATE, unit.segments[-1].end_s, self._target)
        return utterances

    def _share_out(
        self, heard: HeardUnit, candidates: Sequence[Candidate], flag: Flag = Flag.EMPTY, error: str | None = None
    ) -> list[Utterance]:
        segments = heard.unit.segments
        source = [segment.text for segment in segments]
        spans = [split_translation(source, candidate.text, self._config.alignment) for candidate in candidates]
        ends = [*(segment.start_s for segment in segments[1:]), heard.unit.room_end_s]
        utterances = []
        for index, (segment, room_end_s) in enumerate(zip(segments, ends, strict=True)):
            texts = [
                Candidate(text=shares[index].text, score=candidate.score)
                for candidate, shares in zip(candidates, spans, strict=True)
                if shares[index].text.strip()
            ]
            utterances.append(
                Utterance(
                    id=f"{self._target}:{heard.unit.id}" + (f"-{index}" if len(segments) > 1 else ""),
                    unit_id=heard.unit.id,
                    segment=segment,
                    target=self._target,
                    room_end_s=room_end_s,
                    source_lufs=heard.source_lufs,
                    reference=heard.reference,
                    candidates=tuple(texts),
                    flags=() if texts else (flag,),
                    error=error,
                )
            )
        return utterances


class Speaker:
    """Speaks utterances of one language, each fitted to its time before anything expensive runs."""

    def __init__(self, config: Config, pool: Pool, target: str, progress: Progress) -> None:
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
