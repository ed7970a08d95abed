"""The registrar as a program beside a real mosquitto: enrolled boxes get in, revoked ones are out, it stops cleanly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from device.config import Broker
from device.messages import topics
from device.publish.mqtt import MqttLink
from device.publish.ports import Connected, Disconnected
from provisioning import boxes, certificates, keys
from provisioning.boxes import Credentials
from provisioning.certificates import Role, now_utc
from provisioning.enrolment_messages import ANSWER_BYTES, ENROL_PATH, Enrolled, EnrolmentAnswer
from provisioning.gateway import GatewayPlaces, GatewayPlan, admit_gateway, write_gateway
from provisioning.mosquitto import Mosquitto, free_port
from provisioning.pinned import PinnedClient
from provisioning.registrar import write_registrar_box
from provisioning.registration import RegistrarFolder
from tests.integration.cable import BOX, GATEWAY, GATEWAY_ADDRESS, Cable, cable, needs_cable
from tests.integration.room_broker import require_mosquitto, wait_for
from tests.provisioning.registrar_box import FakeBox
from tests.provisioning.registrar_program import HOST, ROOM, found_authority, seat

__all__ = ["cable"]

PASSPHRASE = "correct horse battery staple"
TOKENS = {"b1": "a" * 26, "b2": "b" * 26}


class Machine:
    """A gateway machine: broker running, registrar set up; the authority lies encrypted beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.authority = found_authority(folder / "authority", PASSPHRASE.encode())
        (folder / "passphrase").write_text(PASSPHRASE + "\n")
        (folder / "passphrase").chmod(0o600)
        plan = GatewayPlan(hosts=(HOST,), address=HOST, port=self.port, run_broker_as="root", desks={})
        self.places: GatewayPlaces = admit_gateway(folder / "machine", self.authority, plan)
        self.authority.publish()
        write_gateway(self.places, self.authority, plan)
        self.pid_file = folder / "mosquitto.pid"
        write_registrar_box(
            self.places.registrar,
            self.authority,
            broker_port=self.port,
            gateway=self.places.gateway,
            broker=self.places.broker,
            broker_pid_file=self.pid_file,
        )
        self.registrar = RegistrarFolder(self.places.registrar)
        with self.registrar.claims() as claims:
            for unit, token in TOKENS.items():
                expires_ms = int((now_utc() + timedelta(days=1)).timestamp() * 1_000)
                claims.add_seat(seat(unit, token, expires_ms))
        self.mosquitto = Mosquitto(self.places.broker, HOST, self.port)
        self._process: subprocess.Popen[str] | None = None
        self._links: list[MqttLink] = []

    def start_broker(self) -> None:
        """Start mosquitto, whose process id is in a file as on a machine."""
        self.mosquitto.start()
        self.pid_file.write_text(f"{self.mosquitto.pid}\n")

    def start_registrar(self, *options: str) -> list[str]:
        """Start the program; returns what it says until it serves."""
        command = [sys.executable, "-m", "provisioning.registrar", "--folder", str(self.places.registrar)]
        self._process = subprocess.Popen(
            [*command, "--host", HOST, "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        said: list[str] = []
        while not said or "room authority" not in said[-1]:
            line = self._process.stdout.readline()
            assert line, (said, self._process.wait(5))
            said.append(line.rstrip())
        address = next(line for line in said if "is at https://" in line)
        self.registrar_port = int(address.rsplit(":", 1)[1])
        return said

    def start_open_registrar(self, *options: str) -> list[str]:
        """With the authority at hand."""
        where = ("--authority", str(self.authority.folder), "--passphrase-file", str(self.folder / "passphrase"))
        return self.start_registrar(*where, *options)

    def stop_registrar(self) -> tuple[int, str]:
        """SIGTERM; returns the exit code and what it said last."""
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        said = process.communicate(timeout=20)[0]
        return process.returncode, said

    def close(self) -> None:
        """Leave nothing running, however the test ended."""
        for link in self._links:
            link.stop()
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self.mosquitto.kill()

    def enrol(self, box: FakeBox, token: str) -> Enrolled:
        """As a box with a seed asks."""
        client = PinnedClient([HOST], self.registrar_port, self.registrar.digest)
        answer = client.post(ENROL_PATH, box.request(token), EnrolmentAnswer, limit=ANSWER_BYTES)
        assert answer.enrolled is not None
        return answer.enrolled

    def link(self, box: FakeBox, enrolled: Enrolled) -> MqttLink:
        """As the box connects with what it was given."""
        folder = boxes.make_folder(self.folder / enrolled.unit)
        keys.write_signing_key(folder / "key.pem", box.signer.private_key)
        (folder / "certificate.pem").write_text(enrolled.certificate)
        (folder / "authority.pem").write_text(enrolled.certificate_authority)
        link = MqttLink(
            enrolled.unit,
            Broker(host=enrolled.broker_host, port=enrolled.broker_port, server_name=enrolled.broker_name),
            Credentials(folder / "key.pem", folder / "certificate.pem", folder / "authority.pem"),
            subscriptions=[topics.trust(enrolled.room)],
        )
        link.start()
        self._links.append(link)
        return link


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    require_mosquitto()
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_box_is_enrolled_gets_into_the_broker_and_is_put_out_when_revoked(machine: Machine) -> None:
    machine.start_broker()
    said = machine.start_open_registrar("--no-mdns")
    assert any(machine.registrar.digest.hex() in line for line in said)
    machines = {unit: FakeBox(machine.registrar.digest) for unit in TOKENS}
    links = {unit: machine.link(box, machine.enrol(box, TOKENS[unit])) for unit, box in machines.items()}
    for link in links.values():
        wait_for(link, Connected)
    for name in ("gateway", "registrar"):
        folder = machine.places.root / name
        assert (folder / "room-authority.pem").read_bytes() == (
            machine.authority.folder / "room-authority.pem"
        ).read_bytes()
    assert (machine.places.gateway / "roster.cose").read_bytes() == (
        machine.authority.folder / "roster.cose"
    ).read_bytes()
    where = ["--registrar", str(machine.places.registrar), "--authority", str(machine.authority.folder)]
    machine.authority.revoke("b1")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "provisioning",
            "publish",
            *where,
            "--passphrase-file",
            str(machine.folder / "passphrase"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "b1 is put out of the broker." in run.stdout
    wait_for(links["b1"], Disconnected)
    assert links["b2"].next_event(0.5) is None
    code, last = machine.stop_registrar()
    assert (code, last) == (0, "The registrar has stopped.\n")


def test_a_gateway_that_slept_for_years_renews_its_own_certificates_and_the_brokers(machine: Machine) -> None:
    long_ago = now_utc() - timedelta(days=800)
    keys_of: dict[str, bytes] = {}
    for folder, role in ((machine.places.gateway, Role.GATEWAY), (machine.places.broker, Role.BROKER)):
        path = folder / boxes.CERTIFICATE_FILE
        standing = certificates.load_certificate(path)
        key = keys.signing_key(folder / boxes.KEY_FILE).public_key()
        keys_of[role] = key.public_bytes_raw()
        hosts = certificates.hosts_of(standing)
        old = machine.authority.ca.issue(role.value, role, key, long_ago, hosts=hosts, life=timedelta(days=730))
        path.write_bytes(certificates.pem(old))
    machine.start_broker()
    said = machine.start_open_registrar("--no-mdns")
    assert said[:2] == ["The certificate of gateway was renewed.", "The certificate of broker was renewed."]
    for folder, role in ((machine.places.gateway, Role.GATEWAY), (machine.places.broker, Role.BROKER)):
        renewed = certificates.load_certificate(folder / boxes.CERTIFICATE_FILE)
        assert certificates.key_of(renewed) == keys_of[role]
    # The broker shows the new one without having been started again.
    box = FakeBox(machine.registrar.digest)
    wait_for(machine.link(box, machine.enrol(box, TOKENS["b1"])), Connected)
    assert machine.stop_registrar()[0] == 0


@needs_cable
def test_it_says_by_mdns_where_it_is_also_when_its_address_has_changed(machine: Machine, cable: Cable) -> None:
    command = [sys.executable, "-m", "provisioning.registrar", "--folder", str(machine.places.registrar)]
    program = cable.start(GATEWAY, *command)
    assert program.stdout is not None
    said = [program.stdout.readline().strip() for _ in range(4)]
    assert said[-1] == f"Boxes find it by mDNS at {GATEWAY_ADDRESS}."
    assert found(cable, machine.registrar.digest) == f"{GATEWAY_ADDRESS} answers"
    cable.change_address(GATEWAY_ADDRESS, "10.77.0.9")
    assert program.stdout.readline().strip() == "Boxes find it by mDNS at 10.77.0.9."
    assert found(cable, machine.registrar.digest) == "10.77.0.9 answers"
    program.terminate()
    assert program.wait(20) == 0


def found(cable: Cable, digest: bytes) -> str:
    """Where a box on the cable finds the registrar, and whether it answers there under its pinned key."""
    code = f"""
from provisioning.discovery import find
from provisioning.pinned import PinnedClient
for each in find({ROOM!r}, {digest!r}, 30):
    PinnedClient(each.addresses, each.port, {digest!r}).get("/healthz", limit=100)
    print(*each.addresses, "answers")
"""
    out: str = cable.start(BOX, sys.executable, "-c", code).communicate(timeout=60)[0]
    return out.strip()


def test_upkeep_alone_ends_with_a_finding_when_something_failed(machine: Machine) -> None:
    command = [sys.executable, "-m", "provisioning.registrar", "--folder", str(machine.places.registrar), "--upkeep"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    (machine.places.broker / boxes.CERTIFICATE_FILE).write_text("torn")
    run = subprocess.run(command, capture_output=True, timeout=60, text=True, check=False)
    assert run.returncode == 1
    assert "is not a certificate" in run.stderr
