"""A real S3 server on this machine, with its bucket, that can be told to fail."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from s3fs import S3FileSystem
from werkzeug.serving import make_server

BUCKET = "media"
Fault = Literal["500", "slow", "short", "lost"]
"""An error; an answer after ``SLOW_S``; half of an answer's body, then the connection ends; an error though it was
done."""
SLOW_S = 1.0


@dataclass(kw_only=True)
class S3:
    url: str
    client: Any
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    """(method, fault): each meets the next request of its method, and is gone."""

    def keys(self, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return sorted(entry["Key"] for entry in found.get("Contents", ()))


class _Faulty:
    def __init__(self, app: Any, faults: list[tuple[str, Fault]]) -> None:
        self._app = app
        self._faults = faults

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        kinds = [kind for method, kind in self._faults if method == environ["REQUEST_METHOD"]]
        if kinds:
            self._faults.remove((environ["REQUEST_METHOD"], kinds[0]))
        if "500" in kinds[:1]:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]
        if "slow" in kinds[:1]:
            time.sleep(SLOW_S)
        if "lost" in kinds[:1]:
            b"".join(self._app(environ, lambda *_: None))
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]
        body = b"".join(self._app(environ, start_response))
        return [body[: len(body) // 2]] if "short" in kinds[:1] else [body]


@contextmanager
def s3_server() -> Iterator[S3]:
    """Started, and named in the environment, which fsspec and child processes read."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    faults: list[tuple[str, Fault]] = []
    app = _Faulty(DomainDispatcherApplication(create_backend_app), faults)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.server_port}",
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    S3FileSystem.clear_instance_cache()  # those of another server's time have its address
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield S3(url=f"s3://{BUCKET}", client=client, faults=faults)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        S3FileSystem.clear_instance_cache()
        server.shutdown()
        s3_backends.reset()  # moto keeps the buckets of a process, whichever server made them
