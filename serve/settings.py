"""The service's settings: the section ``serve`` of the YAML that also configures dubbing."""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, ValidationError, field_validator

from actors.errors import ConfigError
from cluster.config.load import explain, load_config, profile_names
from cluster.config.schema import Config, Section
from cluster.storage.locations import is_url

KEYS_VARIABLE = "RAYDUB_API_KEYS"
"""API keys in plain text, separated by commas; they have the default limits."""
ENVIRONMENT_PREFIX = "environment-"
"""Prefix of the names of keys from the environment."""
WEBHOOK_VARIABLE = "RAYDUB_WEBHOOK_SECRET"
DATABASE_VARIABLE = "RAYDUB_DATABASE_URL"


class KeyLimits(Section):
    """Limits of one API key."""

    requests_per_min: int = Field(default=600, ge=1)
    """For each dispatcher."""
    max_concurrent_requests: int = Field(default=64, ge=1)
    """Requests that are being answered at a time, open event streams included; for each dispatcher."""
    max_streamed_dubs: int = Field(default=2, ge=1)
    """Running dubs of ``POST /v1/dub/stream``, for each dispatcher."""
    max_active_dubs: int = Field(default=16, ge=1)
    """Dubs that are being uploaded, waiting or running."""
    media_s_per_day: float = Field(default=48 * 3600.0, gt=0)
    """Media accepted for dubbing within any 24 hours, counted once for each target language, each time it is made."""
    max_stored_bytes: int = Field(default=200 * 2**30, ge=1)
    """Size of all its sources and results; more uploads are refused until some dubs are deleted."""
    max_casts: int = Field(default=100, ge=0)
    """Casts that it keeps, of at most 16 MB each."""


class ConfiguredKey(Section):
    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the key, as `raydub serve keys hash` prints it. The key itself is not stored."""
    limits: KeyLimits = KeyLimits()


class AuthSettings(Section):
    required: bool | None = None
    """True if every request needs an API key, false if none does. None: every request needs one, unless `raydub serve`
    itself opened the port, on loopback and without HAProxy, no key was ever made, and no proxy forwards the request."""
    keys: tuple[ConfiguredKey, ...] = ()
    limits: KeyLimits = KeyLimits()
    """Limits of keys that have none of their own."""

    @field_validator("keys")
    @classmethod
    def _not_of_the_environment(cls, keys: tuple[ConfiguredKey, ...]) -> tuple[ConfiguredKey, ...]:
        if taken := [key.name for key in keys if key.name.startswith(ENVIRONMENT_PREFIX)]:
            raise ValueError(f"a key's name must not begin with {ENVIRONMENT_PREFIX}; found {taken[0]}")
        return keys


class ScalingSettings(Section):
    """The number of dispatchers. Each has its own pools, and so its own set of models."""

    min_dispatchers: int = Field(default=1, ge=1)
    max_dispatchers: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=64.0, gt=0)
    """For each dispatcher. An open event stream is a request too."""
    upscale_delay_s: float = Field(default=5.0, ge=0)
    downscale_delay_s: float = Field(default=300.0, ge=0)
    resources: Mapping[str, float] = {}
    """Custom Ray resources that one dispatcher reserves, by name. They keep dispatchers, which decode media, on the
    nodes that offer them: without any, Ray may place them on a head that has no processors to offer."""


class InferenceLimits(Section):
    """Limits of one request to a single model."""

    max_wait_s: float = Field(default=2.0, gt=0)
    """Estimated waiting time in the pool above which a request is refused at once, with 429."""
    max_texts: int = Field(default=2048, ge=1)
    max_text_characters: int = Field(default=8192, ge=1)
    max_total_characters: int = Field(default=500_000, ge=1)
    max_alternatives: int = Field(default=8, ge=0, le=15)
    max_audio_s: float = Field(default=2 * 3600.0, gt=0)
    answer_s_per_audio_s: float = Field(default=1.0, ge=0)
    """Additional time until the answer begins, for each second of a recording, besides serve.request_timeout_s."""


class StorageSettings(Section):
    """Settings of the data folder, and for a ``data_dir`` that is a URL."""

    scratch_dir: Path = Field(default_factory=lambda: platformdirs.user_cache_path("raydub") / "scratch")
    """Folder on this machine for uploads, and for the sources and results of running dubs."""
    scratch_max_bytes: int = Field(default=100 * 2**30, ge=1)
    """Size of a dispatcher's scratch folder above which it takes no new dub or upload. Running dubs go on."""
    min_free_bytes: int = Field(default=2 * 2**30, ge=0)
    """Free space of the disk with the data folder, or with the scratch folder, below which no new dub or upload is
    taken. Running dubs go on."""
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Time without an answer after which a request to the storage is tried again."""
    patience_s: float = Field(default=120.0, ge=0)
    """Time for which the transfer of a source or a result is tried again before its dub fails."""
    stray_grace_s: float = Field(default=7 * 86400.0, ge=0)
    """Time for which media that no job has are kept, since a cleanup first found them."""
    max_stray_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the media made lately that may have no job. If more have none, the database is probably not theirs, and
    none are removed."""


class DashboardSettings(Section):
    """The history that the page ``/dashboard`` shows, of one dispatcher and in its memory."""

    sample_s: float = Field(default=5.0, gt=0)
    """Interval at which a dispatcher notes its figures."""
    max_samples: int = Field(default=360, ge=2, le=10_000)
    """Samples that are kept; the oldest are dropped."""
    max_dubs: int = Field(default=200, ge=1, le=1000)
    """Latest finished dubs of a key that are compared by quality and speed."""


class ServeSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    data_dir: str = Field(default_factory=lambda: str(platformdirs.user_data_path("raydub")))
    """Uploads and results: a folder that every dispatcher sees, or s3://bucket/prefix, gs://…, memory://…"""
    storage: StorageSettings = StorageSettings()
    database_url: str | None = None
    """SQLAlchemy URL; None for SQLite in the folder ``data_dir``. RAYDUB_DATABASE_URL takes precedence."""
    auth: AuthSettings = AuthSettings()
    scaling: ScalingSettings = ScalingSettings()
    inference: InferenceLimits = InferenceLimits()
    dashboard: DashboardSettings = DashboardSettings()
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the service; none by default."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names, besides those of loopback, that may be used to call the service without a key."""

    profiles: tuple[str, ...] = Field(default_factory=lambda: tuple(profile_names()))
    """Profiles that a request may choose. A profile with other engine options starts its own pools."""
    warm_languages: tuple[str, ...] = ()
    """Languages whose voices are loaded before the service is ready."""

    max_upload_bytes: int = Field(default=4 * 2**30, ge=1)
    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Limit for requests without a file."""
    keep_alive_s: int = Field(default=90, ge=1)
    """Time after which an idle connection is closed. Longer than clients wait, so that no request is cut off."""
    header_timeout_s: float = Field(default=30.0, gt=0)
    """Time for the headers of a request, with ray.mode=inline. Ray Serve's proxies take as long as clients do."""
    upload_idle_s: float = Field(default=30.0, gt=0)
    """Longest pause within an upload."""
    upload_max_s: float = Field(default=3600.0, gt=0)
    request_timeout_s: float = Field(default=60.0, gt=0)
    """Time until the answer begins, once the request is complete."""
    max_queued_dubs: int = Field(default=256, ge=1)
    """Dubs of all owners that may wait; more are refused."""
    max_streamed_dubs: int = Field(default=4, ge=1)
    """Running dubs of ``POST /v1/dub/stream`` for each dispatcher; more are refused."""
    allow_source_urls: bool = True
    """The section `fetch` decides which URLs are allowed, also for webhooks."""

    guest_dubs: int = Field(default=1, ge=0)
    """Dubs beyond ``pipeline.max_videos`` that a dispatcher runs for keys that have none running there: so no key's
    long dubs hold all places."""
    max_fetches: int = Field(default=8, ge=1)
    """Sources that a dispatcher downloads at a time. They take no place from running dubs."""
    max_fetches_per_key: int = Field(default=2, ge=1)
    """Sources of one owner that all dispatchers together download at a time."""
    share_results: bool = True
    """True if what was computed for one key is found for all. A key can then tell by the time of an answer that
    somebody asked for the same before; false computes it again for each."""
    lease_s: float = Field(default=15.0, gt=0)
    """Time without a sign of its dispatcher after which a job is resumed by another."""
    poll_s: float = Field(default=1.0, gt=0)
    """Interval at which a dispatcher checks for jobs that others accepted."""
    max_attempts: int = Field(default=3, ge=1)
    """Attempts that may end with the death of the dispatcher before a job is given up."""
    drain_s: float = Field(default=30.0, ge=0)
    """Time that a stopping dispatcher gives its jobs to finish; the others are handed on."""
    webhook_attempts: int = Field(default=6, ge=1)
    keep_dubs_s: float | None = Field(default=None, gt=0)
    """Time after its last change for which a dub that has ended is kept, with its media. None keeps it until it is
    deleted."""
    keep_events_s: float = Field(default=30 * 86400.0, gt=0)
    """Time after its last change for which a job's events and webhook are kept. Its results stay."""

    @field_validator("profiles")
    @classmethod
    def _known(cls, profiles: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(profiles) - set(profile_names()):
            raise ValueError(f"profiles must be among {', '.join(profile_names())}; found {', '.join(sorted(unknown))}")
        return profiles

    @property
    def database(self) -> str:
        """Raises ConfigError."""
        given = os.environ.get(DATABASE_VARIABLE) or self.database_url
        if given is None and is_url(self.data_dir):
            raise ConfigError(
                f"a database must be named if serve.data_dir is not a folder; found {self.data_dir}; set "
                f"serve.database_url or {DATABASE_VARIABLE}"
            )
        return given or f"sqlite+aiosqlite:///{Path(self.data_dir).absolute() / 'raydub.db'}"

    @property
    def uses_sqlite(self) -> bool:
        """Raises ConfigError."""
        return self.database.startswith("sqlite")

    def configured_keys(self) -> tuple[ConfiguredKey, ...]:
        """The keys of the configuration and of the environment."""
        plain = [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
        digests = [hashlib.sha256(key.encode()).hexdigest() for key in plain]
        # Named by the key itself, so that a dub keeps its owner when other keys are added or removed.
        named = [
            ConfiguredKey(name=f"{ENVIRONMENT_PREFIX}{digest[:16]}", sha256=digest, limits=self.auth.limits)
            for digest in digests
        ]
        return (*self.auth.keys, *named)

    @property
    def webhook_secret(self) -> str | None:
        return os.environ.get(WEBHOOK_VARIABLE) or None


def is_loopback(host: str) -> bool:
    """True for a name or an address that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_port(settings: ServeSettings) -> None:
    """Raise ConfigError if the service cannot listen on its address and port."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            _try_to_bind(family, kind, protocol, address)
    except OSError as error:
        raise ConfigError(
            f"the service must be able to listen on {settings.host}:{settings.port}; found: {error.strerror}; stop the "
            "program that listens there, or choose another with --port or --host"
        ) from error


def _try_to_bind(family: int, kind: int, protocol: int, address: Any) -> None:
    try:
        with socket.socket(family, kind, protocol) as tried:
            # As servers do: a port whose last connections are just closing is free.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        # A name such as localhost may stand for an IPv6 address where the machine has no IPv6; servers leave it out.
        if family != socket.AF_INET6 or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise


def load_service(
    name_or_file: str = "offline", assignments: Sequence[str] = (), profile: str | None = None
) -> tuple[ServeSettings, Config]:
    """The service's settings and dubbing's. Raises ConfigError."""
    config = load_config(name_or_file, assignments, profile)
    try:
        settings = ServeSettings.model_validate(config.serve)
    except ValidationError as error:
        raise ConfigError(explain(error, ServeSettings, "serve.")) from error
    return settings, config.model_copy(update={"serve": {}})


def load_profiles(
    settings: ServeSettings, config: Config, name_or_file: str, assignments: Sequence[str]
) -> dict[str | None, Config]:
    """The configuration for each profile that a request may name; None for the service's own."""
    found: dict[str | None, Config] = {None: config}
    for profile in settings.profiles:
        found[profile] = load_service(name_or_file, assignments, profile)[1]
    return found


def config_for(configs: Mapping[str | None, Config], profile: str | None) -> Config:
    """Raises ConfigError if requests may not choose this profile."""
    if profile not in configs:
        names = ", ".join(name for name in configs if name is not None)
        raise ConfigError(f"profile must be one of {names or 'none'}; found {str(profile)[:60]!r}")
    return configs[profile]
