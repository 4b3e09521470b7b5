"""Casts, which keep the voices of a series' speakers: ``/v1/casts``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as InPath
from pydantic import BaseModel

from cluster.casting.cast_file import CastFile
from serve.api.dependencies import SECURITY, CallerDep, DispatcherDep
from serve.api.problems import documented
from serve.ids import CAST_PATTERN
from serve.jobs.casts import CastSummary

router = APIRouter(prefix="/v1/casts", tags=["casts"], dependencies=SECURITY)

CastName = Annotated[str, InPath(pattern=CAST_PATTERN)]


class CastList(BaseModel):
    casts: list[CastSummary]


@router.get("", responses=documented())
async def every(caller: CallerDep, dispatcher: DispatcherDep) -> CastList:
    """Your casts, by name."""
    return CastList(casts=await dispatcher.casts.every(caller.owner))


@router.get("/{name}", responses=documented(404))
async def get(name: CastName, caller: CallerDep, dispatcher: DispatcherDep) -> CastFile:
    """A cast, as `raydub dub --cast` reads it from a file."""
    return await dispatcher.casts.get(caller.owner, name)


@router.put("/{name}", responses=documented())
async def put(name: CastName, cast: CastFile, caller: CallerDep, dispatcher: DispatcherDep) -> CastSummary:
    """Keep a cast, in place of the one of that name: one that was edited, or that `raydub dub --cast` wrote.

    Dubs that are running add their speakers to it.
    """
    return await dispatcher.casts.put(caller.owner, name, cast)


@router.delete("/{name}", status_code=204, responses=documented(404))
async def delete(name: CastName, caller: CallerDep, dispatcher: DispatcherDep) -> None:
    """Delete a cast, with the prints of its speakers' voices. Dubs stay as they are."""
    await dispatcher.casts.delete(caller.owner, name)
