"""Caches encoded sound tracks by content, in the same store as the engines' results.

Where no model has to run, mixing and encoding cost more than all else. A track is kept under a hash of the
source's file, the settings of the mix and every clip with its place, and so is found again after any change
that leaves them alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import soxr

from cluster.audio.mixer import Placement
from cluster.storage import codec
from cluster.storage.framing import CorruptValueError
from cluster.storage.keys import SALT, Key, Keyring
from cluster.storage.store import Store, StoreError

log = logging.getLogger(__name__)

REVISION = 1
"""Must be raised whenever the same clips come to sound different."""
KEPT = b"kept"


class MixCache:
    """The encoded tracks of one input. Blocking, for threads; without a store nothing is cached."""

    def __init__(self, store: Store | None, source: Path) -> None:
        self._store = store
        self._source = source
        self._digests: dict[Path, str] = {}
        self._digesting = threading.Lock()
        libraries = {"av": av.__version__, "numpy": np.__version__, "soxr": soxr.__version__}
        identity = {"revision": REVISION, "libraries": libraries, "ffmpeg": dict(av.library_versions)}
        self._keyring = Keyring("sound", identity).with_salt(SALT.get())

    def encoded(self, original: Path, recipe: dict[str, Any], path: Path, make: Callable[[], None]) -> None:
        """Write ``path`` from the cache, else by ``make``, which depends on ``original`` and ``recipe`` alone."""
        if self._store is None:
            return make()
        key = self._key(original, recipe)
        if not self._fetch(key, path):
            make()
            self._keep(key, path)
        return None

    def mixed(
        self,
        recipe: dict[str, Any],
        placements: Iterable[Placement],
        path: Path,
        mix: Callable[[Iterable[Placement]], None],
    ) -> None:
        """Write ``path`` from the cache, else by ``mix``, which depends on the source, ``recipe`` and the clips.

        Where a mix by this recipe was kept before, all clips are awaited first, on disk: none may have changed.
        Else mixing begins with the first clip.
        """
        if self._store is None:
            return mix(placements)
        digest = hashlib.sha256()
        placements = _digested(placements, digest)

        def key() -> Key:
            """The key of the track, known once all clips are."""
            return self._key(self._source, {"clips": digest.hexdigest(), **recipe})

        was_kept = self._key(self._source, {"kept": recipe})
        if self._find(was_kept) is None:
            mix(placements)
            self._put(was_kept, KEPT)
        else:
            with tempfile.TemporaryFile(dir=path.parent) as aside:
                for placement in placements:
                    pickle.dump(placement, aside)
                if self._fetch(key(), path):
                    return None
                aside.seek(0)
                mix(_read(aside))
        return self._keep(key(), path)

    def _key(self, original: Path, recipe: dict[str, Any]) -> Key:
        return self._keyring.key({"original": self._digest(original), **recipe})

    def _digest(self, path: Path) -> str:
        """Hash of a file's content. It is read once, though previews and tracks of one source ask side by side."""
        with self._digesting:
            if path not in self._digests:
                with path.open("rb") as file:
                    self._digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
            return self._digests[path]

    def _fetch(self, key: Key, path: Path) -> bool:
        assert self._store is not None
        if self._store.is_readable:
            # Logged by the store; or there is no room for the copy, as making the track will show.
            with contextlib.suppress(StoreError, CorruptValueError, OSError):
                if self._store.get_file(key, path):
                    log.info("sound found path=%s bytes=%d", path.name, path.stat().st_size)
                    return True
        return False

    def _find(self, key: Key) -> bytes | None:
        assert self._store is not None
        if self._store.is_readable:
            with contextlib.suppress(StoreError, CorruptValueError):  # logged by the store
                return self._store.get(key)
        return None

    def _keep(self, key: Key, path: Path) -> None:
        assert self._store is not None
        if self._store.is_writable:
            with contextlib.suppress(StoreError, OSError):
                self._store.put_file(key, path)

    def _put(self, key: Key, value: bytes) -> None:
        assert self._store is not None
        if self._store.is_writable:
            with contextlib.suppress(StoreError):
                self._store.put(key, value)


def _digested(placements: Iterable[Placement], digest: Any) -> Iterator[Placement]:
    """The same placements, to the last, with each clip added to ``digest``: not their horizons, which change no mix."""
    for placement in placements:
        for clip in placement.clips:
            digest.update(codec.content(clip))
        yield placement
        if placement.horizon_s == math.inf:
            return


def _read(file: IO[bytes]) -> Iterator[Placement]:
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(file)  # noqa: S301  # written by this process
