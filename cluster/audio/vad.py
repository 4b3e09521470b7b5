"""Voice activity detection: Silero VAD v6, streamed.

The model (MIT, part of the faster-whisper wheel) takes chunks of 512 samples, each with the 64 before it,
and a recurrent state. It runs its convolutions over a whole batch of chunks and its recurrence in
order, so one call a block costs far less than one a chunk.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from actors.onnx_session import make_session
from actors.types import ASR_HZ, VOICE_FRAME_SAMPLES, Samples
from actors.weights import Resource, verified

if TYPE_CHECKING:
    import onnxruntime

CHUNK_SAMPLES = VOICE_FRAME_SAMPLES
CHUNK_S = CHUNK_SAMPLES / ASR_HZ
CONTEXT_SAMPLES = 64
STATE_SHAPE = (1, 1, 128)

MODEL = Resource(package="faster_whisper", path="assets/silero_vad_v6.onnx")
MODEL_SHA256 = "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"


class VoiceActivity:
    """Speech probabilities of one stream of audio. Raises EngineLoadError if the model is not there."""

    def __init__(self) -> None:
        self._session = _session()
        self._h = np.zeros(STATE_SHAPE, np.float32)
        self._c = np.zeros(STATE_SHAPE, np.float32)
        # The context, and the samples of an incomplete chunk behind it.
        self._pending = np.zeros(CONTEXT_SAMPLES, np.float32)

    def probabilities(self, block: Samples) -> Samples:
        """float32 (num_chunks,): speech in each chunk of ``CHUNK_SAMPLES`` that ``block`` completes.

        ``block`` is float32 (num_samples,) at ``ASR_HZ``, of any length; an incomplete chunk waits for the
        next call. The stream's chunk i begins at sample ``i * CHUNK_SAMPLES``.
        """
        audio = np.concatenate([self._pending, block])
        num_chunks = (len(audio) - CONTEXT_SAMPLES) // CHUNK_SAMPLES
        self._pending = audio[num_chunks * CHUNK_SAMPLES :]
        if num_chunks == 0:
            return np.zeros(0, np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(audio, CONTEXT_SAMPLES + CHUNK_SAMPLES)
        batch = np.ascontiguousarray(frames[: num_chunks * CHUNK_SAMPLES : CHUNK_SAMPLES])
        output, self._h, self._c = self._session.run(None, {"input": batch, "h": self._h, "c": self._c})
        return np.asarray(output, np.float32).reshape(num_chunks)

    def finish(self) -> Samples:
        """float32 (0 or 1,): speech in the last, incomplete chunk, padded with silence."""
        missing = -(len(self._pending) - CONTEXT_SAMPLES) % CHUNK_SAMPLES
        return self.probabilities(np.zeros(missing, np.float32))


@functools.cache
def _session() -> onnxruntime.InferenceSession:
    return make_session(verified(MODEL, MODEL_SHA256), threads=1, keep_memory=False)
