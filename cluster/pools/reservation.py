"""Room for the first replica of each pool, reserved all at once: a Ray placement group, whose bundles pools take.

A group is placed as a whole or not at all, so that of several processes that start together at least one has all that
it needs. Ray removes it with the process that made it, and ends what runs in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.pools.needs import Need, largest_first

CREATED = "CREATED"
"""State of a group of which every bundle has its node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A placement group, and the need that each of its bundles is for. It can be sent to another process."""

    group: PlacementGroup
    needs: tuple[Need, ...]

    async def ready(self) -> None:
        """Wait until every bundle has its node."""
        await self.group.ready()

    async def is_whole(self) -> bool:
        """False while Ray looks for a new node for the bundles of a lost one."""
        table = await asyncio.to_thread(placement_group_table, self.group)
        return bool(table["state"] == CREATED)

    def remove(self) -> None:
        """Give everything back, and end what runs in it."""
        remove_placement_group(self.group)

    def index_of(self, name: str) -> int | None:
        return next((index for index, need in enumerate(self.needs) if need.name == name), None)

    def strategy(self, index: int) -> PlacementGroupSchedulingStrategy:
        """Ray's option of an actor that runs in this bundle."""
        return PlacementGroupSchedulingStrategy(self.group, index)


def reserve(needs: Sequence[Need]) -> Reservation | None:
    """Ask Ray for room for all needs, packed onto few nodes and cards; None if they need nothing that Ray counts."""
    # Ray gives shares of GPUs to cards in the order of the bundles: small ones first would leave splinters.
    needs = [need for need in largest_first(needs) if need.amounts()]
    if not needs or not ray.is_initialized():
        return None
    group = placement_group(
        [need.amounts() for need in needs],
        strategy="PACK",
        bundle_label_selector=[dict(need.labels) for need in needs],
    )
    return Reservation(group=group, needs=tuple(needs))


class Bundles:
    """Bundles of a reservation in the process that uses them: at most one for each pool, for its first replica.

    A bundle waits for a pool of its task. A pool keeps it while a dead replica is replaced; when it gives it up, any
    other pool that needs no more may have it.
    """

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation
        self._users: dict[int, str] = {}
        self._occupied: set[int] = set()
        self._spare: set[int] = set()
        self._changed = asyncio.Event()

    def take(self, pool: str, need: Need) -> int | None:
        """The bundle for a replica that is about to start; None if it must find room elsewhere."""
        index = next((index for index, user in self._users.items() if user == pool), None)
        if index is None:
            index = self._unused(need)
        if index is None or index in self._occupied:
            return None
        self._users[index] = pool
        self._occupied.add(index)
        return index

    async def take_when_free(self, pool: str, need: Need) -> int:
        while (index := self.take(pool, need)) is None:
            await self._changed.wait()
        return index

    def release(self, index: int) -> None:
        """The replica has ended; its pool may start another one there."""
        self._occupied.discard(index)
        self._notify()

    def give_up(self, index: int) -> None:
        """The replica has ended, and its pool needs the bundle no more."""
        self._users.pop(index, None)
        self._spare.add(index)
        self.release(index)

    def forget(self, pool: str) -> None:
        """The pool is closed."""
        for index in [index for index, user in self._users.items() if user == pool]:
            self.give_up(index)

    def _unused(self, need: Need) -> int | None:
        needs = self.reservation.needs
        free = [
            (own.task != need.task, own.size, index)
            for index, own in enumerate(needs)
            if index not in self._users and own.holds(need) and (own.task == need.task or index in self._spare)
        ]
        return min(free)[2] if free else None

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def actor_options(bundles: Bundles | None, index: int | None, labels: dict[str, str]) -> dict[str, Any]:
    """Ray's options for a place: a bundle, whose labels hold already, or any node with these labels."""
    if bundles is None or index is None:
        return {"label_selector": labels}
    return {"scheduling_strategy": bundles.reservation.strategy(index)}
