"""Takes a dub's speech and lines from a manifest that a person may have edited: nothing is heard or translated again.

An utterance is spoken by its ``text``, ``voice``, ``slot_start_s``, ``slot_end_s`` and ``room_end_s``; everything
else in its record is a result. Lines that were not edited find their audio in the store.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from actors import languages
from actors.engine import make_engine
from actors.errors import ConfigError
from actors.types import Candidate, Reference, Samples, Segment, Span, Unit, Window, Word
from cluster.audio.reference import ReferenceVoice, samples_of
from cluster.audio.windows import cut_windows
from cluster.casting.voices import check_line_voice, configured_stage
from cluster.config.load import brief, dotted
from cluster.config.schema import Config
from cluster.flags import DOUBTS, KEPT, Flag
from cluster.manifest import SCHEMA_VERSION, DubRecord, Manifest, SegmentRecord, UtteranceRecord
from cluster.pools.cached_pool import bypass_cache
from cluster.speakers.turns import ONLY_SPEAKER
from cluster.steps.progress import Progress, Stage
from cluster.steps.records import HeardUnit, HearingNotes, LanguageGuess, Spoken, Utterance
from cluster.steps.source import DubContext
from cluster.steps.speak import QueuedLine
from cluster.streams import closing, from_thread
from cluster.subtitles.records import GivenSubtitlesRecord
from cluster.timing.grouping import SPEECH_TOLERANCE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """A manifest in place of transcription and translation."""

    manifest: Manifest
    only: frozenset[str] = frozenset()
    """Ids of utterances to synthesise again, though their result is stored."""

    @property
    def language(self) -> str | None:
        return self.manifest.input.language

    @property
    def language_probability(self) -> float | None:
        return self.manifest.input.language_probability

    @property
    def num_failed(self) -> int:
        return int(Flag.TRANSCRIPTION_FAILED in self.manifest.flags)

    @property
    def notes(self) -> HearingNotes:
        heard, flags = self.manifest.input, self.manifest.flags
        return HearingNotes(
            guesses=tuple(
                LanguageGuess(language=guess.language, probability=guess.probability)
                for guess in heard.language_guesses
            ),
            is_uncertain=Flag.LANGUAGE_UNCERTAIN in flags,
            is_contradicted=Flag.LANGUAGE_CONTRADICTED in flags,
            not_transcribed=tuple(Span(start_s=span.start_s, end_s=span.end_s) for span in heard.not_transcribed),
        )

    @property
    def damaged(self) -> bool:
        return Flag.DAMAGED in self.manifest.flags

    @property
    def given_subtitles(self) -> tuple[GivenSubtitlesRecord, ...]:
        return self.manifest.given_subtitles

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(dub.language for dub in self.manifest.dubs)

    def units(self, audio: Iterator[Samples], context: DubContext) -> AsyncIterator[HeardUnit]:
        """The manifest's units. ``audio`` is only listened to for a voice to be cloned."""
        config = context.config
        windows = from_thread(cut_windows(audio, config.windows), config.pipeline.max_windows)
        return self.recorded_units(windows, config, context.progress)

    def lines(self, units: AsyncIterator[HeardUnit], target: str, context: DubContext) -> AsyncIterator[Utterance]:
        """The manifest's lines of ``target``."""
        return self.recorded_lines(units, target, context.progress)

    async def recorded_units(
        self, windows: AsyncIterator[Window], config: Config, progress: Progress
    ) -> AsyncIterator[HeardUnit]:
        """Units as they were heard, with the voice to be cloned if there is to be one."""
        async with closing(windows):
            reference = await _reference(windows, config.speech.clone_reference_s) if config.speech.clone else None
        segments = {record.id: _segment(record) for record in self.manifest.segments}
        for record in self.manifest.units:
            unit = Unit(
                id=record.id,
                segments=tuple(segments[segment_id] for segment_id in record.segment_ids),
                room_end_s=record.room_end_s,
            )
            progress.advance(Stage.TRANSCRIBE, unit.segments[-1].end_s)
            yield HeardUnit(unit=unit, source_lufs=None, reference=reference)

    async def recorded_lines(
        self, heard: AsyncIterator[HeardUnit], target: str, progress: Progress
    ) -> AsyncIterator[Utterance]:
        """The lines of ``target``; the room of each ends where the next one now begins."""
        reference = None
        async with closing(heard):
            async for unit in heard:
                reference = unit.reference
        [dub] = [dub for dub in self.manifest.dubs if dub.language == target]
        segments = {record.id: record for record in self.manifest.segments}
        ends_s = [*(following.slot_start_s for following in dub.utterances[1:]), self.manifest.input.duration_s]
        for record, end_s in zip(dub.utterances, ends_s, strict=True):
            # A word may begin up to so much before the voice was detected: that takes no room from the line before.
            room_end_s = record.room_end_s if record.room_end_s < end_s + SPEECH_TOLERANCE_S else end_s
            yield self._utterance(record, room_end_s, target, reference, segments)
            progress.advance(Stage.TRANSLATE, record.slot_end_s, target)

    def _utterance(
        self,
        record: UtteranceRecord,
        room_end_s: float,
        target: str,
        reference: Reference | None,
        segments: dict[str, SegmentRecord],
    ) -> Utterance:
        heard = segments.get(record.segment_id)
        candidates = _candidates(record)
        return Utterance(
            id=record.id,
            unit_id=record.unit_id,
            segment=Segment(
                id=record.segment_id,
                start_s=record.slot_start_s,
                end_s=record.slot_end_s,
                text=record.source_text,
                language=heard.language if heard is not None else self.language or "und",
                speaker=record.speaker,
                words=() if heard is None else _segment(heard).words,
                mean_log_probability=0.0 if heard is None else heard.mean_log_probability,
                no_speech_probability=0.0 if heard is None else heard.no_speech_probability,
            ),
            target=target,
            room_end_s=room_end_s,
            source_lufs=record.source_lufs,
            reference=reference,
            candidates=candidates,
            flags=(*_retimed(record), *(_doubts(record, candidates) if candidates else _why_silent(record))),
            error=None if candidates else record.error,
            voice=record.voice,
            doubt=record.doubt if _doubts(record, candidates) else None,
        )

    # --- what an edit must keep to

    def check(self, config: Config) -> None:
        """Raise ConfigError, naming the field, if what was edited cannot be dubbed.

        Raises EngineLoadError if a voice cannot be had on this node.
        """
        for tag in {*self.targets, *(segment.language for segment in self.manifest.segments)}:
            languages.normalise(tag)
        known = {segment.id for segment in self.manifest.segments}
        for unit in self.manifest.units:
            if not unit.segment_ids or not known.issuperset(unit.segment_ids):
                raise ConfigError(
                    f"segment_ids of unit {unit.id} must name segments of the manifest; found {unit.segment_ids}"
                )
        for dub in self.manifest.dubs:
            if dub.arm is not None or self.targets.count(dub.language) > 1:
                raise ConfigError(f"a manifest must have one dub for a language; found several for {dub.language}")
            _check_times(dub, self.manifest.input.duration_s)
            _check_voices(dub, config)
        ids = [line.id for dub in self.manifest.dubs for line in dub.utterances]
        for wanted in self.only.difference(ids):
            near = difflib.get_close_matches(wanted, ids, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--only must name utterances of the manifest; found {wanted!r}{hint}")


def read_manifest_source(path: Path, only: Collection[str] = ()) -> ManifestSource:
    """Raises ConfigError, naming the field, if it is not a manifest."""
    try:
        content = path.read_bytes()
        return ManifestSource(manifest=Manifest.model_validate_json(content), only=frozenset(only))
    except OSError as error:
        raise ConfigError(f"a manifest must be readable; {path}: {error.strerror or error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["loc"] == ("schema_version",):
            raise ConfigError(
                f"{path} must have a schema_version from 1 to {SCHEMA_VERSION}, which this version of raydub reads; "
                f"found {brief(problem['input'])}; use the version that wrote it, or dub the input anew"
            ) from error
        where = dotted(_named(json.loads(content) if problem["loc"] else None, problem["loc"]))
        is_value = problem["loc"] and not isinstance(problem["input"], dict)
        found = f"; found {brief(problem['input'])}" if is_value else ""
        raise ConfigError(f"{path} must be a manifest; {where}: {problem['msg']}{found}") from error


def bypass_cache_for(
    speak: Callable[[QueuedLine], Awaitable[Spoken]], ids: Collection[str]
) -> Callable[[QueuedLine], Awaitable[Spoken]]:
    """Wrap ``speak`` so that lines of these utterances are computed although their results are stored."""

    async def spoken(queued: QueuedLine) -> Spoken:
        with bypass_cache() if queued.line.utterance.id in ids else contextlib.nullcontext():
            return await speak(queued)

    return spoken


def _named(tree: Any, location: Sequence[int | str]) -> Iterator[str]:
    """The parts of a field's path, with ids in place of indices: dubs.pt.utterances.pt:u0012.text."""
    for part in location:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            tree = None
        own = tree.get("id", tree.get("language")) if isinstance(part, int) and isinstance(tree, dict) else None
        yield str(part if own is None else own)


def _check_times(dub: DubRecord, media_end_s: float) -> None:
    for line in dub.utterances:
        if not 0 <= line.slot_start_s <= line.slot_end_s <= line.room_end_s or line.slot_start_s >= media_end_s:
            raise ConfigError(
                f"times of {line.id} must be 0 ≤ slot_start_s ≤ slot_end_s ≤ room_end_s, and begin before the end at "
                f"{media_end_s:g} s; found {line.slot_start_s:g}, {line.slot_end_s:g}, {line.room_end_s:g}"
            )
    for line, following in pairwise(dub.utterances):
        if following.slot_start_s < line.slot_start_s:
            raise ConfigError(
                f"utterances must be in the order of their slot_start_s; found {following.id} at "
                f"{following.slot_start_s:g} s behind {line.id} at {line.slot_start_s:g} s; move its record, too"
            )


def _check_voices(dub: DubRecord, config: Config) -> None:
    voices = {line.voice: line.id for line in reversed(dub.utterances) if line.voice is not None}
    for voice, first in voices.items():
        check_line_voice(config, dub.language, voice, f"voice of {first}")
    stage = configured_stage(config, dub.language)
    engine = make_engine("speech", stage.engine, stage.options)
    for voice in voices:
        engine.settle(dub.language, voice)


def _candidates(record: UtteranceRecord) -> tuple[Candidate, ...]:
    """The texts that may be said: the recorded one, so that a choice is kept; all if none of them could be said."""
    recorded = [Candidate(text=each.text, score=each.score) for each in record.candidates]
    if not record.text.strip():
        return tuple(recorded) if {Flag.NO_ROOM, Flag.SPEECH_FAILED} & set(record.flags) else ()
    whole = [each for each in recorded if each.text == record.text]
    if not whole and Flag.CUT in record.flags:
        # Its first words were all there was time for: that is found again.
        whole = [each for each in recorded if each.text.startswith(record.text)]
    return (whole[0] if whole else Candidate(text=record.text, score=None),)


def _doubts(record: UtteranceRecord, candidates: Sequence[Candidate]) -> tuple[Flag, ...]:
    """The flags of its translation, unless a person has written another."""
    known = {each.text for each in record.candidates}
    is_edited = any(candidate.text not in known for candidate in candidates)
    return () if is_edited else tuple(flag for flag in record.flags if flag in DOUBTS)


def _retimed(record: UtteranceRecord) -> tuple[Flag, ...]:
    return (Flag.RETIMED,) if Flag.RETIMED in record.flags else ()


def _why_silent(record: UtteranceRecord) -> tuple[Flag, ...]:
    kept = tuple(flag for flag in record.flags if flag in KEPT)
    return kept or (Flag.EMPTY,)


def _segment(record: SegmentRecord) -> Segment:
    return Segment(
        id=record.id,
        start_s=record.start_s,
        end_s=record.end_s,
        text=record.text,
        language=record.language,
        speaker=record.speaker or ONLY_SPEAKER,
        words=tuple(
            Word(text=word.text, start_s=word.start_s, end_s=word.end_s, probability=word.probability)
            for word in record.words
        ),
        mean_log_probability=record.mean_log_probability,
        no_speech_probability=record.no_speech_probability,
    )


async def _reference(windows: AsyncIterator[Window], wanted_s: float) -> Reference | None:
    """The voice as it is known once enough of it was heard; the first lines of a dub had less of it."""
    voice = ReferenceVoice(wanted_s)
    async for window in windows:
        for span in window.speech:
            voice.hear(samples_of(window, span))
        if voice.is_whole:
            break
    return voice.reference()
