"""A demo room whose programs are started and killed one by one, and what each life of a unit left behind.

The units are muted: they capture and infer nothing, so no model is loaded, but seal, sign and send as always.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from device.clock import Clock
from device.config import GatewayConfig, LineLimits, load_gateway
from device.errors import RemoteMessageError
from device.messages import topics
from device.messages.envelope import ContentType, open_envelope
from device.messages.link import Link, decode_link
from device.messages.roster import Roster
from device.publish.mqtt import MqttLink
from device.publish.ports import Received
from device.publish.spill import decode_records, place_digest
from device.system.clock import SystemClock
from device.system.storage import SPILL_FILE, read
from device.trust import load_trusted
from provisioning.boxes import STATE_FOLDER, credentials_in
from provisioning.demo_room import INTRUDER, DemoPlan, DemoRoom, build
from provisioning.gateway import GATEWAY
from provisioning.mosquitto import Mosquitto, free_port
from tools.demo.programs import Program

TAKES: Final = Path(__file__).resolve().parents[1] / "takes"
SPILL_BYTES: Final = 1 << 26
POLL_S: Final = 0.02
QUEUE_MESSAGES: Final = 20_000
SETTLE_S: Final = 0.3

#: (session, sequence): a label's name within its unit.
Number = tuple[int, int]
_SESSION: Final = re.compile(r"^.*Unit \S+ \(.*\), line \S+, session (\d+), ", re.MULTILINE)
_MADE: Final = re.compile(r"^.*Labels up to \((\d+), (\d+)\) made, (\d+) wait", re.MULTILINE)
#: So many labels wait at a unit's tick in normal work: the one just made, and those of a round that is not closed yet.
NORMAL_BACKLOG: Final = 4


@dataclass
class Life:
    """One start of a unit until its end, and what it left.

    `session` is 0 when it was killed before it had one; `made` is its highest sequence number, from its log.
    `undisturbed` says whether gateway and broker had been there for a while when it was killed. `spilled` are the
    labels that lay on its disk then, of any session.
    """

    unit: str
    program: Program
    began: float
    ended: float | None = None
    killed: bool = False
    undisturbed: bool = False
    spilled: frozenset[Number] = frozenset()

    @property
    def session(self) -> int:
        """Its session number, as it says itself."""
        found = _SESSION.search(self.program.log.read_text(errors="replace"))
        return int(found[1]) if found else 0

    @property
    def made(self) -> int:
        """Labels that it made, as it says itself."""
        session = self.session
        return max((sequence for s, sequence, _ in self._ticks() if s == session), default=0)

    @property
    def waiting(self) -> int | None:
        """Labels that no grant had covered at its newest tick, None before the first."""
        ticks = self._ticks()
        return ticks[-1][2] if ticks else None

    def _ticks(self) -> list[tuple[int, int, int]]:
        found = _MADE.findall(self.program.log.read_text(errors="replace"))
        return [(int(session), int(sequence), int(waiting)) for session, sequence, waiting in found]


@dataclass
class Heard:
    """Every link that was on the wire, by someone who may hear all of them, in the order in which they came."""

    links: list[Link] = field(default_factory=list)
    unreadable: int = 0

    def take(self, payload: bytes) -> None:
        """One more message of the line."""
        try:
            self.links.append(decode_link(open_envelope(payload, wanted=ContentType.LINK)))
        except RemoteMessageError:
            self.unreadable += 1


class SoakRoom:
    """Broker, gateway and units, each its own process. Use as a context: at its end nothing runs any more."""

    def __init__(self, folder: Path, units: int, limits: LineLimits) -> None:
        """Raises ConfigError or StorageError when the room cannot be built."""
        plan = DemoPlan(
            takes=[TAKES / "neutral"],
            units=units,
            port=free_port(),
            web_port=free_port(),
            intruder=True,
            muted=True,
            limits=limits,
            autosave_s=1,
        )
        self.room: DemoRoom = build(folder, plan)
        self.clock: Clock = SystemClock()
        self.broker = Mosquitto(self.room.broker, plan.host, plan.port)
        self.gateway_config: GatewayConfig = load_gateway(self.room.gateway_config)
        self.roster: Roster = load_trusted(self.gateway_config.trust, plan.room, self.clock).roster
        self.heard = Heard()
        self.lives: list[Life] = []
        self._running: dict[str, Life] = {}
        self._gateway: Program | None = None
        self._gateways = 0
        self._broker_runs = False
        self._whole_since: float | None = None
        self._listener = MqttLink(
            INTRUDER,
            msgspec.structs.replace(self.room.broker_address, queue_messages=QUEUE_MESSAGES),
            credentials_in(self.room.consumer(INTRUDER)),
            subscriptions=[topics.link(plan.room, plan.line, "+")],
        )

    def __enter__(self) -> SoakRoom:
        self.start_broker()
        self._listener.start()
        self.start_gateway()
        return self

    def __exit__(self, *exception: object) -> None:
        for life in self._running.values():
            life.program.process.kill()
            life.program.process.wait()
        self.kill_gateway()
        self._listener.stop(flush_s=0.1)
        self.broker.kill()

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the units, in desk order."""
        return self.room.units

    @property
    def running(self) -> tuple[str, ...]:
        """Units whose program runs."""
        return tuple(self._running)

    @property
    def whole_for_s(self) -> float:
        """For how long broker and gateway have both been there, in seconds."""
        return 0.0 if self._whole_since is None else time.monotonic() - self._whole_since

    # --- units ---------------------------------------------------------------------------------------------------

    def start(self, unit: str) -> Life:
        """Start a unit's program."""
        number = len(self.lives)
        program = self._run(unit, "device.unit", self.room.unit_config(unit), f"log-{number:04d}.txt", "--verbose")
        self._running[unit] = Life(unit, program, time.monotonic())
        self.lives.append(self._running[unit])
        return self.lives[-1]

    def kill(self, unit: str, *, undisturbed_after_s: float) -> Life:
        """End a unit's program as a power cut of its processor would; raises ProgramError when it had ended by itself.

        It counts as undisturbed when broker and gateway have been there for `undisturbed_after_s`.
        """
        life = self._running.pop(unit)
        life.program.check()
        life.undisturbed = self.whole_for_s >= undisturbed_after_s
        life.program.process.send_signal(signal.SIGKILL)
        life.program.process.wait()
        life.ended = time.monotonic()
        life.killed = True
        life.spilled = self.spilled(unit)
        return life

    def stop_units(self) -> None:
        """End all units cleanly."""
        for life in self._running.values():
            life.program.process.send_signal(signal.SIGTERM)
        for life in self._running.values():
            life.program.stop()
            life.ended = time.monotonic()
            life.spilled = self.spilled(life.unit)
        self._running.clear()

    def spilled(self, unit: str) -> frozenset[Number]:
        """Labels that lie on the unit's disk."""
        path = self.room.unit(unit) / STATE_FOLDER / SPILL_FILE
        if not path.exists():
            return frozenset()
        found = decode_records(read(path, limit=SPILL_BYTES), place_digest(self.roster, self.room.plan.line, unit))
        return frozenset((entry.session, entry.sequence) for entry in found.entries)

    def wait_until_delivered(self, seconds: float) -> bool:
        """Let the room run until every unit runs and has no more than its newest labels left; whether it came so."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.listen(SETTLE_S)
            waiting = [life.waiting for life in self._running.values()]
            if (
                len(waiting) == len(self.units)
                and all(each is not None and each <= NORMAL_BACKLOG for each in waiting)
                and not any(self.spilled(unit) for unit in self.units)
            ):
                return True
        return False

    # --- gateway and broker --------------------------------------------------------------------------------------

    def start_gateway(self) -> None:
        """Start the gateway's program."""
        self._gateways += 1
        log = f"log-{self._gateways:04d}.txt"
        self._gateway = self._run(GATEWAY, "device.gateway", self.room.gateway_config, log)
        self._note_whole()

    def kill_gateway(self) -> None:
        """End it as a power cut would."""
        if self._gateway is not None:
            self._gateway.process.kill()
            self._gateway.process.wait()
        self._gateway = None
        self._note_whole()

    def stop_gateway(self) -> None:
        """End it cleanly."""
        if self._gateway is not None:
            self._gateway.check()
            self._gateway.stop()
        self._gateway = None
        self._note_whole()

    def start_broker(self) -> None:
        """Start mosquitto. Raises ConfigError when it is not installed."""
        self.broker.start()
        self._broker_runs = True
        self._note_whole()

    def kill_broker(self) -> None:
        """End it as a power cut would."""
        self.broker.kill()
        self._broker_runs = False
        self._note_whole()

    def listen(self, seconds: float) -> None:
        """Take in what is on the wire for so long. Raises ProgramError when a program has ended by itself."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            event = self._listener.next_event(min(left, POLL_S))
            if isinstance(event, Received) and not event.retained:
                self.heard.take(event.payload)
        for life in self._running.values():
            life.program.check()
        if self._gateway is not None:
            self._gateway.check()

    def _note_whole(self) -> None:
        whole = self._broker_runs and self._gateway is not None
        self._whole_since = time.monotonic() if whole else None

    def _run(self, name: str, module: str, config: Path, log_name: str, *arguments: str) -> Program:
        log = config.parent / log_name
        command: Sequence[str] = [sys.executable, "-m", module, "--config", str(config), *arguments]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, process_group=0)
        return Program(name, process, log)
