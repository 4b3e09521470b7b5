"""Gold breaks, as files of one JSON object a line, read for the benches.

Each has ``split`` (dev or test), ``src`` and ``tgt`` (words), ``src_breaks`` and ``gold`` (index of the
first word after each break; ``alt``: other accepted positions per break), ``dur`` (seconds of each source
segment, null where unknown).
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.types import Segment, Unit

VARIANTS = ("P", "N")
"""Punctuation kept; stripped, and all in lower case: or it tells where sentences were cut."""


@dataclass(frozen=True, kw_only=True)
class GoldUnit:
    """A unit, its translation, and where that is to be divided."""

    set_name: str
    """File and variant: spoken/P."""
    split: str
    unit: Unit
    has_durations: bool
    target_words: tuple[str, ...]
    accepted: tuple[tuple[int, ...], ...]
    """Per break, the words it may stand before."""

    @property
    def target(self) -> str:
        return " ".join(self.target_words)


def read_gold(folder: Path) -> list[GoldUnit]:
    units = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            units += [_unit(f"{path.stem}/{variant}", record, variant) for variant in VARIANTS]
    return units


def word_edges(words: Sequence[str]) -> list[int]:
    """Where each word begins in the text of them all, and where that ends."""
    return [0, *itertools.accumulate(len(word) + 1 for word in words[:-1]), len(" ".join(words))]


def _unit(set_name: str, record: dict[str, Any], variant: str) -> GoldUnit:
    source, target = (
        [_bare(word) for word in record[side]] if variant == "N" else record[side] for side in ("src", "tgt")
    )
    durations = record.get("dur")
    edges = [0, *record["src_breaks"], len(source)]
    texts = [" ".join(source[first:end]) for first, end in itertools.pairwise(edges)]
    times = [0.0, *itertools.accumulate(durations or [1.0] * len(texts))]
    alternatives = record.get("alt") or [[]] * len(record["gold"])
    return GoldUnit(
        set_name=set_name,
        split=record["split"],
        unit=Unit(
            id=record["id"],
            segments=tuple(map(_segment, texts, times, times[1:])),
            room_end_s=times[-1],
        ),
        has_durations=durations is not None,
        target_words=tuple(target),
        accepted=tuple((gold, *others) for gold, others in zip(record["gold"], alternatives, strict=True)),
    )


def _segment(text: str, start_s: float, end_s: float) -> Segment:
    return Segment(
        id=text,
        start_s=start_s,
        end_s=end_s,
        text=text,
        language="en",
        speaker="speaker0",
        words=(),
        mean_log_probability=0.0,
        no_speech_probability=0.0,
    )


def _bare(word: str) -> str:
    return re.sub(r"[^\w']", "", word).lower() or "x"
