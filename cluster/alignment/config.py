"""Settings of the alignment of a translation with its timed segments."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Strategy = Literal["length", "semantic", "hybrid"]


class SecondConfig(BaseModel):
    """Another strategy beside the configured one, scored on a share of units: its result is in the manifest only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Strategy = "length"
    share: float = Field(default=0.1, gt=0, le=1)
    """Share of the units, chosen by a hash of id and text."""


class AlignConfig(BaseModel):
    """Search for breaks. Costs are in nats.

    The weights were fitted by ``bench/fit_alignment.py`` to the dev split of the English-Portuguese gold, with the
    multilingual Universal Sentence Encoder, and rounded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Strategy = "hybrid"
    """length: characters, time and plausible pauses, without a model. semantic: embeddings alone. hybrid: all."""
    second: SecondConfig | None = None
    """Runs only if ``strategy`` is semantic or hybrid: both results are scored with the vectors that these need."""
    segment_translations: bool = False
    """Evidence for hybrid if the translation engine gives no word links: each segment of a longer unit is translated
    on its own too, which at least doubles the work of translation for such units."""
    window_tokens: int = Field(default=48, ge=4, le=1024)
    """A break is looked for this far to either side of where length alone expects it."""
    characters_per_s: float = Field(default=15.0, ge=5, le=40)
    """Speech rate that predicts how long a text takes to say; wide characters count as two."""

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
    """(l − e)²/e in characters, where e is the segment's share of the source."""
    time_weight: float = Field(default=1.0, ge=0)
    """Squared logarithm of the ratio of a span's predicted time to its slot plus half the pause after it."""
    unmarked_weight: float = Field(default=2.0, ge=0)
    """A break where the target has no punctuation."""
    odds_after_weight: float = Field(default=1.6, ge=0)
    """Log odds of a pause after the word before such a break."""
    odds_before_weight: float = Field(default=0.5, ge=0)
    """Log odds of a pause before the word after it."""
    short_word_weight: float = Field(default=0.8, ge=0)
    """Such a break after a word of three letters or fewer: these belong to what follows (of, the; de, o)."""
