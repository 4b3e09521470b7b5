"""Translates HTML: the text between two blocks as one, its inline tags put around the words they were around."""

from __future__ import annotations

import asyncio
import re
import sys
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from lxml import html

from actors.types import TokenVectors

# fmt: off
INLINE = frozenset({
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "data", "del", "dfn", "em", "font", "i", "img", "input",
    "ins", "kbd", "label", "mark", "q", "s", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u",
    "var", "wbr",
})
# fmt: on
"""Elements that do not end a sentence."""
NOT_PROSE = frozenset({"code", "pre", "script", "style", "textarea"})
"""Elements whose text is not translated."""
NOT_IN_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""Characters that XML, and so the parser's tree, cannot hold; https://www.w3.org/TR/xml/#charsets."""
CHARACTER_REFERENCE = re.compile(r"&#(?:x0*([0-9a-f]{1,6})(?![0-9a-f])|0*([0-9]{1,7})(?![0-9]));?", re.IGNORECASE)
PLACE_WEIGHT = 0.3
"""A word is rather linked with one at a like place: their distance, of the whole text, against a cosine."""
MAX_LINKS = 1_000_000
"""Pairs of words that are compared; in longer texts only places are."""
_TOKEN = re.compile(r"\w+|[^\w\s]")

Links = npt.NDArray[np.float32]
"""float32 (num_source_words, num_target_words): how likely two words say the same."""
Run = list[Any]
"""Texts and inline elements in a row, tails cleared: a piece of prose."""


@dataclass(slots=True)
class _Span:
    """An inline element, or the whole run, and the words it is around: [start, end)."""

    element: Any
    start: int
    end: int
    children: list[_Span] = field(default_factory=list)
    is_spaced: bool = False
    """Without words, it has white space on both sides."""


@dataclass(slots=True)
class Piece:
    """A run and its plain text."""

    parent: Any
    run: Run
    text: str
    root: _Span

    def words(self) -> list[tuple[int, int]]:
        return word_spans(self.text)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each word and mark of the text stands, in characters."""
    return [found.span() for found in _TOKEN.finditer(text)]


def word_vectors(tokens: TokenVectors | None, text: str) -> npt.NDArray[np.float32] | None:
    """float32 (num_words, dim), L2-normalised: the mean of each word's tokens; zero for a word that was not read."""
    if tokens is None:
        return None
    found = []
    for start, end in word_spans(text):
        inside = (tokens.spans[:, 0] < end) & (tokens.spans[:, 1] > start)
        mean = tokens.vectors[inside].sum(axis=0)
        found.append(mean / max(float(np.linalg.norm(mean)), 1e-6))
    return np.asarray(found, np.float32).reshape(len(found), tokens.vectors.shape[1])


def parsable(text: str) -> str:
    """The markup without the characters that XML does not allow, whether written out or as references."""

    def allowed(reference: re.Match[str]) -> str:
        code = int(reference[1], 16) if reference[1] else int(reference[2])
        # Replaced and not removed: the characters around it could form a new reference.
        return "\N{REPLACEMENT CHARACTER}" if code > sys.maxunicode or NOT_IN_XML.match(chr(code)) else reference[0]

    return CHARACTER_REFERENCE.sub(allowed, NOT_IN_XML.sub("", text))


async def translate_html(
    text: str,
    translate: Callable[[Sequence[str]], Awaitable[Sequence[str]]],
    link: Callable[[str, str], Awaitable[Links | None]],
) -> str:
    """``link`` compares the words (``word_spans``) of a text and its translation; by position where it gives None."""
    root = html.fragment_fromstring(parsable(text), create_parent="div")
    pieces: list[Piece] = []
    rebuilt = [(block, _runs(block)) for block in _blocks(root)]
    for block, content in rebuilt:
        for item in content:
            if isinstance(item, list) and (piece := _piece(block, item)) is not None:
                pieces.append(piece)
    translations = await translate([piece.text for piece in pieces])
    done: dict[int, Run] = {}
    for piece, translation in zip(pieces, translations, strict=True):
        plain = NOT_IN_XML.sub("", translation.strip())
        is_small = len(piece.words()) * len(word_spans(plain)) <= MAX_LINKS
        links = await link(piece.text, plain) if piece.root.children and is_small else None
        done[id(piece.run)] = await asyncio.to_thread(_placed, piece, plain, links)
    for block, content in rebuilt:
        _refill(
            block,
            [part for item in content for part in (done.get(id(item), item) if isinstance(item, list) else [item])],
        )
    translated = str(html.tostring(root, encoding="unicode")).removeprefix("<div>").removesuffix("</div>")
    lead = text[: len(text) - len(text.lstrip())]  # which the parser drops
    return translated if translated.startswith(lead) else lead + translated


def _blocks(root: Any) -> Iterator[Any]:
    """Elements that hold prose of their own, before any is changed."""
    if not isinstance(root.tag, str) or root.tag in NOT_PROSE:
        return
    yield root
    for child in list(root):
        if not _is_inline(child):
            yield from _blocks(child)


def _is_inline(element: Any) -> bool:
    """An inline element that has only such inside."""
    return element.tag in INLINE and all(_is_inline(child) for child in element)


def _runs(block: Any) -> list[Any]:
    """The block's content: runs of prose, and the elements between them."""
    content: list[Any] = []
    run: Run = []
    if block.text:
        run.append(block.text)
    for child in block:
        tail, child.tail = child.tail, None
        if _is_inline(child):
            run.append(child)
        else:
            content += [run, child]
            run = []
        if tail:
            run.append(tail)
    return [*content, run]


def _piece(block: Any, run: Run) -> Piece | None:
    """The run's text, white space collapsed, and where its elements are; None without a word."""
    text = ""
    ranges: list[tuple[_Span, int, int]] = []
    empty: _Span | None = None

    def add(more: str) -> None:
        nonlocal text, empty
        if empty is not None and more:
            empty.is_spaced, empty = text.endswith(" ") and more[0].isspace(), None
        collapsed = re.sub(r"\s+", " ", more)
        text += collapsed.lstrip() if not text or text.endswith(" ") else collapsed

    def enter(element: Any, parent: _Span) -> None:
        nonlocal empty
        span = _Span(element, 0, 0)
        parent.children.append(span)
        start = len(text)
        add(element.text or "")
        for child in element:
            enter(child, span)
            add(child.tail or "")
        ranges.append((span, start, len(text)))
        empty = span if start == len(text) else None

    root = _Span(None, 0, 0)
    for part in run:
        if isinstance(part, str):
            add(part)
        else:
            enter(part, root)
    text = text.rstrip()
    if not any(character.isalnum() for character in text):
        return None
    starts = [start for start, _ in word_spans(text)]
    for span, start, end in [*ranges, (root, 0, len(text))]:
        span.start, span.end = bisect_left(starts, start), bisect_left(starts, end)
    return Piece(block, run, text, root)


# --- the tags of a translation


def _placed(piece: Piece, translation: str, links: Links | None) -> Run:
    """The run with the translation's words."""
    source, target = piece.words(), word_spans(translation)
    nearest = _nearest(len(source), len(target), links)
    holder = html.Element("div")
    _fill(holder, piece.root, (0, len(target)), nearest, translation, target)
    raw = "".join(part if isinstance(part, str) else part.text_content() for part in piece.run)
    before, after = raw[: len(raw) - len(raw.lstrip())], raw[len(raw.rstrip()) :]
    run: Run = [before + (holder.text or "")]
    for child in holder:
        tail, child.tail = child.tail, None
        run += [child, tail or ""]
    return [*run, after]


def _nearest(num_source: int, num_target: int, links: Links | None) -> npt.NDArray[np.int64]:
    """int64 (num_target,): the source word of each target word."""
    if num_source * num_target > MAX_LINKS:
        return np.linspace(0, num_source - 1, num_target).round().astype(np.int64)
    at, of = np.linspace(0, 1, num_source)[:, None], np.linspace(0, 1, num_target)[None, :]
    scores = -PLACE_WEIGHT * np.abs(at - of)
    if links is not None and links.shape == scores.shape:
        scores = scores + links
    return np.asarray(scores.argmax(axis=0), np.int64)


def _fill(
    holder: Any, span: _Span, bounds: tuple[int, int], nearest: Any, text: str, words: Sequence[tuple[int, int]]
) -> None:
    """Put the words of ``bounds`` into ``holder``, with the span's children around theirs."""
    places = _share(span, bounds, nearest)
    at = words[bounds[0]][0] if bounds[0] < len(words) else len(text)
    end = words[bounds[1] - 1][1] if bounds[1] > bounds[0] else at
    if span.element is None:
        at, end = 0, len(text)
    last: Any = None

    def add(more: str) -> None:
        if last is None:
            holder.text = (holder.text or "") + more
        else:
            last.tail = (last.tail or "") + more

    for child, (first, after) in sorted(places, key=lambda place: place[1]):
        start = words[first][0] if first < len(words) else len(text)
        start = max(at, min(start, end))
        add(text[at:start])
        last = holder.makeelement(child.element.tag, child.element.attrib)
        holder.append(last)
        _fill(last, child, (first, after), nearest, text, words)
        at = words[after - 1][1] if after > first else start
        if child.is_spaced and after == first and text[:start][-1:] in ("", " "):
            last.tail = " "
    add(text[at:end])


def _share(span: _Span, bounds: tuple[int, int], nearest: Any) -> list[tuple[_Span, tuple[int, int]]]:
    """Words for each child, none for two: as many as possible that are nearest to its own."""
    taken = np.zeros(len(nearest) + 1, bool)
    places = []
    for child in sorted(span.children, key=lambda child: child.start - child.end):
        if child.start == child.end:
            after = (nearest[slice(*bounds)] >= child.start) & ~taken[slice(*bounds)]
            at = bounds[0] + int(after.argmax()) if after.any() else bounds[1]
            places.append((child, (at, at)))
            continue
        if (child.start, child.end) == (span.start, span.end):
            best = bounds
        else:
            best = _densest((nearest >= child.start) & (nearest < child.end), taken, bounds)
        taken[best[0] : best[1]] = True
        places.append((child, best))
    return places


def _densest(is_own: Any, taken: Any, bounds: tuple[int, int]) -> tuple[int, int]:
    """The free range with the most own words over others; empty at the end of the bounds where there is none."""
    best, most = (bounds[1], bounds[1]), 0
    own = np.flatnonzero(is_own[slice(*bounds)]) + bounds[0]
    if not len(own):
        return best
    first, score = int(own[0]), 0
    for at in range(own[0], own[-1] + 1):
        if taken[at] or score < 0:
            first, score = at, 0
        if taken[at]:
            first = at + 1
            continue
        score += 1 if is_own[at] else -1
        if score > most:
            best, most = (first, at + 1), score
    return best


def _refill(block: Any, content: Sequence[Any]) -> None:
    """Give the block this content, texts and elements in a row."""
    block.text = None
    for child in list(block):
        block.remove(child)
    last = None
    for part in content:
        if not isinstance(part, str):
            block.append(part)
            last = part
        elif last is None:
            block.text = (block.text or "") + part
        else:
            last.tail = (last.tail or "") + part
