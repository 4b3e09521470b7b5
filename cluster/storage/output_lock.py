"""A lease on an output: one run at a time works on it, also on a shared file system.

The lease is a file beside the output that names its owner. It is made by linking, which is atomic on
NFS too, and kept fresh by a heartbeat. A lease whose owner is dead, or whose heartbeat has stopped, is
taken over; an owner whose lease was taken over (after a long suspension) does not publish.

No library is used, because none passes ``tests/unit/storage/test_output_lock.py``. ``filelock``'s
``SoftFileLease`` takes a zombie for alive (``test_the_lease_of_a_killed_run_is_taken_over[False]``) and
takes nothing over where the file system cannot exchange two names, as NFS cannot. ``flufl.lock`` does not
look for the owner's process, and lets the same test wait until the lease expires. The kernel's own locks
(``filelock.FileLock``, ``portalocker``) do not reach other machines on every network file system.
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
"""An owner on another machine that was not heard of for so long counts as dead."""
POLL_S = 1.0
MAX_TRIES = 10


class Owner(BaseModel):
    """The process that holds a lease; on its own machine it can be found to be dead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str
    host: str
    boot_id: str
    pid: int
    started: str
    """The process's start time in the kernel's clock ticks: process numbers are used again."""

    @classmethod
    def this_process(cls) -> Owner:
        pid = os.getpid()
        return cls(
            token=uuid.uuid4().hex, host=socket.gethostname(), boot_id=_boot_id(), pid=pid, started=_start_time(pid)
        )

    def is_on_this_machine(self) -> bool:
        """True for a process of this machine since its boot."""
        return (self.host, self.boot_id) == (socket.gethostname(), _boot_id())

    def is_dead(self) -> bool:
        """True if the owner is known to be dead: this machine has no such process any more."""
        if not self.is_on_this_machine():
            return self == UNKNOWN_OWNER
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's process
            pass
        return _start_time(self.pid) != self.started


UNKNOWN_OWNER = Owner(token="", host="", boot_id="", pid=0, started="")
"""The owner of a lease that cannot be read."""


class Lease:
    """A lease that is held until it is released, or taken over, which ``check`` finds."""

    def __init__(self, out: Path, owner: Owner) -> None:
        self._out = out
        self._path = lease_path(out)
        self._owner = owner
        self._released = threading.Event()
        # A thread: an event loop that is busy for long must not cost the lease.
        in_context = contextvars.copy_context().run
        self._heartbeat = threading.Thread(target=in_context, args=(self._renew,), name="lease", daemon=True)
        self._heartbeat.start()

    def check(self) -> None:
        """Raise CapacityError if another run has taken the lease over."""
        holder = _owner_of(self._path)
        if holder != self._owner:
            raise _busy(self._out, holder)

    def release(self) -> None:
        self._released.set()
        self._heartbeat.join()
        with contextlib.suppress(OSError):
            if _owner_of(self._path) == self._owner:
                self._path.unlink()

    def _renew(self) -> None:
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
    """Hold the lease of an output folder for the time of the block.

    Waits up to ``wait_s`` for a living owner; first of all as long as it takes to find out if an owner on
    another machine lives. Raises CapacityError naming the owner if another run holds the lease, MediaError if
    ``out`` has no writable parent.
    """
    path = lease_path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = await _acquire(out, path, wait_s)
    except OSError as error:
        raise MediaError(
            f"the output folder must be writable, {out}: {error.strerror or error}; choose another with --out"
        ) from error
    lease = Lease(out, owner)
    try:
        yield lease
    finally:
        lease.release()


async def _acquire(out: Path, path: Path, wait_s: float) -> Owner:
    """Try to acquire the lease until a living owner has held it for ``wait_s``. Raises CapacityError, OSError."""
    deadline_s = time.monotonic() + wait_s
    seen: tuple[Owner, float] | None = None
    while True:
        try:
            return _try_acquire(out, path)
        except CapacityError:
            holder, renewed_s = _owner_of(path), _mtime_s(path)
            if holder is not None and renewed_s is not None:
                lives = holder.is_on_this_machine() or (seen is not None and seen[0] == holder and seen[1] != renewed_s)
                if lives and time.monotonic() >= deadline_s:
                    raise
                seen = holder, renewed_s
        await asyncio.sleep(POLL_S)


def lease_path(out: Path) -> Path:
    """The path of an output's lease: the same however the folder is spelt.

    Its name is short, because the folder's name may be as long as names can be.
    """
    real = out.resolve()
    return real.parent / f".raydub-{_digest(os.fsencode(real.name))}.lease"


def takeover_path(path: Path, holder: Owner) -> Path:
    """The path of the lease to hold while taking over this owner's lease."""
    return path.with_name(f".raydub-{_digest(f'{path.name} {holder.token}'.encode())}.lease")


def _try_acquire(out: Path, path: Path) -> Owner:
    """Acquire the lease without waiting. Raises CapacityError, OSError."""
    owner = Owner.this_process()
    aside = path.with_name(f".raydub-{owner.token}.lease")
    aside.write_text(owner.model_dump_json(), encoding="utf-8")
    try:
        if _link_lease(path, aside):
            return owner
    finally:
        aside.unlink(missing_ok=True)
    raise _busy(out, _owner_of(path))


def _link_lease(path: Path, aside: Path) -> bool:
    """Link ``aside`` to the lease's path if the lease is free or abandoned; False if its owner lives.

    An abandoned lease may be found by several processes. Each of them must first hold a second lease, at a path
    that depends on the abandoned one's owner: so only one replaces it, and nobody replaces its successor.
    """
    for _ in range(MAX_TRIES):
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
            return True
        holder = _owner_of(path)
        if holder is None:  # released meanwhile
            continue
        if not holder.is_dead() and not _is_stale(path, aside):
            return False
        takeover = takeover_path(path, holder)
        if not _link_lease(takeover, aside):
            return False
        try:
            if _owner_of(path) == holder:  # else another process has taken it over already
                replacement = aside.with_name(f".raydub-{uuid.uuid4().hex}.lease")
                os.link(aside, replacement)
                replacement.replace(path)
                log.warning("lease of a dead run taken over lease=%s owner=%s", path, holder)
                return True
        finally:
            takeover.unlink(missing_ok=True)
    return False


def _is_stale(path: Path, aside: Path) -> bool:
    """True if the heartbeat has stopped, by the file system's own clock, which all machines share.

    A time in the future is that of before the clock was set back: an owner who lives writes a new one.
    """
    os.utime(aside)
    renewed_s = _mtime_s(path)
    return renewed_s is not None and abs(aside.stat().st_mtime - renewed_s) > EXPIRY_S


def _mtime_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _owner_of(path: Path) -> Owner | None:
    """The owner in the lease file; None if there is no file, UNKNOWN_OWNER if it cannot be read."""
    try:
        return Owner.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        return UNKNOWN_OWNER


def _digest(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()[:16]


def _busy(out: Path, holder: Owner | None) -> CapacityError:
    who = "another run" if holder in (None, UNKNOWN_OWNER) else f"process {holder.pid} on {holder.host}"
    return CapacityError(
        f"one run at a time must write an output; {who} is at work on {out}; wait for it, or choose another --out",
        retry_after_s=EXPIRY_S,
    )


def _boot_id() -> str:
    """Linux's id of the boot; empty on other systems, where only the process number tells."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _start_time(pid: int) -> str:
    """The start time of a process by proc(5); empty for a zombie (Z), which has ended, and without proc.

    It is field 22 of stat, counted from behind the name, which may hold anything.
    """
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""
