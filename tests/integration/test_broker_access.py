"""Every topic against every member at a real mosquitto: whoever may not write or read it does so in vain.

The list of topics is that of `device.messages.topics`; a topic without a rule here fails. Delivery is tested: mosquitto
answers "granted" to subscriptions that it never serves.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from device.messages import topics
from device.publish.mqtt import MqttLink
from device.publish.ports import Received, Refused
from provisioning.certificates import Reads, Role
from tests.integration.conftest import TAKE
from tests.integration.room_broker import RoomBroker, require_mosquitto, taken, wait_for

ROOM = "demo"


@dataclass(frozen=True)
class Party:
    """A member of the room, as `provisioning.broker.Member`."""

    name: str
    role: Role
    line: str = ""
    reads: Reads | None = None

    def is_unit(self, line: str, unit: str = "") -> bool:
        return self.role is Role.UNIT and self.line == line and unit in ("", self.name)

    @property
    def is_gateway(self) -> bool:
        return self.role is Role.GATEWAY

    @property
    def is_any_unit(self) -> bool:
        return self.role is Role.UNIT


PARTIES = (
    Party("a1", Role.UNIT, "a"),
    Party("a2", Role.UNIT, "a"),
    Party("b1", Role.UNIT, "b"),
    Party("gateway", Role.GATEWAY),
    Party("screen", Role.CONSUMER, reads=Reads.CLASS),
    Party("book", Role.CONSUMER, reads=Reads.DESK),
    Party("office", Role.CONSUMER, reads=Reads.OPERATOR),
)
PLACES = (("a", "a1"), ("a", "a2"), ("b", "b1"))
Rule = Callable[[Party, str, str], bool]


def gateway(party: Party, line: str, unit: str) -> bool:
    return party.is_gateway


def any_unit(party: Party, line: str, unit: str) -> bool:
    return party.is_any_unit


def of_line(party: Party, line: str, unit: str) -> bool:
    return party.is_unit(line)


def that_unit(party: Party, line: str, unit: str) -> bool:
    return party.is_unit(line, unit)


def consumer(*reads: Reads) -> Rule:
    return lambda party, line, unit: party.reads in reads


def either(*rules: Rule) -> Rule:
    return lambda party, line, unit: any(rule(party, line, unit) for rule in rules)


#: Topic → who writes it and who reads it, for every topic that there is.
RULES: Mapping[str, tuple[Rule, Rule]] = {
    "grant": (gateway, of_line),
    "link": (that_unit, either(of_line, gateway)),
    "unit_status": (that_unit, either(gateway, consumer(Reads.OPERATOR))),
    "roster": (gateway, any_unit),
    "trust": (gateway, any_unit),
    "labels": (gateway, consumer(Reads.DESK, Reads.OPERATOR)),
    "class_picture": (gateway, consumer(*Reads)),
    "alerts": (gateway, consumer(Reads.OPERATOR)),
    "gateway_status": (gateway, consumer(*Reads)),
}


@dataclass(frozen=True)
class Place:
    """One topic: its kind, and the line and unit in its name where it has them."""

    kind: str
    topic: str
    line: str = ""
    unit: str = ""

    def writer(self) -> Party:
        return next(party for party in PARTIES if self.may_write(party))

    def may_write(self, party: Party) -> bool:
        return RULES[self.kind][0](party, self.line, self.unit)

    def may_read(self, party: Party) -> bool:
        return RULES[self.kind][1](party, self.line, self.unit)


def every_topic() -> list[Place]:
    found: dict[str, Place] = {}
    for kind, maker in inspect.getmembers(topics, inspect.isfunction):
        if maker.__module__ != topics.__name__ or maker is topics.parse_line_topic:
            continue
        wanted = list(inspect.signature(maker).parameters)
        assert wanted[0] == "room" and set(wanted) <= {"room", "line", "unit"}, f"{kind}: {wanted}"
        for line, unit in PLACES:
            values = {"room": ROOM, "line": line, "unit": unit}
            topic = maker(*(values[name] for name in wanted))
            found[topic] = Place(kind, topic, line if "line" in wanted else "", unit if "unit" in wanted else "")
    return list(found.values())


TOPICS = every_topic()
FORBIDDEN = [
    (place, party) for place in TOPICS for party in PARTIES if place.kind in RULES and not place.may_write(party)
]
WILDCARDS = ("#", "moodline/#", "+/+/+/+/+/+", f"moodline/v1/{ROOM}/+", f"moodline/v1/{ROOM}/+/+", "$SYS/#")
NUMBERS = itertools.count()


def filters(party: Party) -> list[str]:
    """Everything that there is, by name and by all sorts of wildcards."""
    return [*(place.topic for place in TOPICS), *WILDCARDS, f"$share/{party.name}/#"]


def room_with_two_lines(folder: Path) -> RoomBroker:
    consumers = {party.name: party.reads for party in PARTIES if party.reads is not None}
    room = RoomBroker(folder, TAKE, units=2, consumers=consumers)
    room.admit_to_line("b", "b1")
    return room


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoomBroker]:
    require_mosquitto()
    room_broker = room_with_two_lines(tmp_path_factory.mktemp("access") / "room")
    room_broker.start()
    try:
        yield room_broker
    finally:
        room_broker.close()


@pytest.fixture(scope="module")
def everybody(room: RoomBroker) -> dict[str, MqttLink]:
    """A link of every party that has asked for every topic."""
    return {party.name: room.connected(party.name, subscriptions=filters(party)) for party in PARTIES}


@pytest.fixture
def links(everybody: dict[str, MqttLink]) -> dict[str, MqttLink]:
    """The same, with nothing of an earlier test in their queues."""
    for link in everybody.values():
        while link.next_event(0.0) is not None:
            pass
    return everybody


def heard(link: MqttLink, last: bytes) -> list[Received]:
    """All messages up to and with the first whose payload is `last`."""
    got = [wait_for(link, Received)]
    while got[-1].payload != last:
        got.append(wait_for(link, Received))
    return got


def say(links: Mapping[str, MqttLink], place: Place, *, retain: bool = False) -> bytes:
    """The topic's rightful writer says something new; what it said, once those who may read it have it."""
    payload = b"rightful %d" % next(NUMBERS)
    links[place.writer().name].publish(place.topic, payload, qos=1, retain=retain)
    return payload


def marker_for(party: Party) -> Place:
    """A topic that the party may read and others write."""
    return next(place for place in TOPICS if place.may_read(party) and not place.may_write(party))


def test_every_topic_has_a_rule_and_every_rule_a_topic() -> None:
    assert {place.kind for place in TOPICS} == set(RULES)


@pytest.mark.parametrize("place", TOPICS, ids=lambda place: place.topic.removeprefix(topics.ROOT))
def test_topic_reaches_those_who_may_read_it_and_nobody_else(links: dict[str, MqttLink], place: Place) -> None:
    payload = say(links, place)
    readers = [party for party in PARTIES if place.may_read(party)]
    for party in readers:
        assert heard(links[party.name], payload)[-1].topic == place.topic
    for party in PARTIES:
        if party not in readers:
            last = say(links, marker_for(party))
            assert payload not in [message.payload for message in heard(links[party.name], last)], party


@pytest.mark.parametrize(
    ("place", "party"), FORBIDDEN, ids=lambda part: getattr(part, "name", None) or part.topic.removeprefix(topics.ROOT)
)
def test_nobody_writes_what_is_not_theirs(links: dict[str, MqttLink], place: Place, party: Party) -> None:
    links[party.name].publish(place.topic, b"forged", qos=1, retain=True)
    assert wait_for(links[party.name], Refused).reason == "Not authorized"
    payload = say(links, place)
    for reader in PARTIES:
        if place.may_read(reader):
            assert b"forged" not in [message.payload for message in heard(links[reader.name], payload)], reader


def test_what_is_retained_reaches_those_who_may_read_it_and_nobody_else(tmp_path: Path) -> None:
    require_mosquitto()
    room = room_with_two_lines(tmp_path / "room")
    room.start()
    try:
        writers = {party.name: room.connected(party.name) for party in PARTIES}
        for place, party in FORBIDDEN:
            writers[party.name].publish(place.topic, b"forged", qos=1, retain=True)
            wait_for(writers[party.name], Refused)
        for place in TOPICS:
            say(writers, place, retain=True)
        for party in PARTIES:
            writers[party.name].stop()
            writers[party.name] = link = taken(room.link(party.name, subscriptions=filters(party)))
            messages = heard(link, say(writers, marker_for(party)))
            retained = {message.topic: message.payload for message in messages if message.retained}
            assert set(retained) == {place.topic for place in TOPICS if place.may_read(party)}, party
            assert b"forged" not in retained.values()
    finally:
        room.close()
