"""A transcriber that hears one sentence in each window, with a word for each second."""

from collections.abc import Sequence
from typing import ClassVar

from actors import engine
from actors.types import ASR_HZ, TranscribedSegment, TranscribeRequest, Transcript, Word


class Engine(engine.Engine[TranscribeRequest, Transcript]):
    Config: ClassVar[type[engine.EngineConfig]] = engine.EngineConfig

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def cost(self, request: TranscribeRequest) -> float:
        return 1.0

    def load(self) -> None:
        pass

    def run(self, batch: Sequence[TranscribeRequest]) -> list[Transcript]:
        return [self._hear(request) for request in batch]

    def _hear(self, request: TranscribeRequest) -> Transcript:
        num_words = max(1, len(request.samples) // ASR_HZ)
        step_s = len(request.samples) / ASR_HZ / num_words
        texts = [f" word{number}" for number in range(num_words - 1)] + [" end."]
        words = tuple(
            Word(text=text, start_s=number * step_s, end_s=(number + 1) * step_s, probability=1.0)
            for number, text in enumerate(texts)
        )
        segment = TranscribedSegment(
            start_s=0.0,
            end_s=num_words * step_s,
            text="".join(texts).strip(),
            words=words,
            mean_log_probability=0.0,
            no_speech_probability=0.0,
            compression_ratio=1.0,
        )
        return Transcript(language=request.language or "en", language_probability=1.0, segments=(segment,))
