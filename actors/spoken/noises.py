"""Tells interjections and noises of the mouth from words: "Hmmm.", "Uh…", "ha ha ha", "[laughs]"."""

from __future__ import annotations

import re
from collections.abc import Mapping

from actors import languages

INTERJECTIONS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "ar": "آه أوه اه اوه امم همم",
        "cs": "ach au ehm eh hm hmm mhm oh uf",
        "da": "ah av hm hmm øh øhm åh",
        "de": "ach ah aha au äh ähm eh hm mhm oh öh öhm uff",
        "el": "α αχ εε ε εμ μμ ουφ ωχ",
        "en": "ah aha ahem aw eh er erm hm huh mhm mm oh ooh oof uh uhm um umm ugh",
        "es": "ah aha ajá ay eh ehm em hum mhm oh uf uh uy",
        "fr": "ah aha aïe bah eh euh hein heu hum mhm oh ouf ouh",
        "hi": "आह उह ओह हम्म",
        "it": "ah aha ahi eh ehm em mhm oh uff uh uhm",
        "ja": "あ ああ あっ うーん えー えーと えーっと えっと おお おっ ふーん ふむ へえ んー",
        "ko": "아 어 오 음 으음 흠 에 아하",
        "nl": "ach ah aha au eh ehm hm hè mhm oh oei uh uhm",
        "pl": "ach aha au ech eee hm mhm och oj uch yyy",
        "pt": "ah aham ahn ahm ai eh ehm hã hãã hm hum ih mhm oh uai uff ufa uh uhm uhum ui",
        "ru": "ах гм ай ой ох ух хм э эм эх мм",
        "sv": "ah aha aj eh hm mhm oj äh öh öhm åh",
        "tr": "ah aha ay eh hı hım hm of oh öf uf",
        "uk": "ах гм ай ой ох ух хм е ем ех мм",
        "zh": "啊 呃 哦 噢 喔 嗯 唉 哎 哎呀 唔 哼 诶 欸 額",
    }.items()
}
"""By language without region; drawn-out letters stand once. Words that address or tell somebody something are none."""

_WORD = re.compile(r"[^\W\d_]+(?:[\u0300-\u036f\u0900-\u097f]*[^\W\d_]*)*")
_RUN = re.compile(r"(.)\1+")
# Sounds of the mouth that are written, but are words in no language; each letter stands for a run of it.
_NOISES = re.compile("hm+h?|m{2,}(?:hm*)?|mh+m+|p?sh+|ps+t?|p+f+t*h?|g+r+|b+r+|hmph|tsk|tch|ugh+|a+r+gh+|ahem|z+|mwah")
# Words in some language where they are short, and sounds where they are drawn out.
_STRETCHED = re.compile(
    "[aeiou]+h*|h?[aeiou]+h*|a+h+a+|[ae]+w+|o+w+|m+|[äöüåøæ]+h*m*|[аеиоуыэюя]+х*|м+|х+м+|[あいうえおんー]+|[啊哦噢嗯呃]+"
)
_LAUGH = re.compile(
    "(?:h[aeio]){3,}h?|(?:j[aei]){3,}|k{4,}|(?:rs){2,}|(?:х[аеи]){2,}х?|[はふへ]{3,}|[哈呵嘿嘻]{2,}|[하히호ㅋㅎ]{3,}"
)
_DESCRIPTION = re.compile(r"\s*(?:[\[(*【（［♪♫][^\])*】）］♪♫]*[\])*】）］♪♫][\s.,!?…]*)+")


def is_noise(text: str, language: str | None = None) -> bool:
    """True if ``text`` is only noises of the mouth; with ``language`` (BCP-47) its interjections too.

    Text without any letter is none: it may be a number, or nothing.
    """
    words = [word.casefold() for word in _WORD.findall(text)]
    if not words or any(character.isdigit() for character in text):
        return False
    known = INTERJECTIONS.get(languages.base(language), frozenset()) if language else frozenset()
    return all(_is_noise_word(word, known) for word in words) or _LAUGH.fullmatch("".join(words)) is not None


def is_description(text: str) -> bool:
    """True if ``text`` names a sound instead of words that were said: "[laughs]", "(music)", "♪♪"."""
    return _DESCRIPTION.fullmatch(text) is not None


def _is_noise_word(word: str, known: frozenset[str]) -> bool:
    if word in known or _RUN.sub(r"\1", word) in known:
        return True
    is_drawn_out = any(len(run[0]) >= 3 for run in _RUN.finditer(word)) and _STRETCHED.fullmatch(word) is not None
    return is_drawn_out or _NOISES.fullmatch(word) is not None or _LAUGH.fullmatch(word) is not None
