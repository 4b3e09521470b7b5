"""One target language's sound track: spoken utterances in, an encoded file out, while they come.

The original is decoded again here, lazily and only as far as utterances are settled, so that memory
holds seconds of audio whatever the length of the media.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.types import Candidate, Span, media_time
from cluster.branches import Branch
from cluster.config import Config
from cluster.decoding import decode_audio
from cluster.encoding import AudioEncoder
from cluster.limiter import RATE_HZ
from cluster.loudness import VoiceLevels
from cluster.manifest import CandidateRecord, SecondRecord, UtteranceRecord
from cluster.media import AudioTrack, MediaInfo
from cluster.mixing import Mixer, PlacedClip, Placement, mix_track
from cluster.planning import CandidateScore
from cluster.progress import Progress, Stage
from cluster.sounds import Sounds
from cluster.speaking import Spoken
from cluster.streams import Feed, closing, in_own_thread


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixedBlock:
    """The next stretch of a sound track as it will be heard; those of one target come in order, without a gap."""

    target: str
    samples: npt.NDArray[np.float32]
    """float32 (num_samples, num_channels), at ``RATE_HZ``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixdown:
    branch: Branch
    audio: Path
    """The encoded track."""
    utterances: tuple[UtteranceRecord, ...]


async def mix_down(
    spoken: AsyncIterator[Spoken],
    *,
    branch: Branch,
    info: MediaInfo,
    track: AudioTrack,
    audio: Path,
    progress: Progress,
    observe: Callable[[MixedBlock], None] | None,
    sounds: Sounds,
) -> Mixdown:
    """Mix utterances, in order of their start, with the original; ends when all is encoded in ``audio``.

    ``observe`` is called on the mixing thread, which waits for it. Only where nobody observes, a mix that was
    made before is not made again.
    """
    config, target = branch.config, branch.target
    num_channels = min(2, track.channels)
    levels = VoiceLevels(config.mixing.loudness, num_channels=num_channels)
    placements: Feed[Placement] = Feed(config.pipeline.max_utterances)

    def mix(placements: Iterable[Placement]) -> None:
        original = decode_audio(info, track, hz=RATE_HZ, channels=num_channels, config=config.media)
        mixer = Mixer(config.mixing, num_channels)
        with AudioEncoder(audio, num_channels=num_channels, bits_per_s=config.output.audio_bits_per_s) as encoder:
            for block in mix_track(mixer, original, placements):
                encoder.write(block)
                if observe is not None:
                    observe(MixedBlock(target=target, samples=block))

    def encode() -> None:
        if observe is not None:
            return mix(placements)
        return sounds.mixed(made_of(track, num_channels, config, audio.suffix), placements, audio, mix)

    encoding = in_own_thread(encode, f"mix {branch.name}")
    records: list[UtteranceRecord] = []
    try:
        async with closing(spoken):
            async for line in spoken:
                gain_db = None
                if line.clip is not None:
                    gain_db = levels.gain_db(
                        line.utterance.source_lufs, line.voice or "", line.clip.samples, line.clip.sample_hz
                    )
                await _put(placements, _placement(line, gain_db), encoding)
                records.append(_record(line, gain_db))
                progress.advance(Stage.MIX, line.utterance.slot.start_s, target)
        await _put(placements, Placement(clips=(), horizon_s=math.inf), encoding)
        await asyncio.shield(encoding)
    finally:
        placements.abort()
        # Shielded, both: a cancelled wait must not leave a thread writing into a folder that is removed next.
        await asyncio.shield(asyncio.gather(encoding, return_exceptions=True))
    progress.advance(Stage.MIX, info.duration_s, target)
    return Mixdown(branch=branch, audio=audio, utterances=tuple(records))


def made_of(track: AudioTrack, num_channels: int, config: Config, suffix: str) -> dict[str, Any]:
    """All that a mix depends on, but the source and the clips."""
    return {
        "track": track.number,
        "num_channels": num_channels,
        "mixing": config.mixing.model_dump(mode="json", exclude={"loudness"}),  # which is in the clips' gains
        "bits_per_s": config.output.audio_bits_per_s,
        "form": suffix,
    }


async def _put(placements: Feed[Placement], placement: Placement, encoding: asyncio.Future[None]) -> None:
    """Hand over, unless the encoder has failed: then raise what it raised."""
    putting = asyncio.create_task(placements.put(placement))
    try:
        await asyncio.wait((putting, encoding), return_when=asyncio.FIRST_COMPLETED)
    finally:
        putting.cancel()
    if encoding.done():
        await encoding


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


def _record(line: Spoken, gain_db: float | None) -> UtteranceRecord:
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
        candidates=tuple(
            _candidate_record(candidate, score)
            for candidate, score in zip(utterance.candidates, line.scores, strict=True)
        ),
        alignment=utterance.alignment,
        break_confidences=tuple(
            None if confidence is None else round(confidence, 3) for confidence in utterance.break_confidences
        ),
        second=None if utterance.second is None else SecondRecord.of(utterance.second),
        flags=line.flags,
        error=line.error,
    )


def _candidate_record(candidate: Candidate, score: CandidateScore) -> CandidateRecord:
    return CandidateRecord(
        text=candidate.text,
        score=candidate.score,
        natural_s=None if score.natural_s is None else media_time(score.natural_s),
        cosine=score.cosine,
        penalty=None if score.penalty is None else round(score.penalty, 4),
        standing=score.standing,
    )
