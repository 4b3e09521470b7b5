"""The command ``raydub`` in full: all of cluster/cli/main.py, and ``raydub serve``.

As there, a command imports the code that does its work when it runs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from actors.errors import ConfigError
from cluster import logs
from cluster.cli.main import app, main
from cluster.cli.options import ConfigName, Format, Level, LogLevel, ProfileName, Set

if TYPE_CHECKING:
    from cluster.config.schema import Config
    from serve.jobs.database import Database
    from serve.settings import ServeSettings

R = TypeVar("R")

serve_app = typer.Typer(invoke_without_command=True)
keys_app = typer.Typer(no_args_is_help=True, help="Add, list and revoke API keys.")
serve_app.add_typer(keys_app, name="keys")
app.add_typer(serve_app, name="serve", rich_help_panel="Serve")


@serve_app.callback()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; other than loopback needs API keys.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
    log_level: Level = LogLevel.INFO,
    log_format: Format = None,
) -> None:
    """Serve dubbing over HTTP until interrupted, or manage API keys.

    The service runs on Ray Serve, or in this one process with ray.mode=inline.
    """
    if context.invoked_subcommand is not None:
        return
    from cluster.pools.cluster_address import cluster_address
    from serve.settings import check_port, load_service

    given = [*(assignments or ())]
    given += [] if host is None else [f"serve.host={host!r}"]
    given += [] if port is None else [f"serve.port={port}"]
    logs.set_up(logging.getLevelNamesMapping()[log_level.upper()], log_format)
    settings, dubbing = load_service(config, given, profile)
    if cluster_address(dubbing.ray) is None:  # the service may be running already on a cluster
        check_port(settings)
    run = _run_inline if dubbing.ray.mode == "inline" else _run_on_ray
    log_choice = {"log_level": log_level.upper(), "log_format": log_format}
    run(settings, dubbing, {"config": config, "profile": profile, "set": tuple(given), **log_choice})


def _run_inline(settings: ServeSettings, _: Config, choice: dict[str, object]) -> None:
    import uvicorn

    from serve.api.app import make_api
    from serve.app import Choice, check_keys, make_setup
    from serve.settings import is_loopback

    check_keys(settings)
    # uvicorn listens where it is told to, and nowhere else.
    chosen = Choice.model_validate({**choice, "on_loopback": is_loopback(settings.host)})
    api = make_api(make_setup(chosen))
    uvicorn.run(api, **server_options(settings))


def server_options(settings: ServeSettings) -> dict[str, Any]:
    """Options of ``uvicorn.run``."""
    from serve.api.header_limit import with_header_limit

    return {
        "http": with_header_limit(settings.header_timeout_s),
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "server_header": False,
        "timeout_keep_alive": settings.keep_alive_s,
        "timeout_graceful_shutdown": max(1, round(settings.drain_s)),
    }


def _run_on_ray(settings: ServeSettings, config: Config, choice: dict[str, object]) -> None:
    import signal
    import threading
    from contextlib import ExitStack

    from ray import serve as ray_serve

    from cluster.pools.cluster_address import cluster_address
    from cluster.pools.ray_session import ray_session
    from serve.app import NAME, Choice, check_database, listens_everywhere
    from serve.app import app as build
    from serve.settings import is_loopback

    # On a cluster Ray Serve may run already, and listens where it was told to then.
    on_loopback = cluster_address(config.ray) is None and is_loopback(settings.host) and not listens_everywhere()
    application = build(Choice.model_validate({**choice, "on_loopback": on_loopback}))
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with ExitStack() as stack:
        stack.enter_context(ray_session(config))
        check_database(settings)
        for number in (signal.SIGINT, signal.SIGTERM):  # Ray has replaced them
            signal.signal(number, lambda *_: stopped.set())
        ray_serve.start(
            http_options={
                "host": settings.host,
                "port": settings.port,
                "keep_alive_timeout_s": settings.keep_alive_s,
            }
        )
        stack.callback(ray_serve.shutdown)
        ray_serve.run(application, name=NAME, route_prefix="/", blocking=False)
        typer.echo(f"serving at http://{settings.host}:{settings.port}", err=True)
        stopped.wait()


@keys_app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key's owner.")],
    requests_per_min: Annotated[int | None, typer.Option(min=1, help="Most requests per minute.")] = None,
    max_active_dubs: Annotated[int | None, typer.Option(min=1, help="Most dubs at a time.")] = None,
    media_s_per_day: Annotated[float | None, typer.Option(min=0, help="Most seconds of media per day.")] = None,
    config: ConfigName = "offline",
    assignments: Set = None,
) -> None:
    """Make a key and print it; it cannot be printed again."""
    from serve.jobs.api_keys import add_key
    from serve.settings import KeyLimits, load_service

    settings, _ = load_service(config, assignments or ())
    given = {
        "requests_per_min": requests_per_min,
        "max_active_dubs": max_active_dubs,
        "media_s_per_day": media_s_per_day,
    }
    chosen = {limit: number for limit, number in given.items() if number is not None}
    limits = KeyLimits(**{**settings.auth.limits.model_dump(), **chosen}) if chosen else None
    typer.echo(_query(settings, lambda database: add_key(database, name[:64], limits)))


@keys_app.command("list")
def show(config: ConfigName = "offline", assignments: Set = None) -> None:
    """Print id, state and name of every key."""
    from serve.jobs.api_keys import list_keys
    from serve.settings import load_service

    settings, _ = load_service(config, assignments or ())
    for key in _query(settings, list_keys):
        typer.echo(f"{key.id}  {'revoked' if key.revoked_s else 'valid':7}  {key.name}")


@keys_app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key, as `list` prints it.")],
    config: ConfigName = "offline",
    assignments: Set = None,
) -> None:
    """Revoke a key; running services refuse it within seconds."""
    from serve.jobs.api_keys import revoke_key
    from serve.settings import load_service

    settings, _ = load_service(config, assignments or ())
    _query(settings, lambda database: revoke_key(database, key_id))


@keys_app.command("webhook-secret")
def print_webhook_secret(
    owner: Annotated[
        str, typer.Argument(metavar="KEY", help="Id of a key, as `list` prints it; name of one of the configuration.")
    ] = "",
    config: ConfigName = "offline",
    assignments: Set = None,
) -> None:
    """Print the secret that the receivers of a key's webhooks check; without KEY, that of dubs made without a key."""
    from serve.jobs.api_keys import owner_named
    from serve.jobs.webhooks import owner_secret
    from serve.settings import WEBHOOK_VARIABLE, load_service

    settings, _ = load_service(config, assignments or ())
    if settings.webhook_secret is None:
        raise ConfigError(f"webhooks must have a secret to be signed; found none; set {WEBHOOK_VARIABLE}")
    found = _query(settings, lambda database: owner_named(database, settings, owner))
    typer.echo(owner_secret(settings.webhook_secret, found))


@keys_app.command("hash")
def print_hash() -> None:
    """Read a key from standard input and print its hash, for serve.auth.keys."""
    import getpass

    from serve.jobs.api_keys import hash_key

    key = (getpass.getpass("key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not key:
        raise ConfigError("a key must be given on standard input; found none")
    typer.echo(hash_key(key))


def _query(settings: ServeSettings, query: Callable[[Database], Awaitable[R]]) -> R:
    import asyncio

    from serve.jobs.database import Database

    async def run() -> R:
        async with Database.open(settings.database) as database:
            return await query(database)

    return asyncio.run(run())


if __name__ == "__main__":
    main()
