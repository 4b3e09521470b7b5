"""Where media lie: folders named by job ids alone. Nothing a person types becomes part of a path."""

from __future__ import annotations

import re
import shutil
import uuid
import wave
from pathlib import Path
from typing import BinaryIO

import numpy as np

from actors.types import Clip
from serve.ids import ID_PATTERN

UTTERANCE_PATTERN = r"^[A-Za-z0-9-]{1,35}:u[0-9]{1,9}(-[0-9]{1,5})?$"
COPY_BYTES = 2**20


class JobFiles:
    """Under one folder, which every dispatcher sees. Methods block: call them on a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root / "dubs"

    def folder(self, dub_id: str) -> Path:
        if re.fullmatch(ID_PATTERN, dub_id) is None:
            raise ValueError(f"a job's id must look like {ID_PATTERN}, found {dub_id[:60]!r}")
        return self._root / dub_id

    def source(self, dub_id: str) -> Path:
        return self.folder(dub_id) / "source"

    def output(self, dub_id: str, name: str) -> Path:
        """Of one attempt: two that overlap, because a lease was lost, never write to one place."""
        if re.fullmatch("[0-9a-f]{32}", name) is None:
            raise ValueError(f"an attempt's name must be 32 hex digits, found {name[:60]!r}")
        return self.folder(dub_id) / name

    def new_output(self, dub_id: str) -> tuple[str, Path]:
        name = uuid.uuid4().hex
        return name, self.output(dub_id, name)

    def newest_output(self, dub_id: str, finished: str | None) -> Path | None:
        """Of the attempt that is finished, else of the one that began last; None before any."""
        if finished is not None:
            return self.output(dub_id, finished)
        folder = self.folder(dub_id)
        attempts = [path for path in folder.iterdir() if re.fullmatch("[0-9a-f]{32}", path.name)]
        return max(attempts, key=lambda path: path.stat().st_ctime_ns, default=None)

    def clip(self, dub_id: str, utterance_id: str) -> Path:
        if re.fullmatch(UTTERANCE_PATTERN, utterance_id) is None:
            raise ValueError(f"an utterance's id must look like {UTTERANCE_PATTERN}, found {utterance_id[:60]!r}")
        return self.folder(dub_id) / "clips" / f"{utterance_id.replace(':', '_')}.wav"

    def save_source(self, dub_id: str, upload: BinaryIO) -> Path:
        path = self.source(dub_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(upload, file, COPY_BYTES)
        return path

    def save_clip(self, dub_id: str, utterance_id: str, clip: Clip) -> None:
        path = self.clip(dub_id, utterance_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{uuid.uuid4().hex}")
        with wave.open(str(aside), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(clip.sample_hz)
            file.writeframes((np.clip(clip.samples, -1, 1) * 32767).astype("<i2").tobytes())
        aside.replace(path)

    def without_paths(self, dub_id: str, name: str, message: str) -> str:
        """A message for its owner, who calls the source ``name`` and is not told where it lies."""
        return message.replace(str(self.source(dub_id)), name).replace(str(self.folder(dub_id)), "the dub's folder")

    def keep_output(self, dub_id: str, name: str) -> None:
        """Remove what other attempts left."""
        for path in self.folder(dub_id).iterdir():
            if path.is_dir() and path.name not in (name, "clips"):
                shutil.rmtree(path, ignore_errors=True)

    def delete(self, dub_id: str) -> None:
        shutil.rmtree(self.folder(dub_id), ignore_errors=True)
