"""Sealed labels open at their own place only, and look alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.clock import TimeSource
from device.errors import RemoteMessageError, Verdict
from device.messages.label import Label, LabelState
from device.messages.roster import SealingSuite
from device.messages.sealing import SUITES, Opener, Place, Sealer, sealed_bytes
from models.labels import ABSTAIN_REASONS, EMOTIONS
from tools.vectors import room

SUITE = SealingSuite.X25519_SHA256_CHACHA20POLY1305
PLACE = Place("lab", "row-1", "desk-1", 3, 11)
SEALER = Sealer(room.opener().public_key, SUITE)
BLANK = Label(window_end_ms=0, time_source=TimeSource.UNSET, state=LabelState.MUTED)


def test_every_label_abstention_and_mute_has_the_same_sealed_size() -> None:
    every = [
        *(replace(BLANK, state=LabelState.GIVEN, emotion=emotion, bundle="x" * 16) for emotion in EMOTIONS),
        *(replace(BLANK, state=LabelState.ABSTAINED, abstain_reason=reason) for reason in ABSTAIN_REASONS),
        replace(BLANK, state=LabelState.OPTED_OUT),
        BLANK,
    ]
    assert {len(SEALER.seal(label, PLACE)) for label in every} == {sealed_bytes(SUITE)}


def test_equal_labels_are_sealed_differently() -> None:
    assert len({SEALER.seal(BLANK, PLACE) for _ in range(20)}) == 20


def test_the_gateway_opens() -> None:
    assert room.opener().open(SEALER.seal(BLANK, PLACE), PLACE) == BLANK


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, room="gym"),
        replace(PLACE, line="row-2"),
        replace(PLACE, unit="desk-2"),
        replace(PLACE, session=4),
        replace(PLACE, sequence=12),
    ],
    ids=["room", "line", "unit", "session", "sequence"],
)
def test_a_moved_entry_does_not_open(elsewhere: Place) -> None:
    with pytest.raises(RemoteMessageError) as refused:
        room.opener().open(SEALER.seal(BLANK, PLACE), elsewhere)
    assert refused.value.verdict is Verdict.NOT_OPENABLE


def test_another_key_opens_nothing() -> None:
    with pytest.raises(RemoteMessageError) as refused:
        Opener(X25519PrivateKey.generate()).open(SEALER.seal(BLANK, PLACE), PLACE)
    assert refused.value.verdict is Verdict.NOT_OPENABLE


@pytest.mark.parametrize("sealed", [b"", b"\x00" * 31, b"\x00" * 112, b"\xff" * 5_000])
def test_garbage_does_not_open(sealed: bytes) -> None:
    with pytest.raises(RemoteMessageError) as refused:
        room.opener().open(sealed, PLACE)
    assert refused.value.verdict is Verdict.NOT_OPENABLE


def test_a_sealed_thing_that_is_no_label() -> None:
    sealed = SUITES[SUITE].encrypt(b"\x01\x00".ljust(64, b"\x00"), room.opening_key().public_key(), PLACE.info)
    with pytest.raises(RemoteMessageError) as refused:
        room.opener().open(sealed, PLACE)
    assert refused.value.verdict is Verdict.BAD_LABEL
