"""Talks in which people pause inside their sentences, so that one translation is shared out over several segments."""

from __future__ import annotations

import difflib
import itertools
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from actors.engine import make_engine
from actors.types import ASR_HZ, Samples, TranscribeRequest, Word
from cluster.demo.script import CHAPTERS, SPEAKERS
from cluster.demo.talk import Voices
from cluster.media.encode import ENCODE_HZ, AudioEncoder
from cluster.subtitles.layout import Cue, render

INSIDE_S = (0.5, 0.8)
"""Pauses inside a sentence; a segment ends at ``grouping.phrase_pause_s``, 0.35 s."""
BETWEEN_S = (0.9, 1.3)
MIN_WORDS, MAX_WORDS = 4, 9
"""Length of a phrase: none shorter is cut off, none longer is spoken in one breath if there is a place to pause."""
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


def make_hesitant_talk(path: Path, speaker: str, sentences: Sequence[Sentence], hall: Hall, seed: int) -> float:
    """Write it as MP4 audio, and beside it SubRip subtitles with a cue a phrase; its length in seconds."""
    rng = random.Random(seed)
    cues = []
    with AudioEncoder(path, num_channels=1, bits_per_s=96_000) as encoder:
        encoder.write(_silence(0.5))
        for sentence in sentences:
            for index, (text, samples) in enumerate(hall.speak(speaker, sentence)):
                if index:
                    encoder.write(_silence(rng.uniform(*INSIDE_S)))
                start_s = encoder.duration_s
                encoder.write(samples[:, None])
                cues.append(Cue(start_s=start_s, end_s=encoder.duration_s, text=text))
            encoder.write(_silence(rng.uniform(*BETWEEN_S)))
    path.with_suffix(".srt").write_text(render(cues, "srt"), encoding="utf-8")
    return encoder.duration_s


class Hall:
    """The voices, and an ear that finds the words in what they said."""

    def __init__(self) -> None:
        self._voices = Voices()
        self._ear = make_engine("transcription", "faster_whisper", {"model": "base"})
        self._ear.load()

    def __enter__(self) -> Hall:
        return self

    def __exit__(self, *_: object) -> None:
        self._ear.close()
        self._voices.__exit__()

    def speak(self, speaker: str, sentence: Sentence) -> list[tuple[str, Samples]]:
        """Each phrase and its sound at ``ENCODE_HZ``, cut out of the sentence, which is said in one go.

        So its melody goes on over a pause; said one by one, phrases end as sentences do. A cut that is not found is
        left out.
        """
        clip, gain_db = self._voices.speak(speaker, " ".join(sentence))
        louder = np.float32(10 ** (gain_db / 20))
        sound = (louder * soxr.resample(clip.samples, clip.sample_hz, ENCODE_HZ)).astype(np.float32)
        heard = soxr.resample(sound, ENCODE_HZ, ASR_HZ).astype(np.float32)
        [transcript] = self._ear.run([TranscribeRequest(samples=heard, language="en")])
        words = [word for segment in transcript.segments for word in segment.words]
        gaps = _gaps(sentence, words)
        cuts = [_quietest(sound, *gap) for gap in gaps.values()]
        texts = [" ".join(phrases) for phrases in _parts(sentence, gaps)]
        return list(zip(texts, np.split(sound, cuts), strict=True))


def _parts(sentence: Sentence, places: Iterable[int]) -> list[Sentence]:
    return [sentence[first:end] for first, end in itertools.pairwise([0, *places, len(sentence)])]


def _gaps(sentence: Sentence, heard: Sequence[Word]) -> dict[int, tuple[float, float]]:
    """Phrase → when the word before it ends and its first begins, of phrases where both were heard."""
    said = [_plain(word) for phrase in sentence for word in phrase.split()]
    found = difflib.SequenceMatcher(None, said, [_plain(word.text) for word in heard], autojunk=False)
    place = {a + at: b + at for a, b, size in found.get_matching_blocks() for at in range(size)}
    firsts = enumerate(itertools.accumulate(len(phrase.split()) for phrase in sentence[:-1]), start=1)
    return {
        phrase: (heard[place[first - 1]].end_s, heard[place[first]].start_s)
        for phrase, first in firsts
        if first - 1 in place and place.get(first) == place[first - 1] + 1
    }


def _plain(word: str) -> str:
    return re.sub(r"\W", "", word).lower()


def _quietest(sound: Samples, end_s: float, start_s: float) -> int:
    """The sample in or near a gap around which it is quietest, so that no word is cut into."""
    first, last = (round((time_s + margin_s) * ENCODE_HZ) for time_s, margin_s in ((end_s, -0.06), (start_s, 0.06)))
    first, last = max(0, min(first, last)), min(len(sound), max(first, last))
    width = round(0.01 * ENCODE_HZ)
    power = np.convolve(np.square(sound[first:last]), np.ones(width), mode="same")
    return first + int(np.argmin(power))


def _silence(seconds: float) -> Samples:
    return np.zeros((round(seconds * ENCODE_HZ), 1), np.float32)
