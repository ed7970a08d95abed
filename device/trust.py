"""Whom a box believes: the room authority's signed roster and deployment policy, read from its own disk.

Anything wrong here stops the box before it opens a microphone or a socket; nothing falls back to a default. A running
box learns a newer roster from the room's trust bundle (`TrustStore`).

What several files say together changes at one moment: policy and authority key are laid beside the standing ones first
(`STAGED_SUFFIX`), then the roster is replaced, and with it they count. They take their places afterwards, or at the
next start if the power went: whoever loads takes a staged file when the roster asks for it, and only then. Another
program may load in the midst of a change; so a staged file is read before the standing one, whose place it may take.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.clock import Clock, TimeSource
from device.config import Trust
from device.errors import ConfigError, RemoteMessageError, StorageError, Verdict
from device.messages.envelope import KeySigner
from device.messages.policy import POLICY_BYTES, DeploymentPolicy, check_in_force, read_policy
from device.messages.roster import ROSTER_BYTES, Roster, read_roster
from device.messages.sealing import Sealer
from device.messages.trust_bundle import decode_bundle, verify_bundle
from device.system.keys import load_signing_key, load_verifying_key
from device.system.storage import DISK, Disk, read, write_durably

LOG: Final = logging.getLogger(__name__)

PROVISION_AGAIN = "Copy the room authority's current file here, or provision this box again (moodline-provision)."
STAGED_SUFFIX: Final = ".next"
#: Nothing in these files is secret.
WORLD_READABLE: Final = 0o644
#: So many times a load begins again because the roster changed meanwhile.
LOADS: Final = 3


@dataclass(frozen=True)
class Trusted:
    """What the room authority has signed, verified, with its raw public key (32 bytes). `roster_raw` and `policy_raw`
    are the bytes as they go on the wire."""

    roster: Roster
    roster_raw: bytes
    policy: DeploymentPolicy
    policy_raw: bytes
    authority_key: bytes


def load_trusted(trust: Trust, room: str, clock: Clock, disk: Disk = DISK) -> Trusted:
    """Read and verify roster and policy. Raises ConfigError naming the file.

    This box must have the roster's sealing suite. The policy must be the one that the roster names, and in force when
    this box's clock can be believed. What a power cut left of a change is finished.
    """
    roster_raw = _read(trust.roster, ROSTER_BYTES)
    for _ in range(LOADS):
        try:
            return _load_under(roster_raw, trust, room, clock, disk)
        except ConfigError:
            before, roster_raw = roster_raw, _read(trust.roster, ROSTER_BYTES)
            if before == roster_raw:
                raise
    return _load_under(roster_raw, trust, room, clock, disk)


def _load_under(roster_raw: bytes, trust: Trust, room: str, clock: Clock, disk: Disk) -> Trusted:
    authority, moved_key = _authority_of(trust, roster_raw, room)
    try:
        roster = read_roster(roster_raw, authority_key=authority, room=room)
    except RemoteMessageError as error:
        newer = error.verdict is Verdict.UNKNOWN_VERSION
        next_step = error.next_step if newer else PROVISION_AGAIN
        raise ConfigError(f"{trust.roster}: {error.what}", next_step=next_step) from error
    Sealer(roster.gateway.opening_key, roster.suite)
    staged_policy = _staged_content(trust.policy, POLICY_BYTES)
    policy_raw = _read(trust.policy, POLICY_BYTES)
    moved_policy = hashlib.sha256(policy_raw).digest() != roster.policy == hashlib.sha256(staged_policy).digest()
    if moved_policy:
        policy_raw = staged_policy
    try:
        policy = read_policy(policy_raw, authority_key=authority, room=room)
    except RemoteMessageError as error:
        raise ConfigError(f"{trust.policy}: {error.what}", next_step=PROVISION_AGAIN) from error
    if hashlib.sha256(policy_raw).digest() != roster.policy:
        raise ConfigError(f"{trust.policy}: is not the policy that the roster names.", next_step=PROVISION_AGAIN)
    if clock.time_source() is not TimeSource.UNSET:
        check_in_force(policy, clock.wall_ms())
    for path, moved in ((trust.policy, moved_policy), (trust.room_authority_key, moved_key)):
        if moved:
            _promote(path, disk)
    return Trusted(roster, roster_raw, policy, policy_raw, authority)


def _authority_of(trust: Trust, roster_raw: bytes, room: str) -> tuple[bytes, bool]:
    """The authority's key, and whether it is the staged one: when the roster is by that and not by the standing one."""
    following: bytes | None = None
    if staged(trust.room_authority_key).exists():
        with suppress(ConfigError):
            following = load_verifying_key(staged(trust.room_authority_key)).public_bytes_raw()
    standing = load_verifying_key(trust.room_authority_key).public_bytes_raw()
    if following is None or _is_by(roster_raw, standing, room) or not _is_by(roster_raw, following, room):
        return standing, False
    return following, True


def _is_by(roster_raw: bytes, authority_key: bytes, room: str) -> bool:
    try:
        read_roster(roster_raw, authority_key=authority_key, room=room)
    except RemoteMessageError:
        return False
    return True


def staged(path: Path) -> Path:
    """Where a file waits for the roster that makes it count."""
    return path.with_name(path.name + STAGED_SUFFIX)


def _read(path: Path, limit: int) -> bytes:
    try:
        return read(path, limit=limit)
    except StorageError as error:
        raise ConfigError(error.what, next_step=PROVISION_AGAIN) from error


def _staged_content(path: Path, limit: int) -> bytes:
    """Empty when there is none that can be read."""
    try:
        return read(staged(path), limit=limit) if staged(path).exists() else b""
    except StorageError:
        return b""


def _promote(path: Path, disk: Disk) -> None:
    """Give a staged file its place. It counts already, so a disk that refuses is only told."""
    try:
        with suppress(FileNotFoundError):  # another program was quicker
            disk.rename(staged(path), path)
        disk.fsync_folder(path.parent)
    except OSError as error:
        LOG.warning("%s: counts, but cannot take its place (%s). It is tried at the next start.", staged(path), error)


@dataclass(frozen=True)
class TrustChange:
    """A newer roster was taken: from which epoch, and what counts now."""

    from_epoch: int
    trusted: Trusted


class TrustStore:
    """Takes newer rosters from trust bundles, under what this box believes already, and keeps them durably."""

    def __init__(self, trust: Trust, room: str, trusted: Trusted, clock: Clock, *, disk: Disk = DISK) -> None:
        self._trust = trust
        self._room = room
        self._trusted = trusted
        self._clock = clock
        self._disk = disk
        self._judged = b""

    def offer(self, bundle_raw: bytes) -> TrustChange | None:
        """Verify a bundle and keep it when it is newer; None when it says nothing new, or was judged just before.

        Raises RemoteMessageError when it is not by the room authority (or by one that does not follow ours) or is of an
        older epoch, and ConfigError when this program cannot serve under it (law, sealing suite, time): the roster that
        stood stands. Raises StorageError when the disk refuses: after a restart the old roster stands or the new one,
        whole. What was refused by a ConfigError or StorageError is judged again when it is offered again.
        """
        name = hashlib.sha256(bundle_raw).digest()
        if name == self._judged:
            return None
        self._judged = name
        try:
            return self._take(bundle_raw)
        except (ConfigError, StorageError):
            self._judged = b""
            raise

    def _take(self, bundle_raw: bytes) -> TrustChange | None:
        bundle = decode_bundle(bundle_raw)
        verified = verify_bundle(bundle, self._trusted.authority_key, self._room)
        ours, theirs = self._trusted.roster.epoch, verified.roster.epoch
        if theirs == ours:
            return None
        if theirs < ours:
            raise RemoteMessageError(
                Verdict.STALE_EPOCH, f"A trust bundle of epoch {theirs}; the roster here has {ours} already."
            )
        Sealer(verified.roster.gateway.opening_key, verified.roster.suite)
        if self._clock.time_source() is not TimeSource.UNSET:
            check_in_force(verified.policy, self._clock.wall_ms())
        newer = Trusted(verified.roster, bundle.roster, verified.policy, bundle.policy, verified.authority_key)
        self._keep(newer)
        self._trusted = newer
        return TrustChange(ours, newer)

    def _keep(self, newer: Trusted) -> None:
        moved: list[Path] = []
        if newer.policy_raw != self._trusted.policy_raw:
            self._write(staged(self._trust.policy), newer.policy_raw)
            moved.append(self._trust.policy)
        if newer.authority_key != self._trusted.authority_key:
            key = Ed25519PublicKey.from_public_bytes(newer.authority_key)
            pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            self._write(staged(self._trust.room_authority_key), pem)
            moved.append(self._trust.room_authority_key)
        self._write(self._trust.roster, newer.roster_raw)
        for path in moved:
            _promote(path, self._disk)

    def _write(self, path: Path, content: bytes) -> None:
        write_durably(path, content, mode=WORLD_READABLE, disk=self._disk)


def line_in(roster: Roster, unit: str, key: bytes) -> str | None:
    """The line on which a unit may speak with that key (32 bytes); None when the roster does not let it."""
    row = next((row for units in roster.lines.values() for row in units if row.unit == unit), None)
    if row is None or row.key != key or unit in roster.revoked:
        return None
    return roster.line_of(unit)


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
