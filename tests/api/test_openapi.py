"""The OpenAPI document kept to: whatever is sent, no 5xx and no status that is not documented."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from serve.jobs.api_keys import hash_key
from tests.api.server import NO_MODELS, PATIENCE_S, Running, running

KEY = "a key for tests"
HEADERS = {"authorization": f"Bearer {KEY}", "xi-api-key": KEY}
EXAMPLES = 5
"""Of each operation, to stay well under a minute in all."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    # Nobody is held to a rate here; what is accepted by chance waits in a queue of its own.
    limits = "{requests_per_min: 1000000, max_active_dubs: 1000}"
    keys = f"serve.auth.keys=[{{name: tests, sha256: {hash_key(KEY)}, limits: {limits}}}]"
    settings = (*NO_MODELS, keys, "serve.allow_source_urls=false")
    with running(tmp_path_factory.mktemp("data"), *settings, config="base") as service:
        yield service


@pytest.mark.no_cover  # tracing triples its time
def test_no_request_breaks_what_the_document_says(service: Running) -> None:
    """Requests that the document allows, and some that it does not."""
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 25
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            ask(operation.as_strategy(generation_mode=mode))


def ask(cases: SearchStrategy[schemathesis.Case]) -> None:
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
        derandomize=True,
        database=None,
    )
    @given(case=cases)
    def one(case: schemathesis.Case) -> None:
        case.call_and_validate(
            checks=[not_a_server_error, status_code_conformance], timeout=PATIENCE_S, headers=HEADERS
        )

    with contextlib.suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
        one()
