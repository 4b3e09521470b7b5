"""Where results go: whole or not at all, under names of any length, never over their own source."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.errors import ConfigError, MediaError
from cluster.batch import items
from cluster.cli import main
from cluster.config.load import load_config
from cluster.pools import ray_session
from cluster.storage import outputs
from cluster.streams import finish_before_cancel, in_own_thread


def dub(*arguments: object) -> None:
    """The command line as far as its jobs are made; a file that is not there is named later, when it is opened."""
    result = CliRunner().invoke(main.app, ["dub", *map(str, arguments), "--from", "en", "--to", "pt"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception


def test_a_result_is_published_whole_and_for_others_to_read(tmp_path: Path) -> None:
    out = tmp_path / "talk"
    with outputs.scratch_folder(out) as folder:
        (folder / "manifest.json").write_text("{}")
        outputs.publish(folder, out)
    assert [path.name for path in tmp_path.iterdir()] == ["talk"]
    (tmp_path / "plain").mkdir()
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    left, of_another = (outputs.scratch_folder(tmp_path / name) for name in ("talk", "other"))
    folders = left.__enter__(), of_another.__enter__()
    with outputs.scratch_folder(tmp_path / "talk"):
        assert all(folder.exists() for folder in folders)
    with outputs.scratch_folder(tmp_path / "talk", alone=True):
        assert [folder.exists() for folder in folders] == [False, True]


def test_the_results_of_a_batch_are_not_listed_for_each_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or 100,000 videos would list 100,000 folders each."""
    for number in range(20):
        (tmp_path / f"talk{number}").mkdir()
    seen, scandir = [], os.scandir

    def listed(folder: str | os.PathLike[str]) -> object:
        entries = list(scandir(folder))
        seen.extend(entry.name for entry in entries)
        return contextlib.nullcontext(iter(entries))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", listed)
        with outputs.scratch_folder(tmp_path / "talk", alone=True) as folder:
            assert folder.is_dir()
    assert not [name for name in seen if name.startswith("talk")]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with outputs.scratch_folder(tmp_path / "talk") as folder:
            (folder / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    out = tmp_path / ("n" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    with outputs.scratch_folder(out) as folder:
        outputs.publish(folder, out)
    assert out.is_dir()


def test_a_folder_in_the_place_of_a_file_is_an_error_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "talk"
    (out / "pt.srt").mkdir(parents=True)
    with outputs.scratch_folder(out) as folder:
        (folder / "pt.srt").write_text("")
        with pytest.raises(MediaError, match="choose another with --out"):
            outputs.publish(folder, out)


@pytest.mark.parametrize("name", ["...mp4", "..mp4", ".mp4", "talk.mp4", "-"])
def test_results_stay_inside_the_output_folder(name: str, tmp_path: Path) -> None:
    out = (tmp_path / "out" / items.folder_name(Path(name))).resolve()
    assert out.parent == (tmp_path / "out").resolve()


def test_an_input_is_not_replaced_by_its_own_result(tmp_path: Path) -> None:
    """Straight, and by way of links."""
    source = tmp_path / "out" / "talk" / "talk.mp4"
    source.parent.mkdir(parents=True)
    source.write_text("precious")
    (tmp_path / "talk.mp4").symlink_to(source)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "out")
    for path, out in ((source, tmp_path / "out"), (tmp_path / "talk.mp4", tmp_path / "elsewhere")):
        with pytest.raises(ConfigError, match="must not be in the folder of its results"):
            dub(path, "--out", out)
    assert source.read_text() == "precious"


async def test_writing_ends_before_its_cancellation_does() -> None:
    may_end, ended = threading.Event(), []

    def write() -> None:
        may_end.wait(30)
        ended.append(True)

    task = asyncio.create_task(finish_before_cancel(in_own_thread(write, "write")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


def test_a_cluster_that_does_not_answer_is_wrong_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError("nobody\nhere")

    monkeypatch.setattr("ray.init", refuse)
    config = load_config("offline", ["ray.mode=cluster", "ray.address=nowhere:1"])
    with pytest.raises(ConfigError, match="nowhere:1 must be reachable; nobody here;"), ray_session.ray_session(config):
        pass
