"""The deployment policy as a form: one row per field, filled in from flags, from the standing policy, or by asking.

Nothing is guessed that a person must answer for: purpose, setting, country, mode, who approved it, and until when.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from device.errors import ConfigError
from device.messages.policy import DeploymentPolicy, Mode, Purpose, Setting, check_policy
from device.messages.schedule import Schedule
from provisioning.schedule_form import FORM, read_schedule, show_schedule

ATTEMPTS: Final = 5
Ask = Callable[[str], str]


@dataclass(frozen=True)
class Field:
    """One field of the policy. `read` turns a person's text into its value and raises ValueError; `show` turns it back.

    `default` is offered where no policy stands; without one a person must say.
    """

    name: str
    flag: str
    question: str
    read: Callable[[str], Any]
    show: Callable[[Any], str] = str
    default: Callable[[], Any] | None = None


def _choice(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def read(text: str) -> StrEnum:
        try:
            return kind(text)
        except ValueError as error:
            raise ValueError(f"one of {', '.join(kind)}") from error

    return read


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError("a whole number") from error


def _day(text: str) -> int:
    """Milliseconds since 1970 of a day's beginning (UTC)."""
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1_000)
    except ValueError as error:
        raise ValueError("a day in the form 2027-07-31") from error


def _schedule(text: str) -> str:
    """The text itself, when it is a schedule's; its zone's clock changes are found when the policy's life is known."""
    read_schedule(text, 0, 1)
    return text


def show_day(wall_ms: int) -> str:
    """The day (UTC) of a time in milliseconds since 1970."""
    return f"{datetime.fromtimestamp(wall_ms / 1_000, UTC):%Y-%m-%d}"


def _today() -> int:
    return _day(f"{datetime.now(UTC):%Y-%m-%d}")


#: In the order in which a person is asked.
FIELDS: Final = (
    Field("purpose", "--purpose", f"what the labels are for ({', '.join(Purpose)})", _choice(Purpose)),
    Field("setting", "--setting", f"where the room stands ({', '.join(Setting)})", _choice(Setting)),
    Field("jurisdiction", "--jurisdiction", "country (ISO 3166-1, two capitals, or EU)", str),
    Field("mode", "--mode", f"how much leaves the gateway ({', '.join(Mode)})", _choice(Mode)),
    Field("min_group", "--min-group", "smallest number of desks in a class view", _count, default=lambda: 11),
    Field("retention_days", "--retention-days", "days for which labels are kept", _count, default=lambda: 30),
    Field("witness_count", "--witness-count", "later links that make a label witnessed", _count, default=lambda: 2),
    Field("approved_by", "--approved-by", "who approved this policy (name and office)", str),
    Field("not_before_ms", "--from", "first day on which it holds (UTC)", _day, show_day, default=_today),
    Field("not_after_ms", "--until", "first day on which it no longer holds (UTC)", _day, show_day),
    Field("capture", "--capture", f"when the boxes hear and see: {FORM}", _schedule, default=lambda: "always"),
    Field("updates", "--updates", f"when updates may be installed: {FORM}", _schedule, default=lambda: "always"),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every field."""
    for field in FIELDS:
        what = field.question if field.default is None else f"{field.question}; default {field.show(field.default())}"
        parser.add_argument(field.flag, dest=field.name, metavar="…", help=what)


def fill_in(
    room: str, given: Mapping[str, str | None], standing: DeploymentPolicy | None, ask: Ask | None
) -> DeploymentPolicy:
    """The policy that the flags in `given` (by field name) make of the standing one, or of none.

    `ask` puts a question to a person and returns the answer; None when nobody is there. With somebody there and no
    flag, every field is asked for; with flags, only what is missing. Raises ConfigError naming the flag, or the article
    of the law that forbids the policy.
    """
    asks_all = ask is not None and not any(given.get(field.name) for field in FIELDS)
    values: dict[str, Any] = {}
    missing: list[str] = []
    for field in FIELDS:
        offered = getattr(standing, field.name) if standing is not None else None
        if isinstance(offered, Schedule):
            offered = show_schedule(offered)
        if offered is None and field.default is not None:
            offered = field.default()
        text = given.get(field.name)
        if text:
            values[field.name] = _read(field, text)
        elif ask is not None and (asks_all or offered is None):
            values[field.name] = _ask(field, offered, ask)
        elif offered is not None:
            values[field.name] = offered
        else:
            missing.append(field.flag)
    if missing:
        raise ConfigError(f"The policy lacks {', '.join(missing)}.", next_step="Give these flags, or use a terminal.")
    try:
        for name in ("capture", "updates"):
            values[name] = read_schedule(values[name], values["not_before_ms"], values["not_after_ms"])
        policy = DeploymentPolicy(room=room, **values)
    except ValueError as error:
        raise ConfigError(f"The policy cannot be: {error}.", next_step="Correct that field.") from error
    check_policy(policy)
    return policy


def _read(field: Field, text: str) -> Any:
    try:
        return field.read(text.strip())
    except ValueError as error:
        raise ConfigError(f"{field.flag} {text!r}: is not {error}.", next_step=f"It is: {field.question}.") from error


def _ask(field: Field, offered: Any, ask: Ask) -> Any:
    shown = f" [{field.show(offered)}]" if offered is not None else ""
    for _ in range(ATTEMPTS):
        answer = ask(f"{field.question}{shown}: ").strip()
        if not answer and offered is not None:
            return offered
        try:
            return _read(field, answer)
        except ConfigError as error:
            print(error.what)
    raise ConfigError(f"No usable answer for {field.flag}.", next_step=f"It is: {field.question}.")
