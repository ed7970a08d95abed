"""Registrars are found over mDNS on a real (virtual) network, and records that are none of ours are left alone."""

from __future__ import annotations

import sys

import pytest
from zeroconf import ServiceInfo

from provisioning.discovery import ADDRESSES, own_addresses, read_service
from provisioning.enrolling import FoundRegistrar
from provisioning.enrolment_messages import SERVICE_TYPE
from tests.integration.cable import BOX, GATEWAY, Cable, cable, needs_cable

__all__ = ["cable"]

DIGEST = bytes(range(32))
PROPER: dict[str | bytes, str | bytes | None] = {"version": "1", "room": "room-2", "digest": DIGEST.hex()}
ADDRESS = bytes([10, 0, 0, 1])


def service(
    properties: dict[str | bytes, str | bytes | None] | None = None,
    port: int = 8_884,
    addresses: list[bytes] | None = None,
) -> ServiceInfo:
    packed = [ADDRESS] if addresses is None else addresses
    named = PROPER | (properties or {})
    return ServiceInfo(SERVICE_TYPE, f"any.{SERVICE_TYPE}", addresses=packed, port=port, properties=named)


def test_proper_record_is_read() -> None:
    assert read_service(service()) == FoundRegistrar("room-2", DIGEST, 8_884, ("10.0.0.1",))


@pytest.mark.parametrize(
    "properties",
    [
        {"version": "2"},
        {"room": "Room 2"},
        {"room": b"\xff"},
        {"room": None},
        {"digest": "00"},
        {"digest": b"\xff" * 64},
    ],
)
def test_record_of_another_protocol_is_left_alone(properties: dict[str | bytes, str | bytes | None]) -> None:
    assert read_service(service(properties)) is None


def test_record_without_a_way_to_it_is_left_alone_and_too_many_are_cut() -> None:
    assert read_service(service(addresses=[])) is None
    assert read_service(service(port=0)) is None
    found = read_service(service(addresses=[bytes([10, 0, 0, last]) for last in range(1, 40)]))
    assert found is not None
    assert len(found.addresses) == ADDRESSES


def test_own_addresses_are_none_of_the_loopback() -> None:
    assert [address for address in own_addresses() if address.startswith("127.")] == []


def advertise(cable: Cable, room: str, digest: bytes, port: int = 8_884) -> None:
    code = f"""
from provisioning.discovery import Advertisement, own_addresses
with Advertisement({room!r}, {digest!r}, {port}, own_addresses()):
    print(flush=True)
    input()
"""
    program = cable.start(GATEWAY, sys.executable, "-c", code)
    assert program.stdout is not None
    assert program.stdout.readline() == "\n"


def find(cable: Cable, room: str | None, digest: bytes | None, timeout_s: float) -> str:
    code = f"from provisioning.discovery import find; print(find({room!r}, {digest!r}, {timeout_s}))"
    program = cable.start(BOX, sys.executable, "-c", code)
    out, _ = program.communicate(timeout=60)
    return out.strip()


@needs_cable
def test_registrar_is_found_over_a_cable_by_its_key_or_by_anything(cable: Cable) -> None:
    other = bytes(reversed(DIGEST))
    advertise(cable, "room-2", DIGEST)
    advertise(cable, "room-3", other, 9_000)
    second = FoundRegistrar("room-2", DIGEST, 8_884, ("10.77.0.1",))
    third = FoundRegistrar("room-3", other, 9_000, ("10.77.0.1",))
    assert find(cable, "room-2", DIGEST, 30) == f"{[second]}"
    assert find(cable, None, None, 1.5) == f"{[second, third]}"
    assert find(cable, "room-3", DIGEST, 1.5) == "[]"
