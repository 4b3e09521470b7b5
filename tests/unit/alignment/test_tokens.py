from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.alignment.tokens import token_spans, tokenise

anything = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Olá, mundo!", ["Olá,", " mundo!"]),
        ("今日は、「天気」がいい。", ["今", "日", "は、", "「天", "気」", "が", "い", "い。"]),
        ("AIのコンピューターが好き", ["AI", "の", "コンピューター", "が", "好", "き"]),
        ("你好，世界。", ["你", "好，", "世", "界。"]),
        ("안녕하세요 여러분.", ["안녕하세요", " 여러분."]),
        ("เรา จะไป", ["เรา", " จะ", "ไป"]),
        ("เกาะนี้สวยมาก", ["เกาะ", "นี้", "ส", "ว", "ย", "มา", "ก"]),
        ("مرحبا بالعالم، كيف حالك؟", ["مرحبا", " بالعالم،", " كيف", " حالك؟"]),
        ("ស្រី", ["ស្រី"]),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokenise(text) == tokens


@given(anything)
def test_tokens_are_the_text(text: str) -> None:
    tokens = tokenise(text)
    assert "".join(tokens) == text.strip()
    assert all(token.strip() for token in tokens)


@given(anything)
def test_their_ranges_are_the_same_tokens(text: str) -> None:
    assert [text[first:end] for first, end in token_spans(text)] == [token.strip() for token in tokenise(text)]
