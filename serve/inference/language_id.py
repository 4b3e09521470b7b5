"""Detects the language of a text, for requests that do not name it."""

from __future__ import annotations

from dataclasses import dataclass

from actors.language_id import identifiable, identify

# fmt: off
WRITTEN = frozenset({
    "af", "am", "ar", "az", "be", "bg", "bn", "bs", "ca", "cs", "cy", "da", "de", "el", "en", "eo", "es", "et", "eu",
    "fa", "fi", "fr", "ga", "gl", "gu", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "km", "kn",
    "ko", "ky", "la", "lo", "lt", "lv", "mk", "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "nn", "no", "pa", "pl",
    "pt", "ro", "ru", "si", "sk", "sl", "sq", "sr", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "uz", "vi",
    "zh",
})
# fmt: on
"""Languages that texts are expected in. With all 200 that can be told apart, "hello handsome" is Sesotho."""
SURE = 0.5
"""Probability from which a text is in a language that cannot be served."""
CLEARLY = 10.0
"""Times that such a language is likelier than those that can be served, where none is sure."""
NEARLY = 0.5
"""Share of the likeliest language's probability from which English is taken for a text too short to be sure of."""
MAX_CHARACTERS = 1000
"""Characters of a text that are read: more change no answer, and cost time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedLanguage:
    language: str
    """BCP-47; "und" if the text has no letters."""
    probability: float
    """Relative to the languages that were candidates."""


NO_LANGUAGE = DetectedLanguage(language="und", probability=0.0)


def detectable() -> frozenset[str]:
    """Languages that can be detected, BCP-47 without region."""
    return identifiable()


def detect(text: str, among: frozenset[str] = frozenset()) -> list[DetectedLanguage]:
    """Likely languages, best first: of those in ``among``, or of all if it is empty.

    A single candidate is the answer without a test.
    """
    if among and len(among) == 1:
        return [DetectedLanguage(language=next(iter(among)), probability=1.0)]
    if not any(character.isalpha() for character in text):
        return [NO_LANGUAGE]
    return _ranked(text, among)


def likely_language(text: str, among: frozenset[str]) -> str:
    """The language of a text, of those in ``among``; "und" if the text has no letters.

    One too short to be sure of ("Hello.", "No.") is English where that is nearly as likely as the likeliest.
    """
    best, *others = detect(text, among)
    english = next((each for each in others if each.language == "en"), None)
    if best.probability < SURE and english and english.probability >= NEARLY * best.probability:
        return "en"
    return best.language


def detect_any(text: str, preferred: frozenset[str]) -> list[DetectedLanguage]:
    """Likely languages among all that are written, best first; of unsure ones, a preferred one is first."""
    if not any(character.isalpha() for character in text):
        return [NO_LANGUAGE]
    ranked = _ranked(text, WRITTEN | preferred)
    if ranked[0].language not in WRITTEN and ranked[0].probability < SURE:
        ranked = _ranked(text, WRITTEN)
    best, own = ranked[0], next((each for each in ranked if each.language in preferred), ranked[0])
    if best.probability >= SURE or best.probability >= CLEARLY * own.probability:
        return ranked
    return [own, *(each for each in ranked if each is not own)]


def _ranked(text: str, among: frozenset[str]) -> list[DetectedLanguage]:
    found = identify(text[:MAX_CHARACTERS], among)
    # A text too short to have any statistics is as likely in all: sorted, it has the same answer every time.
    found.sort(key=lambda each: (-each[1], each[0]))
    return [DetectedLanguage(language=language, probability=share) for language, share in found]
