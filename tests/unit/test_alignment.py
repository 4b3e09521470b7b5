from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.alignment import AlignConfig, split_translation, tokenise

CONFIG = AlignConfig()
EVALUATION = Path(__file__).parents[3] / "shared" / "eval" / "alignment"


def split(source: list[str], target: str, config: AlignConfig = CONFIG) -> list[str]:
    return [span.text for span in split_translation(source, target, config)]


def test_breaks_where_the_source_has_its_sentence_ends() -> None:
    source = ["I came home late.", "Nobody had waited for me, and I was hungry."]
    target = "Cheguei tarde em casa. Ninguém tinha me esperado, e eu estava com fome."
    assert split(source, target) == ["Cheguei tarde em casa.", "Ninguém tinha me esperado, e eu estava com fome."]


def test_breaks_before_a_short_word_rather_than_after_it() -> None:
    source = ["I wanted to understand every piece", "of the old radio"]
    assert split(source, "Eu queria entender cada peça do velho rádio") == [
        "Eu queria entender cada peça",
        "do velho rádio",
    ]


def test_follows_length_without_punctuation() -> None:
    assert split(["aaaa bbbb cccc", "dddd"], "xxxx yyyy zzzz wwww") == ["xxxx yyyy zzzz", "wwww"]


def test_one_segment_gets_everything() -> None:
    assert split(["Hello."], "  Olá, mundo.  ") == ["Olá, mundo."]


def test_fewer_words_than_segments_leave_the_last_empty() -> None:
    assert split(["one", "two", "three"], "um dois") == ["um", "dois", ""]
    assert split(["one", "two"], "") == ["", ""]
    assert split(["one", "two"], "   ") == ["", ""]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Olá, mundo!", ["Olá,", " mundo!"]),
        ("今日は、「天気」がいい。", ["今", "日", "は、", "「天", "気」", "が", "い", "い。"]),
        ("AIのコンピューターが好き", ["AI", "の", "コンピューター", "が", "好", "き"]),
        ("你好，世界。", ["你", "好，", "世", "界。"]),
        ("안녕하세요 여러분.", ["안녕하세요", " 여러분."]),
        ("เรา จะไป", ["เรา", " จะ", "ไป"]),
        ("ស្រី", ["ស្រី"]),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokenise(text) == tokens


def test_scripts_without_spaces_break_at_punctuation() -> None:
    assert split(["I went home,", "and then I slept."], "家に帰って、それから寝ました。") == [
        "家に帰って、",
        "それから寝ました。",
    ]
    assert split(["Hello everybody", "let us begin"], "สวัสดีทุกคน เริ่มกันเลย") == ["สวัสดีทุกคน", "เริ่มกันเลย"]


anything = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)
prose = st.lists(st.sampled_from(["the", "word,", "Sim.", "extraordinário", "日本", "สวัสดี", "é"]), max_size=25).map(
    " ".join
)


@given(anything | prose)
def test_tokens_are_the_text(text: str) -> None:
    tokens = tokenise(text)
    assert "".join(tokens) == text.strip()
    assert all(token.strip() for token in tokens)


@given(st.lists(prose, min_size=1, max_size=6), anything | prose, st.floats(0, 20), st.floats(0, 20), st.floats(0, 5))
def test_spans_are_the_whole_target_in_order(
    source: list[str], target: str, length_weight: float, punctuation_weight: float, short_word_weight: float
) -> None:
    config = AlignConfig(
        length_weight=length_weight, punctuation_weight=punctuation_weight, short_word_weight=short_word_weight
    )
    spans = split_translation(source, target, config)
    num_tokens = len(tokenise(target))
    assert len(spans) == len(source)
    assert (spans[0].first_token, spans[-1].end_token) == (0, num_tokens)
    assert all(before.end_token == after.first_token for before, after in itertools.pairwise(spans))
    num_filled = sum(span.end_token > span.first_token for span in spans)
    assert num_filled == min(len(source), num_tokens)
    assert "".join("".join(span.text for span in spans).split()) == "".join(target.split())


@pytest.mark.skipif(not EVALUATION.is_dir(), reason="the evaluation sets are not here")
@pytest.mark.parametrize(
    ("name", "keeps_punctuation", "at_least"),
    [
        ("break_spoken_manual", True, 0.78),
        ("break_spoken_manual", False, 0.65),
        ("break_human_punct", True, 0.98),
        ("break_human_punct", False, 0.64),
        ("break_human_sent", True, 0.97),
    ],
)
def test_exact_breaks_of_the_evaluation_sets(name: str, keeps_punctuation: bool, at_least: float) -> None:
    num_right = num_breaks = 0
    for line in (EVALUATION / f"{name}.jsonl").read_text().splitlines():
        unit = json.loads(line)
        if unit["split"] != "test":
            continue
        source, target = (unit[key] if keeps_punctuation else list(map(_bare, unit[key])) for key in ("src", "tgt"))
        edges = [0, *unit["src_breaks"], len(source)]
        segments = [" ".join(source[first:end]) for first, end in itertools.pairwise(edges)]
        spans = split_translation(segments, " ".join(target), CONFIG)
        others = unit.get("alt") or [[]] * len(unit["gold"])
        for span, gold, also in zip(spans[1:], unit["gold"], others, strict=True):
            num_breaks += 1
            num_right += span.first_token in (gold, *also)
    assert num_right / num_breaks >= at_least


def _bare(word: str) -> str:
    return re.sub(r"[^\w']", "", word).lower() or "x"
