"""The outbox: nothing leaves but by acknowledgement or, counted, by overflow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from device.messages.grant import Accepted
from device.messages.link import Entry
from device.publish.outbox import BoundedOutbox


def filled(*numbers: tuple[int, int], capacity: int = 100) -> BoundedOutbox:
    """An outbox with some entries."""
    outbox = BoundedOutbox(capacity)
    for session, sequence in numbers:
        outbox.push(Entry(session, sequence, b"sealed"))
    return outbox


def numbers(outbox: BoundedOutbox) -> list[tuple[int, int]]:
    """What is kept."""
    return [(entry.session, entry.sequence) for entry in outbox.pending(len(outbox))]


def test_sending_is_not_leaving() -> None:
    outbox = filled((1, 1), (1, 2), (1, 3))
    assert [entry.sequence for entry in outbox.pending(2)] == [1, 2]
    assert len(outbox) == 3


def test_an_acknowledgement_covers_everything_up_to_it() -> None:
    outbox = filled((1, 1), (1, 2), (1, 3))
    assert outbox.acknowledge(Accepted(1, 1, 2)) == 2
    assert numbers(outbox) == [(1, 3)]
    assert outbox.acknowledge(Accepted(1, 1, 2)) == 0


def test_a_new_session_does_not_cover_the_backlog_of_the_one_before() -> None:
    outbox = filled((1, 8), (1, 9), (2, 1))
    assert outbox.acknowledge(Accepted(session=2, entry_session=1, sequence=8)) == 1
    assert numbers(outbox) == [(1, 9), (2, 1)]


def test_an_overflow_drops_the_oldest_and_counts_it() -> None:
    outbox = filled((1, 1), (1, 2), capacity=2)
    assert outbox.push(Entry(1, 3, b"sealed")) == 1
    assert numbers(outbox) == [(1, 2), (1, 3)]
    assert outbox.dropped == 1


@given(st.lists(st.integers(min_value=0, max_value=30), max_size=30), st.integers(min_value=1, max_value=10))
def test_what_is_kept_is_always_the_newest_unacknowledged(acknowledged: list[int], capacity: int) -> None:
    outbox = BoundedOutbox(capacity)
    highest = 0
    for sequence, accepted in enumerate(acknowledged, start=1):
        outbox.push(Entry(1, sequence, b""))
        outbox.acknowledge(Accepted(1, 1, min(accepted, sequence)))
        highest = max(highest, min(accepted, sequence))
        kept = [number for _, number in numbers(outbox)]
        assert kept == list(range(max(highest, sequence - capacity) + 1, sequence + 1))
