"""Transcribes the source: a dub's speech is heard window by window, its language found out where none is given.

A window that cannot be transcribed keeps its original sound, and is counted; so is speech without words.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from actors import languages
from actors.types import Samples, Span, Transcript, Window
from cluster.audio.windows import cut_windows
from cluster.config.schema import Config
from cluster.pools.pool_set import JobPool
from cluster.steps.coverage import uncovered
from cluster.steps.diarize import spoken_windows
from cluster.steps.from_subtitles import brought_lines
from cluster.steps.group import group_units, heard_segments
from cluster.steps.hear import WindowHearer
from cluster.steps.language import LanguageVote, dubbable, refuse
from cluster.steps.progress import Progress, Stage
from cluster.steps.records import HeardUnit, HeardWindow, HearingNotes, SpokenWindow, Utterance
from cluster.steps.source import DubContext
from cluster.streams import closing, from_thread, ordered_map
from cluster.subtitles.cues import SpokenCue
from cluster.subtitles.records import GivenSubtitlesRecord
from cluster.tracing import spans

T = TypeVar("T")

MAX_VOTES = 8
"""Windows after which the language is chosen in any case: they are heard one after another, and a whole GPU waits."""


class Listener:
    """Transcribes windows; where no language is given, the first with speech decide for all.

    A window that leaves the language in doubt (one word, some music) does not decide alone: it waits
    for those behind it, and is transcribed again if they know better. A stretch that is certainly in another
    language keeps that language.
    """

    def __init__(
        self,
        config: Config,
        pool: JobPool,
        language: str | None,
        targets: tuple[str, ...],
        progress: Progress,
        *,
        cues_by_target: Mapping[str, Sequence[SpokenCue]] = {},
        given_subtitles: tuple[GivenSubtitlesRecord, ...] = (),
        prompt: str = "",
        tagged_language: str | None = None,
    ) -> None:
        """``pool`` transcribes. Targets in ``cues_by_target`` have subtitles, and need no translation.

        ``tagged_language`` is what the container says: it counts as one voice among those of the windows.
        """
        self._config = config
        self._targets = targets
        self._cues_by_target = cues_by_target
        self._progress = progress
        self._hearer = WindowHearer(pool, progress, config.windows.max_unheard_s, prompt)
        self._vote = LanguageVote(dubbable(config, targets, cues_by_target), tagged_language)
        self._is_given = language is not None
        self._voting = asyncio.Lock()
        self._decided = asyncio.Event()
        self._failure: Exception | None = None
        self._num_since_first_vote = 0
        self._is_uncertain = False
        self._not_transcribed: list[Span] = []
        self.language = language
        self.language_probability: float | None = None
        self.damaged = False
        self.given_subtitles = given_subtitles
        self.only: Collection[str] = ()

    @property
    def num_failed(self) -> int:
        """Windows that could not be transcribed, and keep their original sound."""
        return self._hearer.num_failed

    @property
    def notes(self) -> HearingNotes:
        """Doubts about what was heard; complete once all units were taken."""
        is_known = self.language is not None and self._vote.num_windows > 0
        return HearingNotes(
            guesses=self._vote.best,
            is_uncertain=self._is_uncertain,
            is_contradicted=is_known and not self._is_uncertain and self._vote.contradicts(self.language or ""),
            not_transcribed=tuple(sorted(self._not_transcribed, key=lambda span: span.start_s)),
        )

    def units(self, audio: Iterator[Samples], context: DubContext) -> AsyncIterator[HeardUnit]:
        """Cut ``audio`` into windows, transcribe them side by side, and group what was heard."""
        max_windows = self._config.pipeline.max_windows
        cut = spans.produced(cut_windows(audio, self._config.windows), "decode", lambda window: f"w{window.index}")
        windows = from_thread(cut, max_windows)
        spoken = self.watch(spoken_windows(windows, context))
        heard = ordered_map(spoken, self._hear, max_windows)
        return group_units(heard_segments(heard, self._config), self._config, context.media_end_s)

    def lines(
        self, units: AsyncIterator[HeardUnit], target: str, context: DubContext
    ) -> AsyncIterator[Utterance] | None:
        """The lines of a target that has subtitles."""
        return brought_lines(self._cues_by_target, units, target, context)

    async def _hear(self, spoken: SpokenWindow) -> HeardWindow:
        window = spoken.window
        with spans.span("transcribe", item=f"w{window.index}", start_s=window.start_s, end_s=window.end_s):
            _, transcript = await self.transcribe(window)
        return HeardWindow(spoken=spoken, transcript=transcript)

    async def watch(self, windows: AsyncIterator[T]) -> AsyncIterator[T]:
        """The same windows; should their source fail, none waits any longer for those behind it."""
        try:
            async with closing(windows):
                async for window in windows:
                    yield window
        except Exception as error:
            self._fail(error)
            raise

    async def transcribe(self, window: Window) -> tuple[Window, Transcript]:
        """Raises ConfigError if the speech is certainly in a language that the other engines cannot work on."""
        transcript = None
        if self.language is None:
            async with self._voting:  # windows come in order, and vote in order
                if self.language is None:
                    transcript = await self._hear_and_vote(window)
            if transcript is None or transcript.segments:
                await self._decided.wait()
            if self._failure is not None:
                raise self._failure
        if transcript is None or (transcript.segments and not self._is_in(transcript, self.language)):
            is_late = transcript is None
            transcript = await self._hearer.hear(window, self.language)
            if is_late:
                self._count(window, transcript)
        transcript = await self._hearer.by_language(window, transcript, self._may_be)
        self._note_uncovered(window, transcript)
        self._progress.advance(Stage.TRANSCRIBE, window.end_s)
        return window, transcript

    @staticmethod
    def _is_in(transcript: Transcript, language: str | None) -> bool:
        return language is not None and languages.same(transcript.language, language)

    def _may_be(self, language: str) -> bool:
        """True if speech may be in this language too: any, unless a person named the language.

        Then a stretch in a target language is still left alone, as nothing is gained by dubbing it.
        """
        return not self._is_given or any(languages.same(language, target) for target in self._targets)

    async def _hear_and_vote(self, window: Window) -> Transcript:
        try:
            transcript = await self._hearer.hear(window, None)
            self._count(window, transcript)
            self._decide(is_last=window.next_speech_s is None)
        except Exception as error:
            self._fail(error)
            raise
        return transcript

    def _fail(self, error: Exception) -> None:
        # Results are taken in order: a window before this one that waited on would hide the error for ever.
        self._failure = error
        self._decided.set()

    def _count(self, window: Window, transcript: Transcript) -> None:
        if transcript.segments and (transcript.language_probabilities or not self._is_given):
            self._vote.add(transcript, sum(span.duration_s for span in window.speech))

    def _decide(self, *, is_last: bool) -> None:
        if not self._vote.num_windows:
            return
        self._num_since_first_vote += 1
        # While the first waits for a decision, no more windows will come than may be under way.
        max_votes = min(self._config.pipeline.max_windows, MAX_VOTES)
        is_final = is_last or self._num_since_first_vote == max_votes
        choice = self._vote.decide(is_final=is_final)
        if choice is not None:
            self._is_uncertain = choice.is_uncertain
            self.language, self.language_probability = choice.language, choice.probability
            self._decided.set()
        elif is_final:
            raise refuse(self._config, self._vote, self._targets, self._cues_by_target)

    def _note_uncovered(self, window: Window, transcript: Transcript) -> None:
        self._not_transcribed += uncovered(window, transcript, self._config.windows.max_unheard_s)
