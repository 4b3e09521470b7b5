"""Prints of speakers' voices, by which a speaker is known again in another file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

Print: TypeAlias = tuple[float, ...]
"""Mean vector of a speaker's pieces, L2-normalised."""
PRINT_DIGITS = 5


def matched(heard: Mapping[str, Print], known: Mapping[str, Print], min_likeness: float) -> dict[str, str]:
    """Speaker heard → known name, of those that are alike enough; each known one at most once, the most alike first."""
    pairs = sorted(
        (
            (float(np.dot(own, other)), speaker, name)
            for speaker, own in heard.items()
            for name, other in known.items()
            if len(own) == len(other)  # a cast that somebody wrote may have prints of any length
        ),
        reverse=True,
    )
    found: dict[str, str] = {}
    for likeness, speaker, name in pairs:
        if likeness >= min_likeness and speaker not in found and name not in found.values():
            found[speaker] = name
    return found
