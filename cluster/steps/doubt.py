"""Doubts translations before one of them is chosen, as similarity to the source alone is fooled.

Text left in the source language has the highest similarity of all, and stock sentences of a model's training data
read well. Short texts, where models fail most, are translated back; of others only those that look wrong.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from actors import languages
from actors.engine import make_engine
from actors.errors import ItemError, ReplicaLostError
from actors.language_id import identifiable, identify
from actors.sentences import OTHER_STOPS, STOPS, as_sentence
from actors.types import CERTAIN, Candidate, TranslateRequest, Translation
from cluster.config.schema import StageConfig
from cluster.flags import Flag
from cluster.pools.pool_set import JobPool
from cluster.quality import UNSPACED, words_of
from cluster.steps.similarity import SimilarityScorer

SHORT_WORDS = 4
"""Texts of so many words are translated back."""
LEAST_LIKENESS = 0.7
"""Mean of the similarities of a translation, and of its translation back, to the source. Of 160 short phrases by
Bergamot's model, 12 of the 17 chosen ones below were wrong."""
COPIED_SHARE = 0.6
"""Share of the words that the source has too, from which a translation may have been left as it was."""
SURE_OF_SOURCE = 0.7
"""Probability of the source language against the target's."""
LENGTHS = (0.3, 2.5)
"""Characters of a translation for each of the source, least and most, once both have ``FREE_CHARACTERS``."""
FREE_CHARACTERS = 12
_BRACKETS = re.compile(r"[(\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A reason why a translation may be wrong."""

    flag: Flag
    reason: str
    likeness: float = 0.0


_LESS_CERTAIN = Doubt(flag=Flag.TRANSLATION_DOUBTFUL, reason="another translation is certain")


def suspicion(source: str, text: str, source_language: str, target_language: str) -> Doubt | None:
    """A doubt that the two texts alone give: a copy, an addition, a length that no translation has."""
    if doubt := left_untranslated(source, text, source_language, target_language):
        return doubt
    if _BRACKETS.search(text) and not _BRACKETS.search(source):
        return Doubt(flag=Flag.TRANSLATION_DOUBTFUL, reason="it holds brackets, its source none")
    if {languages.base(source_language), languages.base(target_language)} & UNSPACED:
        return None
    least, most = LENGTHS
    is_short = len(text) + FREE_CHARACTERS < least * len(source)
    if is_short or len(text) > most * len(source) + FREE_CHARACTERS:
        reason = f"it has {len(text)} characters, its source {len(source)}"
        return Doubt(flag=Flag.TRANSLATION_DOUBTFUL, reason=reason)
    return None


def left_untranslated(source: str, text: str, source_language: str, target_language: str) -> Doubt | None:
    """The doubt about a text whose words are the source's. Names and words that both languages share may stay: the
    copied ones must look like the source language."""
    pair = frozenset({languages.base(source_language), languages.base(target_language)})
    if len(pair) == 1:
        return None
    theirs = words_of(source, source_language)
    letters = [word for word in words_of(_without_names(text), target_language) if word.isalpha()]
    copied = list((Counter(letters) & Counter(theirs)).elements())
    # Asked last: the first question about languages loads their statistics, half a second.
    if not letters or len(copied) < COPIED_SHARE * len(letters) or not pair <= identifiable():
        return None
    probability = dict(identify(" ".join(copied), pair))[languages.base(source_language)]
    if probability < SURE_OF_SOURCE:
        return None
    name = languages.display_name(source_language)
    return Doubt(flag=Flag.OFF_LANGUAGE, reason=f"{len(copied)} of {len(letters)} words were left in {name}")


def _without_names(text: str) -> str:
    """The words with a small first letter; a single word, or a text in capitals, as it is."""
    words = text.split()
    return text if len(words) == 1 or text.isupper() else " ".join(word for word in words if not word[0].isupper())


class TranslationCheck:
    """Parts a text's translations into those to choose from and those that are doubtful."""

    def __init__(self, stage: StageConfig, pool: JobPool, similarity: SimilarityScorer | None, target: str) -> None:
        """``pool`` translates by ``stage``. Without ``similarity``, nothing is translated back."""
        self._engine = make_engine("translation", stage.engine, stage.options)  # knows its languages
        self._pool = pool
        self._similarity = similarity
        self._target = target

    async def sound(
        self, source: str, language: str, candidates: Sequence[Candidate], order: float
    ) -> tuple[Sequence[Candidate], Doubt | None]:
        """The candidates without doubt, in order; else those of the text put otherwise; else the best with its doubt.

        Raises ItemError and ReplicaLostError as the pool does.
        """
        doubts = await self._doubts(source, language, candidates, order)
        if None not in doubts and (other := _other_marks(source)) is not None:
            request = TranslateRequest(text=other, source_language=language, target_language=self._target)
            translation: Translation = await self._pool.submit(request, order=order)
            marked = [_with_marks(candidate, source) for candidate in translation.candidates]
            doubts += await self._doubts(source, language, marked, order)
            candidates = [*candidates, *marked]
        kept = [candidate for candidate, doubt in zip(candidates, doubts, strict=True) if doubt is None]
        if kept or not candidates:
            return kept, None
        found = [(candidate, doubt) for candidate, doubt in zip(candidates, doubts, strict=True) if doubt is not None]
        best, doubt = max(found, key=lambda each: (each[1].flag is not Flag.OFF_LANGUAGE, each[1].likeness))
        return [best], doubt

    async def _doubts(
        self, source: str, language: str, candidates: Sequence[Candidate], order: float
    ) -> list[Doubt | None]:
        if any(candidate.score == CERTAIN for candidate in candidates):
            return [None if candidate.score == CERTAIN else _LESS_CERTAIN for candidate in candidates]
        texts = [candidate.text for candidate in candidates]
        suspicions = await asyncio.to_thread(
            lambda: [suspicion(source, text, language, self._target) for text in texts]
        )
        is_short = len(words_of(source, language)) <= SHORT_WORDS * (2 if languages.base(language) in UNSPACED else 1)
        if not is_short or not self._can_go_back(language):
            return list(suspicions)
        checks = (self._unlike(source, candidate.text, language, order) for candidate in candidates)
        unlike = await asyncio.gather(*checks)
        return [mine or other for mine, other in zip(suspicions, unlike, strict=True)]

    def _can_go_back(self, language: str) -> bool:
        reads = self._similarity is not None and self._similarity.reads(language, self._target)
        return reads and self._engine.supports(self._target, language)

    async def _unlike(self, source: str, text: str, language: str, order: float) -> Doubt | None:
        """The doubt that translating it back gives."""
        assert self._similarity is not None
        request = TranslateRequest(text=as_sentence(text), source_language=self._target, target_language=language)
        try:
            translation: Translation = await self._pool.submit(request, order=order)
        except (ItemError, ReplicaLostError):
            return None  # no evidence
        back = translation.candidates[0].text
        cosines = await self._similarity.cosines(source, [text, back], order)
        known = [cosine for cosine in cosines if cosine is not None]
        if len(known) < len(cosines) or (likeness := sum(known) / len(known)) >= LEAST_LIKENESS:
            return None
        reason = f"translated back it reads {back!r}; its likeness is {likeness:.2f}, under {LEAST_LIKENESS}"
        return Doubt(flag=Flag.TRANSLATION_DOUBTFUL, reason=reason, likeness=likeness)


def _other_marks(source: str) -> str | None:
    """The text with another mark at its end, which is another text to a model; None without one."""
    body = source.rstrip(STOPS + OTHER_STOPS)
    if not body or source.endswith("?"):
        return None
    return body if source.endswith("!") else body + "!"


def _with_marks(candidate: Candidate, source: str) -> Candidate:
    body = source.rstrip(STOPS + OTHER_STOPS)
    return Candidate(text=candidate.text.rstrip(STOPS + OTHER_STOPS) + source[len(body) :], score=candidate.score)
