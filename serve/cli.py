"""The command ``raydub`` in full: all of cluster/cli.py, and ``raydub serve``."""

from __future__ import annotations

import asyncio
import getpass
import logging
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Annotated, Any, TypeVar

import typer

from actors.errors import ConfigError
from cluster import logs
from cluster.cli import app, main
from cluster.cli_options import ConfigName, Level, LogLevel, ProfileName, Set
from cluster.config import Config
from cluster.pools import ray_session
from serve.auth import add_key, hash_key, list_keys, revoke_key
from serve.database import Database
from serve.settings import KeyLimits, ServeSettings, load_service

R = TypeVar("R")

serve_app = typer.Typer(help="The service: dubbing over HTTP.", invoke_without_command=True)
keys_app = typer.Typer(no_args_is_help=True, help="API keys.")
serve_app.add_typer(keys_app, name="keys")
app.add_typer(serve_app, name="serve")


@serve_app.callback()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Past loopback, API keys are needed.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
    log_level: Level = LogLevel.INFO,
) -> None:
    """Serve dubbing over HTTP until interrupted. With ray.mode=inline in this one process, else on Ray Serve."""
    if context.invoked_subcommand is not None:
        return
    given = [*(assignments or ())]
    given += [] if host is None else [f"serve.host={host!r}"]
    given += [] if port is None else [f"serve.port={port}"]
    logs.set_up(logging.getLevelNamesMapping()[log_level.upper()])
    settings, dubbing = load_service(config, given, profile)
    run = _run_inline if dubbing.ray.mode == "inline" else _run_on_ray
    run(settings, dubbing, {"config": config, "profile": profile, "set": tuple(given), "log_level": log_level.upper()})


def _run_inline(settings: ServeSettings, _: Config, choice: dict[str, object]) -> None:
    import uvicorn

    from serve.api import make_api
    from serve.app import Choice, check_keys, make_dispatcher

    check_keys(settings)
    api = make_api(settings, make_dispatcher(Choice.model_validate(choice)))
    uvicorn.run(api, **server_options(settings))


def server_options(settings: ServeSettings) -> dict[str, Any]:
    """For uvicorn."""
    return {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "server_header": False,
        "timeout_keep_alive": settings.keep_alive_s,
        "timeout_graceful_shutdown": max(1, round(settings.drain_s)),
    }


def _run_on_ray(settings: ServeSettings, config: Config, choice: dict[str, object]) -> None:
    from ray import serve as ray_serve

    from serve.app import NAME, Choice
    from serve.app import app as build

    application = build(Choice.model_validate(choice))
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with ExitStack() as stack:
        stack.enter_context(ray_session(config))
        for number in (signal.SIGINT, signal.SIGTERM):  # Ray has set its own
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
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    requests_per_min: Annotated[int | None, typer.Option(min=1)] = None,
    max_active_dubs: Annotated[int | None, typer.Option(min=1)] = None,
    media_s_per_day: Annotated[float | None, typer.Option(min=0)] = None,
    config: ConfigName = "offline",
    assignments: Set = None,
) -> None:
    """Make a key and print it; it can be seen only now."""
    settings, _ = load_service(config, assignments or ())
    given = {
        "requests_per_min": requests_per_min,
        "max_active_dubs": max_active_dubs,
        "media_s_per_day": media_s_per_day,
    }
    chosen = {limit: number for limit, number in given.items() if number is not None}
    limits = KeyLimits(**{**settings.auth.limits.model_dump(), **chosen}) if chosen else None
    typer.echo(_asked(settings, lambda database: add_key(database, name[:64], limits)))


@keys_app.command("list")
def show(config: ConfigName = "offline", assignments: Set = None) -> None:
    """Print id, name and state of every key."""
    settings, _ = load_service(config, assignments or ())
    for key in _asked(settings, list_keys):
        typer.echo(f"{key.id}  {'revoked' if key.revoked_s else 'valid':7}  {key.name}")


@keys_app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `list` shows it.")],
    config: ConfigName = "offline",
    assignments: Set = None,
) -> None:
    """End a key; dispatchers hear of it within seconds."""
    settings, _ = load_service(config, assignments or ())
    _asked(settings, lambda database: revoke_key(database, key_id))


@keys_app.command("hash")
def print_hash() -> None:
    """Read a key from standard input and print what stands for it in serve.auth.keys."""
    key = (getpass.getpass("key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not key:
        raise ConfigError("a key must be given on standard input; found none")
    typer.echo(hash_key(key))


def _asked(settings: ServeSettings, query: Callable[[Database], Awaitable[R]]) -> R:
    async def ask() -> R:
        async with Database.open(settings.database) as database:
            return await query(database)

    return asyncio.run(ask())


if __name__ == "__main__":
    main()
