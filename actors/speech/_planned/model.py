"""The interface of a loaded speech model that predicts durations and speaks with chosen ones.

shapes: tokens int64 (num_tokens,) · frames (num_tokens,) · samples float32 (num_samples,)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from actors.errors import ItemError
from actors.speech._planned.voices import Voice
from actors.types import ItemFailure, Samples

Tokens: TypeAlias = npt.NDArray[np.int64]
Frames: TypeAlias = npt.NDArray[np.float32]
"""Predicted duration of each token, in frames."""
ChosenFrames: TypeAlias = npt.NDArray[np.int64]
"""Chosen duration of each token, in whole frames."""

Arguments = ParamSpec("Arguments")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Passage:
    """Tokens that the model speaks in one call, in one voice."""

    tokens: Tokens
    voice: Voice
    take: int = 0
    """As in ``SynthesiseRequest``."""


class PassageModel(Protocol):
    """A model that speaks one passage at a time."""

    @property
    def silent(self) -> frozenset[int]:
        """Tokens that are padding, a space or punctuation."""

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        """One array for each passage of the text, padding included."""

    def predict(self, passage: Passage) -> Frames:
        """The model's own duration of each token."""

    def speak(self, passage: Passage, frames: ChosenFrames) -> Samples:
        """Exactly ``frames.sum() * voice.frame_samples`` samples."""


class SpeechModel(Protocol):
    """A model that speaks passages in batches; results are in order, with an ItemFailure where a passage failed."""

    @property
    def silent(self) -> frozenset[int]:
        """Tokens that are padding, a space or punctuation."""

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        """One array for each passage of the text, padding included."""

    def predict(self, passages: Sequence[Passage]) -> list[Frames | ItemFailure]:
        """The model's own duration of each token, for each passage."""

    def speak(self, passages: Sequence[Passage], frames: Sequence[ChosenFrames]) -> list[Samples | ItemFailure]:
        """Exactly ``frames[i].sum() * voice.frame_samples`` samples for each passage."""


class OneByOne:
    """A ``SpeechModel`` that gives its passages to a ``PassageModel``, one after another."""

    def __init__(self, model: PassageModel) -> None:
        self._model = model

    @property
    def silent(self) -> frozenset[int]:
        return self._model.silent

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        return self._model.tokenise(text, voice)

    def predict(self, passages: Sequence[Passage]) -> list[Frames | ItemFailure]:
        return [attempt(self._model.predict, passage) for passage in passages]

    def speak(self, passages: Sequence[Passage], frames: Sequence[ChosenFrames]) -> list[Samples | ItemFailure]:
        return [attempt(self._model.speak, passage, chosen) for passage, chosen in zip(passages, frames, strict=True)]


def attempt(work: Callable[Arguments, Out], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Out | ItemFailure:
    """The result of ``work``, or the ItemError it raised as a failure."""
    try:
        return work(*args, **kwargs)
    except ItemError as error:
        return ItemFailure(error=error)


def seed_of(tokens: Tokens, voice: str, take: int = 0) -> int:
    """A 64-bit seed that depends on what is spoken alone: the same on any replica and in any batch."""
    spoken = voice.encode() + tokens.astype("<i8").tobytes()
    digest = hashlib.sha256(spoken + take.to_bytes(8, "little") if take else spoken).digest()
    return int.from_bytes(digest[:8], "little")


def seeded_rng(passage: Passage) -> np.random.Generator:
    """The random numbers of a passage's noise, seeded by ``seed_of``."""
    return np.random.default_rng(seed_of(passage.tokens, passage.voice.name, passage.take))
