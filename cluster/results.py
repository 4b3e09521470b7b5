"""What a finished dub leaves behind: media file, subtitles, report, manifest; published together."""

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

from actors.languages import display_name
from actors.types import Unit, media_time
from cluster import manifest, outputs
from cluster.branches import Branch
from cluster.config import Config
from cluster.decoding import decode_audio
from cluster.encoding import ENCODE_HZ, AudioEncoder
from cluster.grading import graded
from cluster.manifest import (
    DroppedStreamRecord,
    DubRecord,
    Flag,
    InputRecord,
    Manifest,
    PoolRecord,
    SegmentRecord,
    Timings,
    TrackRecord,
    UnitRecord,
    printable,
)
from cluster.media import AudioTrack, MediaInfo, probe
from cluster.mixdown import Mixdown
from cluster.mux import DroppedStream, DubTrack, SourceText, mux
from cluster.pool_stats import PoolStats
from cluster.progress import Progress
from cluster.quality import Measure
from cluster.report import ReportAudio, write_report
from cluster.sounds import Sounds
from cluster.subtitles import Cue, lay_out, render


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was understood of the source."""

    language: str | None
    language_probability: float | None
    """None if a person said which language it is."""
    units: tuple[Unit, ...]
    num_failed_windows: int
    damaged: bool


def write_results(
    folder: Path,
    out: Path,
    *,
    info: MediaInfo,
    suffix: str,
    track: AudioTrack,
    heard: Heard,
    dubs: Sequence[Mixdown],
    checks: Sequence[Mapping[str, Sequence[Measure]]],
    config: Config,
    progress: Progress,
    pools: Sequence[PoolStats],
    sounds: Sounds,
) -> Manifest:
    """Write everything into ``folder``, the media with ``suffix``, then move it to ``out``.

    Raises MediaError if that cannot be done.
    """
    flags = [Flag.DAMAGED] if heard.damaged else []
    flags += [Flag.TRANSCRIPTION_FAILED] if heard.num_failed_windows else []
    source_cues = lay_out(_source_cues(heard.units), config.subtitles)
    names = [dub.branch.name for dub in dubs]
    is_spoken = bool(heard.units) or any(dub.utterances for dub in dubs)
    if is_spoken:
        tracks = [_dub_track(dub, config) for dub in dubs]
        source = SourceText(track=track, language=heard.language, subtitles=source_cues)
        media_files, dropped = _write_media(folder, info, suffix, dict(zip(names, tracks, strict=True)), source, config)
        flags += [Flag.STREAM_DROPPED] if dropped else []
        cues_by_name = {
            heard.language or "und": source_cues,
            **dict(zip(names, (dub.subtitles for dub in tracks), strict=True)),
        }
    else:
        flags.append(Flag.NO_SPEECH)
        media_files, dropped, cues_by_name = [printable(info.path.name)] * len(dubs), (), {}
        shutil.copyfile(info.path, folder / media_files[0])
    for name, cues in cues_by_name.items():
        (folder / f"{name}.srt").write_text(render(cues, "srt"), encoding="utf-8")
        (folder / f"{name}.vtt").write_text(render(cues, "vtt"), encoding="utf-8")

    result = Manifest(
        status=manifest.status_of(flags, [utterance for dub in dubs for utterance in dub.utterances]),
        flags=tuple(flags),
        input=_input_record(info, track, heard),
        media_file=media_files[0],
        segments=tuple(SegmentRecord.of(segment) for unit in heard.units for segment in unit.segments),
        units=tuple(UnitRecord.of(unit) for unit in heard.units),
        dubs=tuple(_dub_record(*dub, has_subtitles=is_spoken) for dub in zip(dubs, checks, media_files, strict=True)),
        dropped_streams=tuple(DroppedStreamRecord(index=s.index, codec=s.codec, why=s.why) for s in dropped),
        config=config.model_dump(mode="json"),
        versions=manifest.versions(),
        timings=_timings(info, progress, pools),
    )
    audio = _report_audio(folder, info, track, heard, dubs, config, sounds) if is_spoken else []
    write_report(result, audio, folder / "report.html")
    for dub in dubs:
        dub.audio.unlink()
    manifest.write(result, folder / outputs.MANIFEST_NAME)
    outputs.publish(folder, out)
    return result


def _write_media(
    folder: Path, info: MediaInfo, suffix: str, tracks: Mapping[str, DubTrack], source: SourceText, config: Config
) -> tuple[list[str], tuple[DroppedStream, ...]]:
    """The file that each track went to, and what no file could hold."""
    stem = printable(info.path.stem)
    if not config.output.per_language:
        file = f"{stem}{suffix}"
        muxed = mux(info, list(tracks.values()), folder / file, source=source, config=config.media)
        return [file] * len(tracks), muxed.dropped
    dropped: tuple[DroppedStream, ...] = ()
    files = [f"{stem}.{name}{suffix}" for name in tracks]
    for file, track in zip(files, tracks.values(), strict=True):
        dropped = mux(info, [track], folder / file, source=source, config=config.media).dropped
    return files, dropped


def _dub_record(
    dub: Mixdown, checks: Mapping[str, Sequence[Measure]], media_file: str, *, has_subtitles: bool
) -> DubRecord:
    """``checks`` has measures by utterance."""
    utterances, quality = graded(dub.utterances, dub.branch.target, dub.branch.config.quality, checks)
    return DubRecord(
        language=dub.branch.target,
        arm=dub.branch.arm,
        media_file=media_file,
        utterances=utterances,
        subtitles=tuple(f"{dub.branch.name}.{form}" for form in ("srt", "vtt") if has_subtitles),
        quality=quality,
    )


def _source_cues(units: Sequence[Unit]) -> list[Cue]:
    return [
        Cue(start_s=segment.start_s, end_s=segment.end_s, text=segment.text)
        for unit in units
        for segment in unit.segments
    ]


def _dub_track(dub: Mixdown, config: Config) -> DubTrack:
    spoken = [Cue(start_s=line.start_s, end_s=line.end_s, text=line.text) for line in dub.utterances if line.text]
    return DubTrack(
        language=dub.branch.target,
        audio=dub.audio,
        subtitles=lay_out(spoken, config.subtitles),
        title=_title(dub.branch),
    )


def _title(branch: Branch) -> str:
    language = display_name(branch.target)
    return language if branch.arm is None else f"{language}, {branch.arm}"


def _input_record(info: MediaInfo, track: AudioTrack, heard: Heard) -> InputRecord:
    return InputRecord(
        name=info.path.name,
        path=str(info.path.absolute()),
        format=info.format,
        duration_s=media_time(info.duration_s),
        num_bytes=info.path.stat().st_size,
        audio_track=TrackRecord(
            number=track.number,
            codec=track.codec,
            channels=track.channels,
            sample_hz=track.sample_hz,
            language=track.language,
        ),
        language=heard.language,
        language_probability=None if heard.language_probability is None else round(heard.language_probability, 3),
    )


def _timings(info: MediaInfo, progress: Progress, pools: Sequence[PoolStats]) -> Timings:
    return Timings(
        wall_s=round(progress.elapsed_s, 3),
        first_utterance_s=None if progress.first_utterance_s is None else round(progress.first_utterance_s, 3),
        realtime_factor=round(info.duration_s / progress.elapsed_s, 3),
        driver_peak_bytes=_peak_bytes(),
        driver=f"{platform.node()}:{os.getpid()}",
        pools=tuple(
            PoolRecord(
                name=pool.name,
                num_items=pool.num_items,
                num_failed=pool.num_failed,
                num_batches=pool.num_batches,
                num_lost_replicas=pool.num_lost_replicas,
                engine_s=round(pool.engine_s, 3),
                num_hits=pool.num_hits,
                num_misses=pool.num_misses,
                num_corrupt=pool.num_corrupt,
                num_shared=pool.num_shared,
            )
            for pool in pools
        ),
    )


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): kilobytes, on macOS bytes


def _report_audio(
    folder: Path,
    info: MediaInfo,
    track: AudioTrack,
    heard: Heard,
    dubs: Sequence[Mixdown],
    config: Config,
    sounds: Sounds,
) -> list[ReportAudio]:
    """Small copies of the original and of each dub, to play inside the page."""
    if info.duration_s > config.output.report_max_embed_s:
        return []
    sources = [("original", heard.language or "und", info, track)]
    for dub in dubs:
        dub_info = probe(dub.audio, config.media)
        label = "dub" if dub.branch.arm is None else f"dub {dub.branch.arm}"
        sources.append((label, dub.branch.target, dub_info, dub_info.audio[0]))
    with ThreadPoolExecutor(len(sources), "preview") as threads:
        paths = [folder / f".preview{number}.m4a" for number in range(len(sources))]
        data = threads.map(lambda path, source: _preview(path, source[2], source[3], config, sounds), paths, sources)
        return [
            ReportAudio(label=label, language=language, mime="audio/mp4", data=preview)
            for (label, language, *_), preview in zip(sources, data, strict=True)
        ]


def _preview(path: Path, info: MediaInfo, track: AudioTrack, config: Config, sounds: Sounds) -> bytes:
    bits_per_s = config.output.report_audio_bits_per_s

    def make() -> None:
        with AudioEncoder(path, num_channels=1, bits_per_s=bits_per_s, in_a_hurry=True) as encoder:
            for block in decode_audio(info, track, hz=ENCODE_HZ, channels="mono", config=config.media):
                encoder.write(block[:, None])

    sounds.encoded(info.path, {"preview": {"track": track.number, "bits_per_s": bits_per_s}}, path, make)
    data = path.read_bytes()
    path.unlink()
    return data
