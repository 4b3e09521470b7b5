"""The OpenAPI document kept to: whatever is sent, no 5xx and no status that is not documented."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from tests.api.server import Running, running

EXAMPLES = 12
"""Of each operation, to stay well under a minute in all."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    # Nobody is held to a rate here; what is accepted by chance waits in a queue of its own.
    limits = "serve.auth.limits={requests_per_min: 1000000, max_active_dubs: 1000}"
    with running(tmp_path_factory.mktemp("data"), limits, "serve.allow_source_urls=false") as service:
        yield service


@pytest.fixture(scope="module")
def api_schema(service: Running) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("api_schema")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_no_request_breaks_what_the_document_says(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=[not_a_server_error, status_code_conformance], timeout=30)
