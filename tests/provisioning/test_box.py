"""The box against the registrar's real answers over TLS: both ways in, power cuts, loss, renewal, end."""

from __future__ import annotations

import itertools
import logging
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.clock import TimeSource
from device.config import load_unit
from device.errors import ConfigError, StorageError
from device.system.clock import SystemClock
from device.system.keys import public_pem
from device.system.storage import DISK, SESSION_FILE, SPILL_FILE, Disk, SessionCounter, read_record
from device.trust import load_trusted
from provisioning.box import EXIT_CANNOT, EXIT_NOT_YET, EXIT_OK, Box, BoxStatus, main
from provisioning.box_folder import STATUS_FILE, BoxFolder
from provisioning.box_light import Sign
from provisioning.enrolling import BoxState, FoundRegistrar, Place
from provisioning.enrolment_messages import Enrolled
from provisioning.refusals import Refusal, RefusalError
from provisioning.seed_file import SEED_FILE, read_seed, write_seed
from tests.fakes.clock import FakeClock
from tests.fakes.storage import FailingDisk, PowerCutDisk, PowerCutError
from tests.provisioning.registrar_room import LINE, ROOM, RegistrarRoom

P256 = (
    generate_private_key(SECP256R1())
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


class Signs:
    """A Signal that remembers what it showed."""

    def __init__(self) -> None:
        self.shown: list[Sign] = []

    def show(self, sign: Sign) -> None:
        if self.shown[-1:] != [sign]:
            self.shown.append(sign)


class Bench:
    """One box on the bench: a root folder, a boot partition, and what stands around it."""

    def __init__(self, folder: Path, room: RegistrarRoom) -> None:
        self.root = folder / "box"
        self.card = folder / "boot" / SEED_FILE
        self.card.parent.mkdir()
        self.room = room
        self.signs = Signs()
        self.clock = FakeClock(wall_ms=SystemClock().wall_ms())
        self.on_network: list[FoundRegistrar] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def folder(self, disk: Disk = DISK) -> BoxFolder:
        return BoxFolder(self.root, disk=disk, clock=self.clock)

    def box(self, disk: Disk = DISK) -> Box:
        folder = self.folder(disk)
        self.root.mkdir(mode=0o700, exist_ok=True)
        return Box(
            folder,
            folder.settings(),
            seeds=[self.card],
            clock=self.clock,
            signal=self.signs,
            search=lambda room, digest: [each for each in self.on_network if digest in (None, each.digest)],
            sleep=self.sleep,
            jitter=lambda: 1.0,
        )

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.on_sleep()

    def enrol(self, within_s: float = 60.0, disk: Disk = DISK) -> bool:
        return self.box(disk).enrol(until=self.clock.monotonic() + within_s)

    def lay_seed(self, changes: Mapping[str, object] = MappingProxyType({})) -> None:
        write_seed(self.card, msgspec.structs.replace(self.room.seed(), **changes))

    def status(self) -> BoxStatus:
        return read_record(self.root / STATUS_FILE, BoxStatus)

    def contents(self) -> dict[str, bytes]:
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room as it was founded, to be copied."""
    return RegistrarRoom(tmp_path_factory.mktemp("built")).folder


@pytest.fixture
def bench(built: Path, tmp_path: Path) -> Iterator[Bench]:
    shutil.copytree(built, tmp_path / "room")
    room = RegistrarRoom(tmp_path / "room")
    made = Bench(tmp_path, room)
    with room.serving():
        made.on_network = [FoundRegistrar(ROOM, room.registrar.digest, room.port, ("127.0.0.1",))]
        yield made


def open_window(bench: Bench) -> None:
    with bench.room.registrar.claims() as claims:
        claims.open_window(3_600, wall_ms=SystemClock().wall_ms())


def accept(bench: Bench, code: str, unit: str = "b14") -> None:
    with bench.room.registrar.claims() as claims:
        claims.accept(code, unit=unit, line=LINE, desk="Desk 14", wall_ms=SystemClock().wall_ms())


def test_blank_box_with_a_seed_becomes_its_unit(bench: Bench) -> None:
    bench.lay_seed()
    assert bench.enrol()
    config = load_unit(bench.root / "device.toml")
    assert (config.room, config.line, config.unit, config.desk) == (ROOM, LINE, "b14", "Desk b14")
    assert (config.broker.host, config.broker.server_name) == ("127.0.0.1", "broker")
    trusted = load_trusted(config.trust, config.room, bench.clock)
    assert trusted.roster.line_of("b14") == LINE
    assert stat.S_IMODE((bench.root / "key.pem").stat().st_mode) == 0o600
    assert SessionCounter(config.state / SESSION_FILE).raise_() == 1
    assert read_seed(bench.card) is None
    assert bench.status().state is BoxState.ENROLLED
    assert bench.signs.shown == [Sign.BLANK, Sign.ENROLLED]


def test_enrolling_again_changes_nothing(bench: Bench) -> None:
    bench.lay_seed()
    assert bench.enrol()
    before = bench.contents()
    assert bench.enrol()
    assert bench.contents() == before


def test_claim_window_shows_the_registrars_code_and_ends_when_it_is_accepted(bench: Bench) -> None:
    open_window(bench)

    def look() -> None:
        with bench.room.registrar.claims() as claims:
            (waiting,) = claims.waiting(SystemClock().wall_ms())
        assert bench.status().code == waiting.code
        assert bench.status().sign is Sign.WAITING_FOR_CODE
        accept(bench, waiting.code)
        bench.on_sleep = lambda: None

    bench.on_sleep = look
    assert bench.enrol()
    assert bench.signs.shown == [Sign.BLANK, Sign.WAITING_FOR_CODE, Sign.ENROLLED]
    assert bench.status().code == ""
    assert load_unit(bench.root / "device.toml").unit == "b14"


def test_box_waits_for_a_closed_authority_and_says_so(bench: Bench) -> None:
    bench.room.close_office()
    bench.lay_seed()
    assert not bench.enrol(within_s=0.0)
    assert (bench.status().state, bench.status().waiting) == (BoxState.CLAIMED, "authority")
    bench.on_sleep = bench.room.open_office
    assert bench.enrol()


def test_closed_window_is_told_with_its_next_step_and_tried_again(bench: Bench) -> None:
    assert not bench.enrol(within_s=0.0)
    refusal = bench.status().refusal
    assert refusal is not None
    assert refusal.code == Refusal.WINDOW_CLOSED
    assert "moodline-provision window" in refusal.next_step
    assert bench.signs.shown == [Sign.BLANK, Sign.REFUSED]


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        ({"token": "z" * 26}, Refusal.TOKEN_UNKNOWN),
        ({"room": "room-9"}, Refusal.OTHER_ROOM),
        ({"registrar_digest": bytes(32)}, Refusal.OTHER_CHANNEL),
    ],
)
def test_wrong_seed_is_refused_by_name_and_changes_nothing(
    bench: Bench, spoil: dict[str, object], refusal: Refusal
) -> None:
    bench.lay_seed(spoil)
    assert not bench.enrol(within_s=0.0)
    told = bench.status().refusal
    assert told is not None
    assert told.code == refusal
    assert told.next_step
    assert not (bench.root / "device.toml").exists()
    assert read_seed(bench.card) is not None


def changed(**changes: object) -> Callable[[Enrolled], Enrolled]:
    return lambda enrolled: msgspec.structs.replace(enrolled, **changes)


def self_made(enrolled: Enrolled) -> Enrolled:
    """All that another authority signs for the same room."""
    key = Ed25519PrivateKey.generate().public_key()
    return msgspec.structs.replace(enrolled, room_authority=public_pem(key).decode())


@pytest.mark.parametrize(
    ("spoil", "detail"),
    [
        (self_made, "The trust bundle: The signature is not by"),
        (changed(room_authority="none"), "The room authority's key"),
        (changed(room_authority=P256), "of another kind"),
        (changed(certificate="none"), "The certificate is none"),
        (changed(certificate_authority="none"), "The certificate is none"),
        (lambda enrolled: changed(certificate=enrolled.certificate_authority)(enrolled), "is not for b14"),
        (lambda enrolled: changed(certificate_authority=enrolled.certificate)(enrolled), "not by the room's"),
        (changed(unit="b15"), "is not for b15"),
        (changed(line="line-c"), "does not list b14"),
        (changed(trust=b"none"), "The trust bundle"),
        (lambda enrolled: changed(trust=enrolled.trust[:-1])(enrolled), "The trust bundle"),
        (changed(broker_port=0), "the broker"),
    ],
)
def test_answer_that_does_not_hold_together_is_refused_whole(
    bench: Bench, spoil: Callable[[Enrolled], Enrolled], detail: str
) -> None:
    bench.room.spoil = spoil
    bench.lay_seed()
    assert not bench.enrol(within_s=0.0)
    told = bench.status().refusal
    assert told is not None
    assert told.code == Refusal.MALFORMED
    assert detail in told.sentence
    assert set(bench.contents()) == {"key.pem", "status.json", "state/session.json"}
    bench.room.spoil = lambda enrolled: enrolled
    assert bench.enrol()


def test_used_token_is_refused_to_a_second_box_and_its_first_keeps_it(bench: Bench, tmp_path: Path) -> None:
    bench.lay_seed()
    copy = bench.card.read_bytes()
    assert bench.enrol()
    (tmp_path / "second").mkdir()
    second = Bench(tmp_path / "second", bench.room)
    second.card.write_bytes(copy)
    assert not second.enrol(within_s=0.0)
    told = second.status().refusal
    assert told is not None
    assert told.code == Refusal.TOKEN_USED


def test_malformed_seed_stops_a_blank_box_and_names_the_entry(bench: Bench) -> None:
    bench.lay_seed()
    bench.card.write_text(bench.card.read_text().replace("room-2", "Room 2"))
    with pytest.raises(ConfigError, match=r"moodline-seed\.toml.*\$\.room"):
        bench.enrol()


def test_new_seed_on_a_running_box_ends_a_long_pause(bench: Bench) -> None:
    bench.lay_seed({"token": "z" * 26})
    bench.on_sleep = bench.lay_seed
    assert bench.enrol(within_s=30.0)


# --- power cuts and loss -----------------------------------------------------------------------------------------


def power_cuts(run: Callable[[Disk], object]) -> Iterator[int]:
    """Run with the power cut at each durable step in turn, until a run has none; yields after each cut."""
    for number in range(400):
        try:
            run(PowerCutDisk(number, bytes_per_write=4_096))
        except PowerCutError:
            yield number
        else:
            return
    raise AssertionError("it never came to its end")


def test_power_cut_while_the_key_is_made_leaves_no_key_or_a_whole_one_with_its_counter(bench: Bench) -> None:
    bench.on_network = []

    def first_boot(disk: Disk) -> None:
        bench.root.mkdir(exist_ok=True)
        bench.folder().wipe()
        bench.enrol(within_s=0.0, disk=disk)

    cuts = 0
    for _ in power_cuts(first_boot):
        cuts += 1
        had = (bench.root / "key.pem").read_bytes() if (bench.root / "key.pem").exists() else None
        bench.enrol(within_s=0.0)
        assert bench.folder().signer() is not None
        assert had in (None, (bench.root / "key.pem").read_bytes())
        assert SessionCounter(bench.root / "state" / SESSION_FILE).raise_() == 1
    assert cuts >= 8


def test_power_cut_at_every_durable_write_of_an_enrolment_is_completed_at_the_next_start(bench: Bench) -> None:
    bench.on_network, there = [], bench.on_network
    bench.enrol(within_s=0.0)
    bench.on_network = there
    made = {name: content for name, content in bench.contents().items() if name in ("key.pem", "state/session.json")}
    seed = bench.room.seed()

    def enrol(disk: Disk) -> None:
        bench.folder().wipe()
        for name, content in made.items():
            (bench.root / name).parent.mkdir(exist_ok=True)
            (bench.root / name).write_bytes(content)
            (bench.root / name).chmod(0o600)
        write_seed(bench.card, seed)
        assert bench.enrol(within_s=0.0, disk=disk)

    cuts = 0
    for cuts in power_cuts(enrol):
        assert bench.enrol(), f"after a power cut at call {cuts}"
        config = bench.folder().enrolled()
        assert config is not None
        assert (bench.root / "key.pem").read_bytes() == made["key.pem"]
        assert SessionCounter(config.state / SESSION_FILE).raise_() == 1
        bench.enrol()
        assert read_seed(bench.card) is None
    assert cuts >= 35


def test_full_disk_stops_the_box_by_name_and_the_next_start_completes_it(bench: Bench) -> None:
    bench.lay_seed()
    with pytest.raises(StorageError, match=r"cannot be written durably"):
        bench.enrol(disk=FailingDisk(20))
    assert not (bench.root / "device.toml").exists()
    assert bench.enrol()


@pytest.mark.parametrize("lost", ["roster.cose", "policy.cose", "certificate.pem", "device.toml", "room-authority.pem"])
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_box_that_lost_a_file_is_enrolled_again_with_its_old_key(bench: Bench, lost: str, how: str) -> None:
    bench.lay_seed()
    assert bench.enrol()
    before = bench.contents()
    assert SessionCounter(bench.root / "state" / SESSION_FILE).raise_() == 1
    (bench.root / "state" / SPILL_FILE).write_bytes(b"labels that wait")
    path = bench.root / lost
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"damaged")
    assert bench.enrol()
    after = bench.contents()
    assert after[lost] == before[lost]
    assert after["key.pem"] == before["key.pem"]
    assert SessionCounter(bench.root / "state" / SESSION_FILE).raise_() == 2
    assert (bench.root / "state" / SPILL_FILE).exists()


def test_key_that_lost_its_session_counter_is_never_used_again(bench: Bench) -> None:
    bench.lay_seed()
    assert bench.enrol()
    (bench.root / "state" / SESSION_FILE).unlink()
    with pytest.raises(ConfigError, match=r"session number must never be used twice.*moodline-box wipe"):
        bench.enrol()


def test_world_readable_key_is_refused_with_the_command(bench: Bench) -> None:
    bench.lay_seed()
    assert bench.enrol()
    (bench.root / "key.pem").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        bench.enrol()


def test_new_key_takes_no_labels_of_the_old_one_along(bench: Bench) -> None:
    bench.lay_seed()
    assert bench.enrol()
    (bench.root / "state" / SPILL_FILE).write_bytes(b"labels of the old key")
    (bench.root / "key.pem").unlink()
    (bench.root / "device.toml").unlink()
    write_seed(bench.card, bench.room.seed("b15", "z" * 26))
    assert bench.enrol()
    assert load_unit(bench.root / "device.toml").unit == "b15"
    assert not (bench.root / "state" / SPILL_FILE).exists()


def test_seed_of_a_stranger_on_an_enrolled_box_moves_it_nowhere(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.lay_seed()
    assert bench.enrol()
    write_seed(bench.card, bench.room.seed("b15", "z" * 26))
    with caplog.at_level(logging.WARNING):
        bench.enrol(within_s=0.0)
    assert "moodline-box wipe" in caplog.text
    assert load_unit(bench.root / "device.toml").unit == "b14"
    assert read_seed(bench.card) is not None


# --- life after enrolment ----------------------------------------------------------------------------------------


def enrolled(bench: Bench) -> dict[str, bytes]:
    bench.lay_seed()
    assert bench.enrol()
    bench.room.requests.clear()
    return bench.contents()


def keep_well(bench: Bench, *, at_once: bool = False, within_s: float = 0.0) -> bool:
    config = bench.folder().enrolled()
    assert config is not None
    return bench.box().keep_well(config, until=bench.clock.monotonic() + within_s, at_once=at_once)


DAY_S = 86_400


@pytest.mark.parametrize(("days", "renewed"), [(480, False), (490, True), (731, True), (4_000, True)])
def test_certificate_is_renewed_when_a_third_of_its_life_is_left_and_long_after_its_end(
    bench: Bench, days: int, renewed: bool
) -> None:
    before = enrolled(bench)
    bench.clock.step_wall(days * DAY_S * 1_000)
    assert keep_well(bench)
    after = bench.contents()
    assert (after["certificate.pem"] != before["certificate.pem"]) is renewed
    assert after["key.pem"] == before["key.pem"]
    assert after["roster.cose"] == before["roster.cose"]
    assert ("/v1/renew" in bench.room.requests) is renewed


def test_box_without_a_set_clock_does_not_renew_on_a_guess(bench: Bench) -> None:
    before = enrolled(bench)
    bench.clock.step_wall(-bench.clock.wall_ms())
    bench.clock.source = TimeSource.UNSET
    assert keep_well(bench)
    assert bench.contents()["certificate.pem"] == before["certificate.pem"]
    assert keep_well(bench, at_once=True)
    assert bench.contents()["certificate.pem"] != before["certificate.pem"]


def test_renewal_tries_again_until_the_gateway_is_up(bench: Bench) -> None:
    enrolled(bench)
    bench.clock.step_wall(800 * DAY_S * 1_000)
    bench.room.is_broken = True
    assert not keep_well(bench, within_s=30.0)
    tries = len(bench.room.requests)
    assert 3 <= tries <= 30

    def mend() -> None:
        bench.room.is_broken = False

    bench.on_sleep = mend
    assert keep_well(bench, within_s=30.0)


def test_gateway_that_moved_is_found_by_its_key_and_remembered(bench: Bench) -> None:
    enrolled(bench)
    with bench.room.serving("127.0.0.2") as peer:
        config = bench.folder().enrolled()
        assert config is not None
        record = bench.folder().record()
        assert record is not None
        gone = Place(("127.0.0.9",), record.place.port)
        bench.folder().remember(msgspec.structs.replace(record, place=gone))
        away = msgspec.structs.replace(config.broker, host="127.0.0.9")
        bench.folder().write_config(msgspec.structs.replace(config, broker=away))
        bench.on_network = [
            FoundRegistrar(ROOM, bytes(32), peer.port, ("127.0.0.3",)),
            FoundRegistrar(ROOM, bench.room.registrar.digest, peer.port, ("127.0.0.2",)),
        ]
        assert keep_well(bench)
    record = bench.folder().record()
    assert record is not None
    assert record.place.hosts == ("127.0.0.2", "127.0.0.9")


def test_revoked_box_is_told_once_and_asks_no_more(bench: Bench) -> None:
    enrolled(bench)
    bench.room.authority.revoke("b14")
    bench.room.publish()
    with pytest.raises(RefusalError, match="revoked"):
        keep_well(bench, at_once=True)
    assert (bench.status().state, bench.status().sign) == (BoxState.REVOKED, Sign.REFUSED)
    bench.room.requests.clear()
    with pytest.raises(RefusalError, match="revoked"):
        bench.enrol()
    with pytest.raises(RefusalError, match="revoked"):
        bench.box().renew(until=None)
    assert bench.room.requests == []


def test_renewal_brings_a_box_back_that_lost_a_file(bench: Bench) -> None:
    before = enrolled(bench)
    (bench.root / "roster.cose").unlink()
    assert bench.box().renew(until=bench.clock.monotonic())
    assert bench.contents()["roster.cose"] == before["roster.cose"]


def test_registrar_with_another_key_renews_nothing(bench: Bench) -> None:
    before = enrolled(bench)
    record = bench.folder().record()
    assert record is not None
    bench.folder().remember(msgspec.structs.replace(record, registrar=bytes(32)))
    with pytest.raises(RefusalError) as caught:
        keep_well(bench, at_once=True)
    assert caught.value.refusal is Refusal.OTHER_CHANNEL
    assert bench.contents()["certificate.pem"] == before["certificate.pem"]
    assert bench.room.requests == []


def test_power_cut_at_every_durable_write_of_a_renewal_leaves_an_enrolled_box(bench: Bench) -> None:
    before = enrolled(bench)
    cuts = 0

    def renew(disk: Disk) -> None:
        (bench.root / "certificate.pem").write_bytes(before["certificate.pem"])
        (bench.root / "state" / "time.json").unlink(missing_ok=True)
        box = bench.box(disk)
        config = bench.folder(disk).enrolled()
        assert config is not None
        box.keep_well(config, until=bench.clock.monotonic(), at_once=True)

    for _ in power_cuts(renew):
        cuts += 1
        assert bench.folder().enrolled() is not None
    assert cuts >= 8


def rotate(bench: Bench, disk: Disk = DISK) -> bool:
    config = bench.folder(disk).enrolled()
    assert config is not None
    return bench.box(disk).rotate(config, until=bench.clock.monotonic())


def test_key_is_changed_with_the_authority_open_and_sessions_go_on(bench: Bench) -> None:
    before = enrolled(bench)
    assert SessionCounter(bench.root / "state" / SESSION_FILE).raise_() == 1
    assert rotate(bench)
    after = bench.contents()
    assert after["key.pem"] != before["key.pem"]
    assert "key.pem.next" not in after
    config = bench.folder().enrolled()
    assert config is not None
    assert config.unit == "b14"
    assert SessionCounter(bench.root / "state" / SESSION_FILE).raise_() == 2


def test_key_is_not_changed_while_the_authority_is_closed_and_the_new_one_waits(bench: Bench) -> None:
    before = enrolled(bench)
    bench.room.close_office()
    with pytest.raises(RefusalError) as caught:
        rotate(bench)
    assert caught.value.refusal is Refusal.AUTHORITY_CLOSED
    waiting = bench.contents()["key.pem.next"]
    assert bench.contents()["key.pem"] == before["key.pem"]
    assert bench.folder().enrolled() is not None
    bench.room.open_office()
    assert rotate(bench)
    assert bench.contents()["key.pem"] == waiting


def test_power_cut_at_every_durable_write_of_a_change_of_key_is_completed(bench: Bench) -> None:
    enrolled(bench)
    cuts = 0

    def change(disk: Disk) -> None:
        if bench.folder(disk).enrolled() is None:
            bench.enrol(disk=disk)
        assert rotate(bench, disk)

    # The later steps are those of a box that lost its files, which has its own test.
    for _ in itertools.islice(power_cuts(change), 14):
        cuts += 1
        assert bench.enrol()
        if (bench.root / "key.pem.next").exists():
            assert rotate(bench)
        assert bench.folder().enrolled() is not None
    assert cuts == 14


def test_roster_that_came_first_brings_the_new_key_into_force(bench: Bench) -> None:
    enrolled(bench)
    bench.folder().next_key(make=True)
    waiting = bench.folder().next_key(make=False)
    assert waiting is not None
    bench.room.office.rekey("b14", waiting.public_key)
    bench.room.publish()
    (bench.root / "roster.cose").write_bytes((bench.room.authority.folder / "roster.cose").read_bytes())
    assert bench.folder().enrolled() is None
    with bench.room.registrar.claims() as claims:
        claims.rekeyed("b14", waiting.public_key, bench.room.authority.certificate_path("b14").read_text())
    assert bench.enrol()
    key = bench.folder().signer()
    assert key is not None
    assert key.public_key == waiting.public_key


def test_time_that_has_come_is_kept_and_never_falls(bench: Bench) -> None:
    bench.clock.step_wall(-bench.clock.wall_ms())
    bench.clock.source = TimeSource.UNSET
    enrolled(bench)
    floor = bench.folder().floor_ms()
    assert 0 <= SystemClock().wall_ms() - floor < 60_000
    (bench.root / "device.toml").unlink()
    assert bench.enrol()
    assert bench.folder().floor_ms() >= floor


def test_wiped_box_holds_nothing_of_the_room_and_begins_with_another_key(bench: Bench) -> None:
    before = enrolled(bench)
    (bench.root / "box.toml").write_text('[capture]\nmicrophone = "none"\ncamera = "imx708"\n')
    for _ in range(2):
        bench.folder().wipe()
        assert set(bench.contents()) == {"box.toml"}
    write_seed(bench.card, bench.room.seed("b15", "z" * 26))
    assert bench.enrol()
    assert bench.contents()["key.pem"] != before["key.pem"]
    assert load_unit(bench.root / "device.toml").capture.camera == "imx708"


def test_wipe_that_was_cut_off_cannot_bring_the_old_unit_back(bench: Bench) -> None:
    before = enrolled(bench)
    with pytest.raises(PowerCutError):
        bench.folder(PowerCutDisk(0)).wipe()
    damaged = bench.contents()
    assert damaged["key.pem"] != before["key.pem"]
    with pytest.raises(ConfigError, match=r"key\.pem"):
        bench.enrol()
    bench.folder().wipe()
    assert bench.contents() == {}


# --- the command -------------------------------------------------------------------------------------------------


def test_command_enrols_says_how_it_stands_and_wipes(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(bench.root)
    assert main(["status", "--root", root]) == EXIT_CANNOT
    bench.lay_seed({"token": "z" * 26})
    assert main(["enrol", "--folder", root, "--seed", str(bench.card), "--once"]) == EXIT_NOT_YET
    capsys.readouterr()
    assert main(["status", "--root", root]) == EXIT_NOT_YET
    told = capsys.readouterr().out
    assert "refused  token_unknown: The claim token is none of this room." in told
    assert "do       Make a new seed file" in told
    assert main(["renew", "--root", root]) == EXIT_CANNOT
    bench.lay_seed()
    takes = bench.root.parent / "takes"
    replay = ["--capture-replay", str(takes)]
    assert main(["enrol", "--root", root, "--seed", str(bench.card), "--wait-s", "20", *replay]) == EXIT_OK
    assert load_unit(bench.root / "device.toml").capture.replay == takes
    capsys.readouterr()
    assert main(["status", "--root", root]) == EXIT_OK
    assert "enrolled as b14 in room room-2" in capsys.readouterr().out
    assert main(["renew", "--root", root, "--now", "--wait-s", "5"]) == EXIT_OK
    assert main(["wipe", "--root", root, "--yes"]) == EXIT_OK
    assert list(bench.root.iterdir()) == []


def test_command_refuses_a_second_one_in_the_same_folder(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    with bench.folder().alone():
        assert main(["wipe", "--root", str(bench.root), "--yes"]) == EXIT_CANNOT
    assert "another moodline-box" in capsys.readouterr().err


def test_root_takes_the_seed_off_the_boot_partition_for_the_boxs_own_user(bench: Bench) -> None:
    bench.root.mkdir()
    bench.lay_seed()
    seed = read_seed(bench.card)
    for _ in range(2):
        assert main(["take-seed", "--root", str(bench.root), "--seed", str(bench.card)]) == EXIT_OK
        assert read_seed(bench.card) is None
        assert read_seed(bench.root / SEED_FILE) == seed
    assert (bench.root / SEED_FILE).stat().st_uid == bench.root.stat().st_uid
