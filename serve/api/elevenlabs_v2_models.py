"""Bodies and answers of ElevenLabs' dubbing API, version 2."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from serve.api.elevenlabs_v1 import SourceForm
from serve.jobs.tables import DubState, TargetState

MAX_SEGMENTS = 500
Status = Literal["queued", "preparing", "processing", "ready", "failed"]
STATUS: dict[DubState, Status] = {
    DubState.QUEUED: "queued",
    DubState.RUNNING: "processing",
    DubState.DONE: "ready",
    DubState.FAILED: "failed",
    DubState.CANCELLED: "failed",
}


class Failure(BaseModel):
    code: str = "dubbing_failed"
    message: str
    retryable: bool = False


class Media(BaseModel):
    filename: str | None
    duration_s: float | None
    mime_type: str | None


class Project(BaseModel):
    project_id: str
    status: Status
    source_language: str | None
    media: Media
    language_ids: list[str]
    revision: int
    error: Failure | None
    created_at: dt.datetime
    updated_at: dt.datetime


class ProjectPage(BaseModel):
    projects: list[Project]
    next_cursor: str | None


class Outputs(BaseModel):
    lossless_audio: str | None
    """Path of the audio. It has the quality of the dub, which is not lossless."""
    subtitles: str | None


class LanguageTarget(BaseModel):
    language_id: str
    project_id: str
    target_language: str
    status: TargetState
    outputs: Outputs | None
    revision: int
    output_revision: int | None
    error: Failure | None
    created_at: dt.datetime
    updated_at: dt.datetime


class LanguagePage(BaseModel):
    languages: list[LanguageTarget]
    next_cursor: str | None = None


class ProjectForm(SourceForm):
    reference: str | None = Field(default=None, max_length=1000, description="Name of the project.")
    source_language: str | None = Field(default=None, max_length=64)
    target_language: str | None = Field(default=None, max_length=64)


class NewLanguage(BaseModel):
    target_language: str = Field(max_length=64)


class ProjectSegment(BaseModel):
    id: str
    speaker_id: str
    start_s: float
    end_s: float
    source_text: str
    translation: str | None


class SegmentUpdate(BaseModel):
    translation: str | None = Field(default=None, min_length=1, max_length=2000)


class SegmentUpdates(BaseModel):
    segments: Mapping[str, SegmentUpdate] = Field(max_length=MAX_SEGMENTS)


class TargetTranscript(BaseModel):
    source_language: str | None
    target_language: str
    segments: list[ProjectSegment]
    revision: int


class Updated(BaseModel):
    segment: ProjectSegment
    revision: int


class AllUpdated(BaseModel):
    segments: list[ProjectSegment]
    revision: int


class SourceSegment(BaseModel):
    id: str
    text: str
    speaker_id: str
    start_s: float
    end_s: float


class SourceTranscript(BaseModel):
    language: str | None
    segments: list[SourceSegment]
    revision: int


class Regenerated(BaseModel):
    regenerated_segment_ids: list[str]
    regenerated_seconds: float
    charged_seconds: float = 0.0
    free_regeneration_seconds_remaining: float = 0.0
