"""Makes a talk to dub: two voices, slides, quiet music, and its exact script in a file beside it.

Everything is made here, by the speech engines of the base install, so that a first run needs no
download, and so that tests and benches know each sentence and its time.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from actors.engine import Engine, make_engine
from actors.errors import ConfigError
from actors.types import Clip, ItemFailure, PlanRequest, SynthesiseRequest
from cluster.audio.config import MixConfig
from cluster.audio.limiter import RATE_HZ, Block
from cluster.audio.loudness import SpeechLoudness
from cluster.audio.mixer import Mixer, PlacedClip, Placement, mix_track
from cluster.demo.script import CHAPTERS, OPENING, SPEAKERS, Chapter
from cluster.demo.slides import Slide, TalkWriter

LANGUAGE = "en"
MIN_DURATION_S = 10.0
ENGINES = ("hibari", "piper")
"""One per speaker: a woman's voice and a man's, told apart by the ear and by a machine."""
SPEECH_LUFS = -20.0
PAUSES_S = (0.25, 0.9)
CHAPTER_PAUSE_S = 1.2
LEAD_IN_S = 0.5
LEAD_OUT_S = 0.5
MUSIC_DB = -38.0
ROOM_DB = -52.0
LOOP_S = 32
"""The music repeats after four chords of 8 s."""
CHORDS_HZ = (
    (130.8, 196.0, 261.6, 329.6),
    (110.0, 164.8, 220.0, 261.6),
    (87.3, 174.6, 220.0, 261.6),
    (98.0, 196.0, 246.9, 293.7),
)
"""C, A minor, F, G."""


class SpokenSentence(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    speaker: str
    chapter: str
    start_s: float
    end_s: float


class Script(BaseModel):
    """The sentences of a talk, with their times."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: str = LANGUAGE
    duration_s: float
    seed: int
    sentences: tuple[SpokenSentence, ...]


def make_talk(out: Path, duration_s: float = 60.0, seed: int = 0) -> Script:
    """Write a talk of exactly this length to ``out`` (MP4), and its script to a JSON file of the same name.

    Memory does not grow with the duration: each sentence of the script is spoken once, the rest streams.
    The same duration and seed give the same talk. Raises ConfigError for a duration under
    ``MIN_DURATION_S``, EngineLoadError if a voice is missing.
    """
    if not duration_s >= MIN_DURATION_S:
        raise ConfigError(f"the talk must last at least {MIN_DURATION_S:.0f} s; found {duration_s}; ask for more")
    out.parent.mkdir(parents=True, exist_ok=True)
    spoken: list[SpokenSentence] = []
    slides: deque[tuple[float, Slide]] = deque([(0.0, Slide.of(OPENING, speaker=None, progress=0.0))])
    with Voices() as voices, TalkWriter(out) as writer:

        def placements() -> Iterator[Placement]:
            for line, sentence, clip in perform(duration_s, seed, voices):
                spoken.append(sentence)
                slides.append((sentence.start_s, Slide.of(line.chapter, line.speaker, line.progress)))
                yield Placement(clips=(clip,), horizon_s=sentence.end_s)
            yield Placement(clips=(), horizon_s=math.inf)

        mixer = Mixer(MixConfig(duck_db=0.0), num_channels=2)
        for block in mix_track(mixer, music(round(duration_s * RATE_HZ)), placements()):
            writer.write(block, slides)
    script = Script(duration_s=duration_s, seed=seed, sentences=tuple(spoken))
    out.with_suffix(".json").write_text(script.model_dump_json(indent=1), encoding="utf-8")
    return script


# --- speech


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenLine:
    text: str
    speaker: str
    chapter: Chapter
    progress: float
    """Share of the chapter up to this line: above 0, and 1 at the last line."""
    pause_s: float
    """Pause before the line."""


def lines(seed: int) -> Iterator[SpokenLine]:
    """An endless talk: all chapters as written, then again and again, each time in another order."""
    rng = random.Random(seed)  # noqa: S311 - a talk, not a secret
    round_of_chapters = [OPENING, *CHAPTERS]
    while True:
        for chapter in round_of_chapters:
            for index, text in enumerate(chapter.sentences):
                yield SpokenLine(
                    text=text,
                    speaker=SPEAKERS[index % len(SPEAKERS)],
                    chapter=chapter,
                    progress=(index + 1) / len(chapter.sentences),
                    pause_s=rng.uniform(*PAUSES_S) if index else CHAPTER_PAUSE_S,
                )
        last = round_of_chapters[-1]
        round_of_chapters = rng.sample(CHAPTERS, len(CHAPTERS))
        if round_of_chapters[0] is last:
            round_of_chapters.reverse()


def perform(duration_s: float, seed: int, voices: Voices) -> Iterator[tuple[SpokenLine, SpokenSentence, PlacedClip]]:
    """The spoken lines, with their clips, up to the last one that ends in time."""
    end_s = LEAD_IN_S - CHAPTER_PAUSE_S
    for index, line in enumerate(lines(seed)):
        clip, gain_db = voices.speak(line.speaker, line.text)
        start_s = end_s + line.pause_s
        end_s = start_s + clip.duration_s
        if end_s > duration_s - LEAD_OUT_S:
            return
        sentence = SpokenSentence(
            text=line.text,
            speaker=line.speaker,
            chapter=line.chapter.title,
            start_s=round(start_s, 3),
            end_s=round(end_s, 3),
        )
        placed = PlacedClip(
            id=str(index), start_s=start_s, samples=clip.samples, sample_hz=clip.sample_hz, gain_db=gain_db
        )
        yield line, sentence, placed


class Voices:
    """The speakers' engines, with a cache of all clips: the script is finite, so the cache is, too."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine[Any, Any]] = {}
        self._clips: dict[tuple[str, str], tuple[Clip, float]] = {}

    def __enter__(self) -> Voices:
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self._engines.values():
            engine.close()

    def speak(self, speaker: str, text: str) -> tuple[Clip, float]:
        """A sentence and the gain (dB) that brings it to ``SPEECH_LUFS``."""
        key = (speaker, text)
        if key not in self._clips:
            engine = self._engine(speaker)
            plan = _only(engine, PlanRequest(text=text, language=LANGUAGE))
            clip = _only(engine, SynthesiseRequest(plan=plan, duration_s=plan.natural_s))
            loudness = SpeechLoudness(clip.sample_hz)
            loudness.feed(clip.samples)
            lufs = loudness.lufs()
            self._clips[key] = clip, 0.0 if lufs is None else SPEECH_LUFS - lufs
        return self._clips[key]

    def _engine(self, speaker: str) -> Engine[Any, Any]:
        if speaker not in self._engines:
            engine = make_engine("speech", ENGINES[SPEAKERS.index(speaker)], {})
            engine.check_packages()
            engine.load()
            self._engines[speaker] = engine
        return self._engines[speaker]


def _only(engine: Engine[Any, Any], request: PlanRequest | SynthesiseRequest) -> Any:
    (result,) = engine.run([request])
    if isinstance(result, ItemFailure):
        raise result.error
    return result


# --- background


def music(num_samples: int) -> Iterator[Block]:
    """Soft chords and room noise, which a dub must keep. Blocks of 1 s, ``num_samples`` in all."""
    loop = _chords() + _pink_noise()
    for start in range(0, num_samples, RATE_HZ):
        length = min(RATE_HZ, num_samples - start)
        yield loop[np.arange(start, start + length) % len(loop)]


def _chords() -> Block:
    """float32 (LOOP_S at RATE_HZ, 2), MUSIC_DB RMS, seamless: each tone has a whole number of cycles in the loop."""
    num_samples = LOOP_S * RATE_HZ
    time_s = np.arange(num_samples) / RATE_HZ
    chord_s = LOOP_S / len(CHORDS_HZ)
    loop = np.zeros((num_samples, 2))
    for index, chord_hz in enumerate(CHORDS_HZ):
        # Raised cosine over two chord lengths around its centre: neighbours cross-fade, the last into the first.
        distance_s = (time_s - (index + 0.5) * chord_s + LOOP_S / 2) % LOOP_S - LOOP_S / 2
        swell = np.where(np.abs(distance_s) < chord_s, 0.5 + 0.5 * np.cos(np.pi * distance_s / chord_s), 0.0)
        for voice, tone_hz in enumerate(chord_hz):
            for channel, detune_hz in enumerate((-0.1, 0.1)):
                cycles = round((tone_hz + detune_hz) * LOOP_S)
                phase = 2 * np.pi * cycles / LOOP_S * time_s + voice
                loop[:, channel] += swell * (np.sin(phase) + 0.2 * np.sin(2 * phase))
    return _at_level(loop, MUSIC_DB)


def _pink_noise() -> Block:
    """float32 (LOOP_S at RATE_HZ, 2), ROOM_DB RMS: periodic noise that falls by 3 dB an octave."""
    num_samples = LOOP_S * RATE_HZ
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal((num_samples, 2)), axis=0)
    frequency_hz = np.fft.rfftfreq(num_samples, 1 / RATE_HZ)
    spectrum /= np.sqrt(np.maximum(frequency_hz, 20.0))[:, None]
    spectrum[0] = 0.0
    return _at_level(np.fft.irfft(spectrum, num_samples, axis=0), ROOM_DB)


def _at_level(audio: npt.NDArray[np.float64], rms_db: float) -> Block:
    rms = math.sqrt(float(np.mean(np.square(audio))))
    return (audio * (10 ** (rms_db / 20) / rms)).astype(np.float32)
