"""One run at a time on an output; what a dead run holds is taken over, what a living one holds is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.errors import CapacityError, MediaError
from cluster.storage import output_lock
from cluster.storage.output_lock import Owner, held


def lease_file(out: Path) -> Path:
    return output_lock.lease_path(out)


def leave(out: Path, **changes: Any) -> Path:
    """A lease as another process would have left it."""
    path = lease_file(out)
    path.write_text(Owner.this_process().model_copy(update=changes).model_dump_json())
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "talk"


@pytest.fixture
def other(out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease."""
    script = (
        "import asyncio, pathlib, sys\nfrom cluster.storage.output_lock import held\nasync def hold():\n"
        "  async with held(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()\n"
        "asyncio.run(hold())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


async def test_it_is_there_while_it_is_held(out: Path) -> None:
    async with held(out) as own:
        own.check()
        assert json.loads(lease_file(out).read_text())["pid"] == os.getpid()
    assert list(out.parent.iterdir()) == []


async def test_it_is_released_after_a_failure(out: Path) -> None:
    with pytest.raises(RuntimeError):
        async with held(out):
            raise RuntimeError
    async with held(out):
        pass


async def test_one_folder_by_two_names_is_one(out: Path) -> None:
    real, link = out.with_name("n" * 255), out.with_name("link")
    real.mkdir()
    link.symlink_to(real)
    async with held(real):
        with pytest.raises(CapacityError):
            async with held(link):
                pass


async def test_outputs_side_by_side_do_not_meet(out: Path) -> None:
    async with held(out), held(out.with_name("other")):
        pass


async def test_the_second_is_told_who_is_first(out: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(CapacityError, match=f"process {other.pid} on "):
        async with held(out):
            pass
    other.communicate("done")
    async with held(out):
        pass


async def test_one_who_may_wait_has_it_when_the_other_is_done(out: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(CapacityError):
        async with held(out, wait_s=0.01):
            pass

    async def wait() -> None:
        async with held(out, wait_s=60) as own:
            own.check()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    other.communicate("done")
    await waiting


@pytest.mark.parametrize("is_reaped", [True, False])
async def test_the_lease_of_a_killed_run_is_taken_over(
    out: Path, other: subprocess.Popen[str], is_reaped: bool
) -> None:
    other.send_signal(signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    if is_reaped:
        other.wait()
    assert lease_file(out).exists()
    async with held(out) as own:
        own.check()


async def test_a_process_number_used_again_is_not_the_owner(out: Path) -> None:
    leave(out, started="another time")
    async with held(out) as own:
        own.check()


ELSEWHERE = pytest.mark.parametrize("elsewhere", [{"host": "elsewhere"}, {"boot_id": "before"}])


@ELSEWHERE
async def test_a_run_elsewhere_lives_while_its_heart_beats(
    out: Path, elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_lock, "POLL_S", 0.01)
    path = leave(out, pid=1, **elsewhere)

    async def beat() -> None:
        while True:
            os.utime(path)
            await asyncio.sleep(0.005)

    heart = asyncio.create_task(beat())
    with pytest.raises(CapacityError, match="process 1 on"):
        async with held(out):
            pass
    heart.cancel()
    assert path.exists()


@ELSEWHERE
async def test_a_run_elsewhere_is_dead_when_its_heart_stops(
    out: Path, elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_lock, "POLL_S", 0.01)
    monkeypatch.setattr(output_lock, "EXPIRY_S", 0.2)
    leave(out, pid=1, **elsewhere)
    async with held(out) as own:
        own.check()


async def test_a_run_elsewhere_that_died_before_the_clock_was_set_back_is_dead(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_lock, "POLL_S", 0.01)
    path = leave(out, pid=1, host="elsewhere")
    tomorrow_s = path.stat().st_mtime + 86_400.0
    os.utime(path, (tomorrow_s, tomorrow_s))
    async with held(out) as own:
        own.check()


async def test_a_lease_nobody_can_read_is_taken_over(out: Path) -> None:
    lease_file(out).write_text("half a le")
    async with held(out) as own:
        own.check()


async def test_an_owner_who_lost_it_is_told_and_leaves_it_alone(out: Path) -> None:
    async with held(out) as own:
        path = leave(out, token="another", host="elsewhere")
        with pytest.raises(CapacityError, match="on elsewhere"):
            own.check()
    assert path.exists()


async def test_the_heart_beats(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_lock, "HEARTBEAT_S", 0.01)
    beaten = threading.Event()
    monkeypatch.setattr(output_lock.os, "utime", lambda path: beaten.set() if path == lease_file(out) else None)
    async with held(out):
        assert beaten.wait(30)


@pytest.mark.parametrize("left", ["by the dead", "by the dead and an heir who died", "unreadable"])
def test_of_many_who_find_it_abandoned_one_gets_it(out: Path, left: str) -> None:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # else a thread would be done before the next begins
    try:
        for _ in range(40):
            path = leave(out, pid=2**22 + 1)
            if left == "unreadable":
                path.write_text("half a le")
            elif left == "by the dead and an heir who died":
                output_lock.takeover_path(path, Owner.model_validate_json(path.read_text())).write_text(
                    path.read_text()
                )
            assert sorted(who_gets_it(out, 6)) == [False] * 5 + [True]
            assert list(out.parent.iterdir()) == []
    finally:
        sys.setswitchinterval(before_s)


def who_gets_it(out: Path, number: int) -> list[bool]:
    """Of so many who try at a time."""
    start, all_tried = threading.Barrier(number, timeout=60), threading.Barrier(number, timeout=60)
    outcomes: list[bool] = []

    async def run() -> None:
        start.wait()
        async with contextlib.AsyncExitStack() as stack:
            own = None
            with contextlib.suppress(CapacityError):
                own = await stack.enter_async_context(held(out))
            all_tried.wait()
            if own is not None:
                own.check()
            outcomes.append(own is not None)

    threads = [threading.Thread(target=asyncio.run, args=(run(),)) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="--out"):
        async with held(tmp_path / "file" / "talk"):
            pass
