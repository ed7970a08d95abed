"""A bare box, the registrar and the broker as real programs, with a cable between two machines where mDNS is needed."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from device.clock import TimeSource
from device.config import UnitConfig, load_unit
from device.system.clock import SystemClock
from device.system.storage import read_record
from provisioning import certificates
from provisioning.box import EXIT_NOT_YET, EXIT_OK, Box, BoxStatus
from provisioning.box_folder import STATUS_FILE, BoxFolder, BoxSettings
from provisioning.box_light import NoLight
from provisioning.certificates import CertificateAuthority, Role
from provisioning.enrolling import BoxState, FoundRegistrar
from provisioning.enrolment_messages import CONTENT_TYPE
from provisioning.mosquitto import Mosquitto, find_mosquitto, free_port
from provisioning.refusals import Refusal
from provisioning.seed_file import SEED_FILE, read_seed, write_seed
from provisioning.upkeep import Reach, reach_broker
from tests.fakes.clock import FakeClock
from tests.fakes.https_peer import HttpsPeer
from tests.fakes.https_peer import http as http_answer
from tests.integration.cable import BOX, GATEWAY, GATEWAY_ADDRESS, Cable, cable, needs_cable
from tests.integration.room_broker import require_mosquitto, wait_until
from tests.provisioning.registrar_room import LINE, ROOM, RegistrarRoom

__all__ = ["cable"]

REPOSITORY = Path(__file__).resolve().parents[2]
REGISTRAR = (sys.executable, "-m", "provisioning.registrar")
BOX_PROGRAM = (sys.executable, "-m", "provisioning.box")
NEW_ADDRESS = "10.77.0.9"


def box(command: str, root: Path, *options: str) -> int:
    """Run `moodline-box` and return its exit code."""
    return subprocess.run(
        [*BOX_PROGRAM, command, "--root", str(root), *options], cwd=REPOSITORY, check=False
    ).returncode


def status(root: Path) -> BoxStatus:
    return read_record(root / STATUS_FILE, BoxStatus)


def registrar_command(room: RegistrarRoom, host: str, port: int, *options: str) -> list[str]:
    where = ["--folder", str(room.places.registrar), "--host", host, "--port", str(port)]
    return [*REGISTRAR, *where, "--authority", str(room.authority.folder), *options]


def wait_for_line(program: subprocess.Popen[str], text: str) -> None:
    assert program.stdout is not None
    for line in program.stdout:
        if text in line:
            return
    raise AssertionError(f"it ended without saying {text!r}")


@contextmanager
def running_registrar(room: RegistrarRoom) -> Iterator[None]:
    """The registrar's program on this machine; `room.port` is where."""
    room.port = free_port()
    command = registrar_command(room, "127.0.0.1", room.port, "--no-mdns")
    program = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        wait_for_line(program, "is open")
        yield
    finally:
        program.terminate()
        program.wait(20)
        assert program.stdout is not None
        program.stdout.close()


@contextmanager
def running_broker(room: RegistrarRoom) -> Iterator[None]:
    broker = Mosquitto(room.places.broker, "127.0.0.1", room.broker_port)
    broker.start()
    try:
        yield
    finally:
        broker.stop()


@pytest.fixture
def room(tmp_path: Path) -> RegistrarRoom:
    require_mosquitto()
    return RegistrarRoom(tmp_path / "room", broker_port=free_port())


def test_bare_box_with_a_seed_is_enrolled_and_the_broker_takes_it(room: RegistrarRoom, tmp_path: Path) -> None:
    root, card = tmp_path / "box", tmp_path / SEED_FILE
    with running_registrar(room), running_broker(room):
        write_seed(card, room.seed())
        assert box("enrol", root, "--seed", str(card), "--wait-s", "30") == EXIT_OK
        config = BoxFolder(root).enrolled()
        assert config is not None
        assert (config.unit, config.line, config.broker.port) == ("b14", LINE, room.broker_port)
        assert reach_broker(config, None) is Reach.TAKEN
        assert read_seed(card) is None
        before = {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}
        assert box("enrol", root, "--seed", str(card), "--once") == EXIT_OK
        assert box("renew", root) == EXIT_OK
        assert {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()} == before


def test_wrong_digest_in_the_seed_is_refused_by_the_box_with_the_next_step(room: RegistrarRoom, tmp_path: Path) -> None:
    root, card = tmp_path / "box", tmp_path / SEED_FILE
    with running_registrar(room):
        write_seed(card, msgspec.structs.replace(room.seed(), registrar_digest=bytes(32)))
        assert box("enrol", root, "--seed", str(card), "--once") == EXIT_NOT_YET
    told = status(root).refusal
    assert told is not None
    assert told.code == Refusal.OTHER_CHANNEL
    assert "strange device" in told.next_step
    assert read_seed(card) is not None


# --- a box in this program, with a clock and a network that the test moves -----------------------------------------


class Desk:
    """One box whose search finds what the test says."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock(wall_ms=SystemClock().wall_ms())
        self.folder = BoxFolder(root, clock=self.clock)
        self.on_network: list[FoundRegistrar] = []
        root.mkdir(mode=0o700)
        self.box = Box(
            self.folder,
            BoxSettings(),
            seeds=[root / SEED_FILE],
            clock=self.clock,
            signal=NoLight(),
            search=lambda room, digest: self.on_network,
            sleep=lambda seconds: None,
        )

    @property
    def config(self) -> UnitConfig:
        found = self.folder.enrolled()
        assert found is not None
        return found


def relaying(port: int) -> Callable[[bytes], bytes]:
    """What somebody does who stands between box and registrar, and passes everything on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def pass_on(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        connection.request(method, path, body=body, headers={"Content-Type": CONTENT_TYPE})
        response = connection.getresponse()
        answer = http_answer(response.read(), response.status)
        connection.close()
        return answer

    return pass_on


def test_man_in_the_middle_of_a_claim_is_refused_at_both_ends(room: RegistrarRoom, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "box")
    with running_registrar(room), HttpsPeer(tmp_path, relaying(room.port)) as middle:
        with room.registrar.claims() as claims:
            claims.open_window(3_600, wall_ms=SystemClock().wall_ms())
        desk.on_network = [FoundRegistrar(ROOM, middle.digest, middle.port, ("127.0.0.1",))]
        assert not desk.box.enrol(until=desk.clock.monotonic())
        assert len(middle.requests) == 2
        with room.registrar.claims() as claims:
            assert claims.waiting(SystemClock().wall_ms()) == []
    told = status(desk.folder.root).refusal
    assert told is not None
    assert told.code == Refusal.OTHER_CHANNEL
    assert desk.folder.enrolled() is None


def test_certificate_that_ended_is_renewed_by_a_box_that_woke_up_in_1970(room: RegistrarRoom, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "box")
    desk.clock.source = TimeSource.UNSET
    desk.clock.step_wall(-desk.clock.wall_ms())
    with running_registrar(room), running_broker(room):
        write_seed(desk.folder.root / SEED_FILE, room.seed())
        assert desk.box.enrol(until=desk.clock.monotonic() + 60)
        key = desk.folder.signer()
        assert key is not None
        public = Ed25519PublicKey.from_public_bytes(key.public_key)
        ended = room.authority.ca.issue("b14", Role.UNIT, public, datetime.now(UTC) - timedelta(days=800))
        (desk.folder.root / "certificate.pem").write_bytes(certificates.pem(ended))
        (desk.folder.root / "state" / "time.json").unlink()
        floor = desk.folder.floor_ms()
        assert floor < ended.not_valid_after_utc.timestamp() * 1_000
        assert reach_broker(desk.config, floor) is Reach.REFUSED
        assert desk.box.keep_well(desk.config, until=desk.clock.monotonic())
        assert reach_broker(desk.config, desk.folder.floor_ms()) is Reach.TAKEN
        assert desk.folder.certificate().serial_number != ended.serial_number
        assert desk.folder.floor_ms() > ended.not_valid_after_utc.timestamp() * 1_000


def test_stranger_at_the_brokers_address_is_not_the_broker(room: RegistrarRoom, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "box")
    with running_registrar(room), HttpsPeer(tmp_path, lambda _: b"") as stranger:
        write_seed(desk.folder.root / SEED_FILE, room.seed())
        assert desk.box.enrol(until=desk.clock.monotonic() + 60)
        there = msgspec.structs.replace(desk.config.broker, port=stranger.port)
        assert reach_broker(msgspec.structs.replace(desk.config, broker=there), None) is Reach.STRANGER
        assert reach_broker(desk.config, None) is Reach.UNREACHABLE


def test_box_follows_the_room_to_another_certificate_authority(room: RegistrarRoom, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "box")
    with running_registrar(room), running_broker(room):
        write_seed(desk.folder.root / SEED_FILE, room.seed())
        assert desk.box.enrol(until=desk.clock.monotonic() + 60)
        other = CertificateAuthority.create(ROOM, Ed25519PrivateKey.generate(), datetime.now(UTC))
        (desk.folder.root / "certificate-authority.pem").write_bytes(certificates.pem(other.certificate))
        assert reach_broker(desk.config, None) is Reach.STRANGER
        assert desk.box.keep_well(desk.config, until=desk.clock.monotonic())
        assert reach_broker(desk.config, None) is Reach.TAKEN


# --- two machines ------------------------------------------------------------------------------------------------


def start_gateway(cable: Cable, room: RegistrarRoom) -> subprocess.Popen[str]:
    """The registrar in the gateway's network, found over mDNS."""
    registrar = cable.start(GATEWAY, *registrar_command(room, "0.0.0.0", 8_884))
    wait_for_line(registrar, "by mDNS")
    return registrar


def codes(room: RegistrarRoom) -> list[str]:
    """Codes that wait for an operator at the registrar."""
    with room.registrar.claims() as claims:
        return [claim.code for claim in claims.waiting(SystemClock().wall_ms())]


@needs_cable
@pytest.mark.slow
def test_box_without_a_seed_finds_its_gateway_shows_a_code_and_follows_it_to_a_new_address(
    cable: Cable, tmp_path: Path
) -> None:
    require_mosquitto()
    mosquitto = find_mosquitto()
    assert mosquitto is not None
    room = RegistrarRoom(tmp_path / "room", broker_address="0.0.0.0")
    root = tmp_path / "box"
    registrar = start_gateway(cable, room)
    cable.start(GATEWAY, mosquitto, "-c", str(room.places.broker / "mosquitto.conf"))
    with room.registrar.claims() as claims:
        claims.open_window(3_600, wall_ms=SystemClock().wall_ms())
    enrolling = cable.start(BOX, *BOX_PROGRAM, "enrol", "--root", str(root), "--wait-s", "60")
    wait_until(lambda: (root / STATUS_FILE).exists() and status(root).code in codes(room), "both show one code")
    with room.registrar.claims() as claims:
        claims.accept(status(root).code, unit="b14", line=LINE, desk="Desk 14", wall_ms=SystemClock().wall_ms())
    assert enrolling.wait(60) == EXIT_OK
    assert status(root).state is BoxState.ENROLLED
    assert load_unit(root / "device.toml").broker.host == GATEWAY_ADDRESS

    registrar.terminate()
    registrar.wait(20)
    cable.change_address(GATEWAY_ADDRESS, NEW_ADDRESS)
    start_gateway(cable, room)
    assert cable.start(BOX, *BOX_PROGRAM, "renew", "--root", str(root), "--wait-s", "30").wait(60) == EXIT_OK
    broker = load_unit(root / "device.toml").broker
    assert (broker.host, broker.server_name) == (NEW_ADDRESS, "broker")
    before = (root / "device.toml").stat().st_mtime_ns
    assert cable.start(BOX, *BOX_PROGRAM, "renew", "--root", str(root)).wait(60) == EXIT_OK
    assert (root / "device.toml").stat().st_mtime_ns == before
