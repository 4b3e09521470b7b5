"""Nodes that drivers and replicas fill, packed as a reservation is: largest first, onto the fullest card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.errors import ConfigError
from cluster.pools.needs import Need, Node, describe, largest_first


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShape:
    """A kind of machine, of which as many as needed are rented."""

    gpus: int = 8
    cpus: float = 128.0

    def empty(self) -> Node:
        return Node(cpus=self.cpus, cards=(1.0,) * self.gpus)

    def __str__(self) -> str:
        return f"{self.gpus} GPUs and {self.cpus:g} CPUs" if self.gpus else f"{self.cpus:g} CPUs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """The nodes that hold all needs."""

    num_nodes: int
    num_cards: int
    """GPUs of which at least a share is reserved."""


def pack(needs: Sequence[tuple[Need, int]], shape: NodeShape) -> Packed:
    """Nodes for so many processes of each need. Raises ConfigError if one does not fit an empty node."""
    nodes: list[Node] = []
    numbers = dict(needs)
    for need in largest_first(numbers):
        if shape.empty().with_placed(_plain(need)) is None:
            raise ConfigError(
                f"a node must hold each process; {need.name} needs {describe(need)}, and a node has {shape}; raise "
                "--node-gpus or --node-cpus"
            )
        at = 0  # nodes before it are full for this need, and stay so
        for _ in range(numbers[need]):
            while True:
                if at == len(nodes):
                    nodes.append(shape.empty())
                left = nodes[at].with_placed(_plain(need))
                if left is not None:
                    nodes[at] = left
                    break
                at += 1
    used = sum(card < 1.0 for node in nodes for card in node.cards)
    return Packed(num_nodes=len(nodes), num_cards=used)


def _plain(need: Need) -> Need:
    """The need without what only a real node can tell: labels, the type of its GPU, custom resources."""
    return Need(name=need.name, cpus=need.cpus, gpus=need.gpus)
