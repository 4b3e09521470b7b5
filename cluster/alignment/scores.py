"""Scores how well parts of a translation match the segments of its source: by embeddings, links and translations.

Scores over spans are differences of sums up to a token (late pooling: a text is read once, and any span
of it pooled in O(dim)), so a window of breaks costs no more than its own size.

Shapes: M = tokens of the target, n = tokens of the source, N = spans, dim = of the embedding. An edge
is a position before, between or after tokens: there are M + 1.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from actors.types import TokenVectors
from cluster.alignment.inputs import AlignTask, Link
from cluster.alignment.tokens import token_spans

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Float = TypeVar("Float", bound=np.floating)
Ranges = Sequence[tuple[int, int]]

SHARPNESS = 15.0
"""Factor of the softmax over cosines by which words correspond. Found on the gold's dev split, between 5 and 20."""
TRIGRAM_SHARPNESS = 6.0
"""Factor of the softmax over shares of trigrams by which a token belongs to one segment's translation."""


def source_shares(task: AlignTask, num_spans: int) -> list[tuple[int, int]]:
    """Ranges of characters of the source, one per span; the last takes the segments that have none of their own."""
    starts, position = [], 0
    for segment in task.segments:
        position = task.source.index(segment, position)
        starts.append(position)
        position += len(segment)
    return list(itertools.pairwise([*starts[:num_spans], len(task.source)]))


class SemanticScores:
    """Compares source and target in one space of vectors, each centred on its mean, which tells no words apart."""

    def __init__(self, task: AlignTask, shares: Ranges, source: TokenVectors, target: TokenVectors) -> None:
        source_words = token_spans(task.source)
        word_starts = [first for first, _ in source_words]
        self._firsts = np.searchsorted(word_starts, [first for first, _ in shares])
        self._num_spans = len(shares)
        self._source = _pooled(source, task.source, [*word_starts, len(task.source)])
        self._target = _pooled(
            target, task.target, [*(first for first, _ in token_spans(task.target)), len(task.target)]
        )
        bounds = [*self._firsts, len(source_words)]
        self._segments = _normalised(np.diff(self._source[bounds], axis=0))
        """(N, dim)"""
        words = _normalised(np.diff(self._target, axis=0)) @ _normalised(np.diff(self._source, axis=0)).T
        self._cosines = words.astype(np.float64)
        """(M, n): cosine of each target word and each source word"""
        self._segment_of = np.repeat(np.eye(self._num_spans), np.diff(bounds), axis=0)
        """(n, N)"""

    def cosines(self, span: int, firsts: Ints, ends: Ints) -> Floats:
        """(num_firsts, num_ends): cosine of the segment and each range of the target's tokens."""
        sums = self._target[ends][None] - self._target[firsts][:, None]
        lengths = np.sqrt(np.einsum("fed,fed->fe", sums, sums))
        cosines: Floats = (sums @ self._segments[span]) / np.maximum(lengths, 1e-9)
        return cosines

    def word_shares(self) -> Floats:
        """(M, N): share of each token that matches each segment's words, mutually (Jalili Sabet et al., 2020)."""
        exponents = np.exp(SHARPNESS * (self._cosines - 1.0))
        mutual = exponents**2 / exponents.sum(axis=0, keepdims=True) / exponents.sum(axis=1, keepdims=True)
        shares: Floats = mutual @ self._segment_of
        return shares

    def edge_cosines(self) -> Floats:
        """(N − 1, M + 1): cosine of the words before a break and before the source's, plus that of those after."""
        cosines = np.zeros((self._num_spans - 1, len(self._target)))
        for index, first in enumerate(self._firsts[1:]):
            if 0 < first < self._cosines.shape[1]:
                cosines[index, 1:-1] = self._cosines[:-1, first - 1] + self._cosines[1:, first]
        return cosines


def _pooled(tokens: TokenVectors, text: str, edges: Sequence[int]) -> npt.NDArray[np.float32]:
    """float32 (num_edges, dim): the sum, centred, of the vectors of the characters before each edge.

    A model's token that an edge divides counts by the share of its characters.
    """
    if not len(tokens.spans):
        return np.zeros((len(edges), tokens.vectors.shape[1]), dtype=np.float32)
    vectors = tokens.vectors - tokens.vectors.mean(axis=0)
    sums = sums_from_zero(vectors)
    positions = np.array(edges)
    index = np.minimum(np.searchsorted(tokens.spans[:, 1], positions), len(vectors) - 1)
    starts, ends = tokens.spans[index].T
    starts = np.minimum(_after_spaces(text)[starts], ends)
    share = np.clip((positions - starts) / np.maximum(ends - starts, 1), 0.0, 1.0)[:, None]
    pooled: npt.NDArray[np.float32] = (sums[index] + share * vectors[index]).astype(np.float32)
    return pooled


def _after_spaces(text: str) -> Ints:
    """int64 (num_characters,): the first non-space at or after each character. Models count spaces to the next word."""
    solid = [index if not character.isspace() else len(text) for index, character in enumerate(text)]
    return np.minimum.accumulate(np.array(solid, dtype=np.int64)[::-1])[::-1]


def sums_from_zero(values: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """Cumulative sums over the first axis, from nothing to all."""
    return np.concatenate((np.zeros_like(values[:1]), np.cumsum(values, axis=0)))


def _normalised(rows: npt.NDArray[Float]) -> npt.NDArray[Float]:
    unit: npt.NDArray[Float] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


# --- evidence of the translator


def link_shares(task: AlignTask, shares: Ranges, links: Sequence[Link]) -> Floats:
    """(M, N): share of each token that the translator made from each segment."""
    source_words, target_words = _words(task.source), _words(task.target)
    segments = _overlap(source_words, shares)
    made = np.zeros((len(target_words), len(shares)))
    for source_word, target_word, weight in links:
        if source_word < len(source_words) and target_word < len(target_words):
            made[target_word] += weight * segments[source_word]
    return _overlap(target_words, token_spans(task.target)).T @ made


def _words(text: str) -> list[tuple[int, int]]:
    """Ranges of characters of ``text.split()``."""
    words, position = [], 0
    for word in text.split():
        first = text.index(word, position)
        position = first + len(word)
        words.append((first, position))
    return words


def _overlap(ranges: Ranges, others: Ranges) -> Floats:
    """(num_ranges, num_others): share of each range that lies in each of the others."""
    firsts, ends = np.array(ranges, dtype=np.float64).reshape(-1, 2).T
    other_firsts, other_ends = np.array(others, dtype=np.float64).reshape(-1, 2).T
    common = np.minimum(ends[:, None], other_ends) - np.maximum(firsts[:, None], other_firsts)
    result: Floats = np.maximum(common, 0.0) / np.maximum(ends - firsts, 1.0)[:, None]
    return result


def translation_shares(target: str, parts: Sequence[str]) -> Floats:
    """(M, N): degree to which each token's trigrams belong to one segment's own translation rather than another's."""
    known = [set(_trigrams(_flat(part))) for part in parts]
    text = _flat(target)
    # _flat puts one character before the text: a token's neighbours are in its range too.
    tokens = [set(_trigrams(text[first : end + 2])) for first, end in token_spans(target)]
    found = np.array([[len(token & part) / max(1, len(token)) for part in known] for token in tokens])
    likely = np.exp(TRIGRAM_SHARPNESS * (found - 1.0))
    shares: Floats = likely / likely.sum(axis=1, keepdims=True) * found.max(axis=1, keepdims=True)
    return shares


def _flat(text: str) -> str:
    """The text in lower case, with a space for each character that is part of no word, and one around the whole."""
    return "".join([" ", *(_lower(each) if unicodedata.category(each)[0] in "LMN" else " " for each in text), " "])


def _lower(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character  # İ becomes two: positions would shift


def _trigrams(text: str) -> list[str]:
    return [text[index : index + 3] for index in range(len(text) - 2)]
