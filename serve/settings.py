"""The service's settings: the section ``serve`` of the same YAML that configures dubbing."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs
from pydantic import Field, ValidationError, field_validator

from actors.errors import ConfigError
from cluster.config import Config, Section, explain, load_config, profile_names
from cluster.places import is_url

KEYS_VARIABLE = "RAYDUB_API_KEYS"
ENVIRONMENT_PREFIX = "environment-"
"""Of the names of its keys."""
"""API keys in plain text, separated by commas; they have the default limits."""
WEBHOOK_VARIABLE = "RAYDUB_WEBHOOK_SECRET"
DATABASE_VARIABLE = "RAYDUB_DATABASE_URL"


class KeyLimits(Section):
    """What one API key may do."""

    requests_per_min: int = Field(default=600, ge=1)
    """Per dispatcher."""
    max_active_dubs: int = Field(default=16, ge=1)
    """Waiting or under way."""
    media_s_per_day: float = Field(default=48 * 3600.0, gt=0)
    """Media accepted for dubbing within any 24 hours, counted once for each target language."""


class ConfiguredKey(Section):
    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the key; `raydub serve keys hash` computes it. The key itself stands nowhere."""
    limits: KeyLimits = KeyLimits()


class AuthSettings(Section):
    required: bool | None = None
    """Whether every request needs an API key. None: as soon as there is a key, the address listened on is not
    loopback, or a proxy passes the request on."""
    keys: tuple[ConfiguredKey, ...] = ()
    limits: KeyLimits = KeyLimits()
    """Of keys that name none."""

    @field_validator("keys")
    @classmethod
    def _not_of_the_environment(cls, keys: tuple[ConfiguredKey, ...]) -> tuple[ConfiguredKey, ...]:
        if taken := [key.name for key in keys if key.name.startswith(ENVIRONMENT_PREFIX)]:
            raise ValueError(f"a key's name must not begin with {ENVIRONMENT_PREFIX}; found {taken[0]}")
        return keys


class ScalingSettings(Section):
    """Dispatchers: each holds pools of its own, so one more means a set of models more."""

    min_dispatchers: int = Field(default=1, ge=1)
    max_dispatchers: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=64.0, gt=0)
    """Per dispatcher. An open stream of events is a request too."""
    upscale_delay_s: float = Field(default=5.0, ge=0)
    downscale_delay_s: float = Field(default=300.0, ge=0)


class InferenceLimits(Section):
    """What one request to a single model may hold, and how long it may wait."""

    max_wait_s: float = Field(default=2.0, gt=0)
    """For its turn, as those before it are estimated to take in its pool; more are refused at once, with 429."""
    max_texts: int = Field(default=2048, ge=1)
    max_text_characters: int = Field(default=8192, ge=1)
    max_total_characters: int = Field(default=500_000, ge=1)
    max_alternatives: int = Field(default=8, ge=0, le=15)
    max_audio_s: float = Field(default=2 * 3600.0, gt=0)
    answer_s_per_audio_s: float = Field(default=1.0, ge=0)
    """Until the answer to a recording begins, for each of its seconds, besides serve.request_timeout_s."""


class StorageSettings(Section):
    """Of a ``data_dir`` that is a URL."""

    scratch_dir: Path = Field(default_factory=lambda: platformdirs.user_cache_path("raydub") / "scratch")
    """On this machine: uploads that arrive, and the source and results of dubs under way."""
    scratch_max_bytes: int = Field(default=100 * 2**30, ge=1)
    """Of each dispatcher: while as much lies there, it begins no dub and takes no upload. Those under way go on."""
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Without an answer to one request, which is then tried again."""
    patience_s: float = Field(default=120.0, ge=0)
    """For which a source or a result is tried again before its dub fails."""


class ServeSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    data_dir: str = Field(default_factory=lambda: str(platformdirs.user_data_path("raydub")))
    """Uploads and results: a folder that every dispatcher sees, or s3://bucket/prefix, gs://…, memory://…"""
    storage: StorageSettings = StorageSettings()
    database_url: str | None = None
    """SQLAlchemy's; None for SQLite in the folder ``data_dir``. RAYDUB_DATABASE_URL takes precedence."""
    auth: AuthSettings = AuthSettings()
    scaling: ScalingSettings = ScalingSettings()
    inference: InferenceLimits = InferenceLimits()
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the service; none by default."""
    allowed_hosts: tuple[str, ...] = ()
    """Names, besides loopback's, by which the service may be called without a key."""

    profiles: tuple[str, ...] = Field(default_factory=lambda: tuple(profile_names()))
    """Profiles a request may ask for. Each that differs in an engine's options starts pools of its own."""
    warm_languages: tuple[str, ...] = ()
    """Languages whose voices are loaded before the service calls itself ready."""

    max_upload_bytes: int = Field(default=4 * 2**30, ge=1)
    max_body_bytes: int = Field(default=2**20, ge=1024)
    """Of a request without a file."""
    keep_alive_s: int = Field(default=90, ge=1)
    """An idle connection is closed after so long: later than clients do, lest a request meet its closing."""
    upload_idle_s: float = Field(default=30.0, gt=0)
    """The longest silence within an upload."""
    upload_max_s: float = Field(default=3600.0, gt=0)
    request_timeout_s: float = Field(default=60.0, gt=0)
    """Until an answer begins, once the request is complete."""
    max_queued_dubs: int = Field(default=256, ge=1)
    """Waiting in all; more are refused."""
    max_streamed_dubs: int = Field(default=4, ge=1)
    """Under way by ``POST /v1/dub/stream``, per dispatcher; more are refused."""
    allow_source_urls: bool = True
    """The section `fetch` says which; it also decides where webhooks may go."""

    lease_s: float = Field(default=15.0, gt=0)
    """A job whose dispatcher gives no sign for so long is resumed by another."""
    poll_s: float = Field(default=1.0, gt=0)
    """How often a dispatcher looks for jobs that others accepted."""
    max_attempts: int = Field(default=3, ge=1)
    """Dispatchers a job may take down before it is given up."""
    drain_s: float = Field(default=30.0, ge=0)
    """What a stopping dispatcher gives its jobs to finish; the others are handed on."""
    webhook_attempts: int = Field(default=6, ge=1)
    keep_events_s: float = Field(default=30 * 86400.0, gt=0)
    """Events of a job, and what is known of its webhook, go so long after its last change; its results stay."""

    @field_validator("profiles")
    @classmethod
    def _known(cls, profiles: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(profiles) - set(profile_names()):
            raise ValueError(f"profiles are {', '.join(profile_names())}; found {', '.join(sorted(unknown))}")
        return profiles

    @property
    def database(self) -> str:
        """Raises ConfigError."""
        given = os.environ.get(DATABASE_VARIABLE) or self.database_url
        if given is None and is_url(self.data_dir):
            raise ConfigError(
                f"a database must be named where serve.data_dir is no folder; found {self.data_dir}; set "
                f"serve.database_url or {DATABASE_VARIABLE}"
            )
        return given or f"sqlite+aiosqlite:///{Path(self.data_dir).absolute() / 'raydub.db'}"

    @property
    def requires_key(self) -> bool:
        return self.auth.required if self.auth.required is not None else not is_loopback(self.host)

    def configured_keys(self) -> tuple[ConfiguredKey, ...]:
        """Those of the configuration and of the environment."""
        plain = [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
        digests = [hashlib.sha256(key.encode()).hexdigest() for key in plain]
        # Named by the key itself: what one made is not another's when keys come and go before it.
        named = [
            ConfiguredKey(name=f"{ENVIRONMENT_PREFIX}{digest[:16]}", sha256=digest, limits=self.auth.limits)
            for digest in digests
        ]
        return (*self.auth.keys, *named)

    @property
    def webhook_secret(self) -> str | None:
        return os.environ.get(WEBHOOK_VARIABLE) or None


def is_loopback(host: str) -> bool:
    """Whether this is a name or address of this machine that no other can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


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
    """The configuration under each profile a request may name; None for the service's own."""
    found: dict[str | None, Config] = {None: config}
    for profile in settings.profiles:
        found[profile] = load_service(name_or_file, assignments, profile)[1]
    return found
