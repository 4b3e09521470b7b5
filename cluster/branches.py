"""What one analysis is dubbed into: a branch per target language, and per arm where ways to dub are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A way to dub that is compared with another on the same speech."""

    name: str
    """Short, and fit for a file's name."""
    config: Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One dub: what comes after the speech was heard and grouped."""

    name: str
    """Unique within a job, names its files: pt, or pt.a for an arm's."""
    target: str
    """BCP-47."""
    arm: str | None
    config: Config


def branches_of(targets: Sequence[str], arms: Sequence[Arm], config: Config) -> tuple[Branch, ...]:
    """Every target, by every arm; by ``config`` if there are none."""
    if not arms:
        return tuple(Branch(name=target, target=target, arm=None, config=config) for target in targets)
    return tuple(
        Branch(name=f"{target}.{arm.name}", target=target, arm=arm.name, config=arm.config)
        for target in targets
        for arm in arms
    )
