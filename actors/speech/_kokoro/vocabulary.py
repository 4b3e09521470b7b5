"""Kokoro's tokens: one for each IPA letter and punctuation mark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from actors.speech._planned.model import Tokens

PAD = 0
SILENT_MARKS = ';:,.!?—…"()“” '
SAMPLE_HZ = 24_000
FRAME_SAMPLES = 600
MAX_PHONEMES = 400
"""The model takes 510, but was trained on less and hurries above 400 (Kokoro-82M, VOICES.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    ids: Mapping[str, int]
    """Letter or mark → token."""

    @property
    def silent(self) -> frozenset[int]:
        """Padding and the tokens of punctuation and spaces."""
        return frozenset({PAD, *(self.ids[mark] for mark in SILENT_MARKS)})

    def tokens(self, letters: Iterable[str]) -> Tokens:
        """The letters' tokens between two of padding; letters without a token are left out."""
        return np.array([PAD, *(self.ids[letter] for letter in letters if letter in self.ids), PAD], np.int64)
