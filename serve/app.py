"""The service on Ray Serve: each replica is a dispatcher. ``serve run serve.app:app``, or ``raydub serve``."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, field_validator
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingContext

from actors.errors import ConfigError
from cluster import logs
from serve.api import make_api
from serve.dispatcher import CHECK_EVERY_S, LET_GO_S, Dispatcher
from serve.settings import ServeSettings, load_profiles, load_service

NAME = "raydub"
MAX_ONGOING_REQUESTS = 1000
"""Of one dispatcher, streams of events included; past it, requests wait at the proxy."""
MAX_QUEUED_REQUESTS = 1000
RETRY_AFTER_S = 5
"""When even the proxy's queue is full."""
STOP_S = LET_GO_S + 15.0
"""For a dispatcher to see that it is stopped, and to end what is left once it has given its jobs their time."""


class Choice(BaseModel):
    """Which configuration: the arguments of ``raydub serve``, and ``args`` in a Serve config file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str = "offline"
    profile: str | None = None
    set: tuple[str, ...] = ()
    log_level: str = "INFO"

    @field_validator("set", mode="before")
    @classmethod
    def _one(cls, given: object) -> object:
        """``serve run … set=a.b=c`` knows strings alone."""
        return (given,) if isinstance(given, str) else given


@serve.ingress()
class Service:
    """A dispatcher, and the HTTP API on it."""

    def __init__(self, choice: dict[str, Any]) -> None:
        chosen = Choice.model_validate(choice)
        logs.set_up(logging.getLevelNamesMapping()[chosen.log_level.upper()])
        self._dispatcher = make_dispatcher(chosen)

    def __serve_build_asgi_app__(self) -> FastAPI:  # the name that Ray Serve calls
        return make_api(self._dispatcher.settings, self._dispatcher)

    def check_health(self) -> None:
        """Asked by Ray Serve, which replaces the replica if it raises."""
        self._dispatcher.note_check()
        self._dispatcher.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Ray Serve, for ``wanted_dispatchers``."""
        return await self._dispatcher.work()


def wanted_dispatchers(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """As many as keep requests at their target, and as many as dub all that is to be dubbed at once.

    Ray Serve counts requests alone, and a dub's has ended when the dub begins.
    """
    assert context.config is not None
    metrics = context.aggregated_metrics or {}
    for_requests = context.total_num_requests / context.config.target_ongoing_requests
    # Each tells of its own dubs, and all of the same ones that wait.
    for_dubs = sum(metrics.get("running", {}).values()) + max(metrics.get("waiting", {}).values(), default=0.0)
    return max(for_requests, for_dubs), {}


def make_dispatcher(chosen: Choice) -> Dispatcher:
    """Raises ConfigError."""
    settings, config = load_service(chosen.config, chosen.set, chosen.profile)
    return Dispatcher(settings, load_profiles(settings, config, chosen.config, chosen.set))


def app(args: Choice | dict[str, Any]) -> Application:
    """What Ray Serve is to run; it hands ``args`` over as they were written.

    Raises ConfigError here, rather than again and again in replicas.
    """
    chosen = Choice.model_validate(args)
    settings, _ = load_service(chosen.config, chosen.set, chosen.profile)
    check_keys(settings)
    scaling = settings.scaling
    deployment = serve.deployment(
        Service,
        name="dispatcher",
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        max_queued_requests=MAX_QUEUED_REQUESTS,
        backpressure_config={"status_code": 429, "retry_after_s": RETRY_AFTER_S},
        # It waits and forwards; what works are the pools' replicas, which ask for their own.
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=CHECK_EVERY_S,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=settings.drain_s + STOP_S,
        autoscaling_config={
            "min_replicas": scaling.min_dispatchers,
            "max_replicas": max(scaling.min_dispatchers, scaling.max_dispatchers),
            "target_ongoing_requests": scaling.target_ongoing_requests,
            "upscale_delay_s": scaling.upscale_delay_s,
            "downscale_delay_s": scaling.downscale_delay_s,
            "policy": {"policy_function": wanted_dispatchers},
        },
    )
    bound: Application = deployment.bind(chosen.model_dump())  # type: ignore[attr-defined]  # ingress hides the class
    return bound


def check_keys(settings: ServeSettings) -> None:
    """Raise ConfigError if the whole network could reach the service and nobody would need a key."""
    if settings.auth.required is False and not settings.host.startswith("127.") and settings.host != "localhost":
        raise ConfigError(
            f"serve.auth.required must not be false where others can reach the service; serve.host is {settings.host}"
        )
