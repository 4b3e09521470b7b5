from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

import actors.translation
from actors.engine import Engine, EngineConfig, engine_names, make_engine
from actors.errors import ConfigError, EngineLoadError
from actors.types import TASKS, ItemFailure, Task


class Idle(Engine[str, str]):
    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def load(self) -> None:
        pass

    def run(self, batch: Sequence[str]) -> list[str | ItemFailure]:
        return list(batch)


@pytest.mark.parametrize("task", TASKS)
def test_engines_are_the_files_of_the_tasks_folder(task: Task) -> None:
    folder = Path(actors.translation.__path__[0]).parent / task
    assert engine_names(task) == sorted(path.stem for path in folder.glob("[!_]*.py"))


def test_a_file_dropped_into_the_folder_is_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parrot.py").write_text("from actors.translation.bergamot import Engine\n")
    (tmp_path / "_helper.py").write_text("")
    monkeypatch.setattr(actors.translation, "__path__", [*actors.translation.__path__, str(tmp_path)])
    assert "parrot" in engine_names("translation")
    assert "_helper" not in engine_names("translation")
    assert make_engine("translation", "parrot", {}).supports("en", "pt")


def test_an_unknown_engine_is_told_the_known_and_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        make_engine("translation", "bergamott", {})
    assert all(name in caught.value.message for name in engine_names("translation"))
    assert "did you mean 'bergamot'?" in caught.value.message


def test_a_name_with_a_dot_is_a_module_from_elsewhere() -> None:
    engine = make_engine("translation", "tests.standins.echo", {"load_error": True})
    assert type(engine).__module__ == "tests.standins.echo"
    with pytest.raises(ConfigError, match=r"translation\.options\.speed of engine tests\.standins\.echo"):
        make_engine("translation", "tests.standins.echo", {"speed": 1})


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("nowhere.at_all", "ModuleNotFoundError: No module named 'nowhere'"),
        ("tests.standins.nothing", "ModuleNotFoundError"),
        (".relative", "TypeError"),
        ("json.decoder", "must hold a class Engine derived from actors.engine.Engine; found None"),
    ],
)
def test_a_module_from_elsewhere_that_is_no_engine_is_an_error(module: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_engine("translation", module, {})
    assert f"translation.engine {module} must" in caught.value.message
    assert reason in caught.value.message


def test_an_unknown_option_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ConfigError) as caught:
        make_engine("transcription", "faster_whisper", {"beam": 3})
    assert "transcription.options.beam" in caught.value.message
    assert "beam_size" in caught.value.message


@pytest.mark.parametrize("options", [{"threads": 0}, {"device": "tpu"}, {"threads": "many"}])
def test_a_wrong_value_is_an_error_that_names_key_and_value(options: dict[str, object]) -> None:
    ((key, value),) = options.items()
    with pytest.raises(ConfigError) as caught:
        make_engine("translation", "bergamot", options)
    assert f"translation.options.{key}" in caught.value.message
    assert repr(value) in caught.value.message


def test_a_config_cannot_be_changed() -> None:
    config = EngineConfig()
    with pytest.raises(ValidationError):
        config.threads = 2


def test_missing_packages_are_answered_by_the_pip_command() -> None:
    class Wanting(Idle):
        packages: ClassVar[dict[str, str]] = {
            "json": "stdlib",
            "no_such_module_a": "package-a==1.0",
            "no_such_module_b": "package-b",
        }

    with pytest.raises(EngineLoadError) as caught:
        Wanting(EngineConfig()).check_packages()
    assert caught.value.message.endswith("run: pip install package-a==1.0 package-b")


def test_an_engine_without_needs_passes() -> None:
    Idle(EngineConfig()).check_packages()


def test_cost_is_one_unless_the_engine_says_otherwise() -> None:
    assert Idle(EngineConfig()).cost("anything") == 1.0
