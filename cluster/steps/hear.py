"""Transcribes one window: whole, then again by parts where speech has no words or another language is spoken."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable

from actors import languages
from actors.errors import ItemError, ReplicaLostError
from actors.types import Span, TranscribedSegment, TranscribeRequest, Transcript, Window
from cluster.logs import log_context
from cluster.pools.pool_set import JobPool
from cluster.steps.coverage import excerpt, retry_spans, shifted, stretches_of, uncovered, with_segments
from cluster.steps.language import SURE_ALONE, guesses_of
from cluster.steps.progress import Progress

log = logging.getLogger(__name__)

HINT_OF_OTHER = 0.15
"""Probability of another language from which a window's stretches are heard one by one: half a window in another
language gives 0.3 and more, a window in one language less than 0.05."""


class WindowHearer:
    """Transcribes windows, and accounts for their speech."""

    def __init__(self, pool: JobPool, progress: Progress, max_unheard_s: float, prompt: str) -> None:
        self._pool = pool
        self._progress = progress
        self._max_unheard_s = max_unheard_s
        self._prompt = prompt
        self.num_failed = 0
        """Windows that could not be transcribed."""

    async def hear(self, window: Window, language: str | None) -> Transcript:
        """The window's transcript; stretches of speech without words were heard once more by themselves.

        A window that fails is counted, and gives a transcript without segments.
        """
        try:
            transcript = await self._submit(window, language)
        except (ItemError, ReplicaLostError) as error:
            self.num_failed += 1
            with log_context(stage=self._pool.name):
                log.warning(
                    "window not transcribed index=%d start_s=%.2f error=%s", window.index, window.start_s, error
                )
            return Transcript(language=language or "und", language_probability=0.0, segments=())
        for gap in uncovered(window, transcript, self._max_unheard_s):
            for span in retry_spans(window, gap):
                transcript = await self._with_retry(window, transcript, span, language)
        return transcript

    async def by_language(self, window: Window, transcript: Transcript, may_be: Callable[[str], bool]) -> Transcript:
        """The transcript, with stretches that are certainly in another language transcribed in that language.

        ``may_be``: whether a language other than the transcript's is believed.
        """
        own = transcript.language
        if not transcript.segments or not any(
            guess.probability >= HINT_OF_OTHER and not languages.same(guess.language, own) and may_be(guess.language)
            for guess in guesses_of(transcript)
        ):
            return transcript
        stretches = stretches_of(window)
        heard = await asyncio.gather(*(self._stretch(window, span, own, may_be) for span in stretches))
        if all(languages.same(found.language, own) for _, found in heard):
            return transcript
        segments = tuple(segment for offset_s, found in heard for segment in shifted(found, offset_s))
        return dataclasses.replace(transcript, segments=segments)

    async def _stretch(
        self, window: Window, span: Span, own: str, may_be: Callable[[str], bool]
    ) -> tuple[float, Transcript]:
        """A stretch in the language it is certainly in, else in ``own``; and its start in the window."""
        offset_s, _ = excerpt(window, span)
        try:
            found = await self._submit(window, None, span)
            is_other = found.language_probability >= SURE_ALONE and may_be(found.language)
            if found.segments and not is_other and not languages.same(found.language, own):
                found = await self._submit(window, own, span)
        except (ItemError, ReplicaLostError):
            found = Transcript(language=own, language_probability=0.0, segments=())
        if not found.segments:
            found = dataclasses.replace(found, language=own)
        return offset_s, found

    async def _with_retry(self, window: Window, transcript: Transcript, span: Span, language: str | None) -> Transcript:
        """The transcript with the words of a span that had none."""
        offset_s, _ = excerpt(window, span)
        gap = Span(start_s=span.start_s - window.start_s, end_s=span.end_s - window.start_s)
        try:
            found = await self._submit(window, language or _known(transcript), span)
        except (ItemError, ReplicaLostError) as error:
            with log_context(stage=self._pool.name):
                log.warning("stretch not transcribed start_s=%.2f error=%s", span.start_s, error)
            return transcript
        segments: list[TranscribedSegment] = shifted(found, offset_s)
        log.info(
            "speech without words heard again start_s=%.2f end_s=%.2f num_segments=%d",
            span.start_s,
            span.end_s,
            len(segments),
        )
        if not transcript.segments and segments:
            return dataclasses.replace(found, segments=tuple(segments))
        return with_segments(transcript, segments, gap)

    async def _submit(self, window: Window, language: str | None, span: Span | None = None) -> Transcript:
        """Transcribe the window, or the span of it. Raises ItemError, ReplicaLostError."""
        samples = window.samples if span is None else excerpt(window, span)[1]
        voice = window.voice if span is None else None
        request = TranscribeRequest(samples=samples, language=language, prompt=self._prompt, voice=voice)
        order = self._progress.due_s(window.start_s if span is None else span.start_s)
        transcript: Transcript = await self._pool.submit(request, order=order)
        return transcript


def _known(transcript: Transcript) -> str | None:
    """The language in which the window was heard; None if it held no words."""
    return transcript.language if transcript.segments else None
