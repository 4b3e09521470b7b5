"""English, as read in the United States."""

from __future__ import annotations

from num2words import num2words

from actors.spoken.grammar import Currency, Gender, Grammar, Noun, currency_signs, letter_names, plain_words, word_set

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def cardinal(number: int, gender: Gender = "m") -> str:
    return plain_words(number, "en")


def ordinal(number: int, gender: Gender = "m") -> str:
    words: str = num2words(number, lang="en", to="ordinal")
    return words.replace(",", "")


def year(number: int) -> str:
    words: str = num2words(number, lang="en", to="year")
    return words.replace(",", "")


def time(hours: int, minutes: int) -> str:
    if minutes == 0:
        return f"{cardinal(hours)} hundred" if hours > 12 or hours == 0 else f"{cardinal(hours)} o'clock"
    return f"{cardinal(hours)} {'oh ' if minutes < 10 else ''}{cardinal(minutes)}"


def date(day: int, month: int, of_year: int | None) -> str:
    words = f"{MONTHS[month - 1]} {ordinal(day)}"
    return words if of_year is None else f"{words}, {year(of_year)}"


def fraction(above: int, below: int) -> str:
    if below == 2:
        return "one half" if above == 1 else f"{cardinal(above)} halves"
    name = "quarter" if below == 4 else ordinal(below)
    return f"{cardinal(above)} {name}{'s' if above > 1 else ''}"


def regnal(number: int, gender: Gender) -> str:
    return f"the {ordinal(number)}"


DOLLAR = Currency(unit=Noun(one="dollar", many="dollars"), cent=Noun(one="cent", many="cents"))
EURO = Currency(unit=Noun(one="euro", many="euros"), cent=Noun(one="cent", many="cents"))
POUND = Currency(unit=Noun(one="pound", many="pounds"), cent=Noun(one="penny", many="pence"))
REAL = Currency(unit=Noun(one="real", many="reais"), cent=Noun(one="centavo", many="centavos"))
YEN = Currency(unit=Noun(one="yen", many="yen"), cent=None)

GRAMMAR = Grammar(
    decimal_sign=".",
    cardinal=cardinal,
    ordinal=ordinal,
    year=year,
    time=time,
    date=date,
    fraction=fraction,
    count_gender=lambda word: "m",
    ordinal_suffixes={"st": "m", "nd": "m", "rd": "m", "th": "m"},
    reads_hour_sign=False,
    is_month_first=True,
    reads_decimals_as_number=False,
    currencies=currency_signs(dollar=DOLLAR, euro=EURO, pound=POUND, yen=YEN) | {"GBP": POUND, "R$": REAL, "BRL": REAL},
    scales={
        name: Noun(one=word, many=word)
        for name, word in {
            "thousand": "thousand",
            "k": "thousand",
            "million": "million",
            "m": "million",
            "billion": "billion",
            "bn": "billion",
            "trillion": "trillion",
        }.items()
    },
    units={
        "km/h": Noun(one="kilometer per hour", many="kilometers per hour"),
        "mph": Noun(one="mile per hour", many="miles per hour"),
        "m/s": Noun(one="meter per second", many="meters per second"),
        "km²": Noun(one="square kilometer", many="square kilometers"),
        "m²": Noun(one="square meter", many="square meters"),
        "m³": Noun(one="cubic meter", many="cubic meters"),
        "km": Noun(one="kilometer", many="kilometers"),
        "m": Noun(one="meter", many="meters"),
        "cm": Noun(one="centimeter", many="centimeters"),
        "mm": Noun(one="millimeter", many="millimeters"),
        "ft": Noun(one="foot", many="feet"),
        "lb": Noun(one="pound", many="pounds"),
        "lbs": Noun(one="pound", many="pounds"),
        "oz": Noun(one="ounce", many="ounces"),
        "mi": Noun(one="mile", many="miles"),
        "kg": Noun(one="kilogram", many="kilograms"),
        "g": Noun(one="gram", many="grams"),
        "mg": Noun(one="milligram", many="milligrams"),
        "L": Noun(one="liter", many="liters"),
        "l": Noun(one="liter", many="liters"),
        "ml": Noun(one="milliliter", many="milliliters"),
        "°C": Noun(one="degree Celsius", many="degrees Celsius"),
        "°F": Noun(one="degree Fahrenheit", many="degrees Fahrenheit"),
        "°": Noun(one="degree", many="degrees"),
        "min": Noun(one="minute", many="minutes"),
        "s": Noun(one="second", many="seconds"),
        "ms": Noun(one="millisecond", many="milliseconds"),
        "hrs": Noun(one="hour", many="hours"),
        "h": Noun(one="hour", many="hours"),
        "GB": Noun(one="gigabyte", many="gigabytes"),
        "MB": Noun(one="megabyte", many="megabytes"),
        "TB": Noun(one="terabyte", many="terabytes"),
        "kB": Noun(one="kilobyte", many="kilobytes"),
        "Hz": Noun(one="hertz", many="hertz"),
        "kHz": Noun(one="kilohertz", many="kilohertz"),
        "MHz": Noun(one="megahertz", many="megahertz"),
        "GHz": Noun(one="gigahertz", many="gigahertz"),
        "W": Noun(one="watt", many="watts"),
        "kW": Noun(one="kilowatt", many="kilowatts"),
        "kWh": Noun(one="kilowatt hour", many="kilowatt hours"),
        "V": Noun(one="volt", many="volts"),
    },
    abbreviations={
        "Mr.": "Mister",
        "Mrs.": "Missus",
        "Ms.": "Miz",
        "Dr.": "Doctor",
        "Prof.": "Professor",
        "St.": "Saint",
        "Mt.": "Mount",
        "Gen.": "General",
        "Col.": "Colonel",
        "Capt.": "Captain",
        "Sgt.": "Sergeant",
        "Jr.": "Junior",
        "Sr.": "Senior",
        "vs.": "versus",
        "etc.": "et cetera",
        "e.g.": "for example",
        "i.e.": "that is",
        "approx.": "approximately",
        "Ave.": "Avenue",
        "Blvd.": "Boulevard",
        "Rd.": "Road",
        "Inc.": "Incorporated",
        "Ltd.": "Limited",
        "Co.": "Company",
        "dept.": "department",
        "est.": "established",
        "fig.": "figure",
        "Fig.": "Figure",
        "B.C.": "B C",
        "A.D.": "A D",
        "w/": "with",
    },
    numeral_after=word_set(
        "chapter volume part act book war section title article phase scene type class appendix figure bowl"
    ),
    regnal=regnal,
    letters=letter_names(
        "ay bee see dee ee eff gee aitch eye jay kay ell em en oh pee cue ar ess tee you vee double-you ex why zee"
    ),
    and_cents="and",
    minus="minus",
    point="point",
    percent="percent",
    per_mille="per mille",
    to="to",
    plus="plus",
    times="times",
    equals="equals",
    divided="divided by",
    number_sign="number",
    ampersand="and",
    at="at",
    dot="dot",
    slash="slash",
    dash="dash",
    underscore="underscore",
    question="question mark",
    seconds=Noun(one="second", many="seconds"),
    spelled=frozenset({"USA", "IRA", "UAE", "CEO", "IPO", "ETA", "ATM"}),
)
