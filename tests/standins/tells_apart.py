"""Describes voices by their loudest frequency: tones of other frequencies are other speakers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.engine import Engine as BaseEngine
from actors.engine import EngineConfig
from actors.types import ASR_HZ, ItemFailure, VoicePrints, VoiceRequest

__all__ = ["Engine", "EngineConfig"]

BAND_HZ = 50.0
NUM_BANDS = 64


class Engine(BaseEngine[VoiceRequest, VoicePrints]):
    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def load(self) -> None:
        pass

    def run(self, batch: Sequence[VoiceRequest]) -> list[VoicePrints | ItemFailure]:
        return [self._describe(request) for request in batch]

    def _describe(self, request: VoiceRequest) -> VoicePrints:
        loudest = [
            _loudest_hz(request.samples[round(piece.start_s * ASR_HZ) : round(piece.end_s * ASR_HZ)])
            for piece in request.pieces
        ]
        vectors = np.zeros((len(loudest), NUM_BANDS), np.float32)
        for row, hz in zip(vectors, loudest, strict=True):
            row[round(hz / BAND_HZ) % NUM_BANDS] = 1.0
        return VoicePrints(vectors=vectors, pitches_hz=np.array(loudest, np.float32))


def _loudest_hz(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * ASR_HZ / len(samples))
