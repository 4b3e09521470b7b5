from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.types import Span
from cluster.timing.config import FitConfig
from cluster.timing.fit import Fit, PlannedLength, Rung, choose, fit, room_s

CONFIG = FitConfig()


def planned(natural_s: float, shortest_s: float | None = None, exact: bool = True) -> PlannedLength:
    shortest_s = natural_s / 1.6 if shortest_s is None else shortest_s
    return PlannedLength(natural_s=natural_s, shortest_s=shortest_s, exact=exact)


def fitted(line: PlannedLength, *, slot_s: float, room: float, free_s: float | None = None) -> Fit:
    """A line whose slot has ``slot_s``, which may sound for ``room``; nobody sounds for ``free_s`` before it."""
    start_s = 100.0
    slot = Span(start_s=start_s, end_s=start_s + slot_s)
    free_from_s = None if free_s is None else start_s - free_s - CONFIG.gap_s
    return fit(line, slot, start_s + room + CONFIG.gap_s, CONFIG, free_from_s=free_from_s)


@pytest.mark.parametrize(
    ("line", "slot_s", "room", "rung", "rate"),
    [
        (planned(2.0), 2.5, 4.0, Rung.NATURAL, 1.0),
        (planned(0.5), 2.5, 4.0, Rung.NATURAL, 1.0),
        (planned(3.0), 2.5, 4.0, Rung.OVERFLOW, 1.0),
        (planned(4.4), 2.5, 4.0, Rung.FASTER, 1.1),
        (planned(5.2), 2.5, 4.0, Rung.FASTER, 1.3),
        (planned(5.2, shortest_s=4.8), 2.5, 4.0, Rung.STRETCHED, 1.3),
        (planned(5.2, exact=False), 2.5, 4.0, Rung.STRETCHED, 1.3),
        (planned(6.0), 2.5, 4.0, Rung.CUT, 1.5),
        (planned(8.0), 2.5, 0.1, Rung.NO_ROOM, 1.0),
        (planned(8.0), 2.5, -3.0, Rung.NO_ROOM, 1.0),
    ],
)
def test_the_ladder(line: PlannedLength, slot_s: float, room: float, rung: Rung, rate: float) -> None:
    result = fitted(line, slot_s=slot_s, room=room)
    assert result.rung == rung
    assert result.rate == pytest.approx(rate)


@pytest.mark.parametrize(
    ("natural_s", "free_s", "lead_s", "rate"),
    [
        (4.8, 1.0, 0.0, 1.2),  # hurried only: no reason to start early
        (4.92, 1.0, 0.1, 1.2),
        (4.92, 0.05, 0.05, 4.92 / 4.05),
        (4.92, 0.0, 0.0, 1.23),
        (4.92, -0.5, 0.0, 1.23),
        (4.92, None, 0.0, 1.23),
        (5.9, 3.0, CONFIG.max_lead_s, 5.9 / (4.0 + CONFIG.max_lead_s)),
        (3.9, 3.0, 0.0, 1.0),
    ],
)
def test_a_line_too_fast_starts_early_if_nobody_else_sounds(
    natural_s: float, free_s: float | None, lead_s: float, rate: float
) -> None:
    result = fitted(planned(natural_s), slot_s=2.5, room=4.0, free_s=free_s)
    assert result.lead_s == pytest.approx(lead_s)
    assert result.rate == pytest.approx(rate)


@pytest.mark.parametrize(
    ("candidates", "rooms_s", "chosen"),
    [
        ([[5.0], [3.0]], [4.0], 1),  # the first that fits at its own pace
        ([[3.5], [3.0]], [4.0], 0),  # though another is shorter
        ([[5.0], [4.5]], [4.0], 1),  # else the first that is only hurried
        ([[4.4], [4.2]], [4.0], 0),
        ([[8.0], [6.0], [7.0]], [4.0], 1),  # else the shortest
        ([[1.0, 3.0], [2.0, 2.0]], [2.0, 2.0], 1),  # every line of the unit counts
        ([[9.0]], [0.0], 0),
    ],
)
def test_the_choice_among_candidates(candidates: list[list[float]], rooms_s: list[float], chosen: int) -> None:
    lengths = [[planned(natural_s) for natural_s in lines] for lines in candidates]
    assert choose(lengths, rooms_s, CONFIG) == chosen


def test_what_is_stretched_is_spoken_at_its_floor_first() -> None:
    result = fitted(planned(5.2, shortest_s=4.8), slot_s=2.5, room=4.0)
    assert result.spoken_s == 4.8
    assert result.duration_s == pytest.approx(4.0)
    assert result.stretch == pytest.approx(1.2)


def test_config_rejects_rates_out_of_order() -> None:
    with pytest.raises(ValidationError, match="ordinary_rate must not exceed max_rate"):
        FitConfig(ordinary_rate=1.5, max_rate=1.2)


seconds = st.floats(0.05, 30)


@st.composite
def lengths(draw: st.DrawFn) -> PlannedLength:
    natural_s = draw(seconds)
    return planned(natural_s, natural_s / draw(st.floats(1.0, 2.0)), draw(st.booleans()))


@st.composite
def configs(draw: st.DrawFn) -> FitConfig:
    ordinary_rate = draw(st.floats(1.0, 1.5))
    return FitConfig(
        gap_s=draw(st.floats(0, 0.3)), ordinary_rate=ordinary_rate, max_rate=ordinary_rate + draw(st.floats(0, 0.5))
    )


ends = st.none() | st.floats(-10, 6000)


@given(lengths(), seconds, st.floats(-5, 30), st.floats(0, 5000), configs(), ends, st.floats(0, 1))
def test_every_fit_holds_its_promises(
    line: PlannedLength,
    slot_s: float,
    room: float,
    start_s: float,
    config: FitConfig,
    free_from_s: float | None,
    wanted_s: float,
) -> None:
    slot, room_end_s = Span(start_s=start_s, end_s=start_s + slot_s), start_s + room
    result = fit(line, slot, room_end_s, config, free_from_s=free_from_s, wanted_s=wanted_s)
    available_s = room_s(slot, room_end_s, config)
    assert (result.rung is Rung.NO_ROOM) == (available_s < config.min_room_s)
    if result.rung is Rung.NO_ROOM:
        assert result.duration_s == 0
        return
    # Overlaps neither what comes behind nor what comes before, and starts in time.
    assert start_s - result.lead_s + result.duration_s <= room_end_s - config.gap_s + 1e-6
    assert 0 <= result.lead_s <= config.max_lead_s
    if result.lead_s > 0:
        assert free_from_s is not None
        assert start_s - result.lead_s >= free_from_s + config.gap_s - 1e-6
    # Never slowed, and never faster than allowed unless it is to be cut.
    assert result.rate >= 1.0
    assert (result.rung is Rung.CUT) == (result.rate > config.max_rate)
    assert math.isclose(result.duration_s * result.rate, line.natural_s, rel_tol=1e-9)
    # Never spoken faster than the engine can.
    assert result.spoken_s >= (line.shortest_s if line.exact else line.natural_s) - 1e-9
    assert result.duration_s <= result.spoken_s + 1e-9
    assert (result.stretch > 1 + 1e-9) <= (result.rung in (Rung.STRETCHED, Rung.CUT))
    if result.rung in (Rung.NATURAL, Rung.OVERFLOW):
        assert result.duration_s == result.spoken_s == line.natural_s
        assert result.lead_s == 0
        assert (result.rung is Rung.NATURAL) == (line.natural_s <= slot.duration_s)


@given(lengths(), seconds, seconds, st.floats(0, 1))
def test_a_line_makes_way_for_the_next_only_while_it_stays_ordinary(
    line: PlannedLength, slot_s: float, room: float, wanted_s: float
) -> None:
    slot, end_s = Span(start_s=0, end_s=slot_s), room + CONFIG.gap_s
    alone, polite = fit(line, slot, end_s, CONFIG), fit(line, slot, end_s, CONFIG, wanted_s=wanted_s)
    assert alone.duration_s - wanted_s - 1e-9 <= polite.duration_s <= alone.duration_s + 1e-9
    if polite.duration_s < alone.duration_s - 1e-9:
        assert polite.rate <= CONFIG.ordinary_rate + 1e-9
        assert polite.duration_s >= room - wanted_s - 1e-6


SEVERITY = {
    Rung.NATURAL: 0,
    Rung.OVERFLOW: 0,
    Rung.FASTER: 1,
    Rung.STRETCHED: 1,
    Rung.CUT: 2,
    Rung.NO_ROOM: 3,
}


@given(lengths(), seconds, seconds, st.floats(0, 10), st.floats(0, 2), st.floats(0, 2))
def test_more_room_never_makes_it_worse(
    line: PlannedLength, slot_s: float, room: float, more_s: float, free_s: float, more_free_s: float
) -> None:
    tight = fitted(line, slot_s=slot_s, room=room, free_s=free_s)
    for loose in (
        fitted(line, slot_s=slot_s, room=room + more_s, free_s=free_s),
        fitted(line, slot_s=slot_s, room=room, free_s=free_s + more_free_s),
    ):
        assert SEVERITY[loose.rung] <= SEVERITY[tight.rung]
        if tight.rung is not Rung.NO_ROOM:
            assert loose.rate <= tight.rate + 1e-9


@given(st.lists(st.lists(lengths(), min_size=2, max_size=2), min_size=1, max_size=4), seconds, seconds)
def test_no_candidate_before_the_chosen_one_would_have_done(
    candidates: list[list[PlannedLength]], room_a: float, room_b: float
) -> None:
    def rate(lines: list[PlannedLength]) -> float:
        rooms = [max(room, CONFIG.min_room_s) for room in (room_a, room_b)]
        return max(line.natural_s / room for line, room in zip(lines, rooms, strict=True))

    chosen = choose(candidates, [room_a, room_b], CONFIG)
    limit = next((limit for limit in (1.0, CONFIG.ordinary_rate) if rate(candidates[chosen]) <= limit), None)
    if limit is None:
        assert rate(candidates[chosen]) == min(rate(lines) for lines in candidates)
    else:
        assert all(rate(lines) > limit for lines in candidates[:chosen])
        assert limit == 1.0 or all(rate(lines) > 1.0 for lines in candidates)
