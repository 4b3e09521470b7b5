"""The base of engines whose model is a server elsewhere: a replica asks it for several items at a time."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

import httpx
from pydantic import BaseModel, Field, field_validator

from actors import languages
from actors.engine import Engine, EngineConfig
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.remote.http import Answer, Bounds, RemoteApi, parsed
from actors.types import ItemFailure

Request = TypeVar("Request")
Result = TypeVar("Result")


class RemoteConfig(EngineConfig):
    """Options of every engine on a server; subclasses add their own."""

    base_url: str
    """Address of the API, without the endpoint: ``http://raydub-llm:8000/v1``."""
    model: str = Field(min_length=1)
    """Name of the model, as the server knows it."""
    weights: str | None = None
    """Identifies the weights behind the name, such as a commit. Results are stored by model and this: change it when
    the server's weights change under the same name."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the API key, on every node with a replica. None sends no key."""
    languages: tuple[str, ...] = ()
    """Languages that the model is trusted with, by language tag; none means all that the engine knows."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Requests that one replica sends at a time. Give the pool's batches as many items."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Seconds in which the server must answer one request."""
    batch_timeout_s: float = Field(default=240.0, gt=0)
    """Seconds for a batch with all its attempts; items still open then fail. Less than the pool's call_timeout_s."""
    start_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds in which the server must answer while a replica loads."""
    max_attempts: int = Field(default=5, ge=1, le=20)
    """Attempts for one item, after 429, 5xx, lost connections and answers of no use."""
    max_answer_bytes: int = Field(default=32_000_000, ge=1024)
    """Maximum size of one answer."""
    extra_body: Mapping[str, Any] = {}
    """Fields added to every request: ``{chat_template_kwargs: {enable_thinking: false}}``."""

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, given: str) -> str:
        try:
            url = httpx.URL(given)
        except httpx.InvalidURL as error:
            raise ValueError(f"{given!r} is no URL: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("it must begin with http:// or https:// and name a host")
        if url.userinfo:
            raise ValueError("it must hold no password; name the variable of a key in api_key_env")
        return given.rstrip("/")

    @field_validator("languages")
    @classmethod
    def _check_languages(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(languages.normalise(tag) for tag in given)
        except ConfigError as error:
            raise ValueError(error.message) from error


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class RemoteEngine(Engine[Request, Result]):
    """An engine whose model is a server: ``run`` asks for all items of a batch at once, and each fails alone."""

    Config: ClassVar[type[EngineConfig]] = RemoteConfig
    config: RemoteConfig
    runs_on_gpu = False
    neutral_options = Engine.neutral_options | {
        "base_url", "weights", "api_key_env", "languages", "concurrency", "timeout_s", "batch_timeout_s",
        "start_timeout_s", "max_attempts", "max_answer_bytes",
    }  # fmt: skip
    _api: RemoteApi | None = None

    @abstractmethod
    def answer(self, api: RemoteApi, request: Request, until_s: float) -> Result:
        """The result of one request, no later than ``until_s`` by ``time.monotonic``. Raises ItemError."""

    def weights_id(self) -> str | None:
        """The model's name and ``weights``: equal on every server that has it."""
        return f"{self.config.model}@{self.config.weights or ''}"

    def load(self) -> None:
        """Ask the server for its models until it answers. Raises EngineLoadError."""
        options = self.config
        bounds = Bounds(
            timeout_s=options.timeout_s, max_attempts=options.max_attempts, max_answer_bytes=options.max_answer_bytes
        )
        api = RemoteApi(options.base_url, self._key(), bounds)
        try:
            names = api.get("models", _model_names, time.monotonic() + options.start_timeout_s)
        except ItemError as error:
            api.close()
            raise EngineLoadError(
                f"{error.message}; options.base_url must be the address of an OpenAI-compatible API, and "
                "options.api_key_env the variable with its key"
            ) from error
        # Ollama lists "qwen3:8b", and takes "qwen3" for it too.
        if not any(name == options.model or name.startswith(f"{options.model}:") for name in names):
            api.close()
            known = ", ".join(names[:20])
            raise EngineLoadError(f"options.model must be a model of the server: {known}; found {options.model!r}")
        self._api = api

    def run(self, batch: Sequence[Request]) -> list[Result | ItemFailure]:
        """All results; items that have none when ``batch_timeout_s`` has passed fail."""
        api = self._api
        if api is None:
            raise EngineLoadError(f"{type(self).__module__} must be loaded before it runs; call load()")
        until_s = time.monotonic() + self.config.batch_timeout_s

        def result(request: Request) -> Result | ItemFailure:
            try:
                return self.answer(api, request, until_s)
            except ItemError as error:
                return ItemFailure(error=error)

        with ThreadPoolExecutor(self.config.concurrency) as threads:
            return list(threads.map(result, batch))

    def close(self) -> None:
        if self._api is not None:
            self._api.close()
            self._api = None

    def is_trusted_with(self, language: str) -> bool:
        """True if ``options.languages`` is empty or holds the language."""
        return not self.config.languages or languages.best_match(language, self.config.languages) is not None

    def _key(self) -> str | None:
        name = self.config.api_key_env
        if name is None:
            return None
        key = os.environ.get(name, "").strip()
        if not key:
            raise EngineLoadError(
                f"the environment variable {name} (options.api_key_env) must hold the API key; it is empty or not set "
                "here: set it on every node that holds replicas"
            )
        return key


def _model_names(answer: Answer) -> list[str]:
    return [model.id for model in parsed(_Models, answer.content).data]
