"""Bundles of a reservation: the pool that has each, and the pools that may have it next."""

from __future__ import annotations

import asyncio
from typing import Any

from cluster.pools.needs import Need
from cluster.pools.reservation import Bundles, Reservation, reserve


def bundles_of(*needs: Need) -> Bundles:
    group: Any = None
    return Bundles(Reservation(group=group, needs=needs))


def speech(cpus: float) -> Need:
    return Need(name="speech/x", cpus=cpus)


TRANSLATION = Need(name="translation/y", cpus=1)


def test_a_bundle_waits_for_a_pool_of_its_task_that_it_holds() -> None:
    bundles = bundles_of(Need(name="driver", cpus=1), speech(2), speech(1), TRANSLATION)
    assert bundles.take("a", speech(1)) == 2
    assert bundles.take("b", speech(1.5)) == 1
    assert bundles.take("c", speech(1)) is None
    assert bundles.take("d", TRANSLATION) == 3


def test_a_pool_has_one_bundle_and_keeps_it_for_the_next_replica() -> None:
    bundles = bundles_of(speech(1), speech(1))
    assert bundles.take("a", speech(1)) == 0
    assert bundles.take("a", speech(1)) is None
    bundles.release(0)
    assert bundles.take("b", speech(1)) == 1
    assert bundles.take("c", speech(1)) is None
    assert bundles.take("a", speech(1)) == 0


def test_a_bundle_that_is_given_up_is_for_any_pool() -> None:
    bundles = bundles_of(speech(1), TRANSLATION)
    assert bundles.take("a", speech(1)) == 0
    bundles.give_up(0)
    assert bundles.take("d", TRANSLATION) == 1
    assert bundles.take("e", TRANSLATION) == 0
    bundles.release(0)
    bundles.forget("e")
    assert bundles.take("a", speech(1)) == 0


async def test_one_that_waits_is_given_the_next_that_is_free() -> None:
    bundles = bundles_of(speech(1))
    bundles.take("a", speech(1))
    waiting = asyncio.create_task(bundles.take_when_free("b", speech(1)))
    await asyncio.sleep(0)
    bundles.release(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    bundles.forget("a")
    assert await waiting == 0


def test_without_ray_nothing_is_reserved() -> None:
    assert reserve([speech(1)]) is None
