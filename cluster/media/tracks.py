"""Chooses the audio track to dub."""

from __future__ import annotations

import numpy as np

from actors.errors import ConfigError
from actors.types import ASR_HZ, Samples
from cluster.audio.vad import VoiceActivity
from cluster.media.config import MediaConfig
from cluster.media.probe import AudioTrack, MediaInfo
from cluster.media.sandbox import decode_excerpt

NUM_EXCERPTS = 3
SPEECH_THRESHOLD = 0.5
ENOUGH_SPEECH = 0.05
"""Share of an excerpt's chunks with speech above which a track counts as spoken. The detector takes
some singing and noise for speech, but hardly a twentieth of any music bed."""


def choose_audio_track(info: MediaInfo, wanted: int | None, config: MediaConfig | None = None) -> AudioTrack:
    """Track ``wanted`` (audio tracks count from 0), else the first with speech.

    Tracks are tried in file order, default ones first, commentaries last. If none has speech, it is the first.
    Raises ConfigError, listing the tracks, if ``wanted`` does not exist; MediaError as ``decode_audio``.
    """
    if wanted is not None:
        return wanted_track(info, wanted)
    ranked = by_role(info)
    if len(ranked) == 1:
        return ranked[0]
    spoken = (track for track in ranked if speech_share(sample_track(info, track, config)) >= ENOUGH_SPEECH)
    return next(spoken, ranked[0])


def wanted_track(info: MediaInfo, wanted: int) -> AudioTrack:
    """The track of that number. Raises ConfigError, listing the tracks, if there is none."""
    if not 0 <= wanted < len(info.audio):
        listing = "; ".join(track.describe() for track in info.audio)
        raise ConfigError(f"audio track must be one of {info.path}'s, found {wanted}; there are {listing}")
    return info.audio[wanted]


def by_role(info: MediaInfo) -> list[AudioTrack]:
    """The tracks in file order, default ones first, commentaries last."""
    return sorted(info.audio, key=lambda track: (track.commentary, not track.default, track.number))


def sample_track(info: MediaInfo, track: AudioTrack, config: MediaConfig | None = None) -> list[Samples]:
    """Excerpts from the middles of equal parts of the media, mono at ``ASR_HZ``. Raises MediaError."""
    config = config or MediaConfig()
    excerpt_s = min(config.track_listen_s, info.duration_s) / NUM_EXCERPTS
    excerpts = []
    for part in range(NUM_EXCERPTS):
        middle_s = info.duration_s * (part + 0.5) / NUM_EXCERPTS
        start_s = max(0.0, middle_s - excerpt_s / 2)
        excerpts.append(decode_excerpt(info, track, start_s=start_s, duration_s=excerpt_s, hz=ASR_HZ, config=config))
    return excerpts


def speech_share(excerpts: list[Samples]) -> float:
    """Share of speech in the excerpts."""
    probabilities = np.concatenate([VoiceActivity().probabilities(samples) for samples in excerpts])
    return float(np.mean(probabilities > SPEECH_THRESHOLD)) if len(probabilities) else 0.0
