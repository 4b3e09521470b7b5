"""What is said, taken from a manifest that a person may have edited: nothing is heard or translated again.

Of an utterance, ``text``, ``voice``, ``slot_start_s``, ``slot_end_s`` and ``room_end_s`` are what it is spoken by;
everything else in its record says what came of it. What is as it was has a result in the store.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from actors.engine import make_engine
from actors.errors import ConfigError
from actors.types import Candidate, Reference, Segment, Unit, Window, Word
from cluster.caching import fresh
from cluster.config import Config
from cluster.grouping import SPEECH_TOLERANCE_S
from cluster.listening import SPEAKER, HeardUnit, ReferenceVoice, samples_of
from cluster.manifest import SCHEMA_VERSION, DubRecord, Flag, Manifest, SegmentRecord, UtteranceRecord
from cluster.pools import speech_stage
from cluster.progress import Progress, Stage
from cluster.streams import closing
from cluster.translating import Utterance

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A manifest in the place of a Listener and of Translators."""

    manifest: Manifest
    only: frozenset[str] = frozenset()
    """Utterances to be spoken afresh, though what they said is stored."""

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
    def damaged(self) -> bool:
        return Flag.DAMAGED in self.manifest.flags

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(dub.language for dub in self.manifest.dubs)

    async def units(
        self, windows: AsyncIterator[Window], config: Config, progress: Progress
    ) -> AsyncIterator[HeardUnit]:
        """As they were heard. ``windows`` are only listened to for a voice to be cloned."""
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

    async def utterances(
        self, heard: AsyncIterator[HeardUnit], target: str, progress: Progress
    ) -> AsyncIterator[Utterance]:
        """The lines of ``target``; none has room where the next was moved to."""
        reference = None
        async with closing(heard):
            async for unit in heard:
                reference = unit.reference
        [dub] = [dub for dub in self.manifest.dubs if dub.language == target]
        segments = {record.id: record for record in self.manifest.segments}
        ends_s = [*(following.slot_start_s for following in dub.utterances[1:]), self.manifest.input.duration_s]
        for record, end_s in zip(dub.utterances, ends_s, strict=True):
            # What was heard begins up to so much before the voice was detected, and leaves the line before it its room.
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
            flags=() if candidates else _why_silent(record),
            error=None if candidates else record.error,
            voice=record.voice,
        )

    # --- what an edit must keep to

    def check(self, config: Config) -> None:
        """Raise ConfigError, naming the field, if what was edited cannot be dubbed."""
        if self.manifest.schema_version != SCHEMA_VERSION:
            raise ConfigError(
                f"schema_version of the manifest must be {SCHEMA_VERSION}; found {self.manifest.schema_version}; "
                "dub the input anew"
            )
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


def read_given(path: Path, only: Collection[str] = ()) -> Given:
    """Raises ConfigError, naming the field, if it is not a manifest."""
    try:
        content = path.read_bytes()
        return Given(manifest=Manifest.model_validate_json(content), only=frozenset(only))
    except OSError as error:
        raise ConfigError(f"a manifest must be readable; {path}: {error.strerror or error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(_named(json.loads(content) if problem["loc"] else None, problem["loc"]))
        found = f"; found {problem['input']!r}" if problem["loc"] and not isinstance(problem["input"], dict) else ""
        raise ConfigError(f"{path} must be a manifest; {where}: {problem['msg']}{found}") from error


def afresh(
    speak: Callable[[T], Awaitable[R]], ids: Collection[str], id_of: Callable[[T], str]
) -> Callable[[T], Awaitable[R]]:
    """``speak``, but what lines of these utterances ask for is computed though it is stored."""

    async def spoken(line: T) -> R:
        with fresh() if id_of(line) in ids else contextlib.nullcontext():
            return await speak(line)

    return spoken


def _named(tree: Any, location: Sequence[int | str]) -> Iterator[str]:
    """A field's place, with an element's id where it has one: dubs.pt.utterances.pt:u0012.text."""
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
    stage = speech_stage(config, dub.language)
    engine = make_engine("speech", stage.engine, stage.options)
    # Engines that clone, and models that are not here, cannot say which voices they have.
    known = [voice.name for voice in getattr(engine, "voices", ())] if engine.weights_id() is not None else []
    for line in dub.utterances:
        if known and line.voice is not None and line.voice not in known:
            raise ConfigError(
                f"voice of {line.id} must be one of {stage.engine}'s {', '.join(known)}; found {line.voice!r}"
            )


def _candidates(record: UtteranceRecord) -> tuple[Candidate, ...]:
    """What may be said: the text alone, so that a choice once made is kept; all, if none of them could be said."""
    recorded = [Candidate(text=each.text, score=each.score) for each in record.candidates]
    if not record.text.strip():
        return tuple(recorded) if {Flag.NO_ROOM, Flag.SPEECH_FAILED} & set(record.flags) else ()
    whole = [each for each in recorded if each.text == record.text]
    if not whole and Flag.CUT in record.flags:
        # Its first words were all there was time for: that is found again.
        whole = [each for each in recorded if each.text.startswith(record.text)]
    return (whole[0] if whole else Candidate(text=record.text, score=None),)


def _why_silent(record: UtteranceRecord) -> tuple[Flag, ...]:
    return (Flag.TRANSLATION_FAILED,) if Flag.TRANSLATION_FAILED in record.flags else (Flag.EMPTY,)


def _segment(record: SegmentRecord) -> Segment:
    return Segment(
        id=record.id,
        start_s=record.start_s,
        end_s=record.end_s,
        text=record.text,
        language=record.language,
        speaker=record.speaker or SPEAKER,
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
