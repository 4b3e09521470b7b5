"""Encoder-decoder translators without their languages and decoders.

A text is cut into windows of one sentence; all windows of a batch are translated together, in any
languages, and joined again.
"""

from __future__ import annotations

import itertools
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from actors import hub, languages
from actors.device import HalvingBatch
from actors.engine import Engine, EngineConfig
from actors.errors import EngineLoadError, ItemError
from actors.translation._glossary import num_present, terms_in, with_most_terms, with_targets
from actors.translation._seq2seq.hypotheses import (
    Decoding,
    Hypothesis,
    Part,
    all_end_within,
    is_valid,
    mean_log_probability,
    word_links,
)
from actors.translation._seq2seq.text import UNKNOWN, check_text, detokenised, load_tokenizer
from actors.translation._seq2seq.units import DecodeJob, UnitWindow, combined, max_target_tokens, passed_through
from actors.translation._seq2seq.windows import windows
from actors.types import ItemFailure, TranslateRequest, Translation

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHARACTERS_PER_TOKEN = 4.0
GLOSSARY_CANDIDATES = 4
"""Candidates that are searched for a required term; more beams cost little."""
STRICT_BEAM_SIZE = 5
STRICT_NGRAM_SIZE = 3

_PARAGRAPH = re.compile(r"\n\s*\n")


class Seq2SeqConfig(EngineConfig):
    model: str
    """Hub id, "id@revision", folder, or "wheel:package/path"."""
    beam_size: int = Field(default=4, ge=1, le=16)
    """1 is greedy. Raised to the number of requested candidates."""
    max_source_tokens: int = Field(default=200, ge=16, le=480)
    """Longer sentences are cut, as the model was trained on few of them."""
    max_batch_tokens: int = Field(default=4096, ge=1)
    """Source tokens decoded at a time, padding included; halved when memory runs out."""
    glossary: Mapping[str, Mapping[str, str]] = {}
    """Target language → source term → target term. Best effort: see ``_glossary.py``."""

    @classmethod
    def code_of(cls, language: str) -> str | None:
        """The code for a BCP-47 tag; None if there is none."""
        raise NotImplementedError

    @field_validator("glossary")
    @classmethod
    def _check_glossary(cls, glossary: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
        by_code: dict[str, Mapping[str, str]] = {}
        for language, entries in glossary.items():
            code = cls.code_of(language)
            if code is None or code in by_code:
                raise ValueError(f"{language!r} is none of the model's languages, or has two entries")
            if not all(term.strip() for pair in entries.items() for term in pair):
                raise ValueError(f"a term of {language!r} is empty")
            by_code[code] = entries
        return by_code


class Seq2SeqEngine(Engine[TranslateRequest, Translation]):
    """Candidates with scores between any two languages of one model; ``cost`` is about one per token.

    Windows without letter or digit are passed through. A sentence whose translation loops, is
    empty or never ends is decoded again under stricter rules; if that does not help, the item fails.
    """

    Config: ClassVar[type[EngineConfig]] = Seq2SeqConfig
    neutral_options = Engine.neutral_options | {"max_batch_tokens"}
    ready_pair: ClassVar[tuple[str, str]] = ("en", "pt")
    """BCP-47 tags of the pair that the warm-up translates."""
    config: Seq2SeqConfig
    _tokenizer: Tokenizer | None = None

    @property
    @abstractmethod
    def codes(self) -> Sequence[str]:
        """The model's codes of its languages. Needs no load."""

    @property
    @abstractmethod
    def control_tokens(self) -> frozenset[str]:
        """Tokens that are no text."""

    def code_of(self, tag: str) -> str | None:
        """The model's code for a BCP-47 tag; None if it has none. Needs no load."""
        return self.config.code_of(tag)

    @abstractmethod
    def tag_of(self, code: str) -> str:
        """The BCP-47 tag of a code."""

    @abstractmethod
    def language_token(self, code: str) -> str:
        """The token that names the language to the model."""

    @abstractmethod
    def is_unspaced(self, code: str) -> bool:
        """True for a language that is written without a space between sentences."""

    def supports(self, *languages: str) -> bool:
        return len(languages) == 2 and self._pair(*languages) is not None

    def describe_languages(self) -> str:
        return f"any two of {', '.join(sorted(map(self.tag_of, self.codes)))}"

    def weights_id(self) -> str | None:
        return hub.identity(self.config.model)

    def load(self) -> None:
        folder = self._load_model()
        self._tokenizer = load_tokenizer(folder)
        pair = self._pair(*self.ready_pair)
        if pair is None or not self._knows(pair):
            raise EngineLoadError(
                f"translation.options.model must know {' and '.join(self.ready_pair)}; the tokenizer in {folder} has "
                "no tokens for them: it is of another model"
            )
        self._batches = HalvingBatch(self.config.max_batch_tokens)
        ready = self._window("1", 0, *pair, 1)
        self._decode(Decoding(beam_size=1, num_hypotheses=1, max_tokens=2), [ready])

    def run(self, batch: Sequence[TranslateRequest]) -> list[Translation | ItemFailure]:
        if self._tokenizer is None:
            raise EngineLoadError(f"{type(self).__module__} must be loaded before it runs; call load()")
        jobs = [self._job_or_failure(request) for request in batch]
        outcomes = iter(self._translate([w for job in jobs if isinstance(job, DecodeJob) for w in job.windows]))
        return [
            combined(job, list(itertools.islice(outcomes, len(job.windows)))) if isinstance(job, DecodeJob) else job
            for job in jobs
        ]

    def cost(self, request: TranslateRequest) -> float:
        return max(1.0, len(request.text) / CHARACTERS_PER_TOKEN)

    def close(self) -> None:
        self._tokenizer = None

    @abstractmethod
    def _load_model(self) -> Path:
        """Load everything but the tokenizer; returns the folder of the tokenizer. Raises EngineLoadError."""

    @abstractmethod
    def _decode(self, decoding: Decoding, batch: Sequence[UnitWindow]) -> list[list[Hypothesis]]:
        """At most ``num_hypotheses`` for each window, best first."""

    # --- from request to windows

    def _job_or_failure(self, request: TranslateRequest) -> DecodeJob | ItemFailure:
        try:
            return self._job(request)
        except ItemError as error:
            return ItemFailure(error=error)

    def _job(self, request: TranslateRequest) -> DecodeJob:
        codes = self._pair(request.source_language, request.target_language)
        if codes is None or not self._knows(codes):
            raise ItemError(
                f"languages must be {self.describe_languages()}, both known to the model; "
                f"found {request.source_language}→{request.target_language}"
            )
        check_text(request.text)
        source, target = codes
        glue = "" if self.is_unspaced(target) else " "
        found: list[UnitWindow] = []
        separators: list[str] = []
        num_words = 0
        for paragraph in _PARAGRAPH.split(request.text.strip()):
            cut = self._windows(paragraph, num_words, source, target, request.num_candidates)
            num_words += len(paragraph.split())
            separators += ["\n\n", *[glue] * (len(cut) - 1)]
            found += cut
        return DecodeJob(windows=tuple(found), separators=tuple(separators[1:]), num_candidates=request.num_candidates)

    def _windows(self, paragraph: str, first_word: int, source: str, target: str, num: int) -> list[UnitWindow]:
        text = " ".join(paragraph.split())
        cut: list[UnitWindow] = []
        at = 0
        for piece in windows(text, self._token_ends, self.config.max_source_tokens):
            at = text.index(piece, at)
            cut.append(self._window(piece, first_word + text.count(" ", 0, at), source, target, num))
            at += len(piece)
        return cut

    def _window(self, text: str, first_word: int, source: str, target: str, num: int) -> UnitWindow:
        assert self._tokenizer is not None
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        # A text with "</s>" or the name of a language in it would command the model.
        spoken = [(token, end) for token, (_, end) in zip(encoding.tokens, encoding.offsets, strict=True)]
        spoken = [(token, end) for token, end in spoken if token == UNKNOWN or token not in self.control_tokens]
        return UnitWindow(
            text=text,
            tokens=tuple(token for token, _ in spoken),
            # A token's span may begin with the space before its word, so its end tells.
            words=tuple(first_word + text.count(" ", 0, end) for _, end in spoken),
            source=source,
            target=target,
            num_candidates=num,
            terms=terms_in(text, self.config.glossary.get(target, {})),
        )

    def _token_ends(self, text: str) -> list[int]:
        assert self._tokenizer is not None
        return [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]

    # --- from windows to their translations

    def _translate(self, batch: Sequence[UnitWindow]) -> list[list[Part] | ItemFailure]:
        outcomes = self._decoded(batch, strict=False)
        invalid = [index for index, outcome in enumerate(outcomes) if outcome == []]
        for index, outcome in zip(invalid, self._decoded([batch[i] for i in invalid], strict=True), strict=True):
            outcomes[index] = outcome or self._decoding_failure(batch[index])
        self._keep_terms(batch, outcomes)
        return outcomes

    def _keep_terms(self, batch: Sequence[UnitWindow], outcomes: list[list[Part] | ItemFailure]) -> None:
        """For windows with glossary terms, keep the candidates that hold the most of them."""
        missed: list[int] = []
        for index, (window, outcome) in enumerate(zip(batch, outcomes, strict=True)):
            if window.terms and not isinstance(outcome, ItemFailure):
                best = outcomes[index] = with_most_terms(outcome, [part.text for part in outcome], window.terms)
                if num_present(best[0].text, window.terms) < len(window.terms):
                    missed.append(index)
        hinted = [self._with_hints(batch[index]) for index in missed]
        for index, outcome in zip(missed, self._decoded(hinted, strict=False), strict=True):
            before, terms = outcomes[index], batch[index].terms
            if isinstance(outcome, ItemFailure) or isinstance(before, ItemFailure) or not outcome:
                continue
            best = with_most_terms(outcome, [part.text for part in outcome], terms)
            if num_present(best[0].text, terms) > num_present(before[0].text, terms):
                # The decoder read the hinted text, so its links are not to the words of the source.
                outcomes[index] = [replace(part, links=None) for part in best]

    def _with_hints(self, window: UnitWindow) -> UnitWindow:
        text = with_targets(window.text, window.terms)
        hinted = self._window(text, 0, window.source, window.target, window.num_candidates)
        return replace(hinted, terms=window.terms)

    def _decoded(self, batch: Sequence[UnitWindow], *, strict: bool) -> list[list[Part] | ItemFailure]:
        """Valid parts of each window, best first; an empty list if there is none."""
        outcomes: dict[int, list[Part] | ItemFailure] = {}
        groups: dict[int, list[int]] = {}
        for index, window in enumerate(batch):
            if window.tokens and any(character.isalnum() for character in window.text):
                groups.setdefault(self._decoding(window, strict).beam_size, []).append(index)
            else:
                outcomes[index] = [passed_through(window)]
        for indices in groups.values():
            chosen = [batch[index] for index in indices]
            costs = [len(window.tokens) + 2 for window in chosen]
            found = self._batches.run(chosen, costs, partial(self._decode_together, strict))
            for index, window, hypotheses in zip(indices, chosen, found, strict=True):
                outcomes[index] = (
                    hypotheses if isinstance(hypotheses, ItemFailure) else self._valid_parts(window, hypotheses)
                )
        return [outcomes[index] for index in range(len(batch))]

    def _decode_together(self, strict: bool, batch: Sequence[UnitWindow]) -> list[list[Hypothesis]]:
        """Hypotheses of windows that share a beam size, from one search with the largest of their limits.

        A window that reached its own limit there is decoded within it, so that no result depends on the batch.
        """
        own = [self._decoding(window, strict) for window in batch]
        shared = replace(
            own[0],
            max_tokens=max(decoding.max_tokens for decoding in own),
            num_hypotheses=max(decoding.num_hypotheses for decoding in own),
        )
        pairs = zip(self._decode(shared, batch), own, strict=True)
        found = [hypotheses[: decoding.num_hypotheses] for hypotheses, decoding in pairs]
        too_long: dict[Decoding, list[int]] = {}
        for index, decoding in enumerate(own):
            if decoding.max_tokens < shared.max_tokens and not all_end_within(found[index], decoding.max_tokens):
                too_long.setdefault(decoding, []).append(index)
        for decoding, indices in too_long.items():
            for index, hypotheses in zip(indices, self._decode(decoding, [batch[i] for i in indices]), strict=True):
                found[index] = hypotheses
        return found

    def _decoding(self, window: UnitWindow, strict: bool) -> Decoding:
        num = max(window.num_candidates, GLOSSARY_CANDIDATES if window.terms else 1)
        beam_size = max(self.config.beam_size, num, STRICT_BEAM_SIZE if strict else 1)
        return Decoding(
            beam_size=beam_size,
            num_hypotheses=num,
            max_tokens=max_target_tokens(len(window.tokens)),
            no_repeat_ngram_size=STRICT_NGRAM_SIZE if strict else 0,
        )

    def _valid_parts(self, window: UnitWindow, hypotheses: Sequence[Hypothesis]) -> list[Part]:
        parts: dict[str, Part] = {}
        for hypothesis in hypotheses:
            text, words = detokenised(hypothesis.tokens, self.control_tokens)
            if not is_valid(hypothesis, text, window.tokens):
                continue
            links = None
            if hypothesis.attention is not None:
                spoken = [(at, word) for at, word in enumerate(words) if word is not None]
                attention = hypothesis.attention[[at for at, _ in spoken]]
                links = word_links(attention, window.words, [word for _, word in spoken])
            part = Part(
                text=text, log_probability=hypothesis.log_probability, num_tokens=hypothesis.num_predicted, links=links
            )
            # The same text may be spelt in several ways of tokens.
            if text not in parts or mean_log_probability([part]) > mean_log_probability([parts[text]]):
                parts[text] = part
        return sorted(parts.values(), key=lambda part: -mean_log_probability([part]))

    def _decoding_failure(self, window: UnitWindow) -> ItemFailure:
        pair = "→".join(languages.display_name(self.tag_of(code)) for code in (window.source, window.target))
        return ItemFailure(
            error=ItemError(
                f"the translation {pair} of {len(window.text)} characters must end, say something and not repeat "
                "itself; it did not, with stricter decoding either: rephrase it, or use a larger model"
            )
        )

    # --- languages

    def _knows(self, codes: Sequence[str]) -> bool:
        assert self._tokenizer is not None
        return all(self._tokenizer.token_to_id(self.language_token(code)) is not None for code in codes)

    def _pair(self, source: str, target: str) -> tuple[str, str] | None:
        """The model's codes of a pair; None if a language has none, or both are the same."""
        codes = self.code_of(source), self.code_of(target)
        if codes[0] is None or codes[1] is None or codes[0] == codes[1]:
            return None
        return codes[0], codes[1]
