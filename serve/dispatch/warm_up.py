"""Loads the models that every job needs before the service calls itself ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from actors.errors import EngineError, ItemError
from actors.garbage import collect_rarely, keep_what_is_loaded
from actors.types import ASR_HZ, PlanRequest, TranscribeRequest, TranslateRequest
from cluster.casting.voices import settled_stage
from cluster.config.schema import Config
from cluster.pools.cached_pool import bypass_cache
from cluster.pools.pool_set import JobPool, PoolSet
from serve.dispatch.health import Health

log = logging.getLogger(__name__)

RETRY_S = 2.0
_SILENCE = TranscribeRequest(samples=np.zeros(ASR_HZ, np.float32), language="en")
_GREETING = TranslateRequest(text="Hello.", source_language="en", target_language="pt")


async def warm_up(pools: PoolSet, config: Config, languages: Sequence[str], health: Health) -> None:
    """Load the models, also those of the voices of ``languages``, and tell ``health``. Tries until it succeeds."""
    collect_rarely()
    while True:
        try:
            for pool, request in await _requests(pools, config, languages):
                # An engine that does not speak these languages refuses the request, but it is loaded then.
                with bypass_cache(), contextlib.suppress(ItemError):
                    await pool.submit(request)
            break
        except EngineError as error:
            # The pool goes on trying, because a missing file may appear.
            health.models_failed()
            log.error("models must load; %s", error.message)
            await asyncio.sleep(RETRY_S)
    await asyncio.to_thread(keep_what_is_loaded)
    health.models_loaded()
    log.info("ready")


async def _requests(pools: PoolSet, config: Config, languages: Sequence[str]) -> list[tuple[JobPool, Any]]:
    """A small request for each pool. Raises EngineLoadError if a voice cannot be had on this node."""
    stages = [(language, await settled_stage(config, language)) for language in languages]
    return [
        (await pools.get("transcription", config.transcription), _SILENCE),
        (await pools.get("translation", config.translation), _GREETING),
        *[(await pools.get("speech", stage), PlanRequest(text="1", language=language)) for language, stage in stages],
    ]
