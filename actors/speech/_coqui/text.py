"""Token ids of a text for a Coqui model: the same as from Coqui's own tokenizer, without its subprocess."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from actors import phonemes
from actors.errors import ItemError
from actors.speech._coqui.checkpoint import CheckpointConfig
from actors.speech._planned.model import Tokens

MAX_SYMBOLS = 400
"""Longest piece: beyond a clip's length in training, VITS hurries and slurs."""

Spell: TypeAlias = Callable[[str, str], list[str]]
"""(text, the model's name of the language) → the text in the model's symbols, sentence by sentence."""


class Phonemizer(NamedTuple):
    name: str
    """Coqui's name of the phonemizer."""
    language: str
    """The phonemizer's name of the language."""


class Reader:
    """Tokenises text for one model. tokenizer: its ``TTSTokenizer``."""

    def __init__(self, tokenizer: Any, spell: Spell) -> None:
        characters = tokenizer.characters
        self._tokenizer = tokenizer
        self._spell = spell
        # Coqui's own lookup logs every text with a symbol it lacks, and keeps a list of them.
        self._ids: dict[str, int] = {symbol: token for token, symbol in enumerate(characters.vocab)}
        special = (characters.pad, characters.bos, characters.eos, characters.blank)
        self.silent = frozenset(
            token for symbol, token in self._ids.items() if symbol in special or _is_punctuation(symbol)
        )

    def pieces(self, text: str, language: str) -> list[Tokens]:
        """int64 (num_tokens,) for each piece; symbols that the model lacks are left out."""
        known = ([symbol for symbol in said if symbol in self._ids] for said in self._spell(text, language))
        return [self._tokens(piece) for said in known for piece in phonemes.split(said, MAX_SYMBOLS) if piece]

    def _tokens(self, symbols: Sequence[str]) -> Tokens:
        tokens = [self._ids[symbol] for symbol in symbols]
        if self._tokenizer.add_blank:
            tokens = self._tokenizer.intersperse_blank_char(tokens)
        if self._tokenizer.use_eos_bos:
            tokens = self._tokenizer.pad_with_bos_eos(tokens)
        return np.array(tokens, np.int64)


def spell_as_piper(espeak_voice: str) -> Spell:
    """Spelling of Piper's training: sentences and punctuation are espeak's."""

    def spell(text: str, language: str) -> list[str]:
        return ["".join(sentence) for sentence in phonemes.espeak(text, espeak_voice)]

    return spell


def spell_as_coqui(tokenizer: Any, phonemizers: Mapping[str, Phonemizer]) -> Spell:
    """Spelling of Coqui's ``Synthesizer``: split by pysbd, cleaned, and phonemized for a model of phonemes.

    phonemizers: one for each language of the model; none for a model of characters.
    """

    def spell(text: str, language: str) -> list[str]:
        sentences = [sentence.strip() for sentence in _segmenter(language).segment(text)]
        if tokenizer.text_cleaner is not None:
            sentences = [tokenizer.text_cleaner(sentence, lang=language.split("-")[0]) for sentence in sentences]
        if phonemizers:
            sentences = [_phonemized(sentence, phonemizers[language]) for sentence in sentences]
        return [sentence for sentence in sentences if sentence]

    return spell


def phonemizers_of(config: CheckpointConfig, own_languages: Sequence[str]) -> dict[str, Phonemizer]:
    """The phonemizers that ``TTSTokenizer.init_from_config`` chooses; empty for a model of characters."""
    if not config.use_phonemes:
        return {}
    if config.phonemizer == "multi_phonemizer":
        by_language = {dataset.language: dataset.phonemizer for dataset in config.datasets or ()}
        return {own: Phonemizer(by_language.get(own) or _default(own), own) for own in own_languages}
    spoken = config.phoneme_language
    return {own: Phonemizer(config.phonemizer or _default(spoken or own), spoken or own) for own in own_languages}


def espeak_as_coqui(text: str, language: str) -> str:
    """Phonemes of Coqui's ``ESpeak`` phonemizer, which takes punctuation out and puts it back in its place."""
    from TTS.tts.utils.text.punctuation import Punctuation

    renamed = {"en": "en-us", "zh-cn": "cmn"}.get(language, language)  # as ESpeak.__init__ does
    voice = _espeak_voices().get(renamed, renamed)
    punctuation = Punctuation()
    words, marks = punctuation.strip_to_restore(text.strip())
    spoken = ["".join("".join(clause).strip() for clause in phonemes.espeak(piece, voice)) for piece in words]
    said = "".join(punctuation.restore(spoken, marks)[:1])
    # espeak writes ç whole and other accents apart; actors.phonemes takes all apart, as Piper wants.
    return said.replace("c\u0327", "ç")


@functools.cache
def _espeak_voices() -> dict[str, str]:
    """Voice by language, as in the espeak-ng program ("fr-fr" → "fr"); its library takes only voices' names."""
    from piper.phonemize_espeak import ESPEAK_DATA_DIR

    ranked: dict[str, tuple[int, str]] = {}
    for file in sorted(path for path in (ESPEAK_DATA_DIR / "lang").rglob("*") if path.is_file()):
        for line in file.read_text(encoding="utf-8").splitlines():
            match line.split():
                case ["language", language, *priority]:
                    rank = (int(priority[0]) if priority else 5, file.name)  # 5 where a voice file gives none
                    ranked[language] = min(ranked.get(language, rank), rank)
    return {language: voice for language, (_, voice) in ranked.items()}


def _default(language: str) -> str:
    """Coqui's default phonemizer; espeak in place of gruut, which it takes where the espeak-ng program is missing."""
    from TTS.tts.utils.text.phonemizers import get_default_phonemizer

    try:
        name = str(get_default_phonemizer(language))
    except ValueError:
        return "espeak"
    return "espeak" if name == "gruut" else name


def _phonemized(sentence: str, phonemizer: Phonemizer) -> str:
    if phonemizer.name == "espeak":
        return espeak_as_coqui(sentence, phonemizer.language)
    try:
        return str(_coqui_phonemizer(phonemizer).phonemize(sentence, separator=""))
    except ImportError as error:
        raise ItemError(f"phonemizer {phonemizer.name} of the model must be installed; {error}") from error


@functools.cache
def _coqui_phonemizer(phonemizer: Phonemizer) -> Any:
    from TTS.tts.utils.text.phonemizers import get_phonemizer_by_name

    return get_phonemizer_by_name(phonemizer.name, language=phonemizer.language)


@functools.cache
def _segmenter(language: str) -> Any:
    import pysbd

    code = language.split("-")[0]
    known = code in pysbd.languages.LANGUAGE_CODES
    return pysbd.Segmenter(language=code if known else "en", clean=True)


def _is_punctuation(symbol: str) -> bool:
    return all(unicodedata.category(character)[0] in "PZ" for character in symbol)
