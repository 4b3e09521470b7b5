"""The data of the page ``/dashboard``: figures of the dispatcher over time, and quality against speed of finished dubs.

The figures are totals over all keys, as in ``/metrics``, without names. Finished dubs are those of the caller alone.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from scipy.stats import DegenerateDataWarning

from cluster.ab.scores import SCORINGS
from cluster.ab.statistics import CONFIDENCE, MIN_VIDEOS, make_clusters, spearman
from cluster.analysis.kpi import Targets, judge, of_families
from cluster.metrics.meters import families
from cluster.quality import Metric
from serve.api.dependencies import SECURITY, CallerDep, DispatcherDep
from serve.api.page import PoolAnswer
from serve.api.problems import documented
from serve.dispatch.history import PoolSample, Sample
from serve.jobs.finished import GOOD_LINES, MadeDub, finished_dubs

Measure = Literal["good_lines", "wer", "cer", "cosine", "back_chrf", "silence_coverage"]
"""Measures whose mean over the lines of a dub is better the higher it is, or the lower."""
MAX_KNOWN = 1000
"""Correlations that are kept, one for each key and measure."""


class PoolSeries(BaseModel):
    """One pool at each time; None where it did not exist yet, or for a share without replicas."""

    queue_items: list[int | None]
    oldest_wait_s: list[float | None]
    target: list[int | None]
    num_serving: list[int | None]
    busy_share: list[float | None]


class Series(BaseModel):
    """Figures over time; rates are since the time before."""

    time_s: list[float]
    """Unix times."""
    segments_per_s: list[float]
    realtime: list[float]
    """Seconds of media dubbed a second, all dubs and languages together."""
    lag_s: list[float]
    cost_per_hour: list[float]
    num_running: list[int]
    """Dubs that this dispatcher runs."""
    num_waiting: list[int]
    """Dubs that wait for any dispatcher."""
    pools: dict[str, PoolSeries]


class KpiAnswer(BaseModel):
    """A key figure since the dispatcher started, beside its target."""

    name: str
    bound: str
    target: float
    unit: str
    measured: float | None
    verdict: Literal["met", "missed", "not measured"]
    why: str
    """The reason why it was not measured."""


class DashboardAnswer(BaseModel):
    dispatcher: str
    """Random name of the dispatcher that answered. Others have other figures."""
    started_s: float
    sample_s: float
    """Interval of the samples."""
    max_samples: int
    currency: str
    is_priced: bool
    """False if engine time has no price: see the section `price` of the configuration."""
    series: Series
    kpis: list[KpiAnswer]
    pools: list[PoolAnswer]


class ComparedDub(BaseModel):
    id: str
    name: str
    duration_s: float
    realtime: float
    """Seconds of media dubbed per second of wall time."""
    quality: float


class Correlation(BaseModel):
    """Spearman's rank correlation of quality and speed, with its interval."""

    value: float
    low: float | None
    high: float | None
    confidence: float


class ComparisonAnswer(BaseModel):
    measure: str
    meaning: str
    more_is_better: bool
    measures: list[str]
    """The measures that any of the dubs has."""
    dubs: list[ComparedDub]
    """Your latest dubs that were made once."""
    correlation: Correlation | None
    why: str
    """The reason why there is no correlation."""


router = APIRouter(prefix="/v1/dashboard", tags=["service"], dependencies=SECURITY)


@router.get("", responses=documented())
async def figures(
    dispatcher: DispatcherDep,
    of: Annotated[str | None, Query(max_length=40, description="The dispatcher that answered before.")] = None,
    after: Annotated[float, Query(description="Only what is later than this Unix time, if it answers again.")] = 0.0,
) -> DashboardAnswer:
    """Throughput, pools, lag, cost and key figures of this dispatcher since it started, without names of dubs."""
    history, price = dispatcher.history, dispatcher.config.price
    samples = history.after(after) if of == history.name else list(history.samples)
    return DashboardAnswer(
        dispatcher=history.name,
        started_s=history.started_s,
        sample_s=history.settings.sample_s,
        max_samples=history.settings.max_samples,
        currency=price.currency,
        is_priced=bool(price.gpu_hour or price.cpu_hour),
        series=_series(samples),
        kpis=[
            KpiAnswer.model_validate(result, from_attributes=True)
            for result in judge(of_families(families()), Targets())
        ],
        pools=[PoolAnswer.model_validate(stats, from_attributes=True) for stats in dispatcher.pools.stats()],
    )


def _series(samples: Sequence[Sample]) -> Series:
    names = dict.fromkeys(name for sample in samples for name in sample.pools)
    columns = {name: [getattr(sample, name) for sample in samples] for name in Series.model_fields if name != "pools"}
    pools = {name: _pool_series([sample.pools.get(name) for sample in samples]) for name in names}
    return Series(**columns, pools=pools)


def _pool_series(samples: Sequence[PoolSample | None]) -> PoolSeries:
    return PoolSeries(**{name: [getattr(sample, name, None) for sample in samples] for name in PoolSeries.model_fields})


@router.get("/quality", responses=documented())
async def quality(
    request: Request,
    caller: CallerDep,
    dispatcher: DispatcherDep,
    measure: Measure = "good_lines",
) -> ComparisonAnswer:
    """Quality against speed of your finished dubs, with their rank correlation."""
    found = await finished_dubs(dispatcher.database, caller.owner, dispatcher.settings.dashboard.max_dubs)
    measured = [dub for dub in found if measure in dub.quality]
    correlations: Correlations = request.app.state.correlations
    correlation, why = await correlations.of(caller.owner, measure, measured)
    scoring = None if measure == GOOD_LINES else SCORINGS[Metric(measure)]
    return ComparisonAnswer(
        measure=measure,
        meaning="share of the lines that nobody need look at" if scoring is None else scoring.meaning,
        more_is_better=True if scoring is None else scoring.more_is_better,
        measures=[name for name in get_args(Measure) if any(name in dub.quality for dub in found)],
        dubs=[
            ComparedDub(
                id=dub.id, name=dub.name, duration_s=dub.duration_s, realtime=dub.realtime, quality=dub.quality[measure]
            )
            for dub in measured
        ],
        correlation=correlation,
        why=why,
    )


Found = tuple[Correlation | None, str]


@dataclass(slots=True)
class Correlations:
    """Computes correlations on a thread, and keeps the latest: a page asks for the same every few seconds."""

    _known: OrderedDict[tuple[str, str], tuple[tuple[str, ...], Found]] = field(default_factory=OrderedDict)
    """By owner and measure: the dubs, and what they gave."""

    async def of(self, owner: str, measure: str, dubs: Sequence[MadeDub]) -> Found:
        key, ids = (owner, measure), tuple(dub.id for dub in dubs)
        known = self._known.get(key)
        if known is None or known[0] != ids:
            speeds, qualities = [dub.realtime for dub in dubs], [dub.quality[measure] for dub in dubs]
            known = ids, await asyncio.to_thread(correlate, qualities, speeds)
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return known[1]


def correlate(qualities: Sequence[float], speeds: Sequence[float]) -> Found:
    """The rank correlation, or the reason why there is none."""
    number = len(qualities)
    if number < MIN_VIDEOS:
        return None, f"at least {MIN_VIDEOS} dubs that were made once must be finished; found {number}"
    clusters = make_clusters(range(number), [0] * number)  # each dub by itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # of resamples in which one of the two never varies
        found = spearman(np.asarray(qualities), np.asarray(speeds), clusters)
    if found is None:
        return None, "the quality or the speed of all dubs is the same"
    return Correlation(value=found.value, low=found.low, high=found.high, confidence=CONFIDENCE), ""
