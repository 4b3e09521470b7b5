"""ONNX Runtime sessions that leave the CPU to others when they have nothing to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from actors.errors import EngineLoadError

if TYPE_CHECKING:
    import onnxruntime

CUDA = "CUDAExecutionProvider"


def make_session(
    model: Path, *, threads: int, device: Literal["cpu", "cuda"] = "cpu", keep_memory: bool = True
) -> onnxruntime.InferenceSession:
    """A session for the model on the device.

    ``keep_memory=False`` returns memory after each run instead of keeping it for the next. Raises EngineLoadError.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineLoadError(f"{model} needs onnxruntime, not installed here; run: pip install onnxruntime") from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning workers nearly double the CPU time where several sessions share cores (0.9 against 0.51
    # CPU-seconds per second of audio).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Patterns are kept for each input shape, and every utterance has its own: memory without bound.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = keep_memory
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    if device == "cuda" and CUDA not in available:
        raise EngineLoadError(
            f"device cuda must be one that onnxruntime can use, found only {', '.join(available)}; "
            "run: pip install onnxruntime-gpu, or set the pool's num_gpus to 0"
        )
    providers = [CUDA, "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(str(model), sess_options=options, providers=providers)
