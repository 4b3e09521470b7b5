"""The lines of a finished dub, with what was said of them: ``/v1/dubs/{id}/lines``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from cluster.flags import Flag
from cluster.manifest import Manifest, MeasureRecord
from serve.api.dependencies import SECURITY, CallerDep, DispatcherDep
from serve.api.dubs import LANGUAGE_PATTERN, DubId
from serve.api.problems import documented
from serve.api.results import made_language, manifest_of

router = APIRouter(prefix="/v1/dubs", tags=["dubs"], dependencies=SECURITY)


class LineAnswer(BaseModel):
    id: str
    language: str
    speaker: str
    start_s: float
    end_s: float
    source_text: str
    text: str
    """The spoken text; empty if the original sound is kept."""
    flags: list[Flag]
    to_look_at: bool
    """True if a person should look at the line. Some flags only say what was done on purpose."""
    doubt: str | None
    error: str | None
    quality: list[MeasureRecord]


class LinesAnswer(BaseModel):
    lines: list[LineAnswer]
    num_lines: int
    """Number of all lines, of the language if one was asked for."""


@router.get("/{dub_id}/lines", responses=documented(404, 409))
async def lines(
    dub_id: DubId,
    caller: CallerDep,
    dispatcher: DispatcherDep,
    language: Annotated[str | None, Query(pattern=LANGUAGE_PATTERN, description="One of the dub's languages.")] = None,
    flag: Annotated[list[Flag] | None, Query(max_length=len(Flag), description="Lines with one of these.")] = None,
    to_look_at: Annotated[bool | None, Query(description="Lines to look at, or those that are not.")] = None,
) -> LinesAnswer:
    """The lines of a finished dub, in order of time within each language."""
    view = await dispatcher.jobs.get(caller.owner, dub_id)
    found = lines_of_dub(
        await manifest_of(view, dispatcher), None if language is None else made_language(view, language)
    )
    wanted = [
        line for line in found if (not flag or set(flag) & set(line.flags)) and to_look_at in (None, line.to_look_at)
    ]
    return LinesAnswer(lines=wanted, num_lines=len(found))


def lines_of_dub(made: Manifest, language: str | None) -> list[LineAnswer]:
    """The lines of one language, or of all."""
    return [
        LineAnswer(
            id=line.id,
            language=dub.language,
            speaker=line.speaker,
            start_s=line.start_s,
            end_s=line.end_s,
            source_text=line.source_text,
            text=line.text,
            flags=list(line.flags),
            to_look_at=line.needs_look,
            doubt=line.doubt,
            error=line.error,
            quality=list(line.quality),
        )
        for dub in made.dubs
        if language in (None, dub.language)
        for line in dub.utterances
    ]
