"""The demo room: complete, repeatable, and open about what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from device.clock import TimeSource
from device.config import load_gateway, load_unit
from device.errors import ConfigError
from device.messages.envelope import ContentType, KeySigner, seal_envelope
from device.messages.policy import Mode, Purpose, Setting
from device.messages.schedule import ALWAYS
from device.messages.sealing import HYBRID, Opener
from device.system.keys import load_opening_key, load_signing_key
from device.system.storage import SESSION_FILE, SessionCounter
from device.trust import load_signer, load_trusted
from provisioning import demo_room
from provisioning.authority import KEY_ID, read_policy_file, read_roster_file
from provisioning.demo_room import DemoPlan, DemoRoom, build
from tests.fakes.clock import FakeClock


@pytest.fixture
def plan(tmp_path: Path) -> DemoPlan:
    takes = [tmp_path / "takes" / name for name in ("anger", "fear", "neutral")]
    for take in takes:
        take.mkdir(parents=True)
        (take / "take.toml").touch()
    return DemoPlan(takes=takes, units=3)


@pytest.fixture
def room(tmp_path: Path, plan: DemoPlan) -> DemoRoom:
    return build(tmp_path / "room", plan)


def secrets(room: DemoRoom) -> dict[Path, bytes]:
    private = [path for path in room.folder.rglob("*") if path.name.endswith(("key.pem", ".key"))]
    return {path: path.read_bytes() for path in private}


def test_every_box_trusts_what_the_authority_signed(room: DemoRoom) -> None:
    clock = FakeClock(wall_ms=read_policy_file(room.authority).not_before_ms + 1)
    clock.source = TimeSource.NTP
    roster = read_roster_file(room.authority)
    assert [unit.unit for unit in roster.units_of("a")] == list(room.units) == ["a1", "a2", "a3"]
    for unit in roster.units_of("a"):
        config = load_unit(room.unit_config(unit.unit))
        assert load_trusted(config.trust, config.room, clock).roster == roster
        assert load_signer(config.trust, unit.unit, unit.key).key_id == unit.unit
    gateway = load_gateway(room.gateway_config)
    assert load_signer(gateway.trust, gateway.gateway, roster.gateway.key).key_id == "gateway"
    assert gateway.desks == {"a1": "Desk 1", "a2": "Desk 2", "a3": "Desk 3"}


def test_a_room_of_the_hybrid_suite_is_believed_by_every_box(tmp_path: Path, plan: DemoPlan) -> None:
    room = build(tmp_path / "hybrid", replace(plan, suite=HYBRID))
    clock = FakeClock(wall_ms=read_policy_file(room.authority).not_before_ms + 1)
    for name in room.units:
        config = load_unit(room.unit_config(name))
        assert load_trusted(config.trust, config.room, clock).roster.suite is HYBRID
    gateway = load_gateway(room.gateway_config)
    opener = Opener(load_opening_key(gateway.opening_key), HYBRID)
    assert opener.public_key == read_roster_file(room.authority).gateway.opening_key
    assert {path.stat().st_mode & 0o777 for path in secrets(room)} == {0o600}


def test_policy_says_openly_that_it_is_a_demonstration(room: DemoRoom) -> None:
    policy = read_policy_file(room.authority)
    assert (policy.purpose, policy.setting, policy.mode) == (Purpose.DEMONSTRATION, Setting.LABORATORY, Mode.LABELS)
    assert "Nobody has approved it for use with people" in policy.approved_by
    assert policy.min_group == demo_room.MIN_GROUP


def test_private_keys_are_the_owners_alone(room: DemoRoom) -> None:
    found = secrets(room)
    assert len(found) == 3 + 1 + 2 + 3 + 1
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}


def test_building_again_keeps_keys_epoch_and_sessions(room: DemoRoom, plan: DemoPlan) -> None:
    before, roster = secrets(room), read_roster_file(room.authority)
    session = room.unit("a1") / "state" / SESSION_FILE
    assert SessionCounter(session).raise_() == 1
    build(room.folder, plan)
    assert secrets(room) == before
    assert read_roster_file(room.authority) == roster
    assert SessionCounter(session).raise_() == 2


@pytest.mark.parametrize("standing", ["of an earlier format", "damaged"])
def test_building_again_signs_a_policy_anew_that_no_longer_reads(room: DemoRoom, plan: DemoPlan, standing: str) -> None:
    before, roster = secrets(room), read_roster_file(room.authority)
    policy = room.authority / "policy.cose"
    signer = KeySigner(KEY_ID, load_signing_key(room.authority / "room-authority.key"))
    fields: dict[int, object] = {
        1: "demo", 2: 4, 3: 2, 4: "EU", 5: 2, 6: 2, 7: 1, 8: 2, 9: demo_room.APPROVED_BY, 10: 1_000, 11: 2_000
    }  # fmt: skip
    old = seal_envelope(ContentType.POLICY, fields, signer, room="demo")
    policy.write_bytes(old if standing == "of an earlier format" else policy.read_bytes()[:-1])
    with pytest.raises(ConfigError):
        read_policy_file(room.authority)
    build(room.folder, plan)
    clock = FakeClock(wall_ms=read_policy_file(room.authority).not_before_ms + 1)
    for name in room.units:
        trusted = load_trusted(load_unit(room.unit_config(name)).trust, "demo", clock)
        assert (trusted.policy.capture, trusted.policy.updates) == (ALWAYS, ALWAYS)
    assert secrets(room) == before
    assert read_roster_file(room.authority).lines == roster.lines


def test_one_more_desk_raises_the_epoch_and_keeps_the_others(room: DemoRoom, plan: DemoPlan) -> None:
    before = secrets(room)
    larger = build(room.folder, replace(plan, units=4))
    roster = read_roster_file(larger.authority)
    assert (roster.epoch, len(roster.units_of("a"))) == (2, 4)
    assert before.items() <= secrets(larger).items()


def test_units_begin_with_different_takes_and_play_all(room: DemoRoom, plan: DemoPlan) -> None:
    orders = []
    for name in room.units:
        folder = load_unit(room.unit_config(name)).capture.replay
        assert folder is not None
        links = sorted(folder.iterdir())
        assert all((link / "take.toml").exists() for link in links)
        orders.append([link.resolve().name for link in links])
    assert orders == [["anger", "fear", "neutral"], ["neutral", "anger", "fear"], ["fear", "neutral", "anger"]]


def test_intruder_is_in_the_room_only_when_asked_for(room: DemoRoom, plan: DemoPlan) -> None:
    assert "intruder" not in (room.broker / "access.acl").read_text()
    staged = build(room.folder.parent / "staged", replace(plan, intruder=True))
    assert "user intruder\ntopic readwrite moodline/v1/demo/a/link/+" in (staged.broker / "access.acl").read_text()
    assert (staged.consumer("intruder") / "certificate.pem").exists()


@pytest.mark.parametrize("change", [{"units": 0}, {"units": 41}, {"takes": []}, {"line": "labels"}, {"room": "Room 2"}])
def test_plan_that_cannot_be_carried_out_is_refused(tmp_path: Path, plan: DemoPlan, change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        build(tmp_path / "room", replace(plan, **change))  # type: ignore[arg-type]
    assert not (tmp_path / "room" / "authority" / "roster.cose").exists()
