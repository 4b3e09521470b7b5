"""Chooses the audio track to dub: by ``--from``, the container's tags and flags, and what is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actors import languages
from actors.errors import ItemError, ReplicaLostError
from actors.types import ASR_HZ, Samples, TranscribeRequest, Transcript
from cluster.media.config import MediaConfig
from cluster.media.probe import AudioTrack, MediaInfo
from cluster.media.tracks import ENOUGH_SPEECH, by_role, sample_track, speech_share, wanted_track
from cluster.pools.pool_set import JobPool
from cluster.steps.language import SURE_ALONE, guesses_of

MAX_HEARD_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackChoice:
    """The audio track that is dubbed, and why."""

    track: AudioTrack
    reason: str
    """A few words for people."""
    in_target: tuple[AudioTrack, ...] = ()
    """Tracks that are in a target language already."""


async def choose_track(
    info: MediaInfo,
    wanted: int | None,
    source_language: str | None,
    targets: Sequence[str],
    config: MediaConfig,
    pool: JobPool | None,
) -> TrackChoice:
    """Choose among the tracks with speech; those of several are heard by ``pool``, unless it is None.

    Raises ConfigError, listing the tracks, if ``wanted`` does not exist; MediaError as ``decode_audio``.
    """
    tagged = {track.number: track.language for track in info.audio}
    if wanted is not None:
        return _choice(wanted_track(info, wanted), "chosen by --audio-track", info, tagged, targets)
    ranked = by_role(info)
    if len(ranked) == 1:
        return _choice(ranked[0], "the only one", info, tagged, targets)
    samples = {track.number: await asyncio.to_thread(sample_track, info, track, config) for track in ranked}
    shares = {number: await asyncio.to_thread(speech_share, excerpts) for number, excerpts in samples.items()}
    spoken = [track for track in ranked if shares[track.number] >= ENOUGH_SPEECH]
    if not spoken:
        return _choice(ranked[0], "no track has speech", info, tagged, targets)
    if len(spoken) == 1:
        return _choice(spoken[0], "the only one with speech", info, tagged, targets)
    heard: dict[int, str | None] = {}
    if pool is not None:
        found = await asyncio.gather(*(_heard_language(pool, samples[track.number]) for track in spoken))
        heard = {track.number: language for track, language in zip(spoken, found, strict=True)}
    known = {number: heard.get(number) or language for number, language in tagged.items()}
    track, reason = rank(spoken, known, source_language, targets)
    return _choice(track, reason, info, known, targets)


def rank(
    spoken: Sequence[AudioTrack],
    known: Mapping[int, str | None],
    source_language: str | None,
    targets: Collection[str],
) -> tuple[AudioTrack, str]:
    """The best of the tracks, which come in order of their role, and why; ``known`` has their languages."""

    def is_any(track: AudioTrack, tags: Collection[str]) -> bool:
        language = known.get(track.number)
        return language is not None and any(languages.same(language, tag) for tag in tags)

    if source_language is not None:
        named: Callable[[AudioTrack], int] = lambda track: (  # noqa: E731
            0 if is_any(track, (source_language,)) else 1 if known.get(track.number) is None else 2
        )
        best = min(spoken, key=named)
        if named(best) == 0:
            return best, f"in {source_language}, as --from says"
        return best, f"no track is known to be in {source_language}"
    best = min(spoken, key=lambda track: is_any(track, targets))
    if best is not spoken[0]:
        return best, f"track {spoken[0].number} is in {known[spoken[0].number]} already"
    return best, "the default one" if best.default else "the first with speech"


async def _heard_language(pool: JobPool, excerpts: Sequence[Samples]) -> str | None:
    """The language that the excerpts together certainly sound like; None in doubt."""
    samples = np.concatenate(list(excerpts))[: MAX_HEARD_S * ASR_HZ]
    try:
        transcript: Transcript = await pool.submit(TranscribeRequest(samples=samples, language=None))
    except (ItemError, ReplicaLostError):
        return None
    best = guesses_of(transcript)[0]
    return best.language if transcript.segments and best.probability >= SURE_ALONE else None


def _choice(
    track: AudioTrack, reason: str, info: MediaInfo, known: Mapping[int, str | None], targets: Sequence[str]
) -> TrackChoice:
    in_target = tuple(
        each
        for each in info.audio
        if (language := known[each.number]) is not None
        and each is not track
        and any(languages.same(language, target) for target in targets)
    )
    return TrackChoice(track=track, reason=reason, in_target=in_target)
