"""Tells the speakers of the source apart: each window gets its turns, once enough of what follows it was heard.

Grouping by voice needs to compare: the first line waits until ``speakers.first_lookahead_s`` of the audio after it are
described, which costs a fraction of transcribing it. Later lines are compared with more.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.engine import make_engine
from actors.errors import EngineLoadError, ItemError, ReplicaLostError
from actors.types import Span, SpeakerTurn, VoicePrints, VoiceRequest, Window
from cluster.casting.cast import known_cast
from cluster.speakers.config import SpeakersConfig
from cluster.speakers.pieces import pieces_of
from cluster.speakers.rttm import read_rttm
from cluster.speakers.tracker import SpeakerTracker
from cluster.speakers.turns import turns_of_one
from cluster.steps.records import SpokenWindow
from cluster.steps.source import DubContext
from cluster.streams import closing, ordered_map

log = logging.getLogger(__name__)

MAX_REQUESTS = 8
"""Windows whose voices are described at a time."""

Describe = Callable[[VoiceRequest, float], Awaitable[VoicePrints]]
"""Describes the voices of a window; the number is the start of the window."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Described:
    window: Window
    pieces: tuple[Span, ...]
    prints: VoicePrints | None
    """None if the engine failed."""


async def spoken_windows(windows: AsyncIterator[Window], context: DubContext) -> AsyncIterator[SpokenWindow]:
    """Each window with its turns: as given in a file, as told apart, or all of one speaker.

    Raises ConfigError, and EngineLoadError if speakers must be told apart and cannot be.
    """
    config = context.config.speakers
    if config.rttm is not None:
        given = await asyncio.to_thread(read_rttm, Path(config.rttm))
        spoken = _with_given(windows, given)
    elif not config.tells_apart or not await _can_tell_apart(context):
        spoken = _with_one(windows)
    else:
        pool = await context.pool("diarization", context.config.diarization)
        known = None if config.cast is None else (await asyncio.to_thread(known_cast, context.config)).prints

        async def describe(request: VoiceRequest, start_s: float) -> VoicePrints:
            prints: VoicePrints = await pool.submit(request, order=context.progress.due_s(start_s))
            return prints

        spoken = with_turns(windows, describe, SpeakerTracker(config, known), config)
    async with closing(spoken):
        async for each in spoken:
            yield each


async def _can_tell_apart(context: DubContext) -> bool:
    """False, with a warning, if the engine's model cannot be had here and nobody asked for it."""
    if context.config.speakers.is_asked_for:
        return True
    stage = context.config.diarization
    engine = make_engine("diarization", stage.engine, stage.options)
    try:
        await asyncio.to_thread(engine.settle, "und")
    except EngineLoadError as error:
        log.warning("speakers are not told apart, and all have one voice; %s", error)
        return False
    return True


async def with_turns(
    windows: AsyncIterator[Window], describe: Describe, tracker: SpeakerTracker, config: SpeakersConfig
) -> AsyncIterator[SpokenWindow]:
    """Each window with its turns, in order; what follows it within the lookahead is compared first."""
    waiting: deque[tuple[Window, range | None]] = deque()
    described = ordered_map(windows, lambda window: _describe(window, describe), MAX_REQUESTS)
    async with closing(described):
        async for each in described:
            numbers = None if each.prints is None else tracker.hear(each.pieces, each.prints)
            waiting.append((each.window, numbers))
            while waiting and _is_due(waiting[0][0], each.window.end_s, config):
                yield await asyncio.to_thread(_settled, *waiting.popleft(), tracker, is_all=False)
    while waiting:
        yield await asyncio.to_thread(_settled, *waiting.popleft(), tracker, is_all=True)


def _is_due(window: Window, heard_s: float, config: SpeakersConfig) -> bool:
    return heard_s - window.end_s >= config.lookahead_after_s(window.end_s)


async def _describe(window: Window, describe: Describe) -> _Described:
    pieces = tuple(pieces_of(window.speech))
    length_s = window.end_s - window.start_s
    relative = (
        Span(start_s=max(0.0, each.start_s - window.start_s), end_s=min(length_s, each.end_s - window.start_s))
        for each in pieces
    )
    request = VoiceRequest(samples=window.samples, pieces=tuple(relative))
    try:
        prints = await describe(request, window.start_s)
    except (ItemError, ReplicaLostError) as error:
        log.warning("voices not told apart window=%d start_s=%.1f error=%s", window.index, window.start_s, error)
        return _Described(window=window, pieces=pieces, prints=None)
    return _Described(window=window, pieces=pieces, prints=prints)


def _settled(window: Window, numbers: range | None, tracker: SpeakerTracker, *, is_all: bool) -> SpokenWindow:
    turns = turns_of_one(window.speech) if numbers is None else tracker.turns(numbers, is_all=is_all)
    return SpokenWindow(window=window, turns=turns, pitches_hz=tracker.pitches_hz(), prints=tracker.prints())


async def _with_one(windows: AsyncIterator[Window]) -> AsyncIterator[SpokenWindow]:
    async with closing(windows):
        async for window in windows:
            yield SpokenWindow(window=window, turns=turns_of_one(window.speech))


async def _with_given(windows: AsyncIterator[Window], given: Sequence[SpeakerTurn]) -> AsyncIterator[SpokenWindow]:
    """Each window with the turns that it shares time with, or else the nearest one."""
    async with closing(windows):
        async for window in windows:
            inside = [turn for turn in given if turn.start_s < window.end_s and window.start_s < turn.end_s]
            nearest = min(given, key=lambda turn: max(turn.start_s - window.end_s, window.start_s - turn.end_s))
            turns = inside or [dataclasses.replace(nearest, start_s=window.start_s, end_s=window.end_s)]
            yield SpokenWindow(window=window, turns=turns)
