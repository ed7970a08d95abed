"""What a box says to a registrar, made by hand, so that a test may say it wrongly."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.messages.envelope import KeySigner
from provisioning.enrolment_messages import EnrolmentRequest, RenewalRequest, commitment, sign_request


@dataclass
class FakeBox:
    """One box with its key; `registrar` is the digest of the key that it sees."""

    registrar: bytes
    signer: KeySigner = field(default_factory=lambda: KeySigner("box", Ed25519PrivateKey.generate()))
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    @property
    def key(self) -> bytes:
        """The raw public key."""
        return self.signer.private_key.public_key().public_bytes_raw()

    @property
    def commitment(self) -> bytes:
        """What it announces in the claim window."""
        return commitment(self.key, self.nonce)

    def request(self, token: str | None = None, *, room: str = "r2") -> EnrolmentRequest:
        """A signed request."""
        bare = EnrolmentRequest(
            key=self.key,
            serial="100000001",
            model="a test's box",
            nonce=self.nonce,
            registrar=self.registrar,
            room=room,
            token=token,
        )
        return sign_request(bare, self.signer)

    def renewal(self, unit: str, challenge: bytes, *, new: KeySigner | None = None) -> RenewalRequest:
        """A signed renewal, for the new key when there is one."""
        bare = RenewalRequest(
            unit=unit,
            key=self.key,
            challenge=challenge,
            registrar=self.registrar,
            new_key=new.private_key.public_key().public_bytes_raw() if new is not None else None,
        )
        if new is None:
            return sign_request(bare, self.signer)
        possession = sign_request(bare, new).signature
        return msgspec.structs.replace(sign_request(bare, self.signer), possession=possession)
