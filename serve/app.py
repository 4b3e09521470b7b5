"""The service on Ray Serve, where each replica is a dispatcher: ``raydub serve``, or ``serve run serve.app:app``."""

from __future__ import annotations

import logging
import os
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, field_validator
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingContext

from actors.errors import ConfigError
from cluster import logs
from cluster.logs import LogFormat
from serve.api.app import make_api
from serve.dispatch.dispatcher import Dispatcher, DispatcherSetup
from serve.dispatch.health import CHECK_EVERY_S, LET_GO_S
from serve.settings import ServeSettings, is_loopback, load_profiles, load_service

NAME = "raydub"
HAPROXY_VARIABLE = "RAY_SERVE_ENABLE_HA_PROXY"
"""Ray's own variable."""
MAX_ONGOING_REQUESTS = 1000
"""Requests that one dispatcher answers at a time, event streams included. More wait at the proxy."""
MAX_QUEUED_REQUESTS = 1000
RETRY_AFTER_S = 5
"""Sent with the answer 429, when the proxy's queue is full too."""
STOP_S = LET_GO_S + 15.0
"""Time for a dispatcher to notice that it is stopped, and to clean up after its jobs have had theirs."""


class Choice(BaseModel):
    """The arguments of ``raydub serve``, and ``args`` in a Serve config file: they choose the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: str = "offline"
    profile: str | None = None
    set: tuple[str, ...] = ()
    log_level: str = "INFO"
    log_format: LogFormat | None = None
    """None takes RAYDUB_LOG_FORMAT, else text."""
    on_loopback: bool = False
    """True if only programs of this machine can reach the service, so that it may be used without a key. `raydub serve`
    sets it where it opens the port itself; behind Ray Serve's proxies in general nothing else is a proof."""

    @field_validator("set", mode="before")
    @classmethod
    def _from_string(cls, given: object) -> object:
        """``serve run … set=a.b=c`` passes a string."""
        return (given,) if isinstance(given, str) else given


@serve.ingress()
class Service:
    """A dispatcher with its HTTP API."""

    def __init__(self, choice: dict[str, Any]) -> None:
        chosen = Choice.model_validate(choice)
        logs.set_up(logging.getLevelNamesMapping()[chosen.log_level.upper()], chosen.log_format)
        self._setup = make_setup(chosen)
        self._api = make_api(self._setup)

    def __serve_build_asgi_app__(self) -> FastAPI:  # called by Ray Serve
        return self._api

    def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica if it raises."""
        self._setup.health.note_check()
        self._setup.health.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Ray Serve, as input to ``wanted_dispatchers``."""
        dispatcher: Dispatcher = self._api.state.dispatcher
        return await dispatcher.runner.load()


def wanted_dispatchers(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """The number of dispatchers that keeps requests at their target and runs all dubs at once.

    Ray Serve counts only requests, and the request for a dub has ended when the dub begins.
    """
    assert context.config is not None
    metrics = context.aggregated_metrics or {}
    for_requests = context.total_num_requests / context.config.target_ongoing_requests
    # Each dispatcher reports its own running dubs, but all report the same waiting ones.
    for_dubs = sum(metrics.get("running", {}).values()) + max(metrics.get("waiting", {}).values(), default=0.0)
    return max(for_requests, for_dubs), {}


def make_setup(chosen: Choice) -> DispatcherSetup:
    """Raises ConfigError."""
    settings, config = load_service(chosen.config, chosen.set, chosen.profile)
    configs = load_profiles(settings, config, chosen.config, chosen.set)
    return DispatcherSetup(settings=settings, configs=configs, on_loopback=chosen.on_loopback)


def app(args: Choice | dict[str, Any]) -> Application:
    """The application for Ray Serve, which passes ``args`` as they are written in its config file.

    Raises ConfigError here, so that replicas do not fail again and again.
    """
    chosen = Choice.model_validate(args)
    settings, _ = load_service(chosen.config, chosen.set, chosen.profile)
    check_keys(settings)
    check_database(settings)
    scaling = settings.scaling
    deployment = serve.deployment(
        Service,
        name="dispatcher",
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        max_queued_requests=MAX_QUEUED_REQUESTS,
        backpressure_config={"status_code": 429, "retry_after_s": RETRY_AFTER_S},
        # A dispatcher mostly waits. The pools' replicas do the work and request their own CPUs.
        ray_actor_options={"num_cpus": 0, "resources": dict(scaling.resources)},
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
    """Raise ConfigError if the service is to be reached over the network without a key."""
    if settings.auth.required is not False:
        return
    if not is_loopback(settings.host) or listens_everywhere():
        found = f"{HAPROXY_VARIABLE}=1" if listens_everywhere() else f"serve.host is {settings.host}"
        raise ConfigError(
            "serve.auth.required must not be false where other machines can reach the service; "
            f"{found}; make a key with `raydub serve keys add NAME`"
        )


def listens_everywhere() -> bool:
    """True if Ray Serve's proxy is HAProxy, which listens on all addresses whatever its options say."""
    return os.environ.get(HAPROXY_VARIABLE) == "1"


def check_database(settings: ServeSettings) -> None:
    """Raise ConfigError if dispatchers of several machines may get a database of SQLite, which is on one of them."""
    nodes = ray.nodes() if ray.is_initialized() else []  # type: ignore[no-untyped-call]
    num_nodes = max(1, len([node for node in nodes if node["Alive"]]))
    most = max(settings.scaling.min_dispatchers, settings.scaling.max_dispatchers)
    if settings.uses_sqlite and (most > 1 or num_nodes > 1):
        found = f"up to {most} dispatchers" if most > 1 else f"a cluster of {num_nodes} nodes"
        raise ConfigError(
            f"several dispatchers, or one on any of several nodes, must share a database server; found SQLite and "
            f"{found};"
            " set RAYDUB_DATABASE_URL or serve.database_url to a PostgreSQL database"
        )
