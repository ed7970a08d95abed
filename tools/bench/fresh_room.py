"""A room from nothing, by the commands that IT people use, with every part a process of its own.

Founded, planned, set up and seeded by `moodline-provision`; then mosquitto, registrar (the room authority open) and
gateway run, boxes enrol by `moodline-box` and run by `moodline-unit` on a recorded take.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from device.config import Broker
from device.errors import MoodlineError
from device.gateway.documents import LabelDocument
from device.gateway.store import LabelReader
from device.gateway.wiring import STORE_FILE
from device.messages import topics
from device.publish.mqtt import MqttLink
from device.publish.ports import Received
from provisioning.boxes import STATE_FOLDER, credentials_in
from provisioning.broker import CONFIG_FILE
from provisioning.gateway import GatewayPlaces
from provisioning.mosquitto import find_mosquitto, free_port
from provisioning.seed_file import SEED_FILE
from tools.demo.programs import Program

ROOM: Final = "fresh"
HOST: Final = "127.0.0.1"
READER: Final = "reader"
TAKE: Final = Path(__file__).parents[1] / "takes" / "neutral"
PASSPHRASE: Final = b"five words made at random\n"
GATEWAY_PROGRAMS: Final = frozenset({"mosquitto", "registrar", "gateway"})
COMMAND_S: Final = 120.0
START_S: Final = 20.0
LABEL_S: Final = 60.0


class FreshRoomError(MoodlineError):
    """A command of the way failed, or something did not come in time."""


class FreshRoom:
    """Use as a context: at its end nothing runs any more.

    `environment` is added to that of every program. Programs of gateway machine and boxes are started through
    `gateway_side` and `box_side`, which may enter a network of their own; `host` is the gateway machine's address.
    """

    def __init__(
        self,
        folder: Path,
        desks: int,
        *,
        host: str = HOST,
        gateway_side: Sequence[str] = (),
        box_side: Sequence[str] = (),
        certificate_days: int = 730,
    ) -> None:
        self.folder = folder
        self.units = tuple(f"b{number}" for number in range(1, desks + 1))
        self.environment: dict[str, str] = {}
        self.places = GatewayPlaces(folder / "gateway-machine")
        self.port, self.registrar_port, self.web_port = free_port(), free_port(), free_port()
        self.reader: MqttLink | None = None
        self._host = host
        self._gateway_side = tuple(gateway_side)
        self._box_side = tuple(box_side)
        self._certificate_days = certificate_days
        self._pid_file = folder / "mosquitto.pid"
        self.programs: list[Program] = []

    def __enter__(self) -> FreshRoom:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # --- the operator's commands ---------------------------------------------------------------------------------

    def found(self) -> None:
        """init, policy, plan, gateway, a consumer, and the seeds of all cards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        passphrase = self.folder / "passphrase"
        passphrase.write_bytes(PASSPHRASE)
        passphrase.chmod(0o600)
        rows = [f"Desk {number},b" for number in range(1, len(self.units) + 1)]
        (self.folder / "room.csv").write_text("\n".join(["desk,line", *rows]) + "\n")
        self.provision("init", "authority", "--room", ROOM)
        policy = {"purpose": "demonstration", "setting": "laboratory", "jurisdiction": "EU", "mode": "labels"}
        flags = [word for key, value in policy.items() for word in (f"--{key}", value)]
        self.provision(
            "policy", "authority", *flags, "--approved-by", "Nobody: a trial on recordings", "--until", "2100-01-01"
        )
        self.gateway_machine()
        self.provision("consumer", "authority", READER, "--reads", "desk", "--host", self._host, "--out", READER)
        self.publish()
        self.provision(
            "seeds", "authority", "--csv", "room.csv", "--gateway", self._host, "--port", f"{self.registrar_port}",
            "--registrar", f"{self.places.registrar}", "--out", "cards", passphrase=False,
        )  # fmt: skip

    def gateway_machine(self, *more: str) -> None:
        """Set up the gateway machine, or bring it up to date."""
        self.provision(
            "gateway", "authority", "--root", f"{self.places.root}", "--host", self._host, "--csv", "room.csv",
            "--port", f"{self.port}", "--web-port", f"{self.web_port}",
            "--broker-user", "root" if os.geteuid() == 0 else os.environ.get("USER", "root"),
            "--broker-pid-file", f"{self._pid_file}", "--certificate-days", f"{self._certificate_days}", *more,
        )  # fmt: skip

    def publish(self) -> None:
        """Carry what the authority changed to registrar, gateway and broker."""
        self.provision("publish", "--registrar", f"{self.places.registrar}", "--authority", "authority")

    def provision(self, *words: str, passphrase: bool = True) -> str:
        """Run `moodline-provision`; returns what it printed. Raises FreshRoomError when it fails."""
        given = ["--passphrase-file", "passphrase"] if passphrase else []
        return self._command("provisioning", *words, *given)

    def moved_to(self, host: str) -> None:
        """The gateway machine has another address; nobody is told."""
        self._host = host

    def lose_gateway_machine(self) -> None:
        """The gateway machine dies with all that is on it; the next one has another folder."""
        if self.reader is not None:
            self.reader.stop(flush_s=0.1)
        for program in [each for each in self.programs if each.name in GATEWAY_PROGRAMS]:
            program.process.kill()
            program.process.wait()
            self.programs.remove(program)
        self.places = GatewayPlaces(self.folder / "next-gateway-machine")

    # --- programs ------------------------------------------------------------------------------------------------

    def start(self, *, authority: bool = True) -> None:
        """Start mosquitto, the registrar (with the room authority open) and the gateway; returns when they answer."""
        self.start_broker()
        self.start_registrar(*(["--authority", "authority", "--passphrase-file", "passphrase"] if authority else []))
        self.start_gateway()

    def listen(self) -> None:
        """Connect a consumer that reads labels; for `first_labels`."""
        self.reader = MqttLink(
            READER,
            Broker(host=self._host, port=self.port, server_name="broker", queue_messages=20_000),
            credentials_in(self.folder / READER),
            subscriptions=[topics.labels(ROOM, "+", "+")],
        )
        self.reader.start()

    def stored_labels(self, unit: str, since_ms: int) -> list[LabelDocument]:
        """Verified labels of a unit in the gateway's store, accepted at or after a moment of the gateway's clock."""
        store = self.places.gateway / STATE_FOLDER / STORE_FILE
        return list(LabelReader(store).since(unit, since_ms, limit=1_000)) if store.exists() else []

    def start_broker(self) -> Program:
        """Start mosquitto."""
        mosquitto = find_mosquitto()
        if mosquitto is None:
            raise FreshRoomError("mosquitto is not installed.", next_step="Run: apt install mosquitto")
        program = self._start(
            "mosquitto", [*self._gateway_side, mosquitto, "-c", f"{self.places.broker / CONFIG_FILE}"]
        )
        self._pid_file.write_text(f"{program.process.pid}\n")
        knock = f"import socket; socket.create_connection(({self._host!r}, {self.port}), 1).close()"
        ends = time.monotonic() + START_S
        command = [*self._gateway_side, sys.executable, "-c", knock]
        while subprocess.run(command, capture_output=True, check=False).returncode != 0:
            program.check()
            if time.monotonic() > ends:
                raise FreshRoomError("mosquitto does not listen.", next_step=f"Its log is {program.log}.")
        return program

    def start_registrar(self, *more: str) -> Program:
        """Start the registrar."""
        program = self.run(
            "registrar", "provisioning.registrar", "--folder", f"{self.places.registrar}", "--host", self._host,
            "--port", f"{self.registrar_port}", *more,
        )  # fmt: skip
        self._await(program, "Boxes know it by its key digest")
        return program

    def start_gateway(self) -> Program:
        """Start the gateway."""
        program = self.run("gateway", "device.gateway", "--config", f"{self.places.config}")
        self._await(program, "The broker is there")
        return program

    def box(self, unit: str) -> Path:
        """A box's folder."""
        return self.folder / "boxes" / unit

    def seed(self, unit: str) -> Path:
        """The seed file on a box's card."""
        return self.folder / "cards" / f"desk-{unit[1:]}" / SEED_FILE

    def enrol(self, unit: str, *, wait_s: float = LABEL_S) -> Program:
        """Plug a box in: it makes its key and enrols by its seed. Returns at once."""
        folder = self.box(unit)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.run(
            f"box-{unit}", "provisioning.box", "enrol", "--root", f"{folder}", "--seed", f"{self.seed(unit)}",
            "--capture-replay", f"{TAKE}", "--wait-s", f"{wait_s}",
        )  # fmt: skip

    def start_unit(self, unit: str, *, environment: Mapping[str, str] | None = None) -> Program:
        """Start an enrolled box's desk program."""
        config = self.box(unit) / "device.toml"
        return self.run(f"unit-{unit}", "device.unit", "--config", f"{config}", environment=environment)

    def run(self, name: str, module: str, *words: str, environment: Mapping[str, str] | None = None) -> Program:
        """Start a program of the room; it ends with the room."""
        side = self._box_side if name.startswith(("box-", "unit-")) else self._gateway_side
        return self._start(name, [*side, sys.executable, "-m", module, *words], environment)

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Program:
        log = self.folder / f"{name}-{len(self.programs):03d}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                process_group=0,
            )
        program = Program(name, process, log)
        self.programs.append(program)
        return program

    def first_labels(self, units: Sequence[str], *, within_s: float = LABEL_S) -> dict[str, float]:
        """Monotonic second at which a verified label of each unit arrived at the consumer, from now on."""
        assert self.reader is not None
        seen: dict[str, float] = {}
        ends = time.monotonic() + within_s
        while len(seen) < len(units) and (left := ends - time.monotonic()) > 0:
            event = self.reader.next_event(min(left, 0.5))
            if isinstance(event, Received) and not event.retained:
                label = msgspec.json.decode(event.payload, type=LabelDocument)
                if label.unit in units:
                    seen.setdefault(label.unit, time.monotonic())
        missing = sorted(set(units) - seen.keys())
        if missing:
            raise FreshRoomError(
                f"No label of {', '.join(missing)} in {within_s:.0f} s.", next_step=f"Read the logs in {self.folder}."
            )
        return seen

    def wait(self, program: Program, *, within_s: float = LABEL_S) -> None:
        """Wait until a program ends well. Raises FreshRoomError when it does not."""
        try:
            code = program.process.wait(within_s)
        except subprocess.TimeoutExpired:
            code = -1
        if code != 0:
            raise FreshRoomError(f"{program.name}: {_tail(program.log)}", next_step=f"Its log is {program.log}.")

    def stop(self) -> None:
        """End everything that runs."""
        if self.reader is not None:
            self.reader.stop(flush_s=0.1)
            self.reader = None
        for program in reversed(self.programs):
            program.stop()
        self.programs.clear()

    def _command(self, module: str, *words: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if ran.returncode != 0:
            raise FreshRoomError(f"{' '.join(words)}: {ran.stderr or ran.stdout}", next_step="See above.")
        return ran.stdout

    def _await(self, program: Program, text: str) -> None:
        ends = time.monotonic() + START_S
        while text not in program.log.read_text(errors="replace"):
            program.check()
            if time.monotonic() > ends:
                raise FreshRoomError(f"{program.name} did not say {text!r}.", next_step=f"Its log is {program.log}.")
            time.sleep(0.02)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:])
