"""Saying it in another language: a unit is translated, and each of its segments given its share.

What cannot be translated keeps its original audio, and is flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.errors import ItemError, ReplicaLostError
from actors.types import (
    Candidate,
    Reference,
    Segment,
    Span,
    TranslateRequest,
    Translation,
)
from cluster.aligning import Aligner
from cluster.alignment import Alignment, SecondSpan
from cluster.config import Config
from cluster.listening import HeardUnit
from cluster.manifest import Flag
from cluster.pools import JobPool
from cluster.progress import Progress, Stage
from cluster.sentences import as_sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One line of one target language, with the time it may use. Ids read pt:u0012, or pt:u0012-1 in a longer unit."""

    id: str
    unit_id: str
    segment: Segment
    target: str
    room_end_s: float
    source_lufs: float | None
    reference: Reference | None
    candidates: tuple[Candidate, ...]
    """Best first; none if there is nothing to say."""
    flags: tuple[Flag, ...]
    error: str | None
    voice: str | None = None
    """Asked for by a person; None takes the language's."""
    alignment: str | None = None
    """How its words were found among its unit's; None where they are all of them."""
    break_confidences: tuple[float | None, ...] = ()
    """Per candidate, how sure the break is that it begins at, 0 to 1; None where the unit begins. See ``alignment``."""
    second: SecondSpan | None = None
    """What a second strategy makes of the first candidate, where the unit was sampled for that."""

    @property
    def slot(self) -> Span:
        return Span(start_s=self.segment.start_s, end_s=min(self.segment.end_s, self.room_end_s))


class Translator:
    """Translates units into one language and gives each of their segments its share."""

    def __init__(
        self, config: Config, pool: JobPool, embedding: JobPool | None, target: str, progress: Progress
    ) -> None:
        """``embedding`` may be None where alignment does without."""
        self._config = config
        self._pool = pool
        self._aligner = Aligner(config.alignment, config.embedding, embedding, pool, target)
        self._target = target
        self._progress = progress

    async def translate(self, heard: HeardUnit) -> list[Utterance]:
        unit = heard.unit
        request = TranslateRequest(
            text=as_sentence(unit.text),
            source_language=unit.language,
            target_language=self._target,
            num_candidates=self._config.translation.num_candidates,
        )
        due_s = self._progress.due_s(unit.segments[0].start_s)
        try:
            translation: Translation = await self._pool.submit(request, order=due_s)
            alignments = await self._aligner.align(unit, translation.candidates, due_s)
            utterances = self._share_out(heard, translation.candidates, alignments)
        except (ItemError, ReplicaLostError) as error:
            utterances = self._share_out(heard, (), (), flag=Flag.TRANSLATION_FAILED, error=error.message)
        self._progress.advance(Stage.TRANSLATE, unit.segments[-1].end_s, self._target)
        return utterances

    def _share_out(
        self,
        heard: HeardUnit,
        candidates: Sequence[Candidate],
        alignments: Sequence[Alignment],
        flag: Flag = Flag.EMPTY,
        error: str | None = None,
    ) -> list[Utterance]:
        segments = heard.unit.segments
        # A candidate that leaves a segment without words is none, unless it is the only one.
        whole = [index for index, each in enumerate(alignments) if all(span.text for span in each.spans)] or [0]
        candidates = [candidates[index] for index in whole if index < len(candidates)]
        alignments = [alignments[index] for index in whole if index < len(alignments)]
        ends = [*(segment.start_s for segment in segments[1:]), heard.unit.room_end_s]
        utterances = []
        for index, (segment, room_end_s) in enumerate(zip(segments, ends, strict=True)):
            shares = [
                (alignment.spans[index], candidate.score)
                for candidate, alignment in zip(candidates, alignments, strict=True)
                if alignment.spans[index].text
            ]
            utterances.append(
                Utterance(
                    id=f"{self._target}:{heard.unit.id}" + (f"-{index}" if len(segments) > 1 else ""),
                    unit_id=heard.unit.id,
                    segment=segment,
                    target=self._target,
                    room_end_s=room_end_s,
                    source_lufs=heard.source_lufs,
                    reference=heard.reference,
                    candidates=tuple(Candidate(text=share.text, score=score) for share, score in shares),
                    flags=() if shares else (flag,),
                    error=error,
                    alignment=alignments[0].method if len(segments) > 1 and alignments else None,
                    break_confidences=tuple(share.confidence for share, _ in shares) if len(segments) > 1 else (),
                    second=alignments[0].second[index] if alignments and alignments[0].second else None,
                )
            )
        return utterances
