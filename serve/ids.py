"""Ids of jobs: they sort by when they were made, and cannot be guessed."""

from __future__ import annotations

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_PATTERN = r"^dub_[0-9a-z]{26}$"


def made_s(dub_id: str) -> float:
    """When, in Unix time."""
    number = 0
    for digit in dub_id.removeprefix("dub_"):
        number = number * 32 + ALPHABET.index(digit)
    return (number >> 80) / 1000


def new_dub_id() -> str:
    """48 bits of milliseconds, 80 of chance, in Crockford's base 32 (as a ULID)."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    digits = ""
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits = ALPHABET[digit] + digits
    return f"dub_{digits}"
