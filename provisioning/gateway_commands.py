"""`moodline-provision gateway` and `consumer`: set the gateway machine up from an open room authority."""

from __future__ import annotations

import argparse
import os
import pwd
from pathlib import Path
from typing import Final

from device.config import Broker
from device.errors import ConfigError
from device.system.keys import load_verifying_key
from provisioning import boxes, keys
from provisioning.authority import RoomAuthority
from provisioning.authority_commands import add_passphrase, open_authority
from provisioning.certificates import MEMBER_LIFE, Reads, Role
from provisioning.classroom import Classroom, read_classroom
from provisioning.enrolment_messages import REGISTRAR_PORT
from provisioning.gateway import BROKER, BROKER_SERVICE, GatewayPlaces, GatewayPlan, admit_gateway, write_gateway
from provisioning.registrar import write_registrar_box
from provisioning.services import BROKER_USER, STATE_ROOT

EXITS: Final = "Exit codes: 0 done; 2 it cannot be done."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add gateway and consumer."""
    gateway = commands.add_parser(
        "gateway",
        help="set up this machine as the room's gateway: broker, registrar and gateway program",
        description="Make the keys of gateway and broker on this machine, admit both, and write all that they read."
        " Running it again brings it up to date; no key is made twice.",
        epilog=EXITS,
    )
    gateway.add_argument("folder", type=Path, metavar="FOLDER", help="the room authority's folder")
    gateway.add_argument("--root", type=Path, default=Path(STATE_ROOT), metavar="DIR", help="default: %(default)s")
    gateway.add_argument(
        "--host",
        action="append",
        required=True,
        metavar="HOST",
        help="name or address of this machine on the room's network; may be given several times",
    )
    gateway.add_argument("--csv", type=Path, metavar="FILE", help="the room's desks, for their names and their places")
    gateway.add_argument("--port", type=int, default=8_883, help="the broker's port (default %(default)s)")
    gateway.add_argument("--web-port", type=int, default=8_080, help="the page's port (default %(default)s)")
    gateway.add_argument(
        "--replace", action="store_true", help="this machine takes the place of a dead gateway, with a new key"
    )
    gateway.add_argument(
        "--broker-user", default=None, help=f"who runs mosquitto (default: {BROKER_USER} as root, else you)"
    )
    gateway.add_argument(
        "--broker-pid-file", type=Path, metavar="FILE", help="for a mosquitto that systemd does not run"
    )
    gateway.add_argument(
        "--certificate-days",
        type=int,
        default=MEMBER_LIFE.days,
        metavar="N",
        help="life of the room's certificates; they are renewed when a third of it is left (default %(default)s)",
    )
    add_passphrase(gateway)
    gateway.set_defaults(command=_gateway)

    consumer = commands.add_parser(
        "consumer",
        help="admit a program that reads verified labels, and write what it needs",
        description="Admit a consumer by its role and write its certificate files and broker.toml. Its key is made in"
        " OUT, or is given as a public key.",
        epilog=EXITS,
    )
    consumer.add_argument("folder", type=Path, metavar="FOLDER", help="the room authority's folder")
    consumer.add_argument("name", metavar="NAME")
    consumer.add_argument("--reads", choices=[each.value for each in Reads], default=Reads.CLASS.value)
    consumer.add_argument("--host", required=True, help="the broker's name or address")
    consumer.add_argument("--port", type=int, default=8_883, help="the broker's port (default %(default)s)")
    consumer.add_argument("--key", type=Path, metavar="PEM", help="its public key, if it was made elsewhere")
    consumer.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the consumer's files")
    add_passphrase(consumer)
    consumer.set_defaults(command=_consumer)


def _gateway(options: argparse.Namespace) -> int:
    authority = open_authority(options)
    if authority.policy() is None:
        raise ConfigError(
            f"{options.folder}: the room has no deployment policy, and nothing runs without one.",
            next_step=f"Run: moodline-provision policy {options.folder}",
        )
    room = read_classroom(options.csv) if options.csv is not None else Classroom(())
    plan = GatewayPlan(
        hosts=tuple(dict.fromkeys(options.host)),
        port=options.port,
        web_port=options.web_port,
        run_broker_as=options.broker_user or _broker_user(),
        desks=room.names,
        places=room.places,
        certificate_days=options.certificate_days,
    )
    places = admit_gateway(options.root, authority, plan, replace=options.replace)
    roster = authority.publish()
    write_gateway(places, authority, plan)
    write_registrar_box(
        places.registrar,
        authority,
        broker_port=plan.port,
        broker_name=BROKER,
        certificate_days=options.certificate_days,
        gateway=places.gateway,
        broker=places.broker,
        broker_service=None if options.broker_pid_file else BROKER_SERVICE,
        broker_pid_file=options.broker_pid_file,
    )
    _tell(authority, places, plan, roster.epoch)
    return 0


def _broker_user() -> str:
    return BROKER_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _tell(authority: RoomAuthority, places: GatewayPlaces, plan: GatewayPlan, epoch: int) -> None:
    print(f"Gateway of room {authority.room}, roster of epoch {epoch}")
    print(f"broker     {places.broker}   port {plan.port}, as {', '.join(plan.hosts)}")
    print(f"gateway    {places.config}   page on port {plan.web_port} of this machine")
    print(f"registrar  {places.registrar}   port {REGISTRAR_PORT}")
    print(f"Boxes pin the registrar's key digest {authority.registrar_digest.hex()}")
    print("Next: moodline-provision seeds (cards for the boxes), then start the three services.")


def _consumer(options: argparse.Namespace) -> int:
    authority = open_authority(options)
    boxes.make_folder(options.out)
    if options.key is not None:
        key = load_verifying_key(options.key)
    else:
        key = keys.signing_key(options.out / boxes.KEY_FILE).public_key()
    authority.admit(options.name, Role.CONSUMER, key, reads=Reads(options.reads))
    authority.publish()
    broker = Broker(host=options.host, port=options.port, server_name=BROKER)
    boxes.write_consumer_box(options.out, authority, options.name, broker)
    print(f"{options.name} may read: {options.reads}. Its files are in {options.out}.")
    print("Now publish the change to the broker: moodline-provision publish --authority FOLDER")
    return 0
