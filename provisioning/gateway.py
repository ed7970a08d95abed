"""Set up the classroom gateway from an open room authority: its own keys, the broker's, and the registrar's folder.

Everything lies below one root: `gateway/`, `broker/`, `registrar/`. Keys of gateway and broker are made here, on the
gateway, once; running it again brings certificates, roster, policy and configuration up to date and changes no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from device.config import Broker, GatewayConfig, LineLimits, Web
from device.messages.sealing import Opener
from provisioning import boxes, keys, services
from provisioning.authority import RoomAuthority
from provisioning.broker import BrokerSettings
from provisioning.certificates import MEMBER_LIFE, Role

GATEWAY: Final = "gateway"
#: Also the name in its certificate by which boxes know the broker, whatever its address is.
BROKER: Final = "broker"
#: The systemd service of the room's mosquitto.
BROKER_SERVICE: Final = services.BROKER.name


@dataclass(frozen=True, kw_only=True)
class GatewayPlan:
    """`hosts` are names and addresses under which boxes reach this machine; the broker listens on `address`, and the
    gateway reaches it at `broker_host`."""

    hosts: tuple[str, ...]
    address: str = "0.0.0.0"
    broker_host: str = "127.0.0.1"
    port: int = 8_883
    web_port: int = 8_080
    run_broker_as: str = "mosquitto"
    autosave_s: int = 30
    certificate_days: int = MEMBER_LIFE.days
    desks: Mapping[str, str]
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    limits: LineLimits = field(default_factory=LineLimits)


@dataclass(frozen=True)
class GatewayPlaces:
    """Where the parts of a gateway lie."""

    root: Path

    @property
    def gateway(self) -> Path:
        """The gateway program's folder."""
        return self.root / "gateway"

    @property
    def config(self) -> Path:
        """gateway.toml"""
        return self.gateway / boxes.GATEWAY_FILE

    @property
    def broker(self) -> Path:
        """The folder with mosquitto.conf."""
        return self.root / "broker"

    @property
    def registrar(self) -> Path:
        """The registrar's folder."""
        return self.root / "registrar"


def admit_gateway(root: Path, authority: RoomAuthority, plan: GatewayPlan, *, replace: bool = False) -> GatewayPlaces:
    """Make the keys of gateway and broker and admit both.

    With `replace` they take the place of a dead machine's: new keys under the old names. Raises ConfigError,
    StorageError.
    """
    places = GatewayPlaces(root.absolute())
    broker_key = keys.signing_key(boxes.make_folder(places.broker) / boxes.KEY_FILE).public_key()
    gateway_key = keys.signing_key(boxes.make_folder(places.gateway) / boxes.KEY_FILE).public_key()
    opener = Opener(keys.opening_key(places.gateway / boxes.OPENING_KEY_FILE, authority.suite), authority.suite)
    if replace:
        authority.replace_gateway(GATEWAY, gateway_key, opener.public_key)
        authority.renew(BROKER, broker_key)
    hosts = tuple(dict.fromkeys(("localhost", "127.0.0.1", *plan.hosts)))
    life = timedelta(days=plan.certificate_days)
    authority.admit(BROKER, Role.BROKER, broker_key, hosts=hosts, life=life)
    authority.admit(GATEWAY, Role.GATEWAY, gateway_key, opening_key=opener.public_key, life=life)
    return places


def write_gateway(places: GatewayPlaces, authority: RoomAuthority, plan: GatewayPlan, *, staging: str = "") -> None:
    """Write what gateway and broker read, after `authority.publish()`; `staging` as in `write_broker`.

    Raises ConfigError, StorageError.
    """
    config = GatewayConfig(
        room=authority.room,
        gateway=GATEWAY,
        state=places.gateway / boxes.STATE_FOLDER,
        opening_key=places.gateway / boxes.OPENING_KEY_FILE,
        trust=boxes.trust_in(places.gateway),
        broker=Broker(host=plan.broker_host, port=plan.port),
        web=Web(port=plan.web_port),
        limits=plan.limits,
        desks=dict(plan.desks),
        places=dict(plan.places),
    )
    boxes.write_gateway_box(places.gateway, authority, config)
    write_broker(places, authority, plan, staging=staging)


def write_broker(places: GatewayPlaces, authority: RoomAuthority, plan: GatewayPlan, *, staging: str = "") -> None:
    """Write mosquitto's files; `staging` is appended to the access list: a demo room's only. Raises as above."""
    settings = BrokerSettings(
        port=plan.port, address=plan.address, run_as=plan.run_broker_as, autosave_s=plan.autosave_s
    )
    boxes.write_broker_box(places.broker, authority, settings, name=BROKER, staging=staging)
