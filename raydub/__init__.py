"""The Python API of raydub: dub video and audio, and follow a dub while it is made.

The names here are imported when they are first used, so that ``import raydub`` costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.errors import (
        CapacityError,
        ConfigError,
        DubbingError,
        EngineError,
        EngineLoadError,
        MediaError,
        ReplicaLostError,
    )
    from cluster.config.load import load_config
    from cluster.config.schema import Config
    from cluster.flags import Flag
    from cluster.manifest import Manifest, UtteranceRecord
    from cluster.verdicts import VideoVerdict
    from raydub.dubber import Dubber, InputOptions
    from raydub.events import (
        DubEvent,
        DubFinished,
        DubStarted,
        SegmentHeard,
        UtteranceSpoken,
        UtteranceTranslated,
    )
    from raydub.result import DubResult
    from raydub.sync import dub, redub

_HOMES = {
    "actors.errors": (
        *("CapacityError", "ConfigError", "DubbingError", "EngineError", "EngineLoadError", "MediaError"),
        "ReplicaLostError",
    ),
    "cluster.config.load": ("load_config",),
    "cluster.config.schema": ("Config",),
    "cluster.flags": ("Flag",),
    "cluster.manifest": ("Manifest", "UtteranceRecord"),
    "cluster.verdicts": ("VideoVerdict",),
    "raydub.dubber": ("Dubber", "InputOptions"),
    "raydub.events": (
        *("DubEvent", "DubFinished", "DubStarted", "SegmentHeard", "UtteranceSpoken", "UtteranceTranslated"),
    ),
    "raydub.result": ("DubResult",),
    "raydub.sync": ("dub", "redub"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CapacityError",
    "Config",
    "ConfigError",
    "DubEvent",
    "DubFinished",
    "DubResult",
    "DubStarted",
    "Dubber",
    "DubbingError",
    "EngineError",
    "EngineLoadError",
    "Flag",
    "InputOptions",
    "Manifest",
    "MediaError",
    "ReplicaLostError",
    "SegmentHeard",
    "UtteranceRecord",
    "UtteranceSpoken",
    "UtteranceTranslated",
    "VideoVerdict",
    "dub",
    "load_config",
    "redub",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("raydub")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
