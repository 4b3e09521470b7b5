"""HeardVoices are grouped as they are alike, whoever speaks how often."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from actors.types import Span
from cluster.speakers import clustering
from cluster.speakers.clustering import HeardVoices, cluster, in_order, keep_names
from cluster.speakers.config import SpeakersConfig

DIM = 64
AUTO = SpeakersConfig(count="auto")


def heard(
    order: Sequence[int], seed: int = 0, noise: float = 0.6, piece_s: float = 1.5, gap_s: float = 0.5
) -> HeardVoices:
    """A piece by each of the speakers in ``order``, whose vectors scatter around the speaker's own."""
    rng = np.random.default_rng(seed)
    own = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    scatter = rng.standard_normal((len(order), DIM)) * noise / np.sqrt(DIM)
    vectors = own[list(order)] + scatter
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pieces = [Span(start_s=at * (piece_s + gap_s), end_s=at * (piece_s + gap_s) + piece_s) for at in range(len(order))]
    return HeardVoices(pieces=pieces, vectors=vectors.astype(np.float32))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 5))
def test_speakers_are_found_who_speak_long_enough(order: list[int], seed: int) -> None:
    repeated = [speaker for speaker in order for _ in range(3)]
    labels = cluster(heard(repeated, seed), AUTO, is_all=True)
    assert labels.tolist() == in_order(np.array(repeated)).tolist()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_given_number_is_exact_once_all_was_heard(count: int) -> None:
    voices = heard([0, 0, 1, 1, 2, 2, 0, 1, 2])
    config = SpeakersConfig(count=count)
    assert len(set(cluster(voices, config, is_all=True))) == count
    assert len(set(cluster(voices, config, is_all=False))) == count


def test_a_given_number_splits_nobody_before_all_was_heard() -> None:
    voices, config = heard([0] * 8), SpeakersConfig(count=3)
    assert set(cluster(voices, config, is_all=False)) == {0}
    assert len(set(cluster(voices, config, is_all=True))) == 3


def test_no_more_speakers_are_found_than_allowed() -> None:
    config = SpeakersConfig(count="auto", max_count=2)
    assert len(set(cluster(heard([0, 0, 1, 1, 2, 2, 3, 3]), config, is_all=True))) == 2


def test_a_voice_of_a_moment_is_no_further_speaker() -> None:
    voices = heard([0, 0, 0, 1, 0, 0, 2, 2, 2, 2])
    labels = cluster(voices, AUTO, is_all=True)
    assert len(set(labels)) == 2
    assert len(set(labels[[0, 1, 2, 4, 5]])) == 1
    assert len(set(labels[6:])) == 1


def test_a_short_piece_follows_the_stretch_it_is_in() -> None:
    """Half a second tells little: without a pause before it, it is no change of speaker."""
    voices = heard([0, 0, 0, 1, 1, 1, 0], gap_s=0.0)
    pieces = [*voices.pieces[:-1], Span(start_s=9.0, end_s=9.3)]
    labels = cluster(HeardVoices(pieces=pieces, vectors=voices.vectors), AUTO, is_all=True)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_alike_voices_are_told_apart_where_a_voice_is_more_like_itself() -> None:
    voices = heard([0, 0, 0, 1, 1, 1, 0, 0, 1, 1])
    alike = voices.vectors + 0.7 * heard([2] * 10, noise=0.0).vectors
    alike /= np.linalg.norm(alike, axis=1, keepdims=True)
    assert float(alike[0] @ alike[3]) > AUTO.min_likeness - 0.1
    labels = cluster(HeardVoices(pieces=voices.pieces, vectors=alike), AUTO, is_all=True)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]


def test_nothing_heard_is_nobody() -> None:
    nothing = HeardVoices(pieces=[], vectors=np.zeros((0, DIM), np.float32))
    assert cluster(nothing, AUTO, is_all=True).tolist() == []


def test_many_pieces_are_grouped_by_a_part_of_them() -> None:
    order = [0, 1, 2, 0, 2] * 900
    labels = cluster(heard(order), AUTO, is_all=True)
    assert labels.tolist() == in_order(np.array(order)).tolist()


def test_names_stay_when_more_is_heard() -> None:
    before = np.array([0, 0, 1, 1])
    assert keep_names(np.array([1, 1, 0, 0, 2, 1]), before).tolist() == [0, 0, 1, 1, 2, 0]
    # A speaker who was two: the larger part keeps its name, nobody takes the other's.
    assert keep_names(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1])).tolist() == [0, 0, 0, 0, 2]


@pytest.mark.parametrize("count", ["auto", 3])
@pytest.mark.parametrize("num_vectors", [2, 7, 60])
def test_groups_are_those_of_scipy(num_vectors: int, count: int | str) -> None:
    """Whose compiled part is used without the package around it, as importing that takes a second."""
    random = np.random.default_rng(num_vectors)
    vectors = random.standard_normal((num_vectors, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    config = SpeakersConfig.model_validate({"count": count})
    tree = linkage(vectors, method="average", metric="cosine")
    expected = fcluster(tree, 0.5, criterion="distance")
    most = config.max_count if config.count == "auto" else config.count
    if count != "auto" or expected.max() > most:
        expected = fcluster(tree, most, criterion="maxclust")
    np.testing.assert_array_equal(clustering._groups(vectors, 0.5, config, is_all=True), expected - 1)


def test_clustering_imports_little() -> None:
    program = (
        "import sys, numpy as np; from cluster.speakers import clustering; from cluster.speakers.config import *;"
        "clustering._groups(np.eye(3, dtype=np.float32), 0.5, SpeakersConfig(), is_all=True);"
        "clustering.keep_names(np.array([0, 1, 1]), np.array([0, 0]));"
        "print(sorted({'scipy.cluster', 'scipy.optimize', 'scipy.spatial'} & set(sys.modules)))"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"
