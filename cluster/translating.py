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
from cluster.alignment import split_translation
from cluster.config import Config
from cluster.listening import HeardUnit
from cluster.manifest import Flag
from cluster.pools import JobPool
from cluster.progress import Progress, Stage

CLOSING = set(".!?…:;,。！？、，؟।\"'”’»)]}-—–")
"""A text that ends in one of these is left as it is."""


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

    @property
    def slot(self) -> Span:
        return Span(start_s=self.segment.start_s, end_s=min(self.segment.end_s, self.room_end_s))


def as_sentence(text: str) -> str:
    """With a capital and a full stop, which translators are trained on: without, "banana" becomes "a banana"."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in CLOSING else ".")


class Translator:
    """Translates units into one language and gives each of their segments its share."""

    def __init__(self, config: Config, pool: JobPool, target: str, progress: Progress) -> None:
        self._config = config
        self._pool = pool
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
            utterances = self._share_out(heard, translation.candidates)
        except (ItemError, ReplicaLostError) as error:
            utterances = self._share_out(heard, (), flag=Flag.TRANSLATION_FAILED, error=error.message)
        self._progress.advance(Stage.TRANSLATE, unit.segments[-1].end_s, self._target)
        return utterances

    def _share_out(
        self, heard: HeardUnit, candidates: Sequence[Candidate], flag: Flag = Flag.EMPTY, error: str | None = None
    ) -> list[Utterance]:
        segments = heard.unit.segments
        source = [segment.text for segment in segments]
        spans = [split_translation(source, candidate.text, self._config.alignment) for candidate in candidates]
        ends = [*(segment.start_s for segment in segments[1:]), heard.unit.room_end_s]
        utterances = []
        for index, (segment, room_end_s) in enumerate(zip(segments, ends, strict=True)):
            texts = [
                Candidate(text=shares[index].text, score=candidate.score)
                for candidate, shares in zip(candidates, spans, strict=True)
                if shares[index].text.strip()
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
                    candidates=tuple(texts),
                    flags=() if texts else (flag,),
                    error=error,
                )
            )
        return utterances
