"""Italian."""

from __future__ import annotations

import re

from num2words import num2words

from actors.spoken.grammar import Currency, Gender, Grammar, Noun, currency_signs, letter_names, plain_words, word_set

MONTHS = (
    "gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno",
    "luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre",
)  # fmt: skip


def cardinal(number: int, gender: Gender = "m") -> str:
    words = plain_words(number, "it")
    return re.sub(r"\buno$", "una", words) if gender == "f" else words


def before_noun(words: str) -> str:
    return re.sub(r"\buno$", "un", words)


def ordinal(number: int, gender: Gender = "m") -> str:
    words: str = num2words(number, lang="it", to="ordinal")
    return re.sub(r"o\b", "a", words) if gender == "f" else words


def time(hours: int, minutes: int) -> str:
    words = cardinal(hours, "f")
    return f"{words} in punto" if minutes == 0 else f"{words} e {cardinal(minutes)}"


def date(day: int, month: int, year: int | None) -> str:
    words = f"{'primo' if day == 1 else cardinal(day)} {MONTHS[month - 1]}"
    return words if year is None else f"{words} {cardinal(year)}"


def fraction(above: int, below: int) -> str:
    if (above, below) == (1, 2):
        return "mezzo"
    name = ordinal(below)
    return f"{before_noun(cardinal(above))} {name[:-1] + 'i' if above > 1 else name}"


def regnal(number: int, gender: Gender) -> str:
    return ordinal(number, gender)


DOLLAR = Currency(unit=Noun(one="dollaro", many="dollari"), cent=Noun(one="centesimo", many="centesimi"))
EURO = Currency(unit=Noun(one="euro", many="euro"), cent=Noun(one="centesimo", many="centesimi"))
POUND = Currency(unit=Noun(one="sterlina", many="sterline", gender="f"), cent=Noun(one="penny", many="pence"))
YEN = Currency(unit=Noun(one="yen", many="yen"), cent=None)

GRAMMAR = Grammar(
    decimal_sign=",",
    cardinal=cardinal,
    shorten=before_noun,
    ordinal=ordinal,
    year=cardinal,
    time=time,
    date=date,
    fraction=fraction,
    count_gender=lambda word: "m",
    before_date=word_set("il dal al del"),
    ordinal_suffixes={"º": "m", "ª": "f", "°": "m"},
    currencies=currency_signs(dollar=DOLLAR, euro=EURO, pound=POUND, yen=YEN),
    scales={
        "mila": Noun(one="mila", many="mila", gender="f"),
        "milione": Noun(one="milione", many="milioni"),
        "milioni": Noun(one="milione", many="milioni"),
        "miliardo": Noun(one="miliardo", many="miliardi"),
        "miliardi": Noun(one="miliardo", many="miliardi"),
    },
    scale_joint="di",
    units={
        "km/h": Noun(one="chilometro all'ora", many="chilometri all'ora"),
        "m²": Noun(one="metro quadrato", many="metri quadrati"),
        "m³": Noun(one="metro cubo", many="metri cubi"),
        "km²": Noun(one="chilometro quadrato", many="chilometri quadrati"),
        "km": Noun(one="chilometro", many="chilometri"),
        "m": Noun(one="metro", many="metri"),
        "cm": Noun(one="centimetro", many="centimetri"),
        "mm": Noun(one="millimetro", many="millimetri"),
        "kg": Noun(one="chilo", many="chili"),
        "g": Noun(one="grammo", many="grammi"),
        "mg": Noun(one="milligrammo", many="milligrammi"),
        "l": Noun(one="litro", many="litri"),
        "L": Noun(one="litro", many="litri"),
        "ml": Noun(one="millilitro", many="millilitri"),
        "°C": Noun(one="grado Celsius", many="gradi Celsius"),
        "°F": Noun(one="grado Fahrenheit", many="gradi Fahrenheit"),
        "°": Noun(one="grado", many="gradi"),
        "min": Noun(one="minuto", many="minuti"),
        "s": Noun(one="secondo", many="secondi"),
        "GB": Noun(one="gigabyte", many="gigabyte"),
        "MB": Noun(one="megabyte", many="megabyte"),
        "Hz": Noun(one="hertz", many="hertz"),
        "W": Noun(one="watt", many="watt"),
        "kW": Noun(one="chilowatt", many="chilowatt"),
        "V": Noun(one="volt", many="volt"),
    },
    abbreviations={
        "Sig.": "Signor",
        "Sig.ra": "Signora",
        "Sig.na": "Signorina",
        "Dott.": "Dottor",
        "Dott.ssa": "Dottoressa",
        "Dr.": "Dottor",
        "Prof.": "Professor",
        "Prof.ssa": "Professoressa",
        "Ing.": "Ingegner",
        "Avv.": "Avvocato",
        "n.": "numero",
        "n°": "numero",
        "nº": "numero",
        "ecc.": "eccetera",
        "p. es.": "per esempio",
        "pag.": "pagina",
        "tel.": "telefono",
        "ca.": "circa",
        "a.C.": "avanti Cristo",
        "d.C.": "dopo Cristo",
        "Spett.": "Spettabile",
    },
    numeral_before={"guerra": "f", "secolo": "m", "congresso": "m", "edizione": "f"},
    numeral_after=word_set("capitolo volume tomo atto parte titolo articolo fase tipo classe"),
    regnal=regnal,
    letters=letter_names(
        "a bi ci di e effe gi acca i i-lunga cappa elle emme enne o pi cu erre esse ti u vu doppia-vu ics ipsilon zeta"
    ),
    and_cents="e",
    minus="meno",
    point="virgola",
    percent="per cento",
    per_mille="per mille",
    to="a",
    plus="più",
    times="per",
    equals="uguale",
    divided="diviso",
    number_sign="numero",
    ampersand="e",
    at="chiocciola",
    dot="punto",
    slash="barra",
    dash="trattino",
    underscore="trattino basso",
    question="punto interrogativo",
    seconds=Noun(one="secondo", many="secondi"),
    spelled=frozenset({"UE", "IA"}),
)
