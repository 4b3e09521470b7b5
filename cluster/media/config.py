"""Limits on input media."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MediaConfig(BaseModel):
    """Limits on input. They bound time, memory and disk against hostile or broken files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_duration_s: float = Field(default=6 * 3600.0, gt=0)
    max_channels: int = Field(default=16, ge=1, le=64)
    max_sample_hz: int = Field(default=384_000, ge=8_000)
    max_streams: int = Field(default=200, ge=1)
    max_pixels: int = Field(default=8192 * 8192, ge=1)
    """Largest picture, cover art included."""
    max_open_bytes: int = Field(default=2**30, ge=2**20)
    """Memory that opening or decoding an untrusted file may take."""
    max_open_cpu_s: int = Field(default=120, ge=1)
    """Computing time that opening an untrusted file may take."""
    max_cpu_ratio: float = Field(default=30.0, gt=0)
    """Computing time that decoding or muxing may take for each second of media, besides ``max_open_cpu_s``."""
    max_block_wall_s: int = Field(default=120, ge=1)
    """Wall time after which the next second of sound must be decoded, or written to a live stream."""
    max_stall_s: int = Field(default=120, ge=1)
    """Wall time without any computing after which the opening, muxing or extraction of a file is ended."""
    max_decoded_ratio: float = Field(default=4.0, gt=1)
    """Sound that a file may decode to, as a multiple of its duration."""
    max_time_jump_s: float = Field(default=1.0, gt=0)
    """Times of a transport stream that jump further are joined to what came before."""
    more_formats: tuple[str, ...] = ()
    """Containers that are read besides the usual ones, by FFmpeg's names of their demuxers."""
    more_codecs: tuple[str, ...] = ()
    """Codecs that are decoded besides the usual ones, by FFmpeg's names."""
    track_listen_s: float = Field(default=30.0, gt=0, le=600)
    """Audio listened to per track when several could be the one with speech."""
