"""The rendered access list and configuration. What mosquitto makes of them is tested in tests/integration."""

from __future__ import annotations

import inspect
import os
import pwd
from pathlib import Path

import pytest

from device.errors import ConfigError
from device.messages import topics
from provisioning import keys
from provisioning.broker import (
    ACCESS_FILE,
    CONFIG_FILE,
    BrokerSettings,
    Member,
    access_list,
    check_files,
    configuration,
    last_word,
    members_in,
)
from provisioning.certificates import CertificateAuthority, Reads, Role, now_utc, pem
from tests.fakes.mqtt import matches

MEMBERS = [
    Member("broker", Role.BROKER),
    Member("gateway", Role.GATEWAY),
    Member("b1", Role.UNIT, "b"),
    Member("b2", Role.UNIT, "b"),
    Member("c1", Role.UNIT, "c"),
    Member("screen", Role.CONSUMER, reads=Reads.CLASS),
    Member("book", Role.CONSUMER, reads=Reads.DESK),
    Member("office", Role.CONSUMER, reads=Reads.OPERATOR),
    Member("reader", Role.CONSUMER),
]
CONSUMERS = ("screen", "book", "office", "reader")


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


@pytest.mark.parametrize("name", CONSUMERS)
def test_consumer_writes_nothing_and_reads_nothing_of_a_line(name: str) -> None:
    assert rules()[name]["write"] == []
    for hidden in (topics.link("r", "b", "b1"), topics.grant("r", "b"), topics.roster("r"), topics.trust("r")):
        assert not may(name, "read", hidden)


def test_consumer_reads_by_its_role() -> None:
    readers = {
        topics.class_picture("r"): CONSUMERS,
        topics.gateway_status("r"): CONSUMERS,
        topics.labels("r", "b", "b1"): ("book", "office", "reader"),
        topics.alerts("r"): ("office", "reader"),
        topics.unit_status("r", "b", "b1"): ("office", "reader"),
        topics.unit_status("r", "c", "c1"): ("office", "reader"),
    }
    for topic, expected in readers.items():
        assert tuple(name for name in CONSUMERS if may(name, "read", topic)) == expected, topic


def test_consumer_without_a_role_of_an_older_entry_reads_as_an_operator() -> None:
    assert rules()["reader"] == rules()["office"]


def test_no_rule_stands_twice() -> None:
    for name, block in rules().items():
        for access in ("write", "read"):
            assert len(block[access]) == len(set(block[access])), name


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
    assert len(makers) >= 9
    for maker in makers:
        topic = maker(*(arguments[name] for name in inspect.signature(maker).parameters))
        for access in ("write", "read"):
            assert any(may(name, access, topic) for name in rules()), f"nobody may {access} {topic}"


def test_broker_and_strangers_have_no_rights() -> None:
    assert set(rules()) == {"gateway", "b1", "b2", "c1", *CONSUMERS}
    assert members_in(access_list("r", MEMBERS)) == set(rules())


def test_unit_that_is_put_out_has_its_own_status_and_nothing_else() -> None:
    assert last_word("r", Member("b1", Role.UNIT, "b")).split("\n") == [
        "",
        "user b1",
        "topic readwrite moodline/v1/r/b/status/b1",
        "",
    ]


def entries(settings: BrokerSettings) -> dict[str, str]:
    return dict(
        line.split(" ", 1)
        for line in configuration(Path("/etc/moodline"), settings).splitlines()
        if line and not line.startswith(("#", "log_type"))
    )


def test_every_limit_of_the_settings_is_in_the_configuration() -> None:
    settings = BrokerSettings(
        port=1,
        packet_bytes=101,
        inflight_messages=102,
        queued_messages=103,
        queued_bytes=104,
        connections=105,
        keepalive_s=106,
        autosave_s=107,
    )
    limits = {
        "max_packet_size": "101",
        "max_inflight_messages": "102",
        "max_queued_messages": "103",
        "max_queued_bytes": "104",
        "max_connections": "105",
        "max_keepalive": "106",
        "autosave_interval": "107",
        "persistence": "true",
        "persistence_location": "/etc/moodline/store/",
    }
    assert limits.items() <= entries(settings).items()


def test_configuration_lets_nobody_in_without_a_certificate() -> None:
    found = entries(BrokerSettings(port=8_883))
    assert found["allow_anonymous"] == "false"
    assert found["require_certificate"] == "true"
    assert found["use_identity_as_username"] == "true"
    assert found["use_username_as_clientid"] == "true"
    assert found["tls_version"] == "tlsv1.2"
    assert found["crlfile"] == "/etc/moodline/revoked.pem"
    assert found["listener"] == "8883 127.0.0.1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A broker's folder as it should be."""
    ca = CertificateAuthority.create("r", keys.signing_key(tmp_path / "ca.key"), now_utc())
    folder = tmp_path / "broker"
    folder.mkdir()
    own = ca.issue("broker", Role.BROKER, keys.signing_key(folder / "key.pem").public_key(), now_utc())
    (folder / "certificate.pem").write_bytes(pem(own))
    (folder / "authority.pem").write_bytes(pem(ca.certificate))
    (folder / "revoked.pem").write_bytes(pem(ca.revocation_list([7], 1, now_utc())))
    (folder / ACCESS_FILE).write_text(access_list("r", MEMBERS))
    user = pwd.getpwuid(os.geteuid()).pw_name
    (folder / CONFIG_FILE).write_text(configuration(folder, BrokerSettings(port=1, run_as=user)))
    return folder


def test_sound_files_may_be_read_anew(folder: Path) -> None:
    check_files(folder)
    (folder / ACCESS_FILE).write_text(access_list("r", MEMBERS) + last_word("r", MEMBERS[2]))
    check_files(folder)


@pytest.mark.parametrize(
    "name", [ACCESS_FILE, CONFIG_FILE, "revoked.pem", "certificate.pem", "authority.pem", "key.pem"]
)
@pytest.mark.parametrize("content", [None, b"rubbish\n", b""])
def test_files_that_would_open_the_room_are_refused_before_mosquitto_reads_them(
    folder: Path, name: str, content: bytes | None
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match="mosquitto was not told to reload"):
        check_files(folder)


def test_second_authority_needs_a_revocation_list_of_its_own(folder: Path, tmp_path: Path) -> None:
    other = CertificateAuthority.create("r", keys.signing_key(tmp_path / "other.key"), now_utc())
    with (folder / "authority.pem").open("ab") as stream:
        stream.write(pem(other.certificate))
    with pytest.raises(ConfigError, match=r"revoked.pem: lacks the list of an authority"):
        check_files(folder)
    with (folder / "revoked.pem").open("ab") as stream:
        stream.write(pem(other.revocation_list([], 1, now_utc())))
    check_files(folder)


def test_revocation_list_and_key_of_somebody_else_are_refused(folder: Path, tmp_path: Path) -> None:
    other = CertificateAuthority.create("r", keys.signing_key(tmp_path / "other.key"), now_utc())
    right = (folder / "revoked.pem").read_bytes()
    (folder / "revoked.pem").write_bytes(pem(other.revocation_list([], 2, now_utc())))
    with pytest.raises(ConfigError, match=r"revoked.pem: lacks the list of an authority"):
        check_files(folder)
    (folder / "revoked.pem").write_bytes(right + pem(other.revocation_list([], 2, now_utc())))
    check_files(folder)
    (folder / "key.pem").unlink()
    keys.signing_key(folder / "key.pem")
    with pytest.raises(ConfigError, match=r"certificate.pem: cannot be used with key.pem"):
        check_files(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("name", [ACCESS_FILE, "key.pem"])
def test_files_that_mosquittos_user_cannot_read_are_refused(folder: Path, name: str) -> None:
    nobody = pwd.getpwnam("nobody")
    (folder / CONFIG_FILE).write_text(configuration(folder, BrokerSettings(port=1, run_as="nobody")))
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    for parent in folder.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    check_files(folder)
    os.chown(folder / name, 0, 0)
    (folder / name).chmod(0o600)
    with pytest.raises(ConfigError, match="cannot be read by nobody, whom mosquitto runs as"):
        check_files(folder)
