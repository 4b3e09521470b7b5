"""Writes the results of a finished dub: media files, subtitles, report, manifest; published together."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from actors import languages
from actors.languages import display_name
from actors.types import Unit, media_time
from cluster import manifest
from cluster.casting.voices import engines_of
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.manifest import (
    DroppedStreamRecord,
    DubRecord,
    InputRecord,
    LanguageGuessRecord,
    Manifest,
    SegmentRecord,
    SpanRecord,
    StreamRecord,
    Timings,
    TrackRecord,
    UnitRecord,
    UtteranceRecord,
    encoded_path,
    printable,
)
from cluster.media.encode import ENCODE_HZ, AudioEncoder
from cluster.media.mux import DubTrack, MuxResult, SourceText
from cluster.media.probe import AudioTrack, MediaInfo, probe
from cluster.media.sandbox import decode_audio, mux
from cluster.pools.stats import PoolStats
from cluster.quality import Measure
from cluster.report.page import ReportAudio, write_report
from cluster.steps.grade import graded
from cluster.steps.language import contradicts
from cluster.steps.mix import Mixdown
from cluster.steps.mix_cache import MixCache
from cluster.steps.progress import Progress
from cluster.steps.records import Branch, HearingNotes, SourceMedia
from cluster.steps.source import DubContext, Source
from cluster.storage import outputs
from cluster.subtitles.layout import Cue, lay_out, render
from cluster.subtitles.records import GivenSubtitlesRecord
from cluster.tracing.spans import span
from cluster.verdicts import video_verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcription:
    """The source's speech, as far as the manifest tells of it."""

    language: str | None
    language_probability: float | None
    """None if a person said which language it is."""
    units: tuple[Unit, ...]
    num_failed_windows: int
    is_damaged: bool
    notes: HearingNotes
    given_subtitles: tuple[GivenSubtitlesRecord, ...] = ()

    @classmethod
    def of(cls, source: Source, units: Sequence[Unit], *, is_damaged: bool) -> Transcription:
        """The speech that ``source`` supplied; ``is_damaged`` if parts of the audio could not be read."""
        return cls(
            language=source.language,
            language_probability=source.language_probability,
            units=tuple(units),
            num_failed_windows=source.num_failed,
            is_damaged=is_damaged or source.damaged,
            notes=source.notes,
            given_subtitles=source.given_subtitles,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedDub:
    """One branch after mixing, with its checks."""

    mixdown: Mixdown
    checks: Mapping[str, Sequence[Measure]]
    """Utterance id → measures."""

    @property
    def branch(self) -> Branch:
        return self.mixdown.branch

    @property
    def utterances(self) -> tuple[UtteranceRecord, ...]:
        return self.mixdown.utterances


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenMedia:
    """The results that no check changes: media files, subtitles, and the sound in the report."""

    files: Mapping[str, str]
    """Branch → the file that holds its track."""
    is_spoken: bool
    """False if there was nothing to dub: the files are then copies of the source."""
    previews: tuple[ReportAudio, ...] = ()
    muxed: MuxResult | None = None
    """The outcome of muxing, of the last of several files; None of copies."""


def write_media(
    folder: Path,
    media: SourceMedia,
    transcription: Transcription,
    mixdowns: Sequence[Mixdown],
    config: Config,
    cache: MixCache,
) -> WrittenMedia:
    """Write the results that no check changes into ``folder``. Blocking. Raises MediaError if that cannot be done."""
    if not transcription.units and not any(mixdown.utterances for mixdown in mixdowns):
        return WrittenMedia(files=_copy_media(folder, media, mixdowns), is_spoken=False)
    with span("mux"):
        files, muxed = _mux_media(folder, media, transcription, mixdowns, config)
    _write_subtitles(folder, transcription, mixdowns, config)
    with span("preview"):
        previews = _report_audio(folder, media, transcription, mixdowns, config, cache)
    return WrittenMedia(files=files, is_spoken=True, previews=tuple(previews), muxed=muxed)


def write_results(
    folder: Path,
    out: Path,
    media: SourceMedia,
    transcription: Transcription,
    dubs: Sequence[FinishedDub],
    written: WrittenMedia,
    context: DubContext,
    pools: Sequence[PoolStats],
) -> Manifest:
    """Write manifest and report into ``folder``, then move all to ``out``. Blocking. Raises MediaError if it cannot."""
    config, is_spoken = context.config, written.is_spoken
    dropped = () if written.muxed is None else written.muxed.dropped
    flags = _flags(transcription, media, is_spoken=is_spoken, has_dropped=bool(dropped))
    records = tuple(
        _dub_record(dub, written.files[dub.branch.name], transcription.notes, has_subtitles=is_spoken) for dub in dubs
    )
    lines = [utterance for record in records for utterance in record.utterances]
    result = Manifest(
        status=manifest.status_of(flags, lines),
        flags=flags,
        verdict=video_verdict([line.flags for line in lines], config.quality.max_flagged_share),
        input=_input_record(media, transcription),
        media_file=written.files[dubs[0].branch.name],
        segments=tuple(SegmentRecord.of(segment) for unit in transcription.units for segment in unit.segments),
        units=tuple(UnitRecord.of(unit) for unit in transcription.units),
        dubs=records,
        dropped_streams=tuple(DroppedStreamRecord(index=s.index, codec=s.codec, why=s.why) for s in dropped),
        dropped_tags=() if written.muxed is None else written.muxed.lost_metadata,
        streams=tuple(StreamRecord.of(stream) for stream in media.plan.streams) if is_spoken else (),
        given_subtitles=transcription.given_subtitles,
        config=config.model_dump(mode="json"),
        versions=manifest.versions(engines_of(config)),
        timings=_timings(media.info, context.progress, pools),
    )
    with span("report"):
        write_report(result, written.previews, folder / outputs.REPORT_NAME)
    for dub in dubs:
        dub.mixdown.audio.unlink()
    manifest.write(result, folder / outputs.MANIFEST_NAME)
    outputs.publish(folder, out)
    return result


def _flags(transcription: Transcription, media: SourceMedia, *, is_spoken: bool, has_dropped: bool) -> tuple[Flag, ...]:
    """Flags of the whole input."""
    raised = {
        Flag.DAMAGED: transcription.is_damaged,
        Flag.TRUNCATED: media.info.is_truncated,
        Flag.TIMESTAMPS_JOINED: bool(media.info.parts),
        Flag.TRANSCRIPTION_FAILED: transcription.num_failed_windows > 0,
        Flag.SPEECH_NOT_TRANSCRIBED: bool(transcription.notes.not_transcribed),
        Flag.LANGUAGE_UNCERTAIN: transcription.notes.is_uncertain,
        Flag.LANGUAGE_CONTRADICTED: transcription.notes.is_contradicted,
        Flag.TRACK_TAG_CONTRADICTED: contradicts(transcription.notes.guesses, media.track.language),
        Flag.STREAM_DROPPED: has_dropped,
        Flag.STREAM_ENCODED: is_spoken and any(stream.action == "encode" for stream in media.plan.streams),
        Flag.SUBTITLES_REPAIRED: any(file.is_repaired for file in transcription.given_subtitles),
        Flag.ENCODING_DOUBTFUL: any(file.is_encoding_doubtful for file in transcription.given_subtitles),
        Flag.NO_SPEECH: not is_spoken,
    }
    return tuple(flag for flag, is_raised in raised.items() if is_raised)


def _mux_media(
    folder: Path, media: SourceMedia, transcription: Transcription, mixdowns: Sequence[Mixdown], config: Config
) -> tuple[dict[str, str], MuxResult]:
    """Branch → the file that holds its track; and what muxing tells, of several files by the last."""
    stem = printable(media.info.path.stem)
    source = SourceText(
        track=media.track, language=transcription.language, subtitles=_source_subtitles(transcription, config)
    )
    if not config.output.per_language:
        file = f"{stem}{media.suffix}"
        tracks = [_dub_track(mixdown, media, config) for mixdown in mixdowns]
        muxed = mux(media.info, tracks, folder / file, source=source, config=config.media)
        return {mixdown.branch.name: file for mixdown in mixdowns}, muxed
    files: dict[str, str] = {}
    for mixdown in mixdowns:
        files[mixdown.branch.name] = file = f"{stem}.{mixdown.branch.name}{media.suffix}"
        track = _dub_track(mixdown, media, config)
        muxed = mux(media.info, [track], folder / file, source=source, config=config.media)
    return files, muxed


def _copy_media(folder: Path, media: SourceMedia, mixdowns: Sequence[Mixdown]) -> dict[str, str]:
    """Branch → the unchanged source, copied: there is nothing to dub."""
    file = printable(media.info.path.name)
    shutil.copyfile(media.info.path, folder / file)
    return {mixdown.branch.name: file for mixdown in mixdowns}


def _write_subtitles(folder: Path, transcription: Transcription, mixdowns: Sequence[Mixdown], config: Config) -> None:
    """SRT and WebVTT of the source and of each dub."""
    cues_by_name = {transcription.language or "und": _source_subtitles(transcription, config)}
    cues_by_name |= {mixdown.branch.name: _dub_subtitles(mixdown, config) for mixdown in mixdowns}
    for name, cues in cues_by_name.items():
        (folder / f"{name}.srt").write_text(render(cues, "srt"), encoding="utf-8")
        (folder / f"{name}.vtt").write_text(render(cues, "vtt"), encoding="utf-8")


def _dub_record(dub: FinishedDub, media_file: str, notes: HearingNotes, *, has_subtitles: bool) -> DubRecord:
    branch = dub.branch
    utterances, quality = graded(
        dub.utterances, branch.target, branch.config.quality, dub.checks, notes.not_transcribed
    )
    return DubRecord(
        language=branch.target,
        arm=branch.arm,
        media_file=media_file,
        utterances=utterances,
        subtitles=tuple(f"{branch.name}.{form}" for form in ("srt", "vtt") if has_subtitles),
        quality=quality,
    )


def _source_subtitles(transcription: Transcription, config: Config) -> tuple[Cue, ...]:
    segments = [segment for unit in transcription.units for segment in unit.segments]
    cues = [Cue(start_s=segment.start_s, end_s=segment.end_s, text=segment.text) for segment in segments]
    return lay_out(cues, config.subtitles)


def _dub_subtitles(mixdown: Mixdown, config: Config) -> tuple[Cue, ...]:
    texts = [
        line.source_text if Flag.ALREADY_IN_TARGET in line.flags and not line.text else line.text
        for line in mixdown.utterances
    ]
    spoken = [
        Cue(start_s=line.start_s, end_s=line.end_s, text=text)
        for line, text in zip(mixdown.utterances, texts, strict=True)
        if text
    ]
    return lay_out(spoken, config.subtitles)


def _dub_track(mixdown: Mixdown, media: SourceMedia, config: Config) -> DubTrack:
    target = mixdown.branch.target
    is_there_already = any(
        track.language is not None and languages.same(track.language, target) for track in media.in_target
    )
    return DubTrack(
        language=target,
        audio=mixdown.audio,
        subtitles=_dub_subtitles(mixdown, config),
        title=_title(mixdown.branch, is_there_already=is_there_already),
    )


def _title(branch: Branch, *, is_there_already: bool) -> str:
    """The track's title; told apart from a track that the source already has in the language."""
    language = display_name(branch.target) + (" (dub)" if is_there_already else "")
    return language if branch.arm is None else f"{language}, {branch.arm}"


def _input_record(media: SourceMedia, heard: Transcription) -> InputRecord:
    info, track = media.info, media.track
    return InputRecord(
        name=info.path.name,
        path=str(info.path.absolute()),
        encoded_path=encoded_path(str(info.path.absolute())),
        format=info.format,
        duration_s=media_time(info.duration_s),
        claimed_s=None if info.claimed_s is None else media_time(info.claimed_s),
        joined_at_s=tuple(media_time(time_s) for time_s in info.joins_s),
        num_bytes=info.path.stat().st_size,
        audio_track=TrackRecord(
            number=track.number,
            codec=track.codec,
            channels=track.channels,
            sample_hz=track.sample_hz,
            language=track.language,
            reason=media.track_reason,
        ),
        language=heard.language,
        language_probability=None if heard.language_probability is None else round(heard.language_probability, 3),
        language_guesses=tuple(
            LanguageGuessRecord(language=guess.language, probability=round(guess.probability, 3))
            for guess in heard.notes.guesses
        ),
        not_transcribed=tuple(
            SpanRecord(start_s=media_time(span.start_s), end_s=media_time(span.end_s))
            for span in heard.notes.not_transcribed
        ),
    )


def _timings(info: MediaInfo, progress: Progress, pools: Sequence[PoolStats]) -> Timings:
    return Timings(
        wall_s=round(progress.elapsed_s, 3),
        first_utterance_s=None if progress.first_utterance_s is None else round(progress.first_utterance_s, 3),
        realtime_factor=round(info.duration_s / progress.elapsed_s, 3),
        driver_peak_bytes=_peak_bytes(),
        driver=f"{platform.node()}:{os.getpid()}",
        pools=tuple(pool.record() for pool in pools),
    )


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): kilobytes, on macOS bytes


def _report_audio(
    folder: Path,
    media: SourceMedia,
    heard: Transcription,
    mixdowns: Sequence[Mixdown],
    config: Config,
    cache: MixCache,
) -> list[ReportAudio]:
    """Small copies of the original and of each dub, to play inside the page."""
    if media.info.duration_s > config.output.report_max_embed_s:
        return []
    sources = [("original", heard.language or "und", media.info, media.track)]
    for mixdown in mixdowns:
        dub_info = probe(mixdown.audio, config.media)
        label = "dub" if mixdown.branch.arm is None else f"dub {mixdown.branch.arm}"
        sources.append((label, mixdown.branch.target, dub_info, dub_info.audio[0]))
    with ThreadPoolExecutor(len(sources), "preview") as threads:
        paths = [folder / f".preview{number}.m4a" for number in range(len(sources))]
        data = threads.map(lambda path, source: _preview(path, source[2], source[3], config, cache), paths, sources)
        return [
            ReportAudio(label=label, language=language, mime="audio/mp4", data=preview)
            for (label, language, *_), preview in zip(sources, data, strict=True)
        ]


def _preview(path: Path, info: MediaInfo, track: AudioTrack, config: Config, cache: MixCache) -> bytes:
    bits_per_s = config.output.report_audio_bits_per_s

    def make() -> None:
        with AudioEncoder(path, num_channels=1, bits_per_s=bits_per_s, fast=True) as encoder:
            for block in decode_audio(info, track, hz=ENCODE_HZ, channels="mono", config=config.media):
                encoder.write(block[:, None])

    cache.encoded(info.path, {"preview": {"track": track.number, "bits_per_s": bits_per_s}}, path, make)
    data = path.read_bytes()
    path.unlink()
    return data
