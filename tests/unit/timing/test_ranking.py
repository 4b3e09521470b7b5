"""Ranking: meaning first, then the fit; and the pace learnt from what was spoken."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.timing.config import RankConfig
from cluster.timing.pace import MAX_FACTOR, Pace, PaceKey
from cluster.timing.ranking import Scored, Standing, penalty, rank

CONFIG = RankConfig()
VOICE = PaceKey(engine="xtts", voice="ana", language="pt")


def scored(cosine: float | None, natural_s: float | None) -> Scored:
    return Scored(cosine=cosine, natural_s=natural_s)


@pytest.mark.parametrize(
    ("natural_s", "expected"),
    [
        (2.0, 0.0),
        (1.6, 0.0),
        (2.0 * math.e, 8.0),
        (2.0 / 1.25 / math.e, 2.0),
        (2.2, 8 * math.log(1.1) ** 2),
    ],
)
def test_the_penalty_of_a_slot_of_two_seconds(natural_s: float, expected: float) -> None:
    assert penalty(natural_s, 2.0, CONFIG) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("candidates", "order", "far"),
    [
        # Near in meaning: the better fit. Too far: refused, however well it fits.
        ([scored(0.8, 3.0), scored(0.76, 2.0), scored(0.74, 2.0)], (1, 0), (2,)),
        # As good a fit: the nearer meaning, then the translator's order.
        ([scored(0.78, 2.0), scored(0.8, 1.9), scored(0.8, 1.8)], (1, 2, 0), ()),
        # One that cannot be planned is neither said nor compared with.
        ([scored(0.9, None), scored(0.8, 2.0)], (1,), ()),
        ([scored(0.9, None)], (), ()),
        # Without all cosines nothing protects the meaning but the translator's order.
        ([scored(None, 3.0), scored(0.8, 2.0)], (0, 1), ()),
        ([scored(None, 3.0), scored(None, 2.0)], (0, 1), ()),
    ],
)
def test_ranking(candidates: list[Scored], order: tuple[int, ...], far: tuple[int, ...]) -> None:
    ranking = rank(candidates, 2.0, CONFIG)
    assert (ranking.order, ranking.far) == (order, far)


def test_every_candidate_has_a_standing() -> None:
    ranking = rank([scored(0.8, 2.0), scored(0.81, 4.0), scored(0.2, 2.0), scored(0.8, None)], 2.0, CONFIG)
    assert [ranking.standing(index, 0) for index in range(4)] == [
        Standing.CHOSEN,
        Standing.WORSE_FIT,
        Standing.FAR,
        Standing.UNPLANNED,
    ]
    assert ranking.nearest == 1
    assert ranking.standing(0, 1) is Standing.LESS_NEAR


cosines = st.floats(-1, 1)
lengths = st.none() | st.floats(0, 60)
lists = st.lists(st.builds(scored, cosines, lengths), min_size=1, max_size=8)


@given(lists, st.floats(0, 30))
def test_a_ranking_holds_its_promises(candidates: list[Scored], slot_s: float) -> None:
    ranking = rank(candidates, slot_s, CONFIG)
    planned = [index for index, each in enumerate(candidates) if each.natural_s is not None]
    assert sorted((*ranking.order, *ranking.far)) == planned
    assert all(value is None or value >= 0 for value in ranking.penalties)
    if not planned:
        return
    best = max(candidates[index].cosine or 0 for index in planned)
    assert all((candidates[index].cosine or 0) >= best - CONFIG.cosine_tolerance - 1e-12 for index in ranking.order)
    assert all((candidates[index].cosine or 0) < best - CONFIG.cosine_tolerance for index in ranking.far)
    penalties = [ranking.penalties[index] or 0 for index in ranking.order]
    assert penalties == sorted(penalties)


@given(lists, st.floats(0, 30))
def test_only_ties_depend_on_the_order_given(candidates: list[Scored], slot_s: float) -> None:
    first = rank(candidates, slot_s, CONFIG)
    again = rank(candidates[::-1], slot_s, CONFIG)
    if first.order:
        a, b = candidates[first.order[0]], candidates[::-1][again.order[0]]
        assert (a.cosine, first.penalties[first.order[0]]) == (b.cosine, again.penalties[again.order[0]])


def test_a_voice_is_guessed_until_it_has_spoken() -> None:
    pace = Pace()
    assert pace.natural_s(VOICE, 3.0) == 3.0
    pace.observe(VOICE, 2.0, 2.5)
    assert pace.natural_s(VOICE, 4.0) == pytest.approx(5.0)
    assert pace.natural_s(PaceKey(engine="xtts", voice="rui", language="pt"), 4.0) == 4.0


@given(st.lists(st.tuples(st.floats(0.1, 60), st.floats(0.1, 60)), min_size=1, max_size=30))
def test_a_pace_lies_among_those_heard_and_within_bounds(lines: list[tuple[float, float]]) -> None:
    pace = Pace()
    for guessed_s, spoken_s in lines:
        pace.observe(VOICE, guessed_s, spoken_s)
    factors = [min(MAX_FACTOR, max(1 / MAX_FACTOR, spoken_s / guessed_s)) for guessed_s, spoken_s in lines]
    assert min(factors) - 1e-9 <= pace.natural_s(VOICE, 1.0) <= max(factors) + 1e-9


@given(st.floats(0.5, 2), st.lists(st.floats(0.5, 20), min_size=25, max_size=40))
def test_a_steady_voice_is_predicted(factor: float, guesses: list[float]) -> None:
    pace = Pace()
    pace.observe(VOICE, 1.0, 1.0)
    for guessed_s in guesses:
        pace.observe(VOICE, guessed_s, guessed_s * factor)
    assert pace.natural_s(VOICE, 3.0) == pytest.approx(3.0 * factor, rel=0.01)


@pytest.mark.parametrize(("guessed_s", "spoken_s"), [(0.0, 1.0), (1.0, 0.0), (math.inf, 1.0), (1.0, math.nan)])
def test_lengths_that_are_none_teach_nothing(guessed_s: float, spoken_s: float) -> None:
    pace = Pace()
    pace.observe(VOICE, guessed_s, spoken_s)
    assert pace.natural_s(VOICE, 3.0) == 3.0
