"""The label: a closed list of fields, and one size whatever it says."""

from __future__ import annotations

from dataclasses import fields, replace
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.clock import TimeSource
from device.errors import RemoteMessageError, Verdict
from device.messages import cbor
from device.messages.label import LABEL_BYTES, LEVELS, Label, LabelState, SenseState, decode_label, encode_label
from models.labels import ABSTAIN_REASONS, EMOTIONS, AbstainReason, Emotion

PERMILLE = st.integers(min_value=0, max_value=1_000)


NOTHING_SENSED = [SenseState.OFF, SenseState.FAILED, SenseState.WARMING_UP]


@st.composite
def presence_labels(draw: st.DrawFn) -> Label:
    """Any label of a box that infers no emotion."""
    speech = draw(st.sampled_from([SenseState.PRESENT, *NOTHING_SENSED]))
    return Label(
        window_end_ms=draw(st.integers(min_value=0, max_value=2**48 - 1)),
        time_source=draw(st.sampled_from(TimeSource)),
        state=LabelState.PRESENCE,
        speech=speech,
        face=draw(st.sampled_from([SenseState.PRESENT, SenseState.NO_FACE, *NOTHING_SENSED])),
        level=draw(st.integers(0, LEVELS - 1)) if speech is SenseState.PRESENT else 0,
    )


@st.composite
def labels(draw: st.DrawFn) -> Label:
    """Any label that the format allows."""
    state = draw(st.sampled_from(LabelState))
    if state is LabelState.PRESENCE:
        return draw(presence_labels())
    return Label(
        window_end_ms=draw(st.integers(min_value=0, max_value=2**48 - 1)),
        time_source=draw(st.sampled_from(TimeSource)),
        state=state,
        emotion=draw(st.sampled_from(EMOTIONS)) if state is LabelState.GIVEN else None,
        abstain_reason=draw(st.sampled_from(ABSTAIN_REASONS)) if state is LabelState.ABSTAINED else None,
        confidence=draw(PERMILLE),
        share_speech=draw(PERMILLE),
        share_face=draw(PERMILLE),
        speech=draw(st.sampled_from(SenseState)),
        face=draw(st.sampled_from(SenseState)),
        bundle=draw(st.text(st.characters(codec="ascii"), max_size=16)),
    )


PLAIN = Label(window_end_ms=1_800_000_000_000, time_source=TimeSource.NTP, state=LabelState.GIVEN, emotion=Emotion.FEAR)


@given(labels())
def test_every_label_comes_back_and_has_the_same_size(label: Label) -> None:
    plaintext = encode_label(label)
    assert len(plaintext) == LABEL_BYTES
    assert decode_label(plaintext) == label


@given(st.binary(max_size=2 * LABEL_BYTES) | st.binary(min_size=LABEL_BYTES, max_size=LABEL_BYTES))
def test_random_plaintext_is_a_bad_label_and_nothing_worse(plaintext: bytes) -> None:
    with pytest.raises(RemoteMessageError) as refused:
        decode_label(plaintext)
    assert refused.value.verdict is Verdict.BAD_LABEL


def _packed(body: object) -> bytes:
    encoded = cbor.encode(body)
    return bytes([len(encoded)]) + encoded + bytes(LABEL_BYTES - 1 - len(encoded))


@pytest.mark.parametrize(
    "changes",
    [{1: 2}, {4: 9}, {5: 99}, {6: 1_001}, {9: 8}, {11: 1}, {3: 3}, {12: "x" * 17}, {13: b"sound"}],
    ids=["schema", "state", "emotion", "confidence", "sense", "reason", "time source", "bundle", "field added"],
)
def test_fields_out_of_range(changes: dict[int, object]) -> None:
    plaintext = encode_label(PLAIN)
    body = cbor.decode(plaintext[1 : 1 + plaintext[0]])
    assert isinstance(body, dict)
    with pytest.raises(RemoteMessageError) as refused:
        decode_label(_packed({**body, **changes}))
    assert refused.value.verdict is Verdict.BAD_LABEL


def test_padding_carries_nothing() -> None:
    smuggled = encode_label(PLAIN)[:-1] + b"\x01"
    with pytest.raises(RemoteMessageError):
        decode_label(smuggled)


def test_a_muted_label_that_names_an_emotion_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="emotion"):
        replace(PLAIN, state=LabelState.MUTED)
    with pytest.raises(ValueError, match="reason"):
        replace(PLAIN, abstain_reason=AbstainReason.SILENCE)


PRESENCE = Label(
    window_end_ms=1_800_000_000_000,
    time_source=TimeSource.NTP,
    state=LabelState.PRESENCE,
    speech=SenseState.PRESENT,
    face=SenseState.NO_FACE,
    level=9,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"emotion": Emotion.FEAR},
        {"abstain_reason": AbstainReason.SILENCE},
        {"confidence": 1},
        {"share_face": 1},
        {"bundle": "2026.1"},
        {"face": SenseState.SEVERAL_FACES},
        {"face": SenseState.LOW_QUALITY},
        {"speech": SenseState.SILENT},
        {"speech": SenseState.OFF},
        {"level": 16},
        {"level": -1},
        {"state": LabelState.MUTED},
    ],
)
def test_a_presence_label_says_nothing_but_a_face_and_a_level(changes: dict[str, object]) -> None:
    assert decode_label(encode_label(PRESENCE)) == PRESENCE
    with pytest.raises(ValueError):
        replace(PRESENCE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{5: 3}, {6: 16}, {7: 1}, {8: 1}, {9: 4}, {10: 6}, {10: 7}, {11: 1}, {12: "2026.1"}, {9: 1}]
)
def test_a_presence_label_that_says_more_is_a_bad_label(changes: dict[int, object]) -> None:
    plaintext = encode_label(PRESENCE)
    body = cbor.decode(plaintext[1 : 1 + plaintext[0]])
    assert isinstance(body, dict)
    with pytest.raises(RemoteMessageError) as refused:
        decode_label(_packed({**body, **changes}))
    assert refused.value.verdict is Verdict.BAD_LABEL


def test_no_field_can_hold_sound_pictures_or_embeddings() -> None:
    kinds = {type(getattr(PLAIN, field.name)) for field in fields(PLAIN)}
    assert all(issubclass(kind, (int, str, Enum, type(None))) for kind in kinds)
