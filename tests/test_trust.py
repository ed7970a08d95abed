"""A box with bad trust files refuses to start, names the file, and never falls back to a default."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.backends.openssl.backend import backend

from device.clock import TimeSource
from device.config import Trust, load_unit
from device.errors import ConfigError
from device.messages import cbor
from device.messages.envelope import ContentType, KeySigner, open_envelope, seal_envelope
from device.messages.policy import Mode
from device.messages.sealing import HYBRID
from device.system.keys import load_signing_key
from device.system.storage import SESSION_FILE
from device.trust import load_signer, load_trusted
from device.unit import wiring
from provisioning.authority import AUTHORITY_KEY, POLICY_FILE, RoomAuthority
from provisioning.demo_room import DemoPlan, DemoRoom, build
from tests.fakes.clock import FakeClock

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


def test_refused_unit_uses_up_no_session(demo: DemoRoom) -> None:
    config = load_unit(demo.unit_config("a1"))
    counter = config.state / SESSION_FILE
    before = counter.read_bytes()
    with pytest.raises(ConfigError, match="is not on line b"):
        wiring.build(msgspec.structs.replace(config, line="b"), unset_clock())
    assert counter.read_bytes() == before
