"""ElevenLabs' speech-to-text, as its clients call it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, UploadFile
from pydantic import BaseModel, Field

from actors import languages
from actors.errors import ItemError
from actors.types import Word
from serve.api.dependencies import MULTIPART, SECURITY, InferenceDep, note_ignored, once_each
from serve.api.elevenlabs_v1 import elevenlabs_error
from serve.api.elevenlabs_voices import RECORDING_MODELS
from serve.api.intake import UploadRoute
from serve.api.openai_recordings import Recording, spoken_language
from serve.api.problems import ImitatedRouter, documented
from serve.inference.inference import HeardSegment

PREFIX = "/v1/speech-to-text"
SPEAKER = "speaker_0"
"""The id of every word's speaker: speakers are not told apart."""
Granularity = Literal["none", "word", "character"]


class SpeechToTextForm(BaseModel):
    """Fields that are not listed here have no effect, and are named in the header ``Warning``."""

    model_id: str = Field(max_length=256)
    file: UploadFile | None = None
    language_code: str | None = Field(default=None, max_length=35)
    timestamps_granularity: Granularity = "word"
    keyterms: list[Annotated[str, Field(max_length=200)]] = Field(default=[], max_length=100)
    tag_audio_events: bool = Field(default=True, description="Ignored: no sounds but words are found.")
    file_format: str = Field(default="other", max_length=64)
    cloud_storage_url: str | None = Field(default=None, max_length=4000)
    source_url: str | None = Field(default=None, max_length=4000)
    webhook: bool = False
    use_multi_channel: bool = False
    additional_formats: str | None = Field(default=None, max_length=4000)
    entity_detection: str | None = Field(default=None, max_length=4000)
    entity_redaction: str | None = Field(default=None, max_length=4000)

    def refused(self) -> list[str]:
        """Names of the fields that ask for something that is not possible here."""
        asks = {
            "cloud_storage_url": bool(self.cloud_storage_url),
            "source_url": bool(self.source_url),
            "webhook": self.webhook,
            "use_multi_channel": self.use_multi_channel,
            "additional_formats": self.additional_formats not in (None, "", "[]", "null"),
            "entity_detection": self.entity_detection not in (None, "", "null"),
            "entity_redaction": self.entity_redaction not in (None, "", "null"),
            "file_format": self.file_format != "other",
        }
        return [field for field, asked in asks.items() if asked]


router = ImitatedRouter(error_paths=(PREFIX,), error_body=elevenlabs_error)
upload_router = APIRouter(prefix=PREFIX, tags=["ElevenLabs speech"], dependencies=SECURITY, route_class=UploadRoute)


@upload_router.post("", responses=documented(), dependencies=[Depends(once_each(SpeechToTextForm, "keyterms"))])
async def convert(
    request: Request, inference: InferenceDep, form: Annotated[SpeechToTextForm, MULTIPART]
) -> dict[str, Any]:
    """Transcribe a recording, with the times of words."""
    if refused := form.refused():
        raise ItemError(
            f"a recording must be sent as a file and transcribed whole; {', '.join(refused)} cannot be given"
        )
    if form.file is None:
        raise ItemError("a recording must be given as file; found none")
    if form.model_id not in RECORDING_MODELS:
        note_ignored(request, "model_id")
    recording = Recording(
        request,
        inference,
        form.file,
        language=spoken_language(form.language_code),
        prompt=", ".join(form.keyterms)[:1000],
    )
    segments = [segment async for segment in recording.segments()]
    words = [word for segment in segments for word in segment.words]
    return {
        "language_code": languages.iso639_2(segments[0].language) if segments else "und",
        "language_probability": round(segments[0].language_probability, 4) if segments else 0.0,
        "text": " ".join(segment.text for segment in segments),
        "words": _words(segments, words, form.timestamps_granularity),
        "audio_duration_secs": round(recording.duration_s, 3),
    }


def _words(segments: Sequence[HeardSegment], words: Sequence[Word], granularity: Granularity) -> list[dict[str, Any]]:
    """The words, and the space between each two. Engines without words give segments instead."""
    heard = words or [
        Word(text=segment.text, start_s=segment.start_s, end_s=segment.end_s, probability=1.0) for segment in segments
    ]
    found: list[dict[str, Any]] = []
    for word, following in pairwise([*heard, None]):
        if word is None:
            break
        found.append(_word(word, granularity))
        if following is not None:
            space = Word(text=" ", start_s=word.end_s, end_s=max(word.end_s, following.start_s), probability=1.0)
            found.append(_word(space, granularity))
    return found


def _word(word: Word, granularity: Granularity) -> dict[str, Any]:
    text = word.text.strip()
    entry: dict[str, Any] = {
        "text": text or " ",
        "type": "word" if text else "spacing",
        "speaker_id": SPEAKER,
        "logprob": round(math.log(min(1.0, max(word.probability, 1e-6))), 4),
    }
    if granularity != "none":
        entry |= {"start": round(word.start_s, 3), "end": round(word.end_s, 3)}
    if granularity == "character":
        entry["characters"] = list(_characters(text or " ", word))
    return entry


def _characters(text: str, word: Word) -> Iterator[dict[str, Any]]:
    step_s = (word.end_s - word.start_s) / len(text)
    for number, character in enumerate(text):
        start_s = word.start_s + number * step_s
        yield {"text": character, "start": round(start_s, 3), "end": round(start_s + step_s, 3)}
