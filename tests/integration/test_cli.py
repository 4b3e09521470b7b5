"""The command line as a user meets it: exit status, one-line errors, what is printed, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import yaml

from tests.command_line import raydub_here
from tests.media import AudioSpec, VideoSpec, make_media, music, silence, speech, truncate

INLINE = ("--set", "ray.mode=inline", "--set", "quality.check=none")


def raydub(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def one_line(stderr: str) -> str:
    [line] = stderr.strip().splitlines()
    return line


def results(finished: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    """The JSON object that ``--json`` prints last."""
    found = json.loads(finished.stdout.strip().splitlines()[-1])["results"]
    assert isinstance(found, list)
    return found


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "spoken.mp4"
    samples = speech("The tide comes in twice a day. Nobody has to ask it.")
    return make_media(path, audio=[AudioSpec(samples=samples)], video=[VideoSpec(duration_s=len(samples) / 48_000)])


@pytest.fixture(scope="module")
def long_talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than is dubbed before it is interrupted."""
    samples = np.tile(speech("The tide comes in twice a day. Nobody has to ask it.", channels=1), (60, 1))
    sound = AudioSpec(samples=samples, codec="pcm_s16le")
    picture = VideoSpec(duration_s=len(samples) / 48_000, rate=1)
    return make_media(tmp_path_factory.mktemp("long") / "talk.mkv", audio=[sound], video=[picture])


def test_config_show_prints_the_resolved_configuration() -> None:
    shown = raydub("config", "show", "--set", "fitting.max_rate=1.3")
    assert shown.returncode == 0
    tree = yaml.safe_load(shown.stdout)
    assert tree["fitting"]["max_rate"] == 1.3
    assert tree["translation"]["engine"] == "bergamot"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--to", "pt", "--set", "fiting.max_rate=1.3"], ["fiting", "did you mean 'fitting'"]),
        (["--to", "pt", "--set", "fitting.max_rate=fast"], ["fitting.max_rate", "fast"]),
        (["--to", "pt", "--set", "translation.engine=bergamo"], ["bergamo", "did you mean 'bergamot'"]),
        (["--to", "pt", "--set", "transcription.options.beams=2"], ["beams", "beam_size"]),
        (["--to", "pt", "--config", "nowhere.yaml"], ["nowhere.yaml", "offline"]),
        (["--to", "portuguese language"], ["portuguese language", "BCP-47"]),
        (["--from", "en", "--to", "de"], ["de"]),
        (["--from", "en", "--to", "en-GB"], ["en-GB", "--from"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str], named: list[str], tmp_path: Path) -> None:
    finished = raydub_here("dub", tmp_path / "talk.mp4", *arguments, "--out", tmp_path / "out")
    assert finished.returncode == 2
    line = one_line(finished.stderr)
    for name in named:
        assert name in line
    assert not (tmp_path / "out").exists()


def test_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    finished = raydub("dub", tmp_path / "a" / "talk.mp4", tmp_path / "b" / "talk.mp4", "--to", "pt")
    assert finished.returncode == 2
    assert "differ in name" in one_line(finished.stderr)


def test_each_bad_input_is_named_and_the_good_one_is_done(spoken: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no media")
    mute = make_media(tmp_path / "mute.mp4", video=[VideoSpec(duration_s=1.0)])
    missing, folder = tmp_path / "missing.mp4", tmp_path / "folder"
    folder.mkdir()
    finished = raydub(
        "dub", text, mute, missing, folder, spoken, "--to", "pt", "--out", tmp_path / "out", "--json", *INLINE
    )
    assert finished.returncode == 1
    by_input = {Path(str(result["input"])).name: result for result in results(finished)}
    assert "must have an audio stream" in str(by_input["mute.mp4"]["error"])
    assert "must be a media file" in str(by_input["text.mp4"]["error"])
    assert "no such file" in str(by_input["missing.mp4"]["error"])
    assert "must hold media" in str(by_input["folder"]["error"])
    assert by_input["spoken.mp4"]["status"] == "done"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["spoken"]


def test_nothing_to_dub_comes_out_unchanged_and_flagged(tmp_path: Path) -> None:
    inputs = {
        "silent.mp4": silence(4.0),
        "music.mkv": music(6.0),
        "blink.mp4": speech("Hello there.")[: round(0.3 * 48_000)],
    }
    for name, samples in inputs.items():
        video = [VideoSpec(duration_s=len(samples) / 48_000)]
        make_media(tmp_path / name, audio=[AudioSpec(samples=samples)], video=video)
    finished = raydub_here(
        "dub", *(tmp_path / name for name in inputs), "--to", "pt", "--out", tmp_path / "out", "--json", *INLINE
    )
    assert finished.returncode == 0, finished.stderr
    for result in results(finished):
        name = Path(str(result["input"])).name
        if name == "blink.mp4" and result["status"] != "unchanged":
            continue  # a third of a second of speech may be heard as a word, and dubbed
        assert result["status"] == "unchanged", name
        assert result["flags"] == ["no_speech"]
        assert (tmp_path / "out" / Path(name).stem / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_truncated_file_is_dubbed_as_far_as_it_goes(tmp_path: Path) -> None:
    samples = speech("The tide comes in twice a day. " * 3)
    whole = make_media(
        tmp_path / "cut.mkv", audio=[AudioSpec(samples=samples)], video=[VideoSpec(duration_s=len(samples) / 48_000)]
    )
    truncate(whole, 0.6)
    finished = raydub_here("dub", whole, "--to", "pt", "--out", tmp_path / "out", "--json", *INLINE)
    assert finished.returncode == 0, finished.stderr
    [result] = results(finished)
    assert result["status"] in ("done", "degraded")


def test_an_output_folder_that_cannot_be_written(spoken: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finished = raydub_here("dub", spoken, "--to", "pt", "--out", tmp_path / "file", "--json", *INLINE)
    assert finished.returncode == 1
    [result] = results(finished)
    assert "must be writable" in str(result["error"])
    assert "--out" in str(result["error"])


def test_a_detected_language_that_cannot_be_translated_is_an_error_of_that_input(spoken: Path, tmp_path: Path) -> None:
    """English speech, asked for in English: known only once it is heard."""
    finished = raydub_here("dub", spoken, "--to", "en", "--out", tmp_path / "out", "--json", *INLINE)
    assert finished.returncode == 1
    [result] = results(finished)
    assert "sounds like en" in str(result["error"])
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("how", "mode"), [(signal.SIGINT, "inline"), (signal.SIGTERM, "local"), (signal.SIGHUP, "inline")]
)
def test_interrupting_leaves_no_half_file_and_no_process(
    how: signal.Signals, mode: str, long_talk: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "cluster.cli.main",
        "dub",
        str(long_talk),
        "--to",
        "pt",
        "--out",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(
        [*command, "--set", f"ray.mode={mode}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background of a shell ignores SIGINT, by nohup SIGHUP, and its children would too.
        preexec_fn=lambda: signal.signal(how, signal.SIG_DFL),
    )
    deadline_s = time.monotonic() + 300
    while not list((tmp_path / "out").glob(".*")) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    time.sleep(3)
    process.send_signal(how)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "interrupted" in output
    assert not list((tmp_path / "out").iterdir())


def test_demo_makes_a_talk_and_dubs_it(tmp_path: Path) -> None:
    finished = raydub("demo", "--duration", 12, "--out", tmp_path, "--json")
    assert finished.returncode == 0, finished.stderr
    [result] = results(finished)
    folder = Path(str(result["out"]))
    with av.open(str(folder / "demo_talk.mp4")) as container:
        assert len(container.streams.audio) == 2
    assert os.path.getsize(folder / "report.html") > 10_000
