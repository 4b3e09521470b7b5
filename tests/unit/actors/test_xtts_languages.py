"""Languages that XTTS can read only with further packages, which the lock file has."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from actors.speech.xtts import READING_PACKAGES, Engine, XttsConfig

LOCK = (Path(__file__).parents[3] / "requirements.lock").read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("module", READING_PACKAGES.values())
def test_the_lock_has_what_the_languages_need(module: str) -> None:
    assert f"\n{module}==" in LOCK


def test_a_language_that_cannot_be_read_is_refused_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    missing = set(READING_PACKAGES.values())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    engine = Engine(XttsConfig())
    assert not engine.supports("zh-CN")
    assert not engine.supports("ja")
    assert engine.supports("pt-BR")
    assert "coqui-tts[ja,zh]" in engine.describe_languages()


def test_all_languages_are_read_with_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    engine = Engine(XttsConfig())
    assert engine.supports("zh")
    assert engine.supports("ja")
    assert "pip install" not in engine.describe_languages()
