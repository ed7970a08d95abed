"""The room authority: what it signs follows from its book, and nothing it did is done twice or undone by a rerun."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.errors import ConfigError, StorageError
from device.messages.policy import DeploymentPolicy, Mode, Purpose, Setting
from device.messages.sealing import HYBRID, X25519, Opener
from device.system.storage import write_durably, write_record
from provisioning.authority import RoomAuthority, read_policy_file, read_roster_file
from provisioning.certificates import Role

POLICY = DeploymentPolicy(
    room="r2",
    purpose=Purpose.DEMONSTRATION,
    setting=Setting.LABORATORY,
    jurisdiction="EU",
    mode=Mode.LABELS,
    min_group=2,
    retention_days=1,
    witness_count=2,
    approved_by="a test",
    not_before_ms=0,
    not_after_ms=1_900_000_000_000,
)
PASSPHRASE = b"correct horse battery staple"


def new_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def authority(tmp_path: Path) -> RoomAuthority:
    """A founded authority with a policy, a gateway and units b1 and b2, published as epoch 1."""
    made = RoomAuthority.found(tmp_path / "authority", "r2")
    made.set_policy(POLICY)
    opening = X25519PrivateKey.generate().public_key()
    made.admit("gateway", Role.GATEWAY, new_key().public_key(), opening_key=opening.public_bytes_raw())
    for name in ("b1", "b2"):
        made.admit(name, Role.UNIT, new_key().public_key(), line="b")
    made.publish()
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def revoked_serials(authority: RoomAuthority) -> set[int]:
    revoked = x509.load_pem_x509_crl((authority.folder / "revoked.pem").read_bytes())
    return {entry.serial_number for entry in revoked}


def serial_of(authority: RoomAuthority, name: str) -> int:
    return x509.load_pem_x509_certificate(authority.certificate_path(name).read_bytes()).serial_number


def test_roster_lists_units_in_order_with_their_keys_and_certificates(authority: RoomAuthority) -> None:
    roster = read_roster_file(authority.folder)
    assert roster.epoch == 1
    assert roster.revoked == set()
    assert [unit.unit for unit in roster.units_of("b")] == ["b1", "b2"]
    admitted = {entry.name: entry.key for entry in authority.members}
    assert {unit.unit: unit.key for unit in roster.units_of("b")} == {k: admitted[k] for k in ("b1", "b2")}
    assert roster.gateway.key == admitted["gateway"]


def test_running_every_step_again_changes_nothing(authority: RoomAuthority) -> None:
    before = files(authority.folder)
    again = RoomAuthority.open(authority.folder)
    again.set_policy(POLICY)
    for entry in again.members:
        key = Ed25519PublicKey.from_public_bytes(entry.key)
        again.admit(entry.name, entry.role, key, line=entry.line, opening_key=entry.opening_key)
    assert again.publish().epoch == 1
    assert files(authority.folder) == before


def test_new_unit_raises_the_epoch_and_remembers_since_when(authority: RoomAuthority) -> None:
    authority.admit("b3", Role.UNIT, new_key().public_key(), line="b")
    roster = authority.publish()
    assert roster.epoch == 2
    assert {unit.unit: unit.since for unit in roster.units_of("b")} == {"b1": 1, "b2": 1, "b3": 2}
    assert RoomAuthority.open(authority.folder).publish() == roster


def test_new_consumer_leaves_the_epoch_alone(authority: RoomAuthority) -> None:
    authority.admit("reader", Role.CONSUMER, new_key().public_key())
    assert authority.publish().epoch == 1


def test_new_policy_raises_the_epoch(authority: RoomAuthority) -> None:
    authority.set_policy(replace(POLICY, mode=Mode.OFF))
    assert authority.publish().epoch == 2
    assert read_policy_file(authority.folder).mode is Mode.OFF


def test_policy_that_the_law_forbids_is_not_signed(authority: RoomAuthority) -> None:
    before = files(authority.folder)
    with pytest.raises(ConfigError, match=r"Article 5\(1\)\(f\)"):
        authority.set_policy(replace(POLICY, setting=Setting.EDUCATION, purpose=Purpose.EDUCATION))
    assert files(authority.folder) == before


def test_revoked_unit_stays_listed_is_named_and_its_certificate_ends(authority: RoomAuthority) -> None:
    authority.revoke("b1")
    roster = authority.publish()
    assert roster.epoch == 2
    assert roster.revoked == {"b1"}
    assert [unit.unit for unit in roster.units_of("b")] == ["b2"]
    assert revoked_serials(authority) == {serial_of(authority, "b1")}


def test_revoked_consumer_is_on_the_revocation_list_alone(authority: RoomAuthority) -> None:
    authority.admit("reader", Role.CONSUMER, new_key().public_key())
    authority.revoke("reader")
    assert authority.publish().epoch == 1
    assert revoked_serials(authority) == {serial_of(authority, "reader")}


def test_revoked_name_does_not_come_back(authority: RoomAuthority) -> None:
    authority.revoke("b1")
    with pytest.raises(ConfigError, match="was revoked"):
        authority.admit("b1", Role.UNIT, new_key().public_key(), line="b")


@pytest.mark.parametrize("name", ["gateway", "nobody"])
def test_only_units_and_consumers_are_revoked(authority: RoomAuthority, name: str) -> None:
    with pytest.raises(ConfigError, match="is no unit or consumer"):
        authority.revoke(name)


def test_two_boxes_with_one_key_and_one_name_for_two_keys_are_refused(authority: RoomAuthority) -> None:
    key = new_key().public_key()
    authority.admit("b3", Role.UNIT, key, line="b")
    members = authority.members
    with pytest.raises(ConfigError, match="already belongs to b3"):
        authority.admit("b4", Role.UNIT, key, line="b")
    with pytest.raises(ConfigError, match=r"already belongs to b3 .unit."):
        authority.admit("b3", Role.CONSUMER, new_key().public_key())
    assert authority.members == members
    assert not authority.certificate_path("b4").exists()


@pytest.mark.parametrize(
    ("name", "line"),
    [("B1", "b"), ("b+", "b"), ("b1/x", "b"), ("", "b"), ("x" * 33, "b"), ("b9", "#"), ("b9", "labels"), ("b9", None)],
)
def test_names_that_could_reach_other_topics_are_refused(authority: RoomAuthority, name: str, line: str | None) -> None:
    before = files(authority.folder)
    with pytest.raises(ConfigError):
        authority.admit(name, Role.UNIT, new_key().public_key(), line=line)
    assert files(authority.folder) == before


def test_roster_without_gateway_or_policy_is_refused(tmp_path: Path) -> None:
    bare = RoomAuthority.found(tmp_path / "authority", "r2")
    with pytest.raises(ConfigError, match="exactly one gateway and a deployment policy"):
        bare.publish()
    assert not (bare.folder / "roster.cose").exists()


def test_keys_with_a_passphrase_open_with_it_alone(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    RoomAuthority.found(folder, "r2", PASSPHRASE)
    for name in ("room-authority.key", "certificate-authority.key", "registrar.key"):
        assert b"ENCRYPTED" in (folder / name).read_bytes()
    assert RoomAuthority.open(folder, PASSPHRASE).room == "r2"
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        RoomAuthority.open(folder, b"a wrong passphrase")
    with pytest.raises(ConfigError, match="--passphrase-file"):
        RoomAuthority.open(folder)


def test_folder_of_another_room_and_folder_without_authority_are_refused(authority: RoomAuthority) -> None:
    with pytest.raises(ConfigError, match="is the authority of room r2, not of r3"):
        RoomAuthority.found(authority.folder, "r3")
    with pytest.raises(ConfigError, match="holds no room authority"):
        RoomAuthority.open(authority.folder.parent)


def test_key_files_are_the_owners_alone(authority: RoomAuthority) -> None:
    assert authority.folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in authority.folder.glob("*.key")}
    assert modes == {"room-authority.key": 0o600, "certificate-authority.key": 0o600, "registrar.key": 0o600}


@pytest.mark.parametrize("name", ["roster.cose", "policy.cose"])
def test_signed_file_that_somebody_changed_is_refused(authority: RoomAuthority, name: str) -> None:
    path = authority.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name}: .*put the right file back"):
        (read_roster_file if name == "roster.cose" else read_policy_file)(authority.folder)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"room": "r2", "unknown": 1}'])
def test_damaged_book_is_refused_by_name(authority: RoomAuthority, content: bytes) -> None:
    (authority.folder / "room.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"room.json: is damaged"):
        RoomAuthority.open(authority.folder)


@pytest.mark.parametrize("crash_after", ["room.json", "roster.cose", "revoked.pem"])
def test_publishing_that_was_cut_off_is_completed_by_the_next(
    authority: RoomAuthority, crash_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.revoke("b1")

    def write_and_crash(path: Path, content: bytes, *, mode: int = 0o600) -> None:
        write_durably(path, content, mode=mode)
        if path.name == crash_after:
            raise KeyboardInterrupt

    def write_record_and_crash(path: Path, record: object) -> None:
        write_record(path, record)
        if path.name == crash_after:
            raise KeyboardInterrupt

    monkeypatch.setattr("provisioning.authority.write_durably", write_and_crash)
    monkeypatch.setattr("provisioning.authority.write_record", write_record_and_crash)
    with pytest.raises(KeyboardInterrupt):
        authority.publish()
    monkeypatch.undo()
    again = RoomAuthority.open(authority.folder)
    roster = again.publish()
    assert roster.revoked == {"b1"}
    assert roster.epoch > 1
    assert read_roster_file(again.folder) == roster
    assert revoked_serials(again) == {serial_of(again, "b1")}
    assert again.publish() == roster


def test_a_room_founded_with_the_hybrid_suite_keeps_it(tmp_path: Path) -> None:
    made = RoomAuthority.found(tmp_path / "authority", "r2", suite=HYBRID)
    made.set_policy(POLICY)
    with pytest.raises(ConfigError, match="gateway: its opening key is not of suite 2"):
        made.admit("gateway", Role.GATEWAY, new_key().public_key(), opening_key=bytes(32))
    public = Opener(bytes(32)).public_key
    made.admit("gateway", Role.GATEWAY, new_key().public_key(), opening_key=public)
    made.publish()
    assert RoomAuthority.open(made.folder).suite is HYBRID
    roster = read_roster_file(made.folder)
    assert (roster.suite, roster.gateway.opening_key) == (HYBRID, public)
    with pytest.raises(ConfigError, match="this room seals by suite 2, and a room keeps its suite"):
        RoomAuthority.found(made.folder, "r2", suite=X25519)


def test_a_book_from_before_there_were_suites_means_suite_1(authority: RoomAuthority) -> None:
    book = authority.folder / "room.json"
    content = json.loads(book.read_text())
    assert content.pop("suite") == 1
    book.write_text(json.dumps(content))
    assert RoomAuthority.open(authority.folder).suite is X25519
