"""Names of the MQTT topics: made and taken apart in one place.

Room, line and unit names are identifiers of the configuration (small letters, digits, dashes), so they can never hold
a topic separator or a wildcard.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ROOT: Final = "moodline/v1"
#: Names that no line may have: the room's own topics stand at that place.
RESERVED_LINES: Final = frozenset({"alerts", "class", "gateway", "labels", "roster", "trust"})


class TopicKind(StrEnum):
    """The topics by which a line works."""

    GRANT = "grant"
    LINK = "link"
    STATUS = "status"


@dataclass(frozen=True)
class LineTopic:
    """A line's topic taken apart; `unit` is empty for a grant."""

    room: str
    line: str
    kind: TopicKind
    unit: str = ""


def grant(room: str, line: str) -> str:
    """The gateway's forwarding right; retained, signed."""
    return f"{ROOT}/{room}/{line}/grant"


def link(room: str, line: str, unit: str) -> str:
    """One unit's links; heard by the whole line. `unit` may be `+` in a subscription."""
    return f"{ROOT}/{room}/{line}/link/{unit}"


def unit_status(room: str, line: str, unit: str) -> str:
    """A unit's birth, state and last will; retained JSON with the session number. `unit` may be `+`."""
    return f"{ROOT}/{room}/{line}/status/{unit}"


def roster(room: str) -> str:
    """The signed roster; retained."""
    return f"{ROOT}/{room}/roster"


def trust(room: str) -> str:
    """The trust bundle, from which a unit learns a newer roster; retained."""
    return f"{ROOT}/{room}/trust"


def labels(room: str, line: str, unit: str) -> str:
    """The latest verified label of a unit for consumers; retained JSON. `line` and `unit` may be `+`."""
    return f"{ROOT}/{room}/labels/{line}/{unit}"


def class_picture(room: str) -> str:
    """Counts over the class, of the latest time bin, for consumers; retained JSON, names no desk."""
    return f"{ROOT}/{room}/class"


def alerts(room: str) -> str:
    """What the gateway warns of; JSON."""
    return f"{ROOT}/{room}/alerts"


def gateway_status(room: str) -> str:
    """The gateway's birth, state and last will; retained JSON."""
    return f"{ROOT}/{room}/gateway/status"


def parse_line_topic(topic: str) -> LineTopic | None:
    """The parts of a line's topic, or None for any other topic."""
    prefix, _, rest = topic.partition(f"{ROOT}/")
    if prefix or not rest:
        return None
    match rest.split("/"):
        case [room, line, "grant"]:
            return LineTopic(room, line, TopicKind.GRANT)
        case [room, line, "link", unit]:
            return LineTopic(room, line, TopicKind.LINK, unit)
        case [room, line, "status", unit]:
            return LineTopic(room, line, TopicKind.STATUS, unit)
    return None
