"""The rules that read written forms aloud, in the order in which they must be tried."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from re import Match
from typing import TypeAlias

from actors.spoken.grammar import Currency, Grammar
from actors.spoken.written import (
    CLOCK,
    DATE,
    DAY_AND_MONTH,
    EMAIL,
    FRACTIONS,
    HOUR_AM_PM,
    HOUR_SIGN,
    ISO_DATE,
    PHONE,
    QUEENS,
    ROMAN,
    URL,
    number_pattern,
    parse_number,
    roman_value,
)

Rule: TypeAlias = tuple[re.Pattern[str], Callable[[Match[str]], str]]
"""A written form, and the function that reads it."""

MINUS = r"(?P<minus>(?<![\w)])[-−])?"
FRACTION = r"(?<![\w/.,])([1-9]\d?)/([1-9]\d?)"
MAX_READ_DIGITS = 12
"""A whole number of more digits is a code: it is read digit by digit."""
MAX_YEAR_YY = 50
"""Two digits of a year up to this are in this century."""


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


class Rules:
    """The compiled rules of one language."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._rules = (*self._rules_of_names(), *self._rules_of_amounts(), *self._rules_of_numbers())

    def _rules_of_names(self) -> tuple[Rule, ...]:
        """Addresses, abbreviations, telephone numbers and dates, whose digits no later rule may take."""
        abbreviations = _any_of(self._grammar.abbreviations)
        return (
            (EMAIL, lambda m: self._address(m[0])),
            (URL, lambda m: self._url(m[0])),
            (re.compile(rf"(?<!\w)(?:{abbreviations})(?!\w)"), self._abbreviation),
            (PHONE, self._phone),
            (ISO_DATE, lambda m: self._date(m, int(m[3]), int(m[2]), m[1])),
            (DATE, self._written_date),
            *(((DAY_AND_MONTH, self._day_and_month),) if self._grammar.before_date else ()),
        )

    def _rules_of_amounts(self) -> tuple[Rule, ...]:
        """Arithmetic, money, times of day, units and percentages."""
        grammar = self._grammar
        number = f"(?P<number>{number_pattern(grammar.decimal_sign)})"
        sign, scale = _any_of(grammar.currencies), _any_of(grammar.scales)
        unit = _any_of(grammar.units)
        before = rf"{MINUS}(?P<sign>{sign})\s?{number}(?:\s?(?P<scale>{scale})\b)?"
        after = rf"(?<![\w.,]){number}(?:\s?(?P<scale>{scale}))?\s?(?P<sign>{sign})(?!\w)"
        # Where "1°" is an ordinal too, a degree is not followed by the word it counts.
        not_ordinal = r"(?!(?<=[°º])\s[^\W\d_])" if "°" in grammar.ordinal_suffixes else ""
        return (
            (re.compile(r"(?<=\d)(?:\s?([+×÷=*])\s?| (x) )(?=\d)"), self._operator),
            (re.compile(before, re.IGNORECASE), self._money),
            (re.compile(after, re.IGNORECASE), self._money),
            (CLOCK, self._clock),
            *(((HOUR_SIGN, self._hour),) if grammar.reads_hour_sign else ()),
            (HOUR_AM_PM, self._am_pm),
            (re.compile(rf"{FRACTION}\s?(?P<unit>{unit})(?![\w°/²³])"), self._fraction_of_unit),
            (
                re.compile(rf"{MINUS}(?<![\w.,]){number}\s?(?P<unit>{unit})(?![\w°/²³]){not_ordinal}"),
                self._unit,
            ),
            (re.compile(rf"(?<![\w.,]){number}\s?%"), lambda m: f"{self._number(m['number'])} {grammar.percent}"),
            (re.compile(rf"(?<![\w.,]){number}\s?‰"), lambda m: f"{self._number(m['number'])} {grammar.per_mille}"),
        )

    def _rules_of_numbers(self) -> tuple[Rule, ...]:
        """Ordinals, Roman numerals, fractions, ranges, plain numbers, and the signs that are left."""
        grammar = self._grammar
        number = f"(?P<number>{number_pattern(grammar.decimal_sign)})"
        roman, suffixes = rf"(?P<roman>{ROMAN})\b", _any_of(grammar.ordinal_suffixes)
        return (
            (re.compile(rf"(?<![\w.,])(\d+)\.?({suffixes})(?!\w)(?=(\s[^\W\d_])?)", re.IGNORECASE), self._ordinal),
            (re.compile(rf"\b(?=[IVX]{{2}}|Ier)({ROMAN})(er|e|ème|º|ª)(?!\w)"), self._roman_ordinal),
            (re.compile(rf"\b{roman}\s+(?P<noun>\w+)"), self._roman_before),
            (re.compile(rf"\b(?:(?P<title>\w+)\s+)?(?P<word>\w+)\s+{roman}"), self._roman_after),
            (re.compile(rf"(\d+\s?)?([½⅓⅔¼¾])|{FRACTION}(?![\w/])"), self._fraction),
            (re.compile(r"(?<![\w.,–-])(\d{1,4})\s?[–-]\s?(\d{1,4})(?![\w–-]|[.,]\d)"), self._range),
            (re.compile(r"(?<!\w)(?!\d{1,3}(?:\.\d{3})+\b)\d+(?:\.\d+){2,}(?!\w)"), self._version),
            (re.compile(r"#\s?(?=\d)"), lambda m: f"{grammar.number_sign} "),
            (re.compile(rf"{MINUS}(?<!\w){number}(?!\w)(?:\s(?P<next>[^\W\d_]+))?"), self._plain),
            (re.compile(r"[0-9]+"), lambda m: f" {self._number(m[0])} "),
            (re.compile(r"\b[A-Z]{2,5}\b"), self._acronym),
            (re.compile(r"\s?&\s?"), lambda m: f" {grammar.ampersand} "),
            (re.compile(r"(?<=\w)/(?=\w)"), lambda m: " "),
            (re.compile(r"[*_~|<>^=\\{}\[\]#@]+"), lambda m: " "),
        )

    def apply(self, text: str) -> str:
        self._is_shouted = text.isupper()
        for pattern, read in self._rules:
            text = pattern.sub(read, text)
        return text

    def _number(self, written: str, gender: str = "m") -> str:
        whole, decimals = parse_number(written, self._grammar.decimal_sign)
        is_code = not decimals and (len(whole) > MAX_READ_DIGITS or (len(whole) > 1 and whole.startswith("0")))
        if is_code:
            return self._grammar.digits(whole)
        words = self._grammar.cardinal(int(whole), "f" if gender == "f" else "m")
        return words if not decimals else self._grammar.number(Decimal(whole), decimals)

    def _plain(self, m: Match[str]) -> str:
        grammar, follower = self._grammar, m["next"]
        whole, decimals = parse_number(m["number"], grammar.decimal_sign)
        is_year = m["number"].isdigit() and len(whole) == 4 and "1100" <= whole <= "2099"
        if is_year and (follower is None or grammar.count_gender(follower) == "m"):
            words = grammar.year(int(whole))
        else:
            words = self._number(m["number"], "m" if follower is None or decimals else grammar.count_gender(follower))
            is_before_noun = follower is not None and len(follower) > 2 and not decimals
            words = grammar.shorten(words) if is_before_noun else words
        words = f"{grammar.minus} {words}" if m["minus"] else words
        return words if follower is None else f"{words} {follower}"

    def _money(self, m: Match[str]) -> str:
        grammar = self._grammar
        currency = _ignoring_case(grammar.currencies, m["sign"])
        whole, decimals = parse_number(m["number"], grammar.decimal_sign)
        minus = f"{grammar.minus} " if m.groupdict().get("minus") else ""
        if m["scale"]:
            scale = grammar.scales[m["scale"].lower()]
            joint = f" {grammar.scale_joint}" if grammar.scale_joint and scale.gender == "m" and scale.one else ""
            amount = f"{minus}{grammar.counted(scale, int(whole), decimals)}{joint}"
            if grammar.elides and joint and currency.unit.many[0] in "aeiou":
                return f"{amount[:-1]}'{currency.unit.many}"
            return f"{amount} {currency.unit.many}"
        return minus + self._amount(currency, int(whole), decimals)

    def _amount(self, currency: Currency, whole: int, decimals: str) -> str:
        grammar = self._grammar
        if decimals and (currency.cent is None or len(decimals) != 2):
            return f"{grammar.number(Decimal(whole), decimals)} {currency.unit.many}"
        cents = int(decimals or 0)
        is_round = whole >= 1_000_000 and whole % 1_000_000 == 0 and grammar.scale_joint
        units = grammar.counted(currency.unit, whole)
        if is_round:
            units = f"{grammar.cardinal(whole, 'm')} {grammar.scale_joint} {currency.unit.many}"
        if not cents or currency.cent is None:
            return units
        small = grammar.counted(currency.cent, cents)
        return small if whole == 0 else f"{units} {grammar.and_cents} {small}"

    def _unit(self, m: Match[str]) -> str:
        whole, decimals = parse_number(m["number"], self._grammar.decimal_sign)
        minus = f"{self._grammar.minus} " if m["minus"] else ""
        return minus + self._grammar.counted(self._grammar.units[m["unit"]], int(whole), decimals)

    def _fraction_of_unit(self, m: Match[str]) -> str:
        grammar = self._grammar
        joint = "" if (m[1], m[2]) == ("1", "2") or not grammar.scale_joint else f"{grammar.scale_joint} "
        return f"{grammar.fraction(int(m[1]), int(m[2]))} {joint}{grammar.units[m['unit']].one}"

    def _ordinal(self, m: Match[str]) -> str:
        number = int(m[1])
        if number == 0 or number > 9999:
            return f"{self._number(m[1])}"
        gender = self._grammar.ordinal_suffixes[m[2].lower()]
        words = self._grammar.ordinal(number, gender)
        return self._grammar.shorten(words) if m[3] and gender == "m" else words

    def _roman_ordinal(self, m: Match[str]) -> str:
        gender = self._grammar.ordinal_suffixes.get(m[2])
        return m[0] if gender is None else self._grammar.ordinal(roman_value(m[1]), gender)

    def _written_date(self, m: Match[str]) -> str:
        first, second = int(m[1]), int(m[3])
        day, month = (second, first) if self._grammar.is_month_first and first <= 12 else (first, second)
        if month > 12 and day <= 12:
            day, month = month, day
        return self._date(m, day, month, m[4])

    def _day_and_month(self, m: Match[str]) -> str:
        day, month = int(m[2]), int(m[3])
        is_date = m[1].lower() in self._grammar.before_date and 1 <= day <= 31
        return f"{m[1]} {self._grammar.date(day, month, None)}" if is_date else m[0]

    def _date(self, m: Match[str], day: int, month: int, year: str) -> str:
        if not (1 <= day <= 31 and 1 <= month <= 12):
            return m[0]
        century = 0 if len(year) == 4 else 2000 if int(year) <= MAX_YEAR_YY else 1900
        return self._grammar.date(day, month, century + int(year))

    def _clock(self, m: Match[str]) -> str:
        hours, minutes = int(m[1]), int(m[2])
        words = self._grammar.time(hours, minutes)
        if m[3]:
            words += f" {self._grammar.ampersand} {self._grammar.counted(self._grammar.seconds, int(m[3]))}"
        return words + self._half_of_day(m[4], m[0])

    def _hour(self, m: Match[str]) -> str:
        return self._grammar.time(int(m[1]), int(m[2] or 0))

    def _am_pm(self, m: Match[str]) -> str:
        return self._grammar.cardinal(int(m[1]), "m") + self._half_of_day(m[2], m[0])

    def _half_of_day(self, letter: str | None, written: str) -> str:
        if letter is None:
            return ""
        stop = "." if written.endswith(".") and not written.lower().endswith(f"{letter.lower()}.m.") else ""
        names = self._grammar.letters
        return f" {names[letter.upper()]} {names['M']}{stop}"

    def _phone(self, m: Match[str]) -> str:
        groups = re.findall(r"\d+", m[0])
        words = ", ".join(self._grammar.digits(group) for group in groups)
        return f"{self._grammar.plus} {words}" if m[0].startswith("+") else words

    def _roman_after(self, m: Match[str]) -> str:
        word, numeral = m["word"], m["roman"]
        value, before = roman_value(numeral), m[0].removesuffix(numeral)
        if word.lower() in self._grammar.numeral_after:
            return f"{before}{self._grammar.cardinal(value, 'm')}"
        is_name = word[0].isupper() and not word.isupper() and len(numeral) >= 2 and set(numeral) <= set("IVX")
        if is_name and self._grammar.regnal is not None:
            is_queen = not QUEENS.isdisjoint((word.lower(), (m["title"] or "").lower()))
            return f"{before}{self._grammar.regnal(value, 'f' if is_queen else 'm')}"
        return m[0]

    def _roman_before(self, m: Match[str]) -> str:
        gender = self._grammar.numeral_before.get(m["noun"].lower())
        if gender is None:
            return m[0]
        return f"{self._grammar.ordinal(roman_value(m['roman']), gender)} {m['noun']}"

    def _fraction(self, m: Match[str]) -> str:
        grammar = self._grammar
        above, below = FRACTIONS[m[2]] if m[2] else (int(m[3]), int(m[4]))
        words = grammar.fraction(above, below)
        if m[1]:
            return f"{grammar.cardinal(int(m[1]), 'm')} {grammar.ampersand} {words}"
        return words

    def _range(self, m: Match[str]) -> str:
        low, high = int(m[1]), int(m[2])
        if low >= high:
            return m[0]
        return f"{self._year_or_number(m[1])} {self._grammar.to} {self._year_or_number(m[2])}"

    def _year_or_number(self, digits: str) -> str:
        is_year = len(digits) == 4 and "1100" <= digits <= "2099"
        return self._grammar.year(int(digits)) if is_year else self._number(digits)

    def _operator(self, m: Match[str]) -> str:
        grammar = self._grammar
        words = {"+": grammar.plus, "×": grammar.times, "*": grammar.times, "÷": grammar.divided, "=": grammar.equals}
        return f" {words[m[1] or '×']} "

    def _version(self, m: Match[str]) -> str:
        return f" {self._grammar.dot} ".join(self._number(part) for part in m[0].split("."))

    def _abbreviation(self, m: Match[str]) -> str:
        return self._grammar.abbreviations[m[0]]

    def _acronym(self, m: Match[str]) -> str:
        word = m[0]
        if self._is_shouted or (_is_pronounceable(word) and word not in self._grammar.spelled):
            return word
        return " ".join(self._grammar.letters[letter] for letter in word)

    def _address(self, address: str) -> str:
        grammar = self._grammar
        signs = {"@": grammar.at, ".": grammar.dot, "-": grammar.dash, "_": grammar.underscore, "+": grammar.plus}
        return _with_signs_read(address, signs)

    def _url(self, url: str) -> str:
        grammar = self._grammar
        end = re.search(r"[.,;:!?)\]]*$", url)
        assert end is not None
        url = url[: end.start()]
        url = re.sub(r"^https?://(?:www\.)?", "", url)
        signs = {".": grammar.dot, "/": grammar.slash, "-": grammar.dash, "_": grammar.underscore}
        signs |= {"?": grammar.question, "=": grammar.equals, "&": grammar.ampersand, "@": grammar.at, "#": "#"}
        return _with_signs_read(url.rstrip("/"), signs) + end[0]


def _with_signs_read(text: str, signs: dict[str, str]) -> str:
    parts = re.split(r"([^\w])", text.replace("_", f" {signs['_']} "))
    return " ".join(signs.get(part, part) for part in parts if part.strip())


def _ignoring_case(currencies: Mapping[str, Currency], sign: str) -> Currency:
    return next(currency for written, currency in currencies.items() if written.lower() == sign.lower())


def _is_pronounceable(word: str) -> bool:
    """True for an acronym that is read as a word, such as ONU or NASA: consonants and vowels take turns."""
    return (
        len(word) >= 3
        and re.fullmatch(r"[^AEIOU]?(?:[AEIOU][^AEIOUH])+[AEIOU]?|(?:[^AEIOU][AEIOU])+[^AEIOUH]?", word) is not None
    )
