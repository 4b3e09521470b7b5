from __future__ import annotations

import subprocess
import sys

from actors.garbage import NUM_NEW


def printed(code: str) -> str:
    """What a process of its own prints: the collector's state is that of a process."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_a_command_collects_rarely() -> None:
    run = "import gc, typer; from cluster.cli.options import run_app; app = typer.Typer()"
    command = "app.command()(lambda: print(gc.get_threshold()[0]))"
    assert printed(f"{run}; {command}; run_app(app)") == str(NUM_NEW)


def test_a_replica_collects_rarely() -> None:
    host = "from actors.host import ActorHost; ActorHost('speech', 'tests.standins.speaks', {})"
    assert printed(f"import gc; {host}; print(gc.get_threshold()[0])") == str(NUM_NEW)


def test_what_is_loaded_is_left_out_once() -> None:
    keep = "from actors.garbage import keep_what_is_loaded as keep; keep(); before = gc.get_freeze_count()"
    again = "kept = [[] for _ in range(1000)]; keep(); print(before, gc.get_freeze_count())"
    counts = printed(f"import gc; {keep}; {again}")
    before, after = map(int, counts.split())
    assert 0 < after <= before + 10
