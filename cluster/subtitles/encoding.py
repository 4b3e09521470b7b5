"""Finds out the encoding of a subtitle file: ``charset-normalizer`` over the whole of it, with its language as hint."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charset_normalizer import CharsetMatch, from_bytes

from actors.errors import MediaError
from cluster.subtitles.alphabets import LETTERS, PAGES, TRADITIONAL, WESTERN

SAMPLE_BYTES = 60_000
"""Lines with letters outside of ASCII, up to which the encoding is judged; all of them in most files."""
MAX_MESS = 0.2
"""Share of implausible letters, by charset-normalizer, from which a choice is in doubt."""
MIN_LEAD = 0.02
"""Lead of the best choice over the next that reads another text; below it the choice is in doubt."""
MAX_DAMAGE = 0.05
"""Share of broken letters up to which a file is damaged UTF-8, and not in another encoding."""

BOMS = {
    codecs.BOM_UTF8: "utf_8_sig",
    codecs.BOM_UTF32_LE: "utf_32",
    codecs.BOM_UTF32_BE: "utf_32",
    codecs.BOM_UTF16_LE: "utf_16",
    codecs.BOM_UTF16_BE: "utf_16",
}
_TRADITIONAL = re.compile(r"zh-(?:.*-)?(?:Hant|TW|HK|MO)\b")
_NEVER_WRITTEN = "\xa6\xb6\u2020\u2021\ufffd"
_TYPOGRAPHY = "\xa3\xa5\xa9\xae\xb0\xb1\xd7\xf7\u20ac\u2122\xad\u200c\u200d\u200e\u200f\ufeff\u266a\u266b"
_INSIDE_WORDS = "\u2018\u2019\u2010\u2011\u2013\u2014\xb7\xad\u200c\u200d"
_ASCII = b"WEBVTT 00:00:01,000 --> [Events] az AZ"
GREEK = "\u0370"
"""First letter of the alphabets of which no letter is in ASCII."""
_TEXT_BYTES = bytes({*range(0x20, 0x100), *b"\t\n\f\r\x1b"})
MAX_CONTROLS = 0.01
"""Share of control characters up to which bytes are text."""
_JIS_ESCAPE = b"\x1b$"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedText:
    """The text of a file, and the encoding that gave it."""

    text: str
    encoding: str
    """Python's name."""
    is_doubtful: bool = False
    """Another encoding reads the file nearly as well, or some of its letters are broken."""


def decode(path: Path, data: bytes, language: str | None, encoding: str | None) -> DecodedText:
    """The text of ``data``, by ``encoding`` if that is given. Raises MediaError where none can read it."""
    if encoding is not None:
        return _decode_as(path, data, encoding)
    for bom, name in BOMS.items():
        if data.startswith(bom):
            text = data.decode(name, errors="replace")
            return DecodedText(text=text, encoding=name, is_doubtful="\N{REPLACEMENT CHARACTER}" in text)
    if (wide := _wide(data)) is not None:
        return wide
    if data.isascii() and _JIS_ESCAPE in data and _reads(data, "iso2022_jp"):
        return DecodedText(text=data.decode("iso2022_jp"), encoding="iso2022_jp")
    try:
        return DecodedText(text=data.decode("utf-8"), encoding="utf_8")
    except UnicodeDecodeError:
        return _damaged_utf8(data) or _decode_page(path, data, language)


def _decode_as(path: Path, data: bytes, encoding: str) -> DecodedText:
    try:
        return DecodedText(text=data.decode(encoding).removeprefix("\ufeff"), encoding=encoding)
    except UnicodeDecodeError as error:
        raise MediaError(
            f"subtitles must be in the encoding given; {path} is not {encoding} at byte {error.start}; "
            f"give another --subtitles-encoding, or none to find it out"
        ) from error


def _wide(data: bytes) -> DecodedText | None:
    """UTF-16 without its mark: every other byte of ASCII letters and line ends is zero."""
    head = data[:4096]
    for name, offset in (("utf_16_le", 1), ("utf_16_be", 0)):
        if len(head) >= 8 and head[offset::2].count(0) > 0.4 * (len(head) // 2) and not head[1 - offset :: 2].count(0):
            text = data.decode(name, errors="replace")
            return DecodedText(text=text, encoding=name, is_doubtful="\N{REPLACEMENT CHARACTER}" in text)
    return None


def _damaged_utf8(data: bytes) -> DecodedText | None:
    text = data.decode("utf-8", errors="replace")
    num_broken = text.count("\N{REPLACEMENT CHARACTER}")
    num_whole = sum(character > "\x7f" for character in text) - num_broken
    if num_broken > MAX_DAMAGE * num_whole:
        return None
    return DecodedText(text=text, encoding="utf_8", is_doubtful=True)


def _decode_page(path: Path, data: bytes, language: str | None) -> DecodedText:
    """The text by the code page of its language that fits best, else by the one that fits best of all."""
    sample = _sample(data)
    # Some code pages give every byte a letter: they would read a picture as text.
    if len(sample.translate(None, _TEXT_BYTES)) > MAX_CONTROLS * len(sample):
        raise _no_text(path)
    own = [] if language is None else _fits(data, sample, pages_of(language), language)
    if own and own[0].mess <= MAX_MESS:
        return DecodedText(text=data.decode(own[0].encoding), encoding=own[0].encoding, is_doubtful=_is_close(own))
    others = sorted([*own, *_fits(data, sample, None, language)], key=lambda fit: fit.mess)
    if others:
        encoding = others[0].encoding
        return DecodedText(text=data.decode(encoding), encoding=encoding, is_doubtful=True)
    raise _no_text(path)


def _no_text(path: Path) -> MediaError:
    return MediaError(
        f"subtitles must be text in a known encoding; {path} is in none; give --subtitles-encoding, "
        f"or convert it to UTF-8"
    )


def pages_of(language: str) -> Sequence[str]:
    """The code pages that files of the language are in, the most usual first."""
    if _TRADITIONAL.match(language):
        return TRADITIONAL
    return PAGES.get(language.partition("-")[0], WESTERN)


def _sample(data: bytes) -> bytes:
    """The lines that hold other letters than ASCII's: the others look the same in every encoding."""
    lines = []
    size = 0
    for line in data.split(b"\n"):
        if not line.isascii():
            lines.append(line.rstrip(b"\r")[:1000])
            size += len(lines[-1]) + 1
        if size > SAMPLE_BYTES:
            break
    return b"\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PageFit:
    """The sample as one encoding reads it."""

    encoding: str
    text: str
    mess: float
    """Share of implausible letters; 0 is best."""
    coherence: float
    """Likeness of the letters' frequencies to those of a language, 0 to 1."""


def _fits(data: bytes, sample: bytes, pages: Sequence[str] | None, language: str | None) -> list[_PageFit]:
    """The encodings that can read all of ``data``, the best first."""
    return [fit for fit in _ranked(sample, pages, language) if _reads(data, fit.encoding)]


def _ranked(sample: bytes, pages: Sequence[str] | None, language: str | None) -> list[_PageFit]:
    """The encodings by how plausible their text is; of equal ones, the more usual first."""
    matches = _matches(sample, pages)
    letters = LETTERS.get((language or "").partition("-")[0]) if pages is not None else None
    fits = []
    for encoding in pages or matches:
        text = sample.decode(encoding, errors="replace")
        match = matches.get(encoding)
        # Few Latin letters are outside of ASCII: its measure of mess is about symbols then, and known letters tell more
        chaos = 0.0 if letters is not None and max(letters) < GREEK else 1.0 if match is None else match.chaos
        coherence = 0.0 if match is None else match.coherence
        fits.append(_PageFit(encoding=encoding, text=text, mess=chaos + _oddity(text, letters), coherence=coherence))
    return sorted(fits, key=lambda fit: (round(fit.mess, 2), -round(fit.coherence, 1)))


def _matches(sample: bytes, pages: Sequence[str] | None) -> dict[str, CharsetMatch]:
    """Encoding → what charset-normalizer thinks of its text; those that it rules out are missing."""
    # One chunk is the whole sample: nothing of it is left to chance.
    isolated = None if pages is None else list(pages)
    found = from_bytes(sample, steps=1, chunk_size=len(sample), threshold=0.9, cp_isolation=isolated)
    # A match stands for all encodings that read the same text.
    return {
        encoding: match
        for match in reversed(list(found))
        for encoding in [*match.could_be_from_charset, match.encoding]
        if _ASCII.decode(encoding, errors="replace") == _ASCII.decode()
    }


def _oddity(text: str, letters: frozenset[str] | None) -> float:
    """Share of the characters outside of ASCII that no writer of the language would put where they stand."""
    num_odd = num_foreign = 0
    for before, character, after in zip("\n" + text, text, text[1:] + "\n", strict=False):
        if character <= "\x7f":
            continue
        if character.isalpha():
            num_odd += (character.isupper() and before.islower()) or "\uff61" <= character <= "\uff9f"
            num_odd += character == "\u03c2" and after.isalpha()  # the sigma of word ends
            num_foreign += letters is not None and character.lower()[0] not in letters
        elif character in _NEVER_WRITTEN or (
            unicodedata.category(character)[0] in "SC" and character not in _TYPOGRAPHY
        ):
            num_odd += 1
        else:
            num_odd += before.isalpha() and after.isalpha() and character not in _INSIDE_WORDS
            num_odd += character == "\u201d" and before.isspace() and after.isalpha()
    num_letters = sum(character > "\x7f" for character in text)
    return (num_odd + num_foreign / 2) / max(num_letters, 1)


def _reads(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_close(fits: Sequence[_PageFit]) -> bool:
    """The next encoding that reads another text is about as plausible as the best."""
    best = fits[0]
    rivals = [fit for fit in fits[1:] if fit.text != best.text]
    return any(fit.mess - best.mess < MIN_LEAD and best.coherence - fit.coherence < MIN_LEAD for fit in rivals)
