"""The running demo room in which transmission rates are measured, and what is seen at one rate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import msgspec
from tqdm import tqdm

from device.config import load_gateway, load_unit
from device.gateway.documents import LabelDocument
from device.gateway.store import Store
from device.gateway.wiring import STORE_FILE
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
    Sent,
    Speaker,
    every_rounds,
    openers_of,
    random_opener,
    sealed_entries,
    try_to_open,
)

TAKES: Final = Path(__file__).resolve().parents[1] / "takes"
READER: Final = "reader"
#: After a rate's last label, so long may what is under way still arrive.
RECOVERY_S: Final = 10.0
STRIKE_S: Final = 1.0
POLL_S: Final = 0.05
BEGINS_IN_S: Final = 0.2
ALL_ROUNDS: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was seen at one rate. `opened` are (attempts, readable) of parties without the key, `control` with it."""

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


class LineRoom:
    """A running demo room with our own speakers, a consumer and an outsider. `close` stops all of it, in order."""

    def __init__(self, folder: Path, answers: Sequence[Answer], units: int) -> None:
        """Raises ConfigError, ProgramError or StorageError; what was started is stopped again then."""
        takes = sorted(path for path in TAKES.iterdir() if path.is_dir())
        plan = DemoPlan(takes=takes, units=units, port=free_port(), web_port=free_port(), intruder=True)
        self.room: DemoRoom = build(folder, plan)
        self.tally = Tally()
        self.line_topic = topics.link(plan.room, plan.line, "+")
        with ExitStack() as stack:
            broker = Mosquitto(self.room.broker, plan.host, plan.port)
            stack.callback(broker.stop)
            broker.start()
            self.gateway = _start_gateway(self.room)
            stack.callback(self.gateway.stop)
            self._reader = self._member(READER, stack, topics.labels(plan.room, plan.line, "+"))
            self.outsider = Outsider(self._member(INTRUDER, stack, self.line_topic))
            self.speakers = [
                Speaker(load_unit(self.room.unit_config(name)), answers, place / units)
                for place, name in enumerate(self.room.units)
            ]
            for speaker in self.speakers:
                stack.callback(speaker.stop)
                speaker.start()
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
        for speaker in self.speakers:
            if not speaker.alive:
                raise ProgramError(f"The line of {speaker.unit} ended.", next_step="Its error stands above.")

    def refused(self) -> int:
        """Messages that the gateway has refused so far, as its page shows it. Raises ProgramError without an answer."""
        address = f"http://{self.room.plan.host}:{self.room.plan.web_port}/api/state"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                state = json.load(answer)
        except OSError as error:
            raise ProgramError(f"{address}: {error}.", next_step=f"The log is {self.gateway.log}.") from error
        return int(state.get(f"line/{self.room.plan.line}", {}).get("refused", 0))

    def log(self) -> Counter[bytes]:
        """How often each signed link stands in the gateway's log. Stops units and gateway first.

        Raises StorageError, and ProgramError when the log is empty.
        """
        for speaker in self.speakers:
            speaker.stop()
        time.sleep(2 * self.room.plan.limits.round_period_ms / 1_000)
        self.gateway.stop()
        store = Store(load_gateway(self.room.gateway_config).state / STORE_FILE)
        try:
            rounds = store.rounds(self.room.plan.line, limit=ALL_ROUNDS)
        finally:
            store.close()
        log = Counter(link for closed in rounds for link in closed.links)
        if not log:
            raise ProgramError("The gateway's log is empty.", next_step="What it refused cannot be told from it.")
        return log

    def close(self) -> None:
        """Stop everything that still runs."""
        self._stack.close()


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


def trial_of(line: LineRoom, rate_hz: float, seconds: float, stop: threading.Event, bar: tqdm[NoReturn]) -> Trial:
    """Run one rate."""
    outsider, speakers = line.outsider, line.speakers
    before, refused_before = (len(outsider.forged), len(outsider.replayed)), line.refused()
    outsider.heard = []
    for speaker in speakers:
        speaker.sent, speaker.published_ms, speaker.heard = {}, {}, []
    begins = time.monotonic() + BEGINS_IN_S
    pace = Pace(rate_hz, begins, begins + seconds, every_rounds(rate_hz, line.room.plan.limits.round_period_ms))
    for speaker in speakers:
        speaker.speak(pace)
    for strike in range(int(seconds / STRIKE_S)):
        _let_run(line, begins + (strike + 0.5) * STRIKE_S, stop)
        outsider.strike()
        bar.update(STRIKE_S)
    # A moment more, so that a label begun before the end is made.
    _let_run(line, pace.ends + POLL_S, stop)
    until(line, lambda: all(speaker.has_said_all for speaker in speakers), RECOVERY_S, stop)
    load = os.getloadavg()[0]
    sent = {name: one for speaker in speakers for name, one in speaker.sent.copy().items()}
    until(line, lambda: sent.keys() <= line.tally.labels.keys(), RECOVERY_S, stop)
    opened, control = _attempts(line)
    return Trial(
        pace=pace,
        units=len(speakers),
        sent=sent,
        published_ms={name: at for speaker in speakers for name, at in speaker.published_ms.copy().items()},
        verified={name: line.tally.labels[name] for name in sent if name in line.tally.labels},
        opened=opened,
        control=control,
        forged=outsider.forged[before[0] :],
        replayed=outsider.replayed[before[1] :],
        refused=line.refused() - refused_before,
        load_average=round(load, 2),
    )


def _attempts(line: LineRoom) -> tuple[tuple[int, int], tuple[int, int]]:
    """Opening attempts on all that was heard: (attempts, readable) without the gateway's key, and with it."""
    keys = {s.unit: openers_of(load_signing_key(line.room.unit(s.unit) / KEY_FILE)) for s in line.speakers}
    tried = []
    for speaker in line.speakers:
        theirs = {place: entry for place, entry in sealed_entries(speaker.heard).items() if place.unit != speaker.unit}
        tried.append(try_to_open(theirs, [*keys[speaker.unit], random_opener()]))
    overheard = sealed_entries(line.outsider.heard)
    tried.append(try_to_open(overheard, [*(opener for each in keys.values() for opener in each), random_opener()]))
    control = try_to_open(overheard, [Opener(load_opening_key(load_gateway(line.room.gateway_config).opening_key))])
    return (sum(n for n, _ in tried), sum(readable for _, readable in tried)), control
