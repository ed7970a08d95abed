"""The summer test: 70 days off, clocks without memory, everything expired, another address; back with no hands.

Real programs on two machines with a cable between them (network namespaces). The time that they see is made by
libfaketime: the room is founded and used 70 days ago; the box then wakes at 1970, as a board without a clock does.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from tests.integration.cable import BOX, GATEWAY, GATEWAY_ADDRESS, Cable, cable, needs_cable
from tests.integration.room_broker import require_mosquitto
from tools.bench.fresh_room import FreshRoom

__all__ = ["cable"]

LIBRARY: Final = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
NEW_ADDRESS: Final = "10.77.0.9"
CERTIFICATE_DAYS: Final = 60
AWAY_DAYS: Final = 70
#: What the issue allows.
BACK_S: Final = 300.0

needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime")


def clock_at(offset: str) -> dict[str, str]:
    """The environment of a program that sees another wall clock, which goes on from there."""
    return {"LD_PRELOAD": f"{LIBRARY}", "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def wait_for_labels(room: FreshRoom, unit: str, *, since_ms: int, within_s: float) -> float:
    """Seconds until a new verified label stood in the gateway's store."""
    began = time.monotonic()
    while not room.stored_labels(unit, since_ms):
        assert time.monotonic() - began < within_s, "no label came"
        time.sleep(0.1)
    return time.monotonic() - began


def ends_of(certificate: Path) -> float:
    """Second since 1970 at which the certificate ends."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()


@pytest.mark.slow
@needs_cable
@needs_faketime
def test_after_seventy_days_off_a_box_without_a_clock_comes_back_by_itself(cable: Cable, tmp_path: Path) -> None:
    require_mosquitto()
    room = FreshRoom(
        tmp_path,
        1,
        host=GATEWAY_ADDRESS,
        gateway_side=cable.entering(GATEWAY),
        box_side=cable.entering(BOX),
        certificate_days=CERTIFICATE_DAYS,
    )
    with room:
        room.environment = clock_at(f"-{AWAY_DAYS}d")
        room.found()
        room.start()
        room.wait(room.enrol("b1"))
        room.start_unit("b1")
        wait_for_labels(room, "b1", since_ms=0, within_s=60)
        room.stop()

        now = time.time()
        certificates = [room.box("b1"), room.places.gateway, room.places.broker]
        assert [ends_of(folder / "certificate.pem") < now for folder in certificates] == [True, True, True]
        cable.change_address(GATEWAY_ADDRESS, NEW_ADDRESS)
        room.moved_to(NEW_ADDRESS)
        room.environment = {}
        began, began_ms = time.monotonic(), int(now * 1_000)
        room.start(authority=False)
        room.environment = clock_at("@1970-01-01 00:00:20")
        room.wait(room.run("box-renew", "provisioning.box", "renew", "--root", f"{room.box('b1')}", "--wait-s", "120"))
        room.start_unit("b1")
        wait_for_labels(room, "b1", since_ms=began_ms, within_s=BACK_S)
        took_s = time.monotonic() - began
        assert took_s < BACK_S
        assert {label.time_source for label in room.stored_labels("b1", began_ms)} <= {"unset", "gateway"}
        assert ends_of(room.box("b1") / "certificate.pem") > time.time()
        print(f"\nback in service {took_s:.1f} s after everything was switched on")
