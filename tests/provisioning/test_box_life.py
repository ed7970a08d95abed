"""An enrolled box, against the real answers of its registrar: renewal, another key, a moved gateway, its end."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest

from device.clock import TimeSource
from device.config import load_unit
from device.system.clock import SystemClock
from device.system.storage import DISK, SESSION_FILE, Disk, SessionCounter
from provisioning.box import EXIT_CANNOT, EXIT_NOT_YET, EXIT_OK, main
from provisioning.box_light import Sign
from provisioning.enrolling import BoxState, FoundRegistrar, Place
from provisioning.refusals import Refusal, RefusalError
from provisioning.seed_file import SEED_FILE, read_seed, write_seed
from tests.provisioning.box_bench import Bench, bench, built, power_cuts
from tests.provisioning.registrar_room import ROOM

__all__ = ["bench", "built"]


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


def test_wipe_that_was_cut_off_has_not_begun_or_has_taken_the_key(bench: Bench) -> None:
    before = enrolled(bench)

    def wipe(disk: Disk) -> None:
        for name, content in before.items():
            (bench.root / name).parent.mkdir(mode=0o700, exist_ok=True)
            (bench.root / name).write_bytes(content)
        bench.folder(disk).wipe()

    cuts = 0
    for _ in power_cuts(wipe):
        cuts += 1
        assert bench.contents() == before or "key.pem" not in bench.contents()
        bench.folder().wipe()
        assert bench.contents() == {}
    assert cuts >= 4


def test_wipe_as_root_follows_no_link_out_of_the_folder(bench: Bench, tmp_path: Path) -> None:
    enrolled(bench)
    precious = tmp_path / "precious"
    precious.write_text("not the box's")
    (bench.root / "key.pem.old").symlink_to(precious)
    (bench.root / "linked").symlink_to(tmp_path, target_is_directory=True)
    bench.folder().wipe()
    assert precious.read_text() == "not the box's"
    assert list(bench.root.iterdir()) == []


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
