"""Which audio track is dubbed."""

from __future__ import annotations

import numpy as np

from actors.errors import ConfigError
from actors.types import ASR_HZ
from cluster.decoding import decode_excerpt
from cluster.media import AudioTrack, MediaConfig, MediaInfo
from cluster.voice_activity import VoiceActivity

NUM_EXCERPTS = 3
SPEECH_THRESHOLD = 0.5
ENOUGH_SPEECH = 0.05
"""Share of an excerpt's chunks with speech above which a track counts as spoken. The detector takes
some singing and noise for speech, but hardly a twentieth of any music bed."""


def choose_audio_track(info: MediaInfo, wanted: int | None, config: MediaConfig | None = None) -> AudioTrack:
    """Track ``wanted`` (audio tracks count from 0), else the first with speech: default, then file order.

    Commentaries come last. When no track has speech, the first in that order.
    Raises ConfigError, listing the tracks, if ``wanted`` does not exist; MediaError as ``decode_audio``.
    """
    if wanted is not None:
        if not 0 <= wanted < len(info.audio):
            listing = "; ".join(track.describe() for track in info.audio)
            raise ConfigError(f"audio track must be one of {info.path}'s, found {wanted}; there are {listing}")
        return info.audio[wanted]
    ranked = sorted(info.audio, key=lambda track: (track.commentary, not track.default, track.number))
    if len(ranked) == 1:
        return ranked[0]
    config = config or MediaConfig()
    return next((track for track in ranked if _speech_share(info, track, config) >= ENOUGH_SPEECH), ranked[0])


def _speech_share(info: MediaInfo, track: AudioTrack, config: MediaConfig) -> float:
    """Share of the listened time that has speech: excerpts from the middles of equal parts of the media."""
    excerpt_s = min(config.track_listen_s, info.duration_s) / NUM_EXCERPTS
    heard = []
    for part in range(NUM_EXCERPTS):
        middle_s = info.duration_s * (part + 0.5) / NUM_EXCERPTS
        start_s = max(0.0, middle_s - excerpt_s / 2)
        samples = decode_excerpt(info, track, start_s=start_s, duration_s=excerpt_s, hz=ASR_HZ, config=config)
        heard.append(VoiceActivity().probabilities(samples))
    probabilities = np.concatenate(heard)
    return float(np.mean(probabilities > SPEECH_THRESHOLD)) if len(probabilities) else 0.0
