"""The systemd services of unit and gateway: what each runs, and what it may touch (systemd.exec(5)).

A service starts from `HARDENING`, which takes everything away, and gives back by name what it needs. A rule for
editing: whatever is given back has its reason beside it. tests/integration/test_systemd_units.py holds an upper bound
on what `systemd-analyze security` finds exposed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

STATE_ROOT: Final = "/var/lib/moodline"
SETTINGS_ROOT: Final = "/etc/moodline"
UNIT_USER: Final = "moodline-unit"
GATEWAY_USER: Final = "moodline-gateway"
REGISTRAR_USER: Final = "moodline-registrar"
BROKER_USER: Final = "mosquitto"
#: Exit code of a program that refuses to start until a person has done something: starting it again is in vain.
REFUSED: Final = "2"
#: The line's grants come twice a second; a program that has done nothing for so long hangs.
WATCHDOG_S: Final = 30

Value = str | Sequence[str]
Settings = Mapping[str, Value]


@dataclass(frozen=True)
class Service:
    """One systemd unit file. A setting with several values stands on as many lines; None takes a setting away."""

    name: str
    purpose: str
    unit: Settings
    body: Settings
    install: Settings = field(default_factory=dict)
    kind: str = "Service"

    @property
    def enabled(self) -> bool:
        """Whether it starts with the machine."""
        return bool(self.install)

    def render(self) -> str:
        """The file's text."""
        sections = {"Unit": {"Description": self.purpose, **self.unit}, self.kind: self.body, "Install": self.install}
        return "\n".join(_section(title, settings) for title, settings in sections.items() if settings)


def _section(title: str, settings: Settings) -> str:
    lines = [f"[{title}]"]
    for key, value in settings.items():
        lines += [f"{key}={one}" for one in ([value] if isinstance(value, str) else value)]
    return "\n".join(lines) + "\n"


HARDENING: Final[Settings] = {
    "UMask": "0077",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateMounts": "yes",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "PrivateUsers": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectControlGroups": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RemoveIPC": "yes",
    "KeyringMode": "private",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": ("@system-service", "~@privileged @resources"),
    "SystemCallErrorNumber": "EPERM",
    # A core dump would hold private keys.
    "LimitCORE": "0",
    # Nor may keys, sound or pictures in memory reach a card by being swapped out.
    "MemorySwapMax": "0",
    "TasksMax": "64",
}

#: zeroconf and libcamera ask the kernel for its network interfaces and devices over netlink.
_WITH_NETLINK: Final[Settings] = {"RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK"}

_STAYS_UP: Final[Settings] = {"Restart": "on-failure", "RestartSec": "2", "TimeoutStopSec": "15"}

#: Never given up, however often it fails: nobody stands at a box with a keyboard.
_NO_START_LIMIT: Final[Settings] = {"StartLimitIntervalSec": "0"}

_AT_BOOT: Final[Settings] = {"WantedBy": "multi-user.target"}


def _options(program: str) -> Settings:
    """IT people add options in a file of their own: OPTIONS=--verbose"""
    return {"Environment": "OPTIONS=", "EnvironmentFile": f"-{SETTINGS_ROOT}/{program}.env"}


def _owned(user: str, folder: str) -> str:
    """Hand a folder over: what an operator's command wrote there as root must be readable by the service."""
    return f"+/bin/chown --recursive --no-dereference {user}:{user} {folder}"


#: What the program of a desk may use besides its own folder.
_SENSES: Final[Settings] = {
    # A private /dev would hold neither microphone nor camera.
    "PrivateDevices": "no",
    "DeviceAllow": ("char-alsa rw", "char-video4linux rw", "char-media rw", "char-dma_heap rw"),
    # In a user namespace of its own the groups that open those devices would be nobody's.
    "PrivateUsers": "no",
    "SupplementaryGroups": "audio video",
    # The network's runtime reads /proc/cpuinfo to choose its kernels.
    "ProcSubset": "all",
}

#: Lights are files in /sys, which ProtectKernelTunables makes read-only; udev gives these to the box's group.
_LIGHTS: Final[Settings] = {"ReadWritePaths": "-/sys/devices/platform/leds"}

BOX: Final = Service(
    "moodline-box.service",
    "Moodline: enrol this box in its room",
    {
        "Documentation": "file:///usr/share/doc/moodline-unit/installation.md",
        "Wants": "network-online.target",
        "After": "network-online.target",
        "ConditionPathExists": f"!{STATE_ROOT}/device.toml",
        "OnSuccess": "moodline-unit.service",
        **_NO_START_LIMIT,
    },
    {
        "Type": "exec",
        "NotifyAccess": "main",
        **_options("moodline-box"),
        # As root: the box's own user cannot take a used token out of the boot partition (FAT knows no owners).
        "ExecStartPre": f"-+/usr/bin/moodline-box take-seed --folder {STATE_ROOT}",
        "ExecStart": f"/usr/bin/moodline-box enrol --folder {STATE_ROOT} $OPTIONS",
        "User": UNIT_USER,
        "Group": UNIT_USER,
        "StateDirectory": "moodline",
        "StateDirectoryMode": "0700",
        **_STAYS_UP,
        # A refusal is tried again, slowly: the room's people can mend most of them without touching the box.
        "RestartSec": "30",
        **HARDENING,
        **_WITH_NETLINK,
        # The hardware's serial number stands in /proc/device-tree.
        "ProcSubset": "all",
        **_LIGHTS,
        "MemoryMax": "256M",
    },
    _AT_BOOT,
)

UNIT: Final = Service(
    "moodline-unit.service",
    "Moodline: the box of one desk",
    {
        "Documentation": "file:///usr/share/doc/moodline-unit/installation.md",
        "Wants": "network-online.target",
        "After": "network-online.target sound.target moodline-box.service",
        "ConditionPathExists": f"{STATE_ROOT}/device.toml",
        **_NO_START_LIMIT,
    },
    {
        "Type": "notify",
        "NotifyAccess": "main",
        "WatchdogSec": str(WATCHDOG_S),
        "TimeoutStartSec": "120",
        **_options("moodline-unit"),
        "ExecStart": f"/usr/bin/moodline-unit --config {STATE_ROOT}/device.toml $OPTIONS",
        "User": UNIT_USER,
        "Group": UNIT_USER,
        "StateDirectory": "moodline",
        "StateDirectoryMode": "0700",
        **_STAYS_UP,
        "RestartPreventExitStatus": REFUSED,
        **HARDENING,
        **_WITH_NETLINK,
        **_SENSES,
        **_LIGHTS,
        "MemoryMax": "512M",
    },
    _AT_BOOT,
)

RENEW: Final = Service(
    "moodline-box-renew.service",
    "Moodline: renew this box's certificate when it is time, and find a gateway that moved",
    {
        "Documentation": "file:///usr/share/doc/moodline-unit/installation.md",
        "Wants": "network-online.target",
        "After": "network-online.target",
        "ConditionPathExists": f"{STATE_ROOT}/device.toml",
        **_NO_START_LIMIT,
    },
    {
        "Type": "oneshot",
        "TimeoutStartSec": "180",
        # After the holidays a box may be awake before its gateway is.
        "Restart": "on-failure",
        "RestartSec": "30",
        "RestartPreventExitStatus": REFUSED,
        **_options("moodline-box"),
        "ExecStart": f"/usr/bin/moodline-box renew --folder {STATE_ROOT} $OPTIONS",
        "User": UNIT_USER,
        "Group": UNIT_USER,
        "StateDirectory": "moodline",
        "StateDirectoryMode": "0700",
        **HARDENING,
        **_WITH_NETLINK,
        **_LIGHTS,
        "MemoryMax": "256M",
    },
)

#: Spans since the start, not calendar times: a box without a battery clock does not know the date. The first comes soon
#: enough for a box that was away for the whole summer, and is spread so that 40 boxes do not come at once.
RENEW_TIMER: Final = Service(
    "moodline-box-renew.timer",
    "Moodline: look every quarter of an hour whether the broker still takes this box",
    {},
    {"OnBootSec": "20", "OnUnitActiveSec": "15min", "RandomizedDelaySec": "40", "AccuracySec": "5"},
    {"WantedBy": "timers.target"},
    kind="Timer",
)

#: A renewed certificate, or a gateway at another address, is in files; the program reads them when it starts.
AGAIN_PATH: Final = Service(
    "moodline-unit-again.path",
    "Moodline: see when this box's certificate or its gateway's address has changed",
    {},
    {
        "PathChanged": (f"{STATE_ROOT}/certificate.pem", f"{STATE_ROOT}/device.toml"),
        "Unit": "moodline-unit-again.service",
    },
    _AT_BOOT,
    kind="Path",
)

AGAIN: Final = Service(
    "moodline-unit-again.service",
    "Moodline: start the unit's program again, if it runs",
    {},
    {
        "Type": "oneshot",
        "ExecStart": "/bin/systemctl try-restart moodline-unit.service",
        **HARDENING,
        # As root, because it asks systemd; over its socket, and nothing else.
        "PrivateUsers": "no",
        "RestrictAddressFamilies": "AF_UNIX",
        "PrivateNetwork": "yes",
        "MemoryMax": "32M",
    },
)

BROKER: Final = Service(
    "moodline-broker.service",
    "Moodline: the room's MQTT broker (mosquitto)",
    {
        "Documentation": "man:mosquitto.conf(5)",
        "Wants": "network-online.target",
        "After": "network-online.target",
        # Debian's own listens to everybody on this machine, without a certificate.
        "Conflicts": "mosquitto.service",
        "ConditionPathExists": f"{STATE_ROOT}/broker/mosquitto.conf",
        **_NO_START_LIMIT,
    },
    {
        "Type": "notify",
        "NotifyAccess": "main",
        "ExecStartPre": _owned(BROKER_USER, f"{STATE_ROOT}/broker"),
        "ExecStart": f"/usr/sbin/mosquitto -c {STATE_ROOT}/broker/mosquitto.conf",
        "ExecReload": (_owned(BROKER_USER, f"{STATE_ROOT}/broker"), "/bin/kill -HUP $MAINPID"),
        "User": BROKER_USER,
        "Group": BROKER_USER,
        "StateDirectory": "moodline/broker",
        "StateDirectoryMode": "0700",
        **_STAYS_UP,
        **HARDENING,
        "MemoryMax": "256M",
    },
    _AT_BOOT,
)

GATEWAY: Final = Service(
    "moodline-gateway.service",
    "Moodline: the classroom gateway",
    {
        "Documentation": "file:///usr/share/doc/moodline-gateway/installation.md",
        "Wants": "moodline-broker.service",
        "After": "network-online.target moodline-broker.service",
        "ConditionPathExists": f"{STATE_ROOT}/gateway/gateway.toml",
        **_NO_START_LIMIT,
    },
    {
        "Type": "notify",
        "NotifyAccess": "main",
        "WatchdogSec": str(WATCHDOG_S),
        **_options("moodline-gateway"),
        "ExecStartPre": _owned(GATEWAY_USER, f"{STATE_ROOT}/gateway"),
        "ExecStart": f"/usr/bin/moodline-gateway --config {STATE_ROOT}/gateway/gateway.toml $OPTIONS",
        "ExecReload": (_owned(GATEWAY_USER, f"{STATE_ROOT}/gateway"), "/bin/kill -HUP $MAINPID"),
        "User": GATEWAY_USER,
        "Group": GATEWAY_USER,
        "StateDirectory": "moodline/gateway",
        "StateDirectoryMode": "0700",
        **_STAYS_UP,
        "RestartPreventExitStatus": REFUSED,
        **HARDENING,
        **_WITH_NETLINK,
        "MemoryMax": "512M",
    },
    _AT_BOOT,
)

REGISTRAR: Final = Service(
    "moodline-registrar.service",
    "Moodline: the registrar, which enrols boxes and renews their certificates",
    {
        "Documentation": "file:///usr/share/doc/moodline-gateway/installation.md",
        "Wants": "network-online.target",
        "After": "network-online.target",
        "ConditionDirectoryNotEmpty": f"{STATE_ROOT}/registrar",
        **_NO_START_LIMIT,
    },
    {
        "Type": "exec",
        "NotifyAccess": "main",
        **_options("moodline-registrar"),
        "ExecStartPre": _owned(REGISTRAR_USER, f"{STATE_ROOT}/registrar"),
        "ExecStart": f"/usr/bin/moodline-registrar --folder {STATE_ROOT}/registrar $OPTIONS",
        "User": REGISTRAR_USER,
        "Group": REGISTRAR_USER,
        "StateDirectory": "moodline/registrar",
        "StateDirectoryMode": "0700",
        **_STAYS_UP,
        "RestartPreventExitStatus": REFUSED,
        **HARDENING,
        **_WITH_NETLINK,
        "MemoryMax": "256M",
    },
    _AT_BOOT,
)

#: The certificates of gateway and broker lie in their own folders, which are closed to the registrar: it alone speaks
#: to strangers. So root renews them, off the network.
UPKEEP: Final = Service(
    "moodline-registrar-upkeep.service",
    "Moodline: renew the certificates of gateway and broker when it is time",
    {
        "Documentation": "file:///usr/share/doc/moodline-gateway/installation.md",
        "ConditionDirectoryNotEmpty": f"{STATE_ROOT}/registrar",
    },
    {
        "Type": "oneshot",
        "TimeoutStartSec": "120",
        "ExecStart": f"/usr/bin/moodline-registrar --upkeep --folder {STATE_ROOT}/registrar",
        **HARDENING,
        # What it writes it hands to the folder's owner; and it asks systemd to reload the broker.
        "ReadWritePaths": STATE_ROOT,
        "CapabilityBoundingSet": "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER",
        "SystemCallFilter": ("@system-service", "~@resources"),
        "PrivateUsers": "no",
        "RestrictAddressFamilies": "AF_UNIX",
        "PrivateNetwork": "yes",
        "MemoryMax": "256M",
    },
)

UPKEEP_TIMER: Final = Service(
    "moodline-registrar-upkeep.timer",
    "Moodline: look daily whether gateway and broker need new certificates",
    {},
    {"OnBootSec": "30", "OnUnitActiveSec": "1d", "AccuracySec": "1min"},
    {"WantedBy": "timers.target"},
    kind="Timer",
)
