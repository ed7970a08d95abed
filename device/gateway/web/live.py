"""Server-sent events from the board: every viewer gets what changed, in its newest form, at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from device.gateway.board import Board, Change

#: Least time between two events to one viewer, in seconds: changes within it travel together.
PACE_S: Final = 0.1
#: A comment goes out after this long without an event, so that a dead connection is noticed.
KEEP_ALIVE_S: Final = 10.0


class LiveFeed:
    """Wakes the viewers of one event loop when the board changes. At most `limit` viewers at once."""

    def __init__(self, board: Board, limit: int) -> None:
        self._board = board
        self._limit = limit
        self._viewers: set[asyncio.Event] = set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def full(self) -> bool:
        """Whether another viewer has no place."""
        return len(self._viewers) >= self._limit

    def open(self) -> None:
        """Begin, on the loop that serves the viewers."""
        self._loop = asyncio.get_running_loop()
        self._board.wake_with(self._wake)

    def close(self) -> None:
        """End every stream; from any thread, as often as wanted."""
        self._closed = True
        self._board.wake_with(None)
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_viewers)

    def _wake_viewers(self) -> None:
        for viewer in self._viewers:
            viewer.set()

    async def stream(self) -> AsyncIterator[bytes]:
        """The bytes of one viewer's event stream (HTML Living Standard, server-sent events)."""
        news = asyncio.Event()
        self._viewers.add(news)
        try:
            seen = 0
            while not self._closed:
                news.clear()
                change = self._board.since(seen)
                if change.parts:
                    seen = change.revision
                    yield event_of(change)
                    await asyncio.sleep(PACE_S)
                    continue
                try:
                    await asyncio.wait_for(news.wait(), KEEP_ALIVE_S)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._viewers.discard(news)


def event_of(change: Change) -> bytes:
    """One `parts` event. Compact JSON holds no line break, so one data line is enough."""
    body = msgspec.json.encode({"revision": change.revision, "whole": change.whole, "parts": change.parts})
    return b"event: parts\nid: %d\ndata: %s\n\n" % (change.revision, body)
