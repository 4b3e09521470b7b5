"""A file of a form, where libraries that want a path can read it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import UploadFile


@asynccontextmanager
async def on_disk(file: UploadFile) -> AsyncIterator[Path]:
    """Gone at the end of the block. Its name says nothing of what the sender called it."""
    with tempfile.TemporaryDirectory(prefix="raydub-") as folder:
        path = Path(folder) / "upload"
        await asyncio.to_thread(_copy, file, path)
        yield path


def _copy(file: UploadFile, path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(file.file, target)
