"""When a room may capture, and when its boxes may be updated: weekly hours, and sessions drawn at random inside them.

A schedule carries its zone's offsets from UTC as a list that the room authority wrote out for the life of the policy.
So a box needs no time-zone database, all boxes of a room agree to the minute whatever their system's age, and what was
signed is what is done. A law that moves clock changes asks for a newly signed policy.

A minute belongs to the local hours that a wall clock in the room shows: what a clock change skips never comes, and what
it repeats comes twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple

MINUTE_MS: Final = 60_000
DAY_MINUTES: Final = 1_440
#: Most entries of weekly hours, and most changes of a zone's offset.
HOURS_MAX: Final = 64
OFFSETS_MAX: Final = 64
ZONE_CHARACTERS: Final = 64
#: Offsets in use on Earth, in minutes east of UTC.
_WESTMOST, _EASTMOST = -12 * 60, 14 * 60
#: Length of a sampled session in seconds, shortest and longest.
SESSION_S: Final = (5 * 60, 10 * 60)
SESSIONS_PER_DAY_MAX: Final = 32
#: Weekly hours that change at all do so within a week; a clock change can swallow one of these, not two in a row.
_HORIZON_DAYS: Final = 14
_EPOCH_WEEKDAY: Final = 3
_FOR_EVER: Final = 2**63


class ScheduleKind(StrEnum):
    """Its position is the code on the wire."""

    ALWAYS = "always"
    HOURS = "hours"
    SAMPLED = "sampled"


class Span(NamedTuple):
    """From `start_ms` to before `end_ms`, milliseconds since 1970."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class Hours:
    """On each of `weekdays` (0 is Monday, upwards) from minute `start` of the local day to before minute `end`.

    Hours over midnight are two entries. Raises ValueError on values outside their range.
    """

    weekdays: tuple[int, ...]
    start: int
    end: int

    def __post_init__(self) -> None:
        if not self.weekdays or list(self.weekdays) != sorted(set(self.weekdays) & set(range(7))):
            raise ValueError(f"{list(self.weekdays)} are no weekdays: 0 (Monday) to 6 (Sunday), each once, upwards")
        if not 0 <= self.start < self.end <= DAY_MINUTES:
            raise ValueError(f"hours from minute {self.start} to {self.end} end before they begin, or leave the day")


@dataclass(frozen=True)
class Offset:
    """Local time is `minutes` ahead of UTC from `from_ms` on (milliseconds since 1970, a whole minute)."""

    from_ms: int
    minutes: int

    def __post_init__(self) -> None:
        if self.from_ms < 0 or self.from_ms % MINUTE_MS or not _WESTMOST <= self.minutes <= _EASTMOST:
            raise ValueError(f"an offset of {self.minutes} minutes from {self.from_ms} ms on is none of a time zone")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`zone` names for people what `offsets` say; the first offset holds from 0 on. ALWAYS has none of the fields.
    SAMPLED draws `sessions_per_day` sessions of 5 to 10 minutes on each day inside its hours; each day that has hours
    must have room for them at their longest. Raises ValueError when the fields contradict each other."""

    kind: ScheduleKind
    zone: str = ""
    offsets: tuple[Offset, ...] = ()
    hours: tuple[Hours, ...] = ()
    sessions_per_day: int = 0

    def __post_init__(self) -> None:
        if self.kind is ScheduleKind.ALWAYS:
            if self.zone or self.offsets or self.hours or self.sessions_per_day:
                raise ValueError("a schedule that is always open has no zone, hours or sessions")
            return
        if not 0 < len(self.zone) <= ZONE_CHARACTERS or not self.zone.isascii() or not self.zone.isprintable():
            raise ValueError(f"the zone is named in 1 to {ZONE_CHARACTERS} ASCII characters")
        _check_offsets(self.offsets)
        _check_hours(self.hours)
        if self.kind is ScheduleKind.SAMPLED:
            self._check_sessions()
        elif self.sessions_per_day:
            raise ValueError("sessions a day stand in a sampled schedule only")

    def spans(self, weekday: int) -> tuple[tuple[int, int], ...]:
        """The hours of a weekday as minutes (start, end), in order; those that touch are one."""
        return self._week[weekday]

    @cached_property
    def _week(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        return tuple(
            tuple(_joined(sorted((each.start, each.end) for each in self.hours if weekday in each.weekdays)))
            for weekday in range(7)
        )

    def _check_sessions(self) -> None:
        if not 1 <= self.sessions_per_day <= SESSIONS_PER_DAY_MAX:
            raise ValueError(f"1 to {SESSIONS_PER_DAY_MAX} sessions a day can be drawn, not {self.sessions_per_day}")
        longest = SESSION_S[1] // 60
        for weekday in range(7):
            room = sum((end - start) // longest for start, end in self.spans(weekday))
            if self.spans(weekday) and room < self.sessions_per_day:
                raise ValueError(
                    f"the hours of weekday {weekday} have room for {room} sessions of {longest} minutes,"
                    f" not for {self.sessions_per_day}"
                )


ALWAYS: Final = Schedule(kind=ScheduleKind.ALWAYS)


def _check_offsets(offsets: Sequence[Offset]) -> None:
    if not 1 <= len(offsets) <= OFFSETS_MAX:
        raise ValueError(f"a zone has 1 to {OFFSETS_MAX} offsets, not {len(offsets)}")
    if offsets[0].from_ms != 0:
        raise ValueError("the first offset holds from 0 on")
    for before, after in pairwise(offsets):
        if before.from_ms >= after.from_ms or before.minutes == after.minutes:
            raise ValueError("each offset of a zone begins after the one before, and differs from it")


def _check_hours(hours: Sequence[Hours]) -> None:
    if not 1 <= len(hours) <= HOURS_MAX:
        raise ValueError(f"weekly hours have 1 to {HOURS_MAX} entries, not {len(hours)}")
    for weekday in range(7):
        today = sorted((each.start, each.end) for each in hours if weekday in each.weekdays)
        for before, after in pairwise(today):
            if after[0] < before[1]:
                raise ValueError(f"two entries of hours overlap on weekday {weekday}, at minute {after[0]}")


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges in order of their start that do not overlap; those that touch are joined."""
    standing: tuple[int, int] | None = None
    for start, end in ranges:
        if standing is not None and standing[1] == start:
            standing = (standing[0], end)
            continue
        if standing is not None:
            yield standing
        standing = (start, end)
    if standing is not None:
        yield standing


def _local_minute(schedule: Schedule, wall_ms: int) -> int:
    """Minutes since 1970 as the room's clock shows them."""
    offset = next(each for each in reversed(schedule.offsets) if each.from_ms <= wall_ms)
    return wall_ms // MINUTE_MS + offset.minutes


def local_day(schedule: Schedule, wall_ms: int) -> int:
    """Days since 1970 as the room's calendar shows them; UTC days when the schedule is always open."""
    if schedule.kind is ScheduleKind.ALWAYS:
        return wall_ms // MINUTE_MS // DAY_MINUTES
    return _local_minute(schedule, wall_ms) // DAY_MINUTES


def is_open(schedule: Schedule, wall_ms: int) -> bool:
    """Whether `wall_ms` (milliseconds since 1970, at least 0) lies in the hours of the schedule.

    A sampled schedule is open in its hours; whether a session runs is `in_session`'s to say.
    """
    if schedule.kind is ScheduleKind.ALWAYS:
        return True
    day, minute = divmod(_local_minute(schedule, wall_ms), DAY_MINUTES)
    return any(start <= minute < end for start, end in schedule.spans(_weekday(day)))


def next_change(schedule: Schedule, wall_ms: int) -> int | None:
    """The first millisecond after `wall_ms` at which `is_open` answers otherwise; None when it never does."""
    if schedule.kind is ScheduleKind.ALWAYS:
        return None
    today = local_day(schedule, wall_ms)
    spans = sorted(span for day in range(today - 1, today + _HORIZON_DAYS + 2) for span in open_spans(schedule, day))
    horizon_ms = wall_ms + _HORIZON_DAYS * DAY_MINUTES * MINUTE_MS
    edges = (edge for span in _joined(spans) for edge in span)
    return next((edge for edge in edges if wall_ms < edge <= horizon_ms), None)


def open_spans(schedule: Schedule, day: int) -> tuple[Span, ...]:
    """When the hours of one local day (`local_day`) are, in order; a clock change can take of them or repeat them."""
    ends = [*(offset.from_ms for offset in schedule.offsets[1:]), _FOR_EVER]
    found: list[Span] = []
    for offset, until_ms in zip(schedule.offsets, ends, strict=True):
        midnight = day * DAY_MINUTES - offset.minutes
        for start, end in schedule.spans(_weekday(day)):
            start_ms = max((midnight + start) * MINUTE_MS, offset.from_ms)
            end_ms = min((midnight + end) * MINUTE_MS, until_ms)
            if start_ms < end_ms:
                found.append(Span(start_ms, end_ms))
    return tuple(Span(*span) for span in _joined(sorted(found)))


def _weekday(day: int) -> int:
    return (day + _EPOCH_WEEKDAY) % 7


def draw_sessions(schedule: Schedule, day: int, generator: random.Random) -> tuple[Span, ...]:
    """The sampled sessions of one local day, in order: the same ones for the same state of the generator.

    Each takes 5 to 10 minutes, none leaves the hours, no two overlap. There are `sessions_per_day` of them; fewer only
    where a clock change left the day too little room, none on a day without hours. Lengths come first, each with a span
    by chance in proportion to the room that it leaves there; then the room that is left over in each span is cut at
    random places, which makes all arrangements of its sessions equally likely.
    """
    spans = open_spans(schedule, day)
    free = [span.end_ms - span.start_ms for span in spans]
    lengths: list[list[int]] = [[] for _ in spans]
    for _ in range(schedule.sessions_per_day):
        length = generator.randint(*SESSION_S) * 1_000
        weights = [max(left - length + 1, 0) for left in free]
        if not any(weights):
            break
        (chosen,) = generator.choices(range(len(spans)), weights)
        lengths[chosen].append(length)
        free[chosen] -= length
    sessions: list[Span] = []
    for span, left, within in zip(spans, free, lengths, strict=True):
        cuts = sorted(generator.randint(0, left) for _ in within)
        start_ms = span.start_ms
        for cut, before, length in zip(cuts, [0, *cuts], within, strict=False):
            start_ms += cut - before
            sessions.append(Span(start_ms, start_ms + length))
            start_ms += length
    return tuple(sessions)


def in_session(sessions: Iterable[Span], wall_ms: int) -> bool:
    """Whether one of the sessions runs at `wall_ms`."""
    return any(session.start_ms <= wall_ms < session.end_ms for session in sessions)


def encode_schedule(schedule: Schedule) -> list[object]:
    """The array [kind, zone, [[from_ms, minutes], …], [[weekdays, start, end], …], sessions_per_day]; bit 0 of
    `weekdays` is Monday."""
    return [
        list(ScheduleKind).index(schedule.kind),
        schedule.zone,
        [[offset.from_ms, offset.minutes] for offset in schedule.offsets],
        [[sum(1 << day for day in each.weekdays), each.start, each.end] for each in schedule.hours],
        schedule.sessions_per_day,
    ]


def decode_schedule(item: Sequence[object]) -> Schedule:
    """What `encode_schedule` made. Raises ValueError for anything else."""
    if len(item) != 5:
        raise ValueError(f"a schedule of {len(item)} fields instead of 5")
    kind, zone, offsets, hours, sessions_per_day = item
    kind, sessions_per_day = _numbers([kind, sessions_per_day], 2)
    if not isinstance(zone, str) or not 0 <= kind < len(ScheduleKind):
        raise ValueError("a schedule of an unknown kind, or whose zone is no text")
    return Schedule(
        kind=list(ScheduleKind)[kind],
        zone=zone,
        offsets=tuple(Offset(*_numbers(each, 2)) for each in _few(offsets, OFFSETS_MAX)),
        hours=tuple(
            Hours(_days(weekdays), start, end)
            for weekdays, start, end in (_numbers(each, 3) for each in _few(hours, HOURS_MAX))
        ),
        sessions_per_day=sessions_per_day,
    )


def _days(bits: int) -> tuple[int, ...]:
    if not 0 < bits < 1 << 7:
        raise ValueError(f"{bits} names no weekdays")
    return tuple(day for day in range(7) if bits >> day & 1)


def _few(item: object, most: int) -> list[object]:
    if not isinstance(item, list) or len(item) > most:
        raise ValueError(f"not a list of at most {most}")
    return item


def _numbers(item: object, count: int) -> list[int]:
    numbers = [each for each in item if type(each) is int] if isinstance(item, list) else []
    if not isinstance(item, list) or len(item) != count or len(numbers) != count:
        raise ValueError(f"not {count} numbers")
    return numbers
