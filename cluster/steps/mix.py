"""Mixes one target language's sound track: spoken utterances in, an encoded file out, while they come.

The original is decoded again here, lazily and only as far as utterances are settled, so that memory
holds seconds of audio whatever the length of the media.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.types import Span, media_time
from cluster.audio.limiter import RATE_HZ
from cluster.audio.loudness import VoiceLevels
from cluster.audio.mixer import Mixer, PlacedClip, Placement, mix_track
from cluster.config.schema import Config
from cluster.manifest import CandidateRecord, SecondRecord, UtteranceRecord
from cluster.media.encode import AudioEncoder
from cluster.media.probe import AudioTrack
from cluster.media.sandbox import decode_audio
from cluster.steps.mix_cache import MixCache
from cluster.steps.progress import Progress, Stage
from cluster.steps.records import Branch, CandidatePlan, MixedBlock, SourceMedia, Spoken
from cluster.streams import Feed, closing, in_own_thread
from cluster.tracing.spans import consumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixdown:
    """The finished sound track of one branch."""

    branch: Branch
    audio: Path
    """The encoded track."""
    utterances: tuple[UtteranceRecord, ...]


async def mix_down(
    spoken: AsyncIterator[Spoken],
    *,
    branch: Branch,
    media: SourceMedia,
    audio: Path,
    progress: Progress,
    observe: Callable[[MixedBlock], None] | None,
    cache: MixCache,
) -> Mixdown:
    """Mix utterances, in order of their start, with the original; ends when all is encoded in ``audio``.

    ``observe`` is called on the mixing thread, which waits for it. Only where nobody observes, a mix that was
    made before is not made again.
    """
    num_channels = min(2, media.track.channels)
    levels = VoiceLevels(branch.config.mixing.loudness, num_channels=num_channels)
    placements: Feed[Placement] = Feed(branch.config.pipeline.max_utterances)
    encode = functools.partial(
        _encode, branch=branch, media=media, num_channels=num_channels, audio=audio, observe=observe
    )
    if observe is None:
        recipe = mix_recipe(media.track, num_channels, branch.config, audio.suffix)
        mix = functools.partial(cache.mixed, recipe, placements, audio, encode)
    else:
        mix = functools.partial(encode, placements)
    mixing = in_own_thread(mix, f"mix {branch.name}")
    records: list[UtteranceRecord] = []
    try:
        async with closing(spoken):
            async for line in spoken:
                gain_db = _gain_db(levels, line)
                await _put(placements, _placement(line, gain_db), mixing)
                records.append(utterance_record(line, gain_db))
                progress.advance(Stage.MIX, line.utterance.slot.start_s, branch.target)
        await _put(placements, Placement(clips=(), horizon_s=math.inf), mixing)
        await asyncio.shield(mixing)
    finally:
        placements.abort()
        # Shielded, both: a cancelled wait must not leave a thread writing into a folder that is removed next.
        await asyncio.shield(asyncio.gather(mixing, return_exceptions=True))
    progress.advance(Stage.MIX, media.info.duration_s, branch.target)
    return Mixdown(branch=branch, audio=audio, utterances=tuple(records))


def _encode(
    placements: Iterable[Placement],
    *,
    branch: Branch,
    media: SourceMedia,
    num_channels: int,
    audio: Path,
    observe: Callable[[MixedBlock], None] | None,
) -> None:
    """Mix the original with the clips, as they come, into the file ``audio``. Blocking."""
    config = branch.config
    original = decode_audio(media.info, media.track, hz=RATE_HZ, channels=num_channels, config=config.media)
    mixer = Mixer(config.mixing, num_channels)
    with AudioEncoder(audio, num_channels=num_channels, bits_per_s=config.output.audio_bits_per_s) as encoder:
        placements = consumed(placements, "mix", _item, branch.name)
        for block in mix_track(mixer, original, placements):
            encoder.write(block)
            if observe is not None:
                observe(MixedBlock(target=branch.target, samples=block))


def _item(placement: Placement) -> str:
    return placement.clips[0].id if placement.clips else ""


def _gain_db(levels: VoiceLevels, line: Spoken) -> float | None:
    """The gain of the line's clip; None if it has none."""
    if line.clip is None:
        return None
    return levels.gain_db(line.utterance.source_lufs, line.voice or "", line.clip.samples, line.clip.sample_hz)


def mix_recipe(track: AudioTrack, num_channels: int, config: Config, suffix: str) -> dict[str, Any]:
    """Everything that a mix depends on, except the source and the clips."""
    return {
        "track": track.number,
        "num_channels": num_channels,
        "mixing": config.mixing.model_dump(mode="json", exclude={"loudness"}),  # already in the clips' gains
        "bits_per_s": config.output.audio_bits_per_s,
        "form": suffix,
    }


async def _put(placements: Feed[Placement], placement: Placement, mixing: asyncio.Future[None]) -> None:
    """Hand over, unless the mixing thread has failed: then raise its exception."""
    putting = asyncio.create_task(placements.put(placement))
    try:
        await asyncio.wait((putting, mixing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        putting.cancel()
    if mixing.done():
        await mixing


def _placement(line: Spoken, gain_db: float | None) -> Placement:
    """No later line begins before this one's slot: one that starts early waits for the end of the one before."""
    slot = line.utterance.slot
    if line.clip is None or gain_db is None:
        return Placement(clips=(), horizon_s=slot.start_s)
    clip = PlacedClip(
        id=line.utterance.id,
        start_s=line.start_s,
        samples=line.clip.samples,
        sample_hz=line.clip.sample_hz,
        gain_db=gain_db,
        replaces=Span(start_s=slot.start_s, end_s=max(slot.start_s, slot.end_s)),
    )
    return Placement(clips=(clip,), horizon_s=slot.start_s)


def utterance_record(line: Spoken, gain_db: float | None) -> UtteranceRecord:
    """The manifest's record of a line that was mixed with ``gain_db``."""
    utterance, slot, fit = line.utterance, line.utterance.slot, line.fit
    end_s = line.start_s + line.clip.duration_s if line.clip is not None else slot.end_s
    return UtteranceRecord(
        id=utterance.id,
        unit_id=utterance.unit_id,
        segment_id=utterance.segment.id,
        speaker=utterance.segment.speaker,
        voice=line.voice,
        source_text=utterance.segment.text,
        text=line.text,
        slot_start_s=media_time(slot.start_s),
        slot_end_s=media_time(slot.end_s),
        room_end_s=media_time(utterance.room_end_s),
        start_s=media_time(line.start_s),
        end_s=media_time(end_s),
        rung=fit.rung if fit is not None else None,
        rate=round(fit.rate, 4) if fit is not None else None,
        stretch=round(fit.stretch, 4) if fit is not None else None,
        gain_db=None if gain_db is None else round(gain_db, 2),
        source_lufs=utterance.source_lufs,
        candidates=tuple(_candidate_record(each) for each in line.candidates),
        alignment=utterance.alignment,
        break_confidences=tuple(
            None if confidence is None else round(confidence, 3) for confidence in utterance.break_confidences
        ),
        second=None if utterance.second is None else SecondRecord.of(utterance.second),
        flags=line.flags,
        error=line.error,
        doubt=utterance.doubt,
    )


def _candidate_record(planned: CandidatePlan) -> CandidateRecord:
    return CandidateRecord(
        text=planned.candidate.text,
        score=planned.candidate.score,
        natural_s=None if planned.natural_s is None else media_time(planned.natural_s),
        cosine=planned.cosine,
        penalty=None if planned.penalty is None else round(planned.penalty, 4),
        standing=planned.standing,
    )
