"""LibreTranslate's endpoints, as its clients call them.

https://docs.libretranslate.com. Bodies are JSON or forms; errors are ``{"error": …}``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData

from actors import languages
from actors.errors import ConfigError, ItemError
from serve.api.dependencies import SECURITY, DispatcherDep, InferenceDep
from serve.api.middleware import admit
from serve.api.problems import ImitatedRouter, Problem
from serve.inference.inference import Inference
from serve.inference.language_id import DetectedLanguage
from serve.inference.markup import translate_html
from serve.inference.prose import translate_lines, translate_prose

NUM_DETECTED = 5
LEAST_PROBABILITY = 0.01

Body = TypeVar("Body", bound=BaseModel)


class TranslateBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    q: str | list[str]
    source: str = Field(default="auto", max_length=35)
    target: str = Field(max_length=35)
    format: Literal["text", "html"] = "text"
    alternatives: int = Field(default=0, ge=0, le=15)
    api_key: str | None = Field(default=None, max_length=256)
    secret: str | None = Field(default=None, max_length=256, description="Ignored: LibreTranslate's own page sends it.")


class DetectBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    q: str
    api_key: str | None = Field(default=None, max_length=256)


class _Key(BaseModel):
    """The key in a body; its other fields are ignored."""

    api_key: str | None = None


def libretranslate_error(problem: Problem) -> dict[str, Any]:
    """An error as LibreTranslate's clients expect it."""
    return {"error": problem.detail}


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a body that may be JSON or a form."""
    schema = model.model_json_schema()
    kinds = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}}


router = ImitatedRouter(
    tags=["LibreTranslate"],
    dependencies=SECURITY,
    error_paths=("/translate", "/detect", "/languages", "/health", "/spec", "/frontend/settings"),
    error_body=libretranslate_error,
)
PUBLIC = ("/languages", "/health", "/spec", "/frontend/settings")
"""Paths that need no key at LibreTranslate either."""


@router.post("/translate", openapi_extra=_takes(TranslateBody))
async def translate(request: Request, inference: InferenceDep) -> Response:
    """Translate a text or a list of texts."""
    return JSONResponse(await _translate(inference, await _parsed(request, TranslateBody)))


@router.post("/detect", openapi_extra=_takes(DetectBody))
async def detect(request: Request, inference: InferenceDep) -> Response:
    """Detect the language of a text; the most likely one is first."""
    body = await _parsed(request, DetectBody)
    if not body.q:
        raise HTTPException(400, "Invalid request: missing q parameter")
    _check(inference, [body.q])
    [[best, *others]] = await inference.detect([body.q])
    likely = [each for each in others[: NUM_DETECTED - 1] if each.probability >= LEAST_PROBABILITY]
    return JSONResponse([_detected(language) for language in (best, *likely)])


@router.get("/languages")
async def known(inference: InferenceDep) -> list[dict[str, Any]]:
    """The languages that can be translated, each with its possible targets."""
    targets: dict[str, list[str]] = {}
    for pair in inference.language_pairs:
        targets.setdefault(pair.source, []).append(pair.target)
    return [
        {"code": source, "name": languages.display_name(source), "targets": sorted(found)}
        for source, found in targets.items()
    ]


@router.get("/health")
async def health() -> dict[str, str]:
    """LibreTranslate's sign that it runs. See ``/readyz`` for the models."""
    return {"status": "ok"}


@router.get("/spec")
async def specification(request: Request) -> dict[str, Any]:
    """The OpenAPI document of these endpoints."""
    document: dict[str, Any] = request.app.openapi()
    own = {route.path for route in router.routes if isinstance(route, APIRoute)}
    return document | {"paths": {path: found for path, found in document["paths"].items() if path in own}}


@router.get("/frontend/settings")
async def settings(dispatcher: DispatcherDep) -> dict[str, Any]:
    """Settings that LibreTranslate's own page loads at its start."""
    inference = dispatcher.inference
    target = next((pair.target for pair in inference.language_pairs if pair.source == "en"), "en")
    return {
        "apiKeys": True,
        "charLimit": inference.limits.max_text_characters,
        "filesTranslation": False,
        "frontendTimeout": 500,
        "keyRequired": await dispatcher.key_ring.needs_key(),
        "language": {
            "source": {"code": "auto", "name": "Auto Detect"},
            "target": {"code": target, "name": languages.display_name(target)},
        },
        "suggestions": False,
        "supportedFilesFormat": [],
    }


async def _parsed(request: Request, model: type[Body]) -> Body:
    """The body, once the key in it is checked. Raises what ``admit`` raises, then HTTPException."""
    if request.headers.get("content-type", "").split(";")[0].strip() == "application/json":
        data = await request.body()
        validate, validate_key = partial(model.model_validate_json, data), partial(_Key.model_validate_json, data)
    else:
        form = _fields(await request.form())
        validate, validate_key = partial(model.model_validate, form), partial(_Key.model_validate, form)
    key = None
    with suppress(ValidationError):
        key = validate_key().api_key
    await admit(request, key)
    try:
        return validate()
    except ValidationError as error:
        raise _invalid(error) from error


def _fields(form: FormData) -> dict[str, Any]:
    """The fields of a form; a repeated ``q`` is a list of texts. Raises HTTPException for others."""
    found = {name: form.getlist(name) for name in form}
    if repeated := [name[:60] for name, values in found.items() if len(values) > 1 and name != "q"]:
        raise HTTPException(400, f"Invalid request: {', '.join(repeated)} must be given once")
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _invalid(error: ValidationError) -> HTTPException:
    """The error in the words of LibreTranslate, which clients compare."""
    problem = error.errors()[0]
    where = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "missing":
        detail = f"Invalid request: missing {where} parameter"
    elif problem["type"] == "json_invalid" or not where:
        detail = "Invalid JSON format"
    elif where == "format":
        detail = f"{str(problem['input'])[:60]} format is not supported"
    elif where == "alternatives" and problem["type"] == "int_parsing":
        detail = "Invalid request: alternatives parameter is not a number"
    else:
        detail = f"Invalid request: {where} parameter must be valid: {problem['msg']}"
    return HTTPException(400, detail)


async def _translate(models: Inference, body: TranslateBody) -> dict[str, Any]:
    texts = [body.q] if isinstance(body.q, str) else body.q
    if not texts or body.q == "":
        raise HTTPException(400, "Invalid request: missing q parameter")
    _check(models, texts)
    if body.alternatives > models.limits.max_alternatives:
        raise HTTPException(400, f"Invalid request: alternatives parameter must be <= {models.limits.max_alternatives}")
    await models.check_room("translation")
    target = _tag(body.target)
    detected = [best for best, *_ in await models.detect(texts)] if body.source == "auto" else []
    for number, found in enumerate(detected, start=1):
        if found.language not in {"und", languages.base(target)} | models.source_languages:
            raise _foreign(models, found, f"q {number}" if isinstance(body.q, list) else "q")
    sources = [found.language for found in detected] or [_tag(body.source)] * len(texts)
    for source in sorted(set(sources) - {"und"}):
        if not languages.same(source, target) and not models.can_translate(source, target):
            raise _unsupported(models, source, target)
    calls = (_versions(models, text, source, target, body) for text, source in zip(texts, sources, strict=True))
    versions = await asyncio.gather(*calls)
    answer: dict[str, list[Any]] = {"translatedText": [first for first, *_ in versions]}
    if body.alternatives:
        answer["alternatives"] = [others for _, *others in versions]
    if detected:
        answer["detectedLanguage"] = [_detected(found) for found in detected]
    return answer if isinstance(body.q, list) else {key: values[0] for key, values in answer.items()}


def _check(models: Inference, texts: Sequence[str]) -> None:
    """Raises HTTPException: LibreTranslate has one status for every wrong request."""
    try:
        models.check_texts(texts)
    except ItemError as error:
        raise HTTPException(400, f"Invalid request: {error.message}") from error


def _tag(given: str) -> str:
    """Raises HTTPException."""
    try:
        return languages.normalise(given)
    except ConfigError as error:
        raise HTTPException(400, f"{given} is not supported") from error


def _foreign(models: Inference, found: DetectedLanguage, where: str) -> HTTPException:
    """The reason why a text is not translated though its language was left open."""
    known = ", ".join(sorted(models.source_languages))
    return HTTPException(
        400,
        f"{languages.display_name(found.language)} ({found.language}) is not supported: it was detected in {where} "
        f"with a confidence of {100 * found.probability:.0f}; if that is wrong, name the source, one of {known}",
    )


def _unsupported(models: Inference, source: str, target: str) -> HTTPException:
    """The reason, in LibreTranslate's words, why this pair cannot be translated."""
    for tag, known in ((source, models.source_languages), (target, models.target_languages)):
        if languages.base(tag) not in known:
            return HTTPException(400, f"{tag} is not supported")
    name, from_name = languages.display_name(target), languages.display_name(source)
    return HTTPException(400, f"{name} ({target}) is not available as a target language from {from_name} ({source})")


async def _versions(models: Inference, text: str, source: str, target: str, body: TranslateBody) -> Sequence[str]:
    """The translation, then its alternatives."""
    if source == "und" or languages.same(source, target):
        return [text]

    async def translated(texts: Sequence[str]) -> list[Sequence[str]]:
        num = 1 if body.format == "html" else 1 + body.alternatives
        found = await models.translate(texts, source=source, target=target, num_candidates=num)
        return [[candidate.text for candidate in translation.candidates] for translation in found]

    if body.format == "text":
        return await translate_prose(text, translated)

    async def best(texts: Sequence[str]) -> list[str]:
        return [first for first, *_ in await translate_lines(texts, translated)]

    return [await translate_html(text, best, partial(models.word_links, source=source, target=target))]


def _detected(found: DetectedLanguage) -> dict[str, Any]:
    return {"language": found.language, "confidence": round(100 * found.probability, 1)}
