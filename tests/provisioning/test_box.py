"""The box on its way into a room, against the registrar's real answers over TLS: both ways in, faults, power cuts."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.config import load_unit
from device.errors import ConfigError, StorageError
from device.system.clock import SystemClock
from device.system.keys import public_pem
from device.system.storage import SESSION_FILE, SPILL_FILE, Disk, SessionCounter
from device.trust import load_trusted
from provisioning.box_light import Sign
from provisioning.enrolling import BoxState
from provisioning.enrolment_messages import Enrolled
from provisioning.refusals import Refusal
from provisioning.seed_file import read_seed, write_seed
from tests.fakes.storage import FailingDisk
from tests.provisioning.box_bench import Bench, bench, built, power_cuts
from tests.provisioning.registrar_room import LINE, ROOM

__all__ = ["bench", "built"]

P256 = (
    generate_private_key(SECP256R1())
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


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
