"""The outbox: nothing leaves but by acknowledgement or, counted, by overflow; and what of it is due for the disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.messages.grant import Accepted
from device.messages.link import Entry
from device.publish.outbox import RECORDS_PER_PLACE, Append, BoundedOutbox, Replace, SpillingOutbox


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


PERIOD_S = 0.5
SPILL_AFTER_S = 5.0


class Simulation:
    """Labels at two a second into an outbox, and a disk that keeps what it is told to."""

    def __init__(self, *, capacity: int = 100, session: int = 1, restored: tuple[Entry, ...] = ()) -> None:
        self.outbox = SpillingOutbox(capacity, spill_after_s=SPILL_AFTER_S, restored=restored)
        self.session = session
        self.now = 0.0
        self.made = 0
        self.disk = list(restored)
        self.writes: list[tuple[float, str]] = []
        self.refuses = False

    def run(self, seconds: float, *, covered_after_s: float | None = None) -> None:
        """Time passes; grants cover what is older than `covered_after_s`, None: nobody answers."""
        for _ in range(round(seconds / PERIOD_S)):
            self.now += PERIOD_S
            self.made += 1
            self.outbox.push(Entry(self.session, self.made, b"sealed"))
            if covered_after_s is not None:
                self.cover(self.made - round(covered_after_s / PERIOD_S))
            self.turn()

    def cover(self, sequence: int) -> None:
        """A grant covers this session up to that number."""
        self.outbox.acknowledge(Accepted(self.session, self.session, max(sequence, 0)))

    def turn(self) -> None:
        """What is due is written, unless the disk refuses."""
        step = self.outbox.spill_step(self.now)
        if step is None:
            return
        self.writes.append((self.now, type(step).__name__))
        if self.refuses:
            self.outbox.spill_failed(self.now)
            return
        self.disk = [*(self.disk if isinstance(step, Append) else []), *step.entries]
        self.outbox.spilled(step)

    def lost_at_a_power_cut(self) -> int:
        """Entries that no grant covered and that are not on the disk."""
        return len(set(numbers(self.outbox)) - {(entry.session, entry.sequence) for entry in self.disk})


def test_nothing_is_written_while_grants_cover_labels_in_time() -> None:
    line = Simulation()
    line.run(3_600, covered_after_s=1.0)
    assert line.writes == []
    assert line.lost_at_a_power_cut() == 2


def test_without_grants_there_is_one_append_in_five_seconds_and_no_more_than_that_is_lost() -> None:
    line = Simulation(capacity=7_200)
    worst = 0
    for _ in range(1_200):
        line.run(PERIOD_S)
        worst = max(worst, line.lost_at_a_power_cut())
    assert {kind for _, kind in line.writes} == {"Append"}
    assert len(line.writes) == pytest.approx(600 / (SPILL_AFTER_S + PERIOD_S), rel=0.02)
    assert worst <= SPILL_AFTER_S / PERIOD_S + 1


def test_a_gateway_that_is_heard_but_does_not_acknowledge_counts_as_away() -> None:
    line = Simulation()
    line.run(60, covered_after_s=20.0)
    assert len(line.writes) >= 7
    assert line.lost_at_a_power_cut() <= SPILL_AFTER_S / PERIOD_S + 1


def test_the_disk_is_emptied_once_when_grants_have_covered_all_that_is_on_it() -> None:
    line = Simulation()
    line.run(12)
    appended = len(line.writes)
    for sequence in range(1, len(line.disk)):
        line.cover(sequence)
        line.turn()
    assert len(line.writes) == appended and line.disk
    line.cover(len(line.disk))
    line.turn()
    line.turn()
    assert [kind for _, kind in line.writes[appended:]] == ["Replace"]
    assert line.disk == []
    line.run(60, covered_after_s=1.0)
    assert len(line.writes) == appended + 1


def test_restored_entries_come_before_new_ones_and_are_not_written_again() -> None:
    line = Simulation(session=2, restored=(Entry(1, 8, b"sealed"), Entry(1, 9, b"sealed")))
    line.run(6)
    assert numbers(line.outbox)[:3] == [(1, 8), (1, 9), (2, 1)]
    assert [kind for _, kind in line.writes] == ["Append"]
    assert [(entry.session, entry.sequence) for entry in line.disk[:3]] == [(1, 8), (1, 9), (2, 1)]


def test_the_disk_is_bounded_by_the_outbox_and_holds_its_newest() -> None:
    line = Simulation(capacity=20)
    line.run(600)
    assert len(line.disk) <= RECORDS_PER_PLACE * 20
    assert "Replace" in {kind for _, kind in line.writes}
    assert len(numbers(line.outbox)) == 20
    assert line.lost_at_a_power_cut() <= SPILL_AFTER_S / PERIOD_S + 1


def test_a_disk_that_refuses_is_asked_again_later_with_all_that_waits() -> None:
    line = Simulation()
    line.refuses = True
    line.run(30)
    assert len(line.writes) <= 30 / SPILL_AFTER_S
    line.refuses = False
    line.run(6)
    assert len(line.disk) > 60
    assert line.lost_at_a_power_cut() <= SPILL_AFTER_S / PERIOD_S + 1


def test_at_once_gives_what_is_not_on_the_disk_whatever_its_age() -> None:
    outbox = SpillingOutbox(10, spill_after_s=SPILL_AFTER_S)
    assert outbox.spill_step(0.0, at_once=True) is None
    outbox.push(Entry(1, 1, b"sealed"))
    assert outbox.spill_step(0.1) is None
    step = outbox.spill_step(0.1, at_once=True)
    assert step == Append((Entry(1, 1, b"sealed"),))
    outbox.spilled(step)
    assert outbox.spill_step(9.0, at_once=True) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["label", "cover", "wait", "refuse", "obey"]), st.integers(0, 40)), max_size=120
    ),
    st.integers(min_value=1, max_value=12),
)
def test_what_is_on_the_disk_and_in_memory_is_never_less_than_what_is_promised(
    events: list[tuple[str, int]], capacity: int
) -> None:
    line = Simulation(capacity=capacity)
    refused_until = -1.0
    for event, number in events:
        if event == "label":
            line.run(PERIOD_S)
        elif event == "cover":
            line.cover(min(number, line.made))
        elif event == "wait":
            line.now += number / 10
        else:
            line.refuses = event == "refuse"
        if line.refuses:
            refused_until = line.now + SPILL_AFTER_S
        line.turn()
        on_disk = [(entry.session, entry.sequence) for entry in line.disk]
        assert on_disk == sorted(set(on_disk)) and len(on_disk) <= RECORDS_PER_PLACE * capacity
        if line.now > refused_until:
            kept = numbers(line.outbox)
            waiting = [number for number in kept if number not in on_disk]
            assert waiting == kept[len(kept) - len(waiting) :], "only the newest are not on the disk"


def test_a_step_says_what_shall_stand_on_the_disk() -> None:
    outbox = SpillingOutbox(3, spill_after_s=1.0, restored=[Entry(1, number, b"") for number in (1, 2, 3)])
    outbox.push(Entry(1, 4, b""))
    outbox.push(Entry(1, 5, b""))
    assert outbox.spill_step(0.0) is None
    step = outbox.spill_step(1.0)
    assert step == Append((Entry(1, 4, b""), Entry(1, 5, b"")))
    outbox.spilled(step)
    outbox.push(Entry(1, 6, b""))
    outbox.push(Entry(1, 7, b""))
    assert outbox.spill_step(2.0) is None
    assert outbox.spill_step(3.0) == Replace((Entry(1, 5, b""), Entry(1, 6, b""), Entry(1, 7, b"")))
