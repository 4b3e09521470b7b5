"""Tells the owner's own service how a job ended: signed, tried again until it is heard or given up.

What is to be told stands in the database from the moment the job ends, so that no death loses it. The
signature follows standardwebhooks.com: base64 of HMAC-SHA256 over ``id.timestamp.body``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hashlib
import hmac
import logging
import time

from sqlalchemy import select, update

from actors.errors import ConfigError, MediaError
from cluster.fetch import FetchConfig, post
from serve.database import Database, until_it_answers
from serve.settings import WEBHOOK_VARIABLE, ServeSettings
from serve.tables import Delivery

log = logging.getLogger(__name__)

LOOK_S = 1.0
TIMEOUT_S = 10.0
FIRST_DELAY_S = 5.0
DELAY_GROWTH = 5
"""Until the second try, and how much longer until each later one: six in an hour, for a receiver that starts anew."""
NUM_AT_ONCE = 16
"""Deliveries, so that a receiver that never answers holds up few others."""

ENCODED = "whsec_"


def signature(secret: str, message_id: str, timestamp: int, body: str) -> str:
    """``secret``: any text; or base64 behind ``whsec_``, as receivers' libraries have it. Raises ConfigError."""
    signed = f"{message_id}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    if not secret.startswith(ENCODED):
        return secret.encode()
    try:
        return base64.b64decode(secret[len(ENCODED) :], validate=True)
    except binascii.Error as error:
        raise ConfigError(f"{WEBHOOK_VARIABLE} must be base64 behind {ENCODED}, or any other text; {error}") from error


class Webhooks:
    """Raises ConfigError if the secret is none."""

    def __init__(self, settings: ServeSettings, fetching: FetchConfig, database: Database) -> None:
        self._settings = settings
        self._fetching = fetching.model_copy(update={"timeout_s": TIMEOUT_S, "silence_s": TIMEOUT_S})
        self._database = database
        if settings.webhook_secret is not None:
            _key(settings.webhook_secret)

    async def deliver_forever(self) -> None:
        room = asyncio.Semaphore(NUM_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                await room.acquire()
                due = await until_it_answers(self._take)
                if due is None:
                    room.release()
                    await asyncio.sleep(LOOK_S)
                    continue
                group.create_task(self._see_to(due)).add_done_callback(lambda _: room.release())

    async def _see_to(self, due: Delivery) -> None:
        error = await self._deliver(due)
        await until_it_answers(functools.partial(self._note, due, error))

    async def _take(self) -> Delivery | None:
        """The next one due; put off at once, so that a death, or another dispatcher, does not send it twice soon."""
        now_s = time.time()
        is_due = (
            Delivery.delivered_s.is_(None),
            Delivery.due_s <= now_s,
            Delivery.num_attempts < self._settings.webhook_attempts,
        )
        first = select(Delivery.id).where(*is_due).order_by(Delivery.due_s).limit(1)
        if self._database.is_postgres:
            first = first.with_for_update(skip_locked=True)
        delay_s = FIRST_DELAY_S + TIMEOUT_S
        query = (
            update(Delivery)
            .where(Delivery.id == first.scalar_subquery(), *is_due)
            .values(num_attempts=Delivery.num_attempts + 1, due_s=now_s + delay_s)
            .returning(Delivery)
            .execution_options(synchronize_session=False)
        )
        async with self._database.transaction() as session:
            return (await session.scalars(query)).one_or_none()

    async def _deliver(self, due: Delivery) -> str | None:
        """What went wrong, if anything."""
        secret = self._settings.webhook_secret
        if secret is None:
            return "no webhook secret is set"
        now_s = int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": due.id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": signature(secret, due.id, now_s, due.body),
        }
        try:
            status = await post(due.url, due.body.encode(), headers, self._fetching)
        except MediaError as error:
            return error.message
        except Exception as error:  # whatever one receiver's URL brings about must not end the others' deliveries
            log.exception("webhook id=%s", due.id)
            return f"{type(error).__name__}: {error}"
        return None if 200 <= status < 300 else f"it answered {status}"

    async def _note(self, due: Delivery, error: str | None) -> None:
        now_s = time.time()
        if error is not None:
            log.warning("webhook not delivered id=%s attempt=%d error=%s", due.id, due.num_attempts, error)
        values = {"error": error, "due_s": now_s + FIRST_DELAY_S * DELAY_GROWTH ** (due.num_attempts - 1)}
        if error is None:
            values["delivered_s"] = now_s
        async with self._database.transaction() as session:
            await session.execute(update(Delivery).where(Delivery.id == due.id).values(**values))
