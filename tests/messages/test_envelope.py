"""Signed objects: what is signed is what was received. A second implementation: test_second_implementation.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import RemoteMessageError, Verdict
from device.messages.envelope import (
    ContentType,
    check_signature,
    digest,
    external_aad,
    is_identifier,
    open_envelope,
    seal_envelope,
)
from tools.vectors import room

SIGNER = room.signer("desk-1")


def sealed(content_type: ContentType = ContentType.LINK) -> bytes:
    """A small signed object."""
    return seal_envelope(content_type, {1: "lab", 2: b"x"}, SIGNER, room=room.ROOM, line=room.LINE)


def test_signing_is_deterministic_and_the_digest_covers_the_signature() -> None:
    assert sealed() == sealed()
    envelope = open_envelope(sealed(), wanted=ContentType.LINK)
    assert envelope.digest == digest(sealed())
    assert digest(sealed()[:-1] + bytes([sealed()[-1] ^ 1])) != envelope.digest


@pytest.mark.parametrize(("where", "line"), [("gym", room.LINE), (room.ROOM, room.OTHER_LINE), (room.ROOM, "")])
def test_a_signature_says_nothing_elsewhere(where: str, line: str) -> None:
    envelope = open_envelope(sealed(), wanted=ContentType.LINK)
    with pytest.raises(RemoteMessageError) as refused:
        check_signature(envelope, SIGNER.public_key, room=where, line=line)
    assert refused.value.verdict is Verdict.BAD_SIGNATURE
    assert refused.value.peer == "desk-1"


def test_room_and_line_cannot_be_shifted_into_each_other() -> None:
    assert external_aad("ab", "c") != external_aad("a", "bc")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_object_is_refused_and_brings_only_remote_message_errors(data: st.DataObject) -> None:
    raw = bytearray(sealed())
    at = data.draw(st.integers(min_value=0, max_value=len(raw) - 1))
    raw[at] ^= data.draw(st.integers(min_value=1, max_value=255))
    with pytest.raises(RemoteMessageError):
        check_signature(
            open_envelope(bytes(raw), wanted=ContentType.LINK), SIGNER.public_key, room=room.ROOM, line=room.LINE
        )


def test_one_kind_is_not_taken_for_another() -> None:
    with pytest.raises(RemoteMessageError) as refused:
        open_envelope(sealed(ContentType.GRANT), wanted=ContentType.LINK)
    assert refused.value.verdict is Verdict.WRONG_KIND


@pytest.mark.parametrize("name", ["", "Desk", "desk 1", "desk/1", "+", "#", "-a", "a" * 33, "désk"])
def test_names_that_would_break_a_topic(name: str) -> None:
    assert not is_identifier(name)
