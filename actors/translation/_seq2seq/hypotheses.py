"""Hypotheses of a translator's decoder: validity, word alignment, and joining the parts of a text."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actors.types import Candidate

MAX_LOOP_TOKENS = 12
"""Longest repetition to look for: loops of NLLB are of a few words."""
MIN_LOOP_REPEATS = 4
MIN_LINK_WEIGHT = 0.1
"""Least share of a target word's attention for a link: weaker ones say nothing about order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Settings of the beam search."""

    beam_size: int
    num_hypotheses: int
    max_tokens: int
    """Limit of the hypothesis's length, end mark included."""
    no_repeat_ngram_size: int = 0
    """Length of token sequences that may not repeat; 0: all may."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hypothesis:
    tokens: tuple[str, ...]
    """SentencePiece style ("▁" begins a word), language and end mark left out."""
    finished: bool
    """True if the model ended it, not the limit."""
    log_probability: float
    """Sum over all tokens, end mark included."""
    attention: npt.NDArray[np.float32] | None
    """float32 (num_tokens, num_source_tokens): attention to the source, without language and end mark."""

    @property
    def num_predicted(self) -> int:
        return len(self.tokens) + self.finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One way to translate one window of a text."""

    text: str
    log_probability: float
    num_tokens: int
    links: tuple[tuple[int, int, float], ...] | None
    """(word of the whole source, word of this text, weight)"""


def num_repeats(tokens: Sequence[object]) -> int:
    """Most consecutive repetitions of any sequence of 1 to ``MAX_LOOP_TOKENS`` tokens."""
    most = 1 if tokens else 0
    for period in range(1, min(MAX_LOOP_TOKENS, len(tokens) // 2) + 1):
        run = 0
        for at in range(period, len(tokens)):
            run = run + 1 if tokens[at] == tokens[at - period] else 0
            most = max(most, run // period + 1)
    return most


def is_valid(hypothesis: Hypothesis, text: str, source_tokens: Sequence[str]) -> bool:
    """True if the hypothesis has text, ends, and repeats itself no more than its source does."""
    repeats = num_repeats(hypothesis.tokens)
    looping = repeats >= MIN_LOOP_REPEATS and repeats > num_repeats(source_tokens) + 1
    return hypothesis.finished and bool(text.strip()) and not looping


def all_end_within(hypotheses: Sequence[Hypothesis], max_tokens: int) -> bool:
    """True if the model ended each of them, after ``max_tokens`` at most."""
    return all(hypothesis.finished and hypothesis.num_predicted <= max_tokens for hypothesis in hypotheses)


def word_links(
    attention: npt.NDArray[np.float32], source_words: Sequence[int], target_words: Sequence[int]
) -> tuple[tuple[int, int, float], ...]:
    """Attention between tokens, (num_target_tokens, num_source_tokens), aggregated by word.

    The sequences give each token's word. A target word's tokens are averaged, a source word's are
    added up (Zenkel et al. 2019, §3), and each target word keeps its strongest link and all over
    ``MIN_LINK_WEIGHT``.
    """
    rows: dict[int, list[int]] = {}
    for token, word in enumerate(target_words):
        rows.setdefault(word, []).append(token)
    sources = sorted(set(source_words))
    member = np.equal.outer(np.asarray(source_words), sources).astype(np.float32)
    links: list[tuple[int, int, float]] = []
    for word, tokens in rows.items():
        weights = attention[tokens].mean(axis=0) @ member
        weights = weights / max(float(weights.sum()), 1e-9)
        best = int(weights.argmax())
        links += [
            (sources[at], word, round(float(weight), 4))
            for at, weight in enumerate(weights)
            if at == best or weight >= MIN_LINK_WEIGHT
        ]
    return tuple(links)


def best_combinations(alternatives: Sequence[Sequence[Part]], num: int) -> list[tuple[Part, ...]]:
    """The ``num`` most probable ways to pick one part each, by mean log probability per token, best first.

    Only the best ``num`` beginnings are extended at each step.
    """
    combined: list[tuple[Part, ...]] = [()]
    for parts in alternatives:
        extended = [(*before, part) for before, part in itertools.product(combined, parts)]
        combined = heapq.nlargest(num, extended, key=mean_log_probability)
    return combined


def mean_log_probability(parts: Sequence[Part]) -> float:
    num_tokens = sum(part.num_tokens for part in parts)
    return math.fsum(part.log_probability for part in parts) / max(1, num_tokens)


def joined(parts: Sequence[Part], separators: Sequence[str]) -> Candidate:
    """The parts as one candidate; ``separators`` go between them, one fewer than there are parts."""
    text, links = "", list[tuple[int, int, float]]()
    for part, separator in zip(parts, ["", *separators], strict=True):
        text += separator
        first_word = len(text.split())
        # Glued to the last word of the part before, its first word is that word's end.
        if text and not text[-1].isspace():
            first_word -= 1
        links += [(source, first_word + target, weight) for source, target, weight in part.links or ()]
        text += part.text
    is_scored = any(part.num_tokens for part in parts)
    return Candidate(
        text=text,
        score=mean_log_probability(parts) if is_scored else None,
        alignment=None if any(part.links is None for part in parts) else tuple(links),
    )
