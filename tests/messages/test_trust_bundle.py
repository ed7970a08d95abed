"""The trust bundle: a box follows the room authority's keys and believes nothing else."""

from __future__ import annotations

from dataclasses import replace

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import ConfigError, RemoteMessageError, Verdict
from device.messages import cbor, topics
from device.messages.envelope import ContentType, KeySigner, digest, open_envelope, seal_envelope
from device.messages.policy import POLICY_BYTES, DeploymentPolicy, Mode, Purpose, Setting, sign_policy
from device.messages.roster import ROSTER_BYTES, sign_roster
from device.messages.succession import SUCCESSION_BYTES, Succession, sign_succession
from device.messages.trust_bundle import (
    BUNDLE_BYTES,
    MAX_SUCCESSIONS,
    TrustBundle,
    decode_bundle,
    encode_bundle,
    verify_bundle,
)
from tools.vectors import room

KEYS = [KeySigner(room.AUTHORITY, room.signer(f"authority-{number}").private_key) for number in range(11)]
POLICY = DeploymentPolicy(
    room=room.ROOM,
    purpose=Purpose.DEMONSTRATION,
    setting=Setting.LABORATORY,
    jurisdiction="DE",
    mode=Mode.LABELS,
    min_group=11,
    retention_days=30,
    witness_count=2,
    approved_by="Head of the laboratory",
    not_before_ms=1_000,
    not_after_ms=2_000,
)


def step(old: int, new: int, epoch: int | None = None, where: str = room.ROOM) -> bytes:
    """The succession from one authority key to another."""
    succession = Succession(where, KEYS[old].public_key, KEYS[new].public_key, epoch or new + 1)
    return sign_succession(succession, KEYS[old], KEYS[new])


def bundle_of(*successions: bytes, signer: int = 0, epoch: int = 20, where: str = room.ROOM) -> TrustBundle:
    policy = sign_policy(replace(POLICY, room=where), KEYS[signer])
    roster = replace(room.roster(4, epoch=epoch, room=where), policy=digest(policy))
    return TrustBundle(successions, sign_roster(roster, KEYS[signer]), policy)


def refused(bundle: TrustBundle, believed: int = 0, where: str = room.ROOM) -> Verdict:
    with pytest.raises(RemoteMessageError) as error:
        verify_bundle(bundle, KEYS[believed].public_key, where)
    return error.value.verdict


def undecodable(raw: bytes) -> Verdict:
    with pytest.raises(RemoteMessageError) as error:
        decode_bundle(raw)
    return error.value.verdict


CHAIN = tuple(step(number, number + 1) for number in range(MAX_SUCCESSIONS))
GOOD = encode_bundle(bundle_of(step(0, 1), signer=1))


def test_a_bundle_comes_back() -> None:
    for bundle in (bundle_of(), bundle_of(step(0, 1), step(1, 2), signer=2)):
        assert decode_bundle(encode_bundle(bundle)) == bundle


def test_a_bundle_without_succession_leaves_the_key() -> None:
    bundle = bundle_of()
    roster, policy, key = verify_bundle(bundle, KEYS[0].public_key, room.ROOM)
    assert (roster.epoch, policy, key) == (20, POLICY, KEYS[0].public_key)


@pytest.mark.parametrize("believed", range(MAX_SUCCESSIONS + 1))
def test_a_box_follows_the_chain_from_whichever_key_it_believes(believed: int) -> None:
    bundle = bundle_of(*CHAIN, signer=MAX_SUCCESSIONS)
    verified = verify_bundle(bundle, KEYS[believed].public_key, room.ROOM)
    assert verified.authority_key == KEYS[MAX_SUCCESSIONS].public_key
    assert verified.roster.epoch == 20


def test_a_chain_longer_than_the_limit_is_refused() -> None:
    long = bundle_of(*CHAIN, step(8, 9), signer=9)
    assert refused(long) is Verdict.TOO_LARGE
    with pytest.raises(ValueError, match="9 successions"):
        encode_bundle(long)
    raw = cbor2.dumps([1, list(long.successions), long.roster, long.policy], canonical=True)
    assert undecodable(raw) is Verdict.TOO_LARGE


def test_a_chain_in_the_wrong_order_or_with_a_hole_is_refused() -> None:
    assert refused(bundle_of(step(1, 2), step(0, 1), signer=2)) is Verdict.NOT_DECODABLE
    assert refused(bundle_of(step(0, 1), step(2, 3), signer=3)) is Verdict.NOT_DECODABLE
    assert refused(bundle_of(step(0, 1, 5), step(1, 2, 5), signer=2)) is Verdict.NOT_DECODABLE


def test_a_cycle_of_keys_is_refused() -> None:
    assert refused(bundle_of(step(0, 1, 2), step(1, 0, 3), signer=0)) is Verdict.NOT_DECODABLE


def test_a_chain_that_begins_at_a_foreign_key_is_refused() -> None:
    assert refused(bundle_of(step(5, 6), signer=6)) is Verdict.BAD_SIGNATURE
    assert refused(bundle_of(step(0, 1), signer=1), believed=5) is Verdict.BAD_SIGNATURE


def test_a_succession_by_a_foreign_key_is_refused() -> None:
    forged = sign_succession(Succession(room.ROOM, KEYS[0].public_key, KEYS[5].public_key, 2), KEYS[5], KEYS[5])
    assert refused(bundle_of(forged, signer=5)) is Verdict.BAD_SIGNATURE


def test_a_box_that_has_followed_a_succession_does_not_follow_the_old_key_elsewhere() -> None:
    stolen = bundle_of(step(0, 5, 30), signer=5, epoch=31)
    assert verify_bundle(stolen, KEYS[0].public_key, room.ROOM).authority_key == KEYS[5].public_key
    assert refused(stolen, believed=1) is Verdict.BAD_SIGNATURE


def test_a_roster_or_policy_under_the_old_key_after_a_succession_is_refused() -> None:
    old, new = bundle_of(signer=0), bundle_of(step(0, 1), signer=1)
    assert refused(replace(new, roster=old.roster)) is Verdict.BAD_SIGNATURE
    assert refused(replace(new, policy=old.policy)) is Verdict.BAD_SIGNATURE
    assert refused(replace(old, successions=new.successions)) is Verdict.BAD_SIGNATURE
    assert refused(replace(new, successions=())) is Verdict.BAD_SIGNATURE


def test_a_roster_from_before_the_succession_is_refused() -> None:
    assert refused(bundle_of(step(0, 1, 21), signer=1, epoch=20)) is Verdict.STALE_EPOCH
    assert verify_bundle(bundle_of(step(0, 1, 20), signer=1, epoch=20), KEYS[0].public_key, room.ROOM)


def test_a_policy_that_the_roster_does_not_name_is_refused() -> None:
    other = sign_policy(replace(POLICY, retention_days=1), KEYS[0])
    assert refused(replace(bundle_of(), policy=other)) is Verdict.NOT_DECODABLE


def test_parts_of_another_room_are_refused() -> None:
    assert refused(bundle_of(where="gym")) is Verdict.BAD_SIGNATURE
    assert refused(bundle_of(step(0, 1, where="gym"), signer=1)) is Verdict.WRONG_ROOM
    assert refused(bundle_of(), where="gym") is Verdict.BAD_SIGNATURE


def test_parts_in_each_others_place_are_refused() -> None:
    bundle = bundle_of()
    assert refused(replace(bundle, roster=bundle.policy)) is Verdict.WRONG_KIND
    assert refused(replace(bundle, policy=bundle.roster)) is Verdict.WRONG_KIND
    assert refused(replace(bundle, successions=(bundle.policy,))) is Verdict.WRONG_KIND


def test_a_policy_that_the_law_forbids_is_refused_by_article_even_if_signed() -> None:
    lawful = cbor.decode(open_envelope(sign_policy(POLICY, KEYS[0]), wanted=ContentType.POLICY).payload)
    assert isinstance(lawful, dict)
    setting = 3
    fields = {**lawful, setting: list(Setting).index(Setting.EDUCATION)}
    policy = seal_envelope(ContentType.POLICY, fields, KEYS[0], room=room.ROOM)
    roster = sign_roster(replace(room.roster(4), policy=digest(policy)), KEYS[0])
    with pytest.raises(ConfigError, match=r"Article 5\(1\)\(f\)"):
        verify_bundle(TrustBundle((), roster, policy), KEYS[0].public_key, room.ROOM)


@pytest.mark.parametrize(
    ("item", "verdict"),
    [
        ([2, [], b"", b""], Verdict.UNKNOWN_VERSION),
        ([2, "of the future"], Verdict.UNKNOWN_VERSION),
        ([], Verdict.NOT_DECODABLE),
        ([1], Verdict.NOT_DECODABLE),
        ({1: 1}, Verdict.NOT_DECODABLE),
        ([b"1", [], b"", b""], Verdict.NOT_DECODABLE),
        ([1, [], b"", b"", b""], Verdict.NOT_DECODABLE),
        ([1, b"", b"", b""], Verdict.NOT_DECODABLE),
        ([1, ["text"], b"", b""], Verdict.NOT_DECODABLE),
        ([1, [], "text", b""], Verdict.NOT_DECODABLE),
        ([1, [bytes(SUCCESSION_BYTES + 1)], b"", b""], Verdict.TOO_LARGE),
        ([1, [], bytes(ROSTER_BYTES + 1), b""], Verdict.TOO_LARGE),
        ([1, [], b"", bytes(POLICY_BYTES + 1)], Verdict.TOO_LARGE),
    ],
    ids=str,
)
def test_bundles_of_another_form_are_refused(item: object, verdict: Verdict) -> None:
    assert undecodable(cbor2.dumps(item, canonical=True)) is verdict


def test_a_bundle_in_another_encoding_too_large_or_with_more_behind_it_is_refused() -> None:
    assert undecodable(b"\x84\x18\x01" + GOOD[2:]) is Verdict.NOT_DETERMINISTIC
    assert undecodable(GOOD + b"\x00") is Verdict.NOT_DECODABLE
    assert undecodable(bytes(BUNDLE_BYTES + 1)) is Verdict.TOO_LARGE


def test_a_bundle_cut_off_anywhere_is_refused() -> None:
    for length in range(len(GOOD)):
        assert undecodable(GOOD[:length]) is Verdict.NOT_DECODABLE


@given(at=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_no_changed_bit_passes(at: int, bit: int) -> None:
    raw = bytearray(GOOD)
    raw[at] ^= 1 << bit
    with pytest.raises(RemoteMessageError):
        verify_bundle(decode_bundle(bytes(raw)), KEYS[0].public_key, room.ROOM)


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_random_bytes_raise_the_one_family_of_errors(raw: bytes) -> None:
    assert undecodable(raw) in {Verdict.NOT_DECODABLE, Verdict.NOT_DETERMINISTIC, Verdict.UNKNOWN_VERSION}


@given(st.lists(st.binary(max_size=200), max_size=3), st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=200)
def test_random_parts_raise_the_one_family_of_errors(successions: list[bytes], roster: bytes, policy: bytes) -> None:
    verdict = refused(decode_bundle(encode_bundle(TrustBundle(tuple(successions), roster, policy))))
    assert verdict in {Verdict.NOT_DECODABLE, Verdict.NOT_DETERMINISTIC}


def test_the_bundles_topic_is_no_lines_topic() -> None:
    assert topics.trust("lab") == "moodline/v1/lab/trust"
    assert topics.parse_line_topic(topics.trust("lab")) is None
