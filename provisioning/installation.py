"""What is installed on a unit and on a gateway machine: one description, and everything that is rendered from it.

Users, folders, services, programs, ports and settings of a role stand here once. The installer, the Debian package, and
the tables of docs/installation.md take them from here; the same description always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from provisioning import services
from provisioning.services import (
    BROKER_USER,
    GATEWAY_USER,
    REGISTRAR_USER,
    SETTINGS_ROOT,
    STATE_ROOT,
    UNIT_USER,
    Service,
)

PROGRAM_ROOT: Final = "/opt/moodline"
LIBRARY: Final = f"{PROGRAM_ROOT}/lib"
ENVIRONMENT: Final = f"{PROGRAM_ROOT}/venv"
SYSTEMD: Final = "/usr/lib/systemd/system"
EXECUTABLE: Final = 0o755
READABLE: Final = 0o644
WRITTEN_BY: Final = "# Written by moodline-provision install. Changes here are overwritten.\n"


@dataclass(frozen=True)
class InstalledFile:
    """A file with an absolute path, its whole content and its permission bits."""

    path: str
    content: bytes
    mode: int = READABLE


@dataclass(frozen=True)
class Account:
    """A system user with a group of its own; `groups` are the others that it is in."""

    name: str
    purpose: str
    home: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folder:
    """`state` says that the room's keys and records lie there: it outlives an uninstall."""

    path: str
    owner: str
    mode: int
    purpose: str
    state: bool = False


@dataclass(frozen=True)
class Program:
    """A command, and the function `module:main` that it calls."""

    name: str
    module: str
    purpose: str


@dataclass(frozen=True)
class OpenPort:
    """What listens. `reach` is who can come to it."""

    number: int
    protocol: str
    reach: str
    purpose: str


@dataclass(frozen=True)
class Setting:
    """A file that is neither a service nor a program."""

    path: str
    text: str
    purpose: str


@dataclass(frozen=True)
class Role:
    """One of the two machines of a room. `packages` are Debian's, `locks` are files of requirements/."""

    name: str
    purpose: str
    accounts: tuple[Account, ...]
    folders: tuple[Folder, ...]
    services: tuple[Service, ...]
    programs: tuple[Program, ...]
    ports: tuple[OpenPort, ...]
    settings: tuple[Setting, ...]
    packages: tuple[str, ...]
    recommended: tuple[str, ...]
    locks: tuple[str, ...]

    @property
    def enabled(self) -> tuple[str, ...]:
        """Services that start with the machine."""
        return tuple(service.name for service in self.services if service.enabled)


_RETRANSMISSION: Final = Setting(
    "/usr/lib/sysctl.d/60-moodline.conf",
    """
# A lost packet is sent again after some milliseconds instead of 200: longer than a unit waits for the one before it in
# the line. The key exists from Linux 6.11 on; the dash lets an older kernel go without it (sysctl.d(5)).
-net.ipv4.tcp_rto_min_us = 5000
""",
    "TCP's least retransmission time-out, 5 ms",
)

_DEVICES: Final = Setting(
    "/usr/lib/udev/rules.d/70-moodline.rules",
    f"""
# The USB microphone's sound card is called "moodline", whatever its make and socket (see /etc/alsa/conf.d).
SUBSYSTEM=="sound", ACTION=="add", KERNEL=="card*", SUBSYSTEMS=="usb", ATTR{{id}}="moodline"
# A unit that found no sense at its start has given up: it starts again when a microphone is there.
SUBSYSTEM=="sound", ACTION=="add", KERNEL=="card*", TAG+="systemd", ENV{{SYSTEMD_WANTS}}+="moodline-unit.service"
# Cameras have stable names already (libcamera's model and identity); their memory must be open to the group video.
SUBSYSTEM=="dma_heap", GROUP="video", MODE="0660"
# The box's own light: its group may set it.
SUBSYSTEM=="leds", ACTION=="add", KERNEL=="ACT", RUN+="/bin/chgrp {UNIT_USER} /sys%p/brightness /sys%p/trigger"
SUBSYSTEM=="leds", ACTION=="add", KERNEL=="ACT", RUN+="/bin/chmod g+w /sys%p/brightness /sys%p/trigger"
""",
    "stable name of the USB microphone, which starts the unit; access to camera memory and light",
)

_MICROPHONE: Final = Setting(
    "/etc/alsa/conf.d/60-moodline.conf",
    """
# capture.microphone = "moodline": the USB microphone, converted to what the box asks for.
pcm.moodline {
    type plug
    slave.pcm "hw:CARD=moodline"
    hint { show on description "The USB microphone of this box" }
}
""",
    "ALSA's name for the USB microphone: `moodline`",
)

#: PyAudio and systemd-python come as source: the first installation compiles them.
_TO_COMPILE: Final = ("gcc", "libsystemd-dev", "pkg-config", "python3-dev")
_PYTHON: Final = ("python3 (>= 3.11)", "python3 (<< 3.12)", "python3-venv", "systemd", "ca-certificates")

UNIT_ROLE: Final = Role(
    name="unit",
    purpose="The box of one desk",
    accounts=(Account(UNIT_USER, "Moodline unit", STATE_ROOT, ("audio", "video")),),
    folders=(
        Folder(SETTINGS_ROOT, "root", 0o755, "your own options, `PROGRAM.env`; never written by us"),
        Folder(PROGRAM_ROOT, "root", 0o755, "the program and its Python environment"),
        Folder(STATE_ROOT, UNIT_USER, 0o700, "the box's key, certificate, roster, policy and state", state=True),
    ),
    services=(
        services.BOX,
        services.UNIT,
        services.RENEW,
        services.RENEW_TIMER,
        services.AGAIN_PATH,
        services.AGAIN,
    ),
    programs=(
        Program("moodline-box", "provisioning.box", "enrols the box and renews its certificate"),
        Program("moodline-unit", "device.unit.__main__", "senses, decides, sends labels"),
    ),
    ports=(),
    settings=(_RETRANSMISSION, _DEVICES, _MICROPHONE),
    packages=(*_PYTHON, "libportaudio2", "libsystemd0", "portaudio19-dev", *_TO_COMPILE),
    recommended=("python3-picamera2", "systemd-timesyncd | time-daemon"),
    locks=("unit.txt", "without-dependencies.txt"),
)

GATEWAY_ROLE: Final = Role(
    name="gateway",
    purpose="The classroom gateway with the room's broker and registrar",
    accounts=(
        Account(GATEWAY_USER, "Moodline gateway", f"{STATE_ROOT}/gateway"),
        Account(REGISTRAR_USER, "Moodline registrar", f"{STATE_ROOT}/registrar"),
        Account(BROKER_USER, "Mosquitto MQTT broker", "/var/lib/mosquitto"),
    ),
    folders=(
        Folder(SETTINGS_ROOT, "root", 0o755, "your own options, `PROGRAM.env`; never written by us"),
        Folder(PROGRAM_ROOT, "root", 0o755, "the program and its Python environment"),
        Folder(STATE_ROOT, "root", 0o755, "holds the three folders below"),
        Folder(f"{STATE_ROOT}/gateway", GATEWAY_USER, 0o700, "the gateway's keys and its store of labels", state=True),
        Folder(f"{STATE_ROOT}/broker", BROKER_USER, 0o700, "the broker's key, access list and sessions", state=True),
        Folder(f"{STATE_ROOT}/registrar", REGISTRAR_USER, 0o700, "the registrar's keys and book of claims", state=True),
    ),
    services=(
        services.BROKER,
        services.GATEWAY,
        services.REGISTRAR,
        services.UPKEEP,
        services.UPKEEP_TIMER,
    ),
    programs=(
        Program("moodline-gateway", "device.gateway.__main__", "verifies, opens and stores labels; serves the page"),
        Program("moodline-provision", "provisioning.__main__", "the operator's commands"),
        Program("moodline-registrar", "provisioning.registrar", "enrols boxes and renews certificates"),
    ),
    ports=(
        OpenPort(8_883, "TCP", "the room's network", "MQTT over mutual TLS (broker)"),
        OpenPort(8_884, "TCP", "the room's network", "enrolment and renewal, HTTPS (registrar)"),
        OpenPort(8_080, "TCP", "this machine alone", "the page (gateway); others come by SSH or your own proxy"),
        OpenPort(5_353, "UDP", "the room's network", "mDNS: boxes find the registrar"),
    ),
    settings=(_RETRANSMISSION,),
    packages=(*_PYTHON, "mosquitto (>= 2.0)", "procps", "libsystemd0", *_TO_COMPILE),
    recommended=("systemd-timesyncd | time-daemon",),
    locks=("gateway.txt",),
)

ROLES: Final = {role.name: role for role in (UNIT_ROLE, GATEWAY_ROLE)}


def files(role: Role) -> list[InstalledFile]:
    """Every file of the role, in order of its path."""
    made = [
        *(InstalledFile(f"{SYSTEMD}/{each.name}", (WRITTEN_BY + each.render()).encode()) for each in role.services),
        *(InstalledFile(each.path, (WRITTEN_BY + each.text).encode()) for each in role.settings),
        *(InstalledFile(f"/usr/bin/{each.name}", launcher(each).encode(), EXECUTABLE) for each in role.programs),
        InstalledFile("/usr/lib/sysusers.d/moodline.conf", sysusers(role.accounts).encode()),
        InstalledFile("/usr/lib/tmpfiles.d/moodline.conf", tmpfiles(role.folders).encode()),
    ]
    return sorted(made, key=lambda each: each.path)


def sysusers(accounts: Iterable[Account]) -> str:
    """Users and groups as sysusers.d(5)."""
    lines = []
    for account in accounts:
        lines.append(f'u {account.name} - "{account.purpose}" {account.home} /usr/sbin/nologin')
        lines += [f"m {account.name} {group}" for group in account.groups]
    return WRITTEN_BY + "\n".join(lines) + "\n"


def tmpfiles(folders: Iterable[Folder]) -> str:
    """Folders with owner and mode as tmpfiles.d(5); made anew at every start when they are gone, never cleaned."""
    lines = [f"d {each.path} {each.mode:04o} {each.owner} {each.owner} -" for each in folders]
    return WRITTEN_BY + "\n".join(lines) + "\n"


def launcher(program: Program) -> str:
    """The command: our own Python with our own library, deaf to PYTHONPATH and the caller's packages."""
    return f"""#!{ENVIRONMENT}/bin/python -IB
{WRITTEN_BY}
import sys

sys.path.insert(0, "{LIBRARY}")

from {program.module} import main

sys.exit(main())
"""


def activation(role: Role) -> list[list[str]]:
    """Commands that put the files of a running machine into effect, in order."""
    return [
        ["systemd-sysusers", "moodline.conf"],
        ["systemd-tmpfiles", "--create", "moodline.conf"],
        ["/usr/lib/systemd/systemd-sysctl", "60-moodline.conf"],
        ["udevadm", "control", "--reload"],
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "--now", *role.enabled],
    ]


def deactivation(role: Role) -> list[list[str]]:
    """Commands that stop the role's services, to be run before its files go."""
    return [["systemctl", "disable", "--now", *(service.name for service in role.services)]]


def tables(role: Role) -> str:
    """Markdown for docs/installation.md: services, programs, users, folders, ports and other files of the role."""
    services_rows = [(f"`{each.name}`", each.purpose, _starts(each), _user(each)) for each in role.services]
    accounts = [(f"`{each.name}`", ", ".join(each.groups) or "none", f"`{each.home}`") for each in role.accounts]
    folders = [(f"`{each.path}`", f"`{each.owner}`", f"{each.mode:04o}", each.purpose) for each in role.folders]
    ports = [(f"{each.number}/{each.protocol}", each.reach, each.purpose) for each in role.ports]
    programs = [(f"`/usr/bin/{each.name}`", each.purpose) for each in role.programs]
    others = [(f"`{each.path}`", each.purpose) for each in role.settings]
    return "\n".join(
        [
            _table(("service", "what it does", "starts", "runs as"), services_rows),
            _table(("user", "further groups", "home"), accounts),
            _table(("folder", "owner", "mode", "what is in it"), folders),
            _table(("listens on", "who can come", "what for"), ports or [("nothing", "nobody", "the unit only calls")]),
            _table(("command", "what it does"), programs),
            _table(("other file", "what it does"), others),
        ]
    )


def _starts(service: Service) -> str:
    if not service.enabled:
        return "when it is asked to"
    condition = service.unit.get("ConditionPathExists", service.unit.get("ConditionDirectoryNotEmpty"))
    if condition is None:
        return "at boot"
    path = str(condition)
    return f"at boot, unless `{path[1:]}` exists" if path.startswith("!") else f"at boot, when `{path}` is there"


def _user(service: Service) -> str:
    if service.kind != "Service":
        return "systemd itself"
    return f"`{service.body.get('User', 'root')}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
