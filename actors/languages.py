"""BCP-47 language tags: canonical forms, matching, and codes of other systems, by the langcodes library.

FLORES, ISO 639 and Whisper codes stay inside the engine whose model needs them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import langcodes
from langcodes.tag_parser import LanguageTagError

from actors.errors import ConfigError
from actors.language_names import NAMES

MAX_REMEMBERED = 4096
"""Tags of which the answers are kept: a batch asks for the same few a million times."""


@functools.lru_cache(MAX_REMEMBERED)
def normalise(tag: str) -> str:
    """The canonical form of a BCP-47 tag ("pt_br" → "pt-BR"). Raises ConfigError if it is not one."""
    try:
        canonical = langcodes.standardize_tag(tag)
    except LanguageTagError as error:
        raise ConfigError(f"a language must be a BCP-47 tag such as en, pt or pt-BR; found {tag!r}") from error
    if not langcodes.tag_is_valid(canonical):
        raise ConfigError(f"a language must be a registered BCP-47 tag such as en, pt or pt-BR; found {tag!r}")
    return canonical


@functools.lru_cache(MAX_REMEMBERED)
def base(tag: str) -> str:
    """The language alone: "pt-BR" → "pt"."""
    return langcodes.get(tag).language or tag


def same(a: str, b: str) -> bool:
    """True if two tags name the same language, in any region or script."""
    return base(a) == base(b)


def best_match(tag: str, supported: Iterable[str]) -> str | None:
    """The supported tag nearest to ``tag``, or None if none is close ("pt-PT" among en, pt → "pt")."""
    # CLDR distance: 10 admits regions and near-identical languages, nothing a listener would object to.
    return langcodes.closest_supported_match(tag, list(supported), max_distance=10)


def iso639_2(tag: str) -> str:
    """ISO 639-2/T code, as MP4 stores it: "pt-BR" → "por"; "und" if there is none."""
    try:
        return langcodes.get(tag).to_alpha3(variant="T")
    except LookupError:
        return "und"


def display_name(tag: str) -> str:
    """English name for people: "pt-BR" → "Portuguese (Brazil)"."""
    return NAMES.get(tag) or langcodes.get(tag).display_name("en")


def named(given: str) -> str:
    """The tag for a BCP-47 tag or an English name of a language ("portuguese" → "pt"). Raises ConfigError."""
    try:
        return normalise(given)
    except ConfigError as error:
        try:
            return langcodes.find(given).to_tag()
        except LookupError:
            raise error from None
