"""Calls webhooks when jobs end: signed, and repeated until they are answered or given up.

The call is written to the database together with the end of its job, so that the death of a dispatcher does not lose
it. The signature follows standardwebhooks.com: base64 of HMAC-SHA256 over ``id.timestamp.body``.
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
from collections import Counter
from typing import Any

from sqlalchemy import or_, select, update

from actors.errors import ConfigError, MediaError
from cluster.storage.config import FetchConfig
from cluster.storage.http import post
from serve.jobs.database import Database, until_it_answers
from serve.jobs.tables import Delivery
from serve.settings import WEBHOOK_VARIABLE, ServeSettings

log = logging.getLogger(__name__)

LOOK_S = 1.0
TIMEOUT_S = 10.0
FIRST_DELAY_S = 5.0
DELAY_GROWTH = 5
"""The delay before the second attempt is ``FIRST_DELAY_S``, and grows by this factor for each later one.

Six attempts take about an hour, in which a receiver can be restarted.
"""
NUM_AT_ONCE = 16
"""Concurrent deliveries, so that a receiver that never answers delays few others."""

NUM_AT_ONCE_PER_OWNER = 4
"""Concurrent deliveries for one owner."""

ENCODED = "whsec_"
# Not the package standardwebhooks: it accepts secrets that are not valid base64, and signs with another key then.


def signature(secret: str, message_id: str, timestamp: int, body: str) -> str:
    """The signature of a message. ``secret`` is any text, or base64 after ``whsec_``. Raises ConfigError."""
    signed = f"{message_id}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def owner_secret(secret: str, owner: str) -> str:
    """The secret that one owner's receivers check, made from the service's: no owner can sign for another."""
    digest = hmac.new(_key(secret), f"webhooks of {owner}".encode(), hashlib.sha256).digest()
    return ENCODED + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    if not secret.startswith(ENCODED):
        return secret.encode()
    try:
        return base64.b64decode(secret[len(ENCODED) :], validate=True)
    except binascii.Error as error:
        raise ConfigError(f"{WEBHOOK_VARIABLE} must be base64 after {ENCODED}, or any other text; {error}") from error


class Webhooks:
    """Delivers webhooks. Raises ConfigError if the secret is not valid."""

    def __init__(self, settings: ServeSettings, fetching: FetchConfig, database: Database) -> None:
        self._settings = settings
        self._fetching = fetching.model_copy(update={"timeout_s": TIMEOUT_S, "silence_s": TIMEOUT_S})
        self._database = database
        self._num_sending: Counter[str] = Counter()
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
                self._num_sending[due.owner] += 1
                group.create_task(self._try_delivery(due)).add_done_callback(lambda _: room.release())

    async def _try_delivery(self, due: Delivery) -> None:
        try:
            error = await self._deliver(due)
            await until_it_answers(functools.partial(self._note, due, error))
        finally:
            self._num_sending[due.owner] -= 1

    async def _take(self) -> Delivery | None:
        """The next delivery that is due. It is postponed at once, so that no other dispatcher sends it too."""
        now_s = self._database.now_s
        longest_s = TIMEOUT_S + FIRST_DELAY_S * DELAY_GROWTH**self._settings.webhook_attempts
        is_due = (
            Delivery.delivered_s.is_(None),
            or_(Delivery.due_s <= now_s, Delivery.due_s > now_s + longest_s),  # due before the clock was set back
            Delivery.num_attempts < self._settings.webhook_attempts,
            # A receiver that never answers delays its own owner alone.
            Delivery.owner.not_in([owner for owner, num in self._num_sending.items() if num >= NUM_AT_ONCE_PER_OWNER]),
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
        """The error of a delivery; None if it was received."""
        secret = self._settings.webhook_secret
        if secret is None:
            return "no webhook secret is set"
        now_s = int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": due.id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": signature(owner_secret(secret, due.owner), due.id, now_s, due.body),
        }
        try:
            status = await post(due.url, due.body.encode(), headers, self._fetching)
        except MediaError as error:
            return error.message
        except Exception as error:  # an error with one URL must not end the deliveries to others
            log.exception("webhook failed id=%s", due.id)
            return f"{type(error).__name__}: {error}"
        return None if 200 <= status < 300 else f"it answered {status}"

    async def _note(self, due: Delivery, error: str | None) -> None:
        if error is not None:
            log.warning("webhook not delivered id=%s attempt=%d error=%s", due.id, due.num_attempts, error)
        delay_s = FIRST_DELAY_S * DELAY_GROWTH ** (due.num_attempts - 1)
        values: dict[str, Any] = {"error": error, "due_s": self._database.now_s + delay_s}
        if error is None:
            values["delivered_s"] = self._database.now_s
        async with self._database.transaction() as session:
            await session.execute(update(Delivery).where(Delivery.id == due.id).values(**values))
