"""Translates texts line by line, with placeholders, speakers' names and line breaks kept as they are."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

Translate = Callable[[Sequence[str]], Awaitable[list[Sequence[str]]]]
"""Translations of each text, best first; at least one."""

PLACEHOLDER = re.compile(
    r"""\{\{[^{}\n]*\}\} | \$?\{[^{}\n]*\} | %\([\w.]+\)[sdif] | %(?:\d+\$)?[-+0]?\d*(?:\.\d+)?[sdifux@](?![\w%])
    | </?\w[^<>\n]*> | (?:https?|ftp)://[^\s<>"]*[^\s<>"'.,;:!?)\]] | (?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+""",
    re.VERBOSE,
)
"""Placeholders that a program fills in, tags in plain text, addresses of pages and of mail."""
FIRST_NUMBER = 7301
"""Numbers stand for placeholders in a translation: models copy them, and decline the words around them."""
_LABEL = re.compile(r"[^\W\d_][^:\n]{0,24}:(?=\s+\S)")
_NUMBER = re.compile(r"\d+")
_LINE_BREAK = re.compile(r"(\r\n|\r|\n)")


@dataclass(frozen=True, slots=True)
class _Masked:
    """A text with numbers in place of its placeholders."""

    text: str
    placeholders: dict[str, str]
    """Number → placeholder."""

    @classmethod
    def of(cls, text: str) -> _Masked:
        found: dict[str, str] = {}
        taken = set(_NUMBER.findall(text))
        free = (str(number) for number in range(FIRST_NUMBER, 10_000) if str(number) not in taken)

        def number(match: re.Match[str]) -> str:
            # Past the last number a placeholder stays as it is, and may be lost.
            if (own := next(free, None)) is None:
                return match[0]
            found[own] = match[0]
            return own

        return cls(PLACEHOLDER.sub(number, text), found)

    def unmasked(self, translation: str) -> str | None:
        """The translation with its placeholders; None if one is missing or doubled."""
        found = [number for number in _NUMBER.findall(translation) if number in self.placeholders]
        if len(found) != len(self.placeholders) or len(set(found)) != len(found):
            return None
        return _NUMBER.sub(lambda match: self.placeholders.get(match[0], match[0]), translation)


async def translate_prose(text: str, translate: Translate) -> list[str]:
    """Translations of a text, best first; line breaks and the white space around each line stay."""
    parts = _LINE_BREAK.split(text)
    lines = [part.strip() for part in parts]
    wanted = [line for line in dict.fromkeys(lines) if any(character.isalnum() for character in line)]
    found = dict(zip(wanted, await translate_lines(wanted, translate), strict=True))
    num = max((len(each) for each in found.values()), default=1)
    versions = []
    for index in range(num):
        said = [found.get(line, [line]) for line in lines]
        chosen = (each[min(index, len(each) - 1)] for each in said)
        versions.append(
            "".join(part.replace(line, new, 1) for part, line, new in zip(parts, lines, chosen, strict=True))
        )
    return list(dict.fromkeys(versions))


async def translate_lines(lines: Sequence[str], translate: Translate) -> list[Sequence[str]]:
    """Translations of each line; where a placeholder or a label was lost, of the parts around it."""
    masked = [_Masked.of(line) for line in lines]
    translated = await translate([each.text for each in masked])
    found: list[Sequence[str]] = []
    for line, mask, candidates in zip(lines, masked, translated, strict=True):
        restored = [mask.unmasked(candidate) for candidate in candidates]
        kept = [each for each in restored if each is not None and _keeps_label(line, each)]
        found.append(kept or [await _in_parts(line, translate)])
    return found


def _keeps_label(line: str, translation: str) -> bool:
    """A label ("Marie:") may be translated, but not dropped."""
    return _LABEL.match(line) is None or ":" in translation


async def _in_parts(line: str, translate: Translate) -> str:
    """The line's translation, the text between its label and placeholders translated bit by bit."""
    label = _LABEL.match(line)
    kept = re.compile(f"({re.escape(label[0])}|{PLACEHOLDER.pattern})" if label else f"({PLACEHOLDER.pattern})", re.X)
    parts = kept.split(line)
    prose = [part.strip() for part in parts[::2]]
    wanted = [part for part in prose if any(character.isalnum() for character in part)]
    translations = dict(zip(wanted, await translate(wanted), strict=True)) if wanted else {}
    parts[::2] = [
        part.replace(text, translations[text][0], 1) if text in translations else part
        for part, text in zip(parts[::2], prose, strict=True)
    ]
    return "".join(parts)
