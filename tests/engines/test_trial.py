"""Trials of libraries: a product on the CPU for real, and every way of failing to make one."""

from __future__ import annotations

import pytest

from actors.device import trial


@pytest.mark.parametrize("library", sorted(trial.LIBRARIES))
def test_a_library_computes_here(library: str) -> None:
    pytest.importorskip(library)
    assert trial.try_library(library, "cpu") is None


def test_what_a_library_says_is_passed_on() -> None:
    error = trial.try_library("no such library", "cpu")
    assert error == "KeyError: 'no such library'"


@pytest.mark.parametrize("product", [[0.0, 0.0], [1.0, float("nan")]])
def test_nonsense_is_no_product(product: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LIBRARIES", {"torch": lambda device: product})
    assert trial.main("torch", "cpu") == 1
    monkeypatch.setattr(trial, "LIBRARIES", {"torch": lambda device: [0.0, 1.0]})
    assert trial.main("torch", "cpu") == 0
