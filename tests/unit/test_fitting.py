from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.types import Span
from cluster.fitting import Fit, FitConfig, PlannedLength, Rung, fit, room_s

CONFIG = FitConfig()


def planned(natural_s: float, shortest_s: float | None = None, exact: bool = True) -> PlannedLength:
    shortest_s = natural_s / 1.6 if shortest_s is None else shortest_s
    return PlannedLength(natural_s=natural_s, shortest_s=shortest_s, exact=exact)


def fitted(*candidates: PlannedLength, slot_s: float, room: float, config: FitConfig = CONFIG) -> Fit:
    """A line whose slot has ``slot_s`` and which may sound for ``room``."""
    start_s = 100.0
    return fit(candidates, Span(start_s=start_s, end_s=start_s + slot_s), start_s + room + config.gap_s, config)


@pytest.mark.parametrize(
    ("candidates", "slot_s", "room", "rung", "candidate", "rate"),
    [
        ((planned(2.0),), 2.5, 4.0, Rung.NATURAL, 0, 1.0),
        ((planned(0.5),), 2.5, 4.0, Rung.NATURAL, 0, 1.0),
        ((planned(3.0),), 2.5, 4.0, Rung.OVERFLOW, 0, 1.0),
        ((planned(5.0), planned(3.0)), 2.5, 4.0, Rung.OVERFLOW, 1, 1.0),
        ((planned(5.0), planned(4.5)), 2.5, 4.0, Rung.FASTER, 1, 1.125),
        ((planned(4.4), planned(4.2)), 2.5, 4.0, Rung.FASTER, 0, 1.1),
        ((planned(5.2),), 2.5, 4.0, Rung.FASTER, 0, 1.3),
        ((planned(5.2, shortest_s=4.8),), 2.5, 4.0, Rung.STRETCHED, 0, 1.3),
        ((planned(5.2, exact=False),), 2.5, 4.0, Rung.STRETCHED, 0, 1.3),
        ((planned(8.0), planned(6.0)), 2.5, 4.0, Rung.CUT, 1, 1.5),
        ((planned(8.0),), 2.5, 0.1, Rung.NO_ROOM, 0, 1.0),
        ((planned(8.0),), 2.5, -3.0, Rung.NO_ROOM, 0, 1.0),
    ],
)
def test_the_ladder(
    candidates: tuple[PlannedLength, ...], slot_s: float, room: float, rung: Rung, candidate: int, rate: float
) -> None:
    result = fitted(*candidates, slot_s=slot_s, room=room)
    assert (result.rung, result.candidate) == (rung, candidate)
    assert result.rate == pytest.approx(rate)


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


@given(st.lists(lengths(), min_size=1, max_size=4), seconds, st.floats(-5, 30), st.floats(0, 5000), configs())
def test_every_fit_holds_its_promises(
    candidates: list[PlannedLength], slot_s: float, room: float, start_s: float, config: FitConfig
) -> None:
    slot, room_end_s = Span(start_s=start_s, end_s=start_s + slot_s), start_s + room
    result = fit(candidates, slot, room_end_s, config)
    chosen = candidates[result.candidate]
    available_s = room_s(slot, room_end_s, config)
    assert (result.rung is Rung.NO_ROOM) == (available_s < config.min_room_s)
    if result.rung is Rung.NO_ROOM:
        assert result.duration_s == 0
        return
    assert start_s + result.duration_s <= room_end_s - config.gap_s + 1e-6
    # Never slowed, and never faster than allowed unless it is to be cut.
    assert result.rate >= 1.0
    assert (result.rung is Rung.CUT) == (result.rate > config.max_rate)
    assert math.isclose(result.duration_s * result.rate, chosen.natural_s, rel_tol=1e-9)
    # Never spoken faster than the engine can.
    assert result.spoken_s >= (chosen.shortest_s if chosen.exact else chosen.natural_s) - 1e-9
    assert result.duration_s <= result.spoken_s + 1e-9
    assert (result.stretch > 1 + 1e-9) <= (result.rung in (Rung.STRETCHED, Rung.CUT))
    if result.rung in (Rung.NATURAL, Rung.OVERFLOW):
        assert result.duration_s == result.spoken_s == chosen.natural_s
        assert (result.rung is Rung.NATURAL) == (chosen.natural_s <= slot.duration_s)


@given(st.lists(lengths(), min_size=1, max_size=4), seconds, seconds)
def test_the_first_candidate_that_fits_is_chosen(candidates: list[PlannedLength], slot_s: float, room: float) -> None:
    result = fitted(*candidates, slot_s=slot_s, room=room)
    if result.rung in (Rung.NATURAL, Rung.OVERFLOW):
        before = candidates[: result.candidate]
        assert all(other.natural_s > room - 1e-6 for other in before)
    elif result.rung is not Rung.NO_ROOM:
        assert all(other.natural_s > room - 1e-6 for other in candidates)


SEVERITY = {
    Rung.NATURAL: 0,
    Rung.OVERFLOW: 0,
    Rung.FASTER: 1,
    Rung.STRETCHED: 1,
    Rung.CUT: 2,
    Rung.NO_ROOM: 3,
}


@given(st.lists(lengths(), min_size=1, max_size=4), seconds, seconds, st.floats(0, 10))
def test_more_room_never_makes_it_worse(
    candidates: list[PlannedLength], slot_s: float, room: float, more_s: float
) -> None:
    tight, loose = (fitted(*candidates, slot_s=slot_s, room=r) for r in (room, room + more_s))
    assert SEVERITY[loose.rung] <= SEVERITY[tight.rung]
    if len(candidates) == 1 and tight.rung is not Rung.NO_ROOM:
        assert loose.rate <= tight.rate + 1e-9
