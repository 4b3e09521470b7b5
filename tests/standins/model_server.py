"""A model server with OpenAI's endpoints: it translates, speaks and hears by rule, and fails as it is told to."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import threading
import time
import wave
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL = "standin"
HZ = 16_000

Reply = Callable[[dict[str, Any]], Response]


@dataclass
class ModelServer:
    """``url`` has the API; each request takes the next of ``replies``, or the rule's answer if there is none."""

    replies: deque[Reply] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all requests but those for the list of models."""
    headers: list[Mapping[str, str]] = field(default_factory=list)
    most_at_a_time: int = 0
    url: str = ""
    translate: Callable[[dict[str, Any]], list[str]] = field(init=False)
    models: Response | None = None
    _num_open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what it was asked and told."""
        while self._num_open:  # replies to a test that did not wait for them
            time.sleep(0.01)
        self.replies.clear()
        self.requests.clear()
        self.headers.clear()
        self.most_at_a_time = 0
        self.translate, self.models = phrases, None

    @property
    def options(self) -> dict[str, Any]:
        return {"base_url": self.url, "model": MODEL}

    @property
    def questions(self) -> list[dict[str, Any]]:
        """What the model of each chat was asked."""
        return [json.loads(body["messages"][1]["content"]) for body in self.requests if "messages" in body]

    def answer(self, body: dict[str, Any], rule: Reply) -> Response:
        """Runs on a thread of its own, as replies may sleep."""
        with self._lock:
            self._num_open += 1
            self.most_at_a_time = max(self.most_at_a_time, self._num_open)
            self.requests.append(body)
            reply = self.replies.popleft() if self.replies else rule
        try:
            return reply(body)
        finally:
            with self._lock:
                self._num_open -= 1

    def chat(self, body: dict[str, Any]) -> Response:
        question = json.loads(body["messages"][1]["content"])
        return completion(json.dumps({"translations": self.translate(question)}))

    def list_models(self) -> Response:
        return self.models or JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


def phrases(question: dict[str, Any]) -> list[str]:
    """Sentences that hold the terms; of other lengths from first to last."""
    terms = " ".join(question.get("terms", {}).values())
    said = f"{question['line'][::-1]} {terms}".strip()
    return [f"{said}{' sim' * number}" for number in range(question["translations"])]


def completion(content: str | None, finish_reason: str = "stop") -> Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    return JSONResponse({"id": "c", "object": "chat.completion", "choices": [choice]})


def error(status: int, text: str = "no", **headers: str) -> Reply:
    return lambda body: JSONResponse({"error": {"message": text}}, status, headers={**headers})


def half(body: dict[str, Any]) -> Response:
    """Half an answer, then the connection is closed."""

    def parts() -> Iterator[bytes]:
        yield b'{"choices": [{"mess'
        raise ConnectionResetError("the model died")

    return StreamingResponse(parts(), media_type="application/json", headers={"content-length": "1000"})


def speech(body: dict[str, Any]) -> Response:
    """A hum of 20 characters a second; ``pcm`` is at 24 kHz."""
    hz = 24_000 if body["response_format"] == "pcm" else HZ
    samples = (0.3 * np.sin(np.arange(len(body["input"]) * hz // 20) / 20) * 32767).astype("<i2")
    if body["response_format"] == "pcm":
        return Response(samples.tobytes(), media_type="audio/pcm")
    return Response(wav(samples, hz), media_type="audio/wav")


def wav(samples: np.ndarray[Any, Any], hz: int, num_channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(num_channels)
        written.setsampwidth(2)
        written.setframerate(hz)
        written.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def transcript(body: dict[str, Any]) -> Response:
    """A word for each second of the file, as whisper's servers answer: words without marks, times rounded."""
    with wave.open(io.BytesIO(body["file"])) as file:
        num_words = max(1, file.getnframes() // file.getframerate())
        length_s = file.getnframes() / file.getframerate()
    step_s = length_s / num_words
    names = [f"word{number}" for number in range(num_words)]
    words = [
        {"word": name, "start": round(number * step_s, 2), "end": round((number + 1) * step_s, 2)}
        for number, name in enumerate(names)
    ]
    text = f"{' '.join(names)}."
    segment = {"id": 0, "start": 0.0, "end": round(length_s, 2), "text": f" {text}", "avg_logprob": -0.2}
    return JSONResponse({"language": "english", "text": text, "segments": [segment], "words": words})


def make_app(server: ModelServer) -> Starlette:
    from starlette.concurrency import run_in_threadpool

    async def answer(request: Request, rule: Reply) -> Response:
        if request.headers["content-type"].startswith("multipart/"):
            form = await request.form()
            body: dict[str, Any] = {name: form.getlist(name) for name in form}
            body = {name: values if name.endswith("[]") else values[0] for name, values in body.items()}
            body["file"] = await body["file"].read()
        else:
            body = await request.json()
        server.headers.append(dict(request.headers))
        return await run_in_threadpool(server.answer, body, rule)

    async def chat(request: Request) -> Response:
        return await answer(request, server.chat)

    async def speak(request: Request) -> Response:
        return await answer(request, speech)

    async def hear(request: Request) -> Response:
        return await answer(request, transcript)

    async def models(request: Request) -> Response:
        return server.list_models()

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/audio/speech", speak, methods=["POST"]),
            Route("/v1/audio/transcriptions", hear, methods=["POST"]),
            Route("/v1/models", models),
        ]
    )


@contextlib.contextmanager
def serving() -> Iterator[ModelServer]:
    state = ModelServer()
    server = uvicorn.Server(uvicorn.Config(make_app(state), host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended while starting"
        time.sleep(0.01)
    state.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield state
    finally:
        server.should_exit = True
        thread.join()


_OPEN = contextlib.ExitStack()
"""Kept, as a server stops when nobody holds it."""


@functools.cache
def shared() -> ModelServer:
    """One server for the whole process, which ends with it."""
    return _OPEN.enter_context(serving())
