"""Batched transcription of windows in any languages by one whisper model.

One call of the model serves all windows of a round: one encoder pass, one beam search with a prompt
per window, one alignment per language. A window whose timestamps stop before its speech does takes
part in another round, from there. A window's result does not depend on its neighbours, and nothing
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

from actors.transcription._whisper.words import FRAME_S, Phrase, compression_ratio, has_speech
from actors.types import Word

if TYPE_CHECKING:
    from ctranslate2 import StorageView
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

REPEATED_NGRAMS = (0, 5, 3)
"""Lengths of token sequences that may not repeat, tried in turn while the text is a loop. 0: all may repeat."""
MIN_ADVANCE_FRAMES = 50
"""Each round advances by at least 0.5 s, about a word, which bounds the rounds of a window."""
MIN_REST_S = 1.0
"""Voice after the last word from which on a decode that claims to be complete is not believed."""
WINDOW_FRAMES = 3000
"""Feature frames of the model's window of 30 s."""
NUM_WARM_UP_TOKENS = 4
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word after it, and before it (whisper's own defaults)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Settings of the decoder, and thresholds for accepting its result (Radford et al. 2022, §4.5)."""

    beam_size: int
    no_speech_threshold: float
    log_probability_threshold: float
    compression_ratio_threshold: float
    hotwords: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AudioWindow:
    """Audio to transcribe, as the model reads it, with its voice activity."""

    features: npt.NDArray[np.float32]
    """float32 (num_mels, num_frames), at most 30 s."""
    speech: npt.NDArray[np.bool_]
    """bool (num_frames,): voice activity in each ``FRAME_S``."""
    code: str | None
    """whisper's code of the language; None lets the model detect it."""
    prompt: str = ""
    """Text to condition on, as if it had been spoken before the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedWindow:
    code: str
    """whisper's code of the language."""
    probability: float
    """Probability of the language; 1 if it was given."""
    ranked: tuple[tuple[str, float], ...]
    """(whisper's code, probability) of what it sounds like, likeliest first; empty if the model knows one language."""
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decode:
    """The best hypothesis of one beam search."""

    tokens: list[int]
    text: str
    mean_log_probability: float
    no_speech_probability: float
    compression_ratio: float


@dataclass(slots=True, kw_only=True, eq=False)
class _Progress:
    """A window, and the part of it that is transcribed."""

    window: AudioWindow
    code: str
    """whisper's code of the language; empty until it is detected."""
    probability: float = 1.0
    ranked: tuple[tuple[str, float], ...] = ()
    """(whisper's code, probability), likeliest first; empty until it is detected."""
    seek: int = 0
    """First feature frame that is not transcribed yet."""
    clock_s: float = 0.0
    """End of the last word."""
    phrases: list[Phrase] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        return int(self.window.features.shape[1]) - self.seek


class BatchedWhisper:
    """Transcribes windows together. Its memory grows with the number of windows in a call."""

    def __init__(self, model: WhisperModel, search: Search) -> None:
        from faster_whisper.transcribe import get_suppressed_tokens

        self._model = model
        self._search = search
        self._tokenizers: dict[str, Tokenizer] = {}
        self._frames_per_s: int = model.frames_per_second
        self._suppressed = list(get_suppressed_tokens(self._tokenizer("en"), [-1]))

    def warm_up(self) -> None:
        """Run each kind of call once, so that kernels and memory are loaded now rather than in the first job.

        On some GPUs alignment fails where all else works (CTranslate2 issue 2064): loading must fail then, not the job.
        """
        silence = np.zeros((self._model.feature_extractor.mel_filters.shape[0], WINDOW_FRAMES), np.float32)
        encoded, tokenizer = self._model.encode(silence), self._tokenizer("en")
        prompt = tokenizer.sot_sequence
        self._model.model.generate(
            encoded, [prompt], beam_size=self._search.beam_size, max_length=len(prompt) + NUM_WARM_UP_TOKENS
        )
        self._model.find_alignment(tokenizer, [tokenizer.encode(" one two")], encoded, [WINDOW_FRAMES])

    def transcribe(self, windows: Sequence[AudioWindow]) -> list[DecodedWindow]:
        """One result per window, in order."""
        states = [self._start(window) for window in windows]
        pending = states
        while pending:
            self._transcribe_round(pending)
            pending = [state for state in pending if self._has_more_speech(state)]
        return [
            DecodedWindow(
                code=state.code, probability=state.probability, ranked=state.ranked, phrases=tuple(state.phrases)
            )
            for state in states
        ]

    def _start(self, window: AudioWindow) -> _Progress:
        code = (window.code or "") if self._model.model.is_multilingual else "en"
        return _Progress(window=window, code=code)

    def _has_more_speech(self, state: _Progress) -> bool:
        """True if voice activity follows the transcribed part; without it whisper would invent words."""
        speech_frame = int(state.seek / self._frames_per_s / FRAME_S)
        return state.num_frames > 0 and has_speech(state.window.speech[speech_frame:])

    @staticmethod
    def _is_complete(state: _Progress, clock_s: float) -> bool:
        """True if less than a sentence of voice is left, so that a decode that claims to be complete is believed.

        whisper now and then ends after the first sentence of several, as if silence followed.
        """
        rest = state.window.speech[int(clock_s / FRAME_S) :]
        return float(np.count_nonzero(rest)) * FRAME_S < MIN_REST_S

    def _transcribe_round(self, states: Sequence[_Progress]) -> None:
        """Transcribe each window once more, from its ``seek`` on."""
        from faster_whisper.audio import pad_or_trim

        pieces = np.stack([pad_or_trim(state.window.features[:, state.seek :]) for state in states])
        encoded = self._model.encode(pieces)
        self._detect(states, encoded)
        decodes = self._decode(states, encoded)
        spoken = [row for row, decode in enumerate(decodes) if not self._is_silence(decode)]
        for row in range(len(states)):
            if row not in spoken:
                states[row].seek += states[row].num_frames
        for code, rows in _grouped(spoken, lambda row: states[row].code):
            self._align(
                self._tokenizer(code),
                [states[row] for row in rows],
                [decodes[row] for row in rows],
                _rows(encoded, rows),
            )

    # --- languages and prompts

    def _detect(self, states: Sequence[_Progress], encoded: StorageView) -> None:
        """Rank the languages of each window; the single call costs one step of the decoder.

        A window whose language is given is ranked too: a person's word or a file's tag may be wrong.
        """
        if not self._model.model.is_multilingual or all(state.ranked for state in states):
            return
        for state, ranked in zip(states, self._model.model.detect_language(encoded), strict=True):
            if state.ranked:
                continue
            state.ranked = tuple(
                (token.removeprefix("<|").removesuffix("|>"), float(probability)) for token, probability in ranked
            )
            if not state.code:
                state.code, state.probability = state.ranked[0]

    def _tokenizer(self, code: str) -> Tokenizer:
        from faster_whisper.tokenizer import Tokenizer

        if code not in self._tokenizers:
            self._tokenizers[code] = Tokenizer(
                self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language=code
            )
        return self._tokenizers[code]

    def _prompt(self, state: _Progress) -> list[int]:
        tokenizer = self._tokenizer(state.code)
        # The prompt precedes the window's first words alone; hotwords hold for all of it.
        texts = (self._search.hotwords, state.window.prompt if state.seek == 0 else "")
        context = [token for text in texts if text.strip() for token in tokenizer.encode(" " + text.strip())]
        if not context:
            return list(tokenizer.sot_sequence)
        # Half of the decoder's positions are for what came before; the nearest counts most.
        return [tokenizer.sot_prev, *context[-(self._model.max_length // 2 - 1) :], *tokenizer.sot_sequence]

    # --- decoding

    def _decode(self, states: Sequence[_Progress], encoded: StorageView) -> list[_Decode]:
        """Each window's first decode that is no loop; the most probable one if all are."""
        best: dict[int, _Decode] = {}
        rows = list(range(len(states)))
        for ngram in REPEATED_NGRAMS:
            for row, decode in self._generate(states, rows, encoded, ngram):
                loops = self._is_loop(decode)
                if row not in best or not loops or decode.mean_log_probability > best[row].mean_log_probability:
                    best[row] = decode
            rows = [row for row in rows if self._is_loop(best[row])]
        return [best[row] for row in range(len(states))]

    def _generate(
        self, states: Sequence[_Progress], rows: Sequence[int], encoded: StorageView, repeated_ngram: int
    ) -> Iterator[tuple[int, _Decode]]:
        """Rows with their decodes. One beam search takes only prompts of one length."""
        prompts = {row: self._prompt(states[row]) for row in rows}
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
                yield row, self._decode_of(result, self._tokenizer(states[row].code))

    @staticmethod
    def _decode_of(result: Any, tokenizer: Tokenizer) -> _Decode:
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
        states: Sequence[_Progress],
        decodes: Sequence[_Decode],
        encoded: StorageView,
    ) -> None:
        """Add the phrases of each decode with word times, and advance ``seek``; all windows are of one language."""
        texts = [[token for token in decode.tokens if token < tokenizer.eot] for decode in decodes]
        alignments = self._model.find_alignment(tokenizer, texts, encoded, [state.num_frames for state in states])
        for state, decode, alignment in zip(states, decodes, alignments, strict=True):
            self._append_phrases(state, decode, alignment, tokenizer)

    def _append_phrases(self, state: _Progress, decode: _Decode, alignment: list[Any], tokenizer: Tokenizer) -> None:
        offset_s = state.seek / self._frames_per_s
        found, next_seek, is_all = self._model._split_segments_by_timestamps(
            tokenizer=tokenizer,
            tokens=decode.tokens,
            time_offset=offset_s,
            segment_size=state.num_frames,
            segment_duration=state.num_frames / self._frames_per_s,
            seek=state.seek,
        )
        clock_s = _add_words(found, alignment, tokenizer, state, self._frames_per_s)
        if clock_s is not None and clock_s > offset_s and not (is_all and self._is_complete(state, clock_s)):
            next_seek = round(clock_s * self._frames_per_s)
        state.clock_s = state.clock_s if clock_s is None else clock_s
        state.seek = max(next_seek, state.seek + MIN_ADVANCE_FRAMES)
        state.phrases += [
            _phrase(each, decode, tokenizer.decode(each["tokens"])) for each in found if each["start"] != each["end"]
        ]


def _add_words(
    found: list[Any], alignment: list[Any], tokenizer: Tokenizer, state: _Progress, frames_per_s: int
) -> float | None:
    """Add ``words`` to each of one window's phrases, made by the library; returns the end of the last word."""
    from faster_whisper import WhisperModel
    from faster_whisper.utils import get_end

    # The method uses these two attributes of its model alone, and is called window by window: for several
    # it would take the end of one for the clock of the next.
    model = cast(WhisperModel, _PrecomputedAlignment(alignment, frames_per_s))
    WhisperModel.add_word_timestamps(
        model, [found], tokenizer, None, state.num_frames, PREPENDED, APPENDED, last_speech_timestamp=state.clock_s
    )
    end_s: float | None = get_end(found)
    return end_s


class _PrecomputedAlignment:
    """A stand-in for the model in ``WhisperModel.add_word_timestamps``, with an alignment computed before."""

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
    """Some rows of (N, F / 2, dim). The library cannot index, so they are copied over the host: 4–8 MB a window."""
    import ctranslate2

    if len(rows) == encoded.shape[0]:
        return encoded
    # numpy has no bfloat16. The model turns what it is given into its own type, on its own device.
    on_host = np.asarray(encoded.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu))
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(on_host[list(rows)]))
