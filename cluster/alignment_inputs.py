"""What an alignment is made from: a unit and its translation, what models say of them, and how to weigh it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.types import TokenVectors

Strategy = Literal["length", "semantic", "hybrid"]
Link = tuple[int, int, float]


class SecondConfig(BaseModel):
    """Another strategy beside the configured one, scored on a share of units: its result is in the manifest only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Strategy = "length"
    share: float = Field(default=0.1, gt=0, le=1)
    """Of the units, chosen by a hash of id and text."""


class AlignConfig(BaseModel):
    """How breaks are found. Costs are in nats; weights were fitted to English-Portuguese gold, its dev split, with the
    multilingual Universal Sentence Encoder, as ``bench/fit_alignment.py`` does, and rounded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Strategy = "hybrid"
    """length: characters, time and plausible pauses, no model asked. semantic: embeddings alone. hybrid: all."""
    second: SecondConfig | None = None
    """Runs where ``strategy`` is semantic or hybrid: the vectors asked for by these are what both are scored by."""
    segment_translations: bool = False
    """Evidence for hybrid where the translator tells no word links: each segment of a longer unit is translated
    on its own too, which at least doubles the translator's work for such units."""
    window_tokens: int = Field(default=48, ge=4, le=1024)
    """A break is looked for this far to either side of where length alone expects it."""
    characters_per_s: float = Field(default=15.0, ge=5, le=40)
    """Speech rate by which a text's time is foreseen; wide characters count as two."""

    span_weight: float = Field(default=18.0, ge=0)
    """1 − cosine of a segment and its span, both pooled from the vectors of their tokens."""
    word_weight: float = Field(default=4.5, ge=0)
    """A token whose nearest words are in its segment."""
    edge_weight: float = Field(default=3.0, ge=0)
    """Cosine of the words before, and of those after, a break and its source's."""
    link_weight: float = Field(default=4.0, ge=0)
    """A token that the translator made of its segment."""
    translation_weight: float = Field(default=2.0, ge=0)
    """A token that stands in its segment's own translation."""
    length_weight: float = Field(default=0.3, ge=0)
    """(l − e)²/e in characters, e the segment's share of the source."""
    time_weight: float = Field(default=1.0, ge=0)
    """The squared logarithm of by how much a span's foreseen time exceeds its slot and half the pause after it."""
    unmarked_weight: float = Field(default=2.0, ge=0)
    """A break where the target has no punctuation."""
    odds_after_weight: float = Field(default=1.6, ge=0)
    """Log odds of a pause after the word before such a break."""
    odds_before_weight: float = Field(default=0.5, ge=0)
    """Log odds of a pause before the word after it."""
    short_word_weight: float = Field(default=0.8, ge=0)
    """Such a break after a word of three letters or fewer: these belong to what follows (of, the; de, o)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignTask:
    """A unit's segments and one translation of it."""

    segments: tuple[str, ...]
    source: str
    """The segments' texts in order, as the translator and the embedder read them."""
    target: str
    language: str
    """BCP-47, of the target."""
    rooms_s: tuple[float, ...] | None = None
    """What each segment's line may take: its slot and half the pause after it. None leaves time out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What models say of a task; each part may be missing."""

    source: TokenVectors | None = None
    target: TokenVectors | None = None
    links: tuple[Link, ...] | None = None
    """(source word, target word, weight), words being ``text.split()``: see ``Candidate.alignment``."""
    translations: tuple[str, ...] | None = None
    """Each segment translated on its own."""
