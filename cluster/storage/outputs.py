"""Result folders that appear whole or not at all: made aside, then moved into place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.durable import make_folder, sync, sync_tree
from actors.errors import MediaError

MANIFEST_NAME = "manifest.json"
REPORT_NAME = "report.html"
MAX_TRIES = 10


@contextmanager
def scratch_folder(out: Path, *, alone: bool = False) -> Iterator[Path]:
    """A folder beside ``out`` to work in; its content is gone at the end unless it was published.

    With ``alone`` no other run may be at work on ``out``: the scratch folders of killed runs are removed.
    Raises MediaError if ``out`` cannot be written.
    """
    # Its name is short: that of ``out`` may be as long as names can be. All scratch folders of one output are in one
    # folder: those that were left are found without listing the results of the whole batch.
    own = out.parent / f".raydub-{hashlib.sha256(os.fsencode(out.name)).hexdigest()[:16]}"
    if alone:
        shutil.rmtree(own, ignore_errors=True)
    with _writable(out):
        make_folder(out.parent)
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(f"{out} is a file")
        scratch = _made_inside(own)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run of the same output is at work
            own.rmdir()


def _made_inside(folder: Path) -> Path:
    """A new folder inside ``folder``, which another run may remove whenever it is empty."""
    for _ in range(MAX_TRIES):
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            made = folder / uuid.uuid4().hex
            made.mkdir()
            return made
    raise FileNotFoundError(errno.ENOENT, "it is removed again and again", str(folder))


def publish(scratch: Path, out: Path) -> None:
    """Move every file of ``scratch`` to ``out``, the manifest last: where there is one, the results are whole.

    Also after a power cut, which loses nothing of them once this returns. Files of the same name are replaced;
    others in ``out`` are left alone. Raises MediaError if that cannot be done.
    """
    with _writable(out):
        _publish(scratch, out)


def _publish(scratch: Path, out: Path) -> None:
    sync_tree(scratch)
    if not out.exists():
        try:
            scratch.rename(out)
        except OSError:  # made by another process meanwhile
            pass
        else:
            sync(out.parent)
            return
    (out / MANIFEST_NAME).unlink(missing_ok=True)
    sync(out)  # or a power cut could bring the old manifest back, beside new files
    for file in sorted(scratch.iterdir(), key=lambda file: file.name == MANIFEST_NAME):
        if file.name == MANIFEST_NAME:
            sync(out)
        file.replace(out / file.name)
    sync(out)
    sync(out.parent)


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MediaError(
            f"the output folder must be writable, {out}: {error.strerror or error}; choose another with --out"
        ) from error
