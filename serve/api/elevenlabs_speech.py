"""ElevenLabs' text-to-speech, with the times of characters, as its clients call it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, cast

from fastapi import Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from actors import languages
from actors.errors import ItemError
from actors.types import Samples
from cluster.streams import closing, started
from serve.api.dependencies import SECURITY, InferenceDep, note_ignored
from serve.api.elevenlabs_v1 import elevenlabs_error
from serve.api.elevenlabs_voices import SPEECH_MODELS, voice_languages
from serve.api.problems import ImitatedRouter, documented
from serve.api.responses import StreamedResponse
from serve.inference.audio_stream import FORMS, AudioFormat, StreamEncoder, TelephoneFormat, encode
from serve.inference.inference import DEFAULT_VOICE, Inference, SpokenPiece

OutputFormat = Literal[
    "mp3_22050_32",
    "mp3_24000_48",
    "mp3_44100_32",
    "mp3_44100_64",
    "mp3_44100_96",
    "mp3_44100_128",
    "mp3_44100_192",
    "opus_48000_32",
    "opus_48000_64",
    "opus_48000_96",
    "opus_48000_128",
    "opus_48000_192",
    "pcm_8000",
    "pcm_16000",
    "pcm_22050",
    "pcm_24000",
    "pcm_32000",
    "pcm_44100",
    "pcm_48000",
    "wav_8000",
    "wav_16000",
    "wav_22050",
    "wav_24000",
    "wav_32000",
    "wav_44100",
    "wav_48000",
    "ulaw_8000",
    "alaw_8000",
]
"""Codec, sample rate in Hz, and kbit/s."""
UNSET: tuple[object, ...] = (None, "", [], False, "auto")
"""Values of fields by which a client asks for nothing."""


class VoiceSettings(BaseModel):
    model_config = ConfigDict(extra="allow")

    speed: float | None = Field(default=None, ge=0.25, le=4.0)


class TextToSpeechBody(BaseModel):
    """Fields that are not listed here have no effect, and are named in the header ``Warning``."""

    model_config = ConfigDict(extra="allow")

    text: str
    model_id: str = Field(default=SPEECH_MODELS[0], max_length=256)
    language_code: str | None = Field(default=None, max_length=35)
    voice_settings: VoiceSettings | None = None
    pronunciation_dictionary_locators: list[Any] | None = None
    audio_effects: Any = None


router = ImitatedRouter(
    prefix="/v1/text-to-speech",
    tags=["ElevenLabs speech"],
    dependencies=SECURITY,
    error_paths=("/v1/text-to-speech",),
    error_body=elevenlabs_error,
)


class _Speaking:
    """A checked request for speech."""

    def __init__(self, request: Request, inference: Inference, voice_id: str, body: TextToSpeechBody) -> None:
        self._inference = inference
        self.encoding = inference.encoding
        self._voice_id = voice_id
        self._body = body
        self._form, hz, kbit_per_s = _parts(request.query_params.get("output_format") or "mp3_44100_128")
        self.hz = int(hz)
        self.mime = FORMS[self._form].mime
        self.encoder = StreamEncoder(self._form, hz=self.hz, bits_per_s=int(kbit_per_s) * 1000 or None)

    async def pieces(self) -> AsyncIterator[SpokenPiece]:
        body, spoken = self._body, await voice_languages(self._inference, self._voice_id)
        self._inference.check_texts([body.text])
        speed = (body.voice_settings.speed if body.voice_settings else None) or 1.0
        pieces = self._inference.speak_pieces(
            body.text,
            language=self._language(spoken),
            voice=None if self._voice_id == DEFAULT_VOICE else self._voice_id,
            speed=speed,
            hz=self.hz,
        )
        async with closing(pieces):
            async for piece in pieces:
                yield piece

    def _language(self, spoken: tuple[str, ...]) -> str:
        if self._body.language_code is None:
            return self._inference.language_to_speak(self._body.text, None, among=spoken)
        language = languages.named(self._body.language_code)
        if languages.best_match(language, spoken) is None:
            raise ItemError(f"language_code must be one of the voice's, {', '.join(spoken)}; found {language}")
        return language


async def _speaking(
    request: Request,
    voice_id: str,
    body: TextToSpeechBody,
    inference: InferenceDep,
    output_format: OutputFormat = "mp3_44100_128",
    optimize_streaming_latency: Annotated[int | None, Query(description="Ignored: nothing to choose.")] = None,
    enable_logging: Annotated[bool, Query(description="Ignored: nothing is logged.")] = True,
) -> _Speaking:
    if body.pronunciation_dictionary_locators or body.audio_effects:
        raise ItemError(
            "a text must be spoken as the configured engines do; pronunciation_dictionary_locators and audio_effects "
            "cannot be given here"
        )
    if body.model_id not in SPEECH_MODELS:
        note_ignored(request, "model_id")
    note_ignored(request, *(name for name, value in (body.model_extra or {}).items() if value not in UNSET))
    settings = body.voice_settings.model_extra if body.voice_settings else None
    note_ignored(request, *(f"voice_settings.{name}" for name, value in (settings or {}).items() if value not in UNSET))
    return _Speaking(request, inference, voice_id, body)


SpeakingDep = Annotated[_Speaking, Depends(_speaking)]
AUDIO: dict[int | str, dict[str, Any]] = {
    200: {"description": "Audio.", "content": {"application/octet-stream": {}}},
    **documented(404),
}


@router.post("/{voice_id}", response_class=StreamedResponse, responses=AUDIO)
@router.post("/{voice_id}/stream", response_class=StreamedResponse, responses=AUDIO)
async def speak(speaking: SpeakingDep) -> Response:
    """Speak a text. The answer begins with the first sentence."""
    encoded = encode(_sounds(speaking.pieces()), speaking.encoder, speaking.encoding)
    return StreamedResponse(await started(encoded), media_type=speaking.mime)


@router.post("/{voice_id}/with-timestamps", responses=documented(404))
async def speak_with_times(speaking: SpeakingDep) -> dict[str, Any]:
    """Speak a text, and say when each of its characters is heard."""
    audio, alignment = b"", _Alignment(speaking.hz)
    async for piece in speaking.pieces():
        audio += await speaking.encoding.run(speaking.encoder.encode, piece.samples)
        alignment.add(piece)
    return _part(audio + await speaking.encoding.run(speaking.encoder.finish), alignment.take())


@router.post("/{voice_id}/stream/with-timestamps", response_class=StreamedResponse, responses=AUDIO)
async def stream_with_times(speaking: SpeakingDep) -> Response:
    """The same in parts, one line of JSON for each sentence."""
    return StreamedResponse(await started(_lines(speaking)), media_type="application/json")


async def _sounds(pieces: AsyncIterator[SpokenPiece]) -> AsyncIterator[Samples]:
    async with closing(pieces):
        async for piece in pieces:
            yield piece.samples


async def _lines(speaking: _Speaking) -> AsyncIterator[str]:
    alignment = _Alignment(speaking.hz)
    async with closing(speaking.pieces()) as pieces:
        async for piece in pieces:
            audio = await speaking.encoding.run(speaking.encoder.encode, piece.samples)
            alignment.add(piece)
            if audio:
                yield json.dumps(_part(audio, alignment.take())) + "\n"
    if audio := await speaking.encoding.run(speaking.encoder.finish):
        yield json.dumps(_part(audio, alignment.take())) + "\n"


def _part(audio: bytes, alignment: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "audio_base64": base64.b64encode(audio).decode(),
        "alignment": alignment,
        "normalized_alignment": alignment,
    }


class _Alignment:
    """Start and end of each character: exact for sentences and pauses, in proportion within a sentence."""

    def __init__(self, hz: int) -> None:
        self._hz = hz
        self._position = 0
        self._times: list[tuple[str, float, float]] = []

    def add(self, piece: SpokenPiece) -> None:
        step_s = len(piece.samples) / self._hz / max(1, len(piece.text))
        start_s = self._position / self._hz
        for number, character in enumerate(piece.text):
            self._times.append((character, start_s + number * step_s, start_s + (number + 1) * step_s))
        self._position += len(piece.samples)

    def take(self) -> dict[str, Any] | None:
        """The characters since the last call; None if there are none."""
        times, self._times = self._times, []
        if not times:
            return None
        return {
            "characters": [character for character, _, _ in times],
            "character_start_times_seconds": [round(start_s, 3) for _, start_s, _ in times],
            "character_end_times_seconds": [round(end_s, 3) for _, _, end_s in times],
        }


def _parts(output_format: str) -> tuple[AudioFormat | TelephoneFormat, str, str]:
    form, hz, kbit_per_s = (*output_format.split("_"), "0")[:3]
    return cast(AudioFormat | TelephoneFormat, form), hz, kbit_per_s
