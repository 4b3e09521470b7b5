"""The data by which one language is read aloud."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from num2words import num2words

Gender = Literal["m", "f"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """A counted noun: its singular, plural and grammatical gender."""

    one: str
    many: str
    gender: Gender = "m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Currency:
    unit: Noun
    cent: Noun | None
    """None for a currency without a smaller unit in use."""


def currency_signs(*, dollar: Currency, euro: Currency, pound: Currency, yen: Currency) -> dict[str, Currency]:
    """Signs and codes that are written in every language."""
    return {"US$": dollar, "USD": dollar, "$": dollar, "€": euro, "EUR": euro, "£": pound, "¥": yen}


def letter_names(names: str) -> dict[str, str]:
    """The names of A to Z, given in one string with spaces between them."""
    return dict(zip(string.ascii_uppercase, names.split(), strict=True))


def word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def plain_words(number: int, language: str) -> str:
    """A whole number in words, by num2words, without the commas that it puts between groups."""
    words: str = num2words(number, lang=language)
    return words.replace(",", "").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """All that the rules need to know of a language."""

    decimal_sign: Literal[",", "."]
    cardinal: Callable[[int, Gender], str]
    ordinal: Callable[[int, Gender], str]
    year: Callable[[int], str]
    time: Callable[[int, int], str]
    """Hours of 24 and minutes, as read from a digital clock."""
    date: Callable[[int, int, int | None], str]
    """Day, month and year."""
    fraction: Callable[[int, int], str]
    """Numerator and denominator."""
    shorten: Callable[[str], str] = str
    """A number's form before a masculine noun: "uno" → "un"."""
    reads_hour_sign: bool = True
    """"14h30" is a time; else "5 h" is five hours."""
    count_gender: Callable[[str], Gender]
    """The gender of a number before this word."""
    ordinal_suffixes: Mapping[str, Gender]
    """Written after the digits, lower case: "º", "st"."""
    is_month_first: bool = False
    before_date: frozenset[str] = frozenset()
    """Words, lower case, after which two numbers with a slash are a day and a month: "em 25/12"."""
    reads_decimals_as_number: bool = True
    """Two decimals are one number ("forty-five point thirty"); else they are read digit by digit."""
    currencies: Mapping[str, Currency]
    """By sign or code as it is written, "R$"."""
    scales: Mapping[str, Noun]
    """Words after an amount, lower case, as written: "milhões", "mi"."""
    scale_joint: str = ""
    """Between a scale and the currency: "de" in "dois milhões de reais"."""
    elides: bool = False
    """The joint loses its vowel before another: "d'euros"."""
    units: Mapping[str, Noun]
    abbreviations: Mapping[str, str]
    """As written, with the full stop, and what is read."""
    numeral_before: Mapping[str, Gender] = field(default_factory=dict)
    """Nouns, lower case, after a Roman numeral that is read as an ordinal: "guerra"."""
    numeral_after: frozenset[str] = frozenset()
    """Words, lower case, before a Roman numeral that is read as a cardinal: "capítulo"."""
    regnal: Callable[[int, Gender], str] | None = None
    """The number of a monarch or pope, whose gender it takes."""
    letters: Mapping[str, str]
    """The names of the letters."""
    and_cents: str
    minus: str
    point: str
    percent: str
    per_mille: str
    to: str
    """Between the ends of a range of numbers."""
    plus: str
    times: str
    equals: str
    divided: str
    number_sign: str
    """Read for "#" before digits."""
    ampersand: str
    at: str
    dot: str
    slash: str
    dash: str
    underscore: str
    question: str
    """Read for "?" in a URL."""
    seconds: Noun
    spelled: frozenset[str] = frozenset()
    """Acronyms that could be read as words but are spelled."""

    def number(self, value: Decimal, decimals: str = "", gender: Gender = "m") -> str:
        """``value`` is whole; ``decimals`` are the digits behind the decimal sign."""
        words = self.cardinal(int(value), gender)
        if not decimals:
            return words
        if self.reads_decimals_as_number and len(decimals) <= 2 and not decimals.startswith("0"):
            return f"{words} {self.point} {self.cardinal(int(decimals), 'm')}"
        return f"{words} {self.point} {self.digits(decimals)}"

    def digits(self, digits: str) -> str:
        return " ".join(self.cardinal(int(digit), "m") for digit in digits)

    def counted(self, noun: Noun, value: int, decimals: str = "") -> str:
        """The number and its noun: "two kilos"."""
        is_one = value == 1 and not decimals
        words = self.number(Decimal(value), decimals, noun.gender)
        words = self.shorten(words) if noun.gender == "m" and not decimals else words
        return f"{words} {noun.one if is_one else noun.many}"
