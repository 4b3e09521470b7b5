"""Reads the results of a finished dub from its manifest and its folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from fastapi import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from cluster.manifest import Manifest, SegmentRecord, UtteranceRecord
from cluster.storage import outputs
from serve.api.responses import answer_with
from serve.dispatch.dispatcher import Dispatcher
from serve.errors import ConflictError, NotFoundError
from serve.jobs.jobs import DubView
from serve.jobs.tables import DubState


def output_of(view: DubView, dispatcher: Dispatcher) -> Path:
    """The folder of the newest results. Raises ConflictError if there are none yet."""
    if view.dub.output is None:
        why = f": {view.dub.error}" if view.dub.state == DubState.FAILED else ""
        raise ConflictError(f"{view.dub.id} must be done to be read; it is {view.dub.state}{why}")
    return dispatcher.files.paths.output(view.dub.id, view.dub.output)


async def manifest_of(view: DubView, dispatcher: Dispatcher) -> Manifest:
    """The newest manifest.

    Raises ConflictError if there is none yet, or if another version of raydub wrote it, NotFoundError, BucketError.
    """
    path = output_of(view, dispatcher) / outputs.MANIFEST_NAME
    data = await run_in_threadpool(dispatcher.files.read, path)
    if data is None:
        raise NotFoundError(f"the results of {view.dub.id} must still be there; they are gone; regenerate the dub")
    try:
        return await asyncio.to_thread(Manifest.model_validate_json, data)
    except ValidationError as error:
        raise ConflictError(
            f"the results of {view.dub.id} must be of a version that this service reads; they are not; "
            "regenerate the dub"
        ) from error


def language_of(made: Manifest, utterance_id: str, language: str | None = None) -> str:
    """The language of a line. Raises NotFoundError if there is no such line, or none in ``language``."""
    for dub in made.dubs:
        if language in (None, dub.language) and any(line.id == utterance_id for line in dub.utterances):
            return dub.language
    raise NotFoundError(f"the line must be in the dub; found no {utterance_id[:80]}")


def made_language(view: DubView, language: str) -> str:
    """``language``. Raises NotFoundError if it is not one of the dub's."""
    known = [made.language for made in view.targets]
    if language not in known:
        raise NotFoundError(f"the language must be one of {', '.join(known)}; found {language}")
    return language


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptLine:
    """One line of a transcript, of a dub or of the original."""

    id: str
    speaker: str | None
    start_s: float
    end_s: float
    text: str


def lines_of(made: Manifest, language: str) -> list[TranscriptLine]:
    """The lines spoken in a language, which may be that of the original. Raises NotFoundError."""
    spoken: Sequence[UtteranceRecord | SegmentRecord]
    by_language = {dub.language: dub.utterances for dub in made.dubs}
    if language in by_language:
        spoken = by_language[language]
    elif language == made.input.language:
        spoken = made.segments
    else:
        known = [*by_language, *([made.input.language] if made.input.language else [])]
        raise NotFoundError(f"the language must be one of {', '.join(known)}; found {language}")
    return [
        TranscriptLine(id=line.id, speaker=line.speaker, start_s=line.start_s, end_s=line.end_s, text=line.text)
        for line in spoken
        if line.text
    ]


async def transcript_of(
    view: DubView, dispatcher: Dispatcher, language: str, form: Literal["srt", "vtt", "json"]
) -> Response:
    lines = lines_of(await manifest_of(view, dispatcher), language)
    if form == "json":
        body = {"language": language, "lines": [asdict(line) for line in lines]}
        return Response(json.dumps(body, ensure_ascii=False), media_type="application/json")
    path = output_of(view, dispatcher) / f"{language}.{form}"
    text = await run_in_threadpool(dispatcher.files.read, path)
    if text is None:
        raise NotFoundError(f"{view.dub.id} must have speech to have subtitles; none was found")
    return Response(text, media_type="application/x-subrip" if form == "srt" else "text/vtt")


async def one_track(
    view: DubView, language: str, dispatcher: Dispatcher, kind: Literal["audio", "video"] | None = None
) -> Response:
    """One language of a dub: its audio, or the video with it. ``kind`` None: the video if there is one."""
    folder, language = output_of(view, dispatcher), made_language(view, language)
    made = await manifest_of(view, dispatcher)
    if kind is None:
        kind = "audio" if made.media_file.endswith(".mka") else "video"
    return await download(await dispatcher.tracks.get(folder, made, language, kind), view, dispatcher)


async def download(path: Path, view: DubView, dispatcher: Dispatcher) -> Response:
    """A file to save under the name of the dub, with the suffix of its format. Browsers never show it as a page."""
    filename = f"{Path(view.dub.name).stem or 'dub'}{path.suffix}"
    found = await answer_with(dispatcher.files, path, filename=filename)
    if found is None:
        raise NotFoundError(f"the results of {view.dub.id} must still be there; they are gone; regenerate the dub")
    return found
