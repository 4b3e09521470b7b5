from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.types import TokenVectors
from cluster.alignment.align import Alignment, align
from cluster.alignment.config import AlignConfig, Strategy
from cluster.alignment.inputs import AlignTask, Evidence
from cluster.alignment.tokens import token_spans, tokenise

LENGTH = AlignConfig(strategy="length")
HYBRID = AlignConfig()


def task(
    segments: Sequence[str],
    target: str,
    *,
    language: str = "pt",
    joint: str = " ",
    rooms_s: tuple[float, ...] | None = None,
) -> AlignTask:
    return AlignTask(
        segments=tuple(segments), source=joint.join(segments), target=target, language=language, rooms_s=rooms_s
    )


def split(segments: Sequence[str], target: str, language: str = "pt", joint: str = " ") -> list[str]:
    return texts(align(task(segments, target, language=language, joint=joint), Evidence(), LENGTH))


def texts(alignment: Alignment) -> list[str]:
    return [span.text for span in alignment.spans]


DICTIONARY = {"uma": "a", "casa": "house", "na": "on", "colina": "hill", "家": "house", "丘": "hill", "の": "on"}


def vectors(text: str) -> TokenVectors:
    """Words that translate each other have one vector; others hardly resemble."""
    spans = token_spans(text)
    rows = []
    for first, end in spans:
        word = text[first:end].lower().strip(",.。")
        seed = zlib.crc32(DICTIONARY.get(word, word).encode())
        rows.append(np.random.default_rng(seed).normal(size=32))
    return TokenVectors(
        spans=np.array(spans, dtype=np.int64).reshape(-1, 2), vectors=np.array(rows, dtype=np.float32).reshape(-1, 32)
    )


def read(found: AlignTask) -> Evidence:
    return Evidence(source=vectors(found.source), target=vectors(found.target))


# --- by length


def test_breaks_where_the_source_has_its_sentence_ends() -> None:
    source = ["I came home late.", "Nobody had waited for me, and I was hungry."]
    target = "Cheguei tarde em casa. Ninguém tinha me esperado, e eu estava com fome."
    assert split(source, target) == ["Cheguei tarde em casa.", "Ninguém tinha me esperado, e eu estava com fome."]


def test_breaks_before_a_preposition_rather_than_after_it() -> None:
    source = ["I wanted to understand every piece", "of the old radio"]
    target = "Eu queria entender cada peça do velho rádio"
    assert split(source, target) == ["Eu queria entender cada peça", "do velho rádio"]


def test_words_of_a_language_without_a_table_count_by_their_length() -> None:
    assert split(["aaaa bbbb cc", "dddd eeee"], "xxxx yyyy zz wwww vvvv", language="eu") == [
        "xxxx yyyy",
        "zz wwww vvvv",
    ]


def test_follows_length_without_punctuation() -> None:
    assert split(["aaaa bbbb cccc", "dddd"], "xxxx yyyy zzzz wwww", language="eu") == ["xxxx yyyy zzzz", "wwww"]


def test_time_counts_where_it_is_short() -> None:
    found = task(["aaaa bbbb", "cccc dddd"], "xxxx yyyy zzzz wwww", language="eu", rooms_s=(0.1, 5.0))
    assert texts(align(found, Evidence(), LENGTH)) == ["xxxx", "yyyy zzzz wwww"]
    roomy = task(["aaaa bbbb", "cccc dddd"], "xxxx yyyy zzzz wwww", language="eu", rooms_s=(5.0, 5.0))
    assert texts(align(roomy, Evidence(), LENGTH)) == ["xxxx yyyy", "zzzz wwww"]


def test_one_segment_gets_everything() -> None:
    assert split(["Hello."], "  Olá, mundo.  ") == ["Olá, mundo."]


def test_fewer_words_than_segments_leave_the_last_empty() -> None:
    assert split(["one", "two", "three"], "um dois") == ["um", "dois", ""]
    assert split(["one", "two"], "") == ["", ""]
    assert split(["one", "two"], "   ") == ["", ""]


@pytest.mark.parametrize(
    ("source", "target", "language"),
    [
        (["I went home,", "and then I slept."], ["家に帰って、", "それから寝ました。"], "ja"),
        (["I went home,", "and then I slept."], ["我回家了，", "然后我睡了。"], "zh"),
        (["I went home,", "and then I slept."], ["عدت إلى البيت،", " ثم نمت."], "ar"),
        (["Hello everybody", "let us begin"], ["สวัสดีทุกคน", " เริ่มกันเลย"], "th"),
    ],
)
def test_every_script_breaks_at_its_punctuation(source: list[str], target: list[str], language: str) -> None:
    assert split(source, "".join(target), language=language) == [part.strip() for part in target]


def test_a_source_without_spaces() -> None:
    assert split(["家に帰って、", "それから寝ました。"], "I went home, and then I slept.", "en", joint="") == [
        "I went home,",
        "and then I slept.",
    ]


# --- by meaning


def test_words_go_where_their_translations_are_whatever_their_length() -> None:
    found = task(["on a hill far away from here", "house"], "na colina casa")
    assert texts(align(found, read(found), HYBRID)) == ["na colina", "casa"]
    reversed_ = task(["house", "on a hill far away from here"], "casa na colina")
    assert texts(align(reversed_, read(reversed_), HYBRID)) == ["casa", "na colina"]


def test_scripts_without_spaces_are_aligned_by_meaning_too() -> None:
    found = task(["hill on", "house"], "丘の家", language="ja")
    assert texts(align(found, read(found), HYBRID)) == ["丘の", "家"]


def test_what_the_translator_looked_at_decides() -> None:
    """Four words of the same length, of which nothing else is known."""
    found = task(["aaaa bbbb", "cccc dddd"], "xxxx yyyy zzzz wwww", language="eu")
    for first_of_second in (1, 2, 3):
        links = tuple((0 if word < first_of_second else 2, word, 1.0) for word in range(4))
        alignment = align(found, Evidence(links=links), HYBRID)
        assert alignment.spans[1].first_token == first_of_second
        assert alignment.method == "length+links"


def test_a_segment_on_its_own_translated_decides() -> None:
    found = task(["aaaa bbbb", "cccc dddd"], "xxxx yyyy zzzz wwww", language="eu")
    for first_of_second in (1, 2, 3):
        words = found.target.split()
        parts = (" ".join(words[:first_of_second]), " ".join(words[first_of_second:]))
        alignment = align(found, Evidence(translations=parts), AlignConfig(length_weight=0))
        assert alignment.spans[1].first_token == first_of_second
        assert alignment.method == "length+translations"


def test_links_reach_the_characters_of_scripts_without_spaces() -> None:
    found = task(["aaaa", "bbbb"], "一二三 四五", language="zh")
    alignment = align(found, Evidence(links=((0, 0, 1.0), (1, 1, 1.0))), HYBRID)
    assert texts(alignment) == ["一二三", "四五"]


@pytest.mark.parametrize("strategy", ["semantic", "hybrid"])
@pytest.mark.parametrize("missing", ["source", "target", "both"])
def test_without_vectors_length_is_left_and_said(strategy: Strategy, missing: str) -> None:
    found = task(["one two", "three"], "um dois três")
    known = read(found)
    evidence = Evidence(
        source=None if missing != "target" else known.source, target=None if missing != "source" else known.target
    )
    alignment = align(found, evidence, AlignConfig(strategy=strategy))
    assert alignment.method == "length"
    assert alignment.spans == align(found, Evidence(), LENGTH).spans


def test_a_clear_break_is_surer_than_a_doubtful_one() -> None:
    clear = align(task(["I left.", "She stayed."], "Eu saí. Ela ficou."), Evidence(), LENGTH)
    doubtful = align(task(["aa bb cc", "dd ee ff"], "xxxx yyyy zzzz wwww", language="eu"), Evidence(), LENGTH)
    assert clear.spans[1].confidence is not None
    assert doubtful.spans[1].confidence is not None
    assert clear.spans[1].confidence > 0.9 > doubtful.spans[1].confidence
    assert clear.spans[0].confidence is None


# --- whatever the input


WORDS = ["the", "word,", "Sim.", "extraordinário", "日本", "สวัสดี", "é", "İx", "ﬁn", "مرحبا،", "o"]
anything = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)
prose = st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)
segments = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=6)
weights = st.fixed_dictionaries(
    {name: st.floats(0, 20) for name in AlignConfig.model_fields if name.endswith("_weight")}
)
links = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.floats(0, 1)), max_size=40).map(tuple)


@given(
    segments,
    anything | prose,
    weights,
    st.sampled_from(["length", "semantic", "hybrid"]),
    st.none() | links,
    st.booleans(),
    st.sampled_from(["", " "]),
)
def test_spans_are_the_whole_target_in_order(
    source: list[str],
    target: str,
    weighed: dict[str, float],
    strategy: Strategy,
    linked: tuple[tuple[int, int, float], ...] | None,
    is_translated: bool,
    joint: str,
) -> None:
    found = task(source, target, joint=joint, rooms_s=(1.0,) * len(source))
    evidence = Evidence(
        source=vectors(found.source),
        target=vectors(target),
        links=linked,
        translations=tuple(source) if is_translated else None,
    )
    config = AlignConfig.model_validate({"strategy": strategy, "window_tokens": 6, **weighed})
    alignment = align(found, evidence, config)
    assert align(found, evidence, config) == alignment
    spans = alignment.spans
    num_tokens = len(tokenise(target))
    assert len(spans) == len(source)
    assert (spans[0].first_token, spans[-1].end_token) == (0, num_tokens)
    assert all(before.end_token == after.first_token for before, after in itertools.pairwise(spans))
    num_filled = sum(span.end_token > span.first_token for span in spans)
    assert num_filled == min(len(source), num_tokens)
    assert "".join("".join(texts(alignment)).split()) == "".join(target.split())
    assert all(0 <= span.confidence <= 1 for span in spans if span.confidence is not None)
