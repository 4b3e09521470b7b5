"""The code pages and the letters of languages, by which the encoding of a file is told. No code."""

from __future__ import annotations

WESTERN = ("cp1252", "iso8859_15", "mac_roman", "cp850")
_PAGES_OF = {
    "pl cs sk hu sl hr bs sq": ("cp1250", "iso8859_2", "cp852", "mac_latin2"),
    "ro": ("cp1250", "iso8859_16", "iso8859_2"),
    "ru be bg mk sr": ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic"),
    "uk": ("cp1251", "koi8_u", "cp866", "iso8859_5", "mac_cyrillic"),
    "kk": ("kz1048", "ptcp154", "cp1251"),
    "el": ("cp1253", "iso8859_7", "cp737", "mac_greek"),
    "tr az": ("cp1254", "iso8859_9", "cp857", "mac_turkish"),
    "he yi": ("cp1255", "iso8859_8", "cp862"),
    "ar fa ur": ("cp1256", "iso8859_6", "cp864"),
    "lt lv et": ("cp1257", "iso8859_13", "iso8859_4", "cp775"),
    "vi": ("cp1258",),
    "th": ("cp874", "iso8859_11"),
    "ja": ("cp932", "euc_jp"),
    "ko": ("cp949", "johab"),
    "zh": ("gb18030", "big5"),
}
PAGES = {tag: pages for tags, pages in _PAGES_OF.items() for tag in tags.split()}
"""Language → its code pages, the most usual first; those that are missing use ``WESTERN``."""
TRADITIONAL = ("big5hkscs", "gb18030")

_CYRILLIC = "абвгдежзийклмнопрстуфхцчшщьюя"
_LETTERS_OF = {
    "en": "àáâäçèéêëíïñóôöúûü",
    "pl": "ąćęłńóśźż",
    "cs": "áčďéěíňóřšťúůýž",
    "sk": "áäčďéíĺľňóôŕšťúýž",
    "hu": "áéíóöőúüű",
    "ro": "ăâîșşțţ",
    "sl hr bs": "čćđšž",
    "sq": "çë",
    "tr": "çğıöşüâîû",
    "az": "çəğıöşü",
    "lt": "ąčęėįšųūž",
    "lv": "āčēģīķļņōŗšūž",
    "et": "äõöüšž",
    "fi": "äöåšž",
    "sv": "åäöéü",
    "da nb nn no": "æøåéèêóòô",
    "is": "áðéíóúýþæö",
    "de": "äöüß",
    "nl": "áéëèïíóöüú",
    "fr": "àâæçéèêëîïôœùûüÿ",
    "it": "àèéìíîòóùú",
    "es gl": "áéíñóúü",
    "ca": "àçèéíïòóúü",
    "pt": "áàâãçéêíóôõúü",
    "el": "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",
    "ru": f"{_CYRILLIC}ёъыэ",
    "uk": f"{_CYRILLIC}ґєії",
    "be": f"{_CYRILLIC}ёіўыэ",
    "bg": f"{_CYRILLIC}ъѝ",
    "mk": f"{_CYRILLIC}ѓѕјљњќџ",
    "sr": f"{_CYRILLIC}ђјљњћџčćđšž",
}
LETTERS = {tag: frozenset(letters) for tags, letters in _LETTERS_OF.items() for tag in tags.split()}
"""Language → its letters outside of ASCII, in small letters."""
