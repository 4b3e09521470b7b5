"""Settings of the store and of downloads by URL."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ENVIRONMENT = "RAYDUB_STORE"


class StoreConfig(BaseModel):
    """The store, which keeps results to be used again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = None
    """A folder, or a URL of fsspec's: s3://bucket/path, gs://…, memory://…; ``none`` keeps nothing.

    None takes RAYDUB_STORE, else a folder in the user's cache. Credentials and endpoints come from the environment
    (AWS_…, FSSPEC_S3_ENDPOINT_URL).
    """
    max_bytes: int = Field(default=20_000_000_000, ge=1_000_000)
    """Limit of a folder: the least recently used results go first. Buckets have lifecycle rules of their own."""
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Time limit of one request to a bucket."""
    max_attempts: int = Field(default=3, ge=1, le=10)
    pause_s: float = Field(default=30.0, ge=0)
    """Time for which a store that failed is not asked again."""

    def resolved_url(self) -> str:
        from actors import weights  # only here: the configuration is read by every command

        return self.url or os.environ.get(ENVIRONMENT) or str(weights.cache_dir() / "store")


class FetchConfig(BaseModel):
    """Limits on inputs that are URLs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schemes: tuple[Literal["https", "http"], ...] = ("https",)
    buckets: tuple[str, ...] = ("s3", "gs", "gcs", "abfs", "az")
    """Schemes of other URLs that inputs may have, of the file systems of fsspec."""
    allow_private: bool = False
    """Allow addresses of this machine and its networks, too. Only where every caller is trusted."""
    allow_hosts: tuple[str, ...] = ()
    """Hosts that may have private addresses, such as the storage of this network."""
    max_bytes: int = Field(default=20_000_000_000, ge=1)
    timeout_s: float = Field(default=3600.0, gt=0)
    """Time limit of one download, with all its redirects and attempts."""
    silence_s: float = Field(default=30.0, gt=0)
    """Longest wait for an answer, or for its next byte."""
    min_bytes_per_s: int = Field(default=32_768, ge=0)
    """Mean rate that a download must have once ``silence_s`` are over."""
    max_redirects: int = Field(default=5, ge=0, le=20)
    attempts: int = Field(default=3, ge=1, le=10)
    """Attempts if the other side breaks off, or answers 429 or 5xx."""
