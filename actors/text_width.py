"""Widths of text in columns: East Asian wide characters take two (Unicode Standard Annex #11)."""

from __future__ import annotations

import unicodedata


def is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def num_wide(text: str) -> int:
    """Number of wide characters."""
    return sum(map(is_wide, text))
