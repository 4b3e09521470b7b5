"""Counts the lines that fit their time, with one translation of each and with several to choose from.

    python bench/bench_fit.py [--minutes 5] [--candidates 4] [--talk FILE] [--json]

Makes a talk (or takes one, in English), and dubs it from English into Portuguese with the offline models
twice in one pass, on the same transcript: with one candidate per unit, and with several. Prints for both
the share of lines inside their time (slot and the pause behind it) at no more than 1.2 times the voice's
pace in all, the share that start within 0.3 s of their source, the largest stretch and overlap, and the
mean cosine of what is said with its source.

Bounds, for several candidates: 92 % of the lines fit, 90 % start in time, no stretch above 1.4, no overlap
with the same speaker above 50 ms; more lines fit than with one, at a mean cosine not below.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from actors.engine import make_engine
from actors.types import Embedding, EmbedRequest
from cluster.batch.runner import run
from cluster.config.load import load_config
from cluster.demo.talk import make_talk
from cluster.flags import Flag
from cluster.manifest import DubRecord, UtteranceRecord
from cluster.pipeline import Job
from cluster.pools.ray_session import ray_session
from cluster.steps.records import Arm

MAX_RATE = 1.2
MIN_FIT_SHARE = 0.92
MIN_ON_TIME_SHARE = 0.9
MAX_OFFSET_S = 0.3
MAX_STRETCH = 1.4
MAX_OVERLAP_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Row:
    num_candidates: int
    num_lines: int
    fit_share: float
    on_time_share: float
    max_rate: float
    max_stretch: float
    max_overlap_s: float
    num_flagged: int
    mean_cosine: float
    num_changed: int
    """Lines that say another candidate than the translator's first."""


def measure(talk: Path, folder: Path, num_candidates: int, mode: str) -> list[Row]:
    base = load_config("offline", [f"ray.mode={mode}", "quality.check=none"])
    arms = tuple(
        Arm(
            name=f"best{number}",
            config=base.model_copy(
                update={"translation": base.translation.model_copy(update={"num_candidates": number})}
            ),
        )
        for number in (1, num_candidates)
    )
    job = Job(source=talk, targets=("pt",), source_language="en", audio_track=None, out=folder / "out", arms=arms)
    with ray_session(base):
        [outcome] = asyncio.run(run([job], base, lambda progress: None, lambda outcome: None))
    assert outcome.manifest is not None, outcome.error
    by_arm = {dub.arm: dub for dub in outcome.manifest.dubs}
    return [row_of(by_arm[arm.name], arm.config.translation.num_candidates) for arm in arms]


def row_of(dub: DubRecord, num_candidates: int) -> Row:
    lines = dub.utterances
    end_s: dict[str, float] = {}
    overlaps_s = []
    for line in lines:
        if line.text:
            overlaps_s.append(max(0.0, end_s.get(line.speaker, 0.0) - line.start_s))
            end_s[line.speaker] = max(end_s.get(line.speaker, 0.0), line.end_s)
    spoken = [line for line in lines if line.text and line.rate is not None]
    return Row(
        num_candidates=num_candidates,
        num_lines=len(lines),
        fit_share=fit_share(lines),
        on_time_share=sum(abs(line.start_s - line.slot_start_s) <= MAX_OFFSET_S for line in spoken) / len(lines),
        max_rate=max(line.rate or 0.0 for line in spoken),
        max_stretch=max(line.stretch or 0.0 for line in spoken),
        max_overlap_s=max(overlaps_s),
        num_flagged=sum(bool(line.flags) for line in lines),
        mean_cosine=mean_cosine([(line.source_text, line.text) for line in spoken]),
        num_changed=sum(line.text != line.candidates[0].text for line in spoken),
    )


def fit_share(lines: Sequence[UtteranceRecord]) -> float:
    """Share of the lines that are whole and inside their time at no more than ``MAX_RATE``."""
    fitting = [
        line
        for line in lines
        if line.text
        and line.rate is not None
        and line.rate <= MAX_RATE + 1e-3
        and line.end_s <= line.room_end_s
        and Flag.CUT not in line.flags
    ]
    return len(fitting) / len(lines)


def mean_cosine(pairs: list[tuple[str, str]]) -> float:
    """Similarity of each line, as it is said, to its own segment; what is cut counts as it is heard."""
    engine = make_engine("embedding", "use_multilingual", {})
    engine.load()
    results = engine.run([EmbedRequest(text=text) for pair in pairs for text in pair])
    vectors = [result.vector for result in results if isinstance(result, Embedding)]
    assert len(vectors) == 2 * len(pairs), "every line must be embedded"
    return float(np.mean([a @ b for a, b in zip(vectors[::2], vectors[1::2], strict=True)]))


def holds(one: Row, several: Row) -> bool:
    return (
        several.fit_share >= MIN_FIT_SHARE
        and several.on_time_share >= MIN_ON_TIME_SHARE
        and several.max_stretch <= MAX_STRETCH
        and several.max_overlap_s <= MAX_OVERLAP_S
        and several.fit_share >= one.fit_share
        and several.mean_cosine >= one.mean_cosine - 1e-3
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--talk", type=Path, help="an English one, instead of the one that is made")
    parser.add_argument("--mode", default="local", choices=["local", "inline"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        talk = options.talk or Path(folder) / "talk.mp4"
        if options.talk is None:
            make_talk(talk, options.minutes * 60)
        rows = measure(talk, Path(folder), options.candidates, options.mode)
    for row in rows:
        print(
            f"{row.num_candidates} candidates: {row.fit_share:.1%} of {row.num_lines} lines fit at ≤ {MAX_RATE}×, "
            f"{row.on_time_share:.1%} start within {MAX_OFFSET_S} s; largest rate {row.max_rate:.2f}, stretch "
            f"{row.max_stretch:.2f}, overlap {row.max_overlap_s * 1000:.0f} ms; {row.num_flagged} flagged; mean cosine "
            f"{row.mean_cosine:.4f}; {row.num_changed} lines are not the translator's first",
            flush=True,
        )
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "shows": holds(*rows)}))


if __name__ == "__main__":
    main()
