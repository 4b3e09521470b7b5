"""A branch per target, and per arm where ways to dub are compared."""

from __future__ import annotations

from cluster.config.load import load_config
from cluster.steps.records import Arm, branches_of


def test_without_arms_a_branch_is_a_target_with_the_configuration_of_all() -> None:
    config = load_config()
    branches = branches_of(("pt", "en"), (), config)
    assert [(branch.name, branch.target, branch.arm) for branch in branches] == [("pt", "pt", None), ("en", "en", None)]
    assert all(branch.config is config for branch in branches)


def test_every_target_has_a_branch_by_every_arm() -> None:
    arms = [
        Arm(name=name, config=load_config(assignments=[f"fitting.max_rate={rate}"]))
        for name, rate in (("a", 1.3), ("b", 1.4))
    ]
    branches = branches_of(("pt", "en"), arms, load_config())
    assert [branch.name for branch in branches] == ["pt.a", "pt.b", "en.a", "en.b"]
    assert [branch.config.fitting.max_rate for branch in branches] == [1.3, 1.4, 1.3, 1.4]
