"""Spans of a traced job, as a receiver of OTLP over HTTP decodes them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from cluster.config.schema import StageConfig
from cluster.pools.pool import Pool
from cluster.pools.replicas import InlineReplica
from cluster.tracing import spans
from cluster.tracing.config import TraceConfig
from cluster.tracing.spans import TraceParent
from cluster.tracing.tracer import Tracer
from tests.standins.echo import Item

PARENT = TraceParent(trace_id="4bf92f3577b34da6a3ce929d0e0e4736", span_id="00f067aa0ba902b7")


@contextmanager
def receiver() -> Iterator[tuple[str, list[trace_pb2.Span]]]:
    """A receiver: its URL, and the spans that it got."""
    found: list[trace_pb2.Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            found.extend(
                span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", found
        finally:
            server.shutdown()
            thread.join()


async def test_a_line_is_one_trace_from_its_caller_to_its_replica() -> None:
    with receiver() as (url, found):
        tracer = Tracer(TraceConfig(otlp_url=url))
        stage = StageConfig(engine="tests.standins.echo")
        async with Pool("translation", stage, InlineReplica, tracer=tracer) as pool:
            with tracer.job(PARENT, "talk.mp4#0"), spans.span("translate", item="u0001", branch="pt"):
                await pool.submit(Item(value=1))
        await tracer.close()
    by_name = {span.name: span for span in found}
    assert {span.trace_id.hex() for span in found} == {PARENT.trace_id}
    dub, step, request = by_name["dub"], by_name["translate"], by_name["translation/tests.standins.echo"]
    assert dub.parent_span_id.hex() == PARENT.span_id
    assert (step.parent_span_id, request.parent_span_id) == (dub.span_id, step.span_id)
    for outer, inner in ((dub, step), (step, request)):
        assert outer.start_time_unix_nano <= inner.start_time_unix_nano
        assert inner.end_time_unix_nano <= outer.end_time_unix_nano
    attributes = {each.key: each.value for each in request.attributes}
    assert attributes["raydub.item"].string_value == "u0001"
    assert attributes["raydub.replica"].int_value == 0
