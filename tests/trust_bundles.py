"""Trust bundles of a demo room's authority as it goes on: members put out, other policies, other keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.messages.envelope import KeySigner
from device.messages.policy import DeploymentPolicy, read_policy, sign_policy
from device.messages.roster import Roster, RosteredUnit, read_roster, sign_roster
from device.messages.succession import Succession, sign_succession
from device.messages.trust_bundle import TrustBundle, encode_bundle
from device.system.keys import load_signing_key
from provisioning.authority import AUTHORITY_KEY, KEY_ID, POLICY_FILE, ROSTER_FILE, RoomAuthority


@dataclass(frozen=True)
class Signed:
    """What an authority says, with its key and the successions that led to it."""

    signer: KeySigner
    roster: Roster
    policy: DeploymentPolicy
    successions: tuple[bytes, ...] = ()

    @property
    def policy_raw(self) -> bytes:
        return sign_policy(self.policy, self.signer)

    @property
    def roster_raw(self) -> bytes:
        return sign_roster(replace(self.roster, policy=hashlib.sha256(self.policy_raw).digest()), self.signer)

    @property
    def bundle(self) -> bytes:
        return encode_bundle(TrustBundle(self.successions, self.roster_raw, self.policy_raw))

    def next_epoch(self, policy: DeploymentPolicy | None = None) -> Signed:
        """The same members one epoch later, perhaps under another policy."""
        return replace(self, roster=replace(self.roster, epoch=self.roster.epoch + 1), policy=policy or self.policy)

    def without(self, unit: str) -> Signed:
        """One epoch later that unit is revoked."""
        later = self.next_epoch()
        return replace(later, roster=replace(later.roster, revoked=later.roster.revoked | {unit}))

    def moved(self, unit: str, line: str) -> Signed:
        """One epoch later that unit stands on another line."""
        later = self.next_epoch()
        lines: dict[str, tuple[RosteredUnit, ...]] = dict(later.roster.lines)
        here = later.roster.line_of(unit)
        assert here is not None
        (row,) = (each for each in lines[here] if each.unit == unit)
        lines[here] = tuple(each for each in lines[here] if each.unit != unit)
        lines[line] = (*lines.get(line, ()), row)
        return replace(later, roster=replace(later.roster, lines=lines))

    def succeeded(self) -> Signed:
        """One epoch later another key of the authority signs, and this one says so."""
        later = self.next_epoch()
        new = KeySigner(KEY_ID, Ed25519PrivateKey.generate())
        follows = Succession(self.roster.room, self.signer.public_key, new.public_key, later.roster.epoch)
        return replace(later, signer=new, successions=(*self.successions, sign_succession(follows, self.signer, new)))

    def write(self, folder: Path) -> None:
        """Lay roster and policy into a box's folder, as an operator would."""
        (folder / ROSTER_FILE).write_bytes(self.roster_raw)
        (folder / POLICY_FILE).write_bytes(self.policy_raw)


def signed_by(authority: Path) -> Signed:
    """What the authority in that folder says now; its keys must not be encrypted."""
    signer = KeySigner(KEY_ID, load_signing_key(authority / AUTHORITY_KEY))
    policy_raw = (authority / POLICY_FILE).read_bytes()
    roster_raw = (authority / ROSTER_FILE).read_bytes()
    room = RoomAuthority.open(authority).room
    return Signed(
        signer,
        read_roster(roster_raw, authority_key=signer.public_key, room=room),
        read_policy(policy_raw, authority_key=signer.public_key, room=room),
    )
