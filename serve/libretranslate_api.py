"""LibreTranslate's endpoints, as its clients call them: JSON or form posts, errors as ``{"error": …}``.

https://docs.libretranslate.com
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from lxml import html
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors import languages
from actors.errors import ItemError
from serve.errors import Problem
from serve.inference import Inference
from serve.middleware import admit
from serve.text_language import DetectedLanguage

NOT_PROSE = frozenset({"code", "pre", "script", "style", "textarea"})
"""Elements whose text is left as it is."""
NOT_IN_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""Characters that no tree of markup can hold; https://www.w3.org/TR/xml/#charsets."""
CHARACTER_REFERENCE = re.compile(r"&#(?:x0*([0-9a-f]{1,6})(?![0-9a-f])|0*([0-9]{1,7})(?![0-9]));?", re.IGNORECASE)
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


class DetectBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    q: str
    api_key: str | None = Field(default=None, max_length=256)


class _Key(BaseModel):
    """Of a body of any kind."""

    api_key: str | None = None


def libretranslate_problem(problem: Problem) -> dict[str, Any]:
    """An error as LibreTranslate's clients read it."""
    return {"error": problem.detail}


def libretranslate_routes(inference: Callable[[], Inference]) -> APIRouter:
    router = APIRouter(tags=["LibreTranslate"])

    @router.post("/translate", openapi_extra=_takes(TranslateBody))
    async def translate(request: Request) -> Response:
        """Translate a text or a list of texts."""
        return JSONResponse(await _translate(inference(), await _parsed(request, TranslateBody)))

    @router.post("/detect", openapi_extra=_takes(DetectBody))
    async def detect(request: Request) -> Response:
        """Which language a text is in, likeliest first."""
        models = inference()
        body = await _parsed(request, DetectBody)
        models.check_texts([body.q])
        found = models.detect(body.q)[:NUM_DETECTED]
        return JSONResponse([_detected(language) for language in found if language.probability >= LEAST_PROBABILITY])

    @router.get("/languages")
    async def known() -> list[dict[str, Any]]:
        """What can be translated into what."""
        targets: dict[str, list[str]] = {}
        for pair in inference().language_pairs:
            targets.setdefault(pair.source, []).append(pair.target)
        return [
            {"code": source, "name": languages.display_name(source), "targets": sorted(found)}
            for source, found in targets.items()
        ]

    return router


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    """The body, for the API's description: its fields, as JSON or as a form."""
    schema = model.model_json_schema()
    kinds = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}}


async def _parsed(request: Request, model: type[Body]) -> Body:
    """Raises ItemError; before that, what is raised where the key is wrong or missing."""
    if request.headers.get("content-type", "").split(";")[0].strip() == "application/json":
        data = await request.body()
        validate, validate_key = partial(model.model_validate_json, data), partial(_Key.model_validate_json, data)
    else:
        form = dict(await request.form())
        validate, validate_key = partial(model.model_validate, form), partial(_Key.model_validate, form)
    key = None
    with suppress(ValidationError):
        key = validate_key().api_key
    await admit(request, key)
    try:
        return validate()
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the body"
        raise ItemError(f"{where} must be valid: {problem['msg']}") from error


async def _translate(models: Inference, body: TranslateBody) -> dict[str, Any]:
    texts = [body.q] if isinstance(body.q, str) else body.q
    models.check_texts(texts)
    if body.alternatives > models.limits.max_alternatives:
        raise ItemError(f"alternatives must be at most {models.limits.max_alternatives}; found {body.alternatives}")
    await models.check_room("translation")
    target = languages.normalise(body.target)
    detected = [models.detect(text)[0] for text in texts] if body.source == "auto" else []
    sources = [found.language for found in detected] or [languages.normalise(body.source)] * len(texts)
    calls = (_versions(models, text, source, target, body) for text, source in zip(texts, sources, strict=True))
    versions = await asyncio.gather(*calls)
    answer: dict[str, list[Any]] = {"translatedText": [first for first, *_ in versions]}
    if body.alternatives:
        answer["alternatives"] = [others for _, *others in versions]
    if detected:
        answer["detectedLanguage"] = [_detected(found) for found in detected]
    return answer if isinstance(body.q, list) else {key: values[0] for key, values in answer.items()}


async def _versions(models: Inference, text: str, source: str, target: str, body: TranslateBody) -> Sequence[str]:
    """The translation, then its alternatives."""
    if source == "und" or languages.same(source, target):
        return [text]
    if body.format == "html":
        return [await _translate_html(models, text, source, target)]
    (translation,) = await models.translate([text], source=source, target=target, num_candidates=1 + body.alternatives)
    return [candidate.text for candidate in translation.candidates]


def parsable(text: str) -> str:
    """The markup without the characters that XML does not allow, as they are or by their numbers."""

    def allowed(reference: re.Match[str]) -> str:
        code = int(reference[1], 16) if reference[1] else int(reference[2])
        # Not nothing: what stands around it could become a reference then.
        return "\N{REPLACEMENT CHARACTER}" if code > sys.maxunicode or NOT_IN_XML.match(chr(code)) else reference[0]

    return CHARACTER_REFERENCE.sub(allowed, NOT_IN_XML.sub("", text))


async def _translate_html(models: Inference, text: str, source: str, target: str) -> str:
    """The same markup around translated prose; each run of text between tags is translated by itself."""
    root = html.fragment_fromstring(parsable(text), create_parent="div")
    places = [
        (element, part)
        for element in root.iter()
        for part in ("text", "tail")
        if (part == "tail" or (isinstance(element.tag, str) and element.tag not in NOT_PROSE))
        and (getattr(element, part) or "").strip()
    ]
    originals = [str(getattr(element, part)) for element, part in places]
    translated = await models.translate(originals, source=source, target=target)
    for (element, part), original, translation in zip(places, originals, translated, strict=True):
        before = original[: len(original) - len(original.lstrip())]
        after = original[len(original.rstrip()) :]
        setattr(element, part, NOT_IN_XML.sub("", before + translation.candidates[0].text.strip() + after))
    return str(html.tostring(root, encoding="unicode")).removeprefix("<div>").removesuffix("</div>")


def _detected(found: DetectedLanguage) -> dict[str, Any]:
    return {"language": found.language, "confidence": round(100 * found.probability, 1)}
