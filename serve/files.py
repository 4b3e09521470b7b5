"""Where media lie: folders named by job ids alone. Nothing a person types becomes part of a path."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import uuid
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

import filelock
import numpy as np

from actors.errors import ConfigError
from actors.types import Clip
from cluster import places
from cluster.outputs import MANIFEST_NAME, replace_bytes
from serve.bucket import Bucket, BucketError
from serve.ids import ID_PATTERN
from serve.settings import ServeSettings

UTTERANCE_PATTERN = r"^[A-Za-z0-9-]{1,35}:u[0-9]{1,9}(-[0-9]{1,5})?$"
ATTEMPT_PATTERN = "[0-9a-f]{32}"
COPY_BYTES = 2**20
FIRST, THEN, LAST = 0, 1, 2


class JobFiles:
    """Under ``root``, a folder that every dispatcher sees; or in ``bucket``, by the same names.

    With a bucket, ``root`` is this dispatcher's own, and holds nothing but what it works on: paths are names then,
    and what they name may be elsewhere alone. Methods block: call them on a thread. Those that reach into the
    bucket raise BucketError.
    """

    def __init__(self, root: Path, bucket: Bucket | None = None, max_bytes: int | None = None) -> None:
        self.bucket = bucket
        self._root = root / "dubs"
        self._borrowed = root / "borrowed"
        self._max_bytes = max_bytes

    # --- names

    def folder(self, dub_id: str) -> Path:
        if re.fullmatch(ID_PATTERN, dub_id) is None:
            raise ValueError(f"a job's id must look like {ID_PATTERN}, found {dub_id[:60]!r}")
        return self._root / dub_id

    def source(self, dub_id: str) -> Path:
        return self.folder(dub_id) / "source"

    def output(self, dub_id: str, name: str) -> Path:
        """Of one attempt: two that overlap, because a lease was lost, never write to one place."""
        if re.fullmatch(ATTEMPT_PATTERN, name) is None:
            raise ValueError(f"an attempt's name must be 32 hex digits, found {name[:60]!r}")
        return self.folder(dub_id) / name

    def clip(self, dub_id: str, utterance_id: str) -> Path:
        if re.fullmatch(UTTERANCE_PATTERN, utterance_id) is None:
            raise ValueError(f"an utterance's id must look like {UTTERANCE_PATTERN}, found {utterance_id[:60]!r}")
        return self.folder(dub_id) / "clips" / f"{utterance_id.replace(':', '_')}.wav"

    def name_of(self, path: Path) -> str:
        """In the bucket."""
        return f"dubs/{path.relative_to(self._root).as_posix()}"

    def without_paths(self, dub_id: str, name: str, message: str) -> str:
        """A message for its owner, who calls the source ``name`` and is not told where it lies."""
        return message.replace(str(self.source(dub_id)), name).replace(str(self.folder(dub_id)), "the dub's folder")

    # --- what is kept

    def exists(self, path: Path) -> bool:
        return path.exists() if self.bucket is None else self.bucket.find(self.name_of(path)) is not None

    def read(self, path: Path) -> bytes | None:
        """None if there is no such file."""
        if self.bucket is not None:
            return self.bucket.read(self.name_of(path))
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: Path, data: bytes) -> None:
        if self.bucket is not None:
            return self.bucket.write(self.name_of(path), data)
        path.parent.mkdir(parents=True, exist_ok=True)
        return replace_bytes(path, data)

    def keep(self, made: Path, path: Path) -> Path:
        """Have every dispatcher see what was made aside as ``path``. Returns where it lies here from now on."""
        if self.bucket is None:
            return made.replace(path)
        self.bucket.put(made, self.name_of(path), patiently=True)
        return made

    def bring(self, path: Path) -> bool:
        """Have it here. False if there is no such file."""
        if self.bucket is None:
            return path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        return self.bucket.get(self.name_of(path), path)

    @contextmanager
    def borrowed(self, path: Path) -> Iterator[Path]:
        """Where it can be read here, in a folder where something can be made of it. Raises FileNotFoundError."""
        if self.bucket is None:
            yield path
            return
        folder = self._borrowed / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            if not self.bucket.get(self.name_of(path), folder / path.name):
                raise FileNotFoundError(self.name_of(path))
            yield folder / path.name
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # --- of a job

    def save_source(self, dub_id: str, upload: BinaryIO) -> Path:
        """Here only, until it is kept."""
        path = self.source(dub_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(upload, file, COPY_BYTES)
        return path

    def save_clip(self, dub_id: str, utterance_id: str, clip: Clip) -> None:
        self.write(self.clip(dub_id, utterance_id), _wav(clip))

    def new_output(self, dub_id: str) -> tuple[str, Path]:
        name = uuid.uuid4().hex
        self.write(self._newest(dub_id), name.encode())
        return name, self.output(dub_id, name)

    def newest_output(self, dub_id: str, finished: str | None) -> Path | None:
        """Of the attempt that is finished, else of the one that began last; None before any."""
        if finished is None:
            began = self.read(self._newest(dub_id))
            finished = None if began is None else began.decode()
        return None if finished is None else self.output(dub_id, finished)

    def keep_results(self, output: Path) -> None:
        """All that was made in ``output``, the manifest last: where it stands, all the others do."""
        if self.bucket is not None:
            for file in sorted((path for path in output.rglob("*") if path.is_file()), key=_turn):
                self.keep(file, file)

    def keep_output(self, dub_id: str, name: str) -> None:
        """Remove what other attempts left."""
        if self.bucket is None:
            for path in self.folder(dub_id).iterdir():
                if path.is_dir() and path.name not in (name, "clips"):
                    shutil.rmtree(path, ignore_errors=True)
            return
        for found in self.bucket.children(self.name_of(self.folder(dub_id))):
            last = found.rpartition("/")[2]
            if last != name and re.fullmatch(ATTEMPT_PATTERN, last):
                self.bucket.remove(found)

    def delete(self, dub_id: str) -> None:
        shutil.rmtree(self.folder(dub_id), ignore_errors=True)
        if self.bucket is not None:
            self.bucket.remove(self.name_of(self.folder(dub_id)))

    def dub_ids(self) -> list[str]:
        """Of which there is anything."""
        if self.bucket is None:
            names = [path.name for path in self._root.iterdir()] if self._root.is_dir() else []
        else:
            names = [name.rpartition("/")[2] for name in self.bucket.children("dubs")]
        return [name for name in names if re.fullmatch(ID_PATTERN, name)]

    # --- with a bucket, the space here

    def has_room(self) -> bool:
        """Whether more may be brought here. Reads the folder."""
        if self._max_bytes is None:
            return True
        return sum(map(_size, self._root.parent.rglob("*"))) < self._max_bytes

    def put_away(self, dub_id: str) -> None:
        """Remove from here what every dispatcher sees elsewhere."""
        if self.bucket is not None:
            shutil.rmtree(self.folder(dub_id), ignore_errors=True)

    def _newest(self, dub_id: str) -> Path:
        return self.folder(dub_id) / "newest"


@contextmanager
def open_files(settings: ServeSettings) -> Iterator[JobFiles]:
    """Raises ConfigError if what ``data_dir`` names cannot be used."""
    storage = settings.storage
    if not places.is_url(settings.data_dir):
        yield JobFiles(Path(settings.data_dir))
        return
    bucket = Bucket(settings.data_dir, timeout_s=storage.timeout_s, patience_s=storage.patience_s)
    try:
        bucket.check()
    except BucketError as error:
        raise ConfigError(
            f"serve.data_dir must be a folder, or a URL to read from and write to; {bucket.url}: {error.__cause__}"
        ) from error
    with own_folder(storage.scratch_dir) as root:
        yield JobFiles(root, bucket, storage.scratch_max_bytes)


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """In ``folder``, gone at the end. What processes that were killed left there is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / uuid.uuid4().hex
    lock = filelock.FileLock(f"{own}.lock", thread_local=False)
    with filelock.FileLock(folder / "lock"):
        for left in folder.glob("*.lock"):
            with contextlib.suppress(filelock.Timeout), filelock.FileLock(left, blocking=False):
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                left.unlink(missing_ok=True)
        lock.acquire()
        own.mkdir()
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _turn(path: Path) -> tuple[int, str]:
    """A playlist after what it names, and the manifest behind all."""
    return (LAST if path.name == MANIFEST_NAME else THEN if path.suffix == ".m3u8" else FIRST), path.name


def _size(path: Path) -> int:
    """Of a file; zero of a folder, and of what is gone meanwhile."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_size if S_ISREG(stat.st_mode) else 0
    return 0


def _wav(clip: Clip) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(clip.sample_hz)
        file.writeframes((np.clip(clip.samples, -1, 1) * 32767).astype("<i2").tobytes())
    return made.getvalue()
