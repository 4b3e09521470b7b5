"""What is deployed agrees with itself, with Ray's schema and with this package."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve.app import app, wanted_dispatchers

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def load(name: str) -> dict[str, Any]:
    tree = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    assert isinstance(tree, dict)
    return tree


def cluster_spec(name: str) -> dict[str, Any]:
    spec = load(name)["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["ray-aws.yaml", "ray-on-prem.yaml"])
def test_ray_up_takes_it(name: str) -> None:
    schema = json.loads((Path(ray.autoscaler.__path__[0]) / "ray-schema.json").read_text())
    jsonschema.validate(load(name), schema)


@pytest.mark.parametrize(
    ("name", "kind"), [("raycluster.yaml", "RayCluster"), ("rayjob.yaml", "RayJob"), ("rayservice.yaml", "RayService")]
)
def test_kuberay_finds_what_it_relies_on(name: str, kind: str) -> None:
    """The definitions are in no package: this is what raydub relies on of them."""
    tree, spec = load(name), cluster_spec(name)
    assert (tree["apiVersion"], tree["kind"]) == ("ray.io/v1", kind)
    assert spec["rayVersion"] == version("ray")
    assert spec["enableInTreeAutoscaling"] is True
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == {"cpu", "gpu"}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    pods = [spec["headGroupSpec"], *groups.values()]
    containers = [pod["template"]["spec"]["containers"][0] for pod in pods]
    assert len({container["image"] for container in containers}) == 1
    for container in containers:
        # KubeRay tells Ray what a node has by its limits: requests that differ would be promised twice.
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAYDUB_STORE"} <= {each["name"] for each in container["env"]}
    [gpu] = groups["gpu"]["template"]["spec"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for pod in pods:
        volumes = {volume["name"] for volume in pod["template"]["spec"]["volumes"]}
        mounts = {mount["name"] for mount in pod["template"]["spec"]["containers"][0]["volumeMounts"]}
        assert mounts <= volumes


def test_all_three_describe_the_same_cluster() -> None:
    assert cluster_spec("raycluster.yaml") == cluster_spec("rayjob.yaml") == cluster_spec("rayservice.yaml")


def test_the_service_is_the_one_in_the_configuration() -> None:
    deployed = yaml.safe_load(load("rayservice.yaml")["spec"]["serveConfigV2"])
    own = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text(encoding="utf-8"))
    for tree in (deployed, own):
        for application in tree["applications"]:
            application.pop("args")
    assert deployed == own


def test_the_batch_is_one_that_the_entry_point_takes() -> None:
    from typer.main import get_command
    from typer.testing import CliRunner

    from cluster.job import app

    words = load("rayjob.yaml")["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "cluster.job"]
    assert get_command(app).make_context("job", words[3:]).params["to"] == "pt"
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ray_(raydub_\w+?)(?:_total|_sum|_count|_bucket)?\b", target["expr"])
    }
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cluster").glob("*.py"))
    assert len(asked) >= 7
    assert [name for name in sorted(asked) if f'"{name}"' not in source] == []
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_image_copies_what_the_package_is_made_of() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    packages = re.search(r"^packages = \[(.+)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    assert copied == set(re.findall(r'"(\w+)"', packages[1]))


def test_ray_serve_builds_the_application_from_a_file_and_from_the_command_line() -> None:
    """By Ray's own way: it hands over what the file says, and strings from `serve run`."""
    own = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text(encoding="utf-8"))
    for given in (own["applications"][0]["args"], {"config": "offline", "set": "serve.data_dir=/srv/a"}):
        built = call_user_app_builder_with_args_if_necessary(app, given)
        [choice] = built._bound_deployment.init_args
        assert choice["config"] == given["config"]
        assert len(choice["set"]) == 1
        deployment = built._bound_deployment
        assert deployment.backpressure_config.status_code == 429
        scaling = deployment._deployment_config.autoscaling_config
        assert scaling.policy.get_policy()(contending(0, {"running": {"a": 3.0}}))[0] == 3


def contending(num_requests: float, metrics: dict[str, dict[str, float]]) -> AutoscalingContext:
    """As Ray Serve's controller describes two replicas."""
    return AutoscalingContext(
        deployment_id=None,
        deployment_name="dispatcher",
        app_name="raydub",
        current_num_replicas=2,
        target_num_replicas=2,
        running_replicas=[],
        total_num_requests=num_requests,
        total_queued_requests=0,
        aggregated_metrics=metrics,
        raw_metrics={},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=9,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=AutoscalingConfig(max_replicas=9, target_ongoing_requests=64),
    )


@pytest.mark.parametrize(
    ("num_requests", "running", "waiting", "wanted"),
    [
        (0, {}, {}, 0),
        (128, {"a": 0.5, "b": 0.0}, {"a": 0.0, "b": 0.0}, 2),
        (2, {"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 0.0}, 2),
        (2, {"a": 1.0, "b": 0.5}, {"a": 3.0, "b": 3.5}, 5),
    ],
)
def test_dispatchers_are_wanted_for_requests_and_for_dubs(
    num_requests: float, running: dict[str, float], waiting: dict[str, float], wanted: float
) -> None:
    assert wanted_dispatchers(contending(num_requests, {"running": running, "waiting": waiting}))[0] == wanted
