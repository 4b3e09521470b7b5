"""A request's trace goes on in its job, its log records and its replicas."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cluster import logs
from tests.api.server import STANDINS, finished, running
from tests.standins.otlp_receiver import otlp_receiver

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_dub_belongs_to_the_trace_of_its_request(
    talk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def note_trace(record: logging.LogRecord) -> bool:
        record.trace = logs.fields().get("trace")
        return True

    caplog.handler.addFilter(note_trace)
    caplog.set_level(logging.INFO, "cluster")
    settings = (*STANDINS, "quality.check=none")
    with otlp_receiver() as (url, spans):
        with (
            running(tmp_path, *settings, f"trace.otlp_url={url}", config="base") as service,
            service.client() as client,
        ):
            with talk.open("rb") as file:
                form = {"to": "pt", "source": "en"}
                headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
                answer = client.post("/v1/dubs", data=form, files={"file": ("talk.mp4", file)}, headers=headers)
            made = finished(client, answer.json()["id"])
        assert made["state"] == "done", made["error"]
    ours = {span.span_id.hex(): span for span in spans if span.trace_id.hex() == TRACE}
    [request] = [span for span in ours.values() if span.name == "POST request"]
    [dub] = [span for span in ours.values() if span.name == "dub"]
    assert (request.parent_span_id.hex(), dub.parent_span_id) == (CALLER, request.span_id)
    assert {span.name for span in ours.values()} >= {"transcribe", "translate", "speak", "mix", "write"}
    assert all(span.parent_span_id.hex() in ours for span in ours.values() if span is not request)
    [plan] = [record for record in caplog.records if record.getMessage().startswith("plan job=")]
    assert plan.trace == TRACE  # type: ignore[attr-defined]
