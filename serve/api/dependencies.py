"""The parameters that routes share: the dispatcher, its single models, the caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Form, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel

from actors.errors import ItemError
from serve.dispatch.dispatcher import Dispatcher
from serve.inference.inference import Inference
from serve.jobs.api_keys import Caller

SECURITY = [
    Security(HTTPBearer(auto_error=False, description="An API key.")),
    Security(APIKeyHeader(name="xi-api-key", auto_error=False, description="The same, in another header.")),
]
"""For the OpenAPI document only; ``Guard`` checks the key before a route is found."""

MULTIPART = Form(media_type="multipart/form-data")
"""For form models with files."""


IGNORED = "ignored_fields"
"""Name of the request's state that ``note_ignored`` fills."""


def note_ignored(request: Request, *names: str) -> None:
    """Tell the client, in the header ``Warning``, which of its fields have no effect."""
    request.scope["state"].setdefault(IGNORED, []).extend(name[:60] for name in names)


def once_each(form_model: type[BaseModel], *lists: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses a form in which a field is repeated, except those in ``lists``.

    Fields that the model does not have are noted as ignored. FastAPI would use the last of a repeated field, and drop
    what it does not know, without a word.
    """
    known = {field.alias or name for name, field in form_model.model_fields.items()}

    async def check(request: Request) -> None:
        counts = Counter(name for name, _ in (await request.form()).multi_items() if name not in lists)
        if repeated := [name[:60] for name, count in counts.items() if count > 1]:
            raise ItemError(f"a form's field must be given once; found more of {', '.join(repeated)}; send one")
        note_ignored(request, *(name for name in counts if name not in known))

    return check


def _dispatcher(request: Request) -> Dispatcher:
    dispatcher: Dispatcher = request.app.state.dispatcher
    return dispatcher


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


DispatcherDep = Annotated[Dispatcher, Depends(_dispatcher)]
CallerDep = Annotated[Caller, Depends(_caller)]


def _inference(dispatcher: DispatcherDep) -> Inference:
    return dispatcher.inference


InferenceDep = Annotated[Inference, Depends(_inference)]
