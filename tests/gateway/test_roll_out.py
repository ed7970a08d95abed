"""The gateway finds a newer roster on its disk: what counts, when, and what is told of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.clock import TimeSource
from device.config import GatewayConfig, load_gateway
from device.errors import ConfigError
from device.gateway.roll_out import BUNDLE_FILE, JUDGE_AGAIN_S, LOOK_S, RosterWatch, bundle_for_units, left_places
from device.gateway.wiring import _check
from device.messages.trust_bundle import decode_bundle, verify_bundle
from device.trust import Trusted, load_trusted, staged
from provisioning import demo_room
from provisioning.demo_room import DemoPlan, DemoRoom
from tests.fakes.clock import FakeClock
from tests.trust_bundles import Signed, signed_by

TAKE = Path(__file__).resolve().parents[2] / "tools" / "takes" / "neutral"


class Watched:
    """The gateway of a demo room as it looks at its folder."""

    def __init__(self, room: DemoRoom) -> None:
        self.room = room
        self.folder = room.gateway
        self.config: GatewayConfig = load_gateway(room.gateway_config)
        self.clock = FakeClock()
        self.clock.source = TimeSource.UNSET
        self.signed: Signed = signed_by(room.authority)
        self.standing: Trusted = load_trusted(self.config.trust, "demo", self.clock)
        self.begin(lambda found: _check(self.config, found))

    def begin(self, check: Callable[[Trusted], None]) -> None:
        bundle = bundle_for_units(self.config.trust, self.standing)
        self.watch = RosterWatch(self.config.trust, self.standing, bundle, self.clock, check)

    def look(self) -> Trusted | None:
        """After a while."""
        self.clock.advance(LOOK_S)
        return self.watch.poll()

    def refusal(self) -> str:
        with pytest.raises(ConfigError) as refused:
            self.watch.poll(at_once=True)
        assert refused.value.next_step
        return refused.value.what


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(demo_room.build(tmp_path / "room", DemoPlan(takes=[TAKE], units=2)))


def test_nothing_is_found_while_nothing_changes_and_touching_a_file_is_no_change(watched: Watched) -> None:
    assert [watched.look() for _ in range(5)] == [None] * 5
    watched.config.trust.roster.touch()
    assert [watched.look() for _ in range(5)] == [None] * 5
    assert watched.watch.poll(at_once=True) is None


def test_a_newer_roster_counts_once_the_files_have_stood_still(watched: Watched) -> None:
    newer = watched.signed.next_epoch(dataclasses.replace(watched.signed.policy, retention_days=3))
    assert [watched.look() for _ in range(3)] == [None] * 3
    watched.config.trust.roster.write_bytes(newer.roster_raw)
    assert watched.look() is None, "the policy is still being copied"
    watched.config.trust.policy.write_bytes(newer.policy_raw)
    assert watched.look() is None
    found = watched.look()
    assert found is not None and (found.roster.epoch, found.policy.retention_days) == (2, 3)


def test_a_newer_roster_counts_at_once_when_told_to_look(watched: Watched) -> None:
    watched.signed.without("a2").write(watched.folder)
    found = watched.watch.poll(at_once=True)
    assert found is not None and found.roster.revoked == {"a2"}


def test_a_staged_policy_that_cannot_take_its_place_counts_once(watched: Watched) -> None:
    newer = watched.signed.next_epoch(dataclasses.replace(watched.signed.policy, retention_days=3))
    watched.config.trust.roster.write_bytes(newer.roster_raw)
    staged(watched.config.trust.policy).write_bytes(newer.policy_raw)
    found = watched.watch.poll(at_once=True)
    assert found is not None and found.policy.retention_days == 3
    watched.standing = found
    watched.begin(lambda found: None)
    watched.config.trust.policy.write_bytes(watched.signed.policy_raw)
    staged(watched.config.trust.policy).write_bytes(newer.policy_raw)
    assert watched.watch.poll(at_once=True) is None


def test_a_look_costs_nothing_between_two_looks(watched: Watched) -> None:
    watched.look()
    watched.signed.without("a2").write(watched.folder)
    watched.clock.advance(LOOK_S / 2)
    assert watched.watch.poll() is None


def older(watched: Watched) -> str:
    watched.signed.next_epoch().next_epoch().write(watched.folder)
    watched.standing = load_trusted(watched.config.trust, "demo", watched.clock)
    watched.begin(lambda found: None)
    watched.signed.next_epoch().write(watched.folder)
    return "epoch 2 is older than the roster of epoch 3"


def another_of_the_same_epoch(watched: Watched) -> str:
    changed = watched.signed.without("a2")
    dataclasses.replace(changed, roster=dataclasses.replace(changed.roster, epoch=1)).write(watched.folder)
    return "is not the same as the roster of epoch 1"


def foreign(watched: Watched) -> str:
    other = demo_room.build(watched.room.folder / "foreign", DemoPlan(takes=[TAKE], units=1))
    signed_by(other.authority).next_epoch().write(watched.folder)
    return "The signature is not by the key of room-authority"


def half_copied(watched: Watched) -> str:
    newer = watched.signed.next_epoch(dataclasses.replace(watched.signed.policy, retention_days=3))
    watched.config.trust.roster.write_bytes(newer.roster_raw)
    return "is not the policy that the roster names"


def another_gateway(watched: Watched) -> str:
    later = watched.signed.next_epoch()
    gateway = dataclasses.replace(later.roster.gateway, gateway="gateway-2")
    dataclasses.replace(later, roster=dataclasses.replace(later.roster, gateway=gateway)).write(watched.folder)
    return "the room's gateway is gateway-2"


def missing(watched: Watched) -> str:
    watched.config.trust.policy.unlink()
    return "policy.cose: cannot be read"


@pytest.mark.parametrize("case", [older, another_of_the_same_epoch, foreign, half_copied, another_gateway, missing])
def test_what_does_not_count_is_refused_by_name_and_told_once(watched: Watched, case: Callable[[Watched], str]) -> None:
    says = case(watched)
    assert says in watched.refusal()
    assert watched.watch.poll(at_once=True) is None
    assert [watched.look() for _ in range(3)] == [None] * 3
    watched.signed.next_epoch().next_epoch().next_epoch().without("a2").write(watched.folder)
    found = watched.watch.poll(at_once=True)
    assert found is not None and found.roster.epoch == 5


def test_a_policy_that_is_not_in_force_yet_is_taken_when_it_is(watched: Watched) -> None:
    now = watched.signed.policy.not_before_ms + 3_600_000
    later = dataclasses.replace(watched.signed.policy, not_before_ms=now + 600_000)
    watched.clock = FakeClock(wall_ms=now)
    watched.begin(lambda found: None)
    watched.signed.next_epoch(later).write(watched.folder)
    assert "not in force" in watched.refusal()
    watched.look()
    assert watched.look() is None
    watched.clock.advance(600)
    watched.clock.advance(JUDGE_AGAIN_S)
    found = watched.watch.poll()
    assert found is not None and found.policy == later


def test_the_bundle_for_units_has_the_successions_of_the_authoritys_bundle(watched: Watched) -> None:
    newer = watched.signed.succeeded()
    newer.write(watched.folder)
    watched.config.trust.room_authority_key.write_bytes(_pem(newer))
    found = watched.watch.poll(at_once=True)
    assert found is not None
    assert decode_bundle(bundle_for_units(watched.config.trust, found)).successions == ()
    watched.config.trust.roster.with_name(BUNDLE_FILE).write_bytes(newer.bundle)
    bundle = decode_bundle(bundle_for_units(watched.config.trust, found))
    assert verify_bundle(bundle, watched.signed.signer.public_key, "demo").roster == found.roster


def _pem(signed: Signed) -> bytes:
    key = signed.signer.private_key.public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("content", [b"", b"\xff" * 50])
def test_a_bundle_that_leads_nowhere_is_left_out_and_told(
    watched: Watched, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = watched.config.trust.roster.with_name(BUNDLE_FILE)
    elsewhere = watched.signed.succeeded().bundle
    for found in (content, elsewhere):
        path.write_bytes(found)
        caplog.clear()
        bundle = decode_bundle(bundle_for_units(watched.config.trust, watched.standing))
        assert verify_bundle(bundle, watched.standing.authority_key, "demo").roster == watched.standing.roster
        assert str(path) in caplog.text


def test_who_left_a_place_is_who_was_revoked_moved_or_taken_off(watched: Watched) -> None:
    before = watched.signed.roster
    assert left_places(before, watched.signed.without("a2").roster) == {("a", "a2")}
    assert left_places(before, watched.signed.moved("a1", "b").roster) == {("a", "a1")}
    assert left_places(before, before) == set()
