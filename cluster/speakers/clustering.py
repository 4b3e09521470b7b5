"""Groups pieces of speech by voice: agglomerative clustering of their vectors, then a path that seldom changes speaker.

Groups are merged while their mean cosine similarity is high enough. Short pieces tell little about a voice: they join
the nearest group at the end, as do groups with too little speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from actors.types import Span
from cluster.compiled import part_of_scipy
from cluster.speakers.config import SpeakersConfig

Vectors: TypeAlias = npt.NDArray[np.float32]
"""float32 (num_pieces, dim), L2-normalised."""
Labels: TypeAlias = npt.NDArray[np.int64]
"""int64 (num_pieces,): number of each piece's speaker."""

SHARE_OF_OWN = 0.75
"""Groups are of one speaker if they are at least this share as alike as pieces of one speaker are in the recording."""
FOLLOWS_S = 0.8
MIN_FOLLOWING = 8
"""Pairs of pieces from which the likeness of one speaker's is known."""
RELIABLE_S = 1.0
"""Pieces from this length on are clustered; shorter ones follow."""
MAX_CLUSTERED = 2000
"""Pieces that are clustered at most, evenly chosen: the work grows with their square."""
AVERAGE_LINKAGE = 2
"""SciPy's number of it."""
CHANGE_COST = 0.35
"""Cosine similarity by which another speaker must be nearer, over a whole turn, to interrupt a stretch of speech."""
CHANGE_COST_AFTER_PAUSE = 0.08
PAUSE_S = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardVoices:
    """The voices heard so far: one piece each."""

    pieces: Sequence[Span]
    vectors: Vectors


def cluster(voices: HeardVoices, config: SpeakersConfig, *, is_all: bool) -> Labels:
    """The speaker of each piece, in order of appearance from 0.

    A given number of speakers is a maximum until all speech was heard, as some may not have spoken yet.
    """
    durations_s = np.array([piece.duration_s for piece in voices.pieces])
    chosen = _to_cluster(durations_s)
    if len(voices.pieces) == 0 or len(chosen) == 0:
        return np.zeros(len(voices.pieces), np.int64)
    likeness = max(config.min_likeness, SHARE_OF_OWN * _own_likeness(voices))
    groups = _groups(voices.vectors[chosen], likeness, config, is_all=is_all)
    if config.count == "auto":
        groups = _without_small(groups, voices, chosen, config)
    centroids = _centroids(voices.vectors[chosen], groups)
    return in_order(_path(voices, centroids))


def in_order(labels: Labels) -> Labels:
    """The same groups, numbered from 0 in the order in which they appear."""
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(int(label), len(numbers)) for label in labels], np.int64)


def keep_names(labels: Labels, before: Labels) -> Labels:
    """The same groups with the numbers of ``before`` where they are mostly those; ``before`` may be shorter."""
    if np.array_equal(labels[: len(before)], before):
        return labels  # numbers of others are higher: they appear later
    num_known = int(before.max(initial=-1)) + 1
    num_groups = int(labels.max(initial=-1)) + 1
    shared = np.zeros((num_groups, num_known), np.int64)
    np.add.at(shared, (labels[: len(before)], before), 1)
    rows, columns = part_of_scipy("optimize", "_lsap").linear_sum_assignment(-shared)
    numbers = {int(row): int(column) for row, column in zip(rows, columns, strict=True) if shared[row, column]}
    fresh = num_known
    for group in range(num_groups):
        if group not in numbers:
            numbers[group], fresh = fresh, fresh + 1
    return np.array([numbers[int(label)] for label in labels], np.int64)


def _to_cluster(durations_s: npt.NDArray[Any]) -> Labels:
    """Indices of the pieces that are clustered: the reliable ones, or the longest if none is."""
    reliable = np.flatnonzero(durations_s >= min(RELIABLE_S, float(durations_s.max(initial=0.0))))
    if len(reliable) > MAX_CLUSTERED:
        reliable = reliable[np.linspace(0, len(reliable) - 1, MAX_CLUSTERED).round().astype(np.int64)]
    return np.asarray(reliable, np.int64)


def _own_likeness(voices: HeardVoices) -> float:
    """The likeness of pieces of one speaker in this recording, by those that follow each other.

    Most of these are of one speaker: the upper quartile is, unless the speaker changes after almost every piece.
    """
    pieces = voices.pieces
    found = [
        float(voices.vectors[index] @ voices.vectors[later])
        for index in range(len(pieces))
        for later in range(index + 1, min(index + 4, len(pieces)))
        if 0 <= pieces[later].start_s - pieces[index].end_s < FOLLOWS_S
        and min(pieces[index].duration_s, pieces[later].duration_s) >= RELIABLE_S
    ]
    return float(np.percentile(found, 75)) if len(found) >= MIN_FOLLOWING else 0.0


def _groups(vectors: Vectors, likeness: float, config: SpeakersConfig, *, is_all: bool) -> Labels:
    """Groups by average linkage of cosine distances, as ``scipy.cluster.hierarchy`` makes them."""
    if len(vectors) == 1:
        return np.zeros(1, np.int64)
    hierarchy = part_of_scipy("cluster", "_hierarchy")
    tree = hierarchy.nn_chain(_distances(vectors), len(vectors), AVERAGE_LINKAGE)
    groups = np.zeros(len(vectors), np.intc)
    hierarchy.cluster_dist(tree, groups, 1.0 - likeness, len(vectors))
    most = config.max_count if config.count == "auto" else config.count
    if (config.count != "auto" and is_all) or groups.max() > most:
        hierarchy.cluster_maxclust_dist(tree, groups, len(vectors), most)
    return np.asarray(groups - 1, np.int64)


def _distances(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Cosine distances of all pairs, row by row: float64 (num_vectors * (num_vectors - 1) / 2,); NaN counts as 0."""
    exact = np.nan_to_num(vectors.astype(np.float64))
    unit = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-9)
    return np.asarray((1.0 - unit @ unit.T)[np.triu_indices(len(unit), 1)])


def _without_small(groups: Labels, voices: HeardVoices, chosen: Labels, config: SpeakersConfig) -> Labels:
    """The groups with those of little speech merged into the most alike others."""
    spoken_s = [
        _spoken_s([voices.pieces[index] for index in chosen[groups == group]]) for group in range(max(groups) + 1)
    ]
    large = [group for group, length_s in enumerate(spoken_s) if length_s >= config.min_speaker_s]
    large = large or [int(np.argmax(spoken_s))]
    centroids = _centroids(voices.vectors[chosen], groups)
    nearest = {
        group: large[int(np.argmax(centroids[large] @ centroids[group]))] if group not in large else group
        for group in range(len(spoken_s))
    }
    return in_order(np.array([nearest[int(group)] for group in groups], np.int64))


def _spoken_s(pieces: Sequence[Span]) -> float:
    """Seconds that pieces in order of start cover."""
    total_s, until_s = 0.0, 0.0
    for piece in pieces:
        total_s += max(0.0, piece.end_s - max(piece.start_s, until_s))
        until_s = max(until_s, piece.end_s)
    return total_s


def _centroids(vectors: Vectors, groups: Labels) -> Vectors:
    """float32 (num_groups, dim), L2-normalised."""
    means = np.stack([vectors[groups == group].mean(axis=0) for group in range(int(groups.max()) + 1)])
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9), np.float32)


def _path(voices: HeardVoices, centroids: Vectors) -> Labels:
    """The likeliest sequence of speakers (Viterbi), where a change of speaker has its cost."""
    likeness = voices.vectors @ centroids.T
    weights = np.array([min(1.0, piece.duration_s / RELIABLE_S) for piece in voices.pieces])
    total = likeness[0] * weights[0]
    origins = np.zeros(likeness.shape, np.int64)
    for index in range(1, len(likeness)):
        gap_s = voices.pieces[index].start_s - voices.pieces[index - 1].end_s
        cost = CHANGE_COST_AFTER_PAUSE if gap_s >= PAUSE_S else CHANGE_COST
        best = int(np.argmax(total))
        stays = total >= total[best] - cost
        origins[index] = np.where(stays, np.arange(len(total)), best)
        total = np.where(stays, total, total[best] - cost) + likeness[index] * weights[index]
    labels = np.zeros(len(likeness), np.int64)
    labels[-1] = int(np.argmax(total))
    for index in range(len(likeness) - 1, 0, -1):
        labels[index - 1] = origins[index, labels[index]]
    return labels
