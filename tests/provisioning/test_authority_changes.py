"""What becomes of a room over the years: boxes renewed, moved and replaced, the gateway and the authority's key too."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.errors import ConfigError
from device.messages.trust_bundle import MAX_SUCCESSIONS, Verified, decode_bundle, verify_bundle
from device.system.keys import load_signing_key
from device.system.storage import write_durably, write_record
from provisioning import authority as authority_module
from provisioning.authority import RoomAuthority
from provisioning.authority_files import (
    read_continuity_records,
    read_policy_file,
    read_roster_file,
    read_succession_records,
)
from provisioning.book import locked
from provisioning.certificates import CertificateAuthority, Reads, Role, digest, hosts_of, key_of
from provisioning.keys import key_digest
from tests.provisioning.test_authority import PASSPHRASE, POLICY, authority, files, new_key, revoked_serials, serial_of

__all__ = ["authority"]
NEW_PASSPHRASE = b"another battery, another staple"
BROKEN = "The microphone is broken."


def certificate_of(authority: RoomAuthority, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.certificate_path(name).read_bytes())


def opening_key() -> bytes:
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


def verified(authority: RoomAuthority, believed: bytes) -> Verified:
    return verify_bundle(decode_bundle(authority.trust_bundle()), believed, authority.room)


def at(monkeypatch: pytest.MonkeyPatch, later: timedelta) -> None:
    """Let the authority's clock stand that much later than this machine's."""
    now = datetime.now(UTC).replace(microsecond=0) + later
    monkeypatch.setattr(authority_module, "now_utc", lambda: now)


def test_the_registrars_identity_is_pinned_and_stays(authority: RoomAuthority) -> None:
    digest_before = authority.registrar_digest
    assert digest_before == key_digest(load_signing_key(authority.folder / "registrar.key").public_key())
    assert RoomAuthority.open(authority.folder).registrar_digest == digest_before


def test_desk_and_reading_right_stand_in_the_book(authority: RoomAuthority) -> None:
    authority.admit("b3", Role.UNIT, new_key().public_key(), line="b", desk="Desk 3")
    authority.admit("board", Role.CONSUMER, new_key().public_key(), reads=Reads.CLASS)
    authority.admit("reader", Role.CONSUMER, new_key().public_key())
    found = {entry.name: (entry.desk, entry.reads) for entry in RoomAuthority.open(authority.folder).members}
    assert found["b3"] == ("Desk 3", None)
    assert (found["board"], found["reader"]) == ((None, Reads.CLASS), (None, Reads.OPERATOR))


def test_a_book_from_before_there_were_rights_lets_its_consumers_read_on(authority: RoomAuthority) -> None:
    authority.admit("reader", Role.CONSUMER, new_key().public_key())
    roster = authority.publish()
    book = authority.folder / "room.json"
    content = json.loads(book.read_text())
    for name in ("given_up", "successions", "rotating"):
        del content[name]
    for entry in content["members"]:
        for name in ("desk", "reads", "certificate", "serials", "replaces"):
            del entry[name]
    book.write_text(json.dumps(content))
    (authority.folder / "registrar.key").unlink()
    again = RoomAuthority.open(authority.folder)
    assert {entry.name: entry.reads for entry in again.members}["reader"] is Reads.OPERATOR
    assert again.publish() == roster
    again.revoke("b1")
    again.publish()
    assert revoked_serials(again) == {serial_of(again, "b1")}


@pytest.mark.parametrize(
    ("name", "role", "fields"),
    [
        ("b3", Role.UNIT, {"line": "b", "reads": Reads.CLASS}),
        ("b3", Role.UNIT, {"line": "b", "desk": "a\nb"}),
        ("b3", Role.UNIT, {"line": "b", "desk": ""}),
        ("reader", Role.CONSUMER, {"desk": "Desk 3"}),
        ("reader", Role.CONSUMER, {"line": "b"}),
        ("b3", Role.UNIT, {"line": "trust"}),
        ("b3", Role.UNIT, {"line": "b", "desk": "Desk 2"}),
    ],
)
def test_desk_line_or_right_that_cannot_be_is_refused(
    authority: RoomAuthority, name: str, role: Role, fields: dict[str, str]
) -> None:
    authority.move("b2", desk="Desk 2")
    before = files(authority.folder)
    with pytest.raises(ConfigError):
        authority.admit(name, role, new_key().public_key(), **fields)  # type: ignore[arg-type]
    assert files(authority.folder) == before


def test_an_admission_that_was_cut_off_is_completed(authority: RoomAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key().public_key()
    monkeypatch.setattr(authority_module, "write_record", _cut_off)
    with pytest.raises(KeyboardInterrupt):
        authority.admit("b3", Role.UNIT, key, line="b")
    monkeypatch.undo()
    assert "b3" not in {entry.name for entry in authority.members}
    authority.admit("b3", Role.UNIT, key, line="b")
    assert [unit.unit for unit in authority.publish().units_of("b")] == ["b1", "b2", "b3"]
    assert authority.members[-1].certificate == digest(certificate_of(authority, "b3"))


def _cut_off(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_renewed_certificate_changes_no_roster(authority: RoomAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    roster, first = read_roster_file(authority.folder), certificate_of(authority, "b1")
    at(monkeypatch, timedelta(days=800))
    authority.renew("b1")
    second = certificate_of(authority, "b1")
    assert second.serial_number != first.serial_number
    assert second.not_valid_after_utc > first.not_valid_after_utc + timedelta(days=700)
    assert key_of(second) == key_of(first)
    assert authority.publish() == roster
    assert roster.units_of("b")[0].certificate == digest(first)


def test_renewing_twice_changes_nothing(authority: RoomAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, timedelta(days=400))
    authority.renew("b1")
    before = files(authority.folder)
    authority.renew("b1")
    authority.renew("b1", Ed25519PublicKey.from_public_bytes(key_of(certificate_of(authority, "b1"))))
    assert files(authority.folder) == before


def test_a_certificate_that_ends_soon_is_renewed_however_young(authority: RoomAuthority) -> None:
    authority.admit("b3", Role.UNIT, new_key().public_key(), line="b", life=timedelta(seconds=-5))
    ended = certificate_of(authority, "b3")
    authority.renew("b3", life=timedelta(minutes=5))
    again = certificate_of(authority, "b3")
    assert ended.not_valid_after_utc < datetime.now(UTC) < again.not_valid_after_utc
    assert again.not_valid_after_utc < datetime.now(UTC) + timedelta(minutes=6)


def test_a_renewed_broker_keeps_its_names_and_addresses(
    authority: RoomAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.admit("broker", Role.BROKER, new_key().public_key(), hosts=("gateway.local", "192.168.7.1"))
    at(monkeypatch, timedelta(days=400))
    authority.renew("broker")
    assert hosts_of(certificate_of(authority, "broker")) == ("gateway.local", "192.168.7.1")


def test_a_rotated_key_changes_the_roster_and_ends_the_old_certificate(authority: RoomAuthority) -> None:
    old = certificate_of(authority, "b1")
    key = new_key().public_key()
    authority.renew("b1", key)
    before = files(authority.folder)
    authority.renew("b1", key)
    assert files(authority.folder) == before
    roster = authority.publish()
    row = roster.units_of("b")[0]
    assert (roster.epoch, row.unit, row.key, row.since) == (2, "b1", key.public_bytes_raw(), 1)
    assert row.certificate == digest(certificate_of(authority, "b1"))
    assert revoked_serials(authority) == {old.serial_number}


def test_a_key_that_was_given_up_never_comes_back(authority: RoomAuthority) -> None:
    old = Ed25519PublicKey.from_public_bytes(key_of(certificate_of(authority, "b1")))
    authority.renew("b1", new_key().public_key())
    before = files(authority.folder)
    for attempt in (
        lambda: authority.renew("b1", old),
        lambda: authority.renew("b2", old),
        lambda: authority.admit("b9", Role.UNIT, old, line="b"),
        lambda: authority.replace_unit("b2", "b9", old, BROKEN),
    ):
        with pytest.raises(ConfigError, match="given up by b1"):
            attempt()
    assert files(authority.folder) == before


def test_nobody_takes_anothers_key_and_the_revoked_get_no_certificate(authority: RoomAuthority) -> None:
    with pytest.raises(ConfigError, match="already belongs to b2"):
        authority.renew("b1", Ed25519PublicKey.from_public_bytes(key_of(certificate_of(authority, "b2"))))
    with pytest.raises(ConfigError, match="'nobody' is no member"):
        authority.renew("nobody")
    authority.revoke("b1")
    with pytest.raises(ConfigError, match="b1: was revoked"):
        authority.renew("b1")


def test_a_revocation_ends_certificates_that_the_registrar_issued(authority: RoomAuthority) -> None:
    key = Ed25519PublicKey.from_public_bytes(key_of(certificate_of(authority, "b1")))
    renewed = authority.ca.issue("b1", Role.UNIT, key, datetime.now(UTC))
    authority.learn_certificates([renewed, renewed])
    authority.revoke("b1")
    authority.publish()
    assert revoked_serials(authority) == {serial_of(authority, "b1"), renewed.serial_number}


def test_certificates_of_strangers_are_not_learnt(authority: RoomAuthority) -> None:
    now = datetime.now(UTC)
    key = Ed25519PublicKey.from_public_bytes(key_of(certificate_of(authority, "b1")))
    other = CertificateAuthority.create("r2", new_key(), now)
    before = files(authority.folder)
    for stranger in (
        other.issue("b1", Role.UNIT, key, now),
        authority.ca.issue("b1", Role.UNIT, new_key().public_key(), now),
    ):
        with pytest.raises(ConfigError, match="was not issued to a member"):
            authority.learn_certificates([stranger])
    assert files(authority.folder) == before


def test_a_moved_unit_is_the_last_of_its_new_line(authority: RoomAuthority) -> None:
    authority.admit("c1", Role.UNIT, new_key().public_key(), line="c")
    authority.move("b1", line="c", desk="Desk 7")
    before = files(authority.folder)
    authority.move("b1", line="c", desk="Desk 7")
    authority.move("b1")
    assert files(authority.folder) == before
    roster = authority.publish()
    assert [unit.unit for unit in roster.units_of("c")] == ["c1", "b1"]
    assert [unit.unit for unit in roster.units_of("b")] == ["b2"]


def test_a_unit_at_another_desk_keeps_its_turn_and_the_roster(authority: RoomAuthority) -> None:
    roster = read_roster_file(authority.folder)
    authority.move("b1", desk="Desk 7")
    assert authority.publish() == roster
    with pytest.raises(ConfigError, match="b1 stands at 'Desk 7' on line b already"):
        authority.move("b2", desk="Desk 7")


@pytest.mark.parametrize("unit", ["gateway", "nobody"])
def test_only_units_move_and_only_to_proper_lines(authority: RoomAuthority, unit: str) -> None:
    with pytest.raises(ConfigError, match="is no unit"):
        authority.move(unit, line="c")
    for line in ("#", "labels", "c/d"):
        with pytest.raises(ConfigError, match="cannot be its line"):
            authority.move("b1", line=line)


def test_a_replaced_unit_gives_line_desk_and_turn_to_the_new_one(authority: RoomAuthority) -> None:
    authority.move("b1", desk="Desk 1")
    old, key = certificate_of(authority, "b1"), new_key().public_key()
    record = authority.replace_unit("b1", "b1-2", key, BROKEN)
    before = files(authority.folder)
    assert authority.replace_unit("b1", "b1-2", key, BROKEN) == record
    assert files(authority.folder) == before
    roster = authority.publish()
    assert [unit.unit for unit in roster.units_of("b")] == ["b1-2", "b2"]
    assert roster.epoch == 2
    assert roster.revoked == {"b1"}
    assert revoked_serials(authority) == {old.serial_number}
    (read,) = read_continuity_records(authority.folder)
    assert (read.line, read.desk, read.old_unit, read.new_unit, read.epoch) == ("b", "Desk 1", "b1", "b1-2", 1)
    assert (read.old_key, read.new_key, read.reason) == (key_of(old), key.public_bytes_raw(), BROKEN)
    assert {entry.name: entry.desk for entry in authority.members}["b1-2"] == "Desk 1"


def test_a_spare_that_was_enrolled_before_takes_the_place(authority: RoomAuthority) -> None:
    key = new_key().public_key()
    authority.admit("spare", Role.UNIT, key, line="shelf", desk="Shelf")
    authority.publish()
    authority.replace_unit("b1", "spare", key, BROKEN)
    roster = authority.publish()
    assert [unit.unit for unit in roster.units_of("b")] == ["spare", "b2"]
    assert "shelf" not in roster.lines


def test_a_revoked_unit_is_replaced_and_a_replaced_one_not_again(authority: RoomAuthority) -> None:
    authority.revoke("b1")
    authority.replace_unit("b1", "b3", new_key().public_key(), "It was stolen.")
    with pytest.raises(ConfigError, match="b1: was replaced by b3 already"):
        authority.replace_unit("b1", "b4", new_key().public_key(), BROKEN)
    authority.replace_unit("b3", "b4", new_key().public_key(), BROKEN)
    assert [unit.unit for unit in authority.publish().units_of("b")] == ["b4", "b2"]
    assert [record.new_unit for record in read_continuity_records(authority.folder)] == ["b3", "b4"]


def test_replacements_that_cannot_be_are_refused(authority: RoomAuthority) -> None:
    key = Ed25519PublicKey.from_public_bytes(key_of(certificate_of(authority, "b2")))
    before = files(authority.folder)
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("'nobody' is no unit", lambda: authority.replace_unit("nobody", "b9", new_key().public_key(), BROKEN)),
        ("'gateway' is no unit", lambda: authority.replace_unit("gateway", "b9", new_key().public_key(), BROKEN)),
        ("already belongs to b2", lambda: authority.replace_unit("b1", "b9", key, BROKEN)),
        ("already belongs to b2", lambda: authority.replace_unit("b1", "b2", new_key().public_key(), BROKEN)),
        ("the same", lambda: authority.replace_unit("b2", "b2", key, BROKEN)),
        ("reason", lambda: authority.replace_unit("b1", "b9", new_key().public_key(), "")),
        ("no proper names", lambda: authority.replace_unit("b1", "B 9", new_key().public_key(), BROKEN)),
    ]
    for why, attempt in attempts:
        with pytest.raises(ConfigError, match=why):
            attempt()
        assert files(authority.folder) == before


def test_the_first_reason_of_a_replacement_stands_and_the_new_unit_replaces_nobody_else(
    authority: RoomAuthority,
) -> None:
    key = new_key().public_key()
    record = authority.replace_unit("b1", "b3", key, BROKEN)
    assert authority.replace_unit("b1", "b3", key, "It was stolen.") == record
    with pytest.raises(ConfigError, match="has replaced b1 before"):
        authority.replace_unit("b2", "b3", key, BROKEN)
    with pytest.raises(ConfigError, match="has replaced b1 before"):
        authority.replace_unit("b1", "b3", new_key().public_key(), BROKEN)


def test_a_member_that_is_admitted_again_after_years_gets_a_living_certificate(
    authority: RoomAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = read_roster_file(authority.folder)
    key = Ed25519PublicKey.from_public_bytes(roster.units_of("b")[0].key)
    at(monkeypatch, timedelta(days=900))
    authority.admit("b1", Role.UNIT, key, line="b")
    assert certificate_of(authority, "b1").not_valid_after_utc > datetime.now(UTC) + timedelta(days=1_500)
    assert authority.publish() == roster


@pytest.mark.parametrize("crash_before", ["room.json", "b3.cose"])
def test_a_replacement_that_was_cut_off_is_completed(
    authority: RoomAuthority, crash_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key().public_key()
    _crash_before(monkeypatch, crash_before)
    with pytest.raises(KeyboardInterrupt):
        authority.replace_unit("b1", "b3", key, BROKEN)
    monkeypatch.undo()
    again = RoomAuthority.open(authority.folder)
    record = again.replace_unit("b1", "b3", key, BROKEN)
    assert (again.folder / "continuity" / "b3.cose").read_bytes() == record
    assert [unit.unit for unit in again.publish().units_of("b")] == ["b3", "b2"]


def _crash_before(monkeypatch: pytest.MonkeyPatch, name: str, which: int = 1) -> None:
    """Cut the authority off just before its `which`-th write of that file."""
    left = [which]

    def counted(path: Path) -> None:
        left[0] -= path.name == name
        if path.name == name and left[0] == 0:
            raise KeyboardInterrupt

    def write_or_crash(path: Path, content: bytes, *, mode: int = 0o600) -> None:
        counted(path)
        write_durably(path, content, mode=mode)

    def write_record_or_crash(path: Path, record: object) -> None:
        counted(path)
        write_record(path, record)

    monkeypatch.setattr("provisioning.authority.write_durably", write_or_crash)
    monkeypatch.setattr("provisioning.authority.write_record", write_record_or_crash)
    monkeypatch.setattr("provisioning.keys.write_durably", write_or_crash)


def test_a_new_gateway_takes_the_place_of_the_dead_one(authority: RoomAuthority) -> None:
    old = certificate_of(authority, "gateway")
    key, opening = new_key().public_key(), opening_key()
    authority.replace_gateway("gateway", key, opening)
    before = files(authority.folder)
    authority.replace_gateway("gateway", key, opening)
    assert files(authority.folder) == before
    roster = authority.publish()
    assert (roster.epoch, roster.gateway.key, roster.gateway.opening_key) == (2, key.public_bytes_raw(), opening)
    assert roster.gateway.certificate == digest(certificate_of(authority, "gateway"))
    assert revoked_serials(authority) == {old.serial_number}
    with pytest.raises(ConfigError, match="given up by gateway"):
        authority.admit("b9", Role.UNIT, Ed25519PublicKey.from_public_bytes(key_of(old)), line="b")


def test_a_gateway_of_another_name_leaves_its_predecessors_name_unused(authority: RoomAuthority) -> None:
    authority.replace_gateway("gateway-2", new_key().public_key(), opening_key())
    assert authority.publish().gateway.gateway == "gateway-2"
    with pytest.raises(ConfigError, match="given up by gateway"):
        authority.admit("gateway", Role.CONSUMER, new_key().public_key())


def test_gateways_that_cannot_be_are_refused(authority: RoomAuthority, tmp_path: Path) -> None:
    before = files(authority.folder)
    with pytest.raises(ConfigError, match="already belongs to b1"):
        authority.replace_gateway("b1", new_key().public_key(), opening_key())
    with pytest.raises(ConfigError, match="is not of suite 1"):
        authority.replace_gateway("gateway", new_key().public_key(), bytes(31))
    assert files(authority.folder) == before
    with pytest.raises(ConfigError, match="has no gateway"):
        RoomAuthority.found(tmp_path / "bare", "r3").replace_gateway("gateway", new_key().public_key(), opening_key())


def test_boxes_follow_the_authoritys_key(authority: RoomAuthority) -> None:
    first = authority.verifying_key
    assert verified(authority, first).authority_key == first
    assert authority.rotate()
    second = authority.verifying_key
    assert first != second
    for believed in (first, second):
        roster, policy, key = verified(authority, believed)
        assert (roster, policy, key) == (read_roster_file(authority.folder), POLICY, second)
    assert roster.epoch == 2
    assert [step.new_key for step in read_succession_records(authority.folder)] == [second]
    kept = load_signing_key(authority.folder / "room-authority.key.old-1")
    assert kept.public_key().public_bytes_raw() == first
    assert not list(authority.folder.glob("*.next"))
    assert RoomAuthority.open(authority.folder).publish() == roster


def test_the_bundle_is_that_of_the_last_publication(authority: RoomAuthority) -> None:
    before = authority.trust_bundle()
    authority.set_policy(replace(POLICY, retention_days=9))
    authority.revoke("b1")
    assert authority.trust_bundle() == before
    roster = authority.publish()
    assert verified(authority, authority.verifying_key).roster == roster != verified_roster(before, authority)


def verified_roster(bundle: bytes, authority: RoomAuthority) -> object:
    return verify_bundle(decode_bundle(bundle), authority.verifying_key, authority.room).roster


def test_records_of_before_a_rotation_are_read_after_it(authority: RoomAuthority) -> None:
    authority.replace_unit("b1", "b3", new_key().public_key(), BROKEN)
    authority.publish()
    authority.rotate()
    authority.replace_unit("b3", "b4", new_key().public_key(), BROKEN)
    assert [record.new_unit for record in read_continuity_records(authority.folder)] == ["b3", "b4"]
    record = authority.folder / "continuity" / "b3.cose"
    record.write_bytes(record.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"b3.cose: .*put the right file back"):
        read_continuity_records(authority.folder)


def test_the_bundle_carries_the_last_eight_successions(authority: RoomAuthority) -> None:
    believed = []
    for _ in range(MAX_SUCCESSIONS + 1):
        believed.append(authority.verifying_key)
        authority.rotate()
    assert len(authority.successions()) == MAX_SUCCESSIONS + 1
    assert verified(authority, believed[1]).authority_key == authority.verifying_key
    with pytest.raises(Exception, match="No succession leads from"):
        verified(authority, believed[0])


def test_a_rotation_can_change_the_passphrase_of_all_keys(tmp_path: Path) -> None:
    made = _ready(tmp_path / "authority", PASSPHRASE)
    made.rotate(NEW_PASSPHRASE)
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        RoomAuthority.open(made.folder, PASSPHRASE)
    again = RoomAuthority.open(made.folder, NEW_PASSPHRASE)
    assert again.registrar_digest == made.registrar_digest
    assert again.publish() == read_roster_file(made.folder)
    assert all(b"ENCRYPTED" in path.read_bytes() for path in made.folder.glob("*.key*"))


def _ready(folder: Path, passphrase: bytes) -> RoomAuthority:
    made = RoomAuthority.found(folder, "r2", passphrase)
    made.set_policy(POLICY)
    made.admit("gateway", Role.GATEWAY, new_key().public_key(), opening_key=opening_key())
    made.publish()
    return made


STEPS = (
    ("room-authority.key.next", 1),
    ("room.json", 1),
    ("room-authority.key.old-1", 1),
    ("room-authority.key", 1),
    ("room-authority.pem", 1),
    ("policy.cose", 1),
    ("room.json", 2),
    ("roster.cose", 1),
    ("trust.cbor", 1),
    ("room.json", 3),
)
STEPS_OF_ANOTHER_PASSPHRASE = (
    ("certificate-authority.key.next", 1),
    ("registrar.key.next", 1),
    ("certificate-authority.key", 1),
    ("registrar.key", 1),
)


@pytest.mark.parametrize(
    ("crash_before", "which", "passphrase"),
    [
        *((*step, PASSPHRASE) for step in STEPS),
        *((*step, NEW_PASSPHRASE) for step in STEPS + STEPS_OF_ANOTHER_PASSPHRASE),
    ],
)
def test_a_rotation_that_was_cut_off_is_completed_and_not_done_twice(
    tmp_path: Path, crash_before: str, which: int, passphrase: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _ready(tmp_path / "authority", PASSPHRASE)
    believed = made.verifying_key
    _crash_before(monkeypatch, crash_before, which)
    with pytest.raises(KeyboardInterrupt):
        made.rotate(passphrase if passphrase != PASSPHRASE else None)
    monkeypatch.undo()
    stands = json.loads((made.folder / "room.json").read_text())["rotating"]
    again = RoomAuthority.open(made.folder, passphrase if stands else PASSPHRASE)
    assert again.rotate(passphrase if passphrase != PASSPHRASE else None) is not stands
    assert len(again.successions()) == 1
    assert verified(again, believed).authority_key == again.verifying_key != believed
    assert not list(made.folder.glob("*.next"))
    assert load_signing_key(made.folder / "room-authority.key.old-1", PASSPHRASE).public_key().public_bytes_raw() == (
        believed
    )
    last = RoomAuthority.open(made.folder, passphrase)
    assert last.publish() == read_roster_file(made.folder)
    assert read_policy_file(made.folder) == POLICY


def test_an_authority_without_a_roster_is_not_rotated(tmp_path: Path) -> None:
    bare = RoomAuthority.found(tmp_path / "authority", "r2")
    before = files(bare.folder)
    with pytest.raises(ConfigError, match="has no roster yet"):
        bare.rotate()
    with pytest.raises(ConfigError, match="has no roster yet"):
        bare.trust_bundle()
    assert files(bare.folder) == before


def test_a_succession_that_leads_elsewhere_is_refused_by_name(authority: RoomAuthority, tmp_path: Path) -> None:
    authority.rotate()
    book = authority.folder / "room.json"
    content = json.loads(book.read_text())
    content["successions"] = []
    other = _ready(tmp_path / "other", PASSPHRASE)
    other.rotate()
    content["successions"] = json.loads((other.folder / "room.json").read_text())["successions"]
    book.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"room.json: its successions do not lead"):
        read_succession_records(authority.folder)


def test_two_programs_that_have_one_authority_open_lose_nothing_of_each_other(authority: RoomAuthority) -> None:
    registrar = RoomAuthority.open(authority.folder)
    authority.revoke("b1")
    registrar.admit("b3", Role.UNIT, new_key().public_key(), line="b")
    roster = authority.publish()
    assert roster.revoked == {"b1"}
    assert [unit.unit for unit in roster.units_of("b")] == ["b2", "b3"]
    authority.rotate()
    with pytest.raises(ConfigError, match="was rotated meanwhile"):
        registrar.publish()


def _admit_many(folder: Path, prefix: str) -> None:
    authority = RoomAuthority.open(folder)
    for number in range(10):
        authority.admit(f"{prefix}{number}", Role.UNIT, new_key().public_key(), line="b")
        authority.publish()


def test_boxes_that_two_processes_admit_at_once_are_all_admitted(authority: RoomAuthority) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_admit_many, args=(authority.folder, prefix)) for prefix in ("x", "y")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    names = {unit.unit for unit in authority.publish().units_of("b")}
    assert names == {"b1", "b2"} | {f"{prefix}{number}" for prefix in ("x", "y") for number in range(10)}


def test_a_room_that_somebody_else_changes_is_waited_for_and_then_refused(
    authority: RoomAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioning.book.LOCK_WAIT_S", 0.1)
    with locked(authority.folder), pytest.raises(ConfigError, match="another program is changing"):
        authority.revoke("b1")
    authority.revoke("b1")


def test_the_policy_of_a_rotated_room_can_be_changed(authority: RoomAuthority) -> None:
    authority.rotate()
    authority.set_policy(replace(POLICY, retention_days=9))
    assert authority.publish().epoch == 3
    assert verified(authority, authority.verifying_key).policy.retention_days == 9
    assert isinstance(authority.registrar_key, Ed25519PrivateKey)
