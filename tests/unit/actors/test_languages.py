from __future__ import annotations

import langcodes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import languages
from actors.errors import ConfigError
from actors.language_names import NAMES

TAGS = st.sampled_from(["en", "pt", "pt-BR", "pt_pt", "PT-br", "zh-hant-tw", "sr-Latn", "iw", "yue", "fil", "es-419"])


@pytest.mark.parametrize(
    ("tag", "canonical"),
    [("pt_br", "pt-BR"), ("EN", "en"), ("iw", "he"), ("zh-hant-tw", "zh-Hant-TW"), ("eng", "en"), ("por", "pt")],
)
def test_normalise_gives_the_canonical_form(tag: str, canonical: str) -> None:
    assert languages.normalise(tag) == canonical


@given(TAGS)
def test_normalise_twice_is_normalise_once(tag: str) -> None:
    assert languages.normalise(languages.normalise(tag)) == languages.normalise(tag)


@pytest.mark.parametrize("tag", ["", "portuguese!", "e", "english", "zz", "pt-", "12", "en US"])
def test_what_is_not_a_language_is_a_config_error_that_quotes_it(tag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        languages.normalise(tag)
    assert repr(tag) in caught.value.message


@pytest.mark.parametrize(("tag", "base"), [("pt-BR", "pt"), ("pt", "pt"), ("zh-Hant-TW", "zh"), ("und", "und")])
def test_base_drops_region_and_script(tag: str, base: str) -> None:
    assert languages.base(tag) == base


@given(TAGS, TAGS)
def test_same_is_symmetric_and_ignores_regions(a: str, b: str) -> None:
    assert languages.same(a, b) == languages.same(b, a)
    assert languages.same(a, a)


@pytest.mark.parametrize(
    ("tag", "supported", "match"),
    [
        ("pt-PT", ["en", "pt"], "pt"),
        ("pt", ["en", "pt-BR"], "pt-BR"),
        ("en-AU", ["en", "pt"], "en"),
        ("nb", ["no", "en"], "no"),
        ("zh-TW", ["zh", "zh-Hant"], "zh-Hant"),
        ("es", ["pt", "en"], None),
        ("tlh", ["en", "pt"], None),
        ("en", [], None),
    ],
)
def test_best_match_takes_regions_but_no_other_language(tag: str, supported: list[str], match: str | None) -> None:
    assert languages.best_match(tag, supported) == match


@pytest.mark.parametrize(("tag", "code"), [("pt-BR", "por"), ("en", "eng"), ("de", "deu"), ("fr", "fra")])
def test_iso639_2_is_terminological(tag: str, code: str) -> None:
    assert languages.iso639_2(tag) == code


def test_display_name_is_for_people() -> None:
    assert languages.display_name("pt-BR") == "Portuguese (Brazil)"


@pytest.mark.parametrize(
    ("given", "tag"), [("english", "en"), ("Portuguese", "pt"), ("EN", "en"), ("por", "pt"), ("pt_br", "pt-BR")]
)
def test_named_takes_tags_and_english_names(given: str, tag: str) -> None:
    assert languages.named(given) == tag


def test_named_refuses_other_words() -> None:
    with pytest.raises(ConfigError, match="notalanguage"):
        languages.named("notalanguage")


def test_the_table_of_names_is_that_of_langcodes() -> None:
    assert {tag: langcodes.get(tag).display_name("en") for tag in NAMES} == NAMES
