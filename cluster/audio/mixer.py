"""Mixes one target language's audio: the original, ducked under the dub, plus the dubbed clips.

Everything is at ``RATE_HZ``. The mix is made from left to right as clips become known, and is exactly as
long as the original. The block sizes of the original and the order in which clips arrive do not change it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from actors.errors import DubbingError, ItemError
from actors.types import Samples, Span
from cluster.audio.config import MixConfig
from cluster.audio.limiter import RATE_HZ, Block, Limiter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlacedClip:
    """A dubbed utterance with its place on the timeline."""

    id: str
    start_s: float
    samples: Samples
    """float32 (num_samples,), mono, at ``sample_hz``."""
    sample_hz: int
    gain_db: float
    replaces: Span | None = None
    """The source speech that this clip replaces: ducked too, so that its rest is not heard after a shorter dub."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement:
    """Clips for the mix, and a promise: no later clip begins before ``horizon_s`` (inf: there are no more).

    A clip begins at its own start or at that of the speech it replaces, whichever is first.
    """

    clips: tuple[PlacedClip, ...]
    horizon_s: float


def mix_track(mixer: Mixer, original: Iterable[Block], placements: Iterable[Placement]) -> Iterator[Block]:
    """Mixed blocks, as early as the placements allow: as many samples as the original, in order.

    Both inputs are taken lazily, one block and one placement at a time, and may block the thread.
    Raises DubbingError if a clip begins before an earlier horizon, or if the placements end before
    they reach the end of the original.
    """
    pending = iter(placements)
    for block in original:
        while len(block) > 0:
            if (num_ready := mixer.num_ready_samples) == 0:
                placement = next(pending, None)
                if placement is None:
                    raise DubbingError(
                        f"placements must end with horizon_s=inf; they ended at {mixer.horizon_s:.3f} s, "
                        f"with the mix at {mixer.position_s:.3f} s; send one for the end of the track"
                    )
                mixer.place(placement)
                continue
            ready, block = block[:num_ready], block[num_ready:]
            if len(finished := mixer.mix(ready)) > 0:
                yield finished
    if len(rest := mixer.finish()) > 0:
        yield rest


class Mixer:
    """Mixes one track. In a loop: ``place`` clips, ``mix`` up to ``num_ready_samples``; at the end ``finish``.

    Memory: the clips between the mix and the horizon.
    """

    def __init__(self, config: MixConfig, num_channels: int) -> None:
        self._config = config
        self._ducking = Ducking(config)
        self._limiter = Limiter(config.ceiling_dbtp, num_channels)
        self._clips: list[_Overlay] = []
        self._position = 0
        self._horizon_s = 0.0

    @property
    def position_s(self) -> float:
        """End of the mixed part of the original."""
        return self._position / RATE_HZ

    @property
    def horizon_s(self) -> float:
        return self._horizon_s

    @property
    def num_ready_samples(self) -> int:
        """Number of samples of the original that ``mix`` accepts now."""
        ready = min(self._horizon_s * RATE_HZ, 2.0**62) - self._ducking.lookahead_samples - self._position
        return max(0, int(ready))

    def place(self, placement: Placement) -> None:
        """Add clips, in any order, and move the horizon.

        Raises DubbingError if a clip begins before the promised horizon, ItemError if one is not finite;
        either leaves the mix as it was.
        """
        overlays = [self._overlay(clip) for clip in placement.clips]
        for clip, overlay in zip(placement.clips, overlays, strict=True):
            bisect.insort(self._clips, overlay, key=_Overlay.order)
            end_s = overlay.end / RATE_HZ
            replaced = clip.replaces or Span(start_s=clip.start_s, end_s=end_s)
            self._ducking.add(min(clip.start_s, replaced.start_s), max(end_s, replaced.end_s))
        self._horizon_s = max(self._horizon_s, placement.horizon_s)

    def mix(self, original: Block) -> Block:
        """Mix the next block of the original; float32 (num_samples, num_channels).

        Returns finished samples, which lag by the limiter's 5 ms. Raises DubbingError if the block goes
        past ``num_ready_samples``.
        """
        if len(original) > self.num_ready_samples:
            raise DubbingError(
                f"a block must end {self._ducking.lookahead_samples / RATE_HZ:.3f} s before the horizon at "
                f"{self._horizon_s:.3f} s; found {len(original)} samples after {self.position_s:.3f} s; place first"
            )
        end = self._position + len(original)
        mixed = original * self._ducking.gains(self._position, end)[:, None]
        for clip in self._clips:
            start, stop = max(clip.start, self._position), min(clip.end, end)
            if start < stop:
                heard = clip.samples[start - clip.start : stop - clip.start, None]
                mixed[start - self._position : stop - self._position] += heard
        # Float tracks may hold NaN or infinity; one of them would silence all that follows in the limiter.
        np.nan_to_num(mixed, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        self._position = end
        self._clips = [clip for clip in self._clips if clip.end > end]
        return self._limiter.process(mixed)

    def finish(self) -> Block:
        """The last samples, after the last block of the original. Clips that reach past its end are cut there."""
        return self._limiter.finish()

    def _overlay(self, clip: PlacedClip) -> _Overlay:
        begins_s = clip.start_s if clip.replaces is None else min(clip.start_s, clip.replaces.start_s)
        if begins_s < self._horizon_s:
            raise DubbingError(
                f"a clip must begin at or after the horizon of {self._horizon_s:.3f} s; "
                f"clip {clip.id} begins at {begins_s:.3f} s; hold the horizon back for utterances still open"
            )
        if not np.isfinite(clip.samples).all():
            raise ItemError(f"a clip must hold finite samples; clip {clip.id} does not; keep the original there")
        samples = soxr.resample(clip.samples, clip.sample_hz, RATE_HZ) * np.float32(10 ** (clip.gain_db / 20))
        fade_samples = min(round(self._config.fade_s * RATE_HZ), len(samples) // 2)
        fade = _raised_cosine(fade_samples)
        samples[:fade_samples] *= fade
        samples[len(samples) - fade_samples :] *= fade[::-1]
        return _Overlay(id=clip.id, start=round(clip.start_s * RATE_HZ), samples=samples)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Overlay:
    """A clip ready to be added: at ``RATE_HZ``, with gain and fades."""

    id: str
    start: int
    samples: Samples

    @property
    def end(self) -> int:
        return self.start + len(self.samples)

    def order(self) -> tuple[int, str]:
        """Sorting key: sums of floats depend on their order, and clips may arrive in any."""
        return self.start, self.id


class Ducking:
    """Gain of the original over time, from the times of the dub: an envelope, not a compressor.

    The gain falls and rises by a raised cosine in decibels. Intervals with less than attack + release between
    them are joined: the original would come back only for a moment, which is heard as pumping.
    """

    def __init__(self, config: MixConfig) -> None:
        self._gain = np.float32(10 ** (config.duck_db / 20))
        attack, release = (round(ramp_s * RATE_HZ) for ramp_s in (config.attack_s, config.release_s))
        self._attack = self._curve(config.duck_db, attack)
        self._release = self._curve(config.duck_db, release)[::-1]
        self._intervals: list[tuple[int, int]] = []
        self.lookahead_samples = attack + release + 1
        """All intervals must be known this far past a sample; 1 of it is for rounding times to samples."""

    def add(self, start_s: float, end_s: float) -> None:
        """Duck from ``start_s`` to ``end_s``; begins at least ``lookahead_samples`` after all gains taken so far."""
        start, end = round(start_s * RATE_HZ), round(end_s * RATE_HZ)
        bridge = len(self._attack) + len(self._release)
        apart = []
        for known_start, known_end in self._intervals:
            if known_end + bridge < start or end + bridge < known_start:
                apart.append((known_start, known_end))
            else:
                start, end = min(start, known_start), max(end, known_end)
        bisect.insort(apart, (start, end))
        self._intervals = apart

    def gains(self, start: int, end: int) -> Samples:
        """float32 (end - start,): linear gains of these samples. Calls must go forward in time."""
        gains = np.ones(end - start, dtype=np.float32)
        for ducked_start, ducked_end in self._intervals:
            self._write(gains, self._attack, ducked_start - len(self._attack) - start)
            gains[max(0, ducked_start - start) : max(0, ducked_end - start)] = self._gain
            self._write(gains, self._release, ducked_end - start)
        self._intervals = [interval for interval in self._intervals if interval[1] + len(self._release) > end]
        return gains

    @staticmethod
    def _curve(depth_db: float, num_samples: int) -> Samples:
        return np.asarray(np.power(10.0, depth_db / 20 * _raised_cosine(num_samples)), dtype=np.float32)

    @staticmethod
    def _write(gains: Samples, curve: Samples, offset: int) -> None:
        start, stop = max(offset, 0), min(offset + len(curve), len(gains))
        if start < stop:
            gains[start:stop] = curve[start - offset : stop - offset]


def _raised_cosine(num_samples: int) -> Samples:
    """float32 (num_samples,): rises from 0 to 1, touching neither."""
    phase = np.pi * (np.arange(num_samples) + 0.5) / max(num_samples, 1)
    return np.asarray(0.5 - 0.5 * np.cos(phase), dtype=np.float32)
