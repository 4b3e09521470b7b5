"""Talks in which people pause inside their sentences, so that one translation is shared out over several segments."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from actors.types import Samples
from cluster.demo import Voices
from cluster.demo_script import CHAPTERS, SPEAKERS
from cluster.encoding import ENCODE_HZ, AudioEncoder

INSIDE_S = (0.5, 0.8)
"""Pauses inside a sentence; a segment ends at ``grouping.phrase_pause_s``, 0.35 s."""
BETWEEN_S = (0.9, 1.3)
MIN_WORDS, MAX_WORDS = 4, 9
"""Of a phrase: none shorter is cut off, none longer is spoken in one breath if there is a place to pause."""
# People breathe before what begins a new thought, comma or not.
BREATH = re.compile(r"^(and|but|because|which|that|who|when|where|so|than|with|without|as|to|in|on|at|by|from|before)$")


def phrases(sentence: str) -> list[str]:
    """Divided where one would breathe, nearest the middle, and again while a part is long."""
    words = sentence.split()
    places = [at for at in range(MIN_WORDS, len(words) - MIN_WORDS + 1) if BREATH.match(words[at])]
    if len(words) <= MAX_WORDS or not places:
        return [sentence]
    at = min(places, key=lambda at: abs(at - len(words) / 2))
    return [*phrases(" ".join(words[:at])), *phrases(" ".join(words[at:]))]


Sentence = list[str]
"""Its phrases, with a pause between them."""


def talks(num_talks: int, num_sentences: int, texts: Path | None = None) -> list[tuple[str, list[Sentence]]]:
    """(speaker, sentences): pieces of the demo's chapters, or of ``texts``. Raises ValueError if there are fewer.

    ``texts`` has a JSON object a line: ``src``, words, and ``src_breaks``, indices of the first word after a pause.
    """
    chapters = [[phrases(text) for text in chapter.sentences] for chapter in CHAPTERS]
    sources = chapters if texts is None else [[_divided(json.loads(line)) for line in texts.open(encoding="utf-8")]]
    pieces = [
        source[at : at + num_sentences]
        for at in range(0, max(map(len, sources)), num_sentences)
        for source in sources
        if at + num_sentences <= len(source)
    ]
    if num_talks > len(pieces):
        raise ValueError(f"the texts must have {num_talks} × {num_sentences} sentences; they have {len(pieces)} pieces")
    return [(SPEAKERS[at % len(SPEAKERS)], piece) for at, piece in enumerate(pieces[:num_talks])]


def _divided(unit: Mapping[str, Any]) -> Sentence:
    bounds = [0, *unit["src_breaks"], len(unit["src"])]
    return [" ".join(unit["src"][first:end]) for first, end in itertools.pairwise(bounds)]


def make_hesitant_talk(path: Path, speaker: str, sentences: Sequence[Sentence], voices: Voices, seed: int) -> float:
    """Write it as MP4 audio; its length in seconds."""
    rng = random.Random(seed)
    with AudioEncoder(path, num_channels=1, bits_per_s=96_000) as encoder:
        for samples in _sound(speaker, sentences, voices, rng):
            encoder.write(samples[:, None])
        return encoder.duration_s


def _sound(speaker: str, sentences: Sequence[Sentence], voices: Voices, rng: random.Random) -> Iterator[Samples]:
    yield _silence(0.5)
    for sentence in sentences:
        for index, phrase in enumerate(sentence):
            if index:
                yield _silence(rng.uniform(*INSIDE_S))
            clip, gain_db = voices.speak(speaker, phrase)
            louder = np.float32(10 ** (gain_db / 20))
            yield (louder * soxr.resample(clip.samples, clip.sample_hz, ENCODE_HZ)).astype(np.float32)
        yield _silence(rng.uniform(*BETWEEN_S))


def _silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * ENCODE_HZ), np.float32)
