"""A box with bad trust files refuses to start, names the file, and never falls back to a default."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.backends.openssl.backend import backend

from device.clock import TimeSource
from device.config import Trust, load_unit
from device.errors import ConfigError, RemoteMessageError, StorageError, Verdict
from device.messages import cbor
from device.messages.envelope import ContentType, KeySigner, open_envelope, seal_envelope
from device.messages.link import Entry
from device.messages.policy import Mode
from device.messages.sealing import HYBRID
from device.messages.trust_bundle import TrustBundle, encode_bundle
from device.publish.spill import encode_record, place_digest
from device.system.keys import load_signing_key
from device.system.storage import DISK, SESSION_FILE, SPILL_FILE, Disk
from device.trust import TrustStore, load_signer, load_trusted
from device.unit import wiring
from provisioning.authority import AUTHORITY_KEY, POLICY_FILE, VERIFYING_KEY, RoomAuthority
from provisioning.demo_room import DemoPlan, DemoRoom, build
from tests.fakes.clock import FakeClock
from tests.fakes.storage import FailingDisk, PowerCutDisk, PowerCutError
from tests.trust_bundles import Signed, signed_by

TAKE = Path(__file__).resolve().parents[1] / "tools" / "takes" / "neutral"
NOW_MS_MARGIN = 3_600_000


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> DemoRoom:
    return build(tmp_path_factory.mktemp("room"), DemoPlan(takes=[TAKE], units=2))


@pytest.fixture
def demo(tmp_path: Path) -> DemoRoom:
    return build(tmp_path / "room", DemoPlan(takes=[TAKE], units=2))


def trust_of(room: DemoRoom, unit: str = "a1") -> Trust:
    return load_unit(room.unit_config(unit)).trust


def unset_clock() -> FakeClock:
    clock = FakeClock()
    clock.source = TimeSource.UNSET
    return clock


def test_good_files_are_believed(template: DemoRoom) -> None:
    trusted = load_trusted(trust_of(template), "demo", unset_clock())
    assert trusted.policy.mode is Mode.LABELS
    assert [unit.unit for unit in trusted.roster.units_of("a")] == ["a1", "a2"]


@pytest.mark.parametrize("part", ["room_authority_key", "roster", "policy"])
def test_missing_file_is_named(template: DemoRoom, part: str) -> None:
    trust = msgspec.structs.replace(trust_of(template), **{part: Path("/nowhere/at-all")})
    with pytest.raises(ConfigError, match="/nowhere/at-all"):
        load_trusted(trust, "demo", unset_clock())


@pytest.mark.parametrize("part", ["roster", "policy"])
def test_changed_byte_is_refused_and_the_file_named(demo: DemoRoom, part: str) -> None:
    path: Path = getattr(trust_of(demo), part)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=path.name):
        load_trusted(trust_of(demo), "demo", unset_clock())


def test_a_roster_with_a_suite_of_the_future_says_to_update(demo: DemoRoom) -> None:
    authority = RoomAuthority.open(demo.authority)
    signer = KeySigner("room-authority", load_signing_key(demo.authority / AUTHORITY_KEY))
    roster = trust_of(demo).roster
    envelope = open_envelope(roster.read_bytes(), wanted=ContentType.ROSTER)
    fields = cbor.decode(envelope.payload)
    assert isinstance(fields, dict)
    roster.write_bytes(seal_envelope(ContentType.ROSTER, {**fields, 7: 99}, signer, room=authority.room))
    with pytest.raises(ConfigError, match=r"roster.cose: The roster asks for sealing suite 99.*Update the box"):
        load_trusted(trust_of(demo), "demo", unset_clock())


def test_a_box_whose_library_lacks_the_rosters_suite_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = build(tmp_path / "room", DemoPlan(takes=[TAKE], units=2, suite=HYBRID))
    assert load_trusted(trust_of(room), "demo", unset_clock()).roster.suite is HYBRID
    monkeypatch.setattr(backend, "mlkem_supported", lambda: False)
    with pytest.raises(ConfigError, match=r"suite 2 .*has none.*Install `cryptography`"):
        load_trusted(trust_of(room), "demo", unset_clock())


def test_policy_of_another_room_authority_is_refused(demo: DemoRoom, tmp_path: Path) -> None:
    other = build(tmp_path / "other", DemoPlan(takes=[TAKE], units=1))
    trust_of(demo).policy.write_bytes(trust_of(other).policy.read_bytes())
    with pytest.raises(ConfigError, match="policy"):
        load_trusted(trust_of(demo), "demo", unset_clock())


def test_policy_that_the_roster_does_not_name_is_refused(demo: DemoRoom) -> None:
    authority = RoomAuthority.open(demo.authority)
    standing = authority.policy()
    assert standing is not None
    authority.set_policy(dataclasses.replace(standing, retention_days=3_000))
    authority.publish()
    trust_of(demo).policy.write_bytes((demo.authority / POLICY_FILE).read_bytes())
    with pytest.raises(ConfigError, match="is not the policy that the roster names"):
        load_trusted(trust_of(demo), "demo", unset_clock())


def test_policy_past_its_end_is_refused_when_the_clock_can_be_believed(template: DemoRoom) -> None:
    trusted = load_trusted(trust_of(template), "demo", unset_clock())
    late = FakeClock(wall_ms=trusted.policy.not_after_ms + NOW_MS_MARGIN)
    with pytest.raises(ConfigError, match="not in force"):
        load_trusted(trust_of(template), "demo", late)


def test_key_that_others_may_read_is_refused(demo: DemoRoom) -> None:
    trust = trust_of(demo)
    trust.key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"chmod"):
        load_signer(trust, "a1", b"x" * 32)


def test_key_of_another_unit_is_refused(template: DemoRoom) -> None:
    trusted = load_trusted(trust_of(template), "demo", unset_clock())
    other = next(unit.key for unit in trusted.roster.units_of("a") if unit.unit == "a2")
    with pytest.raises(ConfigError, match="is not the key of a1"):
        load_signer(trust_of(template), "a1", other)


def test_unlisted_unit_is_refused(template: DemoRoom) -> None:
    with pytest.raises(ConfigError, match="does not list a9"):
        load_signer(trust_of(template), "a9", None)


def test_a_unit_that_the_roster_does_not_list_uses_up_no_session(demo: DemoRoom) -> None:
    config = load_unit(demo.unit_config("a1"))
    counter = config.state / SESSION_FILE
    before = counter.read_bytes()
    with pytest.raises(ConfigError, match="a9 is not on it"):
        wiring.build(msgspec.structs.replace(config, unit="a9"), unset_clock())
    assert counter.read_bytes() == before


def test_a_unit_stands_on_the_line_that_the_roster_says_and_what_it_kept_for_the_other_is_let_go(
    demo: DemoRoom, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = msgspec.structs.replace(load_unit(demo.unit_config("a1")), muted=True)
    signed = signed_by(demo.authority)
    record = encode_record(Entry(1, 1, bytes(112)), place_digest(signed.roster, "a", "a1"))
    (config.state / SPILL_FILE).write_bytes(record)
    signed.moved("a1", "b").write(demo.unit("a1"))
    service = wiring.build(config, unset_clock())
    assert service._identity.line == "b"
    assert len(service._spill.outbox) == 0
    assert "on line b; `line` in its configuration says a" in caplog.text
    assert "written for another box, line or gateway key" in caplog.text


def test_a_revoked_unit_refuses_to_start_and_says_what_to_do(demo: DemoRoom) -> None:
    signed_by(demo.authority).without("a1").write(demo.unit("a1"))
    with pytest.raises(ConfigError, match=r"a1 is revoked\. Wipe this box and enrol it anew"):
        wiring.build(load_unit(demo.unit_config("a1")), unset_clock())


# --- taking a newer roster --------------------------------------------------------------------------------------------

NEWER: dict[str, Callable[[Signed], Signed]] = {
    "a revoked unit": lambda signed: signed.without("a2"),
    "another policy": lambda signed: signed.next_epoch(dataclasses.replace(signed.policy, retention_days=3)),
    "another authority key": lambda signed: signed.succeeded(),
    "another key twice, and another policy": lambda signed: (
        signed.succeeded().succeeded().next_epoch(dataclasses.replace(signed.policy, retention_days=3))
    ),
}


def store_of(demo: DemoRoom, disk: Disk = DISK, clock: FakeClock | None = None) -> TrustStore:
    clock = clock or unset_clock()
    trust = trust_of(demo)
    return TrustStore(trust, "demo", load_trusted(trust, "demo", clock), clock, disk=disk)


def files_of(demo: DemoRoom) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in demo.unit("a1").iterdir() if path.is_file()}


@pytest.mark.parametrize("change", NEWER)
def test_a_newer_roster_is_taken_kept_and_believed_at_the_next_start(demo: DemoRoom, change: str) -> None:
    newer = NEWER[change](signed_by(demo.authority))
    store = store_of(demo)
    taken = store.offer(newer.bundle)
    assert taken is not None
    assert taken.trusted.roster.epoch == newer.roster.epoch > taken.from_epoch
    assert load_trusted(trust_of(demo), "demo", unset_clock()) == taken.trusted
    assert not list(demo.unit("a1").glob("*.next"))
    assert store.offer(newer.bundle) is None
    later = newer.next_epoch()
    taken = store.offer(later.bundle)
    assert taken is not None and taken.trusted.roster.epoch == later.roster.epoch


@pytest.mark.parametrize("change", NEWER)
@pytest.mark.parametrize("kind", [PowerCutDisk, FailingDisk])
def test_whatever_write_fails_the_box_starts_with_the_old_roster_or_the_new_one(
    demo: DemoRoom, change: str, kind: type[FailingDisk]
) -> None:
    before = files_of(demo)
    old = load_trusted(trust_of(demo), "demo", unset_clock())
    newer = NEWER[change](signed_by(demo.authority))
    found, number, failed = [], 0, True
    while failed:
        for name in files_of(demo):
            (demo.unit("a1") / name).unlink()
        for name, content in before.items():
            (demo.unit("a1") / name).write_bytes(content)
            (demo.unit("a1") / name).chmod(0o600)
        disk = kind(fail_at=number, bytes_per_write=100)
        failed = False
        try:
            store_of(demo, disk).offer(newer.bundle)
        except (PowerCutError, StorageError):
            failed = True
        failed = failed or len(disk.calls) > number
        loaded = load_trusted(trust_of(demo), "demo", unset_clock())
        assert loaded == old or (loaded.roster.epoch, loaded.policy) == (newer.roster.epoch, newer.policy)
        found.append(loaded.roster.epoch)
        assert load_trusted(trust_of(demo), "demo", unset_clock()) == loaded
        again = store_of(demo).offer(newer.bundle)
        assert (again is None) is (loaded != old)
        number += 1
    assert found == sorted(found) and set(found) == {old.roster.epoch, newer.roster.epoch}


@pytest.mark.parametrize("kind", [PowerCutDisk, FailingDisk])
def test_a_change_that_was_cut_off_is_finished_whatever_happens_at_the_next_start(
    demo: DemoRoom, kind: type[FailingDisk]
) -> None:
    newer = NEWER["another key twice, and another policy"](signed_by(demo.authority))
    trust = trust_of(demo)
    taken = store_of(demo).offer(newer.bundle)
    assert taken is not None
    authority = load_trusted(trust, "demo", unset_clock())
    for fail_at in range(5):
        newer.write(demo.unit("a1"))
        for path in (trust.policy, trust.room_authority_key):
            path.rename(path.with_name(path.name + ".next"))
        trust.policy.write_bytes((demo.authority / POLICY_FILE).read_bytes())
        trust.room_authority_key.write_bytes((demo.authority / VERIFYING_KEY).read_bytes())
        with contextlib.suppress(PowerCutError):
            assert load_trusted(trust, "demo", unset_clock(), kind(fail_at=fail_at)).roster.epoch == newer.roster.epoch
        finished = load_trusted(trust, "demo", unset_clock())
        assert (finished.policy, finished.authority_key) == (authority.policy, authority.authority_key)
        assert not list(demo.unit("a1").glob("*.next"))


def test_whoever_loads_while_rosters_change_meets_a_whole_one(demo: DemoRoom) -> None:
    store, trust = store_of(demo), trust_of(demo)
    signed = signed_by(demo.authority)
    stop, loaded = threading.Event(), set()

    def load() -> None:
        while not stop.is_set():
            found = load_trusted(trust, "demo", unset_clock())
            loaded.add((found.roster.epoch, found.policy.retention_days))

    with ThreadPoolExecutor(2) as readers:
        reading = [readers.submit(load) for _ in range(2)]
        try:
            for days in range(2, 40):
                policy = dataclasses.replace(signed.policy, retention_days=days)
                signed = signed.succeeded().next_epoch(policy) if days % 8 == 0 else signed.next_epoch(policy)
                if days % 8 == 0:
                    signed = dataclasses.replace(signed, successions=signed.successions[-1:])
                assert store.offer(signed.bundle)
        finally:
            stop.set()
        for each in reading:
            each.result()
    assert len(loaded) > 5
    assert len({epoch for epoch, _ in loaded}) == len(loaded)


def test_a_roll_back_to_an_older_epoch_is_refused_and_told_once(demo: DemoRoom) -> None:
    signed = signed_by(demo.authority)
    store = store_of(demo)
    assert store.offer(signed.next_epoch().next_epoch().bundle)
    before = files_of(demo)
    with pytest.raises(RemoteMessageError, match="has 3 already") as refused:
        store.offer(signed.next_epoch().bundle)
    assert refused.value.verdict is Verdict.STALE_EPOCH
    assert store.offer(signed.next_epoch().bundle) is None
    assert files_of(demo) == before


@pytest.mark.parametrize("damage", ["cut", "byte", "foreign", "other policy", "random", "empty"])
def test_a_bundle_that_is_not_the_authoritys_changes_nothing(demo: DemoRoom, tmp_path: Path, damage: str) -> None:
    signed = signed_by(demo.authority)
    newer = signed.next_epoch(dataclasses.replace(signed.policy, retention_days=3))
    foreign = signed_by(build(tmp_path / "foreign", DemoPlan(takes=[TAKE], units=2)).authority).next_epoch()
    changed = bytearray(newer.bundle)
    changed[len(changed) // 2] ^= 1
    bundle = {
        "cut": newer.bundle[:-1],
        "byte": bytes(changed),
        "foreign": foreign.bundle,
        "other policy": encode_bundle(TrustBundle((), newer.roster_raw, signed.policy_raw)),
        "random": b"\xff" * 100,
        "empty": b"",
    }[damage]
    before = files_of(demo)
    store = store_of(demo)
    with pytest.raises(RemoteMessageError):
        store.offer(bundle)
    assert files_of(demo) == before
    assert store.offer(newer.bundle)


def test_a_bundle_of_the_same_epoch_says_nothing_new(demo: DemoRoom) -> None:
    assert store_of(demo).offer(signed_by(demo.authority).bundle) is None


def test_the_key_that_was_succeeded_is_believed_no_more(demo: DemoRoom) -> None:
    old = signed_by(demo.authority)
    store = store_of(demo)
    assert store.offer(old.succeeded().bundle)
    with pytest.raises(RemoteMessageError) as refused:
        store.offer(old.next_epoch().next_epoch().next_epoch().bundle)
    assert refused.value.verdict is Verdict.BAD_SIGNATURE


def test_a_policy_that_is_not_in_force_is_not_taken_when_the_clock_can_be_believed(demo: DemoRoom) -> None:
    signed = signed_by(demo.authority)
    ended = signed.next_epoch(dataclasses.replace(signed.policy, not_after_ms=signed.policy.not_before_ms + 1))
    now = FakeClock(wall_ms=signed.policy.not_before_ms + NOW_MS_MARGIN)
    before = files_of(demo)
    with pytest.raises(ConfigError, match="not in force"):
        store_of(demo, clock=now).offer(ended.bundle)
    assert files_of(demo) == before


def test_a_full_disk_leaves_the_old_roster_and_the_next_offer_tries_again(demo: DemoRoom) -> None:
    newer = signed_by(demo.authority).without("a2")
    store = store_of(demo, FailingDisk(fail_at=0))
    with pytest.raises(StorageError):
        store.offer(newer.bundle)
    assert store.offer(newer.bundle)
