"""The rendered access list and configuration. What mosquitto makes of them is tested in tests/integration."""

from __future__ import annotations

import inspect
from pathlib import Path

from device.messages import topics
from provisioning.broker import BrokerSettings, Member, access_list, configuration
from provisioning.certificates import Role
from tests.fakes.mqtt import matches

MEMBERS = [
    Member("broker", Role.BROKER),
    Member("gateway", Role.GATEWAY),
    Member("b1", Role.UNIT, "b"),
    Member("b2", Role.UNIT, "b"),
    Member("c1", Role.UNIT, "c"),
    Member("reader", Role.CONSUMER),
]


def rules(members: list[Member] = MEMBERS) -> dict[str, dict[str, list[str]]]:
    """Member → `write` and `read` → filters."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in access_list("r", members).splitlines():
        match line.split(" "):
            case ["user", name]:
                block = found.setdefault(name, {"write": [], "read": []})
            case ["topic", access, topic_filter]:
                block[access].append(topic_filter)
    return found


def may(name: str, access: str, topic: str) -> bool:
    return any(matches(topic_filter, topic) for topic_filter in rules()[name][access])


def test_nobody_has_a_rule_beyond_their_room() -> None:
    for name, block in rules().items():
        for topic_filter in block["write"] + block["read"]:
            assert topic_filter.startswith("moodline/v1/r/"), name
            assert "#" not in topic_filter, name


def test_unit_writes_its_own_link_and_status_and_nothing_else() -> None:
    assert rules()["b1"]["write"] == ["moodline/v1/r/b/link/b1", "moodline/v1/r/b/status/b1"]


def test_unit_reads_its_own_line_alone() -> None:
    assert may("b1", "read", topics.link("r", "b", "b2"))
    assert may("b1", "read", topics.grant("r", "b"))
    for foreign in (topics.link("r", "c", "c1"), topics.grant("r", "c"), topics.labels("r", "b", "b1")):
        assert not may("b1", "read", foreign)


def test_consumer_writes_nothing_and_reads_nothing_of_a_line() -> None:
    assert rules()["reader"]["write"] == []
    for hidden in (topics.link("r", "b", "b1"), topics.grant("r", "b"), topics.unit_status("r", "b", "b1")):
        assert not may("reader", "read", hidden)


def test_gateway_grants_on_every_line_and_signs_for_no_unit() -> None:
    for line, unit in (("b", "b1"), ("c", "c1")):
        assert may("gateway", "write", topics.grant("r", line))
        assert may("gateway", "write", topics.labels("r", line, unit))
        assert not may("gateway", "write", topics.link("r", line, unit))
        assert not may("gateway", "write", topics.unit_status("r", line, unit))


def test_every_topic_has_somebody_who_writes_and_somebody_who_reads_it() -> None:
    arguments = {"room": "r", "line": "b", "unit": "b1"}
    makers = [
        maker
        for _, maker in inspect.getmembers(topics, inspect.isfunction)
        if maker.__module__ == topics.__name__ and maker.__name__ != "parse_line_topic"
    ]
    assert len(makers) >= 8
    for maker in makers:
        topic = maker(*(arguments[name] for name in inspect.signature(maker).parameters))
        for access in ("write", "read"):
            assert any(may(name, access, topic) for name in rules()), f"nobody may {access} {topic}"


def test_broker_and_strangers_have_no_rights() -> None:
    assert set(rules()) == {"gateway", "b1", "b2", "c1", "reader"}


def test_configuration_lets_nobody_in_without_a_certificate() -> None:
    entries = dict(
        line.split(" ", 1)
        for line in configuration(Path("/etc/moodline"), BrokerSettings(port=8_883)).splitlines()
        if line and not line.startswith(("#", "log_type"))
    )
    assert entries["allow_anonymous"] == "false"
    assert entries["require_certificate"] == "true"
    assert entries["use_identity_as_username"] == "true"
    assert entries["use_username_as_clientid"] == "true"
    assert entries["tls_version"] == "tlsv1.2"
    assert entries["crlfile"] == "/etc/moodline/revoked.pem"
    assert entries["listener"] == "8883 127.0.0.1"
