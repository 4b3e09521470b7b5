"""Ray's job API, as ``raydub submit`` and ``raydub jobs`` use it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import tenacity
import typer
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from actors.errors import ConfigError, DubbingError
from cluster.cli.options import EXIT_INPUT, EXIT_VERDICT

SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "STOPPED")
"""Final states: members of Ray's JobStatus, which are strings."""

SPEC_KEY, OUT_KEY = "raydub_spec", "raydub_out"
"""Metadata of a job that is a batch: the locations of its specification and its results."""

START_TIMEOUT_S = 60.0


def connect(address: str | None) -> JobSubmissionClient:
    """A client of the cluster's dashboard. Raises DubbingError."""
    if address is None:
        raise ConfigError("the cluster must be named; give --address http://head:8265 or set RAY_API_SERVER_ADDRESS")
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise DubbingError(
            f"the cluster at {address} must be given its token; found none here, or a wrong one; set "
            f"RAY_AUTH_MODE=token, and copy the head's ~/.ray/auth_token to here, or into RAY_AUTH_TOKEN"
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DubbingError(
            f"the cluster's dashboard at {address} must answer; {' '.join(str(error).split())}; is it running, "
            f"and is RAY_AUTH_MODE the same as there?"
        ) from error


def metrics_addresses(address: str) -> list[str]:
    """Host and port of the metrics of each node, and of Ray's own processes. Raises DubbingError."""
    # The client has no public way to ask the dashboard, and knows how to show it the cluster's token.
    answer = connect(address)._do_request("GET", "/api/prometheus/sd")
    if answer.status_code != HTTPStatus.OK:
        raise DubbingError(
            f"the cluster's dashboard at {address} must list its metrics; it answered {answer.status_code}; is it of "
            "Ray 2.60?"
        )
    return [target for group in answer.json() for target in group["targets"]]


def submit_job(client: JobSubmissionClient, **job: Any) -> None:
    """Submit, with retries: a cluster that has just started accepts no jobs for some seconds. Raises DubbingError."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(RuntimeError),
        stop=tenacity.stop_after_delay(START_TIMEOUT_S),
        wait=tenacity.wait_fixed(1),
        reraise=True,
    )
    try:
        retrying(client.submit_job, **job)
    except RuntimeError as error:
        raise DubbingError(f"the cluster must accept the job; {' '.join(str(error).split())}") from error


async def follow_job(client: JobSubmissionClient, job: str) -> int:
    """Print the job's log until the job ends; the exit status is the job's."""
    async for lines in client.tail_job_logs(job):
        typer.echo(lines, nl=False)
    details = client.get_job_info(job)
    if details.status == SUCCEEDED:
        return 0
    return EXIT_VERDICT if details.driver_exit_code == EXIT_VERDICT else EXIT_INPUT
