"""Subtitles in the encodings of their countries."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from actors.errors import MediaError
from cluster.subtitles.encoding import decode

TEXTS = {
    "pl": ("cp1250", "iso8859_2", "Żółw idzie wolno przez łąkę.\nGdzieś tu są źródła."),
    "cs": ("cp1250", "cp852", "Příliš žluťoučký kůň úpěl ďábelské ódy.\nKde je nádraží?"),
    "hu": ("cp1250", "iso8859_2", "Hová mész, kedves barátom? Őszintén szólva nem tudom.\nA fűtés elromlott."),
    "ru": ("cp1251", "koi8_r", "Куда ты идёшь? Я ещё не знаю.\nСегодня дождь, а завтра будет солнце."),
    "uk": ("cp1251", "koi8_u", "Куди ти йдеш? Я ще не знаю, їду до міста."),
    "el": ("cp1253", "iso8859_7", "Πού πας; Δεν ξέρω ακόμα.\nΣήμερα βρέχει."),
    "tr": ("cp1254", "iso8859_9", "Nereye gidiyorsun? Henüz bilmiyorum.\nBugün yağmur yağıyor. İyi şanslar!"),
    "he": ("cp1255", "iso8859_8", "לאן אתה הולך? אני עוד לא יודע.\nהיום יורד גשם."),
    "ar": ("cp1256", "iso8859_6", "إلى أين تذهب؟ لا أعرف بعد.\nاليوم تمطر."),
    "et": ("cp1257", "iso8859_4", "Kuhu sa lähed? Ma ei tea veel.\nTäna sajab, õues on jahe."),
    "th": ("cp874", "iso8859_11", "คุณจะไปไหน ฉันยังไม่รู้\nวันนี้ฝนตก"),
    "ja": ("cp932", "euc_jp", "どこへ行くの？まだ分からない。\n今日は雨です。"),
    "ko": ("cp949", "euc_kr", "어디 가니? 아직 몰라요.\n오늘은 비가 오고 내일은 맑겠습니다."),
    "zh": ("gb18030", "gbk", "你去哪里？我还不知道。\n今天下雨，明天会出太阳。"),
    "zh-TW": ("big5", "big5hkscs", "你去哪裡？我還不知道。\n今天下雨，明天會出太陽。"),
    "fr": ("cp1252", "iso8859_15", "Où vas-tu ? Ça coûte 5 €, à bientôt.\nC'est déjà l'été."),
    "de": ("cp1252", "mac_roman", "Wohin gehst du? Ich weiß es noch nicht.\nSchönes Wetter für Übungen."),
    "pt": ("cp1252", "cp850", "Aonde você vai? Ainda não sei.\nAmanhã fará sol."),
}
TALK = Path("talk.srt")


def subrip(text: str) -> str:
    lines = text.split("\n")
    return "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{line}\n\n" for n, line in enumerate(lines, 1))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("language", TEXTS)
def test_the_text_is_as_it_was_written(language: str, which: int) -> None:
    encoding, text = TEXTS[language][which], subrip(TEXTS[language][2])
    decoded = decode(TALK, text.encode(encoding), language, None)
    assert decoded.text == text
    assert not decoded.is_doubtful


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "iso2022_jp"])
def test_encodings_that_tell_of_themselves(encoding: str) -> None:
    text = subrip("どこへ行くの？")
    decoded = decode(TALK, text.encode(encoding), "ja", None)
    assert decoded.text == text
    assert not decoded.is_doubtful


def test_letters_far_into_a_long_file_are_judged_as_well() -> None:
    text = subrip("Hello.") * 3000 + subrip("Zażółć gęślą jaźń.")
    assert decode(TALK, text.encode("cp1250"), "pl", None).text == text


def test_a_page_that_is_not_of_the_language_is_a_doubt() -> None:
    text = subrip(TEXTS["ru"][2])
    decoded = decode(TALK, text.encode("cp1251"), "en", None)
    assert decoded.is_doubtful
    assert decoded.text == text


def test_a_broken_letter_leaves_utf8_what_it_is() -> None:
    whole = subrip(TEXTS["ru"][2]).encode()
    decoded = decode(TALK, whole.replace("ё".encode(), b"\xd1", 1), "ru", None)
    assert (decoded.encoding, decoded.is_doubtful) == ("utf_8", True)
    assert "Сегодня дождь" in decoded.text


def test_the_encoding_that_is_given_settles_it() -> None:
    text = subrip("Ghi nhớ: Grüße!".replace("ớ", "o"))
    assert decode(TALK, text.encode("mac_roman"), "en", "mac_roman").text == text
    with pytest.raises(MediaError, match=r"talk\.srt is not utf_8 at byte \d+; give another --subtitles-encoding"):
        decode(TALK, "über".encode("cp1252"), "de", "utf_8")


@pytest.mark.parametrize(
    ("language", "encoding", "line"),
    [
        ("en", "cp1252", "\u201cHi\u201d \u2013 it\u2019s \xa35\u2026"),
        ("fr", "iso8859_15", "5 \u20ac"),
        ("fr", "cp1252", "5 \u20ac"),
        ("pl", "iso8859_2", "\u017a"),
        ("tr", "cp1254", "\u015f"),
        ("zh-TW", "big5", "\u597d"),
    ],
)
def test_one_letter_may_be_all_there_is(language: str, encoding: str, line: str) -> None:
    text = subrip(f"Hello there.\n{line}")
    assert decode(TALK, text.encode(encoding), language, None).text == text


def test_bytes_that_are_text_in_no_encoding_are_refused() -> None:
    noise = bytes(random.Random(3).randbytes(20_000))
    with pytest.raises(MediaError, match=r"talk\.srt is in none; give --subtitles-encoding"):
        decode(TALK, noise, "en", None)
