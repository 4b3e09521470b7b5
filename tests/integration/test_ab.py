"""``raydub ab`` as a user meets it: one run on a talk with pauses inside its sentences, and its page in a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cluster import manifest
from cluster.ab.result import Comparison
from cluster.quality import Metric
from tests.command_line import raydub_here
from tests.media import AudioSpec, make_media, silence, speech

PHRASES = (
    ("So the water piles up", "in two gentle bulges, one facing the moon", "and one facing away."),
    ("Then the Earth turns underneath them,", "and every coast passes through both."),
)


def raydub_ab(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli.main", "ab", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Run:
    out: Path
    printed: dict[str, object]
    comparison: Comparison


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("ab")
    pieces = [piece for sentence in PHRASES for phrase in sentence for piece in (speech(phrase), silence(0.7))]
    talk = make_media(folder / "talk.m4a", audio=[AudioSpec(samples=np.concatenate([silence(0.4), *pieces]))])
    out = folder / "out"
    arms = ("--a", "hybrid", "--b", "length")
    # Without a store of its own, both arms still ask for each thing once.
    settings = ("ray.mode=inline", "store.url=none", "alignment.second={strategy: length, share: 1.0}")
    assigned = [part for setting in settings for part in ("--set", setting)]
    finished = raydub_ab(*arms, talk, "--from", "en", "--to", "pt", "--out", out, "--json", *assigned)
    assert finished.returncode == 0, finished.stderr
    return Run(
        out=out,
        printed=json.loads(finished.stdout.strip().splitlines()[-1]),
        comparison=Comparison.model_validate_json((out / "ab.json").read_text(encoding="utf-8")),
    )


def test_both_arms_dub_the_same_segments_in_one_file(compared: Run) -> None:
    result = manifest.read(compared.out / "talk" / "manifest.json")
    assert [(dub.language, dub.arm) for dub in result.dubs] == [("pt", "a"), ("pt", "b")]
    a, b = (dub.utterances for dub in result.dubs)
    assert [line.segment_id for line in a] == [line.segment_id for line in b]
    assert len(a) > len(result.units)
    assert {file.name for file in (compared.out / "talk").glob("*.srt")} == {"en.srt", "pt.a.srt", "pt.b.srt"}


def test_what_both_arms_ask_for_is_computed_once(compared: Run) -> None:
    result = manifest.read(compared.out / "talk" / "manifest.json")
    speech_pool = next(pool for pool in result.timings.pools if pool.name.startswith("speech/"))
    assert speech_pool.num_shared + speech_pool.num_hits > 0
    transcription = next(pool for pool in result.timings.pools if pool.name.startswith("transcription/"))
    assert transcription.num_items >= 1


def test_what_a_second_strategy_would_have_done_is_what_the_other_arm_did(compared: Run) -> None:
    a, b = (dub.utterances for dub in manifest.read(compared.out / "talk" / "manifest.json").dubs)
    both = [(line.second, other) for line, other in zip(a, b, strict=True) if line.alignment is not None]
    assert both
    for second, other in both:
        assert second is not None
        assert (second.method, second.text) == ("length", other.candidates[0].text)
    assert all(line.second is None for line in b)  # no vectors to score by


def test_every_line_is_scored_by_both_arms_and_the_result_is_told(compared: Run) -> None:
    found = compared.comparison
    assert found.primary is Metric.BACK_CHRF
    assert [arm.label for arm in found.arms] == ["hybrid", "length"]
    assert [setting.key for setting in found.settings] == ["alignment.strategy"]
    assert {Metric.BACK_CHRF, Metric.COSINE, Metric.WER} <= {metric.metric for metric in found.metrics}
    assert found.metrics[0].num_pairs + found.metrics[0].num_unscored == len(found.lines)
    printed = compared.printed["comparison"]
    assert isinstance(printed, dict)
    assert printed["verdict"] == found.verdict
    assert (found.resampled, found.winner) == ("block", None)  # two units cannot tell


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--a", "hybird", "--b", "length", "--to", "pt"], ["--a", "hybird", "hybrid"]),
        (["--a", "hybrid", "--b", "windows.max_s=20", "--to", "pt"], ["--b", "windows.max_s", "heard once"]),
        (["--a", "hybrid", "--b", "length", "--from", "en", "--to", "en"], ["--to", "--from"]),
        (["--a", "hybrid", "--b", "length", "--to", "pt", "--subtitles", "srt"], ["--subtitles", "--from"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str], named: list[str], tmp_path: Path) -> None:
    finished = raydub_here("ab", tmp_path / "talk.mp4", *arguments, "--out", tmp_path / "out")
    assert finished.returncode == 2
    [line] = finished.stderr.strip().splitlines()
    for name in named:
        assert name in line
    assert not (tmp_path / "out").exists()


def test_an_input_that_fails_is_named_and_nothing_is_compared(tmp_path: Path) -> None:
    arms = ("--a", "hybrid", "--b", "length")
    finished = raydub_ab(
        *arms, tmp_path / "no.mp4", "--to", "pt", "--out", tmp_path / "out", "--json", "--set", "ray.mode=inline"
    )
    assert finished.returncode == 1
    printed = json.loads(finished.stdout.strip().splitlines()[-1])
    assert printed["comparison"] is None
    assert "no such file" in printed["failed"][0]["error"]
    assert not (tmp_path / "out" / "ab.html").exists()


def test_the_page_opens_in_a_browser_and_plays_three_sounds_a_unit(compared: Run) -> None:
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser_path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(color_scheme="dark")
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((compared.out / "ab.html").as_uri())
        units = page.locator("article.unit").count()
        assert units == compared.comparison.num_differing_units
        assert page.locator("article.unit audio").count() == 3 * units
        assert page.locator("table.grid tr.primary").count() == 1
        lengths_s = page.evaluate(
            """() => Promise.all([...document.querySelectorAll("audio")].map((audio) => new Promise((resolve) => {
              audio.onloadedmetadata = () => resolve(audio.duration);
              audio.onerror = () => resolve(null);
              audio.preload = "metadata";
              audio.load();
            })))"""
        )
        assert all(length_s is not None and length_s > 0.5 for length_s in lengths_s)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()
    assert complaints == []
