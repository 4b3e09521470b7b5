"""What a finished dub gives: read from its manifest and its folder."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from fastapi import Response
from starlette.concurrency import run_in_threadpool

from cluster import outputs
from cluster.manifest import Manifest, SegmentRecord, UtteranceRecord
from serve.dispatcher import Dispatcher
from serve.errors import ConflictError, NotFoundError
from serve.jobs import DubView
from serve.sending import answer_with
from serve.tables import DubState
from serve.tracks import track_file


def output_of(view: DubView, dispatcher: Dispatcher) -> Path:
    """Raises ConflictError before there is any."""
    if view.dub.output is None:
        why = f": {view.dub.error}" if view.dub.state == DubState.FAILED else ""
        raise ConflictError(f"{view.dub.id} must be done to be read; it is {view.dub.state}{why}")
    return dispatcher.files.output(view.dub.id, view.dub.output)


async def manifest_of(view: DubView, dispatcher: Dispatcher) -> Manifest:
    """Raises ConflictError before there is one, BucketError."""
    path = output_of(view, dispatcher) / outputs.MANIFEST_NAME
    data = await run_in_threadpool(dispatcher.files.read, path)
    if data is None:
        raise NotFoundError(f"the results of {view.dub.id} must still be there; they are gone; make it again")
    return await asyncio.to_thread(Manifest.model_validate_json, data)


def language_of(made: Manifest, utterance_id: str, language: str | None = None) -> str:
    """The one that a line is in, which must be ``language`` if that is given. Raises NotFoundError."""
    for dub in made.dubs:
        if language in (None, dub.language) and any(line.id == utterance_id for line in dub.utterances):
            return dub.language
    raise NotFoundError(f"the dub must have the line; there is no {utterance_id[:80]} in it")


def made_language(view: DubView, language: str) -> str:
    """Raises NotFoundError if it was not dubbed into it."""
    known = [made.language for made in view.targets]
    if language not in known:
        raise NotFoundError(f"the language must be one of {', '.join(known)}; found {language}")
    return language


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Of a transcript: of a dub, or of the original."""

    id: str
    speaker: str | None
    start_s: float
    end_s: float
    text: str


def lines_of(made: Manifest, language: str) -> list[Line]:
    """What is said in a language. Raises NotFoundError."""
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
        Line(id=line.id, speaker=line.speaker, start_s=line.start_s, end_s=line.end_s, text=line.text)
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
    """The sound in one language, or the picture with it; None: the picture if there is one."""
    folder, language = output_of(view, dispatcher), made_language(view, language)
    made = await manifest_of(view, dispatcher)
    if kind is None:
        kind = "audio" if made.media_file.endswith(".mka") else "video"
    make = functools.partial(track_file, dispatcher.files, folder, made, language, kind, dispatcher.config.media)
    return await download(await run_in_threadpool(make), view, dispatcher)


async def download(path: Path, view: DubView, dispatcher: Dispatcher) -> Response:
    """Saved under the name the person gave, with the suffix of what it is; never shown as a page."""
    filename = f"{Path(view.dub.name).stem or 'dub'}{path.suffix}"
    found = await answer_with(dispatcher.files, path, filename=filename)
    if found is None:
        raise NotFoundError(f"the results of {view.dub.id} must still be there; they are gone; make it again")
    return found
