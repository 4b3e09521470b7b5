"""What tests of whole dubs share: running one, and listening to what came out."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import jiwer

from actors.engine import make_engine
from actors.types import ASR_HZ, TranscribeRequest, Word
from cluster.audio.windows import cut_windows
from cluster.batch.runner import ItemOutcome, run
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.manifest import Manifest
from cluster.media.decode import decode_audio
from cluster.media.probe import MediaInfo, probe
from cluster.pipeline import Job
from cluster.pools.ray_session import ray_session

SHARED_MEDIA = Path(__file__).parents[3] / "shared" / "media"


async def dub_all(
    sources: list[Path],
    out: Path,
    *,
    to: str = "pt",
    source: str | None = "en",
    mode: str = "inline",
    settings: tuple[str, ...] = (),
) -> list[ItemOutcome]:
    config = load_config("offline", [f"ray.mode={mode}", "quality.check=none", *settings])
    jobs = [
        Job(source=path, targets=tuple(to.split(",")), source_language=source, audio_track=None, out=out / path.stem)
        for path in sources
    ]
    with ray_session(config):
        return await run(jobs, config, lambda progress: None, lambda outcome: None)


async def dub_one(path: Path, out: Path, **options: str | None) -> Manifest:
    [outcome] = await dub_all([path], out, **options)  # type: ignore[arg-type]
    assert outcome.manifest is not None, outcome.error
    return outcome.manifest


@dataclass(frozen=True)
class Heard:
    language: str
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return "".join(word.text for word in self.words)

    def times_of(self, text: str) -> list[float]:
        return [word.start_s for word in self.words if plain(word.text) == plain(text)]


def listen(path: Path, language: str, track: int = 0) -> Heard:
    """An audio track as whisper hears it, by the same windows as the pipeline's.

    ``Heard.language`` is what the surest window sounds like, whatever ``language`` it was transcribed in.
    """
    config: Config = load_config("offline")
    info: MediaInfo = probe(path)
    engine = make_engine("transcription", "faster_whisper", {"model": "base"})
    engine.load()
    words: list[Word] = []
    sounds_like = ("und", 0.0)
    for window in cut_windows(decode_audio(info, info.audio[track], hz=ASR_HZ, channels="mono"), config.windows):
        [guess, transcript] = engine.run(
            [TranscribeRequest(samples=window.samples, language=given) for given in (None, language)]
        )
        sounds_like = max(sounds_like, (guess.language, guess.language_probability), key=lambda guess: guess[1])
        words += [
            Word(
                text=word.text,
                start_s=window.start_s + word.start_s,
                end_s=window.start_s + word.end_s,
                probability=word.probability,
            )
            for segment in transcript.segments
            for word in segment.words
        ]
    engine.close()
    return Heard(language=sounds_like[0], words=tuple(words))


def plain(text: str) -> str:
    """Lower case, no punctuation, composed, single spaces."""
    text = re.sub(r"[^\w\s]", " ", unicodedata.normalize("NFC", text).lower())
    return " ".join(text.split())


def word_error_rate(reference: str, heard: str) -> float:
    return float(jiwer.wer(plain(reference), plain(heard)))


def spoken_text(manifest: Manifest, language: str) -> str:
    [dub] = [dub for dub in manifest.dubs if dub.language == language]
    return " ".join(utterance.text for utterance in dub.utterances)
