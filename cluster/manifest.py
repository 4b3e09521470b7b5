"""``manifest.json``: everything a job heard, said, chose and flagged, and how it was configured."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from actors.engine import distribution_name, engine_class
from actors.types import Segment, Task, Unit, Word, media_time
from cluster.alignment.align import SecondSpan
from cluster.flags import DEGRADING, Flag, needs_look
from cluster.quality import Measure, Metric, QualitySummary, Verdict
from cluster.storage.files import replace_bytes
from cluster.subtitles.records import GivenSubtitlesRecord
from cluster.timing.ranking import Standing
from cluster.verdicts import VideoVerdict

if TYPE_CHECKING:
    from cluster.media.plan import StreamPlan  # opens media, which readers of manifests do not

SCHEMA_VERSION = 1


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def printable(name: str) -> str:
    """A file name as text. Bytes that are no UTF-8 arrive as lone surrogates, which JSON and HTML cannot hold."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", name)


FileName = Annotated[str, AfterValidator(printable)]


class WordRecord(Record):
    text: str
    start_s: float
    end_s: float
    probability: float

    @classmethod
    def of(cls, word: Word) -> WordRecord:
        return cls(
            text=word.text,
            start_s=media_time(word.start_s),
            end_s=media_time(word.end_s),
            probability=round(word.probability, 3),
        )


class SegmentRecord(Record):
    id: str
    start_s: float
    end_s: float
    text: str
    language: str
    speaker: str
    mean_log_probability: float
    no_speech_probability: float
    words: tuple[WordRecord, ...]

    @classmethod
    def of(cls, segment: Segment) -> SegmentRecord:
        return cls(
            id=segment.id,
            start_s=media_time(segment.start_s),
            end_s=media_time(segment.end_s),
            text=segment.text,
            language=segment.language,
            speaker=segment.speaker,
            mean_log_probability=round(segment.mean_log_probability, 3),
            no_speech_probability=round(segment.no_speech_probability, 3),
            words=tuple(WordRecord.of(word) for word in segment.words),
        )


class UnitRecord(Record):
    id: str
    segment_ids: tuple[str, ...]
    text: str
    room_end_s: float

    @classmethod
    def of(cls, unit: Unit) -> UnitRecord:
        return cls(
            id=unit.id,
            segment_ids=tuple(segment.id for segment in unit.segments),
            text=unit.text,
            room_end_s=media_time(unit.room_end_s),
        )


class CandidateRecord(Record):
    """One translation of a line that was said, or could have been."""

    text: str
    score: float | None
    """The translator's score, where it gives one."""
    natural_s: float | None
    """Planned length at the voice's calibrated rate; None if it could not be planned."""
    cosine: float | None = None
    """Similarity of its unit's translation to the source; None if there was one candidate, or no embedder for both
    languages."""
    penalty: float | None = None
    """Penalty for the time that its unit's lines would take."""
    standing: Standing | None = None


class MeasureRecord(Record):
    """One line by one metric of cluster/quality.py."""

    metric: Metric
    value: float | None
    verdict: Verdict | None
    """None without a value, or without a threshold in ``quality.thresholds``."""
    why: str | None
    """The reason why there is no value."""

    @classmethod
    def of(cls, measure: Measure) -> MeasureRecord:
        return cls(metric=measure.metric, value=measure.value, verdict=measure.verdict, why=measure.why)


class SummaryRecord(Record):
    """One metric over all lines of a dub."""

    metric: Metric
    value: float | None
    """Mean over the lines that were measured; for silence coverage, of the whole speech time."""
    verdict: Verdict | None
    num_measured: int
    num_good: int
    num_fail: int

    @classmethod
    def of(cls, summary: QualitySummary) -> SummaryRecord:
        return cls.model_validate(summary, from_attributes=True)


class SecondRecord(Record):
    """A second alignment strategy's share of the first candidate for a line's segment."""

    method: str
    text: str
    cosine: float
    own_cosine: float
    """Similarity of the segment to its share by the configured strategy."""

    @classmethod
    def of(cls, second: SecondSpan) -> SecondRecord:
        return cls(
            method=second.method,
            text=second.text,
            cosine=round(second.cosine, 3),
            own_cosine=round(second.own_cosine, 3),
        )


class UtteranceRecord(Record):
    id: str
    unit_id: str
    segment_id: str
    speaker: str
    voice: str | None
    source_text: str
    text: str
    """The spoken text; empty if the original was kept."""
    slot_start_s: float
    slot_end_s: float
    room_end_s: float
    start_s: float
    end_s: float
    rung: str | None
    rate: float | None
    stretch: float | None
    gain_db: float | None
    source_lufs: float | None = None
    """Loudness of the speaker up to here, from which the gain follows."""
    candidates: tuple[CandidateRecord, ...]
    alignment: str | None = None
    """Method that found its words among its unit's: length, semantic or hybrid, +links or +translations; None if the
    unit has one segment."""
    break_confidences: tuple[float | None, ...] = ()
    """Per candidate, the probability of the break it begins at, 0 to 1; None where the unit begins."""
    second: SecondRecord | None = None
    """Present if the unit was sampled for ``alignment.second``."""
    flags: tuple[Flag, ...]
    error: str | None
    doubt: str | None = None
    """Why the translation may be wrong, if it may."""
    quality: tuple[MeasureRecord, ...] = ()

    @property
    def needs_look(self) -> bool:
        """True if a person should look at it."""
        return needs_look(self.flags)

    def value_of(self, metric: Metric) -> float | None:
        """The line's value; None if it was not measured."""
        return next((measure.value for measure in self.quality if measure.metric is metric), None)


class DubRecord(Record):
    """One target language, by one way to dub."""

    language: str
    arm: str | None = None
    """Name of the arm of a comparison; None outside of one."""
    media_file: FileName = ""
    """The file that holds it; the manifest's own if one file holds all dubs."""
    utterances: tuple[UtteranceRecord, ...]
    subtitles: tuple[str, ...]
    quality: tuple[SummaryRecord, ...] = ()


class PoolRecord(Record):
    """Counters of one stage's pool since it opened."""

    name: str
    num_items: int
    num_failed: int
    num_batches: int
    num_lost_replicas: int
    engine_s: float
    """Seconds spent inside engines, summed over all replicas."""
    num_hits: int = 0
    """Results found in the store; they are not among the items."""
    num_misses: int = 0
    num_corrupt: int = 0
    """Misses whose stored value was damaged, and removed."""
    num_shared: int = 0
    """Requests that waited for an equal one under way."""


class Timings(Record):
    """Seconds of wall time; the one part of a manifest that differs from run to run."""

    wall_s: float
    first_utterance_s: float | None
    realtime_factor: float
    """Media seconds dubbed per second of wall time."""
    driver_peak_bytes: int
    """Resident memory of the driver's process at its largest, since it started."""
    driver: str = ""
    """Process that ``pools`` belong to: its host and number."""
    pools: tuple[PoolRecord, ...]


class TrackRecord(Record):
    number: int
    """Counted from 0 among the audio tracks."""
    codec: str
    channels: int
    sample_hz: int
    language: str | None
    reason: str = ""
    """Why it was chosen, in a few words for people."""


class LanguageGuessRecord(Record):
    language: str
    probability: float


class SpanRecord(Record):
    start_s: float
    end_s: float


class InputRecord(Record):
    name: FileName
    path: FileName = ""
    """Absolute path of the input, so that it can be dubbed again from the manifest."""
    encoded_path: str | None = None
    """The path's bytes, percent-encoded; only for a path that is no UTF-8, which ``path`` cannot hold."""
    format: str
    duration_s: float
    claimed_s: float | None = None
    """Duration by the file's header; None if it does not tell."""
    joined_at_s: tuple[float, ...] = ()
    """Times at which parts were joined whose own times jump."""
    num_bytes: int
    audio_track: TrackRecord
    language: str | None
    language_probability: float | None
    language_guesses: tuple[LanguageGuessRecord, ...] = ()
    """Likeliest languages by what was heard, best first."""
    not_transcribed: tuple[SpanRecord, ...] = ()
    """Stretches of speech for which no words were found."""

    @property
    def file(self) -> Path:
        """The path of the input, with bytes that are no UTF-8 as Python has them (PEP 383)."""
        if self.encoded_path is None:
            return Path(self.path)
        return Path(os.fsdecode(urllib.parse.unquote_to_bytes(self.encoded_path)))


def encoded_path(path: str) -> str | None:
    """The bytes of a path that is no UTF-8, percent-encoded; None for any other."""
    return None if printable(path) == path else urllib.parse.quote_from_bytes(os.fsencode(path))


class DroppedStreamRecord(Record):
    index: int
    codec: str
    why: str


class StreamRecord(Record):
    """The fate of one stream of the source, as planned before the work."""

    index: int
    kind: str
    codec: str
    language: str | None
    action: str
    """copy, encode, or drop."""
    new_codec: str
    """The codec of an encoded stream; empty for others."""
    why: str
    """The reason why it is not copied."""

    @classmethod
    def of(cls, stream: StreamPlan) -> StreamRecord:
        return cls.model_validate(stream, from_attributes=True)


class Manifest(Record):
    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    status: str
    """done; degraded (some line is cut or kept in the original); unchanged (nothing to dub)."""
    flags: tuple[Flag, ...]
    verdict: VideoVerdict | None = None
    """The lines to look at; None in manifests of earlier versions."""
    input: InputRecord
    media_file: FileName
    segments: tuple[SegmentRecord, ...]
    units: tuple[UnitRecord, ...]
    dubs: tuple[DubRecord, ...]
    dropped_streams: tuple[DroppedStreamRecord, ...]
    dropped_tags: tuple[str, ...] = ()
    streams: tuple[StreamRecord, ...] = ()
    given_subtitles: tuple[GivenSubtitlesRecord, ...] = ()
    config: dict[str, Any]
    versions: dict[str, str]
    timings: Timings

    def comparable(self) -> dict[str, Any]:
        """The manifest without everything that differs between runs and modes of one input and configuration."""
        tree = self.model_dump(mode="json", exclude={"timings"})
        for part in ("ray", "store", "trace"):
            tree["config"].pop(part, None)
        tree["input"].pop("path")
        return tree


def status_of(flags: Sequence[Flag], utterances: Sequence[UtteranceRecord]) -> str:
    if Flag.TRANSCRIPTION_FAILED in flags or any(DEGRADING & set(utterance.flags) for utterance in utterances):
        return "degraded"
    return "unchanged" if Flag.NO_SPEECH in flags else "done"


def versions(engines: Iterable[tuple[Task, str]]) -> dict[str, str]:
    """The versions of Python, raydub, its main libraries and the packages of these engines, where installed."""
    requirements = [requirement for task, name in engines for requirement in engine_class(task, name).packages.values()]
    names = dict.fromkeys(["raydub", "ray", "av", "numpy", *map(distribution_name, requirements)])
    found = {name: version for name in names if (version := _installed_version(name)) is not None}
    return {"python": platform.python_version(), **found}


@functools.cache
def _installed_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def write(manifest: Manifest, path: Path) -> None:
    replace_text(path, manifest.model_dump_json(indent=1) + "\n")


def replace_text(path: Path, text: str) -> None:
    replace_bytes(path, text.encode())


def read(path: Path) -> Manifest:
    return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
