"""Ray on this machine: engines run, without the services that no dub uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json
from pathlib import Path

import psutil
import ray

from cluster.config.load import load_config
from cluster.pools.ray_session import ray_session

with ray_session(load_config("offline", ["ray.mode=local"])):
    assert ray.get(ray.remote(lambda: 6 * 7).remote()) == 42
    children = psutil.Process().children(recursive=True)
    names = {Path(part).name for child in children for part in child.cmdline()[:4]}
print(json.dumps(sorted(names)))
print(json.dumps([child.pid for child in psutil.wait_procs(children, timeout=60)[1]]))
"""


def test_a_local_ray_starts_few_services_and_ends_them(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    names, left = map(json.loads, ended.stdout.splitlines()[-2:])
    assert {"gcs_server", "raylet"} <= set(names)
    assert not {"dashboard.py", "log_monitor.py", "monitor.py"} & set(names)
    assert left == []
