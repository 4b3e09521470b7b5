"""A batch without its drivers: what is written down of each item, and what follows if that cannot be done."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from actors.errors import ConfigError, MediaError
from cluster.batch import ledger, run
from cluster.batch.items import Item, jobs_of
from cluster.batch.ledger import ItemStatus
from cluster.batch.run import BatchSpec, run_batch
from cluster.batch.runner import ItemOutcome
from cluster.cli import batch_job, jobs, ray_jobs
from cluster.cli.options import run_app
from cluster.config.load import check_item_settings, load_config
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.pipeline import Job
from cluster.pools.stats import RoomWait
from cluster.storage.outputs import MANIFEST_NAME
from cluster.verdicts import video_verdict
from tests.unit.manifests import unchanged_manifest


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def spec(tmp_path: Path, out: Path) -> BatchSpec:
    items = tuple(Item(source=str(tmp_path / f"{name}.mp4"), to=("pt",), source_language="en") for name in "abc")
    return BatchSpec(
        items=items, out=str(out), config=load_config("offline", ["ray.mode=inline"]).model_dump(mode="json")
    )


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The items that were given to drivers, which find nothing to dub in them, or no folder for the results."""
    names: list[str] = []

    async def run_sharded(
        jobs: Sequence[Job],
        config: Config,
        num_drivers: int,
        on_end: Callable[[ItemStatus], None],
        on_start: Callable[[Job], None],
        on_waits: Callable[[Sequence[RoomWait]], None],
        is_wanted: Callable[[Job], bool],
    ) -> None:
        for seconds in (5.0, 6.0):
            text = f"waiting {seconds:g} s for a driver"
            on_waits([RoomWait(name="a driver", number=1, seconds=seconds, text=text)])
            await asyncio.to_thread(lambda: None)
        for each in filter(is_wanted, jobs):
            on_start(each)
            await asyncio.to_thread(names.append, each.source.stem)
            if each.out.is_file():
                on_end(ledger.failed(each, "no folder"))
                continue
            each.out.mkdir(exist_ok=True)
            (each.out / MANIFEST_NAME).write_text("{}")
            on_end(ledger.status_of(ItemOutcome(job=each, manifest=unchanged_manifest(), error=None)))

    monkeypatch.setattr(run, "run_sharded", run_sharded)
    return names


async def test_an_item_without_a_place_for_its_status_fails_alone(spec: BatchSpec, out: Path, given: list[str]) -> None:
    (out / "b").touch()
    summary = await run_batch(spec, spec.settings())
    assert given == ["a", "b", "c"]
    assert summary.states == {"failed": 1, "unchanged": 2}
    assert [(item.out[-1], item.error) for item in summary.items] == [("a", None), ("b", "no folder"), ("c", None)]
    assert ledger.BatchSummary.model_validate_json((out / "summary.json").read_bytes()) == summary
    assert ledger.read_status(str(out / "c")) == summary.items[2]


@pytest.mark.parametrize(("settings", "status"), [((), 0), (("quality.strict=true",), 3)])
def test_a_strict_batch_fails_by_its_verdicts(
    spec: BatchSpec, given: list[str], monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], status: int
) -> None:
    flagged = unchanged_manifest().model_copy(update={"verdict": video_verdict([[Flag.HEARD_WRONG], []], 0.25)})
    monkeypatch.setattr(sys.modules[__name__], "unchanged_manifest", lambda: flagged)
    config = load_config("offline", ["ray.mode=inline", *settings]).model_dump(mode="json")
    assert batch_job.run_spec(spec.model_copy(update={"config": config})) == status


def test_strictness_is_no_reason_to_dub_again(spec: BatchSpec) -> None:
    prints = {
        ledger.Fingerprints(config).of(jobs_of(spec.items, spec.out, config)[0])
        for config in (load_config("offline", settings) for settings in ((), ("quality.strict=true",)))
    }
    assert len(prints) == 1
    with pytest.raises(ValueError, match=r"quality\.strict must hold for all inputs"):
        check_item_settings({"quality": {"retry": True, "strict": True}})


@pytest.mark.parametrize(
    ("status", "code", "expected"), [("SUCCEEDED", 0, 0), ("FAILED", 1, 1), ("FAILED", 3, 3), ("STOPPED", None, 1)]
)
async def test_a_job_that_is_followed_ends_with_its_status(
    status: str, code: int | None, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def tail_job_logs(job: str) -> AsyncIterator[str]:
        yield f"{job} is done\n"

    details = SimpleNamespace(status=status, driver_exit_code=code)
    client = SimpleNamespace(tail_job_logs=tail_job_logs, get_job_info=lambda job: details)
    assert await ray_jobs.follow_job(client, "raydub-1") == expected  # type: ignore[arg-type]
    assert capsys.readouterr().out == "raydub-1 is done\n"


async def test_a_status_that_cannot_be_read_does_not_stand(spec: BatchSpec, out: Path, given: list[str]) -> None:
    await run_batch(spec, spec.settings())
    (out / "b" / "status.json").unlink()
    (out / "b" / "status.json").mkdir()
    given.clear()
    summary = await run_batch(spec, spec.settings())
    assert given == ["b"]
    assert (summary.num_kept, summary.states) == (2, {"unchanged": 3})


async def test_a_status_that_could_not_be_written_is_written_at_the_end(
    spec: BatchSpec, out: Path, given: list[str], monkeypatch: pytest.MonkeyPatch
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
    spec: BatchSpec,
    out: Path,
    given: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (out / "batch.json").write_text(spec.model_dump_json())
    (out / "summary.json").mkdir()
    monkeypatch.setattr(batch_job.logs, "set_up", lambda level: None)
    monkeypatch.setattr("sys.argv", ["job", str(out / "batch.json")])
    with pytest.raises(SystemExit) as ended:
        run_app(batch_job.app)
    assert ended.value.code == 1
    [*_, said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"raydub: the batch's summary must be written; {out}/summary.json must be writable: ")
    assert ledger.read_status(str(out / "c")) is not None


def test_what_cannot_be_known_of_an_item_is_shown_as_that(
    spec: BatchSpec, out: Path, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = out / "batch.json"
    place.write_text(spec.model_dump_json())
    asyncio.run(run_batch(spec.model_copy(update={"items": spec.items[:1]}), spec.settings()))
    (out / "b").touch()
    details = SimpleNamespace(status=SimpleNamespace(value="RUNNING"), metadata={"raydub_spec": str(place)})
    client = SimpleNamespace(get_job_info=lambda name: details)
    monkeypatch.setattr(ray_jobs, "connect", lambda address: client)
    shown = CliRunner().invoke(jobs.app, ["show", "raydub-1", "--json"], catch_exceptions=False)
    tree = json.loads(shown.stdout)
    assert tree["waiting"] == ["waiting 5 s for a driver"]
    assert "waiting 5 s for a driver" in CliRunner().invoke(jobs.app, ["show", "raydub-1"]).stdout
    summary = tree["summary"]
    assert summary["states"] == {"unchanged": 1, "unknown": 1, "waiting": 1}
    assert "b/status.json" in summary["items"][1]["error"]


async def test_a_batch_that_can_never_run_is_refused(spec: BatchSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise ConfigError("the cluster must have room for the batch: 5 CPU; the nodes have 4 CPU (2, 2)")

    monkeypatch.setattr(run, "run_sharded", refuse)
    with pytest.raises(ConfigError, match="the nodes have 4 CPU"):
        await run_batch(spec, spec.settings())
