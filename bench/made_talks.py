"""Talks of several made voices that take turns, with the true turns, as RTTM has them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import soxr

from actors.engine import Engine
from actors.types import ASR_HZ, PlanRequest, Samples, Span, SpeakerTurn, SynthesiseRequest
from cluster.demo.script import CHAPTERS

PAUSES_S = (0.15, 0.9)
"""Between turns, and between sentences of one turn."""
MAX_SENTENCES = 3
"""In one turn."""
MAX_PAUSE_S = 0.5
"""A longer pause divides a turn, as those who annotate have it, even inside a sentence: whisperers make such pauses."""
SILENT_DB = -50.0
"""Level of a pause below the loudest part of its sentence. Made pauses are at -80 to -60 dB; noise is added later."""
FRAME_S = 0.02
GAINS_DB = (-6.0, 0.0)
NOISE_DB = -55.0
SENTENCES = tuple(text for chapter in CHAPTERS for text in chapter.sentences)


def make_talk(
    engine: Engine[Any, Any], voices: Sequence[str], language: str, duration_s: float, seed: int
) -> tuple[Samples, list[SpeakerTurn]]:
    """A talk at ``ASR_HZ`` in which the voices take turns at random, each with a loudness of its own."""
    rng = random.Random(seed)
    gains = {voice: 10 ** (rng.uniform(*GAINS_DB) / 20) for voice in voices}
    parts: list[Samples] = []
    turns: list[SpeakerTurn] = []
    now_s = 0.0
    for voice in _order(voices, rng):
        for _ in range(rng.randint(1, MAX_SENTENCES)):
            pause = np.zeros(round(rng.uniform(*PAUSES_S) * ASR_HZ), np.float32)
            spoken = _trimmed(_speak(engine, rng.choice(SENTENCES), voice, language)) * gains[voice]
            start_s = now_s + len(pause) / ASR_HZ
            now_s = start_s + len(spoken) / ASR_HZ
            parts += [pause, spoken]
            turns += [
                SpeakerTurn(speaker=voice, start_s=start_s + part.start_s, end_s=start_s + part.end_s)
                for part in audible(spoken)
            ]
        if now_s >= duration_s:
            break
    samples = np.concatenate(parts)
    noise = np.random.default_rng(seed).standard_normal(len(samples)).astype(np.float32)
    return samples + noise * np.float32(10 ** (NOISE_DB / 20)), turns


def audible(spoken: Samples) -> list[Span]:
    """The parts of a clip between its pauses of more than ``MAX_PAUSE_S``; the clip begins and ends with sound."""
    frame = round(FRAME_S * ASR_HZ)
    padded = np.pad(spoken, (0, -len(spoken) % frame)).reshape(-1, frame)
    power = np.mean(np.square(padded, dtype=np.float64), axis=1)
    loud = np.flatnonzero(power > np.max(power) * 10 ** (SILENT_DB / 10))
    edges = np.flatnonzero(np.diff(loud) * FRAME_S > MAX_PAUSE_S)
    starts, ends = [loud[0], *loud[edges + 1]], [*loud[edges], loud[-1]]
    length_s = len(spoken) / ASR_HZ
    return [
        Span(start_s=start * FRAME_S, end_s=min((end + 1) * FRAME_S, length_s))
        for start, end in zip(starts, ends, strict=True)
    ]


def _order(voices: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Each voice once, then any but the last one; the only one again and again."""
    yield from voices
    last = voices[-1]
    while True:
        last = rng.choice([voice for voice in voices if voice != last] or [last])
        yield last


def _speak(engine: Engine[Any, Any], text: str, voice: str, language: str) -> Samples:
    (plan,) = engine.run([PlanRequest(text=text, language=language, voice=voice)])
    (clip,) = engine.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s)])
    return np.asarray(soxr.resample(clip.samples, clip.sample_hz, ASR_HZ), np.float32)


def _trimmed(samples: Samples) -> Samples:
    """Without the silence at both ends, which is no part of the turn."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.max(np.abs(samples)))
    return samples[loud[0] : loud[-1] + 1]
