"""Folders of the boxes: what a unit, the gateway, a consumer and the broker find on their disk.

A configuration file is rendered from the very struct that `device.config` reads it into, and holds only what differs
from the defaults.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from device.config import Broker, GatewayConfig, Section, Trust, UnitConfig
from device.errors import ConfigError
from device.system.storage import SESSION_FILE, SessionCounter, read, write_durably
from provisioning import keys
from provisioning.authority import (
    CA_CERTIFICATE,
    POLICY_FILE,
    REVOKED_FILE,
    ROSTER_FILE,
    TRUST_FILE,
    VERIFYING_KEY,
    RoomAuthority,
)
from provisioning.broker import ACCESS_FILE, CONFIG_FILE, BrokerSettings, Member, access_list, configuration
from provisioning.certificates import Role

UNIT_FILE: Final = "device.toml"
GATEWAY_FILE: Final = "gateway.toml"
KEY_FILE: Final = "key.pem"
OPENING_KEY_FILE: Final = "opening-key.pem"
CERTIFICATE_FILE: Final = "certificate.pem"
AUTHORITY_FILE: Final = "authority.pem"
STATE_FOLDER: Final = "state"
PUBLIC_FILE_BYTES: Final = 2 << 20


@dataclass(frozen=True)
class Credentials:
    """What a consumer needs for mutual TLS; `device.publish.mqtt` takes it."""

    key: Path
    certificate: Path
    certificate_authority: Path


def credentials_in(folder: Path) -> Credentials:
    """The credentials that lie in a box's folder."""
    return Credentials(folder / KEY_FILE, folder / CERTIFICATE_FILE, folder / CA_CERTIFICATE)


def trust_in(folder: Path) -> Trust:
    """The trust section of a box whose files lie in `folder`."""
    return Trust(
        key=folder / KEY_FILE,
        certificate=folder / CERTIFICATE_FILE,
        certificate_authority=folder / CA_CERTIFICATE,
        room_authority_key=folder / VERIFYING_KEY,
        roster=folder / ROSTER_FILE,
        policy=folder / POLICY_FILE,
    )


def render(config: Section, folder: Path) -> str:
    """A configuration as TOML: entries that differ from their default; paths below `folder` relative to it."""
    lines: list[str] = []
    _render_table(config, folder, "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _render_table(section: Section, folder: Path, prefix: str, lines: list[str]) -> None:
    tables: list[tuple[str, Section]] = []
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if field.default is not msgspec.NODEFAULT and value == field.default:
            continue
        if field.default_factory is not msgspec.NODEFAULT and value == field.default_factory():
            continue
        if isinstance(value, Section):
            tables.append((f"{prefix}{field.name}", value))
        elif value is not None:
            lines.append(f"{field.name} = {_toml_value(value, folder)}")
    for name, table in tables:
        lines.extend(["", f"[{name}]"])
        _render_table(table, folder, f"{name}.", lines)


def _toml_value(value: Any, folder: Path) -> str:
    if isinstance(value, Path):
        return json.dumps(str(value.relative_to(folder) if value.is_relative_to(folder) else value.absolute()))
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{json.dumps(key)} = {_toml_value(item, folder)}" for key, item in value.items()) + " }"
        )
    return json.dumps(value, ensure_ascii=False)


def write_unit_box(folder: Path, authority: RoomAuthority, config: UnitConfig) -> None:
    """device.toml, public files and a session counter. The key must lie there already: it is made on the box.

    Raises ConfigError when the unit was not admitted, StorageError.
    """
    _copy_trust(folder, authority, config.unit)
    make_folder(config.state)
    SessionCounter(config.state / SESSION_FILE).create()
    write_durably(folder / UNIT_FILE, render(config, folder).encode())


def write_gateway_box(folder: Path, authority: RoomAuthority, config: GatewayConfig) -> None:
    """gateway.toml, public files and the trust bundle for the units. The keys must lie there already.

    Raises ConfigError, StorageError.
    """
    _copy_trust(folder, authority, config.gateway)
    _copy(authority.folder / TRUST_FILE, folder / TRUST_FILE)
    make_folder(config.state)
    write_durably(folder / GATEWAY_FILE, render(config, folder).encode())


def write_consumer_box(folder: Path, authority: RoomAuthority, name: str, broker: Broker) -> None:
    """Certificate files and broker.toml (where the broker is). Raises ConfigError, StorageError."""
    _copy(authority.certificate_path(name), folder / CERTIFICATE_FILE)
    _copy(authority.folder / CA_CERTIFICATE, folder / CA_CERTIFICATE)
    write_durably(folder / "broker.toml", render(broker, folder).encode())


def write_broker_box(
    folder: Path, authority: RoomAuthority, settings: BrokerSettings, *, name: str = "broker", staging: str = ""
) -> None:
    """mosquitto's configuration, access list, certificate and revocation list.

    Whoever is revoked is left out of the access list. `staging` is appended to it as it is: a demo room's only.
    Raises ConfigError, StorageError.
    """
    make_folder(folder / "store")
    _copy(authority.certificate_path(name), folder / CERTIFICATE_FILE)
    _copy(authority.folder / CA_CERTIFICATE, folder / AUTHORITY_FILE)
    _copy(authority.folder / REVOKED_FILE, folder / REVOKED_FILE)
    members = [
        Member(entry.name, entry.role, entry.line, entry.reads) for entry in authority.members if not entry.revoked
    ]
    write_durably(folder / ACCESS_FILE, (access_list(authority.room, members) + staging).encode())
    write_durably(folder / CONFIG_FILE, configuration(folder, settings).encode())


def make_unit_key(folder: Path, authority: RoomAuthority, name: str, line: str) -> None:
    """On the box: make its key; at the authority: admit it. Raises ConfigError, StorageError."""
    make_folder(folder)
    authority.admit(name, Role.UNIT, keys.signing_key(folder / KEY_FILE).public_key(), line=line)


def make_folder(folder: Path) -> Path:
    """The folder, made for its owner alone when it is not there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _copy_trust(folder: Path, authority: RoomAuthority, name: str) -> None:
    _copy(authority.certificate_path(name), folder / CERTIFICATE_FILE)
    for public in (CA_CERTIFICATE, VERIFYING_KEY, ROSTER_FILE, POLICY_FILE):
        _copy(authority.folder / public, folder / public)


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        raise ConfigError(
            f"{source}: is missing.", next_step="Admit the member and publish the roster before writing its box."
        )
    write_durably(target, read(source, limit=PUBLIC_FILE_BYTES), mode=keys.WORLD_READABLE)
