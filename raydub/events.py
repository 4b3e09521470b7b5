"""The typed events of a dub, in the order in which they become ready.

Times are seconds on the media timeline. Languages are BCP-47 tags. Ids are those of ``manifest.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from actors.types import Samples
from cluster.flags import Flag
from cluster.steps.records import HeardUnit, Spoken, Utterance
from raydub.result import DubResult

if TYPE_CHECKING:
    from cluster.pipeline import PipelineEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class DubStarted:
    """The input was opened. It is the first event."""

    source: str
    targets: tuple[str, ...]
    duration_s: float
    """Length of the media: ``event.end_s / duration_s`` of the later events is the progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeard:
    """A timed stretch of source speech, as transcribed."""

    id: str
    unit_id: str
    """Segments of one unit are translated together."""
    text: str
    language: str
    speaker: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceTranslated:
    """A line of the dub as text, with the time it may use."""

    id: str
    """``pt:u0012``, or ``pt:u0012-1`` in a unit of several segments."""
    target: str
    source_text: str
    text: str
    """The best translation; empty if there is nothing to say."""
    candidates: tuple[str, ...]
    """All translations, best first. Which one is spoken is decided by meaning and by length."""
    start_s: float
    end_s: float
    flags: tuple[Flag, ...]
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UtteranceSpoken:
    """A line of the dub as sound. Lines of one language come in order."""

    id: str
    target: str
    text: str
    """The text that is spoken; empty if the original sound is kept."""
    voice: str | None
    samples: Samples | None
    """float32 (num_samples,), mono, [-1, 1]; None if the original sound is kept."""
    sample_hz: int | None
    start_s: float
    """Where the line begins in the dub: at its slot, or a little before."""
    end_s: float
    rate: float | None
    """Speech rate over the voice's natural pace."""
    flags: tuple[Flag, ...]
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DubFinished:
    """All results are written. It is the last event."""

    result: DubResult


DubEvent: TypeAlias = DubStarted | SegmentHeard | UtteranceTranslated | UtteranceSpoken | DubFinished
"""Every event that ``Dubber.stream`` gives."""


def events_of(happened: PipelineEvent) -> Iterator[DubEvent]:
    """The public events of a pipeline's event; none for blocks of the mix."""
    if isinstance(happened, HeardUnit):
        for segment in happened.unit.segments:
            yield SegmentHeard(
                id=segment.id,
                unit_id=happened.unit.id,
                text=segment.text,
                language=segment.language,
                speaker=segment.speaker,
                start_s=segment.start_s,
                end_s=segment.end_s,
            )
    elif isinstance(happened, Utterance):
        yield _translated(happened)
    elif isinstance(happened, Spoken):
        yield _spoken(happened)


def _translated(utterance: Utterance) -> UtteranceTranslated:
    texts = tuple(candidate.text for candidate in utterance.candidates)
    return UtteranceTranslated(
        id=utterance.id,
        target=utterance.target,
        source_text=utterance.segment.text,
        text=texts[0] if texts else "",
        candidates=texts,
        start_s=utterance.slot.start_s,
        end_s=utterance.slot.end_s,
        flags=utterance.flags,
        error=utterance.error,
    )


def _spoken(spoken: Spoken) -> UtteranceSpoken:
    clip = spoken.clip
    return UtteranceSpoken(
        id=spoken.utterance.id,
        target=spoken.utterance.target,
        text=spoken.text,
        voice=spoken.voice,
        samples=None if clip is None else clip.samples,
        sample_hz=None if clip is None else clip.sample_hz,
        start_s=spoken.start_s,
        end_s=spoken.end_s,
        rate=None if spoken.fit is None else spoken.fit.rate,
        flags=spoken.flags,
        error=spoken.error,
    )
