"""Every example runs as its first lines say, on stand-in engines or a short talk."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

import raydub
from cluster.demo.talk import make_talk
from tests.api.server import STANDINS, free_port, running
from tests.media import AudioSpec, VideoSpec, make_media, speech

ROOT = Path(__file__).parents[2]
ENGINES = {
    "transcription": {"engine": "tests.standins.hears"},
    "translation": {"engine": "tests.standins.translates", "num_candidates": 1},
    "speech": {"engine": "tests.standins.speaks"},
}
COMMON = {"store": {"url": "none"}, "quality": {"check": "none"}, "alignment": {"strategy": "length"}}


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples = speech("The tide comes in twice a day. Nobody has to ask it.")
    path = tmp_path_factory.mktemp("media") / "talk.mp4"
    return make_media(path, audio=[AudioSpec(samples=samples)], video=[VideoSpec(duration_s=len(samples) / 48_000)])


def config_file(folder: Path, mode: str, **more: object) -> Path:
    path = folder / f"{mode}.yaml"
    path.write_text(yaml.safe_dump({"ray": {"mode": mode}, **COMMON, **ENGINES, **more}))
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_a_batch_over_a_folder_names_the_bad_file_and_dubs_the_others(talk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    (folder / "one.mp4").write_bytes(talk.read_bytes())
    (folder / "two.mp4").write_bytes(b"no media")
    (folder / "notes.txt").write_text("not a video")
    config = config_file(tmp_path, "inline")
    finished = run(
        ROOT / "examples/batch_folder.py", folder, "--to", "pt,es", "--out", tmp_path / "out", "--config", config
    )
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout.startswith("one.mp4: done, ")
    assert finished.stderr.startswith("two.mp4: ")
    assert (tmp_path / "out" / "one" / "one.mp4").exists()


def test_inside_a_ray_program_events_feed_other_tasks(talk: Path, tmp_path: Path) -> None:
    finished = run(
        ROOT / "examples/inside_ray_job.py", talk, "--out", tmp_path, "--config", config_file(tmp_path, "auto")
    )
    assert finished.returncode == 0, finished.stderr
    lines = [line for line in finished.stdout.splitlines() if line.startswith("pt:")]
    assert len(lines) == len(json.loads((tmp_path / "talk" / "manifest.json").read_text())["dubs"][0]["utterances"])
    assert all(line.endswith("dBFS") for line in lines)


def dub_with_phrases(phrases: Path, talk: Path, out: Path) -> raydub.DubResult:
    cues = out / "talk.vtt"
    cues.write_text(
        "WEBVTT\n\n00:00.000 --> 00:02.000\nThe tide comes in twice a day.\n\n00:02.000 --> 00:04.000\nUnknown.\n"
    )
    settings = {
        **{"ray.mode": "inline", "store.url": "none", "quality.check": "none", "alignment.strategy": "length"},
        "translation": {"engine": "examples.own_engine", "options": {"file": str(phrases)}, "num_candidates": 1},
        "speech.engine": "tests.standins.speaks",
    }
    config = raydub.Dubber("base", settings=settings).config
    return raydub.dub(talk, to="pt", config=config, out=out, subtitles=cues, source_language="en")


def test_an_engine_of_ones_own_is_one_file(talk: Path, tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.tsv"
    phrases.write_text("The tide comes in twice a day\tA maré sobe duas vezes por dia.\n")
    first, second = dub_with_phrases(phrases, talk, tmp_path).utterances()
    assert first.text == "A maré sobe duas vezes por dia."
    assert second.flags == (raydub.Flag.TRANSLATION_FAILED,)
    assert "'Unknown.' is not in it" in (second.error or "")


def test_an_engine_of_ones_own_says_what_it_lacks(talk: Path, tmp_path: Path) -> None:
    with pytest.raises(raydub.EngineLoadError, match=r"set translation\.options\.file"):
        dub_with_phrases(tmp_path / "nowhere.tsv", talk, tmp_path)


@pytest.fixture
def ray_serve() -> Iterator[str]:
    """URL of Ray Serve's proxy."""
    import ray
    from ray import serve

    port = free_port()
    environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    try:
        serve.start(http_options={"port": port})
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()
    finally:
        ray.shutdown()


def test_a_serve_application_of_ones_own_streams_lines(talk: Path, tmp_path: Path, ray_serve: str) -> None:
    from ray import serve

    own = importlib.import_module("examples.own_serve_app")
    arguments = {"config": str(config_file(tmp_path, "auto")), "out": str(tmp_path / "out")}
    serve.run(own.app(arguments), route_prefix="/", blocking=False)
    answer = httpx.get(f"{ray_serve}/lines", params={"source": str(talk), "to": "pt"}, timeout=120)
    *lines, last = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == [f"pt:u{number:04d}" for number in range(len(lines))]
    assert lines
    assert last == {"status": "done", "media": str(tmp_path / "out" / "talk" / "talk.mp4")}
    missing = httpx.get(f"{ray_serve}/lines", params={"source": "nowhere.mp4", "to": "pt"}, timeout=60)
    assert "nowhere.mp4" in json.loads(missing.text)["error"]


def test_an_http_client_uploads_follows_and_downloads(talk: Path, tmp_path: Path) -> None:
    with running(tmp_path / "data", *STANDINS, config="base") as service:
        out = tmp_path / "dubbed.mp4"
        finished = run(ROOT / "examples/http_client.py", talk, "--out", out, "--url", service.url)
    assert finished.returncode == 0, finished.stderr
    *lines, last = finished.stdout.splitlines()
    assert last == f"done {out}"
    assert lines
    assert out.stat().st_size > 10_000


def test_three_lines_of_python_dub_a_real_talk(tmp_path: Path) -> None:
    talk = tmp_path / "talk.mp4"
    make_talk(talk, 12.0)
    settings = {"ray": {"mode": "inline"}, "store": {"url": "none"}, "quality": {"check": "none"}}
    config = raydub.Dubber(settings=settings).config
    result = raydub.dub(talk, to="pt", config=config, out=tmp_path / "out")
    assert result.status == "done"
    assert result.manifest.input.language == "en"
    assert result.utterances()
    assert all(line.text and line.voice == "jm_kumo" for line in result.utterances())
