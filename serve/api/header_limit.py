"""uvicorn's protocol with a time limit for the headers of a request, which uvicorn lacks.

Without one, connections whose headers never end are kept for ever, before any key is asked for.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_Protocol: Any = AutoHTTPProtocol


def with_header_limit(limit_s: float) -> type[asyncio.Protocol]:
    """A protocol that closes a connection if its first byte, or the rest of a request's headers, takes longer."""

    class LimitedProtocol(_Protocol):  # type: ignore[misc]
        _header_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._watch_headers()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_headers()

        def connection_lost(self, error: Exception | None) -> None:
            self._stop_watching()
            super().connection_lost(error)

        def _is_waiting(self) -> bool:
            """True if no request is being answered: uvicorn makes a cycle once the headers are complete."""
            return self.cycle is None or self.cycle.response_complete

        def _watch_headers(self) -> None:
            if not self._is_waiting():
                self._stop_watching()
            elif self._header_timer is None:
                self._header_timer = self.loop.call_later(limit_s, self._close)

        def _stop_watching(self) -> None:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _close(self) -> None:
            self._header_timer = None
            if self._is_waiting() and self.transport.get_protocol() is self:
                self.transport.close()

    return LimitedProtocol
