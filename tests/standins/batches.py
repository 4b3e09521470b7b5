"""Batches submitted with the command line to a cluster on this machine, whose engines log their work."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import psutil

from cluster import manifest
from cluster.batch import ledger
from cluster.storage.outputs import MANIFEST_NAME
from tests.media import AudioSpec, VideoSpec, make_media, tone

ROOT = Path(__file__).parents[2]
LANGUAGES = ("pt", "es")
LINE_S = 2.0


@contextmanager
def code_on_nodes() -> Iterator[None]:
    """Let nodes started inside import this working tree."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.__setitem__("PYTHONPATH", before)


def make_batch(folder: Path, num_videos: int, num_lines: int) -> Path:
    """Write a batch of short videos with subtitles, so that no transcription is needed."""
    folder.mkdir(exist_ok=True)
    length_s = LINE_S * num_lines
    rows = []
    for number in range(num_videos):
        media, texts = folder / f"talk{number}.mp4", folder / f"talk{number}.vtt"
        picture = VideoSpec(duration_s=length_s, rate=5)
        make_media(media, audio=[AudioSpec(samples=tone(length_s))], video=[picture])
        cues = [
            f"00:{LINE_S * at:06.3f} --> 00:{LINE_S * at + 1.5:06.3f}\nLine {at} of talk {number}."
            for at in range(num_lines)
        ]
        texts.write_text("WEBVTT\n\n" + "\n\n".join(cues) + "\n")
        rows.append({"source": str(media), "subtitles": str(texts), "from": "en"})
    path = folder / "batch.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def raydub(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli.main", *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert not check or finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch: its input list, and a folder for its log of computations, its store and its results."""

    rows: Path
    folder: Path
    service_s: float = 0.0
    num_drivers: int = 2
    more_settings: tuple[str, ...] = ()

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def arguments(self) -> list[str]:
        """Arguments of ``cluster.cli.batch_job`` and of ``raydub submit``."""
        options = f"{{log: {self.folder / 'log'}, store: {self.store}, service_s: {self.service_s}}}"
        settings = [
            "transcription.pool.num_cpus=0.1",
            "translation.engine=tests.standins.counted_translator",
            f"translation.options={options}",
            "translation.pool.num_cpus=0.1",
            "speech.engine=tests.standins.counted_speaker",
            f"speech.options={options}",
            "speech.pool.num_cpus=0.1",
            f"store.url={self.store}",
            "drivers.num_cpus=0.1",
            "price.cpu_hour=3.6",
            *self.more_settings,
        ]
        named = ["--to", ",".join(LANGUAGES), "--out", str(self.out), "--config", "base"]
        named += ["--drivers", str(self.num_drivers)]
        return [str(self.rows), *named, *(part for setting in settings for part in ("--set", setting))]

    def submit(self, address: str, *more: str, check: bool = True) -> str:
        """Submit the batch; returns the job's name."""
        self.folder.mkdir(exist_ok=True)
        finished = raydub(
            *("submit", *self.arguments(), "--address", address, "--python", sys.executable, *more), check=check
        )
        return finished.stdout.split()[0]

    def computed(self) -> Counter[str]:
        """Number of times that each piece of work was done, in all processes."""
        return Counter(line.split(" ", 3)[3] for line in self._log())

    def computed_though_stored(self) -> list[str]:
        """Work that was begun when the store had its result."""
        return [line for line in self._log() if line.split(" ", 3)[2] == "stored"]

    def is_all_stored(self) -> bool:
        """True if every computed result is in the store under its key."""
        stored = {path.name for path in self.store.glob("*/*/*")}
        return {line.split(" ", 3)[1] for line in self._log()} <= stored

    def summary(self) -> ledger.BatchSummary | None:
        path = self.out / ledger.SUMMARY_NAME
        return ledger.BatchSummary.model_validate_json(path.read_bytes()) if path.exists() else None

    def contents(self) -> dict[str, object]:
        """Manifest, texts and samples of each track, for every item."""
        return {path.parent.name: _content(path) for path in sorted(self.out.glob(f"*/{MANIFEST_NAME}"))}

    def _log(self) -> Sequence[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else ()


def _content(path: Path) -> tuple[Any, ...]:
    tree = manifest.read(path).comparable()
    tree["config"] = None  # each batch has a log and a store of its own
    texts = {file.name: file.read_text() for file in path.parent.iterdir() if file.suffix in (".srt", ".vtt")}
    with av.open(str(path.parent / tree["media_file"])) as container:
        digests = {stream.index: hashlib.sha256() for stream in container.streams}
        for stream in container.streams:
            container.seek(0)
            for packet in container.demux(stream):
                if stream.type == "audio":
                    for frame in packet.decode():
                        digests[stream.index].update(frame.to_ndarray().tobytes())
                else:
                    digests[stream.index].update(bytes(packet))
    return tree, texts, {index: digest.hexdigest() for index, digest in digests.items()}


def coordinator_of(job: str) -> psutil.Process | None:
    """The process of the job's entry point, once it runs."""
    return next(
        (
            p
            for p in psutil.process_iter()
            if _words(p)[1:3] == ["-m", "cluster.cli.batch_job"] and job in _words(p)[-1]
        ),
        None,
    )


def drivers() -> list[psutil.Process]:
    """Driver processes of all batches on clusters that this process started."""
    return [p for p in psutil.Process().children(recursive=True) if " ".join(_words(p)).startswith("ray::Driver")]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
