"""The open room authority: what it changes is published together, and what it refuses has a code."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.errors import ConfigError, StorageError, TransportError
from device.messages.trust_bundle import decode_bundle, verify_bundle
from provisioning import office as office_module
from provisioning.authority import RoomAuthority
from provisioning.book import locked
from provisioning.claims import Seat, SeatState
from provisioning.office import OpenOffice
from provisioning.publication import Places
from provisioning.refusals import Refusal, RefusalError
from tests.provisioning.registrar_program import found_room, seat


class AwayBroker:
    """It cannot be told anything."""

    def __init__(self) -> None:
        self.asked = 0

    def reload(self) -> None:
        self.asked += 1
        raise TransportError("mosquitto is not running.", next_step="Start it.")


def key() -> bytes:
    return Ed25519PrivateKey.generate().public_key().public_bytes_raw()


def bound(unit: str, its_key: bytes, replaces: str | None = None) -> Seat:
    return msgspec.structs.replace(seat(unit, None, 0), key=its_key, state=SeatState.BOUND, replaces=replaces)


@pytest.fixture
def authority(tmp_path: Path) -> RoomAuthority:
    (tmp_path / "registrar").mkdir()
    return found_room(tmp_path / "authority")


def test_admitting_twice_is_one_certificate_and_one_epoch(authority: RoomAuthority, tmp_path: Path) -> None:
    office = OpenOffice(authority, Places(tmp_path / "registrar"), None)
    wanted = bound("b3", key())
    first = office.admit(wanted)
    epoch = authority.publish().epoch
    assert office.admit(wanted) == first
    assert authority.publish().epoch == epoch == 2


def test_each_reason_not_to_admit_has_its_code(authority: RoomAuthority, tmp_path: Path) -> None:
    office = OpenOffice(authority, Places(tmp_path / "registrar"), None)
    ours = key()
    office.admit(bound("b3", ours))

    def refused(wanted: Seat) -> Refusal:
        with pytest.raises(RefusalError) as caught:
            office.admit(wanted)
        return caught.value.refusal

    assert refused(bound("b4", ours)) is Refusal.KEY_IN_USE
    assert refused(bound("b3", key())) is Refusal.SEAT_TAKEN
    assert refused(bound("b5", key(), replaces="nobody")) is Refusal.SEAT_TAKEN
    authority.revoke("b3")
    assert refused(bound("b3", ours)) is Refusal.REVOKED
    office.admit(bound("b6", key()))
    other = key()
    office.admit(bound("b7", other))
    with pytest.raises(RefusalError) as caught:
        office.rekey("b6", other)
    assert caught.value.refusal is Refusal.KEY_IN_USE
    assert refused(msgspec.structs.replace(bound("b8", key()), desk="Desk b7")) is Refusal.SEAT_TAKEN


def test_a_broker_that_is_away_keeps_no_box_out(
    authority: RoomAuthority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = AwayBroker()
    office = OpenOffice(authority, Places(tmp_path / "registrar"), broker)
    with caplog.at_level(logging.WARNING):
        assert office.admit(bound("b3", key())).startswith("-----BEGIN CERTIFICATE-----")
    assert broker.asked == 1
    assert "the broker was not told of the change" in caplog.text


def test_boxes_that_come_at_once_are_all_members_of_one_published_roster(
    authority: RoomAuthority, tmp_path: Path
) -> None:
    office = OpenOffice(authority, Places(tmp_path / "registrar"), None)
    threads = [threading.Thread(target=office.admit, args=(bound(f"b{n}", key()),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bundle = decode_bundle((tmp_path / "registrar" / "trust.cbor").read_bytes())
    roster = verify_bundle(bundle, authority.verifying_key, "r2").roster
    assert sorted(unit.unit for unit in roster.units_of("b")) == [f"b{n}" for n in range(8)]


def test_a_book_that_another_program_holds_is_nobodys_fault(
    authority: RoomAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioning.book.LOCK_WAIT_S", 0.05)
    office = OpenOffice(authority, Places(tmp_path / "registrar"), None)
    with locked(authority.folder), pytest.raises(ConfigError, match="another program"):
        office.admit(bound("b3", key()))
    office.admit(bound("b3", key()))


def test_a_publication_that_failed_is_made_again(
    authority: RoomAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = OpenOffice(authority, Places(tmp_path / "registrar"), None)
    wanted = bound("b3", key())

    def full(*arguments: object) -> None:
        raise StorageError("The disk is full.", next_step="Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(office_module, "publish", full)
        with pytest.raises(StorageError):
            office.admit(wanted)
    office.admit(wanted)
    assert (tmp_path / "registrar" / "trust.cbor").read_bytes() == authority.trust_bundle()
