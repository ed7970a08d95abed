"""The registrar's TLS connections: few for each address and none for long, so that nobody blocks the boxes by idling.

A box asks one question on a connection, so a connection that lasts is not a box.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from provisioning.claims import ClaimLimits


def hurried_protocol(limits: ClaimLimits) -> type[asyncio.Protocol]:
    """HTTP/1.1 as uvicorn speaks it, within those limits; one class for each server, which counts its connections."""
    open_from: Counter[str] = Counter()

    class HurriedProtocol(H11Protocol):
        """One connection."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._address = ""
            self._end: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._address = str((transport.get_extra_info("peername") or ("",))[0])
            open_from[self._address] += 1
            self._end = self.loop.call_later(limits.connection_s, transport.abort)
            if open_from[self._address] > limits.connections_per_address:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._end is not None:
                self._end.cancel()
                open_from[self._address] -= 1
                if not open_from[self._address]:
                    del open_from[self._address]
            super().connection_lost(exc)

    return HurriedProtocol
