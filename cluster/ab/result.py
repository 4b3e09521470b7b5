"""Records of ``ab.json``: the better arm, its margin and certainty, and the scores they were computed from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from actors.errors import ConfigError
from cluster import manifest
from cluster.ab.arms import ArmChoice, differences
from cluster.ab.scores import SCORINGS, PairedLine, cost_s_of, score_of
from cluster.ab.statistics import CONFIDENCE, Clusters, Difference, Estimate, compare, holm, make_clusters, spearman
from cluster.casting.voices import engines_of
from cluster.manifest import FileName, Manifest, Record, UtteranceRecord
from cluster.quality import Metric

SCHEMA_VERSION = 1
SCORE_DIGITS = 4
Side = Literal["a", "b"]


class SettingRecord(Record):
    key: str
    a: Any
    b: Any


class ArmRecord(Record):
    name: Side
    label: str
    held: tuple[str, ...]
    """Settings of its profile that were held to the base configuration's: the speech is heard once."""
    num_spoken: int
    num_flagged: int
    spoken_s: float


class EstimateRecord(Record):
    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: Estimate) -> EstimateRecord:
        return cls(value=_rounded(estimate.value), low=_rounded(estimate.low), high=_rounded(estimate.high))


class MetricRecord(Record):
    """One metric, a minus b."""

    metric: Metric
    meaning: str
    more_is_better: bool
    num_pairs: int
    num_differing: int
    """Lines of units on which the arms differ."""
    num_unscored: int
    """Lines left out, as one of the arms has no score for them."""
    mean_a: float
    mean_b: float
    all: EstimateRecord
    differing: EstimateRecord | None
    p: float
    p_holm: float | None
    """Corrected for the number of secondary metrics; None of the primary one."""
    favours: Side | None
    """The better arm by this metric, if that is clear."""


class CostRecord(Record):
    """Rank correlation of the primary score with the seconds of synthesised speech, over an arm's lines."""

    arm: Side
    rho: EstimateRecord | None
    """None if one of the two never varies."""


class LineRecord(Record):
    video: FileName
    unit_id: str
    utterance_id: str
    differs: bool
    a: dict[Metric, float]
    b: dict[Metric, float]
    cost_a_s: float
    cost_b_s: float


class Comparison(Record):
    schema_version: int = SCHEMA_VERSION
    winner: Side | None
    verdict: str
    """The result in one sentence."""
    primary: Metric
    arms: tuple[ArmRecord, ArmRecord]
    settings: tuple[SettingRecord, ...]
    """Settings that differ between the arms."""
    target: str
    videos: tuple[FileName, ...]
    num_units: int
    num_differing_units: int
    resampled: Literal["video", "block"]
    block_units: int | None
    num_clusters: int
    confidence: float
    num_resamples: int
    seed: int
    metrics: tuple[MetricRecord, ...]
    """The primary one first."""
    costs: tuple[CostRecord, CostRecord]
    lines: tuple[LineRecord, ...]
    config: dict[str, Any]
    """Configuration of arm a; ``settings`` has the differences of arm b."""
    versions: dict[str, str]


def compare_dubs(
    manifests: Sequence[Manifest],
    pairs: Sequence[PairedLine],
    choices: tuple[ArmChoice, ArmChoice],
    primary: Metric,
    *,
    seed: int = 0,
    num_resamples: int = 10_000,
) -> Comparison:
    """Compare videos dubbed by both arms into one language, by their lines in pairs.

    Raises ConfigError if the primary metric was not measured.
    """
    metrics = _compare_metrics(pairs, primary, seed, num_resamples)
    clusters = _clusters(pairs)
    units = {(pair.video, pair.unit): pair.differs for pair in pairs}
    names = tuple(manifest.input.name for manifest in manifests)
    return Comparison(
        winner=metrics[0].favours,
        verdict=_sentence(metrics[0], choices, sum(units.values())),
        primary=primary,
        arms=(_arm(choices[0], [pair.a for pair in pairs], "a"), _arm(choices[1], [pair.b for pair in pairs], "b")),
        settings=tuple(
            SettingRecord(key=setting.key, a=setting.a, b=setting.b)
            for setting in differences(choices[0].arm.config, choices[1].arm.config)
        ),
        target=manifests[0].dubs[0].language,
        videos=names,
        num_units=len(units),
        num_differing_units=sum(units.values()),
        resampled=clusters.by,
        block_units=clusters.block_units,
        num_clusters=clusters.num,
        confidence=CONFIDENCE,
        num_resamples=num_resamples,
        seed=seed,
        metrics=tuple(metrics),
        costs=(
            _cost([pair.a for pair in pairs], primary, clusters, "a"),
            _cost([pair.b for pair in pairs], primary, clusters, "b"),
        ),
        lines=tuple(_line(pair, names) for pair in pairs),
        config=choices[0].arm.config.model_dump(mode="json"),
        versions=manifest.versions(engine for choice in choices for engine in engines_of(choice.arm.config)),
    )


def _clusters(pairs: Sequence[PairedLine]) -> Clusters:
    return make_clusters([pair.video for pair in pairs], [pair.unit for pair in pairs])


def _compare_metrics(pairs: Sequence[PairedLine], primary: Metric, seed: int, num_resamples: int) -> list[MetricRecord]:
    """A record of each metric that has scores, the primary first; the others' p-values are corrected together."""
    scored: list[tuple[Metric, Difference, int]] = []
    for metric in (primary, *(metric for metric in SCORINGS if metric is not primary)):
        both = [(pair, score_of(pair.a, metric), score_of(pair.b, metric)) for pair in pairs]
        kept = [(pair, a, b) for pair, a, b in both if a is not None and b is not None]
        is_measured = any(line.value_of(metric) is not None for pair in pairs for line in (pair.a, pair.b))
        if kept and is_measured:
            difference = compare(
                np.array([a for _, a, _ in kept]),
                np.array([b for _, _, b in kept]),
                _clusters([pair for pair, _, _ in kept]),
                np.array([pair.differs for pair, _, _ in kept]),
                seed=seed,
                num_resamples=num_resamples,
            )
            scored.append((metric, difference, len(both) - len(kept)))
        elif metric is primary:
            raise ConfigError(
                f"--metric must be one that both arms were measured by; {primary} was measured on none of "
                f"{len(pairs)} lines; choose another, or see `quality` in the manifests for why"
            )
    corrected = [None, *holm([difference.p for _, difference, _ in scored[1:]])]
    return [
        _metric(metric, difference, num_unscored, p_holm)
        for (metric, difference, num_unscored), p_holm in zip(scored, corrected, strict=True)
    ]


def _metric(metric: Metric, difference: Difference, num_unscored: int, p_holm: float | None) -> MetricRecord:
    scoring = SCORINGS[metric]
    is_clear = difference.is_clear and (p_holm is None or p_holm <= 1 - CONFIDENCE)
    a_is_better = (difference.all.value > 0) == scoring.more_is_better
    return MetricRecord(
        metric=metric,
        meaning=scoring.meaning,
        more_is_better=scoring.more_is_better,
        num_pairs=difference.num_pairs,
        num_differing=difference.num_differing,
        num_unscored=num_unscored,
        mean_a=_rounded(difference.mean_a),
        mean_b=_rounded(difference.mean_b),
        all=EstimateRecord.of(difference.all),
        differing=None if difference.differing is None else EstimateRecord.of(difference.differing),
        p=_rounded(difference.p),
        p_holm=_rounded(p_holm),
        favours=("a" if a_is_better else "b") if is_clear else None,
    )


def _sentence(primary: MetricRecord, choices: tuple[ArmChoice, ArmChoice], num_differing_units: int) -> str:
    a, b = (f"{choice.arm.name} ({choice.label})" for choice in choices)
    if not num_differing_units:
        return f"no winner: {a} and {b} came out the same in every unit"
    found = primary.all
    interval = "no interval" if found.low is None else f"95 % interval {found.low:+.3g} to {found.high:+.3g}"
    numbers = (
        f"{primary.metric} {primary.mean_a:.3g} against {primary.mean_b:.3g}, difference {found.value:+.3g}, "
        f"{interval}, p {primary.p:.2g}; {num_differing_units} units differ"
    )
    if primary.favours is None:
        leaves_out_0 = found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
        doubt = "; names swapped at random do as much too often" if leaves_out_0 else ""
        return f"no winner between {a} and {b}: {numbers}{doubt}"
    better, worse = (a, b) if primary.favours == "a" else (b, a)
    return f"{better} is better than {worse}: {numbers}"


def _arm(choice: ArmChoice, lines: Sequence[UtteranceRecord], name: Side) -> ArmRecord:
    return ArmRecord(
        name=name,
        label=choice.label,
        held=choice.held,
        num_spoken=sum(bool(line.text) for line in lines),
        num_flagged=sum(line.needs_look for line in lines),
        spoken_s=round(sum(map(cost_s_of, lines)), 3),
    )


def _cost(lines: Sequence[UtteranceRecord], metric: Metric, clusters: Clusters, arm: Side) -> CostRecord:
    scores = [score_of(line, metric) for line in lines]
    kept = np.array([score is not None for score in scores])
    quality = np.array([score for score in scores if score is not None])
    cost = np.array([cost_s_of(line) for line, is_kept in zip(lines, kept, strict=True) if is_kept])
    sign = 1 if SCORINGS[metric].more_is_better else -1
    rho = spearman(sign * quality, cost, clusters.only(kept)) if kept.any() else None
    return CostRecord(arm=arm, rho=None if rho is None else EstimateRecord.of(rho))


def _line(pair: PairedLine, names: Sequence[str]) -> LineRecord:
    return LineRecord(
        video=names[pair.video],
        unit_id=pair.a.unit_id,
        utterance_id=pair.a.id,
        differs=pair.differs,
        a=_scores(pair.a),
        b=_scores(pair.b),
        cost_a_s=round(cost_s_of(pair.a), 3),
        cost_b_s=round(cost_s_of(pair.b), 3),
    )


def _scores(line: UtteranceRecord) -> dict[Metric, float]:
    scores = {metric: score_of(line, metric) for metric in SCORINGS}
    return {metric: _rounded(score) for metric, score in scores.items() if score is not None}


def _rounded(value: Any) -> Any:
    return None if value is None else round(float(value), SCORE_DIGITS)
