from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.inference.markup import translate_html, word_spans
from serve.inference.prose import translate_prose


async def shouted(texts: Sequence[str]) -> list[Sequence[str]]:
    return [[text.upper(), text.title()] for text in texts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo", "ONE\nTWO"),
        ("one\r\n\r\n  two \n", "ONE\r\n\r\n  TWO \n"),
        ("\n\n", "\n\n"),
        ("you have {count} mails", "YOU HAVE {count} MAILS"),
        ("hi {{ name }}, hi ${user}", "HI {{ name }}, HI ${user}"),
        ("%s of %1$d or %(total)s at 50%", "%s OF %1$d OR %(total)s AT 50%"),
        ("see https://example.org/a?b=c.", "SEE https://example.org/a?b=c."),
        ("write to me@example.org now", "WRITE TO me@example.org NOW"),
        ("line<br />break", "LINE<br />BREAK"),
        ("{count} of 7301", "{count} OF 7301"),
    ],
)
async def test_breaks_and_placeholders_stay(text: str, expected: str) -> None:
    first, *_ = await translate_prose(text, shouted)
    assert first == expected


async def test_a_lost_placeholder_or_label_is_kept_by_parts() -> None:
    async def forgetful(texts: Sequence[str]) -> list[Sequence[str]]:
        words = [[word for word in text.split() if word.isalpha()] for text in texts]
        return [[" ".join(each).upper()] for each in words]

    assert await translate_prose("come {name} here", forgetful) == ["COME {name} HERE"]
    assert await translate_prose("Marie: come here", forgetful) == ["Marie: COME HERE"]


async def test_alternatives_are_of_the_whole_text() -> None:
    assert await translate_prose("one {n}\ntwo", shouted) == ["ONE {n}\nTWO", "One {n}\nTwo"]


@given(st.text(alphabet=st.sampled_from("ab {}%s\n\r\t.:😀<>&7301"), max_size=60))
async def test_line_breaks_are_counted_alike(text: str) -> None:
    first, *_ = await translate_prose(text, shouted)
    assert first.count("\n") == text.count("\n")
    assert first.count("\r") == text.count("\r")


async def turned(texts: Sequence[str]) -> list[str]:
    return [" ".join(reversed(text.split())) for text in texts]


async def same_words(text: str, translation: str) -> np.ndarray:
    ours, theirs = ([each[a:b] for a, b in word_spans(each)] for each in (text, translation))
    return np.asarray([[float(word == other) for other in theirs] for word in ours], np.float32).reshape(
        len(ours), len(theirs)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>red <b>car</b></p>", "<p><b>car</b> red</p>"),
        ("a <i>b <b>c</b> d</i> e", "e <i>d <b>c</b> b</i> a"),
        ("<a href='#'><em>a b</em></a>", '<a href="#"><em>b a</em></a>'),
        ("<li>a b</li><li>c</li>", "<li>b a</li><li>c</li>"),
        ("a b<br>c d", "b a<br>d c"),
        (" <p> a\n\tb </p> ", " <p> b a </p> "),
        ("a <img src='x'> b", '<img src="x"> b a'),
        ("<p>a b <code>x y</code> c d</p>", "<p>b a <code>x y</code> d c</p>"),
        ("a <!-- x y --> b", "a <!-- x y --> b"),
        ("<script>a b</script>", "<script>a b</script>"),
        ("<b></b>", "<b></b>"),
        ("", ""),
        ("a &lt; b", "b &lt; a"),
    ],
)
async def test_tags_are_around_the_words_they_were_around(text: str, expected: str) -> None:
    assert await translate_html(text, turned, same_words) == expected


@given(
    st.recursive(
        st.sampled_from(["a", "b c", " d ", ".", ""]),
        lambda inner: st.builds(
            lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>",
            st.sampled_from(["b", "i", "span", "div", "code"]),
            st.lists(inner, max_size=4),
        ),
        max_leaves=20,
    )
)
async def test_no_tag_is_lost_or_doubled(text: str) -> None:
    async def unlinked(text: str, translation: str) -> None:
        return None

    found = await translate_html(text, turned, unlinked)
    for tag in ("b", "i", "span", "div", "code"):
        assert found.count(f"<{tag}>") == text.count(f"<{tag}>") == found.count(f"</{tag}>")
