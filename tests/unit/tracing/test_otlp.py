"""Spans of a traced job, as a receiver of OTLP over HTTP decodes them."""

from __future__ import annotations

from cluster.config.schema import StageConfig
from cluster.pools.pool import Pool
from cluster.pools.replicas import InlineReplica
from cluster.tracing.config import TraceConfig
from cluster.tracing.spans import TraceParent, root_span, span
from cluster.tracing.tracer import Tracer
from tests.standins.echo import Item
from tests.standins.otlp_receiver import otlp_receiver

PARENT = TraceParent(trace_id="4bf92f3577b34da6a3ce929d0e0e4736", span_id="00f067aa0ba902b7")


async def test_a_line_is_one_trace_from_its_caller_to_its_replica() -> None:
    with otlp_receiver() as (url, found):
        tracer = Tracer(TraceConfig(otlp_url=url))
        stage = StageConfig(engine="tests.standins.echo")
        async with Pool("translation", stage, InlineReplica, tracer=tracer) as pool:
            with (
                root_span(tracer, TraceParent.inside(PARENT), PARENT, track="talk.mp4#0"),
                span("translate", item="u0001", branch="pt"),
            ):
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
