"""Waits for room in the cluster: found out, told in words, and ended where no room will come."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from actors.errors import CapacityError
from cluster.config.schema import RayConfig
from cluster.pools.capacity import ClusterView, Growth, look_at_cluster
from cluster.pools.fleet import Placing
from cluster.pools.needs import DRIVER, EPSILON, Need, Node, describe, sum_of
from cluster.pools.pool import Pool
from cluster.pools.replicas import RayReplica
from cluster.pools.reservation import Reservation
from cluster.pools.stats import RoomWait

log = logging.getLogger(__name__)

TELL_AFTER_S = 4.0
"""Shorter waits are not told: most replicas have a process by then."""
INTERVAL_S = 1.0


class PlacementWatch:
    """Watches the replicas of one process's pools that have no place yet.

    Where ``is_patient``, replicas wait without end, and the owner ends all of them once ``is_stuck``.
    """

    def __init__(
        self,
        settings: RayConfig,
        pools: Callable[[], Sequence[Pool]],
        reservation: Reservation | None,
        *,
        is_patient: bool,
    ) -> None:
        self.waits: tuple[RoomWait, ...] = ()
        self.is_stuck = False
        """True once a pool has had no replica for too long, while no pool worked."""
        self._settings = settings
        self._pools = pools
        self._reservation = reservation
        self._is_patient = is_patient
        self._hopeful_s = -math.inf
        """When a pool worked last, or a node was being started."""
        self._log = WaitLog()

    async def step(self) -> None:
        """Look once, and tell the pools, the log and ``waits`` what is waited for."""
        now_s = asyncio.get_running_loop().time()
        late = {pool: [p for p in pool.placing() if now_s - p.since_s >= TELL_AFTER_S] for pool in self._pools()}
        has_late = any(late.values())
        view = await look_at_cluster() if has_late else None
        is_whole = True if self._reservation is None or view is None else await self._reservation.is_whole()
        late = {pool: [p for p in placings if p in pool.placing()] for pool, placings in late.items()}
        waits: list[RoomWait] = []
        starved: dict[Pool, float] = {}
        for pool, placings in late.items():
            need = Need.of(pool.name, pool.config)
            waiting = [] if view is None else [p for p in placings if _is_waiting(p, need, view, is_whole=is_whole)]
            wait = None if view is None or not waiting else _wait_of(need, waiting, view, now_s)
            pool.note_wait(wait)
            if wait is not None:
                waits.append(wait)
                if not pool.stats().num_serving and pool.stats().queue_items:
                    starved[pool] = waiting[0].since_s
        self.waits = tuple(waits)
        self._log.note(waits)
        if view is not None:
            self._set_limits(starved, late, view, now_s)
        elif not has_late:
            self.is_stuck = False

    def _set_limits(
        self, starved: Mapping[Pool, float], late: Mapping[Pool, Sequence[Placing]], view: ClusterView, now_s: float
    ) -> None:
        if view.growth is Growth.COMING or any(pool.stats().running_items for pool in late):
            self._hopeful_s = now_s
        since_s = max(self._hopeful_s, min(starved.values(), default=now_s))
        longest_s = max((pool.config.place_timeout_s for pool in starved), default=0.0)
        limit_s = min(longest_s, self._settings.full_timeout_s) if view.growth is Growth.FIXED else longest_s
        is_over = bool(starved) and now_s - since_s >= limit_s
        if self._is_patient:
            self.is_stuck = is_over
        for pool, placings in late.items():
            for placing in placings:
                if self._is_patient or view.growth is Growth.COMING:
                    placing.extend(pool.config.place_timeout_s)
                elif is_over and pool in starved:
                    placing.extend(0.0)


def _is_waiting(placing: Placing, need: Need, view: ClusterView, *, is_whole: bool) -> bool:
    """False for a replica whose process is being started."""
    if isinstance(placing.replica, RayReplica) and placing.replica.is_reserved:
        return not is_whole
    wanted = need.amounts()
    return any(
        asked.keys() == wanted.keys() and all(abs(asked[name] - wanted[name]) < EPSILON for name in wanted)
        for asked in view.unplaced
    )


def _wait_of(need: Need, waiting: Sequence[Placing], view: ClusterView, now_s: float) -> RoomWait:
    seconds = now_s - waiting[0].since_s
    what = f"{len(waiting)} replica{'s' if len(waiting) > 1 else ''} of {need.name}: {describe(need)}"
    text = f"waiting {seconds:.0f} s for {what}; free: {free_text([need], view.free)}"
    return RoomWait(name=need.name, number=len(waiting), seconds=seconds, text=text)


def free_text(needs: Iterable[Need], free: Sequence[Node]) -> str:
    """Free amounts of each node, as in "0.5, 0.5" CPUs, with other resources named: "2, 1 CPU; 0.5, 0 GPU"."""
    kinds = sorted({name for need in needs for name in need.amounts()} | {"CPU"})
    amounts = {"CPU": [node.cpus for node in free], "GPU": [sum(node.cards) for node in free]}
    shown = []
    for kind in kinds:
        each = amounts.get(kind) or [dict(node.resources).get(kind, 0.0) for node in free]
        text = ", ".join(f"{round(amount, 3):g}" for amount in sorted(each, reverse=True)[:16]) or "no node"
        shown.append(text if len(kinds) == 1 else f"{text} {kind}")
    return "; ".join(shown)


async def wait_for_room(
    reservation: Reservation,
    settings: RayConfig,
    limit_s: float,
    *,
    on_wait: Callable[[RoomWait | None], None] = lambda _: None,
    may_wait: Callable[[], bool] = lambda: False,
) -> None:
    """Wait until the reservation is met. Raises CapacityError if that takes too long.

    Time does not count while ``may_wait``, or while a node is being started.
    """
    clock = asyncio.get_running_loop().time
    ready = asyncio.ensure_future(reservation.ready())
    start_s = counted_from_s = clock()
    try:
        while True:
            await asyncio.wait((ready,), timeout=INTERVAL_S)
            if ready.done():
                return ready.result()
            seconds = clock() - start_s
            if seconds < min(TELL_AFTER_S, limit_s) or (view := await look_at_cluster()) is None:
                continue
            wait = _wait_of_all(reservation.needs, view, seconds)
            on_wait(wait)
            if may_wait() or view.growth is Growth.COMING:
                counted_from_s = clock()
            most_s = min(limit_s, settings.full_timeout_s) if view.growth is Growth.FIXED else limit_s
            if clock() - counted_from_s >= most_s:
                raise CapacityError(
                    f"the cluster must have room for all of it at the same time; {wait.text}; wait until other work "
                    f"ends, add a node, or lower num_cpus and num_gpus of drivers and pools"
                )
    finally:
        ready.cancel()
        on_wait(None)


def _wait_of_all(needs: Sequence[Need], view: ClusterView, seconds: float) -> RoomWait:
    what = " and ".join(
        [
            *(["a driver"] if any(need.name == DRIVER for need in needs) else []),
            *(["one replica of each pool"] if any(need.name != DRIVER for need in needs) else []),
        ]
    )
    text = f"waiting {seconds:.0f} s for {what}: {sum_of(needs)}; free: {free_text(needs, view.free)}"
    return RoomWait(name=what, number=1, seconds=seconds, text=text)


class WaitLog:
    """Logs each wait when it is new, then more and more rarely, and its end."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._due_s: dict[str, float] = {}

    def note(self, waits: Sequence[RoomWait]) -> None:
        for wait in waits:
            if wait.seconds >= self._due_s.get(wait.name, 0.0):
                log.warning("%s%s", self._prefix, wait.text)
                self._due_s[wait.name] = 2 * wait.seconds
        for name in self._due_s.keys() - {wait.name for wait in waits}:
            del self._due_s[name]
            log.info("%sno longer waiting for %s", self._prefix, name)
