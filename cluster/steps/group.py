"""Groups transcripts into units to translate, each with its speaker's loudness, pitch and voice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from actors.types import ASR_HZ, Reference, Segment, Span, Unit
from cluster.audio.loudness import SpeechLoudness
from cluster.audio.reference import ReferenceVoice, samples_of
from cluster.config.schema import Config
from cluster.speakers.prints import Print
from cluster.steps.records import HeardUnit, HeardWindow, SpokenWindow
from cluster.streams import closing
from cluster.timing.grouping import Grouper, segments_of


async def heard_segments(
    heard: AsyncIterator[HeardWindow], config: Config
) -> AsyncIterator[tuple[SpokenWindow, list[Segment]]]:
    """Each window with its transcript's segments, on the media timeline."""
    async with closing(heard):
        async for each in heard:
            yield each.spoken, segments_of(each.spoken.window, each.transcript, each.spoken.turns, config.grouping)


async def group_units(
    heard: AsyncIterator[tuple[SpokenWindow, list[Segment]]], config: Config, media_end_s: float
) -> AsyncIterator[HeardUnit]:
    """Units in order, each as soon as its sentence has ended."""
    grouper = Grouper(config.grouping, media_end_s)
    speakers = _Speakers(config)
    async with closing(heard):
        async for spoken, segments in heard:
            window = spoken.window
            speakers.hear(spoken)
            starts: list[float | None] = [*(segment.start_s for segment in segments[1:]), window.next_speech_s]
            units = [
                unit
                for segment, next_start_s in zip(segments, starts, strict=False)
                for unit in grouper.push(segment, next_start_s)
            ]
            if window.next_speech_s is not None:
                units += grouper.wait(window.next_speech_s + config.windows.max_s)
            for unit in units:
                yield speakers.described(unit)
    for unit in grouper.flush():
        yield speakers.described(unit)


@dataclass(slots=True, eq=False)
class _Speakers:
    """Loudness, voice and pitch of each speaker, as far as heard."""

    config: Config
    loudness: dict[str, SpeechLoudness] = field(default_factory=dict)
    voices: dict[str, ReferenceVoice] = field(default_factory=dict)
    pitches_hz: Mapping[str, float] = field(default_factory=dict)
    prints: Mapping[str, Print] = field(default_factory=dict)

    def hear(self, spoken: SpokenWindow) -> None:
        self.pitches_hz = spoken.pitches_hz
        self.prints = spoken.prints
        for turn in spoken.turns:
            samples = samples_of(spoken.window, Span(start_s=turn.start_s, end_s=turn.end_s))
            self.loudness.setdefault(turn.speaker, SpeechLoudness(ASR_HZ)).feed(samples)
            if self.config.speech.clone:
                wanted_s = self.config.speech.clone_reference_s
                self.voices.setdefault(turn.speaker, ReferenceVoice(wanted_s)).hear(samples)

    def described(self, unit: Unit) -> HeardUnit:
        loudness, voice = self.loudness.get(unit.speaker), self.voices.get(unit.speaker)
        reference: Reference | None = None if voice is None else voice.reference()
        return HeardUnit(
            unit=unit,
            source_lufs=None if loudness is None else loudness.lufs(),
            pitch_hz=self.pitches_hz.get(unit.speaker),
            reference=reference,
            print=self.prints.get(unit.speaker),
        )
