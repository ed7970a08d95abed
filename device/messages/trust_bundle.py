"""The trust bundle: all that a box needs to believe a room's present state, in one message.

It is the deterministic CBOR of [version, [succession, …], roster, policy]; every part is signed by itself, so the
bundle is not. The successions, oldest first, lead from a room authority key that the box may still believe to the one
that signed roster and policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from device.errors import RemoteMessageError, Verdict
from device.messages import cbor
from device.messages.envelope import digest
from device.messages.policy import POLICY_BYTES, DeploymentPolicy, read_policy
from device.messages.roster import ROSTER_BYTES, Roster, read_roster
from device.messages.succession import SUCCESSION_BYTES, Succession, read_succession

VERSION: Final = 1
#: Largest bundle that is read, in bytes, and most successions in it.
BUNDLE_BYTES: Final = 2 << 20
MAX_SUCCESSIONS: Final = 8


@dataclass(frozen=True)
class TrustBundle:
    """Signed parts as received; nothing is trusted yet. `successions` run from the oldest to the newest."""

    successions: tuple[bytes, ...]
    roster: bytes
    policy: bytes


class Verified(NamedTuple):
    """What a bundle says, verified. `authority_key` is the room authority's key from now on (raw, 32 bytes)."""

    roster: Roster
    policy: DeploymentPolicy
    authority_key: bytes


def encode_bundle(bundle: TrustBundle) -> bytes:
    """The bundle as bytes. Raises ValueError when nobody would read it."""
    encoded = cbor.encode([VERSION, list(bundle.successions), bundle.roster, bundle.policy])
    if len(bundle.successions) > MAX_SUCCESSIONS or len(encoded) > BUNDLE_BYTES:
        raise ValueError(f"a bundle of {len(bundle.successions)} successions and {len(encoded)} bytes is not read")
    return encoded


def decode_bundle(raw: bytes) -> TrustBundle:
    """Take the bytes apart; nothing is trusted yet.

    Raises RemoteMessageError: TOO_LARGE, NOT_DECODABLE, NOT_DETERMINISTIC, UNKNOWN_VERSION.
    """
    _check_size("bundle", raw, BUNDLE_BYTES)
    match cbor.decode(raw):
        case [int(version), *_] if version != VERSION:
            raise RemoteMessageError(Verdict.UNKNOWN_VERSION, f"A trust bundle of version {version}.")
        case [int(), list(successions), bytes(roster), bytes(policy)]:
            pass
        case _:
            raise RemoteMessageError(Verdict.NOT_DECODABLE, "Not the four parts of a trust bundle.")
    if len(successions) > MAX_SUCCESSIONS:
        raise RemoteMessageError(
            Verdict.TOO_LARGE, f"{len(successions)} successions; at most {MAX_SUCCESSIONS} are read."
        )
    octets = tuple(item for item in successions if isinstance(item, bytes))
    if len(octets) != len(successions):
        raise RemoteMessageError(Verdict.NOT_DECODABLE, "A succession is no byte string.")
    for succession in octets:
        _check_size("succession", succession, SUCCESSION_BYTES)
    _check_size("roster", roster, ROSTER_BYTES)
    _check_size("policy", policy, POLICY_BYTES)
    return TrustBundle(octets, roster, policy)


def verify_bundle(bundle: TrustBundle, authority_key: bytes, room: str) -> Verified:
    """Follow the successions from `authority_key`, which the box believes, and read roster and policy under the last.

    Nothing is said about the roster's epoch being newer than the box's own: that is for the caller to know. Raises
    RemoteMessageError when a part is not what it should be, ConfigError where the law forbids the policy.
    """
    chain = tuple(read_succession(raw, room=room) for raw in bundle.successions)
    newest = _follow(chain, authority_key)
    roster = read_roster(bundle.roster, authority_key=newest, room=room)
    if chain and roster.epoch < chain[-1].epoch:
        raise RemoteMessageError(
            Verdict.STALE_EPOCH, f"A roster of epoch {roster.epoch} under a key that holds from {chain[-1].epoch} on."
        )
    policy = read_policy(bundle.policy, authority_key=newest, room=room)
    if digest(bundle.policy) != roster.policy:
        raise _contradiction("its policy is not the one that its roster names")
    return Verified(roster, policy, newest)


def authority_keys(bundle: TrustBundle, authority_key: bytes, room: str) -> tuple[tuple[int, bytes], ...]:
    """Every key that the room authority has had by this bundle, each with the first epoch that it signs, oldest first.

    `authority_key`, which somebody believes, may stand anywhere among them: an older key signed the succession to a
    newer one, and a newer one its proof of possession over the older. Raises RemoteMessageError.
    """
    chain = tuple(read_succession(raw, room=room) for raw in bundle.successions)
    _follow(chain, authority_key)
    first = chain[0].old_key if chain else authority_key
    return ((1, first), *((succession.epoch, succession.new_key) for succession in chain))


def _follow(chain: Sequence[Succession], believed: bytes) -> bytes:
    """The chain's last key, when the chain is whole and `believed` stands anywhere in it; `believed` without a chain.

    A box that has followed part of the chain before begins in its middle.
    """
    if len(chain) > MAX_SUCCESSIONS:
        raise RemoteMessageError(Verdict.TOO_LARGE, f"{len(chain)} successions; at most {MAX_SUCCESSIONS} are read.")
    if not chain:
        return believed
    for earlier, later in pairwise(chain):
        if earlier.new_key != later.old_key or earlier.epoch >= later.epoch:
            raise _contradiction("one succession does not continue the other")
    keys = [chain[0].old_key, *(succession.new_key for succession in chain)]
    if len(set(keys)) != len(keys):
        raise _contradiction("a key follows itself")
    if believed not in keys:
        raise RemoteMessageError(
            Verdict.BAD_SIGNATURE, "No succession leads from the room authority's key that is believed here."
        )
    return keys[-1]


def _check_size(what: str, raw: bytes, limit: int) -> None:
    if len(raw) > limit:
        raise RemoteMessageError(Verdict.TOO_LARGE, f"A {what} of {len(raw)} bytes; at most {limit} are read.")


def _contradiction(what: str) -> RemoteMessageError:
    return RemoteMessageError(Verdict.NOT_DECODABLE, f"The trust bundle contradicts itself: {what}.")
