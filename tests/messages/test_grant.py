"""Grants: they come back as they were, and an acknowledgement covers exactly what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import RemoteMessageError
from device.messages.envelope import ContentType, open_envelope
from device.messages.grant import NOTHING_ACCEPTED, Accepted, Grant, decode_grant, sign_grant
from tools.vectors import room
from tools.vectors.cases import grant_7

NUMBERS = st.integers(min_value=0, max_value=2**63 - 1)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)


def came_back(grant: Grant) -> Grant:
    """Signed, sent, decoded."""
    return decode_grant(open_envelope(sign_grant(grant, room.signer(room.GATEWAY)), wanted=ContentType.GRANT))


@given(NUMBERS, NUMBERS, st.lists(NAMES, unique=True, max_size=5), st.dictionaries(NAMES, st.tuples(NUMBERS, NUMBERS)))
def test_a_grant_comes_back(number: int, time_ms: int, order: list[str], accepted: dict[str, tuple[int, int]]) -> None:
    grant = replace(
        grant_7(),
        round=number,
        gateway_ms=time_ms,
        order=tuple(order),
        accepted={unit: Accepted(session, session, sequence) for unit, (session, sequence) in accepted.items()},
    )
    assert came_back(grant) == grant


@pytest.mark.parametrize(
    "changes", [{"prev": bytes(31)}, {"round": 2**63}, {"order": ("desk/1",)}, {"order": ("a", "a")}], ids=str
)
def test_values_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(RemoteMessageError):
        came_back(replace(grant_7(), **changes))  # type: ignore[arg-type]


def test_what_an_acknowledgement_covers() -> None:
    accepted = Accepted(session=6, entry_session=5, sequence=20)
    assert accepted.covers(5, 20)
    assert accepted.covers(4, 999)
    assert not accepted.covers(5, 21)
    assert not accepted.covers(6, 1)
    assert not NOTHING_ACCEPTED.covers(1, 1)
