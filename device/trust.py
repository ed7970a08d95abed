"""Whom a box believes: the room authority's signed roster and deployment policy, read from its own disk.

Anything wrong here stops the box before it opens a microphone or a socket; nothing falls back to a default.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.clock import Clock, TimeSource
from device.config import Trust
from device.errors import ConfigError, RemoteMessageError, StorageError, Verdict
from device.messages.envelope import KeySigner
from device.messages.policy import POLICY_BYTES, DeploymentPolicy, check_in_force, read_policy
from device.messages.roster import ROSTER_BYTES, Roster, read_roster
from device.messages.sealing import Sealer
from device.system.keys import load_signing_key, load_verifying_key
from device.system.storage import read

PROVISION_AGAIN = "Copy the room authority's current file here, or provision this box again (moodline-provision)."


@dataclass(frozen=True)
class Trusted:
    """What the room authority has signed, verified. `roster_raw` is the roster as it goes on the wire."""

    roster: Roster
    roster_raw: bytes
    policy: DeploymentPolicy


def load_trusted(trust: Trust, room: str, clock: Clock) -> Trusted:
    """Read and verify roster and policy. Raises ConfigError naming the file.

    This box must have the roster's sealing suite. The policy must be the one that the roster names, and in force when
    this box's clock can be believed.
    """
    authority = load_verifying_key(trust.room_authority_key).public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        roster_raw = read(trust.roster, limit=ROSTER_BYTES)
        policy_raw = read(trust.policy, limit=POLICY_BYTES)
    except StorageError as error:
        raise ConfigError(error.what, next_step=PROVISION_AGAIN) from error
    try:
        roster = read_roster(roster_raw, authority_key=authority, room=room)
    except RemoteMessageError as error:
        newer = error.verdict is Verdict.UNKNOWN_VERSION
        next_step = error.next_step if newer else PROVISION_AGAIN
        raise ConfigError(f"{trust.roster}: {error.what}", next_step=next_step) from error
    Sealer(roster.gateway.opening_key, roster.suite)
    try:
        policy = read_policy(policy_raw, authority_key=authority, room=room)
    except RemoteMessageError as error:
        raise ConfigError(f"{trust.policy}: {error.what}", next_step=PROVISION_AGAIN) from error
    if hashlib.sha256(policy_raw).digest() != roster.policy:
        raise ConfigError(f"{trust.policy}: is not the policy that the roster names.", next_step=PROVISION_AGAIN)
    if clock.time_source() is not TimeSource.UNSET:
        check_in_force(policy, clock.wall_ms())
    return Trusted(roster, roster_raw, policy)


def load_signer(trust: Trust, name: str, rostered_key: bytes | None) -> KeySigner:
    """The signing key of this box. Raises ConfigError when its file is unsafe or is not the key on the roster.

    `rostered_key` is None when the roster does not list the box at all.
    """
    if rostered_key is None:
        raise ConfigError(f"{trust.roster}: does not list {name}.", next_step=PROVISION_AGAIN)
    key = load_signing_key(trust.key)
    if key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) != rostered_key:
        raise ConfigError(f"{trust.key}: is not the key of {name} on the roster.", next_step=PROVISION_AGAIN)
    return KeySigner(name, key)
