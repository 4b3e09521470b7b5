"""Translates units, and gives each of their segments its share of the translation.

A unit that cannot be translated keeps its original audio, and is flagged.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterator, Sequence

from actors import languages
from actors.engine import make_engine
from actors.errors import ItemError, ReplicaLostError
from actors.sentences import as_sentence
from actors.types import Candidate, TranslateRequest, Translation, Unit
from cluster.alignment.align import AlignedSpan, Alignment
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.pools.pool_set import JobPool
from cluster.steps.align import Aligner
from cluster.steps.doubt import Doubt, TranslationCheck
from cluster.steps.noise import is_noise_line
from cluster.steps.progress import Progress, Stage
from cluster.steps.records import HeardUnit, Utterance
from cluster.steps.similarity import SimilarityScorer
from cluster.tracing.spans import span

DURATION_STEP_S = 0.25
"""Durations asked for are whole steps: a transcription that is timed a little differently finds stored results."""


class Translator:
    """Translates units into one language and gives each of their segments its share.

    ``translate`` must be called in the order of the units: each is context of the next.
    """

    def __init__(
        self, config: Config, pool: JobPool, embedding: JobPool | None, target: str, progress: Progress
    ) -> None:
        """``embedding`` may be None where alignment does without."""
        self._config = config
        self._pool = pool
        self._engine = make_engine("translation", config.translation.engine, config.translation.options)
        self._aligner = Aligner(config.alignment, config.embedding, embedding, pool, target)
        similarity = None if embedding is None else SimilarityScorer(config, embedding)
        self._check = TranslationCheck(config.translation, pool, similarity, target)
        self._target = target
        self._progress = progress
        self._before: deque[str] = deque(maxlen=config.translation.context_lines)

    async def translate(self, heard: HeardUnit) -> list[Utterance]:
        context = tuple(self._before)
        self._before.append(heard.unit.text)  # at once: the next units do not wait for this one
        utterances = await self._translate(heard, context)
        self._progress.advance(Stage.TRANSLATE, heard.unit.segments[-1].end_s, self._target)
        return utterances

    async def _translate(self, heard: HeardUnit, context: tuple[str, ...]) -> list[Utterance]:
        left_as_it_is = self._why_left(heard.unit.language)
        if left_as_it_is is not None:
            return self._share_out(heard, (), (), flag=left_as_it_is)
        noises = self._noises(heard.unit)
        words = tuple(segment for segment in heard.unit.segments if segment.id not in noises)
        if not words:
            return self._share_out(heard, (), (), noises=noises)
        unit = dataclasses.replace(heard.unit, segments=words)
        request = self._request(unit, context)
        due_s = self._progress.due_s(unit.segments[0].start_s)
        try:
            translation: Translation = await self._pool.submit(request, order=due_s)
            candidates, doubt = await self._check.sound(request.text, unit.language, translation.candidates, due_s)
            with span("align"):
                alignments = await self._aligner.align(unit, candidates, due_s)
            return self._share_out(heard, candidates, alignments, noises=noises, doubt=doubt)
        except (ItemError, ReplicaLostError) as error:
            return self._share_out(heard, (), (), noises=noises, flag=Flag.TRANSLATION_FAILED, error=error.message)

    def _noises(self, unit: Unit) -> frozenset[str]:
        """Ids of segments that need no translation, and keep their original sound."""
        is_kept = self._config.translation.keep_noises
        return frozenset(segment.id for segment in unit.segments if is_kept and is_noise_line(segment))

    def _request(self, unit: Unit, context: tuple[str, ...]) -> TranslateRequest:
        reads_context = self._engine.reads_context
        return TranslateRequest(
            text=as_sentence(unit.text),
            source_language=unit.language,
            target_language=self._target,
            num_candidates=self._config.translation.num_candidates,
            context=context if reads_context else (),
            duration_s=_duration_s(unit) if reads_context else None,
        )

    def _why_left(self, language: str) -> Flag | None:
        """The flag of speech that keeps its original sound because of its language; None if it is translated."""
        if languages.same(language, self._target):
            return Flag.ALREADY_IN_TARGET
        return None if self._engine.supports(language, self._target) else Flag.LANGUAGE_UNSUPPORTED

    def _share_out(
        self,
        heard: HeardUnit,
        candidates: Sequence[Candidate],
        alignments: Sequence[Alignment],
        noises: Collection[str] = (),
        flag: Flag = Flag.EMPTY,
        error: str | None = None,
        doubt: Doubt | None = None,
    ) -> list[Utterance]:
        """One line for each segment; ``candidates`` and ``alignments`` are of those that are no ``noises``."""
        candidates, alignments = _whole_candidates(candidates, alignments)
        words = [segment.id for segment in heard.unit.segments if segment.id not in noises]
        utterances = []
        for line in self._unsaid(heard):
            if line.segment.id in noises:
                utterances.append(dataclasses.replace(line, flags=(*line.flags, Flag.NOISE)))
                continue
            place = words.index(line.segment.id)
            shares = _shares_at(place, candidates, alignments)
            flags = (flag,) if not shares else () if doubt is None else (doubt.flag,)
            utterances.append(
                dataclasses.replace(
                    line,
                    candidates=tuple(Candidate(text=share.text, score=score) for share, score in shares),
                    flags=(*line.flags, *flags),
                    error=error,
                    alignment=alignments[0].method if len(words) > 1 and alignments else None,
                    break_confidences=tuple(share.confidence for share, _ in shares) if len(words) > 1 else (),
                    doubt=doubt.reason if shares and doubt is not None else None,
                    second=alignments[0].second[place] if alignments and alignments[0].second else None,
                )
            )
        return utterances

    def _unsaid(self, heard: HeardUnit) -> Iterator[Utterance]:
        """A line without words for each segment."""
        segments = heard.unit.segments
        ends = [*(segment.start_s for segment in segments[1:]), heard.unit.room_end_s]
        for index, (segment, room_end_s) in enumerate(zip(segments, ends, strict=True)):
            yield Utterance(
                id=f"{self._target}:{heard.unit.id}" + (f"-{index}" if len(segments) > 1 else ""),
                unit_id=heard.unit.id,
                segment=segment,
                target=self._target,
                room_end_s=room_end_s,
                source_lufs=heard.source_lufs,
                pitch_hz=heard.pitch_hz,
                reference=heard.reference,
                candidates=(),
                flags=heard.segment_flags.get(segment.id, ()),
                error=None,
            )


def _shares_at(
    place: int, candidates: Sequence[Candidate], alignments: Sequence[Alignment]
) -> list[tuple[AlignedSpan, float | None]]:
    """The share and the score of each candidate that has words for this segment."""
    return [
        (alignment.spans[place], candidate.score)
        for candidate, alignment in zip(candidates, alignments, strict=True)
        if alignment.spans[place].text
    ]


def _duration_s(unit: Unit) -> float:
    """Seconds of speech in the unit, its pauses left out."""
    spoken_s = sum(segment.end_s - segment.start_s for segment in unit.segments)
    return max(1, round(spoken_s / DURATION_STEP_S)) * DURATION_STEP_S


def _whole_candidates(
    candidates: Sequence[Candidate], alignments: Sequence[Alignment]
) -> tuple[list[Candidate], list[Alignment]]:
    """Leave out candidates that give a segment no words, unless it is the only one."""
    whole = [index for index, each in enumerate(alignments) if all(span.text for span in each.spans)] or [0]
    return (
        [candidates[index] for index in whole if index < len(candidates)],
        [alignments[index] for index in whole if index < len(alignments)],
    )
