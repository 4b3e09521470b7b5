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
from ray.autoscaler._private.kuberay.autoscaling_config import _get_custom_resources
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve.app import app, wanted_dispatchers

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

CACHES = {"RAYDUB_STORE", "RAYDUB_CACHE", "HF_HUB_CACHE", "TTS_HOME", "COQUI_TOS_AGREED"}
GRACEFUL_STOP_S = 53
"""A dispatcher's, with the default settings: measured."""
DATABASE_VARIABLE = "RAYDUB_DATABASE_URL"


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
        # Offline containers find weights only where the prefetch job put them.
        assert CACHES.issubset(each["name"] for each in container["env"])
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    # With the token in the environment alone, the autoscaler and the job submitter are refused.
    assert spec["authOptions"] == {"mode": "token", "secretName": "raydub-ray-token"}
    for pod in pods:
        assert pod["template"]["spec"]["terminationGracePeriodSeconds"] > GRACEFUL_STOP_S
        assert pod["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    [gpu] = groups["gpu"]["template"]["spec"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for pod in pods:
        volumes = {volume["name"] for volume in pod["template"]["spec"]["volumes"]}
        mounts = {mount["name"] for mount in pod["template"]["spec"]["containers"][0]["volumeMounts"]}
        assert mounts <= volumes


def test_all_three_describe_the_same_cluster() -> None:
    """All but the database, which only the service has."""
    service = cluster_spec("rayservice.yaml")
    for pod in (service["headGroupSpec"], *service["workerGroupSpecs"]):
        [container] = pod["template"]["spec"]["containers"]
        container["env"] = [each for each in container["env"] if each["name"] != DATABASE_VARIABLE]
    assert cluster_spec("raycluster.yaml") == cluster_spec("rayjob.yaml") == service


def test_the_deployed_service_keeps_its_jobs_in_a_database_server() -> None:
    """SQLite's write-ahead log does not work on the shared volume."""
    head = cluster_spec("rayservice.yaml")["headGroupSpec"]["template"]["spec"]["containers"][0]
    [url] = [each for each in head["env"] if each["name"] == DATABASE_VARIABLE]
    assert url["valueFrom"]["secretKeyRef"]["name"] == "raydub-database"


def test_dispatchers_run_on_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They decode media, and ask for no processor: without more, the head would do."""
    monkeypatch.setenv(DATABASE_VARIABLE, "postgresql+psycopg://raydub@database/raydub")
    [application] = yaml.safe_load(load("rayservice.yaml")["spec"]["serveConfigV2"])["applications"]
    deployment = call_user_app_builder_with_args_if_necessary(app, application["args"])._bound_deployment
    needed = deployment.ray_actor_options["resources"]
    cluster = cluster_spec("rayservice.yaml")
    assert "resources" not in cluster["headGroupSpec"]["rayStartParams"]
    for group in cluster["workerGroupSpecs"]:
        offered = _get_custom_resources({}, group["rayStartParams"], group["groupName"])
        assert all(offered[name] >= number for name, number in needed.items())
    assert needed


def test_the_prefetch_job_puts_weights_where_the_cluster_looks() -> None:
    [job] = load("prefetch.yaml")["spec"]["template"]["spec"]["containers"]
    head = cluster_spec("raycluster.yaml")["headGroupSpec"]["template"]["spec"]["containers"][0]
    fetched = {each["name"]: each["value"] for each in job["env"]}
    used = {each["name"]: each.get("value") for each in head["env"]}
    assert fetched.pop("HF_HUB_OFFLINE") == "0"
    assert fetched.items() <= used.items()
    assert job["image"] == head["image"]


def test_the_language_model_is_the_one_that_the_configuration_asks() -> None:
    documents = {tree["kind"]: tree for tree in yaml.safe_load_all((DEPLOY / "llm.yaml").read_text(encoding="utf-8"))}
    options = yaml.safe_load((ROOT / "configs" / "llm.yaml").read_text(encoding="utf-8"))["translation"]["options"]
    service, pod = documents["Service"], documents["Deployment"]["spec"]["template"]
    [port] = service["spec"]["ports"]
    assert options["base_url"] == f"http://{service['metadata']['name']}:{port['port']}/v1"
    [container] = pod["spec"]["containers"]
    assert f"--model={options['model']}" in container["args"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert documents["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert documents["Deployment"]["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    [key] = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"] == "VLLM_API_KEY"]
    header = (DEPLOY / "llm.yaml").read_text(encoding="utf-8").partition("apiVersion")[0]
    assert f"name: {options['api_key_env']}, valueFrom: {{secretKeyRef: {{name: {key['name']}, key: key}}}}" in header
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_aws_machines_have_an_image_with_a_driver() -> None:
    """Ray's default image is of a system whose driver is too old."""
    for node in load("ray-aws.yaml")["available_node_types"].values():
        assert "nvidia-driver" in node["node_config"]["ImageId"]


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

    from cluster.cli.batch_job import app

    words = load("rayjob.yaml")["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "cluster.cli.batch_job"]
    assert get_command(app).make_context("job", words[3:]).params["to"] == "pt"
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0


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


def test_compose_shares_its_files_with_make_monitor() -> None:
    """Docker is not needed for it: the paths and names on both sides of each mount are compared."""
    compose = load("compose.yaml")
    services, volumes = compose["services"], set(compose["volumes"])
    assert set(services) == {"raydub", "volumes", "prometheus", "grafana"}
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in volumes or (DEPLOY / source).exists(), mount
    # In one network namespace, so that localhost is the same for all, and only one publishes ports.
    assert {services[name]["network_mode"] for name in ("prometheus", "grafana")} == {"service:raydub"}
    assert [name for name, service in services.items() if "ports" in service] == ["raydub"]
    assert all(re.search(r":v?\d+\.\d+", service["image"]) for service in services.values() if "image" in service)
    build = services["raydub"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    environment = services["grafana"]["environment"]
    for path in (DEPLOY / "grafana").rglob("*.yml"):
        for name in re.findall(r"\$(\w+)", path.read_text(encoding="utf-8")):
            assert name in environment
            assert name in (DEPLOY / "monitor.sh").read_text(encoding="utf-8")
    [dashboard] = [mount for mount in services["grafana"]["volumes"] if "grafana.json" in mount]
    assert dashboard.split(":")[1].startswith(environment["MONITOR_DASHBOARDS"])
    assert f"127.0.0.1:{environment['MONITOR_PORT']}:9090" in services["raydub"]["ports"]
