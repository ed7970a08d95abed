"""A whole room in one folder, on one machine: authority, broker, gateway, units of one line, and a consumer.

It differs from a real room in four ways, all on purpose and all said here: every key is made on this machine and lies
in it unencrypted; the policy states a demonstration on recordings, approved by nobody for people; the smallest group of
the class view is lowered; and, when asked for, an intruder is admitted who may write to the line's topics, in order to
stage what a dishonest broker could do.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from device.config import Broker, Capture, Inference, LineLimits, UnitConfig
from device.errors import ConfigError
from device.messages import topics
from device.messages.policy import DeploymentPolicy, Mode, Purpose, Setting
from device.messages.roster import SealingSuite
from device.messages.sealing import X25519
from provisioning import boxes, gateway, keys
from provisioning.authority import RoomAuthority
from provisioning.certificates import Role, now_utc
from provisioning.gateway import GatewayPlaces, GatewayPlan

INTRUDER: Final = "intruder"
APPROVED_BY: Final = "Demo room on recordings of actors. Nobody has approved it for use with people."
POLICY_LIFE: Final = timedelta(days=30)
POLICY_RENEWED_BEFORE: Final = timedelta(days=7)
MIN_GROUP: Final = 2
WITNESS_COUNT: Final = 2


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """What to build. `takes` are take folders; unit n begins with take 2n and plays all of them in turn.

    With `muted` the units capture and infer nothing, but seal and sign as always.
    """

    takes: Sequence[Path]
    room: str = "demo"
    line: str = "a"
    units: int = 4
    host: str = "127.0.0.1"
    port: int = 8_883
    web_port: int = 8_080
    consumers: tuple[str, ...] = ("reader",)
    intruder: bool = False
    muted: bool = False
    suite: SealingSuite = X25519
    inference: Inference = field(default_factory=Inference)
    limits: LineLimits = field(default_factory=LineLimits)
    autosave_s: int = 30


@dataclass(frozen=True)
class DemoRoom:
    """Where everything of a built demo room lies."""

    folder: Path
    plan: DemoPlan

    @property
    def authority(self) -> Path:
        """The room authority's folder."""
        return self.folder / "authority"

    @property
    def broker(self) -> Path:
        """The folder with mosquitto.conf."""
        return GatewayPlaces(self.folder).broker

    @property
    def gateway(self) -> Path:
        """The gateway's box."""
        return GatewayPlaces(self.folder).gateway

    @property
    def gateway_config(self) -> Path:
        """gateway.toml"""
        return GatewayPlaces(self.folder).config

    @property
    def units(self) -> tuple[str, ...]:
        """Unit ids in desk order."""
        return tuple(f"{self.plan.line}{number}" for number in range(1, self.plan.units + 1))

    def unit(self, name: str) -> Path:
        """A unit's box."""
        return self.folder / "units" / name

    def unit_config(self, name: str) -> Path:
        """A unit's device.toml."""
        return self.unit(name) / boxes.UNIT_FILE

    def consumer(self, name: str) -> Path:
        """A consumer's box; the intruder's too."""
        return self.folder / "consumers" / name

    @property
    def broker_address(self) -> Broker:
        """How clients reach the broker."""
        return Broker(host=self.plan.host, port=self.plan.port)


def build(folder: Path, plan: DemoPlan) -> DemoRoom:
    """Build the room, or bring an earlier one up to date; keys, epoch and the units' state stay.

    Raises ConfigError when the plan cannot be carried out, StorageError.
    """
    if not 1 <= plan.units <= plan.limits.units_per_line:
        raise ConfigError(
            f"A line of {plan.units} units.", next_step=f"A line has 1 to {plan.limits.units_per_line} units."
        )
    if not plan.takes:
        raise ConfigError("No takes to replay.", next_step="Give a folder that holds take folders (tools/takes).")
    room = DemoRoom(folder.absolute(), plan)
    authority = RoomAuthority.found(room.authority, plan.room, suite=plan.suite)
    _admit_everybody(room, authority)
    authority.set_policy(_policy(authority, plan))
    authority.publish()
    _write_boxes(room, authority)
    return room


def write_broker(room: DemoRoom, authority: RoomAuthority) -> None:
    """Render the broker's files anew, for example after a revocation."""
    gateway.write_broker(GatewayPlaces(room.folder), authority, _gateway_plan(room), staging=_staging(room.plan))


def _gateway_plan(room: DemoRoom) -> GatewayPlan:
    plan = room.plan
    return GatewayPlan(
        hosts=(plan.host,),
        address=plan.host,
        broker_host=plan.host,
        port=plan.port,
        web_port=plan.web_port,
        run_broker_as=pwd.getpwuid(os.geteuid()).pw_name,
        autosave_s=plan.autosave_s,
        desks={name: f"Desk {index}" for index, name in enumerate(room.units, start=1)},
        limits=plan.limits,
    )


def _staging(plan: DemoPlan) -> str:
    """The intruder's rights, for the access list; empty without one."""
    if not plan.intruder:
        return ""
    return (
        f"\n# Demo room only: stages a dishonest broker.\nuser {INTRUDER}\n"
        f"topic readwrite {topics.link(plan.room, plan.line, '+')}\n"
    )


def _admit_everybody(room: DemoRoom, authority: RoomAuthority) -> None:
    gateway.admit_gateway(room.folder, authority, _gateway_plan(room))
    for name in room.units:
        boxes.make_unit_key(room.unit(name), authority, name, room.plan.line)
    for name in _consumers(room.plan):
        key = keys.signing_key(boxes.make_folder(room.consumer(name)) / boxes.KEY_FILE)
        authority.admit(name, Role.CONSUMER, key.public_key())


def _policy(authority: RoomAuthority, plan: DemoPlan) -> DeploymentPolicy:
    now = now_utc()
    fresh = DeploymentPolicy(
        room=plan.room,
        purpose=Purpose.DEMONSTRATION,
        setting=Setting.LABORATORY,
        jurisdiction="EU",
        mode=Mode.LABELS,
        min_group=MIN_GROUP,
        retention_days=1,
        witness_count=WITNESS_COUNT,
        approved_by=APPROVED_BY,
        not_before_ms=int((now - timedelta(days=1)).timestamp() * 1_000),
        not_after_ms=int((now + POLICY_LIFE).timestamp() * 1_000),
    )
    standing = authority.standing_policy()
    if standing is None:
        return fresh
    renewed = replace(fresh, not_before_ms=standing.not_before_ms, not_after_ms=standing.not_after_ms)
    lasts = standing.not_after_ms - now.timestamp() * 1_000 > POLICY_RENEWED_BEFORE / timedelta(milliseconds=1)
    return standing if renewed == standing and lasts else fresh


def _write_boxes(room: DemoRoom, authority: RoomAuthority) -> None:
    plan = room.plan
    for index, name in enumerate(room.units):
        box = room.unit(name)
        config = UnitConfig(
            room=plan.room,
            line=plan.line,
            unit=name,
            desk=f"Desk {index + 1}",
            state=box / boxes.STATE_FOLDER,
            muted=plan.muted,
            trust=boxes.trust_in(box),
            broker=room.broker_address,
            capture=Capture(microphone="replay", camera="replay", replay=_lay_out_takes(box, plan.takes, 2 * index)),
            inference=plan.inference,
            limits=plan.limits,
        )
        boxes.write_unit_box(box, authority, config)
    gateway.write_gateway(GatewayPlaces(room.folder), authority, _gateway_plan(room), staging=_staging(plan))
    for name in _consumers(plan):
        boxes.write_consumer_box(room.consumer(name), authority, name, room.broker_address)


def _lay_out_takes(box: Path, takes: Sequence[Path], first: int) -> Path:
    """A folder of links to the takes, named so that they play in an order that begins with take `first`."""
    folder = boxes.make_folder(box / "takes")
    for link in folder.iterdir():
        if link.is_symlink():
            link.unlink()
    for place in range(len(takes)):
        take = takes[(first + place) % len(takes)].absolute()
        (folder / f"{place:02d}-{take.name}").symlink_to(take, target_is_directory=True)
    return folder


def _consumers(plan: DemoPlan) -> tuple[str, ...]:
    return (*plan.consumers, INTRUDER) if plan.intruder else plan.consumers
