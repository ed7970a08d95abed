"""Schedules as people write them: read, shown alike, and right about the zone's clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from device.messages.schedule import ALWAYS, Hours, Offset, ScheduleKind, is_open
from provisioning.schedule_form import read_schedule, show_schedule


def ms(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1_000)


BEGINS, ENDS = ms(2026, 9, 1), ms(2027, 7, 31)
BERLIN = "Europe/Berlin Mon-Fri 08:00-13:00, Tue+Thu 14:00-15:30; 4 sessions a day"


def test_a_schedule_is_read_as_it_is_written() -> None:
    schedule = read_schedule(BERLIN, BEGINS, ENDS)
    assert (schedule.kind, schedule.zone, schedule.sessions_per_day) == (ScheduleKind.SAMPLED, "Europe/Berlin", 4)
    assert schedule.hours == (Hours((0, 1, 2, 3, 4), 480, 780), Hours((1, 3), 840, 930))
    assert schedule.offsets == (Offset(0, 120), Offset(ms(2026, 10, 25, 1), 60), Offset(ms(2027, 3, 28, 1), 120))


@pytest.mark.parametrize(
    "text",
    [
        "always",
        BERLIN,
        "UTC Sun 00:00-24:00",
        "Asia/Kathmandu Mon+Wed+Fri 09:15-10:00; 1 session a day",
        "America/St_Johns Mon-Sun 22:00-23:59, Sat+Sun 00:00-05:00",
    ],
)
def test_what_is_shown_is_what_was_written(text: str) -> None:
    schedule = read_schedule(text, BEGINS, ENDS)
    assert show_schedule(schedule) == text
    assert read_schedule(f"  {text.replace(' ', '  ')} ", BEGINS, ENDS) == schedule


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]
)
def test_the_offsets_are_those_of_the_zone_in_every_hour_of_the_policys_life(zone: str) -> None:
    schedule = read_schedule(f"{zone} Mon-Sun 08:00-13:00", BEGINS, ENDS)
    clock = ZoneInfo(zone)
    time = datetime(2026, 9, 1, tzinfo=UTC)
    opened = 0
    while time < datetime(2027, 7, 31, tzinfo=UTC):
        expected = 8 <= time.astimezone(clock).hour < 13
        assert is_open(schedule, int(time.timestamp() * 1_000)) is expected
        opened += expected
        time += timedelta(hours=1)
    assert opened > 1_600


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'always', or like"),
        ("sometimes", "'always', or like"),
        ("Europe/Berlin", "'always', or like"),
        ("Europe/Berlin Mo-Fr 08:00-13:00", "days of Mon, Tue"),
        ("Europe/Berlin Mon-Fri 8-13", "'always', or like"),
        ("Europe/Berlin Fri-Mon 08:00-13:00", "are no weekdays"),
        ("Europe/Berlin Mon+Mon 08:00-13:00", "are no weekdays"),
        ("Europe/Berlin Mon-Tue-Wed 08:00-13:00", "days of Mon, Tue"),
        ("Europe/Berlin Mon 08:75-13:00", "a time of day"),
        ("Europe/Berlin Mon 13:00-08:00", "end before they begin"),
        ("Europe/Berlin Mon 08:00-25:00", "leave the day"),
        ("Europe/Berlin Mon 08:00-13:00, Mon 12:00-14:00", "overlap"),
        ("Europe/Berlin Mon 08:00-08:30; 4 sessions a day", "have room for 3 sessions"),
        ("UTC Mon-Fri 08:00-13:00; 0 sessions a day", "sessions"),
        ("Europe/Atlantis Mon 08:00-13:00", "a time zone that this machine knows"),
        ("../../etc/passwd Mon 08:00-13:00", "a time zone that this machine knows"),
        ("Europe Mon 08:00-13:00", "a time zone that this machine knows"),
    ],
)
def test_a_text_that_is_no_schedule_is_refused_with_what_it_should_be(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_schedule(text, BEGINS, ENDS)


def test_always_has_no_zone_and_a_policy_of_a_lifetime_has_too_many_changes() -> None:
    assert read_schedule("always", BEGINS, ENDS) == ALWAYS
    with pytest.raises(ValueError, match="offsets"):
        read_schedule("Europe/Berlin Mon 08:00-13:00", BEGINS, ms(2099, 1, 1))
