"""The manifests for Kubernetes keep to the schemas of what they declare."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.unit.kuberay import SCHEMAS

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCUMENTS = [
    (f"{path.name}#{number}", tree)
    for path in sorted(DEPLOY.glob("*.yaml"))
    for number, tree in enumerate(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    if isinstance(tree, dict) and tree.get("kind") in SCHEMAS
]


def raycluster() -> dict[str, Any]:
    return copy.deepcopy(next(tree for _, tree in DOCUMENTS if tree["kind"] == "RayCluster"))


def test_every_kind_with_a_schema_is_among_the_manifests() -> None:
    assert {tree["kind"] for _, tree in DOCUMENTS} == set(SCHEMAS)


@pytest.mark.parametrize("tree", [tree for _, tree in DOCUMENTS], ids=[name for name, _ in DOCUMENTS])
def test_a_manifest_has_only_fields_that_its_definition_knows(tree: dict[str, Any]) -> None:
    jsonschema.validate(tree, SCHEMAS[tree["kind"]])


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_the_schemas_are_schemas(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[kind])


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("spec", "enableInTreeAutoScaling"), True, "enableInTreeAutoScaling"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "0 is not of type 'string'"),
        (("spec", "authOptions", "mode"), "tokens", "'tokens' is not one of"),
        (("spec", "workerGroupSpecs", 0, "maxReplicas"), "10", "'10' is not of type 'integer'"),
        (("spec", "headGroupSpec", "template", "spec", "containers", 0, "env", 0, "value"), 1, "1 is not of type"),
        (("spec", "workerGroupSpecs", 1, "template", "spec", "grace"), 9, "grace"),
    ],
)
def test_a_mistake_in_a_manifest_is_found(path: tuple[str | int, ...], value: object, told: str) -> None:
    tree: Any = raycluster()
    place = tree
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError) as caught:
        jsonschema.validate(tree, SCHEMAS["RayCluster"])
    assert told in caught.value.message
