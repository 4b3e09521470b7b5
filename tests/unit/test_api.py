"""The Python API on stand-in engines, in this process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

import raydub
from cluster.config.schema import Config
from raydub.ray_sharing import ray_for
from tests.media import AudioSpec, VideoSpec, make_media, tone

SETTINGS = {
    "ray.mode": "inline",
    "store.url": "none",
    "quality.check": "none",
    "translation": {"engine": "tests.standins.translates", "num_candidates": 1},
    "speech.engine": "tests.standins.speaks",
    "alignment.strategy": "length",
}
CUES = "WEBVTT\n\n00:00.200 --> 00:01.800\nThe first line.\n\n00:02.200 --> 00:03.800\nThe second line.\n"
KINDS = [raydub.SegmentHeard, raydub.UtteranceTranslated, raydub.UtteranceSpoken]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "talk.mp4"
    make_media(path, audio=[AudioSpec(samples=tone(4.0))], video=[VideoSpec(duration_s=4.0, rate=5)])
    path.with_suffix(".vtt").write_text(CUES)
    return path


@pytest.fixture
def options(talk: Path, tmp_path: Path) -> raydub.InputOptions:
    return {"out": tmp_path / "out", "subtitles": talk.with_suffix(".vtt"), "source_language": "en"}


def config(**more: object) -> Config:
    return raydub.Dubber("base", settings={**SETTINGS, **more}).config


def test_importing_the_package_imports_nothing_that_takes_time() -> None:
    loaded = "import sys, raydub; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    finished = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    heavy = {"actors", "cluster", "serve", "numpy", "pydantic", "ray", "torch", "typer", "asyncio"}
    assert not heavy & set(finished.stdout.split())


def test_every_public_name_exists() -> None:
    for name in raydub.__all__:
        value = getattr(raydub, name)
        assert value.__doc__ or not value.__module__.startswith("raydub")
    assert set(raydub.__all__) <= set(dir(raydub))
    assert raydub.__version__
    with pytest.raises(AttributeError, match="dubb"):
        raydub.dubb  # noqa: B018


async def test_events_come_in_order_and_tell_what_the_manifest_has(talk: Path, options: raydub.InputOptions) -> None:
    async with raydub.Dubber(config()) as dubber:
        events = [event async for event in dubber.stream(talk, to=["pt", "es"], **options)]
    assert isinstance(events[0], raydub.DubStarted)
    assert (events[0].targets, round(events[0].duration_s)) == (("pt", "es"), 4)
    finished = events[-1]
    assert isinstance(finished, raydub.DubFinished)
    result = finished.result
    assert [type(event) for event in events[1:-1]].count(raydub.SegmentHeard) == len(result.manifest.segments) == 2
    for target in ("pt", "es"):
        translated = [e for e in events if isinstance(e, raydub.UtteranceTranslated) and e.target == target]
        spoken = [e for e in events if isinstance(e, raydub.UtteranceSpoken) and e.target == target]
        assert [e.text for e in translated] == [f"{target} The first line.", f"{target} The second line."]
        assert [(e.id, e.text, e.voice) for e in spoken] == [
            (line.id, line.text, line.voice) for line in result.utterances(target)
        ]
        for event in spoken:
            assert event.samples is not None
            assert event.sample_hz is not None
            assert len(event.samples) / event.sample_hz == pytest.approx(event.end_s - event.start_s)
    for line in ("pt:u0000", "es:u0001"):
        own = [type(event) for event in events if getattr(event, "id", None) == line]
        assert own == KINDS[1:]


async def test_a_result_names_files_that_exist(talk: Path, options: raydub.InputOptions, tmp_path: Path) -> None:
    async with raydub.Dubber(config()) as dubber:
        result = await dubber.dub(talk, to="pt, es", **options)
    assert (result.status, result.flags, result.source) == ("done", (), str(talk))
    assert result.media == tmp_path / "out" / "talk" / "talk.mp4"
    assert set(result.media_by_language) == set(result.subtitles) == {"pt", "es"}
    subtitles = [path for paths in result.subtitles.values() for path in paths]
    paths = [result.media, *result.media_by_language.values(), *subtitles, result.report, result.manifest_path]
    assert all(path.is_file() for path in paths)
    assert result.locate("report.html") == str(result.report)
    with pytest.raises(raydub.ConfigError, match="one of pt, es; found None"):
        result.utterances()


async def test_results_in_a_bucket_have_no_path(talk: Path, options: raydub.InputOptions) -> None:
    options["out"] = "memory://api-test"
    async with raydub.Dubber(config()) as dubber:
        result = await dubber.dub(talk, to="pt", **options)
    assert result.locate("report.html") == "memory://api-test/talk/report.html"
    with pytest.raises(raydub.ConfigError, match="use locate"):
        _ = result.media


async def test_inputs_share_the_pools(talk: Path, options: raydub.InputOptions) -> None:
    async with raydub.Dubber(config()) as dubber:
        results = await asyncio.gather(
            *(dubber.dub(talk, to="pt", name=f"talk{number}", **options) for number in range(3))
        )
        speech = [stats for stats in dubber.stats() if stats.name.startswith("speech")]
    assert [result.status for result in results] == ["done"] * 3
    assert len({result.out for result in results}) == 3
    [pool] = speech
    assert pool.num_items == 3 * 2 * 2  # a plan and a clip of each line
    assert dubber.stats() == []


async def test_one_bad_input_leaves_the_others_alone(talk: Path, options: raydub.InputOptions, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no media")
    async with raydub.Dubber(config()) as dubber:
        good, failed = await asyncio.gather(
            dubber.dub(talk, to="pt", **options), dubber.dub(bad, to="pt", **options), return_exceptions=True
        )
        with pytest.raises(raydub.MediaError, match=r"bad\.mp4"):
            async for _ in dubber.stream(bad, to="pt", **options):
                pass
    assert isinstance(good, raydub.DubResult)
    assert isinstance(failed, raydub.MediaError)


async def test_wrong_use_is_refused_before_any_work(talk: Path, options: raydub.InputOptions) -> None:
    closed = raydub.Dubber(config())
    with pytest.raises(raydub.ConfigError, match="must be entered"):
        await closed.dub(talk, to="pt", **options)
    with pytest.raises(raydub.ConfigError, match="did you mean 'fitting'"):
        raydub.Dubber(settings={"fiting.max_rate": 1.3})
    with pytest.raises(raydub.ConfigError, match="use load_config"):
        raydub.Dubber(config(), profile="speed")
    async with raydub.Dubber(config()) as dubber:
        with pytest.raises(raydub.ConfigError, match="BCP-47"):
            await dubber.dub(talk, to="portuguese language", **options)
        with pytest.raises(raydub.ConfigError, match=r"priority must be valid: .*found 1000"):
            await dubber.dub(talk, to="pt", priority=1000, **options)
        with pytest.raises(raydub.ConfigError, match="unknown"):
            await dubber.dub(talk, to="pt", settings={"mixing": {"duck": -18}}, **options)


async def test_leaving_the_stream_ends_the_dub_and_leaves_nothing(
    talk: Path, options: raydub.InputOptions, tmp_path: Path
) -> None:
    async with raydub.Dubber(config()) as dubber:
        async with aclosing(dubber.stream(talk, to="pt", **options)) as events:
            async for event in events:
                if isinstance(event, raydub.SegmentHeard):
                    break
        assert not list((tmp_path / "out").glob("*/*"))
        assert (await dubber.dub(talk, to="pt", **options)).status == "done"


async def test_a_dub_that_runs_when_its_dubber_closes_is_cancelled(talk: Path, options: raydub.InputOptions) -> None:
    async with raydub.Dubber(config()) as dubber:
        dubbing = asyncio.create_task(dubber.dub(talk, to="pt", **options))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await dubbing


async def test_the_synchronous_call_works_where_a_loop_runs_as_in_a_notebook(
    talk: Path, options: raydub.InputOptions
) -> None:
    assert raydub.dub(talk, to="pt", config=config(), **options).status == "done"


async def test_errors_reach_the_caller_of_the_synchronous_call(options: raydub.InputOptions, tmp_path: Path) -> None:
    with pytest.raises(raydub.DubbingError, match="nowhere"):
        raydub.dub(tmp_path / "nowhere.mp4", to="pt", config=config(), **options)


def test_a_dub_is_made_again_after_an_edit(talk: Path, options: raydub.InputOptions) -> None:
    first = raydub.dub(talk, to="pt", config=config(), **options)
    tree = json.loads(first.manifest_path.read_text())
    tree["dubs"][0]["utterances"][1]["text"] = "Outra frase."
    first.manifest_path.write_text(json.dumps(tree))
    again = raydub.redub(first.manifest_path, settings={"ray.mode": "inline", "store.url": "none"})
    assert [line.text for line in again.utterances()] == ["pt The first line.", "Outra frase."]
    assert again.out == first.out


async def test_ray_is_started_once_for_all_dubbers_and_stopped_after_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened = []

    @contextmanager
    def session(_: Config) -> Iterator[None]:
        happened.append("started")
        yield
        happened.append("stopped")

    monkeypatch.setattr("cluster.pools.ray_session.ray_session", session)
    with_ray = config(**{"ray.mode": "local"})
    async with ray_for(with_ray):
        async with ray_for(with_ray), ray_for(config()):
            assert happened == ["started"]
        assert happened == ["started"]
    assert happened == ["started", "stopped"]
    async with ray_for(with_ray):
        pass
    assert happened == ["started", "stopped"] * 2


async def test_ray_that_does_not_start_is_tried_again_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = True

    @contextmanager
    def session(_: Config) -> Iterator[None]:
        if fails:
            raise raydub.ConfigError("Ray must start on this machine")
        yield

    monkeypatch.setattr("cluster.pools.ray_session.ray_session", session)
    with_ray = config(**{"ray.mode": "local"})
    with pytest.raises(raydub.ConfigError, match="must start"):
        async with ray_for(with_ray):
            pass
    fails = False
    async with ray_for(with_ray):
        pass


async def test_the_callers_ray_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 1.0})
    monkeypatch.setattr("ray.shutdown", lambda: pytest.fail("the caller's Ray was shut down"))
    async with ray_for(config(**{"ray.mode": "auto"})):
        assert "start Ray with num_cpus=3" in caplog.text
