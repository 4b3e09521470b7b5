"""Text as translators are trained on it."""

from __future__ import annotations

CLOSING = set(".!?…:;,。！？、，؟।\"'”’»)]}-—–")
"""A text that ends in one of these is left as it is."""


def as_sentence(text: str) -> str:
    """With a capital and a full stop: without, "banana" becomes "a banana"."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in CLOSING else ".")
