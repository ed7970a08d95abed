"""The room's mosquitto configuration and access list, rendered from the members of the room.

What a member may publish and read follows from its role and its line, topic by topic; everything else is refused.
Names come from certificates alone: `use_identity_as_username` takes the common name as user name, and
`use_username_as_clientid` takes it as client id too, so that no member can take over another member's session.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.messages import topics
from provisioning.certificates import Role

CONFIG_FILE: Final = "mosquitto.conf"
ACCESS_FILE: Final = "access.acl"
WRITTEN_BY: Final = "# Written by moodline-provision from the room's members. Changes here are overwritten.\n"


@dataclass(frozen=True)
class Member:
    """Whom the broker lets in. `line` is set for units alone."""

    name: str
    role: Role
    line: str | None = None


@dataclass(frozen=True)
class BrokerSettings:
    """Where the broker listens and what it bears. Times in seconds, sizes in bytes."""

    port: int
    address: str = "127.0.0.1"
    run_as: str = "mosquitto"
    packet_bytes: int = 65_536
    inflight_messages: int = 20
    queued_messages: int = 5_000
    connections: int = 200
    autosave_s: int = 30


def rights(room: str, lines: Iterable[str], member: Member) -> list[str]:
    """The member's access rules in mosquitto.conf's `acl_file` form, most specific first."""
    match member.role:
        case Role.UNIT:
            assert member.line is not None
            return [
                f"topic write {topics.link(room, member.line, member.name)}",
                f"topic write {topics.unit_status(room, member.line, member.name)}",
                f"topic read {topics.link(room, member.line, '+')}",
                f"topic read {topics.grant(room, member.line)}",
                f"topic read {topics.roster(room)}",
            ]
        case Role.GATEWAY:
            on_lines = [
                rule
                for line in lines
                for rule in (
                    f"topic write {topics.grant(room, line)}",
                    f"topic read {topics.link(room, line, '+')}",
                    f"topic read {topics.unit_status(room, line, '+')}",
                    f"topic write {topics.labels(room, line, '+')}",
                )
            ]
            return [
                *on_lines,
                f"topic write {topics.roster(room)}",
                f"topic write {topics.class_picture(room)}",
                f"topic write {topics.class_picture(room)}",
                f"topic write {topics.alerts(room)}",
                f"topic write {topics.gateway_status(room)}",
            ]
        case Role.CONSUMER:
            return [
                f"topic read {topics.labels(room, '+', '+')}",
                f"topic read {topics.class_picture(room)}",
                f"topic read {topics.class_picture(room)}",
                f"topic read {topics.alerts(room)}",
                f"topic read {topics.gateway_status(room)}",
            ]
        case Role.BROKER:
            return []


def access_list(room: str, members: Iterable[Member]) -> str:
    """The whole access list: one block per member; who is not in it may do nothing."""
    everybody = sorted(members, key=lambda member: (member.role.value, member.name))
    lines = sorted({member.line for member in everybody if member.line is not None})
    blocks = [
        "\n".join([f"user {member.name}", *rights(room, lines, member)])
        for member in everybody
        if member.role is not Role.BROKER
    ]
    return WRITTEN_BY + "\n" + "\n\n".join(blocks) + "\n"


def configuration(folder: Path, settings: BrokerSettings) -> str:
    """mosquitto.conf for a broker whose files lie in `folder` (mosquitto asks for absolute paths)."""
    here = folder.absolute()
    return f"""{WRITTEN_BY}
listener {settings.port} {settings.address}
protocol mqtt
max_connections {settings.connections}

# Mutual TLS; a member's name and session are those of its certificate.
cafile {here}/authority.pem
certfile {here}/certificate.pem
keyfile {here}/key.pem
crlfile {here}/revoked.pem
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {here}/{ACCESS_FILE}

# Sessions, queued and retained messages outlive the broker, up to the last {settings.autosave_s} seconds.
persistence true
persistence_location {here}/store/
autosave_interval {settings.autosave_s}
autosave_on_changes false

max_packet_size {settings.packet_bytes}
max_inflight_messages {settings.inflight_messages}
max_queued_messages {settings.queued_messages}
persistent_client_expiration 1d
# A small message must not wait for the acknowledgement of the one before it.
set_tcp_nodelay true

user {settings.run_as}
log_dest stderr
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type error
log_type warning
log_type notice
connection_messages true
"""
