from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from device.gateway.board import Board
from device.gateway.web import live
from device.gateway.web.live import LiveFeed


def parts(event: bytes) -> Any:
    kind, number, content = event.decode().strip().split("\n")
    assert kind == "event: parts" and number.startswith("id: ")
    return json.loads(content.removeprefix("data: "))


async def next_of(stream: AsyncIterator[bytes]) -> bytes:
    return await asyncio.wait_for(anext(stream), 5)


def test_a_viewer_gets_everything_first_and_then_what_another_thread_changes() -> None:
    async def scene() -> None:
        board = Board()
        board.put("room", {"n": 1})
        feed = LiveFeed(board, 3)
        feed.open()
        stream = feed.stream()
        assert parts(await next_of(stream)) == {"revision": 1, "whole": True, "parts": {"room": {"n": 1}}}
        waiting = asyncio.ensure_future(next_of(stream))
        await asyncio.sleep(0)
        threading.Thread(target=board.put, args=("line/a", {"round": 9})).start()
        assert parts(await waiting) == {"revision": 2, "whole": False, "parts": {"line/a": {"round": 9}}}

    asyncio.run(scene())


def test_a_viewer_who_does_not_read_gets_only_the_newest_of_each_part() -> None:
    async def scene() -> None:
        board = Board()
        board.put("line/a", {"round": 0})
        feed = LiveFeed(board, 3)
        feed.open()
        stream = feed.stream()
        await next_of(stream)
        for number in range(1, 5_000):
            board.put("line/a", {"round": number})
        assert parts(await next_of(stream))["parts"] == {"line/a": {"round": 4_999}}

    asyncio.run(scene())


def test_places_are_limited_and_a_viewer_who_leaves_gives_his_back() -> None:
    async def scene() -> None:
        board = Board()
        board.put("room", {})
        feed = LiveFeed(board, 1)
        feed.open()
        stream = feed.stream()
        await next_of(stream)
        assert feed.full
        await stream.aclose()  # type: ignore[attr-defined]
        assert not feed.full

    asyncio.run(scene())


def test_a_silent_line_is_kept_alive_and_close_ends_every_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "KEEP_ALIVE_S", 0.01)

    async def scene() -> None:
        board = Board()
        board.put("room", {})
        feed = LiveFeed(board, 1)
        feed.open()
        stream = feed.stream()
        await next_of(stream)
        assert (await next_of(stream)).startswith(b":")
        feed.close()
        with pytest.raises(StopAsyncIteration):
            await next_of(stream)

    asyncio.run(scene())
