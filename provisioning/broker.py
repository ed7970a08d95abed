"""The room's mosquitto configuration and access list, rendered from the members of the room.

What a member may publish and read follows from its role and its line, topic by topic; everything else is refused.
Names come from certificates alone: `use_identity_as_username` takes the common name as user name, and
`use_username_as_clientid` takes it as client id too, so that no member can take over another member's session.

What mosquitto 2.0.11 (Debian 12) makes of SIGHUP, each found out against the real one (tests/integration):

- It reads again, and drops nobody: access list, revocation list, its own certificate and key, the authorities that it
  believes, and the number of connections. Rights change for open sessions too. TLS tickets of before are no longer
  taken, so nobody comes back past the revocation list by an old one.
- It does not read again: the limits of packets, queues and keepalive, and the port. A change of those asks for a
  restart, which ends every connection once; sessions, and what is queued and retained, outlive it.
- It keeps nothing that it cannot read anew: without a sound access list everybody may do everything, and without a
  sound revocation list every revoked member may come back. So `check_files` stands before every reload, and files are
  replaced whole. They must belong to the user that mosquitto runs as, who reads them then.
- It puts every sleeping session to sleep a second time, which ruins its list of sessions to end (use after free): with
  two of them in the list it crashes when they end, some time after the reload. So no program of ours leaves a session
  behind, and sessions of MQTT 3.1.1, which end never, are not in that list. A consumer that asks for a session of its
  own still can: then mosquitto falls, systemd starts it again, and no label is lost. Mended upstream in 2025.
- It ends no session whose member has lost its certificate or its rights: `provisioning.eviction` does.
"""

from __future__ import annotations

import os
import pwd
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.errors import ConfigError
from device.messages import topics
from device.system.storage import read
from provisioning.certificates import Reads, Role

CONFIG_FILE: Final = "mosquitto.conf"
ACCESS_FILE: Final = "access.acl"
#: Authorities, own certificate, revocation list, own key: read again at each reload.
TLS_FILES: Final = ("authority.pem", "certificate.pem", "revoked.pem", "key.pem")
ACCESS_LINE: Final = re.compile(r"(#.*|user [a-z0-9-]+|topic (read|write|readwrite) [a-z0-9/+-]+)?")
LIST_BEGINS: Final = "-----BEGIN X509 CRL-----"
FILE_BYTES: Final = 1 << 20
WRITTEN_BY: Final = "# Written by moodline-provision from the room's members. Changes here are overwritten.\n"


@dataclass(frozen=True)
class Member:
    """Whom the broker lets in. `line` is set for units alone, `reads` for consumers: None is the same as OPERATOR."""

    name: str
    role: Role
    line: str | None = None
    reads: Reads | None = None


@dataclass(frozen=True)
class BrokerSettings:
    """Where the broker listens and what it bears. Times in seconds, sizes in bytes.

    Messages in flight and queued (by number and by bytes) are counted for each member. A packet holds the topic too;
    the largest that the room has is the trust bundle. When a queue is full, what comes then is dropped, for that member
    alone; the full queues of 45 members fit into the 256 MB that the broker's service may take. A member of MQTT 5 that
    asks for more silence than `keepalive_s` is held to it; mosquitto 2.0.11 lets one of MQTT 3.1.1 have what it asks.
    """

    port: int
    address: str = "127.0.0.1"
    run_as: str = "mosquitto"
    packet_bytes: int = 65_536
    inflight_messages: int = 20
    queued_messages: int = 5_000
    queued_bytes: int = 4 << 20
    connections: int = 200
    keepalive_s: int = 120
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
                f"topic read {topics.trust(room)}",
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
                f"topic write {topics.trust(room)}",
                f"topic write {topics.class_picture(room)}",
                f"topic write {topics.alerts(room)}",
                f"topic write {topics.gateway_status(room)}",
            ]
        case Role.CONSUMER:
            return [f"topic read {wanted}" for wanted in _readable(room, lines, member.reads or Reads.OPERATOR)]
        case Role.BROKER:
            return []


def _readable(room: str, lines: Iterable[str], reads: Reads) -> list[str]:
    filters = [topics.class_picture(room), topics.gateway_status(room)]
    if reads in (Reads.DESK, Reads.OPERATOR):
        filters.append(topics.labels(room, "+", "+"))
    if reads is Reads.OPERATOR:
        filters += [topics.alerts(room), *(topics.unit_status(room, line, "+") for line in lines)]
    return filters


def last_word(room: str, member: Member) -> str:
    """An access block for a unit that is being put out: its own status and nothing else, for a moment.

    It is appended to an access list in which the unit no longer stands (see `provisioning.eviction`).
    """
    assert member.line is not None
    return f"\nuser {member.name}\ntopic readwrite {topics.unit_status(room, member.line, member.name)}\n"


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


def members_in(access: str) -> frozenset[str]:
    """Who has rights by an access list that we have rendered."""
    return frozenset(line.removeprefix("user ") for line in access.splitlines() if line.startswith("user "))


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
max_queued_bytes {settings.queued_bytes}
max_keepalive {settings.keepalive_s}
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


def check_files(folder: Path) -> None:
    """Whether mosquitto may read the folder's files anew: it opens the room to everybody where it cannot.

    Raises ConfigError naming the first file that is missing, unsound, or unreadable for the user mosquitto runs as;
    StorageError.
    """
    account = _account(folder / CONFIG_FILE)
    for name in (CONFIG_FILE, ACCESS_FILE, *TLS_FILES):
        _check_readable(folder / name, account)
    rules = _content(folder / ACCESS_FILE).splitlines()
    for number, line in enumerate(rules, start=1):
        if not ACCESS_LINE.fullmatch(line):
            raise _unsound(folder / ACCESS_FILE, f"line {number} is no rule")
    if not members_in("\n".join(rules)):
        raise _unsound(folder / ACCESS_FILE, "names nobody")
    authority, certificate, revoked, key = (folder / name for name in TLS_FILES)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise _unsound(certificate, f"cannot be used with {key.name} ({error.strerror})") from error
    try:
        believed = x509.load_pem_x509_certificates(_content(authority).encode())
        _, *blocks = _content(revoked).split(LIST_BEGINS)
        lists = [x509.load_pem_x509_crl((LIST_BEGINS + block).encode()) for block in blocks]
        listed = [any(one.is_signature_valid(_ed25519(issuer)) for one in lists) for issuer in believed]
    except (ValueError, TypeError) as error:
        raise _unsound(revoked, f"or {authority.name} cannot be read ({error})") from error
    if not all(listed):
        raise _unsound(revoked, f"lacks the list of an authority in {authority.name}")


def _ed25519(certificate: x509.Certificate) -> Ed25519PublicKey:
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("its key is not Ed25519")
    return key


def _content(path: Path) -> str:
    return read(path, limit=FILE_BYTES).decode("utf-8", "replace")


def _account(config: Path) -> pwd.struct_passwd:
    if not config.exists():
        raise _unsound(config, "is missing")
    names = [line.removeprefix("user ") for line in _content(config).splitlines() if line.startswith("user ")]
    try:
        return pwd.getpwnam(names[0])
    except (IndexError, KeyError) as error:
        raise _unsound(config, "names no user of this machine") from error


def _check_readable(path: Path, account: pwd.struct_passwd) -> None:
    """As mosquitto reads when it has given up root: every folder above must let its user through, too."""
    groups = set(os.getgrouplist(account.pw_name, account.pw_gid))
    for step, owner, group, others in [
        (path, 0o400, 0o040, 0o004),
        *((up, 0o100, 0o010, 0o001) for up in path.parents),
    ]:
        try:
            found = step.stat()
        except OSError as error:
            raise _unsound(step, f"cannot be read ({error.strerror})") from error
        mine = owner if found.st_uid == account.pw_uid else group if found.st_gid in groups else others
        if account.pw_uid != 0 and not found.st_mode & mine:
            raise _unsound(step, f"cannot be read by {account.pw_name}, whom mosquitto runs as")


def _unsound(path: Path, what: str) -> ConfigError:
    return ConfigError(f"{path}: {what}.", next_step="Write the broker's files anew; mosquitto was not told to reload.")
