"""The inputs of an alignment: a unit with its translation, and evidence from models."""

from __future__ import annotations

from dataclasses import dataclass

from actors.types import TokenVectors

Link = tuple[int, int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignTask:
    """A unit's segments and one translation of it."""

    segments: tuple[str, ...]
    source: str
    """The segments' texts in order, as the translator and the embedder read them."""
    target: str
    language: str
    """BCP-47 tag of the target's language."""
    rooms_s: tuple[float, ...] | None = None
    """Time that each segment's line may take: its slot and half the pause after it. None leaves time out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Output of models for one task; each part may be missing."""

    source: TokenVectors | None = None
    target: TokenVectors | None = None
    links: tuple[Link, ...] | None = None
    """(source word, target word, weight), words being ``text.split()``: see ``Candidate.alignment``."""
    translations: tuple[str, ...] | None = None
    """Each segment translated on its own."""
