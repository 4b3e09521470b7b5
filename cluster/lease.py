"""Who is at work on an output: one run at a time, also on a shared file system, with no lock that outlives its owner.

The lease is a file beside the output that names its owner. It is made by linking, which is atomic on
NFS too, and kept fresh by a heartbeat. One whose owner is known to be dead, or that has gone stale, is
taken over; an owner who finds his own taken (he was suspended for long) does not publish.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from actors.errors import CapacityError, MediaError

log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
EXPIRY_S = 30.0
"""Without a heartbeat for so long, an owner on another machine is taken for dead."""
POLL_S = 1.0
MAX_TRIES = 10


class Owner(BaseModel):
    """Of a lease: enough to tell on his own machine whether he lives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str
    host: str
    boot_id: str
    pid: int
    started: str
    """When the process started, as the kernel counts: process numbers are used again."""

    @classmethod
    def this_process(cls) -> Owner:
        pid = os.getpid()
        return cls(
            token=uuid.uuid4().hex, host=socket.gethostname(), boot_id=_boot_id(), pid=pid, started=_start_of(pid)
        )

    def is_here(self) -> bool:
        """On this machine, since it started."""
        return (self.host, self.boot_id) == (socket.gethostname(), _boot_id())

    def is_dead(self) -> bool:
        """Known to be: there is no such process here any more."""
        if not self.is_here():
            return self == NOBODY
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's
            pass
        return _start_of(self.pid) != self.started


NOBODY = Owner(token="", host="", boot_id="", pid=0, started="")
"""Of a lease that cannot be read."""


class Lease:
    """Held until it is released; ``check`` says whether it still is."""

    def __init__(self, out: Path, owner: Owner) -> None:
        self._out = out
        self._path = path_of(out)
        self._owner = owner
        self._released = threading.Event()
        # A thread: an event loop that is busy for long must not cost the lease.
        beat = contextvars.copy_context().run
        self._heart = threading.Thread(target=beat, args=(self._beat,), name="lease", daemon=True)
        self._heart.start()

    def check(self) -> None:
        """Raises CapacityError if somebody else has taken it over."""
        holder = _owner_of(self._path)
        if holder != self._owner:
            raise _held(self._out, holder)

    def release(self) -> None:
        self._released.set()
        self._heart.join()
        with contextlib.suppress(OSError):
            if _owner_of(self._path) == self._owner:
                self._path.unlink()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            try:
                if _owner_of(self._path) != self._owner:
                    log.warning("lease lost, results will not be published lease=%s", self._path)
                    return
                os.utime(self._path)
            except OSError as error:
                log.warning("lease not renewed lease=%s error=%s", self._path, error)


@asynccontextmanager
async def held(out: Path, wait_s: float = 0.0) -> AsyncIterator[Lease]:
    """The lease of an output folder, for the time of the block; what an owner elsewhere holds is waited for
    until his heart is seen to beat, or not to, and what a living owner holds for ``wait_s``.

    Raises CapacityError naming the owner if another run has it, MediaError if ``out`` has no writable parent.
    """
    path = path_of(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = await _taken(out, path, wait_s)
    except OSError as error:
        raise MediaError(
            f"the output folder must be writable, {out}: {error.strerror or error}; choose another with --out"
        ) from error
    lease = Lease(out, owner)
    try:
        yield lease
    finally:
        lease.release()


async def _taken(out: Path, path: Path, wait_s: float) -> Owner:
    """Raises CapacityError, OSError."""
    waits_until_s = time.monotonic() + wait_s
    seen: tuple[Owner, float] | None = None
    while True:
        try:
            return _take(out, path)
        except CapacityError:
            holder, beaten_s = _owner_of(path), _mtime_s(path)
            if holder is not None and beaten_s is not None:
                lives = holder.is_here() or (seen is not None and seen[0] == holder and seen[1] != beaten_s)
                if lives and time.monotonic() >= waits_until_s:
                    raise
                seen = holder, beaten_s
        await asyncio.sleep(POLL_S)


def path_of(out: Path) -> Path:
    """The same however the folder is spelt, and short: its own name may be as long as names can be."""
    real = out.resolve()
    return real.parent / f".raydub-{_digest(os.fsencode(real.name))}.lease"


def right_to_succeed(path: Path, holder: Owner) -> Path:
    """The lease of whoever may replace this owner's."""
    return path.with_name(f".raydub-{_digest(f'{path.name} {holder.token}'.encode())}.lease")


def _take(out: Path, path: Path) -> Owner:
    """Raises CapacityError, OSError."""
    owner = Owner.this_process()
    aside = path.with_name(f".raydub-{owner.token}.lease")
    aside.write_text(owner.model_dump_json(), encoding="utf-8")
    try:
        if _seize(path, aside):
            return owner
    finally:
        aside.unlink(missing_ok=True)
    raise _held(out, _owner_of(path))


def _seize(path: Path, aside: Path) -> bool:
    """Make the lease that of ``aside``, if it is free or abandoned.

    Of several who find it abandoned, one gets the right to succeed its owner, itself a lease: a file that all of
    them would name alike. Nobody else may then replace that owner's lease.
    """
    for _ in range(MAX_TRIES):
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
            return True
        holder = _owner_of(path)
        if holder is None:  # released just now
            continue
        if not holder.is_dead() and not _is_stale(path, aside):
            return False
        right = right_to_succeed(path, holder)
        if not _seize(right, aside):
            return False
        try:
            if _owner_of(path) == holder:  # else somebody had the right before, and has used it
                replacement = aside.with_name(f".raydub-{uuid.uuid4().hex}.lease")
                os.link(aside, replacement)
                replacement.replace(path)
                log.warning("lease of a dead run taken over lease=%s owner=%s", path, holder)
                return True
        finally:
            right.unlink(missing_ok=True)
    return False


def _is_stale(path: Path, aside: Path) -> bool:
    """By the file system's own clock, which all machines share."""
    os.utime(aside)
    beaten_s = _mtime_s(path)
    return beaten_s is not None and aside.stat().st_mtime - beaten_s > EXPIRY_S


def _mtime_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _owner_of(path: Path) -> Owner | None:
    """None if there is no lease; NOBODY if it cannot be read."""
    try:
        return Owner.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        return NOBODY


def _digest(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()[:16]


def _held(out: Path, holder: Owner | None) -> CapacityError:
    who = "another run" if holder in (None, NOBODY) else f"process {holder.pid} on {holder.host}"
    return CapacityError(
        f"one run at a time must write an output; {who} is at work on {out}; wait for it, or choose another --out",
        retry_after_s=EXPIRY_S,
    )


def _boot_id() -> str:
    """Of Linux; elsewhere only the process number tells."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _start_of(pid: int) -> str:
    """proc(5): the 22nd field of stat, counted behind the name, which may hold anything; none of what has ended
    and only waits for its parent to ask how (Z)."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""
