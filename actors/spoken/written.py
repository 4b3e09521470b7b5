"""Patterns of the written forms that all languages share."""

from __future__ import annotations

import re
from typing import Literal

ROMAN = r"(?=[IVXLC])(?:C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
URL = re.compile(
    r"\b(?:https?://|www\.)[^\s<>\"“”]+|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|dev|gov|edu)(?:\.\w{2})?\b\S*"
)
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
PHONE = re.compile(
    r"(?<![\w.,-])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}"
    r"|\(\d{2,3}\)[ .-]?\d{3,5}[ .-]\d{4}"
    r"|\d{3}-\d{3}-\d{4}|\d{4,5}-\d{4}(?!-)"
    r"|0[38]00[ -]\d{3}[ -]\d{3,4}"
    r"|0\d(?:[ .]\d{2}){4})(?![\w-])"
)
ISO_DATE = re.compile(r"(?<![\d/-])(\d{4})-(\d{2})-(\d{2})(?![\d/-])")
DATE = re.compile(r"(?<![\d/.-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?![\d/-])(?!\.\d)")
DAY_AND_MONTH = re.compile(r"\b([^\W\d_]+) (\d{2}(?=/[01])|\d(?=/0))/(0[1-9]|1[0-2])(?![\d/-])")
CLOCK = re.compile(
    r"(?<![\d:.,])([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(?:\s?([aApP])\.?[mM]\b\.?)?(?:\s?h\b)?(?![\d:])"
)
HOUR_SIGN = re.compile(r"(?<![\w:.,])([01]?\d|2[0-3])\s?[hH]\s?([0-5]\d)?(?:min)?(?![\w/])")
HOUR_AM_PM = re.compile(r"(?<![\w:.,])(1[0-2]|[1-9])\s?([aApP])\.?[mM]\b\.?")
_TITLES = "rainha imperatriz czarina princesa reina emperatriz zarina regina imperatrice principessa"
_NAMES = (
    "elizabeth elisabeth elisabetta isabel isabella maria maría mary catarina catalina caterina catherine "
    "ana anna anne margarida margarita margherita margarethe margrethe cristina christina "
    "cleópatra cleopatra joana juana giovanna vitória victoria vittoria guilhermina guillermina guglielmina"
)
QUEENS = frozenset(f"{_TITLES} {_NAMES}".split())
"""Titles and names, lower case, after which the number of a monarch is feminine."""
FRACTIONS = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4)}


def number_pattern(decimal_sign: Literal[",", "."]) -> str:
    """Digits with or without grouping; a decimal sign of the other kind counts where it cannot be a group's."""
    group = r"[.\u00a0\u202f ]" if decimal_sign == "," else r"[,\u00a0\u202f]"
    other = r"\." if decimal_sign == "," else ","
    sign = re.escape(decimal_sign)
    alien = rf"(?:{other}\d{{1,2}}(?!\d))?" if decimal_sign == "," else ""
    return rf"\d{{1,3}}(?:{group}\d{{3}})+(?!\d)(?:{sign}\d+)?|\d+(?:{sign}\d+)?{alien}"


def parse_number(written: str, decimal_sign: Literal[",", "."]) -> tuple[str, str]:
    """(digits of the whole part, digits behind the decimal sign)."""
    written = written.replace("\u00a0", "").replace("\u202f", "").replace(" ", "")
    other = "." if decimal_sign == "," else ","
    if decimal_sign not in written and re.search(rf"{re.escape(other)}\d{{1,2}}$", written):
        decimal_sign, other = ("." if decimal_sign == "," else ","), decimal_sign
    whole, _, decimals = written.replace(other, "").partition(decimal_sign)
    return whole, decimals


def roman_value(numeral: str) -> int:
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
    total = 0
    for index, letter in enumerate(numeral):
        value = values[letter]
        is_subtracted = index + 1 < len(numeral) and values[numeral[index + 1]] > value
        total += -value if is_subtracted else value
    return total
