"""Ids of dubs: ULIDs, which sort by their time of creation. Names that clients choose."""

from __future__ import annotations

from ulid import ULID, PureRandomPolicy, ULIDGenerator

PREFIX = "dub_"
ID_PATTERN = r"^dub_[0-9a-z]{26}$"
CAST_PATTERN = r"^[A-Za-z0-9][\w.-]{0,63}$"

# By default, ids of the same millisecond count up, so that one could be guessed from another.
_generator = ULIDGenerator(policy=PureRandomPolicy())


def new_dub_id() -> str:
    return PREFIX + str(_generator.generate()).lower()


def made_s(dub_id: str) -> float:
    """The time of creation, in Unix time."""
    return ULID.from_str(dub_id.removeprefix(PREFIX)).timestamp
