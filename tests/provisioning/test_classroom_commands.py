"""`plan`, `seeds` and `stickers` as an operator types them, on the folders of a real room."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.errors import ConfigError, MoodlineError
from device.messages.envelope import KeySigner
from device.messages.policy import DeploymentPolicy, Mode, Purpose, Setting
from device.messages.sealing import X25519, Opener
from provisioning import classroom_commands, keys
from provisioning.authority import REGISTRAR_KEY, RoomAuthority
from provisioning.certificates import Role, now_utc
from provisioning.claims import Seat, SeatState, token_digest
from provisioning.classroom import default_classroom, read_classroom, write_classroom
from provisioning.enrolment_messages import EnrolmentRequest, sign_request
from provisioning.publication import Places, publish
from provisioning.registration import CLAIMS_FILE, SETTINGS_FILE, RegistrarFolder
from provisioning.seed_file import Seed, read_seed

ROOM = default_classroom(5, 8)


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser(prog="moodline-provision")
    classroom_commands.add(parser.add_subparsers(required=True))
    options = parser.parse_args([str(argument) for argument in arguments])
    return int(options.command(options))


@pytest.fixture
def authority(tmp_path: Path) -> RoomAuthority:
    made = RoomAuthority.found(tmp_path / "authority", "room-2")
    opener = Opener(keys.opening_key(tmp_path / "opening-key.pem", X25519), X25519)
    gateway = Ed25519PrivateKey.generate().public_key()
    made.admit("gateway", Role.GATEWAY, gateway, opening_key=opener.public_key)
    now = now_utc()
    made.set_policy(
        DeploymentPolicy(
            room="room-2",
            purpose=Purpose.DEMONSTRATION,
            setting=Setting.LABORATORY,
            jurisdiction="EU",
            mode=Mode.LABELS,
            min_group=3,
            retention_days=1,
            witness_count=2,
            approved_by="Nobody: a test",
            not_before_ms=int((now - timedelta(days=1)).timestamp() * 1_000),
            not_after_ms=int((now + timedelta(days=30)).timestamp() * 1_000),
        )
    )
    return made


@pytest.fixture
def registrar(tmp_path: Path, authority: RoomAuthority) -> RegistrarFolder:
    folder = tmp_path / "registrar"
    folder.mkdir(mode=0o700)
    shutil.copy(authority.folder / REGISTRAR_KEY, folder / REGISTRAR_KEY)
    (folder / SETTINGS_FILE).write_text('room = "room-2"\n')
    publish(authority, Places(folder))
    return RegistrarFolder(folder)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    write_classroom(tmp_path / "room.csv", ROOM)
    return tmp_path / "room.csv"


def seats(registrar: RegistrarFolder) -> dict[str, Seat]:
    with registrar.claims() as claims:
        return {seat.unit: seat for seat in claims.book.seats}


def seed_of(path: Path) -> Seed:
    seed = read_seed(path)
    assert seed is not None
    return seed


def use(registrar: RegistrarFolder, seed: Seed) -> Ed25519PrivateKey:
    """A box shows the seed's token, as boxes do."""
    key = Ed25519PrivateKey.generate()
    request = EnrolmentRequest(
        key=key.public_key().public_bytes_raw(),
        serial="10000000abcdef",
        model="test",
        nonce=bytes(16),
        registrar=seed.registrar_digest,
        room=seed.room,
        token=seed.token,
    )
    with registrar.claims() as claims:
        claims.enrol(sign_request(request, KeySigner("box", key)), wall_ms=int(time.time() * 1_000))
    return key


def seeds_command(registrar: RegistrarFolder, csv: Path, folder: Path) -> list[str | Path]:
    """`moodline-provision seeds`, into `folder`/seeds."""
    places: list[str | Path] = ["--registrar", registrar.folder, "--csv", csv, "--out", folder / "seeds"]
    return ["seeds", *places, "--gateway", "g"]


def test_forty_cards_in_one_command(
    registrar: RegistrarFolder, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seeds"
    make: list[str | Path] = [
        "seeds",
        "--registrar",
        registrar.folder,
        "--csv",
        csv,
        "--gateway",
        "gateway.local",
        "--out",
        out,
    ]
    assert run(*make, "--gateway", "10.0.0.5", "--days", "14") == 0
    files = sorted(out.glob("*/moodline-seed.toml"))
    assert [path.parent.name for path in files] == sorted(f"desk-{number}" for number in range(1, 41))
    found = [seed_of(path) for path in files]
    assert {(seed.room, seed.gateway, seed.registrar_digest) for seed in found} == {
        ("room-2", ("gateway.local", "10.0.0.5"), registrar.digest)
    }
    known = seats(registrar)
    assert {seed.unit: token_digest(seed.token) for seed in found} == {
        unit: seat.token_sha256 for unit, seat in known.items()
    }
    assert {(seat.unit, seat.line, seat.desk) for seat in known.values()} == {
        (desk.unit, desk.line, desk.name) for desk in ROOM.desks
    }
    printed = capsys.readouterr().out
    assert re.search(
        r"Desk 14 +b +b6 +new seed +20\d\d-\d\d-\d\d \d\d:\d\d UTC +\S*/desk-14/moodline-seed.toml", printed
    )
    assert "40 new seed\n" in printed
    everything = printed + (registrar.folder / CLAIMS_FILE).read_text()
    assert not [seed.token for seed in found if seed.token in everything], "a token stands on its card alone"


def test_every_seed_lets_one_box_in_and_running_it_again_changes_nothing(
    registrar: RegistrarFolder, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seeds"
    make: list[str | Path] = ["seeds", "--registrar", registrar.folder, "--csv", csv, "--gateway", "g", "--out", out]
    assert run(*make) == 0
    use(registrar, seed_of(out / "desk-14" / "moodline-seed.toml"))
    before = {path: path.read_bytes() for path in [registrar.folder / CLAIMS_FILE, *out.glob("*/*")]}
    assert run(*make) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert "39 seed of before, 1 has a box" in capsys.readouterr().out
    assert run(*make, "--renew") == 0
    changed = {path.parent.name for path, content in before.items() if path.read_bytes() != content} - {"registrar"}
    assert changed == {f"desk-{number}" for number in range(1, 41)} - {"desk-14"}
    assert seats(registrar)["b6"].state is SeatState.BOUND
    use(registrar, seed_of(out / "desk-1" / "moodline-seed.toml"))


def test_when_the_files_cannot_be_written_the_registrar_knows_of_no_seat(
    registrar: RegistrarFolder, csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "seeds"
    (out / "desk-7").mkdir(parents=True)
    (out / "desk-7" / "moodline-seed.toml").mkdir()
    make: list[str | Path] = ["seeds", "--registrar", registrar.folder, "--csv", csv, "--gateway", "g", "--out", out]
    with pytest.raises(MoodlineError, match=r"desk-7/moodline-seed\.toml"):
        run(*make)
    assert seats(registrar) == {}
    (out / "desk-7" / "moodline-seed.toml").rmdir()
    assert run(*make) == 0
    for path in out.glob("*/*"):
        use(registrar, seed_of(path))


def test_expired_seeds_are_a_finding(
    registrar: RegistrarFolder, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = seeds_command(registrar, csv, tmp_path)
    assert run(*make) == 0
    path = registrar.folder / CLAIMS_FILE
    path.write_text(re.sub(r'"expires_ms": \d+', '"expires_ms": 1000', path.read_text(), count=1))
    assert run(*make) == 1
    printed = capsys.readouterr().out
    assert "1 EXPIRED" in printed and "--renew" in printed


def test_the_authoritys_book_tells_names_that_the_roster_does_not(
    registrar: RegistrarFolder, authority: RoomAuthority, csv: Path, tmp_path: Path
) -> None:
    authority.admit("a3", Role.CONSUMER, Ed25519PrivateKey.generate().public_key())
    make = seeds_command(registrar, csv, tmp_path)
    with pytest.raises(ConfigError, match="a3: is the room's consumer"):
        run(*make, authority.folder)
    other = RoomAuthority.found(tmp_path / "other", "room-3")
    with pytest.raises(ConfigError, match="is the authority of room room-3, not of room-2"):
        run(*make, other.folder)
    assert not (tmp_path / "seeds").exists()


@pytest.mark.parametrize("wrong", [["--days", "0"], ["--days", "91"], ["--port", "0"], ["--gateway", "a b"]])
def test_seeds_that_cannot_be_are_refused_and_nothing_is_written(
    registrar: RegistrarFolder, csv: Path, tmp_path: Path, wrong: list[str]
) -> None:
    out = tmp_path / "seeds"
    with pytest.raises(ConfigError):
        run("seeds", "--registrar", registrar.folder, "--csv", csv, "--gateway", "g", "--out", out, *wrong)
    assert not out.exists() and seats(registrar) == {}


def test_a_folder_without_a_registrar_is_named(csv: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: holds no registrar"):
        run("seeds", "--registrar", tmp_path / "nowhere", "--csv", csv, "--gateway", "g", "--out", tmp_path / "seeds")


def test_plan_shows_the_room_and_writes_a_csv_that_names_every_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, full = tmp_path / "room.csv", tmp_path / "full.csv"
    path.write_text("desk,line,row,column\nDoor,a,1,1\nWindow,a,1,3\nCorner,b,2,3\n")
    assert run("plan", "--csv", path, "--out", full) == 0
    printed = capsys.readouterr().out
    assert "line a: 2 desks, a1 to a2" in printed
    assert printed.split("\n\n")[1].split("\n") == ["  (board)", "a1      a2", "        b1"]
    assert read_classroom(full) == read_classroom(path)
    assert "Window,a,a2,1,3" in full.read_text()
    with pytest.raises(ConfigError, match="no line 'b'"):
        run("plan", "--csv", path, "--lines", "a,c")


def test_a_template_is_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "--template", tmp_path / "room.csv") == 0
    assert run("plan", "--csv", tmp_path / "room.csv") == 0
    assert "line b: 4 desks, b1 to b4" in capsys.readouterr().out


def test_in_a_terminal_two_questions_are_asked_and_elsewhere_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="Give --csv, or run it in a terminal"):
        run("plan")
    told = iter(["5", "8"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: next(told))
    assert run("plan", "--out", tmp_path / "room.csv") == 0
    assert read_classroom(tmp_path / "room.csv") == ROOM
    assert "a1  a2  a3" in capsys.readouterr().out


def test_stickers_of_the_plan_and_with_keys_of_the_boxes_that_are_known(
    registrar: RegistrarFolder,
    authority: RoomAuthority,
    csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "stickers"
    assert run("stickers", "--registrar", registrar.folder, "--csv", csv, "--out", out) == 0
    assert "40 stickers on 2 pages, 0 with the digest" in capsys.readouterr().out
    key = Ed25519PrivateKey.generate().public_key()
    authority.admit("b6", Role.UNIT, key, line="b", desk="Desk 14")
    publish(authority, Places(registrar.folder))
    digits = keys.key_digest(key).hex()
    for folder in (["--registrar", registrar.folder], [authority.folder]):
        assert run("stickers", *folder, "--csv", csv, "--out", out, "--keys") == 0
        assert "40 stickers on 2 pages, 1 with the digest" in capsys.readouterr().out
        assert f"Key {digits[:4]} {digits[4:8]}" in (out / "stickers-01.svg").read_text()


def test_without_a_csv_stickers_are_for_the_desks_that_the_folder_knows(
    registrar: RegistrarFolder, authority: RoomAuthority, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="No desk to print"):
        run("stickers", "--registrar", registrar.folder, "--out", tmp_path / "stickers")
    run("seeds", "--registrar", registrar.folder, "--csv", csv, "--gateway", "g", "--out", tmp_path / "seeds")
    authority.admit("z1", Role.UNIT, Ed25519PrivateKey.generate().public_key(), line="z", desk="Corner")
    publish(authority, Places(registrar.folder))
    capsys.readouterr()
    assert run("stickers", "--registrar", registrar.folder, "--out", tmp_path / "stickers", "--skip", "8") == 0
    assert "41 stickers on 3 pages" in capsys.readouterr().out
    assert run("stickers", authority.folder, "--out", tmp_path / "stickers") == 0
    assert "1 sticker on 1 page," in capsys.readouterr().out
    assert ">Corner<" in (tmp_path / "stickers" / "stickers-01.svg").read_text()
