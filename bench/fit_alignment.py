"""Fits the weights of `AlignConfig` to gold breaks: those that make the gold of the `dev` splits most probable.

    python bench/fit_alignment.py --gold DIR

Each division of a text has a probability in proportion to exp(−cost), and costs are linear in the weights
(a semi-Markov conditional random field: Sarawagi & Cohen, 2004). Talk-like units count fully, others less;
units cut at random places (`break_mt_comp`) not at all. Weights are held to the ones in `AlignConfig` by a
prior, since there are few units. Prints what to write there; links have no gold here and keep theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from actors.types import Candidate
from bench.gold import GoldUnit, read_gold, word_edges
from cluster.alignment.config import AlignConfig
from cluster.alignment.costs import build_terms
from cluster.alignment.inputs import AlignTask, Evidence
from cluster.alignment.search import Floats, Positions, log_probability, step_costs, windows
from cluster.alignment.tokens import token_spans, tokenise
from cluster.config.load import load_config
from cluster.pools.pool_set import PoolSet
from cluster.steps.align import Aligner, rooms_s

NAMES = [name for name in AlignConfig.model_fields if name.endswith("_weight") and name != "link_weight"]
IMPORTANCE = {"break_spoken_manual": 1.0, "break_human_punct": 0.4, "break_human_sent": 0.4}
PRIOR = 0.5
"""Half the inverse variance of a weight's logarithm around what stands in `AlignConfig`."""


@dataclass(frozen=True, kw_only=True)
class Example:
    importance: float
    positions: list[Positions]
    accepted: list[Positions]
    steps: list[npt.NDArray[np.float64]]
    """Per span float64 (num_weights, num_firsts, num_ends): what each weight is multiplied by."""
    is_empty: list[npt.NDArray[np.bool_]]

    def log_probability(self, weights: Floats) -> float:
        steps = [
            np.where(empty, np.inf, np.tensordot(weights, step, axes=1))
            for step, empty in zip(self.steps, self.is_empty, strict=True)
        ]
        return self.importance * log_probability(steps, self.positions, self.accepted)


def example(gold: GoldUnit, evidence: Evidence) -> Example:
    task = AlignTask(
        segments=tuple(segment.text for segment in gold.unit.segments),
        source=gold.unit.text,
        target=gold.target,
        language="pt",
        rooms_s=rooms_s(gold.unit) if gold.has_durations else None,
    )
    tokens = tokenise(gold.target)
    alone = [AlignConfig.model_validate({each: float(each == name) for each in NAMES}) for name in NAMES]
    terms = [build_terms(task, tokens, len(task.segments), evidence, config)[0] for config in alone]
    positions = windows(terms[0].expected_breaks, len(tokens), alone[0].window_tokens)
    by_weight = [step_costs(each, positions) for each in terms]
    spans = [np.stack([steps[span] for steps in by_weight]) for span in range(len(task.segments))]
    edges, starts = word_edges(gold.target_words), [first for first, _ in token_spans(gold.target)]
    return Example(
        importance=IMPORTANCE[gold.set_name.split("/")[0]] / 2,
        positions=positions,
        accepted=[np.searchsorted(starts, [edges[word] for word in accepted]) for accepted in gold.accepted],
        steps=[np.where(np.isinf(span), 0.0, span) for span in spans],
        is_empty=[np.isinf(span[0]) for span in spans],
    )


async def gather(units: Sequence[GoldUnit]) -> list[Evidence]:
    config = load_config("offline", ["ray.mode=inline", "store.url=none"])
    async with PoolSet(config) as pools:
        embedding = await pools.get("embedding", config.embedding)
        translation = await pools.get("translation", config.translation)
        aligner = Aligner(AlignConfig(segment_translations=True), config.embedding, embedding, translation, "pt")
        asked = (aligner.gather(unit.unit, [Candidate(text=unit.target, score=None)], 0.0) for unit in units)
        return [evidence for [evidence] in await asyncio.gather(*asked)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gold", type=Path, required=True)
    units = [
        unit
        for unit in read_gold(parser.parse_args().gold)
        if unit.split == "dev" and unit.set_name.split("/")[0] in IMPORTANCE
    ]
    evidence = asyncio.run(gather(units))
    # Both as where segments are translated on their own, and as where they are not.
    examples = [example(unit, found) for unit, found in zip(units, evidence, strict=True)]
    examples += [
        example(unit, dataclasses.replace(found, translations=None))
        for unit, found in zip(units, evidence, strict=True)
    ]
    before = np.log([getattr(AlignConfig(), name) for name in NAMES])

    def loss(logarithms: Floats) -> float:
        fitted = sum(each.log_probability(np.exp(logarithms)) for each in examples)
        return float(PRIOR * ((logarithms - before) ** 2).sum() - fitted)

    print(f"{len(examples)} units, loss {loss(before):.2f}")
    found = minimize(loss, before, method="L-BFGS-B", options={"maxiter": 25})
    print(f"loss {found.fun:.2f}")
    for name, weight in zip(NAMES, np.exp(found.x), strict=True):
        print(f"    {name}: {weight:.2f}")


if __name__ == "__main__":
    main()
