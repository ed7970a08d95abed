"""Links: they come back as they were; what a unit may not say, it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import RemoteMessageError
from device.messages.envelope import ContentType, open_envelope
from device.messages.link import Entry, Link, LinkFlag, decode_link, sign_link
from tools.vectors import room

NUMBERS = st.integers(min_value=1, max_value=2**63 - 1)
PLAIN = Link(room.ROOM, room.LINE, 1, 7, "desk-2", 5, (Entry(5, 21, b"sealed"),), bytes(32))


def came_back(link: Link) -> Link:
    """Signed, sent, decoded."""
    return decode_link(open_envelope(sign_link(link, room.signer("desk-2")), wanted=ContentType.LINK))


@given(NUMBERS, NUMBERS, st.lists(st.builds(Entry, NUMBERS, NUMBERS, st.binary(max_size=200)), max_size=4))
def test_a_link_comes_back(number: int, session: int, entries: list[Entry]) -> None:
    link = replace(PLAIN, round=number, session=session, entries=tuple(entries), flags=LinkFlag.MORE_BACKLOG)
    assert came_back(link) == link


@pytest.mark.parametrize(
    "changes",
    [
        {"prev": bytes(33)},
        {"session": -1},
        {"flags": 4},
        {"entries": (Entry(0, 1, b""),)},
        {"entries": (Entry(1, 0, b""),)},
        {"entries": (Entry(1, 2**63, b""),)},
    ],
    ids=["prev", "session", "flag", "entry session", "entry number", "entry number too large"],
)
def test_values_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(RemoteMessageError):
        came_back(replace(PLAIN, **changes))  # type: ignore[arg-type]


def test_a_link_says_nothing_of_muting() -> None:
    assert [flag.name for flag in LinkFlag] == ["MORE_BACKLOG", "SESSION_KNOWN"]
