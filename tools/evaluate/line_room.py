"""The running demo room in which transmission rates are measured, and what is seen at one rate."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import msgspec
from tqdm import tqdm

from device.config import load_gateway, load_unit
from device.gateway.documents import LabelDocument
from device.gateway.store import LabelReader
from device.gateway.wiring import STORE_FILE
from device.line.actions import ClosedRound
from device.messages import topics
from device.messages.sealing import Opener
from device.publish.mqtt import MqttLink
from device.publish.ports import Received
from device.system.keys import load_opening_key, load_signing_key
from provisioning.boxes import KEY_FILE, credentials_in
from provisioning.demo_room import INTRUDER, DemoPlan, DemoRoom, build
from provisioning.mosquitto import Mosquitto, free_port
from tools.demo.programs import Program, ProgramError
from tools.demo.tally import Tally
from tools.evaluate.line_parties import (
    Answer,
    LabelName,
    Outsider,
    Pace,
    Said,
    Sent,
    Speaker,
    Speakers,
    every_rounds,
    openers_of,
    random_opener,
    sealed_entries,
    try_to_open,
)
from tools.verify.sources import open_source

TAKES: Final = Path(__file__).resolve().parents[1] / "takes"
READER: Final = "reader"
#: After a rate's last label, so long may what is under way still arrive.
RECOVERY_S: Final = 10.0
STRIKE_S: Final = 1.0
POLL_S: Final = 0.05
BEGINS_IN_S: Final = 0.2
#: Labels of one unit that the store is asked for at once.
LABELS_READ: Final = 100_000


class Units(Protocol):
    """The units of a room, wherever they run; `Speakers` are threads of this program."""

    def speak(self, pace: Pace) -> None:
        """Say labels at that pace. The pace before must have ended."""
        ...

    def have_said_all(self) -> bool:
        """Whether no label of their own clocks is due any more."""
        ...

    def check(self) -> None:
        """Raises ProgramError when a unit has ended."""
        ...

    def take(self) -> Said:
        """What was said since the last time; to be called while nobody speaks."""
        ...

    def stop(self) -> None:
        """Leave; may be called twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was seen at one rate. `opened` are (attempts, readable) of parties without the key, `control` with it.

    `verified` are the labels whose document the consumer got or the gateway stored; `untold` counts the stored ones
    that the consumer did not get.
    """

    pace: Pace
    units: int
    sent: Mapping[LabelName, Sent]
    published_ms: Mapping[LabelName, int]
    verified: Mapping[LabelName, LabelDocument]
    opened: tuple[int, int]
    control: tuple[int, int]
    forged: Sequence[bytes]
    replayed: Sequence[bytes]
    refused: int
    load_average: float
    entries_tried: int | None = None
    untold: int = 0


class LineRoom:
    """A running demo room with our own units, a consumer and an outsider. `close` stops all of it, in order."""

    def __init__(self, folder: Path, plan: DemoPlan, start_units: Callable[[DemoRoom], Units]) -> None:
        """Raises ConfigError, ProgramError or StorageError; what was started is stopped again then."""
        self.room: DemoRoom = build(folder, plan)
        self.tally = Tally()
        self.line_topic = topics.link(plan.room, plan.line, "+")
        with ExitStack() as stack:
            self.broker = Mosquitto(self.room.broker, plan.host, plan.port)
            stack.callback(self.broker.stop)
            self.broker.start()
            self.gateway = _start_gateway(self.room)
            stack.callback(self.gateway.stop)
            self._reader = self._member(READER, stack, topics.labels(plan.room, plan.line, "+"))
            self.outsider = Outsider(self._member(INTRUDER, stack, self.line_topic))
            self.units = start_units(self.room)
            stack.callback(self.units.stop)
            self._stack = stack.pop_all()

    def _member(self, name: str, stack: ExitStack, subscription: str) -> MqttLink:
        box = credentials_in(self.room.consumer(name))
        link = MqttLink(name, self.room.broker_address, box, subscriptions=[subscription])
        stack.callback(link.stop)
        link.start()
        return link

    @property
    def is_live(self) -> bool:
        """Whether every unit has signed and the outsider has heard enough."""
        return self.outsider.ready and self.outsider.units == set(self.room.units)

    def turn(self) -> None:
        """Take in what has arrived; waits a moment for it. Raises ProgramError when a program or a line has ended."""
        event = self._reader.next_event(POLL_S)
        while event is not None:
            if isinstance(event, Received) and event.payload:
                self.tally.add_label(msgspec.json.decode(event.payload, type=LabelDocument))
            event = self._reader.next_event(0.0)
        self.outsider.listen()
        self.gateway.check()
        self.units.check()

    def state(self) -> dict[str, Any]:
        """What the gateway's page shows of the line: round, live units, refused messages and more.

        Raises ProgramError without an answer.
        """
        web = load_gateway(self.room.gateway_config).web
        address = f"http://{web.host}:{web.port}/api/state"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                state = json.load(answer)
        except OSError as error:
            raise ProgramError(f"{address}: {error}.", next_step=f"The log is {self.gateway.log}.") from error
        line: dict[str, Any] = state.get(f"line/{self.room.plan.line}", {})
        return line

    def refused(self) -> int:
        """Messages that the gateway has refused so far. Raises ProgramError without an answer."""
        return int(self.state().get("refused", 0))

    def rounds(self) -> list[ClosedRound]:
        """The gateway's log as far as its store holds it, two rounds from now. Raises ProgramError when it is empty."""
        limits = self.room.plan.limits
        time.sleep(2 * limits.round_period_ms / 1_000)
        with open_source(load_gateway(self.room.gateway_config).state / STORE_FILE, limits) as source:
            rounds = [part for _, part in source.parts() if isinstance(part, ClosedRound)]
        if not rounds:
            raise ProgramError("The gateway's log is empty.", next_step="What it refused cannot be told from it.")
        return rounds

    def stored(self, sent: Mapping[LabelName, Sent]) -> dict[LabelName, LabelDocument]:
        """Those of these labels that stand in the gateway's store. Raises StorageError."""
        reader = LabelReader(load_gateway(self.room.gateway_config).state / STORE_FILE)
        since_ms = min((one.made_ms for one in sent.values()), default=0)
        found: dict[LabelName, LabelDocument] = {}
        for unit in {name[0] for name in sent}:
            for document in reader.since(unit, since_ms, limit=LABELS_READ):
                name = (unit, document.session, document.sequence)
                if name in sent:
                    found[name] = document
        return found

    def close(self) -> None:
        """Stop everything that still runs."""
        self._stack.close()


def room_plan(units: int, **changes: Any) -> DemoPlan:
    """A demo room with an outsider on free ports. `changes` are other fields of the plan."""
    takes = sorted(path for path in TAKES.iterdir() if path.is_dir())
    return DemoPlan(
        takes=takes, units=units, **{"port": free_port(), "web_port": free_port(), "intruder": True, **changes}
    )


def as_threads(answers: Sequence[Answer]) -> Callable[[DemoRoom], Speakers]:
    """What starts the room's units as threads of this program."""

    def start(room: DemoRoom) -> Speakers:
        places = {name: place / len(room.units) for place, name in enumerate(room.units)}
        speakers = Speakers([Speaker(load_unit(room.unit_config(name)), answers, at) for name, at in places.items()])
        speakers.start()
        return speakers

    return start


def _start_gateway(room: DemoRoom) -> Program:
    """The gateway as the demo starts it; Ctrl-C in the terminal does not reach it."""
    log = room.gateway / "log.txt"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "device.gateway", "--config", str(room.gateway_config)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, process_group=0)
    return Program("gateway", process, log)


class StoppedError(Exception):
    """Somebody wants the measurement to end."""


def until(line: LineRoom, done: Callable[[], bool], seconds: float, stop: threading.Event) -> bool:
    """Let the room run until `done` or for so many seconds; whether it was done. Raises StoppedError, ProgramError."""
    ends = time.monotonic() + seconds
    while not done():
        if stop.is_set():
            raise StoppedError
        if time.monotonic() >= ends:
            return False
        line.turn()
    return True


def _let_run(line: LineRoom, moment: float, stop: threading.Event) -> None:
    """Let the room run to a moment in monotonic seconds."""
    until(line, lambda: False, moment - time.monotonic(), stop)


def _until_stored(line: LineRoom, sent: Mapping[LabelName, Sent], seconds: float, stop: threading.Event) -> None:
    """Let the room run until the consumer or the store has all these labels; the store is asked now and then only."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if until(line, lambda: sent.keys() <= line.tally.labels.keys(), STRIKE_S, stop):
            return
        missing = {name: one for name, one in sent.items() if name not in line.tally.labels}
        if missing.keys() <= line.stored(missing).keys():
            return


def trial_of(
    line: LineRoom,
    rate_hz: float,
    seconds: float,
    stop: threading.Event,
    bar: tqdm[NoReturn],
    *,
    recovery_s: float = RECOVERY_S,
    entries_tried: int | None = None,
    when_said: Callable[[], None] = lambda: None,
    mend: Callable[[], float] | None = None,
) -> Trial:
    """Run one rate. `entries_tried`: opening is tried on so many sealed labels, drawn by chance; None: on all.

    `when_said` is called when the last label was made, before what is under way may still arrive; `mend` when something
    is still under way after `recovery_s`: it returns for how many seconds more that may arrive.
    """
    outsider, units = line.outsider, line.units
    before, refused_before = (len(outsider.forged), len(outsider.replayed)), line.refused()
    outsider.heard = []
    units.take()
    begins = time.monotonic() + BEGINS_IN_S
    pace = Pace(rate_hz, begins, begins + seconds, every_rounds(rate_hz, line.room.plan.limits.round_period_ms))
    units.speak(pace)
    for strike in range(int(seconds / STRIKE_S)):
        _let_run(line, begins + (strike + 0.5) * STRIKE_S, stop)
        outsider.strike()
        bar.update(STRIKE_S)
    # A moment more, so that a label begun before the end is made.
    _let_run(line, pace.ends + POLL_S, stop)
    until(line, units.have_said_all, recovery_s, stop)
    load = os.getloadavg()[0]
    when_said()
    said = units.take()

    def all_told() -> bool:
        return said.sent.keys() <= line.tally.labels.keys()

    if not until(line, all_told, recovery_s, stop) and mend is not None:
        _until_stored(line, said.sent, mend(), stop)
    told = {name: line.tally.labels[name] for name in said.sent if name in line.tally.labels}
    stored = {} if len(told) == len(said.sent) else line.stored(said.sent)
    later = units.take()
    heard = {unit: [*said.heard[unit], *links] for unit, links in later.heard.items()}
    opened, control = _attempts(line, heard, entries_tried)
    return Trial(
        pace=pace,
        units=len(line.room.units),
        sent=said.sent,
        published_ms={**later.published_ms, **said.published_ms},
        verified={**stored, **told},
        untold=len(stored.keys() - told.keys()),
        opened=opened,
        control=control,
        forged=outsider.forged[before[0] :],
        replayed=outsider.replayed[before[1] :],
        refused=line.refused() - refused_before,
        load_average=round(load, 2),
        entries_tried=entries_tried,
    )


def links_of(rounds: Iterable[ClosedRound]) -> Counter[bytes]:
    """How often each signed link stands in these rounds."""
    return Counter(link for closed in rounds for link in closed.links)


def _attempts(
    line: LineRoom, heard: Mapping[str, Sequence[bytes]], entries_tried: int | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Opening attempts on what was heard: (attempts, readable) without the gateway's key, and with it."""
    keys = {name: openers_of(load_signing_key(line.room.unit(name) / KEY_FILE)) for name in line.room.units}
    tried = []
    for unit, links in heard.items():
        theirs = {place: entry for place, entry in sealed_entries(links).items() if place.unit != unit}
        tried.append(try_to_open(theirs, [*keys[unit], random_opener()]))
    overheard = sealed_entries(line.outsider.heard)
    if entries_tried is not None and entries_tried < len(overheard):
        overheard = {place: overheard[place] for place in random.sample(list(overheard), entries_tried)}
    tried.append(try_to_open(overheard, [*(opener for each in keys.values() for opener in each), random_opener()]))
    control = try_to_open(overheard, [Opener(load_opening_key(load_gateway(line.room.gateway_config).opening_key))])
    return (sum(n for n, _ in tried), sum(readable for _, readable in tried)), control
