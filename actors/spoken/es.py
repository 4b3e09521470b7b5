"""Spanish."""

from __future__ import annotations

import re

from num2words import num2words

from actors.spoken.grammar import Currency, Gender, Grammar, Noun, currency_signs, letter_names, plain_words, word_set

MONTHS = (
    "enero", "febrero", "marzo", "abril", "mayo", "junio",
    "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre",
)  # fmt: skip
_MASCULINE_IN_AS = re.compile(
    r"(?:días|mapas|planetas|cometas|\w*[eo]mas|\w*gramas|atletas|poetas|artistas|colegas|guardias)"
)


def cardinal(number: int, gender: Gender = "m") -> str:
    words = plain_words(number, "es")
    return re.sub(r"entos\b", "entas", re.sub(r"uno\b", "una", words)) if gender == "f" else words


def before_noun(words: str) -> str:
    """The short form that a masculine noun asks for: "veintiún", "un", "primer"."""
    words = re.sub(r"\buno$", "un", re.sub(r"veintiuno$", "veintiún", words))
    return re.sub(r"\b(prim|terc)ero$", r"\1er", words)


def ordinal(number: int, gender: Gender = "m") -> str:
    words: str = num2words(number, lang="es", to="ordinal")
    return re.sub(r"o\b", "a", words) if gender == "f" else words


def time(hours: int, minutes: int) -> str:
    words = cardinal(hours, "f")
    return f"{words} en punto" if minutes == 0 else f"{words} y {cardinal(minutes)}"


def date(day: int, month: int, year: int | None) -> str:
    words = f"{'primero' if day == 1 else cardinal(day)} de {MONTHS[month - 1]}"
    return words if year is None else f"{words} de {cardinal(year)}"


def fraction(above: int, below: int) -> str:
    names = {3: "tercio", 4: "cuarto", 5: "quinto", 6: "sexto", 7: "séptimo", 8: "octavo", 9: "noveno", 10: "décimo"}
    if (above, below) == (1, 2):
        return "medio"
    if below in names:
        return f"{before_noun(cardinal(above))} {names[below]}{'s' if above > 1 else ''}"
    return f"{cardinal(above)} sobre {cardinal(below)}"


def count_gender(word: str) -> Gender:
    word = word.lower()
    is_feminine = re.search(r"(?:as|ciones|siones|dades|veces)$", word) or word in {
        "vez",
        "mujeres",
        "noches",
        "tardes",
    }
    return "f" if is_feminine and not _MASCULINE_IN_AS.fullmatch(word) else "m"


def regnal(number: int, gender: Gender) -> str:
    return ordinal(number, gender) if number <= 10 else cardinal(number)


DOLLAR = Currency(unit=Noun(one="dólar", many="dólares"), cent=Noun(one="centavo", many="centavos"))
EURO = Currency(unit=Noun(one="euro", many="euros"), cent=Noun(one="céntimo", many="céntimos"))
POUND = Currency(unit=Noun(one="libra", many="libras", gender="f"), cent=Noun(one="penique", many="peniques"))
REAL = Currency(unit=Noun(one="real", many="reales"), cent=Noun(one="centavo", many="centavos"))
YEN = Currency(unit=Noun(one="yen", many="yenes"), cent=None)

GRAMMAR = Grammar(
    decimal_sign=",",
    cardinal=cardinal,
    shorten=before_noun,
    ordinal=ordinal,
    year=cardinal,
    time=time,
    date=date,
    fraction=fraction,
    count_gender=count_gender,
    before_date=word_set("el día hasta desde"),
    ordinal_suffixes={"º": "m", "ª": "f", "°": "m", "er": "m", "o": "m", "a": "f"},
    currencies=currency_signs(dollar=DOLLAR, euro=EURO, pound=POUND, yen=YEN) | {"R$": REAL},
    scales={
        "mil": Noun(one="mil", many="mil", gender="f"),
        "millón": Noun(one="millón", many="millones"),
        "millones": Noun(one="millón", many="millones"),
        "billón": Noun(one="billón", many="billones"),
        "billones": Noun(one="billón", many="billones"),
    },
    scale_joint="de",
    units={
        "km/h": Noun(one="kilómetro por hora", many="kilómetros por hora"),
        "m²": Noun(one="metro cuadrado", many="metros cuadrados"),
        "km²": Noun(one="kilómetro cuadrado", many="kilómetros cuadrados"),
        "m³": Noun(one="metro cúbico", many="metros cúbicos"),
        "km": Noun(one="kilómetro", many="kilómetros"),
        "m": Noun(one="metro", many="metros"),
        "cm": Noun(one="centímetro", many="centímetros"),
        "mm": Noun(one="milímetro", many="milímetros"),
        "kg": Noun(one="kilo", many="kilos"),
        "g": Noun(one="gramo", many="gramos"),
        "mg": Noun(one="miligramo", many="miligramos"),
        "l": Noun(one="litro", many="litros"),
        "L": Noun(one="litro", many="litros"),
        "ml": Noun(one="mililitro", many="mililitros"),
        "°C": Noun(one="grado Celsius", many="grados Celsius"),
        "ºC": Noun(one="grado Celsius", many="grados Celsius"),
        "°F": Noun(one="grado Fahrenheit", many="grados Fahrenheit"),
        "°": Noun(one="grado", many="grados"),
        "min": Noun(one="minuto", many="minutos"),
        "s": Noun(one="segundo", many="segundos"),
        "GB": Noun(one="gigabyte", many="gigabytes"),
        "MB": Noun(one="megabyte", many="megabytes"),
        "Hz": Noun(one="hercio", many="hercios"),
        "W": Noun(one="vatio", many="vatios"),
        "kW": Noun(one="kilovatio", many="kilovatios"),
        "V": Noun(one="voltio", many="voltios"),
    },
    abbreviations={
        "Sr.": "Señor",
        "Sra.": "Señora",
        "Srta.": "Señorita",
        "Dr.": "Doctor",
        "Dra.": "Doctora",
        "Prof.": "Profesor",
        "Ud.": "usted",
        "Uds.": "ustedes",
        "Av.": "Avenida",
        "Avda.": "Avenida",
        "nº": "número",
        "n.º": "número",
        "núm.": "número",
        "etc.": "etcétera",
        "p. ej.": "por ejemplo",
        "pág.": "página",
        "págs.": "páginas",
        "tel.": "teléfono",
        "aprox.": "aproximadamente",
        "a. C.": "antes de Cristo",
        "d. C.": "después de Cristo",
        "EE. UU.": "Estados Unidos",
        "EE.UU.": "Estados Unidos",
    },
    numeral_before={"guerra": "f", "congreso": "m", "edición": "f", "festival": "m", "cumbre": "f"},
    numeral_after=word_set("siglo siglos capítulo volumen tomo acto parte título artículo fase tipo clase"),
    regnal=regnal,
    letters=letter_names(
        "a be ce de e efe ge hache i jota ka ele eme ene o pe cu erre ese te u uve uve-doble equis ye zeta"
    ),
    and_cents="con",
    minus="menos",
    point="coma",
    percent="por ciento",
    per_mille="por mil",
    to="a",
    plus="más",
    times="por",
    equals="igual a",
    divided="entre",
    number_sign="número",
    ampersand="y",
    at="arroba",
    dot="punto",
    slash="barra",
    dash="guion",
    underscore="guion bajo",
    question="interrogación",
    seconds=Noun(one="segundo", many="segundos"),
    spelled=frozenset({"UE", "IA"}),
)
