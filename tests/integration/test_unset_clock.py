"""A real unit program that believes it is 1970, as a box without a battery-backed clock does after the holidays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.clock import TimeSource
from device.system.storage import write_record
from device.system.trusted_time import DAY_MS, TIME_FILE
from provisioning.certificates import MEMBER_LIFE
from tests.integration.conftest import TAKE
from tests.integration.room_broker import RoomBroker, require_mosquitto, wait_until
from tests.integration.test_line_faults import Programs

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


class Without(Programs):
    """Programs of which one may be started with another idea of the time."""

    def start_in_1970(self, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every clock of that process but the monotonic one stands at the beginning of 1970; OpenSSL's too."""
        with monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(FAKETIME))
            patch.setenv("FAKETIME", "@1970-01-01 00:01:00")
            patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            self.start(unit)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Without]:
    require_mosquitto()
    if FAKETIME is None:
        if os.environ.get("MOODLINE_REQUIRE_REAL"):
            pytest.fail("libfaketime is not installed and MOODLINE_REQUIRE_REAL is set", pytrace=False)
        pytest.skip("libfaketime is not installed")
    broker = RoomBroker(tmp_path / "room", TAKE, units=1, muted=True)
    broker.start()
    started = Without(broker)
    try:
        yield started
    finally:
        started.close()
        broker.close()


def test_a_box_in_1970_connects_and_learns_the_time_from_the_gateways_grants(
    room: Without, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.start("gateway")
    room.start_in_1970("a1", monkeypatch)
    room.wait_for_labels(4)
    newest = room.labels("a1")[-1]
    assert newest.time_source is TimeSource.GATEWAY
    assert abs(newest.window_end_ms - time.time() * 1_000) < 10_000
    room.stop_all()
    assert room.accusations() == []


def test_a_box_in_1970_refuses_a_broker_whose_certificate_ended_before_the_last_time_that_it_knows(
    room: Without, monkeypatch: pytest.MonkeyPatch
) -> None:
    later_ms = round(time.time() * 1_000) + (MEMBER_LIFE.days + 1) * DAY_MS
    write_record(room.broker.room.unit("a1") / "state" / TIME_FILE, {"floor_ms": later_ms})
    room.start("gateway")
    room.start_in_1970("a1", monkeypatch)
    log = room.broker.box("a1") / "log.txt"
    wait_until(lambda: "before the last time that this box knows of" in log.read_text(), "the refusal is told")
    room.stop_all()
    assert room.labels("a1") == []
