"""Collects the sample of a speaker from which a voice is cloned."""

from __future__ import annotations

import hashlib

import numpy as np

from actors.types import (
    ASR_HZ,
    Reference,
    Samples,
    Span,
    Window,
)


class ReferenceVoice:
    """A speaker's first ``wanted_s`` of speech, from which the voice is cloned; later speech is ignored."""

    def __init__(self, wanted_s: float) -> None:
        self._wanted_samples = round(wanted_s * ASR_HZ)
        self._heard = np.zeros(0, np.float32)
        self._reference: Reference | None = None

    def hear(self, samples: Samples) -> None:
        missing = self._wanted_samples - len(self._heard)
        if missing > 0:
            self._heard = np.concatenate((self._heard, samples[:missing]))
            self._reference = None

    @property
    def is_whole(self) -> bool:
        return len(self._heard) == self._wanted_samples

    def reference(self) -> Reference | None:
        """The sample so far; None before the first speech."""
        if self._reference is None and len(self._heard):
            key = hashlib.sha256(self._heard.tobytes()).hexdigest()
            self._reference = Reference(samples=self._heard, sample_hz=ASR_HZ, key=key)
        return self._reference


def samples_of(window: Window, span: Span) -> Samples:
    """The part of the window's samples that lies in ``span``."""
    first, end = (max(0, round((edge_s - window.start_s) * ASR_HZ)) for edge_s in (span.start_s, span.end_s))
    return window.samples[first:end]
