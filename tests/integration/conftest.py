"""Fixtures for tests that run against real programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.room_broker import RoomBroker, require_mosquitto

TAKE = Path(__file__).resolve().parents[2] / "tools" / "takes" / "neutral"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RoomBroker]:
    """A provisioned demo room with mosquitto running. Each test has its own, so nothing retained leaks."""
    require_mosquitto()
    room_broker = RoomBroker(tmp_path / "room", TAKE)
    room_broker.start()
    try:
        yield room_broker
    finally:
        room_broker.close()
