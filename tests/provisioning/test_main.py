"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from device.messages.sealing import HYBRID
from provisioning.__main__ import main
from provisioning.authority import RoomAuthority

TAKES = Path(__file__).resolve().parents[2] / "tools" / "takes"


@pytest.fixture
def room(tmp_path: Path) -> Path:
    assert main(["demo-room", str(tmp_path / "room"), "--takes", str(TAKES), "--units", "2", "--port", "0"]) == 0
    return tmp_path / "room"


@pytest.mark.parametrize("command", [[], ["init"], ["demo-room"], ["show"], ["revoke"]])
def test_help_is_there_for_every_command(command: list[str]) -> None:
    ran = subprocess.run([sys.executable, "-m", "provisioning", *command, "--help"], capture_output=True, check=True)
    assert b"usage: moodline-provision" in ran.stdout


@pytest.mark.parametrize("wrong", [[], ["no-such-command"], ["init"], ["demo-room", "x", "--units", "many"]])
def test_wrong_usage_exits_with_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2
    assert "usage: moodline-provision" in capsys.readouterr().err


def test_init_warns_when_keys_are_not_encrypted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "plain"), "--room", "r2"]) == 0
    assert "NOT encrypted" in capsys.readouterr().out
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    passphrase.chmod(0o600)
    assert main(["init", str(tmp_path / "locked"), "--room", "r2", "--passphrase-file", str(passphrase)]) == 0
    assert "NOT encrypted" not in capsys.readouterr().out


def test_show_verifies_and_prints_room_and_policy(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["show", str(room / "authority")]) == 0
    shown = capsys.readouterr().out
    assert "room demo, epoch 1, signature good" in shown
    assert "labels for demonstration in laboratory (EU)" in shown
    assert shown.count("since epoch 1") == 2


def test_show_refuses_a_roster_that_somebody_changed(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roster = room / "authority" / "roster.cose"
    raw = roster.read_bytes()
    roster.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert main(["show", str(room / "authority")]) == 2
    assert "roster.cose" in capsys.readouterr().err


def test_a_room_that_seals_by_the_hybrid_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "room"
    build = ["demo-room", str(folder), "--takes", str(TAKES), "--units", "2", "--port", "0"]
    assert main([*build, "--suite", "hybrid"]) == 0
    assert main(["show", str(folder / "authority")]) == 0
    assert "sealing  suite 2 (MLKEM768_X25519_SHA256_CHACHA20POLY1305)" in capsys.readouterr().out
    assert main(build) == 2
    assert "this room seals by suite 2, and a room keeps its suite" in capsys.readouterr().err


def test_init_takes_the_suite(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "a"), "--room", "r2", "--suite", "hybrid"]) == 0
    assert RoomAuthority.open(tmp_path / "a").suite is HYBRID
    with pytest.raises(SystemExit):
        main(["init", str(tmp_path / "b"), "--room", "r2", "--suite", "rot13"])


def test_revoke_shows_in_the_roster(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["revoke", str(room / "authority"), "a2"]) == 0
    assert "a2 is revoked from epoch 2 on." in capsys.readouterr().out
    assert main(["show", str(room / "authority")]) == 0
    assert "REVOKED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "nowhere"], "nowhere/room-authority.pem: cannot be read"),
        (["revoke", "nowhere", "a1"], "nowhere: holds no room authority. Run: moodline-provision init"),
        (["init", "there", "--room", "Room 2"], "'Room 2' is no room name"),
        (["init", "there", "--room", "r", "--passphrase-file", "nofile"], "nofile: cannot be read"),
        (["demo-room", "there", "--takes", "nowhere"], "No takes to replay"),
    ],
)
def test_refusal_exits_with_2_and_says_what_to_do(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"moodline-provision: {says}")
    assert not Path("there", "authority").exists()
