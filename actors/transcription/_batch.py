"""Many windows through one whisper at once, whatever their languages: encode, decode, align, go on.

One call of the model serves all windows of a round: one encoder pass, one beam search with a prompt
per window, one alignment per language. A window whose timestamps stop before its speech does takes
part in another round, from there. What a window gives does not depend on its neighbours, and nothing
is sampled: whisper's usual way out of a loop, rising temperatures, gives another text every time
(CTranslate2 seeds each thread once, so it cannot be seeded per window).

The steps and constants are those of faster-whisper's sequential path, whose helpers do the work;
its batched pipeline is not used, because it carries one window's clock over to the next and
decodes without timestamps, which moves words by 0.2–0.3 s.

Shapes: N windows of a round, M mel bins, F feature frames of 10 ms, at most 3000.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from actors.transcription._words import FRAME_S, Phrase, compression_ratio, is_spoken
from actors.types import Samples, Word

if TYPE_CHECKING:
    from ctranslate2 import StorageView
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

REPEATED_NGRAMS = (0, 5, 3)
"""Tokens that may not come twice in the same order, tried in turn while the text is a loop. 0: all may."""
MIN_ADVANCE_FRAMES = 50
"""A round goes on at least 0.5 s further, about a word, which bounds the rounds of a window."""
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word after it, and before it (whisper's own defaults)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How to decode, and when to believe the result (Radford et al. 2022, §4.5)."""

    beam_size: int
    no_speech_threshold: float
    log_probability_threshold: float
    compression_ratio_threshold: float
    hotwords: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """What is to be heard."""

    samples: Samples
    """float32 (num_samples,), mono, at ``ASR_HZ``, at most 30 s."""
    speech: npt.NDArray[np.bool_]
    """bool (num_frames,): whether a voice is heard in each ``FRAME_S``."""
    code: str | None
    """whisper's code of the language; None lets the model detect it."""
    prompt: str = ""
    """What might have been said before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    code: str
    """whisper's code of the language."""
    probability: float
    """Of the language; 1 if it was given."""
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decode:
    """What one beam search found."""

    tokens: list[int]
    text: str
    mean_log_probability: float
    no_speech_probability: float
    compression_ratio: float


@dataclass(slots=True, kw_only=True, eq=False)
class _Hearing:
    """A window and how far it was heard."""

    window: Window
    features: npt.NDArray[np.float32]
    """float32 (M, F)"""
    code: str
    """whisper's code of the language; empty until it is detected."""
    probability: float = 1.0
    seek: int = 0
    """Feature frame from which on nothing was heard yet."""
    clock_s: float = 0.0
    """Where the last word ended."""
    phrases: list[Phrase] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        return int(self.features.shape[1]) - self.seek


class BatchedWhisper:
    """Hears windows together. Needs as much memory as its model takes for as many windows as it is given."""

    def __init__(self, model: WhisperModel, search: Search) -> None:
        from faster_whisper.transcribe import get_suppressed_tokens

        self._model = model
        self._search = search
        self._tokenizers: dict[str, Tokenizer] = {}
        self._frames_per_s: int = model.frames_per_second
        self._suppressed = list(get_suppressed_tokens(self._tokenizer("en"), [-1]))

    def warm_up(self) -> None:
        """Pay for kernels and allocations now rather than in the first job."""
        silence = np.zeros((self._model.feature_extractor.mel_filters.shape[0], 3000), np.float32)
        self._model.model.generate(self._model.encode(silence), [self._tokenizer("en").sot_sequence], max_length=1)

    def hear(self, windows: Sequence[Window]) -> list[Heard]:
        """What is said in each, in order."""
        hearings = [self._hearing(window) for window in windows]
        pending = hearings
        while pending:
            self._round(pending)
            pending = [hearing for hearing in pending if self._is_more_said(hearing)]
        return [
            Heard(code=hearing.code, probability=hearing.probability, phrases=tuple(hearing.phrases))
            for hearing in hearings
        ]

    def _hearing(self, window: Window) -> _Hearing:
        # The extractor adds a frame of padding, which holds nothing.
        features = self._model.feature_extractor(window.samples)[:, :-1]
        code = (window.code or "") if self._model.model.is_multilingual else "en"
        return _Hearing(window=window, features=features, code=code)

    def _is_more_said(self, hearing: _Hearing) -> bool:
        """Whether a voice is heard after what was transcribed. Where none is, whisper would invent words."""
        speech_frame = int(hearing.seek / self._frames_per_s / FRAME_S)
        return hearing.num_frames > 0 and is_spoken(hearing.window.speech[speech_frame:])

    def _round(self, hearings: Sequence[_Hearing]) -> None:
        """Hear each from its ``seek`` on."""
        from faster_whisper.audio import pad_or_trim

        pieces = np.stack([pad_or_trim(hearing.features[:, hearing.seek :]) for hearing in hearings])
        encoded = self._model.encode(pieces)
        self._detect(hearings, encoded)
        decodes = self._decode(hearings, encoded)
        spoken = [row for row, decode in enumerate(decodes) if not self._is_silence(decode)]
        for row in range(len(hearings)):
            if row not in spoken:
                hearings[row].seek += hearings[row].num_frames
        for code, rows in _grouped(spoken, lambda row: hearings[row].code):
            self._align(
                self._tokenizer(code),
                [hearings[row] for row in rows],
                [decodes[row] for row in rows],
                _rows(encoded, rows),
            )

    # --- languages and prompts

    def _detect(self, hearings: Sequence[_Hearing], encoded: StorageView) -> None:
        """Find the language of those that have none; as one call, it costs a single step of the decoder."""
        if all(hearing.code for hearing in hearings):
            return
        for hearing, ranked in zip(hearings, self._model.model.detect_language(encoded), strict=True):
            if not hearing.code:
                token, probability = ranked[0]
                hearing.code, hearing.probability = token.removeprefix("<|").removesuffix("|>"), float(probability)

    def _tokenizer(self, code: str) -> Tokenizer:
        from faster_whisper.tokenizer import Tokenizer

        if code not in self._tokenizers:
            self._tokenizers[code] = Tokenizer(
                self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language=code
            )
        return self._tokenizers[code]

    def _prompt(self, hearing: _Hearing) -> list[int]:
        tokenizer = self._tokenizer(hearing.code)
        # What came before a window came before its first words alone; hotwords hold for all of it.
        texts = (self._search.hotwords, hearing.window.prompt if hearing.seek == 0 else "")
        context = [token for text in texts if text.strip() for token in tokenizer.encode(" " + text.strip())]
        if not context:
            return list(tokenizer.sot_sequence)
        # Half of the decoder's positions are for what came before; the nearest counts most.
        return [tokenizer.sot_prev, *context[-(self._model.max_length // 2 - 1) :], *tokenizer.sot_sequence]

    # --- decoding

    def _decode(self, hearings: Sequence[_Hearing], encoded: StorageView) -> list[_Decode]:
        """The first decode that is no loop, of each; if all of one's are, the most probable."""
        best: dict[int, _Decode] = {}
        rows = list(range(len(hearings)))
        for ngram in REPEATED_NGRAMS:
            for row, decode in self._generate(hearings, rows, encoded, ngram):
                loops = self._is_loop(decode)
                if row not in best or not loops or decode.mean_log_probability > best[row].mean_log_probability:
                    best[row] = decode
            rows = [row for row in rows if self._is_loop(best[row])]
        return [best[row] for row in range(len(hearings))]

    def _generate(
        self, hearings: Sequence[_Hearing], rows: Sequence[int], encoded: StorageView, repeated_ngram: int
    ) -> Iterator[tuple[int, _Decode]]:
        """Rows with what a beam search finds; one search for all whose prompts are of one length, as it must be."""
        prompts = {row: self._prompt(hearings[row]) for row in rows}
        for _, group in _grouped(rows, lambda row: len(prompts[row])):
            results = self._model.model.generate(
                _rows(encoded, group),
                [prompts[row] for row in group],
                beam_size=self._search.beam_size,
                no_repeat_ngram_size=repeated_ngram,
                max_length=self._model.max_length,
                return_scores=True,
                return_no_speech_prob=True,
                suppress_tokens=self._suppressed,
                # The first phrase starts within 1 s (whisper's own default).
                max_initial_timestamp_index=round(1.0 / self._model.time_precision),
            )
            for row, result in zip(group, results, strict=True):
                yield row, self._found(result, self._tokenizer(hearings[row].code))

    @staticmethod
    def _found(result: Any, tokenizer: Tokenizer) -> _Decode:
        tokens = list(result.sequences_ids[0])
        text = tokenizer.decode(tokens).strip()
        return _Decode(
            tokens=tokens,
            text=text,
            # The score is a mean without the end token, the thresholds are for one with it.
            mean_log_probability=float(result.scores[0]) * len(tokens) / (len(tokens) + 1),
            no_speech_probability=float(result.no_speech_prob),
            compression_ratio=compression_ratio(text) if text else 0.0,
        )

    def _is_loop(self, decode: _Decode) -> bool:
        return decode.compression_ratio > self._search.compression_ratio_threshold

    def _is_silence(self, decode: _Decode) -> bool:
        return (
            decode.no_speech_probability > self._search.no_speech_threshold
            and decode.mean_log_probability <= self._search.log_probability_threshold
        )

    # --- word times

    def _align(
        self,
        tokenizer: Tokenizer,
        hearings: Sequence[_Hearing],
        decodes: Sequence[_Decode],
        encoded: StorageView,
    ) -> None:
        """Give each, all of one language, the phrases of its decode with word times, and move its ``seek`` on."""
        texts = [[token for token in decode.tokens if token < tokenizer.eot] for decode in decodes]
        alignments = self._model.find_alignment(tokenizer, texts, encoded, [hearing.num_frames for hearing in hearings])
        for hearing, decode, alignment in zip(hearings, decodes, alignments, strict=True):
            self._take(hearing, decode, alignment, tokenizer)

    def _take(self, hearing: _Hearing, decode: _Decode, alignment: list[Any], tokenizer: Tokenizer) -> None:
        offset_s = hearing.seek / self._frames_per_s
        found, next_seek, is_all = self._model._split_segments_by_timestamps(
            tokenizer=tokenizer,
            tokens=decode.tokens,
            time_offset=offset_s,
            segment_size=hearing.num_frames,
            segment_duration=hearing.num_frames / self._frames_per_s,
            seek=hearing.seek,
        )
        clock_s = _add_words(found, alignment, tokenizer, hearing, self._frames_per_s)
        if not is_all and clock_s is not None and clock_s > offset_s:
            next_seek = round(clock_s * self._frames_per_s)
        hearing.clock_s = hearing.clock_s if clock_s is None else clock_s
        hearing.seek = max(next_seek, hearing.seek + MIN_ADVANCE_FRAMES)
        hearing.phrases += [
            _phrase(each, decode, tokenizer.decode(each["tokens"])) for each in found if each["start"] != each["end"]
        ]


def _add_words(
    found: list[Any], alignment: list[Any], tokenizer: Tokenizer, hearing: _Hearing, frames_per_s: int
) -> float | None:
    """Put ``words`` into each of one window's phrases, as the library makes them; where the last one ends."""
    from faster_whisper import WhisperModel
    from faster_whisper.utils import get_end

    # The method asks its model for nothing but these two, and is asked window by window: for several
    # it would take the end of one for the clock of the next.
    model = cast(WhisperModel, _Aligned(alignment, frames_per_s))
    WhisperModel.add_word_timestamps(
        model, [found], tokenizer, None, hearing.num_frames, PREPENDED, APPENDED, last_speech_timestamp=hearing.clock_s
    )
    end_s: float | None = get_end(found)
    return end_s


class _Aligned:
    """What ``WhisperModel.add_word_timestamps`` needs of a model, with an alignment made before."""

    def __init__(self, alignment: list[Any], frames_per_s: int) -> None:
        self.frames_per_second = frames_per_s
        self._alignment = alignment

    def find_alignment(self, *_: Any) -> list[list[Any]]:
        return [self._alignment]


def _phrase(found: Any, decode: _Decode, text: str) -> Phrase:
    return Phrase(
        text=text,
        words=tuple(
            Word(
                text=word["word"],
                start_s=float(word["start"]),
                end_s=float(word["end"]),
                probability=float(word["probability"]),
            )
            for word in found["words"]
        ),
        mean_log_probability=decode.mean_log_probability,
        no_speech_probability=decode.no_speech_probability,
        compression_ratio=decode.compression_ratio,
    )


def _grouped(rows: Sequence[int], key: Callable[[int], Any]) -> list[tuple[Any, list[int]]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return list(groups.items())


def _rows(encoded: StorageView, rows: Sequence[int]) -> StorageView:
    """Some rows of (N, F / 2, dim). The library cannot index: it takes a way over the host, 4–8 MB a window."""
    import ctranslate2

    if len(rows) == encoded.shape[0]:
        return encoded
    # numpy has no bfloat16. The model turns what it is given into its own type, on its own device.
    on_host = np.asarray(encoded.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu))
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(on_host[list(rows)]))
