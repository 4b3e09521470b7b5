"""Needs of a replica or a driver of one node, and whether several needs fit nodes together: pure decisions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from actors.types import Task
from cluster.config.schema import PoolConfig, StageConfig

EPSILON = 1e-6
"""Shares such as 0.1 GPU do not add up exactly."""
MAX_TRIES = 50_000
"""Placements that are tried before needs are taken to fit: a wait is better than a wrong refusal."""
DRIVER = "driver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Resources that one process needs of one node."""

    name: str
    """``driver``, or task and engine, as in ``speech/kokoro``."""
    cpus: float = 0.0
    gpus: float = 0.0
    """Below 1 it is a share of one card; above, whole cards."""
    resources: tuple[tuple[str, float], ...] = ()
    accelerator_type: str | None = None
    labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, name: str, pool: PoolConfig) -> Need:
        """The need of one replica."""
        return cls(
            name=name,
            cpus=pool.num_cpus,
            gpus=pool.num_gpus,
            resources=tuple(sorted(pool.resources.items())),
            accelerator_type=pool.accelerator_type,
            labels=tuple(sorted(pool.node_labels.items())),
        )

    @property
    def task(self) -> str:
        return self.name.partition("/")[0]

    @property
    def size(self) -> tuple[float, float, float]:
        """Sort key: what is hard to place comes last."""
        return self.gpus, sum(amount for _, amount in self.resources), self.cpus

    def amounts(self) -> dict[str, float]:
        """The amounts by Ray's names of resources; empty if it needs none."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, **dict(self.resources)}
        if self.accelerator_type is not None:
            wanted[f"accelerator_type:{self.accelerator_type}"] = 0.001  # as Ray itself asks for it
        return {name: amount for name, amount in wanted.items() if amount > 0}

    def holds(self, other: Need) -> bool:
        """True if a place for this need is one for the other, too."""
        places = self.amounts()
        is_enough = all(places.get(name, 0.0) >= amount - EPSILON for name, amount in other.amounts().items())
        return is_enough and set(other.labels) <= set(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Resources of a node: those it has, or those that are free."""

    cpus: float = 0.0
    cards: tuple[float, ...] = ()
    """Share of each GPU."""
    resources: tuple[tuple[str, float], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    def with_placed(self, need: Need) -> Node | None:
        """The rest beside the need, on the fullest card that holds it; None if it does not fit."""
        left = dict(self.resources)
        for name, amount in need.amounts().items():
            if name in ("CPU", "GPU"):
                continue
            if left.get(name, 0.0) < amount - EPSILON:
                return None
            left[name] -= amount
        cards = _with_share(self.cards, need.gpus)
        if cards is None or self.cpus < need.cpus - EPSILON or not self._has_labels(need):
            return None
        return replace(self, cpus=self.cpus - need.cpus, cards=cards, resources=tuple(left.items()))

    def only(self, resources: Container[str], labels: Container[str]) -> Node:
        """The same without what nobody asks for, so that like nodes are equal."""
        return replace(
            self,
            cards=tuple(sorted(self.cards)),
            resources=tuple(item for item in self.resources if item[0] in resources),
            labels=tuple(item for item in self.labels if item[0] in labels),
        )

    def _has_labels(self, need: Need) -> bool:
        own = dict(self.labels)
        return all(_matches(own.get(name), wanted) for name, wanted in need.labels)


def _with_share(cards: Sequence[float], gpus: float) -> tuple[float, ...] | None:
    if gpus <= EPSILON:
        return tuple(cards)
    left = sorted(cards)  # the fullest first
    for share in (1.0,) * int(gpus) if gpus >= 1 else (gpus,):
        at = next((index for index, free in enumerate(left) if free >= share - EPSILON), None)
        if at is None:
            return None
        left[at] -= share
    return tuple(left)


def _matches(value: str | None, wanted: str) -> bool:
    """True if a label's value is as Ray's selector wants it: ``a``, ``!a``, ``in(a,b)``, ``!in(a,b)``."""
    is_negated = wanted.startswith("!")
    pattern = wanted.removeprefix("!")
    values = pattern[3:-1].split(",") if pattern.startswith("in(") and pattern.endswith(")") else [pattern]
    return (value in {each.strip() for each in values}) is not is_negated


def fits(needs: Sequence[Need], nodes: Sequence[Node]) -> bool:
    """True if the nodes hold all needs at once; shares of a GPU are not split between cards."""
    tries = itertools.count()
    asked = {name for need in needs for name in need.amounts()}
    labels = {name for need in needs for name, _ in need.labels}

    def place(waiting: Sequence[Need], free: tuple[Node, ...]) -> bool:
        if not waiting or next(tries) > MAX_TRIES:
            return True
        seen: set[Node] = set()
        for index, node in enumerate(free):
            left = None if node in seen else node.with_placed(waiting[0])
            seen.add(node)
            if left is not None and place(waiting[1:], (*free[:index], left, *free[index + 1 :])):
                return True
        return False

    return place(largest_first(needs), tuple(node.only(asked, labels) for node in nodes))


def largest_first(needs: Iterable[Need]) -> list[Need]:
    """The order in which most fits: Ray gives shares of GPUs to cards one by one, in the order they are listed."""
    return sorted(needs, key=lambda need: need.size, reverse=True)


def needs_of(stages: Iterable[tuple[Task, StageConfig]]) -> list[Need]:
    """The need of the first replica of each pool."""
    return [Need.of(f"{task}/{stage.engine}", stage.pool) for task, stage in stages]


def worst_of(several: Iterable[Sequence[Need]]) -> list[Need]:
    """Needs that hold those of each: of every task as many as one of them has, and as large."""
    by_task: dict[str, list[Need]] = {}
    for needs in several:
        for task, number in Counter(need.task for need in needs).items():
            wanted = largest_first(need for need in needs if need.task == task)
            known = by_task.setdefault(task, [])
            kept = [_larger(mine, other) for mine, other in zip(known, wanted, strict=False)]
            by_task[task] = [*kept, *(wanted if number > len(known) else known)[len(kept) :]]
    return [need for needs in by_task.values() for need in needs]


def _larger(one: Need, other: Need) -> Need:
    if one.holds(other):
        return one
    amounts = dict(one.resources)
    for name, amount in other.resources:
        amounts[name] = max(amount, amounts.get(name, 0.0))
    return replace(
        max(one, other, key=lambda need: need.size),
        cpus=max(one.cpus, other.cpus),
        gpus=max(one.gpus, other.gpus),
        resources=tuple(sorted(amounts.items())),
    )


def explain(needs: Sequence[Need], nodes: Sequence[Node]) -> str:
    """The sums of what is needed and of what the nodes have, with the settings that change them."""
    if (alone := next((need for need in largest_first(needs) if not fits([need], nodes)), None)) is not None:
        needed = f"{alone.name} needs {describe(alone)} on one node"
    else:
        needed = (
            f"a driver and one replica of each pool run at the same time, and need {sum_of(needs)}"
            if any(need.name == DRIVER for need in needs)
            else f"one replica of each pool runs at the same time, which needs {sum_of(needs)}"
        )
    settings = sorted({_setting_of(need.name) for need in needs})
    return (
        f"{needed}; the nodes have {describe_nodes(nodes, needs)}; lower num_cpus or num_gpus of "
        f"{', '.join(settings)}, or add a node"
    )


def _setting_of(name: str) -> str:
    return "drivers" if name == DRIVER else f"{name.partition('/')[0]}.pool"


def describe(need: Need) -> str:
    """In words, as in "1 CPU, 0.5 GPU of type A100"."""
    words = [f"{need.cpus:g} CPU"]
    if need.gpus:
        words.append(f"{need.gpus:g} GPU" + (f" of type {need.accelerator_type}" if need.accelerator_type else ""))
    words += [f"{amount:g} {name}" for name, amount in need.resources]
    words += [f"label {name}={value}" for name, value in need.labels]
    return ", ".join(words)


def sum_of(needs: Sequence[Need]) -> str:
    """As in "3.5 CPU (driver 1, speech/kokoro 1, …)"."""
    sums = []
    for kind in sorted({kind for need in needs for kind in need.amounts()}):
        if kind.startswith("accelerator_type:"):
            continue
        parts = [(need.name, need.amounts().get(kind, 0.0)) for need in needs]
        terms = ", ".join(f"{name} {amount:g}" for name, amount in parts if amount)
        sums.append(f"{round(sum(amount for _, amount in parts), 3):g} {kind} ({terms})")
    return " and ".join(sums)


def describe_nodes(nodes: Sequence[Node], needs: Sequence[Need]) -> str:
    """Amounts by node of the resources that are needed, as in "4 CPU (2, 2)"; GPUs by card."""
    if not nodes:
        return "nothing: no node is there"
    found = [_amounts_text("CPU", [node.cpus for node in nodes])]
    if any(need.gpus for need in needs):
        found.append(_amounts_text("GPU", [card for node in nodes for card in node.cards]))
    for kind in sorted({name for need in needs for name in need.amounts()} - {"CPU", "GPU"}):
        found.append(_amounts_text(kind, [dict(node.resources).get(kind, 0.0) for node in nodes]))
    return " and ".join(found)


def _amounts_text(kind: str, amounts: Sequence[float]) -> str:
    shown = ", ".join(f"{amount:g}" for amount in sorted((round(each, 3) for each in amounts), reverse=True)[:16])
    return f"{round(sum(amounts), 3):g} {kind}" + (f" ({shown})" if len(amounts) > 1 else "")
