"""Follows the speakers of one input while it is heard; what is heard later may change who spoke before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from actors.types import Span, SpeakerTurn, VoicePrints
from cluster.speakers.clustering import HeardVoices, Labels, cluster, keep_names
from cluster.speakers.config import SpeakersConfig
from cluster.speakers.prints import PRINT_DIGITS, Print, matched
from cluster.speakers.turns import turns_of


def speaker_name(number: int) -> str:
    """The name of a speaker that nobody has named: S1 is the first to speak."""
    return f"S{number + 1}"


class SpeakerTracker:
    """Add pieces in order of time with ``hear``; ``turns`` groups all of them by speaker. Memory: a vector a piece."""

    def __init__(self, config: SpeakersConfig, known: Mapping[str, Print] | None = None) -> None:
        """``known`` are speakers of earlier files, by name; None if speakers need no prints."""
        self._config = config
        self._known = known
        self._names: dict[int, str] = {}
        self._pieces: list[Span] = []
        self._vectors: list[np.ndarray] = []
        self._pitches_hz: list[float] = []
        self._labels: Labels = np.zeros(0, np.int64)
        self._is_settled = False

    def hear(self, pieces: Sequence[Span], prints: VoicePrints) -> range:
        """Add the voices of these pieces, on the media timeline; returns their numbers."""
        first = len(self._pieces)
        self._pieces += pieces
        self._vectors += list(prints.vectors)
        self._pitches_hz += prints.pitches_hz.tolist()
        return range(first, len(self._pieces))

    def turns(self, numbers: range, *, is_all: bool) -> list[SpeakerTurn]:
        """Turns of the pieces with these numbers, by all that was heard; ``is_all`` after all speech was."""
        self._settle(is_all=is_all)
        self._know_again({int(self._labels[number]) for number in numbers})
        names = [self._name(int(self._labels[number])) for number in numbers]
        return turns_of([self._pieces[number] for number in numbers], names)

    def pitches_hz(self) -> dict[str, float]:
        """Median pitch of each speaker so far of whom enough is voiced."""
        by_speaker: dict[str, list[float]] = {}
        for label, pitch_hz in zip(self._labels, self._pitches_hz, strict=False):
            if not np.isnan(pitch_hz):
                by_speaker.setdefault(self._name(int(label)), []).append(pitch_hz)
        return {speaker: float(np.median(pitches)) for speaker, pitches in by_speaker.items()}

    def prints(self) -> dict[str, Print]:
        """Print of each speaker so far; none if no cast is kept."""
        if self._known is None:
            return {}
        return {self._name(label): self._print(label) for label in sorted({int(label) for label in self._labels})}

    def _name(self, label: int) -> str:
        return self._names.get(label, speaker_name(label))

    def _print(self, label: int) -> Print:
        mean = np.mean([self._vectors[number] for number in np.flatnonzero(self._labels == label)], axis=0)
        return tuple(round(float(value), PRINT_DIGITS) for value in mean / max(float(np.linalg.norm(mean)), 1e-9))

    def _know_again(self, labels: set[int]) -> None:
        """Settle the names of speakers who are to be named for the first time; they keep them."""
        fresh = {str(label): self._print(label) for label in sorted(labels - self._names.keys())} if self._known else {}
        free = {name: own for name, own in (self._known or {}).items() if name not in self._names.values()}
        found = matched(fresh, free, self._config.min_cast_likeness)
        self._names |= {int(label): found.get(label, speaker_name(int(label))) for label in fresh}

    def _settle(self, *, is_all: bool) -> None:
        if len(self._labels) == len(self._pieces) and (self._is_settled or not is_all):
            return
        vectors = np.stack(self._vectors) if self._vectors else np.zeros((0, 1), np.float32)
        labels = cluster(HeardVoices(pieces=self._pieces, vectors=vectors), self._config, is_all=is_all)
        self._labels = keep_names(labels, self._labels)
        self._is_settled = is_all
