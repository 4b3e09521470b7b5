"""Markup, line breaks and placeholders through the packaged translator and embedder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from actors.engine import make_engine
from actors.types import EmbedRequest, TranslateRequest
from cluster.config.load import load_config
from serve.inference.markup import translate_html, word_vectors
from serve.inference.prose import translate_lines, translate_prose


class Models:
    """Both engines, in this process."""

    def __init__(self) -> None:
        config = load_config()
        self.translator = make_engine("translation", config.translation.engine, config.translation.options)
        self.embedder = make_engine("embedding", config.embedding.engine, config.embedding.options)
        self.translator.load()
        self.embedder.load()

    async def translated(self, texts: Sequence[str]) -> list[Sequence[str]]:
        requests = [TranslateRequest(text=text, source_language="en", target_language="pt") for text in texts]
        return [[candidate.text for candidate in found.candidates] for found in self.translator.run(requests)]

    async def best(self, texts: Sequence[str]) -> list[str]:
        return [first for first, *_ in await translate_lines(texts, self.translated)]

    async def link(self, text: str, translation: str) -> npt.NDArray[np.float32] | None:
        both = (text, translation)
        found = self.embedder.run([EmbedRequest(text=each, with_tokens=True) for each in both])
        theirs, ours = (word_vectors(each.tokens, text) for each, text in zip(found, both, strict=True))
        assert theirs is not None
        assert ours is not None
        return theirs @ ours.T

    async def html(self, text: str) -> str:
        return await translate_html(text, self.best, self.link)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    models = Models()
    yield models
    models.translator.close()
    models.embedder.close()


def tags(text: str) -> list[str]:
    return sorted(re.findall(r"</?\w[^>]*>", text))


def plain(text: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", "", text).split())


@pytest.mark.parametrize(
    "text",
    [
        "<p>The <b>old</b> woman who sold me the <i>ticket</i> was very <b>tired</b>.</p>",
        '<a href="#"><em><span>View the complete range of</span></em> <em><span>drawer systems here.</span></em></a>',
        "<p>\n\t\tIf a line contains\n\t\tno verb, the translation\n\t\tmust be wrong.\n\t</p>",
        "I bought a <b>red car</b> and a <i>blue house</i> yesterday.",
        "The <u>second</u> train <b>leaves</b> at noon.",
        'Please <a href="https://example.org/a">read the manual</a> before you begin.',
        "He said <q>it is late</q> and left.",
        "<h1>The <small>little</small> garden</h1>",
        'The <a href="u">quick <b>brown</b> fox</a> jumps over the lazy dog.',
        "We drink <mark>water</mark>, not wine.",
        "<p>My <strong>brother</strong> has <em>two</em> dogs.</p>",
        "<td>Open the <span class='n'>window</span>!</td>",
    ],
)
async def test_an_inline_tagged_sentence_reads_as_the_plain_one(models: Models, text: str) -> None:
    [expected] = await models.best([plain(text)])
    found = await models.html(text)
    assert plain(found) == " ".join(expected.split())
    assert tags(found) == tags(text.replace("'n'", '"n"'))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I bought a <b>red car</b> yesterday.", "<b>carro vermelho</b>"),
        ("She was very <b>tired</b>.", "<b>cansada</b>."),
        ("The <i>house</i> is on the hill.", "<i>casa</i>"),
        ("<b>Water</b> is cold.", "água</b>"),
        ("Give me the <i>green book</i>, please.", "<i>livro verde</i>"),
    ],
)
async def test_a_tag_is_around_its_words(models: Models, text: str, expected: str) -> None:
    assert expected in await models.html(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "Marie: So how is your season going?\nMike: It ends next weekend.\nPhil: Good for you!",
            "Marie: |Mike: |Phil: ",
        ),
        ("Thank you!!!!\n\n", "!!!!\n\n"),
        ("Hello %1$s, good to see you again! You have {count} new messages.", "%1$s|{count}"),
        ("  Dear {{name}},\r\n\r\n\twelcome to https://example.org/a?b=1.\n", "{{name}}|https://example.org/a?b=1."),
        ("Send half of it to me@example.org today.", "me@example.org"),
        ("I like it 😀 because it is red.\n😀\n", "😀\n😀\n|vermelho"),
        ("%d files and %s folders were deleted.", "%d |%s "),
        ("Press ${key} to go on, or {other} to end.", "${key}|{other}"),
        ("Price: {price} for %(num)d people", "{price}|%(num)d"),
        ("one\n\n\ntwo\n", "\n\n\n"),
        ("The file {file} is too big.\nDelete {file}?", "{file}"),
    ],
)
async def test_what_is_no_prose_is_kept(models: Models, text: str, kept: str) -> None:
    found, *_ = await translate_prose(text, models.translated)
    assert all(part in found for part in kept.split("|")), found
    assert found.count("\n") == text.count("\n")
    assert found != text
