"""A batch without its drivers: what is written down of each item, and what follows if that cannot be done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from actors.errors import MediaError
from cluster import cli_jobs, job, ledger
from cluster.cli_options import run_app
from cluster.config import Config, load_config
from cluster.items import Item
from cluster.job import Spec, run_batch
from cluster.ledger import ItemStatus
from cluster.outputs import MANIFEST_NAME
from cluster.pipeline import Job
from cluster.runner import Outcome
from tests.unit.manifests import unchanged_manifest


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def spec(tmp_path: Path, out: Path) -> Spec:
    items = tuple(Item(source=str(tmp_path / f"{name}.mp4"), to=("pt",), source_language="en") for name in "abc")
    return Spec(items=items, out=str(out), config=load_config("offline", ["ray.mode=inline"]).model_dump(mode="json"))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The items that were given to drivers, which find nothing to dub in them, or no folder for the results."""
    names: list[str] = []

    async def run_sharded(
        jobs: Sequence[Job],
        config: Config,
        num_drivers: int,
        on_outcome: Callable[[Outcome], None],
        on_start: Callable[[Job], None],
    ) -> None:
        for each in jobs:
            on_start(each)
            await asyncio.to_thread(names.append, each.source.stem)
            if each.out.is_file():
                on_outcome(Outcome(job=each, manifest=None, error="no folder"))
                continue
            each.out.mkdir(exist_ok=True)
            (each.out / MANIFEST_NAME).write_text("{}")
            on_outcome(Outcome(job=each, manifest=unchanged_manifest(), error=None))

    monkeypatch.setattr(job, "run_sharded", run_sharded)
    return names


async def test_an_item_without_a_place_for_its_status_fails_alone(spec: Spec, out: Path, given: list[str]) -> None:
    (out / "b").touch()
    summary = await run_batch(spec, spec.settings())
    assert given == ["a", "b", "c"]
    assert summary.states == {"failed": 1, "unchanged": 2}
    assert [(item.out[-1], item.error) for item in summary.items] == [("a", None), ("b", "no folder"), ("c", None)]
    assert ledger.Summary.model_validate_json((out / "summary.json").read_bytes()) == summary
    assert ledger.read_status(str(out / "c")) == summary.items[2]


async def test_a_status_that_cannot_be_read_does_not_stand(spec: Spec, out: Path, given: list[str]) -> None:
    await run_batch(spec, spec.settings())
    (out / "b" / "status.json").unlink()
    (out / "b" / "status.json").mkdir()
    given.clear()
    summary = await run_batch(spec, spec.settings())
    assert given == ["b"]
    assert (summary.num_kept, summary.states) == (2, {"unchanged": 3})


async def test_a_status_that_could_not_be_written_is_written_at_the_end(
    spec: Spec, out: Path, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, states = ledger.write_status, []

    def write_third(status: ItemStatus) -> None:
        if Path(status.out).name == "b":
            states.append(status.state)
            if len(states) < 3:
                raise MediaError("the bucket is away")
        write(status)

    monkeypatch.setattr(ledger, "write_status", write_third)
    summary = await run_batch(spec, spec.settings())
    assert states == ["running", "unchanged", "unchanged"]
    assert ledger.read_status(str(out / "b")) == summary.items[1]


def test_a_summary_that_cannot_be_written_ends_the_job_with_one_line(
    spec: Spec,
    out: Path,
    given: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (out / "batch.json").write_text(spec.model_dump_json())
    (out / "summary.json").mkdir()
    monkeypatch.setattr(job.logs, "set_up", lambda level: None)
    monkeypatch.setattr("sys.argv", ["job", str(out / "batch.json")])
    with pytest.raises(SystemExit) as ended:
        run_app(job.app)
    assert ended.value.code == 1
    [*_, said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"raydub: the batch's summary must be written; {out}/summary.json must be writable; ")
    assert ledger.read_status(str(out / "c")) is not None


def test_what_cannot_be_known_of_an_item_is_shown_as_that(
    spec: Spec, out: Path, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = out / "batch.json"
    place.write_text(spec.model_dump_json())
    asyncio.run(run_batch(spec.model_copy(update={"items": spec.items[:1]}), spec.settings()))
    (out / "b").touch()
    details = SimpleNamespace(status=SimpleNamespace(value="RUNNING"), metadata={"raydub_spec": str(place)})
    client = SimpleNamespace(get_job_info=lambda name: details)
    monkeypatch.setattr(cli_jobs, "_client", lambda address: client)
    shown = CliRunner().invoke(cli_jobs.jobs_app, ["show", "raydub-1", "--json"], catch_exceptions=False)
    summary = json.loads(shown.stdout)["summary"]
    assert summary["states"] == {"unchanged": 1, "unknown": 1, "waiting": 1}
    assert "b/status.json" in summary["items"][1]["error"]
