"""A hostile message for the demonstration and the tests: what somebody on the room's network could try."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.messages.envelope import ContentType, KeySigner, open_envelope
from device.messages.link import decode_link, sign_link


def forge_link(captured: bytes) -> bytes:
    """A link for the round after a captured one, in the name of its unit, signed with the forger's own key.

    It is refused with BAD_SIGNATURE. Raises RemoteMessageError when `captured` is no link.
    """
    link = decode_link(open_envelope(captured, wanted=ContentType.LINK))
    stranger = KeySigner(link.unit, Ed25519PrivateKey.generate())
    return sign_link(replace(link, round=link.round + 1), stranger)
