"""Runs the demo room: one consumer that reads verified labels, one intruder, and everything that they meet."""

from __future__ import annotations

import socket
import threading
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from device.errors import ConfigError
from device.gateway.documents import AlertDocument, LabelDocument
from device.messages import topics
from device.publish.mqtt import MqttLink
from device.publish.ports import Received
from models.labels import Emotion
from provisioning.boxes import credentials_in
from provisioning.demo_room import INTRUDER, DemoPlan, DemoRoom, build
from provisioning.mosquitto import free_port
from tools.demo.intruder import Attack, Intruder
from tools.demo.programs import Programs
from tools.demo.tally import Accuracy, Tally, accuracy, quantile_ms
from tools.demo.view import View

READER: Final = "reader"
#: Share of the running time after which the attack is staged, and the latest second for it.
ATTACK_SHARE, ATTACK_LATEST_S = 0.4, 15.0
#: Seconds for the last labels to arrive after the units have stopped.
SETTLE_S: Final = 1.5
POLL_S: Final = 0.1


@dataclass(frozen=True)
class Options:
    """What to run. `seconds` None: until told to stop. An attack is staged when the plan admits an intruder."""

    folder: Path
    plan: DemoPlan
    seconds: float | None = None
    live: bool = False


@dataclass(frozen=True)
class Report:
    """The end of a run. `resident_bytes` and `processor_share` per program, taken just before the end."""

    verified: int
    lost: int
    refused: int
    refusals: str
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    accuracy: Accuracy
    attacks: list[tuple[Attack, str]]
    resident_bytes: Mapping[str, int] = field(default_factory=dict)
    processor_share: Mapping[str, float] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Why the run counts as failed; empty when all is well."""
        found = []
        if not self.verified:
            found.append("No label was verified.")
        if self.lost:
            found.append(f"{self.lost} labels were lost.")
        found += [f"The {attack.name} was not refused." for attack, verdict in self.attacks if not verdict]
        return found


def run(options: Options, console: Console, stop: threading.Event) -> Report:
    """Build the room, run it, and report. Raises ConfigError, ProgramError."""
    plan = _with_free_ports(options.plan)
    console.print(f"· Provisioning {plan.units} units, a gateway and a broker in {options.folder}", highlight=False)
    room = build(options.folder, plan)
    programs = Programs(room)
    reader = _link(room, READER, topics.labels(plan.room, "+", "+"), topics.alerts(plan.room))
    intruder = None
    if plan.intruder:
        intruder = Intruder(room, _link(room, INTRUDER, topics.link(plan.room, plan.line, "+")))
    address = f"http://{plan.host}:{plan.web_port}/"
    console.print("· Starting mosquitto (mutual TLS), the gateway and the units", highlight=False)
    console.print(f"· The live page is at [bold]{address}[/bold]   (Ctrl-C ends)", highlight=False)
    try:
        programs.broker.start()
        reader.start()
        programs.start()
        if intruder is not None:
            intruder.start()
        with View(console, address, live=options.live) as view:
            session = _Session(room, programs, reader, intruder, view)
            session.watch(options, stop)
            resources = session.resources()
            programs.stop_units()
            session.settle()
        return session.report(*resources)
    finally:
        reader.stop()
        if intruder is not None:
            intruder.stop()
        programs.stop()


class _Session:
    """One run, from the first label to the last."""

    def __init__(
        self, room: DemoRoom, programs: Programs, reader: MqttLink, intruder: Intruder | None, view: View
    ) -> None:
        self._room = room
        self._programs = programs
        self._reader = reader
        self._intruder = intruder
        self._view = view
        self._tally = Tally()
        self._attacks: list[Attack] = []
        self._stopping = False
        self._began = time.monotonic()
        self._began_ms = time.time_ns() // 1_000_000

    def watch(self, options: Options, stop: threading.Event) -> None:
        attack_at = min(ATTACK_LATEST_S, (options.seconds or float("inf")) * ATTACK_SHARE)
        while not stop.is_set() and (options.seconds is None or self._elapsed() < options.seconds):
            self._read(POLL_S)
            self._programs.check()
            if self._intruder is not None:
                self._intruder.listen()
                if not self._attacks and self._elapsed() >= attack_at:
                    self._attack(self._intruder)
            self._view.refresh(self._tally, self._playing())

    def _attack(self, intruder: Intruder) -> None:
        self._attacks = intruder.strike()
        for attack in self._attacks:
            self._view.attack(f"The intruder at the broker sends a {attack.name} {attack.sentence}.")

    def settle(self) -> None:
        """Let the last labels arrive. That the units have left is no news any more."""
        self._stopping = True
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            self._read(POLL_S)

    def resources(self) -> tuple[dict[str, int], dict[str, float]]:
        elapsed = self._elapsed()
        running = self._programs.running
        return (
            {program.name: program.resident_bytes() for program in running},
            {program.name: program.processor_seconds() / elapsed for program in running},
        )

    def report(self, resident: Mapping[str, int], processor: Mapping[str, float]) -> Report:
        tally, delays = self._tally, self._tally.delays_ms()
        played = {unit: self._programs.takes_of(unit) for unit in self._room.units}
        return Report(
            verified=len(tally.labels),
            lost=tally.lost(),
            refused=tally.refusals.total(),
            refusals=", ".join(f"{count} × {code}" for code, count in sorted(tally.refusals.items())),
            p50_ms=quantile_ms(delays, 0.5),
            p95_ms=quantile_ms(delays, 0.95),
            p99_ms=quantile_ms(delays, 0.99),
            accuracy=accuracy(
                list(tally.labels.values()),
                {unit: [(at, _take(name)) for at, name in changes] for unit, changes in played.items()},
                {path.name: _truth(path) for path in self._room.plan.takes},
            ),
            attacks=[(attack, self._verdict_on(attack)) for attack in self._attacks],
            resident_bytes=resident,
            processor_share=processor,
        )

    def _verdict_on(self, attack: Attack) -> str:
        for alert in self._tally.alerts:
            if alert.peer == attack.victim and alert.code in attack.expected:
                return f"{alert.code} at step {alert.step}. {alert.sentence}"
        return ""

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _playing(self) -> dict[str, str]:
        played = {unit: self._programs.takes_of(unit) for unit in self._room.units}
        return {unit: _take(changes[-1][1]) for unit, changes in played.items() if changes}

    def _read(self, seconds: float) -> None:
        """Take in everything that has arrived; wait at most so long for the first of it."""
        event = self._reader.next_event(seconds)
        while event is not None:
            if isinstance(event, Received) and not event.retained:
                if event.topic == topics.alerts(self._room.plan.room):
                    alert = msgspec.json.decode(event.payload, type=AlertDocument)
                    if not self._stopping:
                        self._tally.add_alert(alert)
                        self._view.alert(alert)
                else:
                    label = msgspec.json.decode(event.payload, type=LabelDocument)
                    # A gateway that starts again tells of earlier runs' labels, too.
                    if label.accepted_ms >= self._began_ms and self._tally.add_label(label):
                        self._view.label(label, self._playing().get(label.unit, ""))
            event = self._reader.next_event(0.0)


def _link(room: DemoRoom, name: str, *subscriptions: str) -> MqttLink:
    return MqttLink(name, room.broker_address, credentials_in(room.consumer(name)), subscriptions=subscriptions)


def _with_free_ports(plan: DemoPlan) -> DemoPlan:
    """The plan, with other ports where its own are taken."""
    return replace(plan, port=_free(plan.host, plan.port), web_port=_free(plan.host, plan.web_port))


def _free(host: str, port: int) -> int:
    try:
        with socket.create_server((host, port)):
            return port
    except OSError:
        return free_port(host)


def _take(name: str) -> str:
    """The take's own name: units play links named `03-anger`."""
    return name.split("-", 1)[-1]


def _truth(take: Path) -> Emotion:
    """What the actor was asked to express. Raises ConfigError when take.toml does not say."""
    try:
        return Emotion(tomllib.loads((take / "take.toml").read_text())["emotion"])
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{take}/take.toml: {error}.", next_step="Write `emotion = …` into it.") from error
