"""Each command that the README and docs print is run as printed, or, where it cannot run here, checked and listed."""

from __future__ import annotations

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
import typer
import yaml

from serve.cli import app
from tests.api.server import STANDINS, Running, finished, running
from tests.command_line import raydub_here
from tests.media import AudioSpec, VideoSpec, make_media, speech

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
ANCHOR = re.compile(r"[^\w\- ]")
LANGUAGES = {"sh", "python", "text", "yaml", "json"}

ONLY_CHECKED = {
    "raydub serve": "it serves until interrupted; tests/api/test_ray_serve.py runs it",
    "raydub submit": "it needs a cluster; tests/faults/test_jobs.py runs it",
    "raydub jobs": "it needs a cluster; tests/faults/test_jobs.py runs it",
    "raydub models fetch": "it needs a network",
    "raydub voices preview": "it needs a voice that is fetched; tests/unit/casting/test_voices.py speaks one",
    "raydub models import-piper": "it needs a voice's file and torch; tests/engines/test_piper_import.py runs it",
    "raydub doctor --config gpu": "it exits with 1 where there is no GPU",
    "raydub plan": "it needs a manifest of real times; tests/unit/analysis/test_plan.py runs it",
    "raydub ab": "it needs several talks and a minute; tests/integration/test_ab.py runs it",
    "s3://": "it needs a bucket; tests/integration/test_places.py has one",
    "--speakers": "it fetches weights from a package index",
    "--cast": "it fetches weights from a package index",
    "/models/": "it needs weights that are not in the repository",
    "tts_models/": "it needs weights that are not in the repository",
    "node_labels": "it needs a node with that label",
}
"""Part of a raydub command → why its options are checked and it is not run."""

NOT_RUN = {
    "pip install": "it changes the environment; the extras are checked",
    "make": "its targets are checked; CI runs demo, lint and test",
    "ray": "it needs a cluster; its options are checked",
    "serve": "it needs a cluster; its options are checked",
    "kubectl": "it needs Kubernetes",
    "ffplay": "it needs a screen; the playlist it reads is fetched",
    "export": "it sets what is tried on clusters in tests/faults",
    ".venv-full/bin/": "CI runs these tools; that they are installed is checked",
    "python -m build": "it makes a wheel in an environment of its own",
    "python bench/": "benchmarks take minutes; that the script is there is checked",
}
"""Beginning of another command → why it is not run."""


class Command(NamedTuple):
    page: str
    text: str


def blocks(page: Path, language: str) -> list[str]:
    return [
        "\n".join(line.removeprefix(indent) for line in body.splitlines())
        for indent, found, body in FENCE.findall(page.read_text(encoding="utf-8"))
        if found == language
    ]


def commands(prefix: str = "") -> list[Command]:
    return [
        Command(page.name, line)
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip() and line.startswith(prefix)
    ]


def why_only_checked(text: str) -> str | None:
    if text.startswith("raydub serve keys"):
        return None
    return next((why for part, why in ONLY_CHECKED.items() if part in text), None)


RAYDUB = [command for command in commands() if re.match(r"(PYTHONPATH=\. )?raydub ", command.text)]
OTHERS = [command for command in commands() if command not in RAYDUB]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of, and configurations whose engines are stand-ins."""
    folder = tmp_path_factory.mktemp("scratch")
    samples = speech("The tide comes in twice a day.")
    picture = VideoSpec(duration_s=len(samples) / 48_000, rate=5)
    make_media(folder / "talk.mp4", audio=[AudioSpec(samples=samples)], video=[picture])
    make_media(folder / "call.wav", audio=[AudioSpec(samples=samples, codec="pcm_s16le")])
    make_media(folder / "talk.mkv", audio=[AudioSpec(samples=samples)], video=[picture])
    cue = "1\n00:00:00,100 --> 00:00:01,500\nThe tide comes in.\n"
    (folder / "en.srt").write_text(cue)
    (folder / "pt.vtt").write_text("WEBVTT\n\n" + cue.replace(",", "."))
    (folder / "phrases.tsv").write_text("The tide comes in.\tA maré sobe.\n")
    configs = folder / "stand_ins" / "configs"
    shutil.copytree(ROOT / "configs", configs, ignore=shutil.ignore_patterns("__pycache__"))
    tree: dict[str, Any] = {"ray": {"mode": "inline"}, "quality": {"check": "none"}}
    for setting in STANDINS:
        key, _, engine = setting.partition("=")
        tree[key.removesuffix(".engine")] = {"engine": engine}
    (configs / "offline.yaml").write_text(yaml.safe_dump(tree))
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.fixture
def at_scratch(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(scratch)
    monkeypatch.syspath_prepend(str(scratch / "stand_ins"))
    monkeypatch.delitem(sys.modules, "configs", raising=False)
    monkeypatch.setenv("RAYDUB_STORE", str(scratch / "store"))
    monkeypatch.setenv("XDG_DATA_HOME", str(scratch / "data"))
    monkeypatch.setenv("RAYDUB_WEBHOOK_SECRET", "of this test")
    yield scratch
    sys.modules.pop("configs", None)  # of the scratch folder: later tests read the project's


def arguments_of(text: str) -> list[str]:
    """As the shell would pass them, patterns and all."""
    words = shlex.split(text.removeprefix("PYTHONPATH=. "), comments=True)[1:]
    return [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else []) or [word]]


def check_options(command: Any, arguments: Sequence[str]) -> None:
    """Fails if a command, option or value is unknown; runs nothing."""
    context = command.make_context(command.name, list(arguments), resilient_parsing=False)
    while getattr(context.command, "commands", None) and context._protected_args:
        name, found, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = found.make_context(name, rest, parent=context)


def test_every_block_has_a_language() -> None:
    for page in PAGES:
        found = {language for _, language, _ in FENCE.findall(page.read_text(encoding="utf-8"))}
        assert found <= LANGUAGES, page.name


@pytest.mark.parametrize("command", RAYDUB, ids=lambda command: command.text[:70])
def test_a_raydub_command_runs_as_printed(command: Command, at_scratch: Path) -> None:
    text = command.text
    if why_only_checked(text) is not None:
        check_options(typer.main.get_command(app), arguments_of(text))
        return
    if "videos/" in text:
        (at_scratch / "videos").mkdir(exist_ok=True)
    if text.endswith(" ID"):
        [listed] = raydub_here("serve", "keys", "list").stdout.splitlines()
        text = text.replace(" ID", f" {listed.split()[0]}")
    if "--from-manifest" in text:
        raydub_here("dub", "talk.mp4", "--to", "pt")
        # The machine's own settings are not in a manifest: without this one Ray would be started.
        text = text.replace("pt:u0001", "pt:u0000") + " --set ray.mode=inline"
    done = raydub_here(*arguments_of(text))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", OTHERS, ids=lambda command: command.text[:70])
def test_another_command_is_known(command: Command) -> None:
    words = shlex.split(command.text, comments=True)
    if command.text.startswith("curl"):
        return  # run below, in their order, against a service
    assert any(command.text.startswith(begin) for begin in NOT_RUN), command.text
    match words:
        case ["pip", "install", "-c", lock, what]:
            assert (ROOT / lock).exists()
            extras = re.findall(r"[\w-]+", what.removeprefix("."))
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert set(extras) <= set(project["optional-dependencies"])
        case ["make", target]:
            subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
        case ["ray", *arguments]:
            from ray.scripts.scripts import cli

            check_options(cli, arguments)
        case ["serve", *arguments]:
            from ray.serve.scripts import cli

            check_options(cli, arguments)
        case ["python", script, *_] if script.startswith("bench/"):
            assert (ROOT / script).exists()
        case [tool, *arguments] if tool.startswith(".venv-full/bin/"):
            assert (Path(sys.executable).parent / Path(tool).name).exists()
            assert all((ROOT / word).exists() for word in arguments if word.startswith("tests/"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    engines = (*STANDINS, "embedding.engine=use_multilingual", "quality.check=none")
    with running(tmp_path_factory.mktemp("data"), *engines, config="base") as service:
        yield service


def test_curl_commands_run_as_printed(service: Running, at_scratch: Path) -> None:
    """Those of one page in their order: a dub's id is that of the dub made before."""
    texts = [command.text for command in commands("curl")]
    assert texts
    made = ""
    for text in texts:
        text = text.replace("localhost:8000", service.url).replace("DUB_ID", made)
        done = subprocess.run(
            ["bash", "-c", text.replace("curl ", "curl --fail-with-body --silent --show-error ", 1)],
            cwd=at_scratch,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        created = re.search(rb'"id":\s*"([^"]+)"', done.stdout)
        if created and not made:
            made = created[1].decode()
            with service.client() as client:
                assert finished(client, made)["state"] == "done"
    for name in ("dubbed.mp4", "pt.mp3", "bom.wav"):
        assert (at_scratch / name).stat().st_size > 1000
    with service.client() as client:
        client.get(f"/v1/dubs/{made}/hls/pt/master.m3u8").raise_for_status()


@pytest.mark.parametrize(
    ("page", "block"),
    [(page.name, block) for page in PAGES for block in blocks(page, "python")],
    ids=lambda value: str(value)[:40].replace("\n", " "),
)
def test_python_runs_as_printed(page: str, block: str, at_scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, page, "exec"), {"__name__": "__main__"})
    assert "print" not in block or capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / unquote(path)).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading: str) -> str:
    """As GitHub makes it."""
    return ANCHOR.sub("", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("script", ["make_reference.py", "make_architecture.py"])
def test_what_is_written_from_the_code_is_current(script: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / script), "--check"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pictures_are_small() -> None:
    for picture in (ROOT / "docs").glob("*.webp"):
        assert picture.stat().st_size <= 150_000


def test_the_readme_is_one_screen_and_a_half() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= 110
