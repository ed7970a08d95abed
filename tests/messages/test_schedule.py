"""Weekly hours and sampled sessions, against the time-zone database: clock changes, midnight, the end of the week."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.messages import cbor
from device.messages.schedule import (
    ALWAYS,
    DAY_MINUTES,
    HOURS_MAX,
    MINUTE_MS,
    SESSION_S,
    Hours,
    Offset,
    Schedule,
    ScheduleKind,
    decode_schedule,
    draw_sessions,
    encode_schedule,
    in_session,
    is_open,
    local_day,
    next_change,
    open_spans,
)

BERLIN = ZoneInfo("Europe/Berlin")
DAY_MS = DAY_MINUTES * MINUTE_MS
MONDAY_TO_FRIDAY = (0, 1, 2, 3, 4)


def at(text: str, fold: int = 0) -> int:
    """A local time in Berlin as milliseconds since 1970."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp() * 1_000)


SPRING_MS = int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp() * 1_000)
AUTUMN_MS = int(datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp() * 1_000)
YEAR_2026 = (Offset(0, 60), Offset(SPRING_MS, 120), Offset(AUTUMN_MS, 60))
BEGINS_MS, ENDS_MS = at("2026-01-01T00:00"), at("2026-12-31T00:00")


def berlin(*hours: Hours, sessions: int = 0) -> Schedule:
    """Weekly hours in Berlin in 2026, and sessions in them when there are any."""
    kind = ScheduleKind.SAMPLED if sessions else ScheduleKind.HOURS
    return Schedule(kind=kind, zone="Europe/Berlin", offsets=YEAR_2026, hours=hours, sessions_per_day=sessions)


LESSONS = berlin(Hours(MONDAY_TO_FRIDAY, 8 * 60, 12 * 60 + 30), Hours((0, 2), 13 * 60, 15 * 60))


@st.composite
def timetables(draw: st.DrawFn) -> Schedule:
    """Weekly hours of every shape: whole days, single minutes, neighbours that touch."""
    cuts = draw(st.lists(st.integers(0, DAY_MINUTES), min_size=2, max_size=8, unique=True).map(sorted))
    hours = []
    for start, end in pairwise(cuts):
        days = draw(st.sets(st.integers(0, 6), max_size=7))
        if days:
            hours.append(Hours(tuple(sorted(days)), start, end))
    return berlin(*(hours or [Hours((6,), cuts[0], cuts[-1])]))


#: Any minute of the year, and often one close to a clock change.
moments = st.integers(BEGINS_MS, ENDS_MS) | st.sampled_from((SPRING_MS, AUTUMN_MS)).flatmap(
    lambda change: st.integers(change - DAY_MS, change + DAY_MS)
)


def shown(wall_ms: int) -> tuple[int, int]:
    """Weekday and minute that a clock on a wall in Berlin shows, by the time-zone database."""
    local = datetime.fromtimestamp(wall_ms / 1_000, BERLIN)
    return local.weekday(), local.hour * 60 + local.minute


@given(timetables(), moments)
def test_open_is_what_a_clock_on_the_wall_says(schedule: Schedule, wall_ms: int) -> None:
    weekday, minute = shown(wall_ms)
    wanted = any(weekday in each.weekdays and each.start <= minute < each.end for each in schedule.hours)
    assert is_open(schedule, wall_ms) == wanted


@given(timetables(), moments, st.lists(st.floats(0, 1), max_size=20))
def test_nothing_changes_before_the_next_change_and_then_it_does(
    schedule: Schedule, wall_ms: int, between: list[float]
) -> None:
    now, change = is_open(schedule, wall_ms), next_change(schedule, wall_ms)
    until = wall_ms + 14 * DAY_MS if change is None else change
    assert all(is_open(schedule, wall_ms + int((until - 1 - wall_ms) * share)) == now for share in between)
    assert is_open(schedule, until - 1) == now
    if change is not None:
        assert change > wall_ms
        assert is_open(schedule, change) != now


@given(timetables(), moments)
def test_the_spans_of_a_day_are_its_open_minutes(schedule: Schedule, wall_ms: int) -> None:
    day = local_day(schedule, wall_ms)
    spans = open_spans(schedule, day)
    assert any(span.start_ms <= wall_ms < span.end_ms for span in spans) == is_open(schedule, wall_ms)
    assert all(before.end_ms < after.start_ms for before, after in pairwise(spans))
    for span in spans:
        assert {local_day(schedule, span.start_ms), local_day(schedule, span.end_ms - 1)} == {day}


def test_the_lessons_of_a_week() -> None:
    assert not is_open(LESSONS, at("2026-11-23T07:59:59"))
    assert is_open(LESSONS, at("2026-11-23T08:00"))
    assert not is_open(LESSONS, at("2026-11-23T12:30"))
    assert is_open(LESSONS, at("2026-11-23T13:00"))
    assert not is_open(LESSONS, at("2026-11-24T13:00"))
    assert not is_open(LESSONS, at("2026-11-28T09:00"))
    assert next_change(LESSONS, at("2026-11-27T12:30")) == at("2026-11-30T08:00"), "over the weekend"


def test_lessons_begin_at_the_same_local_time_in_summer_and_winter() -> None:
    friday, monday = at("2026-03-27T08:00"), at("2026-03-30T08:00")
    assert is_open(LESSONS, friday) and is_open(LESSONS, monday)
    assert monday - friday == 3 * DAY_MS - 3_600_000
    assert not is_open(LESSONS, monday - 1)


def test_what_a_clock_change_skips_never_comes_and_what_it_repeats_comes_twice() -> None:
    night = berlin(Hours((6,), 2 * 60, 3 * 60))
    assert open_spans(night, local_day(night, SPRING_MS)) == ()
    assert next_change(night, SPRING_MS - DAY_MS) == at("2026-04-05T02:00")
    (twice,) = open_spans(night, local_day(night, AUTUMN_MS))
    assert twice == (at("2026-10-25T02:00"), at("2026-10-25T03:00"))
    assert twice.end_ms - twice.start_ms == 2 * 3_600_000
    half = berlin(Hours((6,), 2 * 60, 2 * 60 + 30))
    assert [span.end_ms - span.start_ms for span in open_spans(half, local_day(half, AUTUMN_MS))] == [1_800_000] * 2
    assert next_change(half, at("2026-10-25T02:30")) == at("2026-10-25T02:00", fold=1)


def test_hours_up_to_midnight_go_on_into_the_next_day() -> None:
    late = berlin(Hours((4,), 22 * 60, DAY_MINUTES), Hours((5,), 0, 5 * 60))
    assert is_open(late, at("2026-11-27T23:59:59")) and is_open(late, at("2026-11-28T00:00"))
    assert next_change(late, at("2026-11-27T22:00")) == at("2026-11-28T05:00")
    sunday_to_monday = berlin(Hours((6,), 22 * 60, DAY_MINUTES), Hours((0,), 0, 5 * 60))
    assert next_change(sunday_to_monday, at("2026-11-29T23:00")) == at("2026-11-30T05:00")


def test_a_room_that_never_closes() -> None:
    for schedule in (ALWAYS, berlin(Hours(tuple(range(7)), 0, DAY_MINUTES))):
        assert is_open(schedule, SPRING_MS) and is_open(schedule, 0)
        assert next_change(schedule, AUTUMN_MS - 1) is None
    assert local_day(ALWAYS, 2 * DAY_MS + 1) == 2


@given(
    st.sampled_from([LESSONS.hours, (Hours((5, 6), 0, 6 * 60),), (Hours(tuple(range(7)), 100, 180),)]),
    st.integers(1, 8),
    moments,
    st.integers(),
)
def test_sessions_are_short_apart_and_inside_the_hours(
    hours: tuple[Hours, ...], sessions: int, wall_ms: int, seed: int
) -> None:
    schedule = berlin(*hours, sessions=sessions)
    day = local_day(schedule, wall_ms)
    drawn = draw_sessions(schedule, day, random.Random(seed))
    assert drawn == draw_sessions(schedule, day, random.Random(seed))
    assert all(SESSION_S[0] * 1_000 <= each.end_ms - each.start_ms <= SESSION_S[1] * 1_000 for each in drawn)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(drawn))
    spans = open_spans(schedule, day)
    assert all(any(span.start_ms <= each.start_ms and each.end_ms <= span.end_ms for span in spans) for each in drawn)
    skipped = not spans or sum(span.end_ms - span.start_ms for span in spans) < sessions * SESSION_S[1] * 1_000
    assert len(drawn) == sessions or skipped


def test_sessions_fall_anywhere_in_the_hours() -> None:
    schedule = berlin(Hours((0,), 8 * 60, 12 * 60), Hours((0,), 14 * 60, 15 * 60), sessions=2)
    day = local_day(schedule, at("2026-11-23T12:00"))
    covered = [0] * (24 * 6)
    for seed in range(400):
        drawn = draw_sessions(schedule, day, random.Random(seed))
        for place in range(len(covered)):
            covered[place] += in_session(drawn, at("2026-11-23T00:00") + (place * 10 + 5) * MINUTE_MS)
    inside = covered[8 * 6 : 12 * 6] + covered[14 * 6 : 15 * 6]
    assert min(inside) > 0, "no place in the hours is never heard"
    assert sum(covered) == sum(inside)
    assert max(inside) < 400 / 4, "nor is one heard on most days"


def test_a_clock_change_can_leave_too_little_room_for_the_sessions_of_a_day() -> None:
    night = berlin(Hours((6,), 2 * 60, 3 * 60), sessions=3)
    assert draw_sessions(night, local_day(night, SPRING_MS), random.Random(1)) == ()
    assert len(draw_sessions(night, local_day(night, AUTUMN_MS), random.Random(1))) == 3


@given(timetables() | st.just(ALWAYS) | st.just(berlin(Hours((0,), 0, 60), sessions=3)))
def test_every_schedule_comes_back(schedule: Schedule) -> None:
    item = cbor.decode(cbor.encode(encode_schedule(schedule)))
    assert isinstance(item, list)
    assert decode_schedule(item) == schedule


GOOD = encode_schedule(LESSONS)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({0: 3}, "unknown kind"),
        ({0: "hours"}, "numbers"),
        ({0: 0}, "always open"),
        ({1: b"UTC"}, "no text"),
        ({1: ""}, "zone"),
        ({1: "Z" * 65}, "zone"),
        ({2: []}, "1 to 64 offsets"),
        ({2: [[1, 60]]}, "whole minute|time zone"),
        ({2: [[60_000, 60]]}, "from 0 on"),
        ({2: [[0, 60], [60_000, 60]]}, "differs"),
        ({2: [[0, 60], [0, 120]]}, "begins after"),
        ({2: [[0, 900]]}, "time zone"),
        ({2: [[0, 60, 1]]}, "2 numbers"),
        ({3: []}, "1 to 64 entries"),
        ({3: [[1, 0, 1]] * (HOURS_MAX + 1)}, "at most 64"),
        ({3: [[1, 480, 540], [3, 500, 600]]}, "overlap on weekday 0, at minute 500"),
        ({3: [[1, 540, 480]]}, "end before they begin"),
        ({3: [[1, 480, 480]]}, "end before they begin"),
        ({3: [[1, 480, 1_441]]}, "leave the day"),
        ({3: [[0, 480, 540]]}, "no weekdays"),
        ({3: [[128, 480, 540]]}, "no weekdays"),
        ({3: [[1, 480, 540.0]]}, "3 numbers"),
        ({4: 1}, "sampled schedule only"),
        ({0: 2}, "sessions a day"),
        ({0: 2, 4: 33}, "sessions a day"),
        ({0: 2, 4: 28}, "room for 27 sessions"),
        ({4: True}, "numbers"),
    ],
)
def test_a_schedule_that_contradicts_itself_is_refused(changes: dict[int, object], why: str) -> None:
    assert decode_schedule(GOOD) == LESSONS
    with pytest.raises(ValueError, match=why):
        decode_schedule([changes.get(place, value) for place, value in enumerate(GOOD)])


def test_a_schedule_with_more_or_fewer_fields_is_refused() -> None:
    for item in (GOOD[:-1], [*GOOD, 0], []):
        with pytest.raises(ValueError, match="5"):
            decode_schedule(item)


@pytest.mark.parametrize("weekdays", [(), (7,), (-1,), (1, 0), (0, 0)])
def test_weekdays_stand_once_each_and_upwards(weekdays: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="weekdays"):
        Hours(weekdays, 0, 60)


def test_the_offsets_of_a_year_agree_with_the_time_zone_database() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    while moment.year == 2026:
        wall_ms = int(moment.timestamp() * 1_000)
        local = moment.astimezone(BERLIN)
        assert local_day(LESSONS, wall_ms) == (local.date() - datetime(1970, 1, 1).date()).days
        moment += timedelta(minutes=30)
    assert replace(LESSONS, offsets=(Offset(0, 60),)) != LESSONS
