"""Portuguese, as read in Brazil."""

from __future__ import annotations

import re

from num2words import num2words

from actors.spoken.grammar import Currency, Gender, Grammar, Noun, currency_signs, letter_names, plain_words, word_set

MONTHS = (
    "janeiro", "fevereiro", "março", "abril", "maio", "junho",
    "julho", "agosto", "setembro", "outubro", "novembro", "dezembro",
)  # fmt: skip
_MASCULINE_IN_AS = re.compile(
    r"(?:dias|mapas|planetas|cometas|\w*[eo]mas|\w*gramas|atletas|poetas|artistas|colegas|guardas)"
)


def feminine(words: str) -> str:
    words = re.sub(r"\bum\b(?! mil)", "uma", words)
    return re.sub(r"entos\b", "entas", re.sub(r"\bdois\b", "duas", words))


def cardinal(number: int, gender: Gender = "m") -> str:
    words = plain_words(number, "pt_BR")
    return feminine(words) if gender == "f" else words


def ordinal(number: int, gender: Gender = "m") -> str:
    words: str = num2words(number, lang="pt_BR", to="ordinal")
    return re.sub(r"o\b", "a", words) if gender == "f" else words


def time(hours: int, minutes: int) -> str:
    words = cardinal(hours, "f")
    if minutes == 0:
        return f"{words} {'hora' if hours <= 1 else 'horas'}"
    return f"{words} e {cardinal(minutes)}"


def date(day: int, month: int, year: int | None) -> str:
    words = f"{'primeiro' if day == 1 else cardinal(day)} de {MONTHS[month - 1]}"
    return words if year is None else f"{words} de {cardinal(year)}"


def fraction(above: int, below: int) -> str:
    names = {
        2: "meio",
        3: "terço",
        4: "quarto",
        5: "quinto",
        6: "sexto",
        7: "sétimo",
        8: "oitavo",
        9: "nono",
        10: "décimo",
    }
    if (above, below) == (1, 2):
        return "meio"
    if below in names:
        return f"{cardinal(above)} {names[below]}{'s' if above > 1 else ''}"
    return f"{cardinal(above)} sobre {cardinal(below)}"


def count_gender(word: str) -> Gender:
    word = word.lower()
    is_feminine = re.search(r"(?:as|ões|ades|agens|vezes)$", word) or word in {
        "uma",
        "vez",
        "mulheres",
        "mães",
        "noites",
        "tardes",
    }
    return "f" if is_feminine and not _MASCULINE_IN_AS.fullmatch(word) and word not in {"milhões", "bilhões"} else "m"


def regnal(number: int, gender: Gender) -> str:
    return ordinal(number, gender) if number <= 10 else cardinal(number)


REAL = Currency(unit=Noun(one="real", many="reais"), cent=Noun(one="centavo", many="centavos"))
DOLLAR = Currency(unit=Noun(one="dólar", many="dólares"), cent=Noun(one="centavo", many="centavos"))
EURO = Currency(unit=Noun(one="euro", many="euros"), cent=Noun(one="centavo", many="centavos"))
POUND = Currency(unit=Noun(one="libra", many="libras", gender="f"), cent=Noun(one="pêni", many="pence"))
YEN = Currency(unit=Noun(one="iene", many="ienes"), cent=None)

GRAMMAR = Grammar(
    decimal_sign=",",
    cardinal=cardinal,
    ordinal=ordinal,
    year=cardinal,
    time=time,
    date=date,
    fraction=fraction,
    count_gender=count_gender,
    before_date=word_set("em dia de até desde"),
    ordinal_suffixes={"º": "m", "ª": "f", "o": "m", "a": "f", "°": "m"},
    currencies=currency_signs(dollar=DOLLAR, euro=EURO, pound=POUND, yen=YEN) | {"R$": REAL, "BRL": REAL, "GBP": POUND},
    scales={
        "mil": Noun(one="mil", many="mil", gender="f"),
        "milhão": Noun(one="milhão", many="milhões"),
        "milhões": Noun(one="milhão", many="milhões"),
        "mi": Noun(one="milhão", many="milhões"),
        "bi": Noun(one="bilhão", many="bilhões"),
        "bilhão": Noun(one="bilhão", many="bilhões"),
        "bilhões": Noun(one="bilhão", many="bilhões"),
        "trilhão": Noun(one="trilhão", many="trilhões"),
        "trilhões": Noun(one="trilhão", many="trilhões"),
    },
    scale_joint="de",
    units={
        "km/h": Noun(one="quilômetro por hora", many="quilômetros por hora"),
        "m/s": Noun(one="metro por segundo", many="metros por segundo"),
        "km²": Noun(one="quilômetro quadrado", many="quilômetros quadrados"),
        "m²": Noun(one="metro quadrado", many="metros quadrados"),
        "m³": Noun(one="metro cúbico", many="metros cúbicos"),
        "km": Noun(one="quilômetro", many="quilômetros"),
        "m": Noun(one="metro", many="metros"),
        "cm": Noun(one="centímetro", many="centímetros"),
        "mm": Noun(one="milímetro", many="milímetros"),
        "kg": Noun(one="quilo", many="quilos"),
        "g": Noun(one="grama", many="gramas"),
        "mg": Noun(one="miligrama", many="miligramas"),
        "t": Noun(one="tonelada", many="toneladas", gender="f"),
        "l": Noun(one="litro", many="litros"),
        "L": Noun(one="litro", many="litros"),
        "ml": Noun(one="mililitro", many="mililitros"),
        "mL": Noun(one="mililitro", many="mililitros"),
        "°C": Noun(one="grau Celsius", many="graus Celsius"),
        "ºC": Noun(one="grau Celsius", many="graus Celsius"),
        "°F": Noun(one="grau Fahrenheit", many="graus Fahrenheit"),
        "°": Noun(one="grau", many="graus"),
        "min": Noun(one="minuto", many="minutos"),
        "s": Noun(one="segundo", many="segundos"),
        "ms": Noun(one="milissegundo", many="milissegundos"),
        "ha": Noun(one="hectare", many="hectares"),
        "GB": Noun(one="gigabyte", many="gigabytes"),
        "MB": Noun(one="megabyte", many="megabytes"),
        "TB": Noun(one="terabyte", many="terabytes"),
        "kB": Noun(one="quilobyte", many="quilobytes"),
        "Hz": Noun(one="hertz", many="hertz"),
        "kHz": Noun(one="quilohertz", many="quilohertz"),
        "MHz": Noun(one="megahertz", many="megahertz"),
        "GHz": Noun(one="gigahertz", many="gigahertz"),
        "W": Noun(one="watt", many="watts"),
        "kW": Noun(one="quilowatt", many="quilowatts"),
        "kWh": Noun(one="quilowatt-hora", many="quilowatts-hora"),
        "V": Noun(one="volt", many="volts"),
    },
    abbreviations={
        "EUA": "Estados Unidos",
        "UE": "União Europeia",
        "Sr.": "Senhor",
        "Sra.": "Senhora",
        "Srta.": "Senhorita",
        "Srs.": "Senhores",
        "Dr.": "Doutor",
        "Dra.": "Doutora",
        "Prof.": "Professor",
        "Profa.": "Professora",
        "Av.": "Avenida",
        "Pça.": "Praça",
        "nº": "número",
        "n.º": "número",
        "Nº": "Número",
        "n°": "número",
        "etc.": "etcétera",
        "p. ex.": "por exemplo",
        "p.ex.": "por exemplo",
        "Eng.": "Engenheiro",
        "Enga.": "Engenheira",
        "Arq.": "Arquiteto",
        "Pres.": "Presidente",
        "Cel.": "Coronel",
        "Art.": "Artigo",
        "art.": "artigo",
        "arts.": "artigos",
        "§": "parágrafo",
        "inc.": "inciso",
        "cap.": "capítulo",
        "vol.": "volume",
        "apto.": "apartamento",
        "Apto.": "Apartamento",
        "pág.": "página",
        "págs.": "páginas",
        "tel.": "telefone",
        "Tel.": "Telefone",
        "aprox.": "aproximadamente",
        "séc.": "século",
        "a.C.": "antes de Cristo",
        "d.C.": "depois de Cristo",
        "Cia.": "Companhia",
        "Ltda.": "Limitada",
        "Exmo.": "Excelentíssimo",
        "Exma.": "Excelentíssima",
        "Sto.": "Santo",
        "Sta.": "Santa",
        "vs.": "versus",
        "obs.": "observação",
    },
    numeral_before={
        "guerra": "f",
        "congresso": "m",
        "encontro": "m",
        "edição": "f",
        "conferência": "f",
        "festival": "m",
    },
    numeral_after=word_set(
        "século séculos capítulo capítulos volume tomo ato parte título artigo inciso fase cena livro grau tipo classe"
    ),
    regnal=regnal,
    letters=letter_names(
        "á bê cê dê é efe gê agá í jota cá ele eme ene ó pê quê erre esse tê u vê dáblio xis ípsilon zê"
    ),
    and_cents="e",
    minus="menos",
    point="vírgula",
    percent="por cento",
    per_mille="por mil",
    to="a",
    plus="mais",
    times="vezes",
    equals="igual a",
    divided="dividido por",
    number_sign="número",
    ampersand="e",
    at="arroba",
    dot="ponto",
    slash="barra",
    dash="hífen",
    underscore="sublinhado",
    question="interrogação",
    seconds=Noun(one="segundo", many="segundos"),
    spelled=frozenset({"OEA", "IA", "TI"}),
)
