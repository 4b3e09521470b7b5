"""French, as read in France."""

from __future__ import annotations

import re

from num2words import num2words

from actors.spoken.grammar import Currency, Gender, Grammar, Noun, currency_signs, letter_names, plain_words, word_set

MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin",
    "juillet", "août", "septembre", "octobre", "novembre", "décembre",
)  # fmt: skip


def cardinal(number: int, gender: Gender = "m") -> str:
    words = plain_words(number, "fr")
    return re.sub(r"\bun$", "une", words) if gender == "f" else words


def ordinal(number: int, gender: Gender = "m") -> str:
    if number == 1:
        return "première" if gender == "f" else "premier"
    words: str = num2words(number, lang="fr", to="ordinal")
    return words


def time(hours: int, minutes: int) -> str:
    words = f"{cardinal(hours, 'f')} {'heure' if hours <= 1 else 'heures'}"
    return words if minutes == 0 else f"{words} {cardinal(minutes, 'f')}"


def date(day: int, month: int, year: int | None) -> str:
    words = f"{'premier' if day == 1 else cardinal(day)} {MONTHS[month - 1]}"
    return words if year is None else f"{words} {cardinal(year)}"


def fraction(above: int, below: int) -> str:
    names = {3: "tiers", 4: "quart"}
    if (above, below) == (1, 2):
        return "un demi"
    name = names.get(below) or ordinal(below)
    return f"{cardinal(above)} {name}{'s' if above > 1 and not name.endswith('s') else ''}"


def regnal(number: int, gender: Gender) -> str:
    return "premier" if number == 1 else cardinal(number)


DOLLAR = Currency(unit=Noun(one="dollar", many="dollars"), cent=Noun(one="cent", many="cents"))
EURO = Currency(unit=Noun(one="euro", many="euros"), cent=Noun(one="centime", many="centimes"))
POUND = Currency(unit=Noun(one="livre", many="livres", gender="f"), cent=Noun(one="penny", many="pence"))
YEN = Currency(unit=Noun(one="yen", many="yens"), cent=None)

GRAMMAR = Grammar(
    decimal_sign=",",
    cardinal=cardinal,
    ordinal=ordinal,
    year=cardinal,
    time=time,
    date=date,
    fraction=fraction,
    count_gender=lambda word: "m",
    before_date=word_set("le du au"),
    ordinal_suffixes={"er": "m", "re": "f", "ère": "f", "e": "m", "ème": "m", "nd": "m", "nde": "f"},
    currencies=currency_signs(dollar=DOLLAR, euro=EURO, pound=POUND, yen=YEN),
    scales={
        "mille": Noun(one="mille", many="mille", gender="f"),
        "million": Noun(one="million", many="millions"),
        "millions": Noun(one="million", many="millions"),
        "milliard": Noun(one="milliard", many="milliards"),
        "milliards": Noun(one="milliard", many="milliards"),
    },
    scale_joint="de",
    elides=True,
    units={
        "km/h": Noun(one="kilomètre heure", many="kilomètres heure"),
        "m²": Noun(one="mètre carré", many="mètres carrés"),
        "m³": Noun(one="mètre cube", many="mètres cubes"),
        "km²": Noun(one="kilomètre carré", many="kilomètres carrés"),
        "km": Noun(one="kilomètre", many="kilomètres"),
        "m": Noun(one="mètre", many="mètres"),
        "cm": Noun(one="centimètre", many="centimètres"),
        "mm": Noun(one="millimètre", many="millimètres"),
        "kg": Noun(one="kilo", many="kilos"),
        "g": Noun(one="gramme", many="grammes"),
        "mg": Noun(one="milligramme", many="milligrammes"),
        "t": Noun(one="tonne", many="tonnes", gender="f"),
        "l": Noun(one="litre", many="litres"),
        "L": Noun(one="litre", many="litres"),
        "ml": Noun(one="millilitre", many="millilitres"),
        "°C": Noun(one="degré Celsius", many="degrés Celsius"),
        "°F": Noun(one="degré Fahrenheit", many="degrés Fahrenheit"),
        "°": Noun(one="degré", many="degrés"),
        "min": Noun(one="minute", many="minutes", gender="f"),
        "s": Noun(one="seconde", many="secondes", gender="f"),
        "Go": Noun(one="gigaoctet", many="gigaoctets"),
        "Mo": Noun(one="mégaoctet", many="mégaoctets"),
        "Hz": Noun(one="hertz", many="hertz"),
        "W": Noun(one="watt", many="watts"),
        "kW": Noun(one="kilowatt", many="kilowatts"),
        "V": Noun(one="volt", many="volts"),
    },
    abbreviations={
        "M.": "Monsieur",
        "MM.": "Messieurs",
        "Mme": "Madame",
        "Mlle": "Mademoiselle",
        "Dr": "Docteur",
        "Pr": "Professeur",
        "n°": "numéro",
        "N°": "Numéro",
        "nº": "numéro",
        "etc.": "et cetera",
        "p. ex.": "par exemple",
        "av. J.-C.": "avant Jésus-Christ",
        "apr. J.-C.": "après Jésus-Christ",
        "tél.": "téléphone",
        "bd": "boulevard",
        "St": "Saint",
        "Ste": "Sainte",
        "env.": "environ",
    },
    numeral_before={"guerre": "f", "république": "f", "siècle": "m", "congrès": "m"},
    numeral_after=word_set("chapitre volume tome acte partie titre article phase type classe"),
    regnal=regnal,
    letters=letter_names(
        "a bé cé dé e effe gé hache i ji ka elle emme enne o pé cu erre esse té u vé double-vé ixe i-grec zède"
    ),
    and_cents="et",
    minus="moins",
    point="virgule",
    percent="pour cent",
    per_mille="pour mille",
    to="à",
    plus="plus",
    times="fois",
    equals="égale",
    divided="divisé par",
    number_sign="numéro",
    ampersand="et",
    at="arobase",
    dot="point",
    slash="barre oblique",
    dash="tiret",
    underscore="tiret bas",
    question="point d'interrogation",
    seconds=Noun(one="seconde", many="secondes", gender="f"),
    spelled=frozenset({"UE", "IA"}),
)
