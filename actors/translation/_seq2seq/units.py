"""Units of decoding: a sentence to translate, a request cut into such, and a request put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.translation._glossary import Term
from actors.translation._seq2seq.hypotheses import Part, best_combinations, joined
from actors.types import ItemFailure, Translation


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitWindow:
    """Input of the decoder: a sentence, or a piece of one."""

    text: str
    tokens: tuple[str, ...]
    words: tuple[int, ...]
    """For each token, the index of its word in the whole source text."""
    source: str
    """The model's code of the language."""
    target: str
    """The model's code of the language."""
    num_candidates: int
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeJob:
    """A request, cut into windows."""

    windows: tuple[UnitWindow, ...]
    separators: tuple[str, ...]
    """Text between the windows' translations."""
    num_candidates: int


def max_target_tokens(num_source_tokens: int) -> int:
    """Limit of a translation's length: beyond three tokens for one the decoder no longer ends.

    It depends on the window alone, not on the batch in which that is decoded. A power of two: those of a batch that
    never end are decoded again in few groups.
    """
    return min(512, 1 << (3 * num_source_tokens + 15).bit_length())


def passed_through(window: UnitWindow) -> Part:
    links = tuple((word, at, 1.0) for at, word in enumerate(sorted(set(window.words))))
    return Part(text=window.text, log_probability=0.0, num_tokens=0, links=links)


def combined(job: DecodeJob, outcomes: Sequence[list[Part] | ItemFailure]) -> Translation | ItemFailure:
    alternatives: list[list[Part]] = []
    for outcome in outcomes:
        if isinstance(outcome, ItemFailure):
            return outcome
        alternatives.append(outcome)
    chosen = best_combinations(alternatives, job.num_candidates)
    return Translation(candidates=tuple(joined(parts, job.separators) for parts in chosen))
