"""Diarization error rate: seconds missed, invented and confused over those of speech, counted in frames of 10 ms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from actors.types import SpeakerTurn

FRAME_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class DiarizationError:
    speech_s: float
    missed_s: float
    false_alarm_s: float
    confused_s: float
    num_speakers: int
    num_found: int

    @property
    def der(self) -> float:
        return (self.missed_s + self.false_alarm_s + self.confused_s) / max(self.speech_s, FRAME_S)


def diarization_error(
    reference: Sequence[SpeakerTurn], found: Sequence[SpeakerTurn], collar_s: float = 0.25
) -> DiarizationError:
    """The error over all frames but those within ``collar_s`` of an edge in ``reference``; overlapped speech counts."""
    num_frames = round(max([turn.end_s for turn in [*reference, *found]], default=0.0) / FRAME_S) + 1
    scored = np.ones(num_frames, bool)
    for turn in reference:
        for edge_s in (turn.start_s, turn.end_s):
            scored[max(0, round((edge_s - collar_s) / FRAME_S)) : round((edge_s + collar_s) / FRAME_S)] = False
    true, made = _frames(reference, num_frames)[:, scored], _frames(found, num_frames)[:, scored]
    shared = true.astype(np.int64) @ made.astype(np.int64).T
    correct = int(shared[linear_sum_assignment(-shared)].sum())
    num_true, num_made = true.sum(axis=0), made.sum(axis=0)
    return DiarizationError(
        speech_s=float(num_true.sum()) * FRAME_S,
        missed_s=float(np.maximum(num_true - num_made, 0).sum()) * FRAME_S,
        false_alarm_s=float(np.maximum(num_made - num_true, 0).sum()) * FRAME_S,
        confused_s=(float(np.minimum(num_true, num_made).sum()) - correct) * FRAME_S,
        num_speakers=len({turn.speaker for turn in reference}),
        num_found=len({turn.speaker for turn in found}),
    )


def _frames(turns: Sequence[SpeakerTurn], num_frames: int) -> npt.NDArray[np.bool_]:
    """bool (num_speakers, num_frames): who speaks when."""
    speakers = sorted({turn.speaker for turn in turns})
    speaks = np.zeros((len(speakers), num_frames), bool)
    for turn in turns:
        speaks[speakers.index(turn.speaker), round(turn.start_s / FRAME_S) : round(turn.end_s / FRAME_S)] = True
    return speaks
