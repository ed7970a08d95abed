"""Only the spoken part of CBOR gets through, and only in its one proper form."""

from __future__ import annotations

from enum import IntEnum

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import RemoteMessageError, Verdict
from device.messages import cbor

SCALARS = st.one_of(st.integers(min_value=-(2**63), max_value=2**64 - 1), st.binary(max_size=40), st.text(max_size=40))
ITEMS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.integers(min_value=0, max_value=2**40), inner, max_size=4),
        st.dictionaries(st.text(max_size=30), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(ITEMS)
def test_spoken_items_come_back(item: object) -> None:
    encoded = cbor.encode(item)
    try:
        assert cbor.decode(encoded) == item
    except RemoteMessageError as error:
        assert "deeper" in error.what


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_bring_only_remote_message_errors(raw: bytes) -> None:
    try:
        item = cbor.decode(raw)
    except RemoteMessageError as error:
        assert error.verdict in (Verdict.NOT_DECODABLE, Verdict.NOT_DETERMINISTIC)
    else:
        assert cbor.encode(item) == raw


@pytest.mark.parametrize(
    "item",
    [1.5, True, None, cbor2.CBORTag(0, "2026-01-01T00:00:00Z"), cbor2.CBORTag(35, "a+"), cbor2.undefined, 2**64],
    ids=["float", "true", "null", "date", "regular expression", "undefined", "big number"],
)
def test_items_that_are_not_spoken_never_reach_the_decoder(item: object) -> None:
    with pytest.raises(RemoteMessageError) as refused:
        cbor.decode(cbor2.dumps([item]))
    assert refused.value.verdict is Verdict.NOT_DECODABLE


@pytest.mark.parametrize("depth", [cbor.MAX_DEPTH + 1, 10_000, 1_000_000])
def test_deep_nesting(depth: int) -> None:
    with pytest.raises(RemoteMessageError) as refused:
        cbor.decode(b"\x81" * depth + b"\x00")
    assert "deeper" in refused.value.what


def test_the_deepest_allowed_nesting_passes() -> None:
    assert cbor.decode(b"\x81" * cbor.MAX_DEPTH + b"\x00") == [[[[[[0]]]]]]


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [
        (b"\x18\x05", Verdict.NOT_DETERMINISTIC),
        (b"\x58\x01a", Verdict.NOT_DETERMINISTIC),
        (b"\xa2\x02\x00\x01\x00", Verdict.NOT_DETERMINISTIC),
        (b"\xa2\x01\x00\x01\x00", Verdict.NOT_DECODABLE),
        (b"\x9f\x00\xff", Verdict.NOT_DECODABLE),
        (b"\x61\xff", Verdict.NOT_DECODABLE),
        (b"\x9b" + b"\xff" * 8, Verdict.NOT_DECODABLE),
    ],
    ids=["long integer", "long length", "unsorted", "duplicate", "indefinite", "bad text", "endless array"],
)
def test_improper_encodings(raw: bytes, verdict: Verdict) -> None:
    with pytest.raises(RemoteMessageError) as refused:
        cbor.decode(raw)
    assert refused.value.verdict is verdict


class _Key(IntEnum):
    ONE = 1
    TWO = 2


@pytest.mark.parametrize("item", [{1: 0}, {1: 0, 2: 0, 3: 0}, [1, 2], {"1": 0, "2": 0}, 5])
def test_a_key_list_is_closed(item: object) -> None:
    with pytest.raises(RemoteMessageError):
        cbor.Fields(item, keys=_Key)


def test_fields_are_read_by_type() -> None:
    fields = cbor.Fields({1: b"xy", 2: {"a": [1], "b": [2]}}, keys=_Key)
    assert fields.octets(_Key.ONE, 2) == b"xy"
    assert fields.table(_Key.TWO) == {"a": [1], "b": [2]}
    for wrong in (
        lambda: fields.unsigned(_Key.ONE),
        lambda: fields.text(_Key.ONE),
        lambda: fields.octets(_Key.ONE, 3),
        lambda: fields.array(_Key.ONE),
        lambda: fields.texts(_Key.TWO),
        lambda: fields.table(_Key.ONE),
    ):
        with pytest.raises(RemoteMessageError):
            wrong()
