"""The dashboard and the rules ask for metrics that there are, by their exact names; alerts fire and clear."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cluster.metrics import jobs
from cluster.metrics.meters import exposition
from cluster.pools import metrics
from cluster.steps import align_shadow
from serve import metrics as service

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana.json"
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES_TEST = ROOT / "tests" / "unit" / "prometheus_rules_test.yml"
DEFINED_IN = (jobs, metrics, align_shadow, service)
"""Modules that define metrics as they are imported."""
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
"""Ends of the names that Prometheus has of a metric, by its kind."""


def exported() -> set[str]:
    """The names of all samples that there can be."""
    return {
        family.name + suffix
        for family in text_string_to_metric_families(exposition().decode())
        for suffix in SUFFIXES.get(family.type, ())
    }


def rules() -> list[dict[str, Any]]:
    tree = yaml.safe_load((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))
    return [rule for group in tree["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules()]


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_metrics_that_there_are(query: str) -> None:
    assert DEFINED_IN
    asked = set(re.findall(r"\bray_\w+", query))
    recorded = set(re.findall(r"\braydub:\w+", query))
    assert asked | recorded
    assert asked - exported() == set()
    assert recorded - {rule.get("record") for rule in rules()} == set()


def test_panels_have_their_own_ids_and_places() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def test_every_metric_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    families = text_string_to_metric_families(exposition().decode())
    names = {family.name.removeprefix("ray_") for family in families if not family.name.endswith("_created")}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


def test_every_alert_has_a_run_book() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 7
    for alert in alerts:
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert (page, anchor) == ("docs/operations.md", "alerts")
        assert f"| `{alert['alert']}` |" in text
    assert "\n## Alerts\n" in text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of the package prometheus, is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", PROMETHEUS / "rules.yml"),
        ("test", "rules", RULES_TEST),
    ],
    ids=["check", "test"],
)
def test_promtool_takes_the_rules_and_alerts_fire_and_clear(arguments: tuple[str | Path, ...]) -> None:
    ended = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus")
def test_make_monitor_starts_prometheus_on_the_same_files(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "MONITOR_PORT": port, "TMPDIR": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        command = ["make", "--no-print-directory", "monitor", "INLINE=localhost:1"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            url = f"http://127.0.0.1:{port}/api/v1/"
            names = {rule["name"] for rule in asked(f"{url}rules", process)["groups"][1]["rules"]}
            targets = asked(f"{url}targets", process)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    assert names == {rule["alert"] for rule in rules() if "alert" in rule}
    assert [target["labels"]["job"] for target in targets["activeTargets"] if "localhost:1" in target["scrapeUrl"]] == [
        "raydub"
    ]
    said = (tmp_path / "log").read_text()
    assert "Grafana" in said
    while list(tmp_path.glob("tmp.*")):  # make may end before the script has tidied up
        time.sleep(0.05)


def asked(url: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The answer of Prometheus, once it answers."""
    while True:
        assert process.poll() is None, "it ended"
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(url)
            if answer.status_code == 200 and any(answer.json()["data"].values()):
                return dict(answer.json()["data"])
        time.sleep(0.05)
