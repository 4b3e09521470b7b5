"""What the NLLB engines share: everything but the decoder.

A text is cut into windows of one sentence, all windows of a batch are translated together, whatever
their languages, and put together again.
"""

from __future__ import annotations

import itertools
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from actors import hub, languages
from actors.device import HalvingBatch
from actors.engine import Engine, EngineConfig
from actors.errors import EngineLoadError, ItemError
from actors.translation._flores import CODES, bcp47, flores
from actors.translation._glossary import Term, num_kept, preferred, terms_in, with_targets
from actors.translation._hypotheses import (
    Decoding,
    Hypothesis,
    Part,
    best_combinations,
    is_sound,
    joined,
    mean_log_probability,
    word_links,
)
from actors.translation._windows import windows
from actors.types import ItemFailure, TranslateRequest, Translation

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_MODEL = "facebook/nllb-200-distilled-600M"
CHARACTERS_PER_TOKEN = 4.0
GLOSSARY_CANDIDATES = 4
"""Looked through for a required term; beams cost little beside each other."""
CAREFUL_BEAM_SIZE = 5
CAREFUL_NGRAM_SIZE = 3

END = "</s>"
_SPECIAL = frozenset(("<s>", "<pad>", END, "<unk>", "<mask>", *CODES))
_UNSPACED_SCRIPTS = ("Hans", "Hant", "Jpan")
"""Their sentences stand side by side."""
_PARAGRAPH = re.compile(r"\n\s*\n")


class NllbConfig(EngineConfig):
    model: str = DEFAULT_MODEL
    """Hub id, "id@revision", folder, or "wheel:package/path"."""
    beam_size: int = Field(default=4, ge=1, le=16)
    """1 is greedy. Raised to the number of candidates asked for."""
    max_source_tokens: int = Field(default=200, ge=16, le=480)
    """Longer sentences are cut. The model was trained on few that are."""
    max_batch_tokens: int = Field(default=4096, ge=1)
    """Source tokens decoded at a time, padding included; halved when memory runs out."""
    glossary: Mapping[str, Mapping[str, str]] = {}
    """Target language → source term → target term. Kept where the model can be brought to."""

    @field_validator("glossary")
    @classmethod
    def _check_glossary(cls, glossary: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
        by_code: dict[str, Mapping[str, str]] = {}
        for language, entries in glossary.items():
            code = flores(language)
            if code is None or code in by_code:
                raise ValueError(f"{language!r} is none of NLLB's languages, or has two entries")
            if not all(term.strip() for pair in entries.items() for term in pair):
                raise ValueError(f"a term of {language!r} is empty")
            by_code[code] = entries
        return by_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the decoder is given: a sentence, or a piece of one."""

    text: str
    tokens: tuple[str, ...]
    words: tuple[int, ...]
    """Of each token, the word of the whole source text."""
    source: str
    """FLORES"""
    target: str
    """FLORES"""
    num_candidates: int
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request, cut up."""

    windows: tuple[Window, ...]
    separators: tuple[str, ...]
    """What stands between their translations."""
    num_candidates: int


class NllbEngine(Engine[TranslateRequest, Translation]):
    """Candidates with scores between any two of 202 languages; ``cost`` is about one per token.

    What has neither letter nor digit is passed through. A sentence whose translation loops, is
    empty or never ends is decoded again under stricter rules; if that does not help, the item fails.
    """

    Config: ClassVar[type[EngineConfig]] = NllbConfig
    neutral_options = Engine.neutral_options | {"max_batch_tokens"}
    config: NllbConfig
    _tokenizer: Tokenizer | None = None

    def supports(self, *languages: str) -> bool:
        return len(languages) == 2 and _codes(*languages) is not None

    def describe_languages(self) -> str:
        return f"any two of {', '.join(sorted(bcp47(code) for code in CODES))}"

    def weights_id(self) -> str | None:
        return hub.identity(self.config.model)

    def load(self) -> None:
        folder = self._load_model()
        self._tokenizer = _load_tokenizer(folder)
        self._batches = HalvingBatch(self.config.max_batch_tokens)
        ready = self._window("1", 0, "eng_Latn", "por_Latn", 1)
        self._decode(Decoding(beam_size=1, num_hypotheses=1, max_tokens=2), [ready])

    def run(self, batch: Sequence[TranslateRequest]) -> list[Translation | ItemFailure]:
        if self._tokenizer is None:
            raise EngineLoadError(f"{type(self).__module__} must be loaded before it runs; call load()")
        jobs = [self._job_or_failure(request) for request in batch]
        outcomes = iter(self._translate([w for job in jobs if isinstance(job, Job) for w in job.windows]))
        return [
            _assembled(job, list(itertools.islice(outcomes, len(job.windows)))) if isinstance(job, Job) else job
            for job in jobs
        ]

    def cost(self, request: TranslateRequest) -> float:
        return max(1.0, len(request.text) / CHARACTERS_PER_TOKEN)

    def close(self) -> None:
        self._tokenizer = None

    @abstractmethod
    def _load_model(self) -> Path:
        """Load all but the tokenizer; returns the folder that has it. Raises EngineLoadError."""

    @abstractmethod
    def _decode(self, decoding: Decoding, batch: Sequence[Window]) -> list[list[Hypothesis]]:
        """At most ``num_hypotheses`` for each window, in any order."""

    # --- from request to windows

    def _job_or_failure(self, request: TranslateRequest) -> Job | ItemFailure:
        try:
            return self._job(request)
        except ItemError as error:
            return ItemFailure(error=error)

    def _job(self, request: TranslateRequest) -> Job:
        codes = _codes(request.source_language, request.target_language)
        assert self._tokenizer is not None
        if codes is None or not all(self._tokenizer.token_to_id(code) for code in codes):
            raise ItemError(
                f"languages must be {self.describe_languages()}, both known to the model; "
                f"found {request.source_language}→{request.target_language}"
            )
        _check_text(request.text)
        source, target = codes
        glue = "" if target.endswith(_UNSPACED_SCRIPTS) else " "
        found: list[Window] = []
        separators: list[str] = []
        num_words = 0
        for paragraph in _PARAGRAPH.split(request.text.strip()):
            cut = self._windows(paragraph, num_words, source, target, request.num_candidates)
            num_words += len(paragraph.split())
            separators += ["\n\n", *[glue] * (len(cut) - 1)]
            found += cut
        return Job(windows=tuple(found), separators=tuple(separators[1:]), num_candidates=request.num_candidates)

    def _windows(self, paragraph: str, first_word: int, source: str, target: str, num: int) -> list[Window]:
        text = " ".join(paragraph.split())
        cut: list[Window] = []
        at = 0
        for piece in windows(text, self._token_ends, self.config.max_source_tokens):
            at = text.index(piece, at)
            cut.append(self._window(piece, first_word + text.count(" ", 0, at), source, target, num))
            at += len(piece)
        return cut

    def _window(self, text: str, first_word: int, source: str, target: str, num: int) -> Window:
        assert self._tokenizer is not None
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return Window(
            text=text,
            tokens=tuple(encoding.tokens),
            # A token's span may begin with the space before its word, so its end tells.
            words=tuple(first_word + text.count(" ", 0, end) for _, end in encoding.offsets),
            source=source,
            target=target,
            num_candidates=num,
            terms=terms_in(text, self.config.glossary.get(target, {})),
        )

    def _token_ends(self, text: str) -> list[int]:
        assert self._tokenizer is not None
        return [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    # --- from windows to their translations

    def _translate(self, batch: Sequence[Window]) -> list[list[Part] | ItemFailure]:
        outcomes = self._decoded(batch, careful=False)
        unsound = [index for index, outcome in enumerate(outcomes) if outcome == []]
        for index, outcome in zip(unsound, self._decoded([batch[i] for i in unsound], careful=True), strict=True):
            outcomes[index] = outcome or _unsound(batch[index])
        self._keep_terms(batch, outcomes)
        return outcomes

    def _keep_terms(self, batch: Sequence[Window], outcomes: list[list[Part] | ItemFailure]) -> None:
        """Replace the outcomes of windows with glossary terms by those that hold the most of them."""
        missed: list[int] = []
        for index, (window, outcome) in enumerate(zip(batch, outcomes, strict=True)):
            if window.terms and not isinstance(outcome, ItemFailure):
                best = outcomes[index] = preferred(outcome, [part.text for part in outcome], window.terms)
                if num_kept(best[0].text, window.terms) < len(window.terms):
                    missed.append(index)
        hinted = [self._hinted(batch[index]) for index in missed]
        for index, outcome in zip(missed, self._decoded(hinted, careful=False), strict=True):
            before, terms = outcomes[index], batch[index].terms
            if isinstance(outcome, ItemFailure) or isinstance(before, ItemFailure) or not outcome:
                continue
            best = preferred(outcome, [part.text for part in outcome], terms)
            if num_kept(best[0].text, terms) > num_kept(before[0].text, terms):
                # What was read is not the source any more, so its words are not the source's either.
                outcomes[index] = [replace(part, links=None) for part in best]

    def _hinted(self, window: Window) -> Window:
        text = with_targets(window.text, window.terms)
        hinted = self._window(text, 0, window.source, window.target, window.num_candidates)
        return replace(hinted, terms=window.terms)

    def _decoded(self, batch: Sequence[Window], *, careful: bool) -> list[list[Part] | ItemFailure]:
        """Sound parts of each window, best first; an empty list where there is none."""
        outcomes: dict[int, list[Part] | ItemFailure] = {}
        groups: dict[Decoding, list[int]] = {}
        for index, window in enumerate(batch):
            if any(character.isalnum() for character in window.text):
                groups.setdefault(self._decoding(window, careful), []).append(index)
            else:
                outcomes[index] = [_passed_through(window)]
        for decoding, indices in groups.items():
            chosen = [batch[index] for index in indices]
            costs = [len(window.tokens) + 2 for window in chosen]
            found = self._batches.run(chosen, costs, partial(self._decode, decoding))
            for index, window, hypotheses in zip(indices, chosen, found, strict=True):
                sound = hypotheses if isinstance(hypotheses, ItemFailure) else _sound_parts(window, hypotheses)
                outcomes[index] = sound
        return [outcomes[index] for index in range(len(batch))]

    def _decoding(self, window: Window, careful: bool) -> Decoding:
        num = max(window.num_candidates, GLOSSARY_CANDIDATES if window.terms else 1)
        beam_size = max(self.config.beam_size, num, CAREFUL_BEAM_SIZE if careful else 1)
        return Decoding(
            beam_size=beam_size,
            num_hypotheses=num,
            max_tokens=max_target_tokens(len(window.tokens)),
            no_repeat_ngram_size=CAREFUL_NGRAM_SIZE if careful else 0,
        )


def max_target_tokens(num_source_tokens: int) -> int:
    """Where to give up on a translation: beyond three tokens for one, it is running away.

    A power of two: few limits, so that windows of like length share a batch; and none depends on
    what else is in the batch.
    """
    return min(512, 1 << (3 * num_source_tokens + 15).bit_length())


def _codes(source: str, target: str) -> tuple[str, str] | None:
    """FLORES codes of a pair; None if one has none, or there is nothing to translate."""
    codes = flores(source), flores(target)
    if codes[0] is None or codes[1] is None or codes[0] == codes[1]:
        return None
    return codes[0], codes[1]


def _check_text(text: str) -> None:
    if not text.strip():
        raise ItemError("text to translate must hold more than whitespace; found none: leave the item out")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ItemError("text to translate must be valid Unicode; found a lone surrogate: decode it again")


def _load_tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise EngineLoadError(f"an NLLB model must have a tokenizer.json; found none in {folder}: copy it there")
    tokenizer = Tokenizer.from_file(str(path))
    if tokenizer.token_to_id("eng_Latn") is None:
        raise EngineLoadError(f"translation.options.model must be an NLLB model; {path} knows no FLORES code eng_Latn")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # Otherwise a text with "</s>" or "por_Latn" in it would command the model.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _sound_parts(window: Window, hypotheses: Sequence[Hypothesis]) -> list[Part]:
    parts: dict[str, Part] = {}
    for hypothesis in hypotheses:
        text, words = _detokenised(hypothesis.tokens)
        if not is_sound(hypothesis, text, window.tokens):
            continue
        links = None
        if hypothesis.attention is not None:
            spoken = [at for at, word in enumerate(words) if word is not None]
            links = word_links(hypothesis.attention[spoken], window.words, [word for word in words if word is not None])
        part = Part(
            text=text, log_probability=hypothesis.log_probability, num_tokens=hypothesis.num_predicted, links=links
        )
        # The same text may be spelt in several ways of tokens.
        if text not in parts or mean_log_probability([part]) > mean_log_probability([parts[text]]):
            parts[text] = part
    return sorted(parts.values(), key=lambda part: -mean_log_probability([part]))


def _detokenised(tokens: Sequence[str]) -> tuple[str, list[int | None]]:
    """The text, and of each token the word it belongs to; None for those that say nothing."""
    text = ""
    words: list[int | None] = []
    for token in tokens:
        said = "" if token in _SPECIAL else token.replace("▁", " ")
        text += said
        words.append(len(text.split()) - 1 if said.strip() else None)
    return " ".join(text.split()), words


def _passed_through(window: Window) -> Part:
    links = tuple((word, at, 1.0) for at, word in enumerate(sorted(set(window.words))))
    return Part(text=window.text, log_probability=0.0, num_tokens=0, links=links)


def _unsound(window: Window) -> ItemFailure:
    return ItemFailure(
        error=ItemError(
            f"the translation {languages.display_name(bcp47(window.source))}→"
            f"{languages.display_name(bcp47(window.target))} of {len(window.text)} characters must end, say something "
            "and not repeat itself; it did not, with stricter decoding either: rephrase it, or use a larger model"
        )
    )


def _assembled(job: Job, outcomes: Sequence[list[Part] | ItemFailure]) -> Translation | ItemFailure:
    alternatives: list[list[Part]] = []
    for outcome in outcomes:
        if isinstance(outcome, ItemFailure):
            return outcome
        alternatives.append(outcome)
    chosen = best_combinations(alternatives, job.num_candidates)
    return Translation(candidates=tuple(joined(parts, job.separators) for parts in chosen))


def source_attention(rows: npt.NDArray[np.float32], num_tokens: int, num_source_tokens: int) -> npt.NDArray[np.float32]:
    """Rows of the decoder's tokens and columns of the source's, out of a matrix with language and end marks."""
    return rows[1 : 1 + num_tokens, 1 : 1 + num_source_tokens]
