"""A schedule of the deployment policy as people write it, with the zone's clock changes written out for its life.

always
Europe/Berlin Mon-Fri 08:00-13:00, Tue+Thu 14:00-15:30
Europe/Berlin Mon-Fri 08:00-13:00; 4 sessions a day
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from device.messages.schedule import ALWAYS, MINUTE_MS, OFFSETS_MAX, Hours, Offset, Schedule, ScheduleKind

FORM: Final = "'always', or like 'Europe/Berlin Mon-Fri 08:00-13:00, Tue+Thu 14:00-15:30; 4 sessions a day'"
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SCHEDULE: Final = re.compile(r"(?P<zone>\S+) (?P<hours>[^;]+?)(?:; ?(?P<sessions>\d{1,3}) sessions? a day)?")
_HOURS: Final = re.compile(r"(?P<days>[A-Za-z+-]+) (\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY: Final = timedelta(days=1)


def read_schedule(text: str, begins_ms: int, ends_ms: int) -> Schedule:
    """The schedule of a policy that holds from `begins_ms` to `ends_ms` (milliseconds since 1970).

    Raises ValueError, whose text says what a schedule is, or why this one cannot be.
    """
    text = " ".join(text.split())
    if text == "always":
        return ALWAYS
    found = _SCHEDULE.fullmatch(text)
    if found is None:
        raise ValueError(FORM)
    sessions = int(found["sessions"] or 0)
    return Schedule(
        kind=ScheduleKind.HOURS if found["sessions"] is None else ScheduleKind.SAMPLED,
        zone=found["zone"],
        offsets=_offsets(found["zone"], begins_ms, ends_ms),
        hours=tuple(_hours(part.strip()) for part in found["hours"].split(",")),
        sessions_per_day=sessions,
    )


def show_schedule(schedule: Schedule) -> str:
    """The text of which `read_schedule` makes the same schedule."""
    if schedule.kind is ScheduleKind.ALWAYS:
        return "always"
    hours = ", ".join(
        f"{_show_days(each)} {_show_minute(each.start)}-{_show_minute(each.end)}" for each in schedule.hours
    )
    number = schedule.sessions_per_day
    sampled = f"; {number} session{'s' if number > 1 else ''} a day" if number else ""
    return f"{schedule.zone} {hours}{sampled}"


def _hours(text: str) -> Hours:
    found = _HOURS.fullmatch(text)
    if found is None:
        raise ValueError(FORM)
    _, *numbers = found.groups()
    from_hour, from_minute, to_hour, to_minute = map(int, numbers)
    if max(from_minute, to_minute) > 59:
        raise ValueError(f"a time of day ({text!r})")
    return Hours(_days(found["days"]), from_hour * 60 + from_minute, to_hour * 60 + to_minute)


def _days(text: str) -> tuple[int, ...]:
    first, dash, last = text.partition("-")
    names = [first, last] if dash else text.split("+")
    if any(name not in DAYS for name in names):
        raise ValueError(f"days of {', '.join(DAYS)} ({text!r})")
    numbers = [DAYS.index(name) for name in names]
    return tuple(range(numbers[0], numbers[1] + 1)) if dash else tuple(sorted(numbers))


def _show_days(hours: Hours) -> str:
    first, last = hours.weekdays[0], hours.weekdays[-1]
    if len(hours.weekdays) > 2 and hours.weekdays == tuple(range(first, last + 1)):
        return f"{DAYS[first]}-{DAYS[last]}"
    return "+".join(DAYS[day] for day in hours.weekdays)


def _show_minute(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _offsets(zone: str, begins_ms: int, ends_ms: int) -> tuple[Offset, ...]:
    """A zone's offsets from UTC during the policy's life; the first also holds before it."""
    try:
        clock = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"a time zone that this machine knows, like Europe/Berlin ({zone!r})") from error
    time, ends = (datetime.fromtimestamp(wall_ms / 1_000, UTC) for wall_ms in (begins_ms, ends_ms))
    found = [Offset(0, _minutes(clock, time))]
    while time < ends and len(found) <= OFFSETS_MAX:
        later = min(time + _DAY, ends)
        if _minutes(clock, later) != found[-1].minutes:
            change = _change(clock, time, later)
            found.append(Offset(int(change.timestamp()) * 1_000, _minutes(clock, change)))
        time = later
    return tuple(found)


def _change(clock: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first whole minute with another offset than at `before`; one lies up to `after`."""
    low, high = (int(time.timestamp() * 1_000) // MINUTE_MS for time in (before, after))
    old = _minutes(clock, before)
    high += 1
    while high - low > 1:
        middle = (low + high) // 2
        if _minutes(clock, datetime.fromtimestamp(middle * 60, UTC)) == old:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high * 60, UTC)


def _minutes(clock: ZoneInfo, time: datetime) -> int:
    offset = time.astimezone(clock).utcoffset() or timedelta(0)
    return int(offset / timedelta(minutes=1))
