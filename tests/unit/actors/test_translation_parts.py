"""The pure steps of NLLB: cutting, judging, joining, terms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.translation._glossary import num_present, terms_in, with_most_terms, with_targets
from actors.translation._seq2seq.hypotheses import (
    Hypothesis,
    Part,
    best_combinations,
    is_valid,
    joined,
    mean_log_probability,
    num_repeats,
    word_links,
)
from actors.translation._seq2seq.windows import windows


def ends_of_letters(text: str) -> list[int]:
    """Every character a token: the tightest tokenizer there can be."""
    return list(range(1, len(text) + 1))


texts = st.text(st.sampled_from("ab ,.!?;。、\n\u0301"), max_size=200)


@given(texts, st.integers(1, 40))
def test_windows_lose_nothing_and_fit(text: str, max_tokens: int) -> None:
    cut = windows(text, ends_of_letters, max_tokens)
    assert "".join("".join(cut).split()) == "".join(text.split())
    assert all(window == window.strip() != "" for window in cut)
    assert all(len(window) <= max_tokens for window in cut)


def test_windows_are_sentences_in_any_script() -> None:
    assert windows("Dr. Silva came. He left!", ends_of_letters, 100) == ["Dr. Silva came.", "He left!"]
    assert windows("船が着く。港は静かだった。", ends_of_letters, 100) == ["船が着く。", "港は静かだった。"]
    assert windows("यह एक है। वह दो है।", ends_of_letters, 100) == ["यह एक है।", "वह दो है।"]
    assert windows("هل وصلت؟ نعم.", ends_of_letters, 100) == ["هل وصلت؟", "نعم."]


def test_a_long_sentence_is_cut_after_a_clause() -> None:
    text = "We kept the windows closed, and nobody asked why"
    assert windows(text, ends_of_letters, 40) == ["We kept the windows closed,", "and nobody asked why"]
    assert windows("one two three", ends_of_letters, 9) == ["one two", "three"]


def test_a_token_without_characters_does_not_stop_the_cutting() -> None:
    assert "".join(windows("abcdef", lambda text: [0] * len(text), 2)) == "abcdef"


@pytest.mark.parametrize(
    ("tokens", "repeats"),
    [("", 0), ("a", 1), ("abc", 1), ("aab", 2), ("aaaa", 4), ("xababab", 3), ("abcabcabcabcd", 4), ("abaaba", 2)],
)
def test_repeats_in_a_row_are_counted(tokens: str, repeats: int) -> None:
    assert num_repeats(tokens) == repeats


def hypothesis_of(tokens: str, *, finished: bool = True) -> Hypothesis:
    return Hypothesis(tokens=tuple(tokens), finished=finished, log_probability=-1.0, attention=None)


def test_a_translation_repeats_as_its_source_does() -> None:
    assert is_valid(hypothesis_of("abc"), "abc", "xyz")
    assert not is_valid(hypothesis_of("ababababab"), "ababababab", "xyz")
    assert is_valid(hypothesis_of("nnnn"), "no no no no", "mmmm")
    assert not is_valid(hypothesis_of("abc", finished=False), "abc", "xyz")
    assert not is_valid(hypothesis_of("  "), "  ", "xyz")


def test_links_gather_tokens_to_words() -> None:
    # Two source words of two tokens each; the first target word has two tokens, the second one.
    attention = np.array([[0.5, 0.5, 0.0, 0.0], [0.1, 0.1, 0.4, 0.4], [0.0, 0.04, 0.46, 0.5]], np.float32)
    links = word_links(attention, [7, 7, 8, 8], [0, 0, 1])
    assert links == ((7, 0, pytest.approx(0.6)), (8, 0, pytest.approx(0.4)), (8, 1, pytest.approx(0.96)))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_each_target_word_has_a_link_and_no_more_than_its_attention(
    num_target: int, num_source: int, seed: int
) -> None:
    attention = np.random.default_rng(seed).random((num_target, num_source)).astype(np.float32)
    links = word_links(attention, range(num_source), range(num_target))
    for word in range(num_target):
        weights = [weight for _, target, weight in links if target == word]
        assert weights
        assert sum(weights) <= 1.001


def part(text: str, log_probability: float, num_tokens: int, *links: tuple[int, int, float]) -> Part:
    return Part(text=text, log_probability=log_probability, num_tokens=num_tokens, links=links)


@given(st.lists(st.lists(st.floats(-50, -0.01), min_size=1, max_size=3), min_size=1, max_size=4), st.integers(1, 5))
def test_combinations_are_sorted_whole_and_begin_with_the_best(table: list[list[float]], num: int) -> None:
    alternatives = [[part(f"{value}", value, 1) for value in row] for row in table]
    found = best_combinations(alternatives, num)
    means = [mean_log_probability(parts) for parts in found]
    every = sorted((mean_log_probability(parts) for parts in itertools.product(*alternatives)), reverse=True)
    assert means == pytest.approx(every[:num])
    assert all(len(parts) == len(table) for parts in found)


def test_joined_parts_count_words_of_the_whole() -> None:
    first = part("um dois", -1.0, 2, (0, 0, 1.0), (1, 1, 0.9))
    second = part("três", -2.0, 1, (2, 0, 0.8))
    assert joined([first, second], [" "]).alignment == ((0, 0, 1.0), (1, 1, 0.9), (2, 2, 0.8))
    candidate = joined([first, second], ["\n\n"])
    assert (candidate.text, candidate.score) == ("um dois\n\ntrês", -1.0)
    # Without a space between them, the last word of one and the first of the next are one.
    assert joined([first, second], [""]).alignment == ((0, 0, 1.0), (1, 1, 0.9), (2, 1, 0.8))


def test_nothing_scored_has_no_score() -> None:
    assert joined([part("😀", 0.0, 0)], []).score is None


def test_terms_are_whole_words_whatever_their_case() -> None:
    entries = {"ray": "Ray", "Ray Serve": "Ray Serve", "C++": "C++", "線": "linha", "array": "vetor"}
    assert [term.source for term in terms_in("The RAY of light", entries)] == ["ray"]
    assert [term.source for term in terms_in("ray serve and C++.", entries)] == ["Ray Serve", "C++"]
    assert [term.source for term in terms_in("Ray Serve, a ray", entries)] == ["Ray Serve", "ray"]
    assert [term.source for term in terms_in("光線だ", entries)] == ["線"]
    assert terms_in("crayon", entries) == ()
    assert with_targets("An array, a ray.", terms_in("An array, a ray.", {"ray": "raio", "array": "vetor"})) == (
        "An vetor, a raio."
    )


def test_candidates_with_the_most_terms_are_preferred() -> None:
    terms = terms_in("one two", {"one": "um", "two": "dois"})
    texts = ["uma dupla", "um e outro", "um, dois", "dois e um"]
    assert [num_present(text, terms) for text in texts] == [0, 1, 2, 2]
    assert with_most_terms(texts, texts, terms) == ["um, dois", "dois e um"]
