"""The authority's commands: what they print, what they leave behind, and their exit codes."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.messages.policy import Mode, Purpose, Setting
from device.messages.schedule import ScheduleKind
from provisioning import certificates
from provisioning.__main__ import main
from provisioning.authority import RoomAuthority
from provisioning.authority_files import read_policy_file, read_roster_file
from provisioning.certificates import Reads, Role
from provisioning.keys import write_verifying_key
from provisioning.schedule_form import show_schedule
from tests.provisioning.test_authority import PASSPHRASE, POLICY, files, new_key, revoked_serials, serial_of

NEEDED = [
    "--purpose", "demonstration", "--setting", "laboratory", "--jurisdiction", "DE", "--mode", "labels",
    "--approved-by", "Head of the laboratory", "--until", "2030-07-31",
]  # fmt: skip


def run(*arguments: object) -> int:
    """One command, as `moodline-provision` runs it."""
    return main([str(argument) for argument in arguments])


def secret(path: Path, passphrase: bytes) -> Path:
    path.write_bytes(passphrase + b"\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def locked(tmp_path: Path) -> tuple[Path, Path]:
    """An encrypted authority with a policy, a gateway, units b1 and b2 and a consumer; and its passphrase file."""
    made = RoomAuthority.found(tmp_path / "authority", "r2", PASSPHRASE)
    made.set_policy(POLICY)
    opening = X25519PrivateKey.generate().public_key().public_bytes_raw()
    made.admit("gateway", Role.GATEWAY, new_key().public_key(), opening_key=opening)
    for number in (1, 2):
        made.admit(f"b{number}", Role.UNIT, new_key().public_key(), line="b", desk=f"Desk {number}")
    made.admit("board", Role.CONSUMER, new_key().public_key(), reads=Reads.CLASS)
    made.publish()
    return made.folder, secret(tmp_path / "passphrase", PASSPHRASE)


def test_help_explains_the_ceremony_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("init", "show", "revoke", "replace", "move", "rotate", "policy"):
        with pytest.raises(SystemExit) as stopped:
            run(command, "--help")
        shown = capsys.readouterr().out
        assert stopped.value.code == 0
        assert "Exit codes: 0 done" in shown
        assert ("two people" in shown) is (command == "init")


def test_init_founds_a_room_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, passphrase = tmp_path / "authority", secret(tmp_path / "passphrase", PASSPHRASE)
    assert run("init", folder, "--room", "r2", "--passphrase-file", passphrase) == 0
    shown = capsys.readouterr().out
    assert RoomAuthority.open(folder, PASSPHRASE).registrar_digest.hex() in shown
    assert "NOT encrypted" not in shown
    before = files(folder)
    assert run("init", folder, "--room", "r2", "--passphrase-file", passphrase) == 0
    assert files(folder) == before
    assert run("init", tmp_path / "open", "--room", "r2") == 0
    assert "NOT encrypted" in capsys.readouterr().out


def test_show_needs_no_key_and_tells_who_is_in_the_room(
    locked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, passphrase = locked
    assert run("replace", folder, "b1", "b3", "--reason", "Broken.", "--passphrase-file", passphrase) == 2
    public = folder.parent / "b3.pem"
    write_verifying_key(public, new_key().public_key())
    replace = ["replace", folder, "b1", "b3", "--key", public, "--reason", "Broken.", "--passphrase-file", passphrase]
    assert run(*replace) == 0
    assert run("rotate", folder, "--passphrase-file", passphrase) == 0
    for key in folder.glob("*.key*"):
        key.unlink()
    capsys.readouterr()
    assert run("show", folder) == 0
    shown = capsys.readouterr().out
    for line in (
        "room r2, epoch 3, signature good",
        "line b   b1  Desk 1  key",
        "REVOKED",
        "line b   b3  Desk 1  key",
        "consumer board  reads as class",
        "b3 replaced b1 on line b after epoch 1: Broken.",
        "from epoch 3 on",
        "labels for demonstration in laboratory (EU), groups from 2",
    ):
        assert line in shown


def test_revoke_ends_certificates_that_the_registrar_issued(locked: tuple[Path, Path], tmp_path: Path) -> None:
    folder, passphrase = locked
    authority = RoomAuthority.open(folder, PASSPHRASE)
    key = certificates.load_certificate(authority.certificate_path("b1")).public_key()
    renewed = authority.ca.issue("b1", Role.UNIT, key, datetime.now(UTC))  # type: ignore[arg-type]
    (tmp_path / "issued").mkdir()
    (tmp_path / "issued" / "b1-renewed.pem").write_bytes(certificates.pem(renewed))
    assert run("revoke", folder, "b1", "--issued", tmp_path / "issued", "--passphrase-file", passphrase) == 0
    assert read_roster_file(folder).revoked == {"b1"}
    assert revoked_serials(authority) == {serial_of(authority, "b1"), renewed.serial_number}
    (tmp_path / "issued" / "damaged.pem").write_bytes(b"damaged")
    assert run("revoke", folder, "b2", "--issued", tmp_path / "issued", "--passphrase-file", passphrase) == 2
    assert read_roster_file(folder).revoked == {"b1", "b2"}
    assert revoked_serials(authority) >= {serial_of(authority, "b2")}


def test_replace_twice_changes_nothing_and_a_spare_needs_no_key_file(
    locked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, passphrase = locked
    RoomAuthority.open(folder, PASSPHRASE).admit("spare", Role.UNIT, new_key().public_key(), line="shelf")
    command = ["replace", folder, "b1", "spare", "--reason", "Broken.", "--passphrase-file", passphrase]
    assert run(*command) == 0
    before = files(folder)
    assert run(*command) == 0
    assert files(folder) == before
    assert "spare stands in the place of b1 from epoch 2 on" in capsys.readouterr().out
    assert [unit.unit for unit in read_roster_file(folder).units_of("b")] == ["spare", "b2"]


def test_move_changes_the_roster_for_a_line_and_not_for_a_desk(
    locked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, passphrase = locked
    assert run("move", folder, "b1", "--desk", "Desk 9", "--passphrase-file", passphrase) == 0
    assert "stands on line b (epoch 1)" in capsys.readouterr().out
    assert run("move", folder, "b1", "--line", "c", "--passphrase-file", passphrase) == 0
    assert "stands on line c (epoch 2)" in capsys.readouterr().out
    assert run("move", folder, "b1", "--passphrase-file", passphrase) == 2
    assert "Give --line, --desk or both" in capsys.readouterr().err


def test_rotate_changes_the_passphrase_and_completes_what_was_cut_off(
    locked: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, passphrase = locked
    new = secret(tmp_path / "new", b"another battery, another staple")
    command = ["rotate", folder, "--passphrase-file", passphrase, "--new-passphrase-file", new]
    monkeypatch.setattr(RoomAuthority, "_publish", _cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(*command)
    monkeypatch.undo()
    assert json.loads((folder / "room.json").read_text())["rotating"]
    assert run(*command) == 0
    assert "completed the rotation that was cut off" in capsys.readouterr().out
    assert len(RoomAuthority.open(folder, b"another battery, another staple").successions()) == 1
    assert run(*command) == 2
    assert "passphrase is wrong" in capsys.readouterr().err


def _cut_off(*_: object) -> None:
    raise KeyboardInterrupt


def test_policy_is_signed_from_flags_and_changed_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "authority"
    assert run("init", folder, "--room", "r2") == 0
    assert run("policy", folder, *NEEDED, "--min-group", "5") == 0
    assert "first roster when the gateway is admitted" in capsys.readouterr().out
    first = read_policy_file(folder)
    assert (first.purpose, first.setting, first.mode) == (Purpose.DEMONSTRATION, Setting.LABORATORY, Mode.LABELS)
    assert (first.min_group, first.retention_days, first.witness_count) == (5, 30, 2)
    assert datetime.fromtimestamp(first.not_after_ms / 1_000, UTC) == datetime(2030, 7, 31, tzinfo=UTC)
    assert run("policy", folder, "--mode", "off") == 0
    second = read_policy_file(folder)
    assert (second.mode, second.min_group, second.not_before_ms) == (Mode.OFF, 5, first.not_before_ms)


def test_a_policys_hours_follow_its_zone_for_as_long_as_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, hours = tmp_path / "authority", "Europe/Berlin Mon-Fri 08:00-13:00, Tue+Thu 14:00-15:30"
    assert run("init", folder, "--room", "r2") == 0
    life = ["--from", "2026-09-01", "--until", "2026-12-01"]
    assert run("policy", folder, *NEEDED, *life, "--capture", hours) == 0
    assert hours in capsys.readouterr().out
    assert [offset.minutes for offset in read_policy_file(folder).capture.offsets] == [120, 60]
    assert run("policy", folder, "--until", "2027-07-31") == 0
    policy = read_policy_file(folder)
    assert [offset.minutes for offset in policy.capture.offsets] == [120, 60, 120]
    assert show_schedule(policy.capture) == hours


def test_policy_that_changes_gives_the_room_a_new_roster(
    locked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, passphrase = locked
    command = ["policy", folder, "--retention-days", "9", "--passphrase-file", passphrase]
    assert run(*command) == 0
    before = files(folder)
    assert run(*command) == 0
    assert files(folder) == before
    assert "it holds from epoch 2 on" in capsys.readouterr().out


def test_a_policy_that_cannot_be_read_is_replaced_by_a_whole_new_one(
    locked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, passphrase = locked
    path = folder / "policy.cose"
    path.write_bytes(path.read_bytes()[:-1])
    assert run("policy", folder, "--mode", "off", "--passphrase-file", passphrase) == 2
    assert "The policy lacks --purpose" in capsys.readouterr().err
    assert run("policy", folder, *NEEDED, "--passphrase-file", passphrase) == 0
    assert "a whole new policy takes its place" in capsys.readouterr().out
    assert read_policy_file(folder).approved_by == "Head of the laboratory"
    assert read_roster_file(folder).epoch == 2


def test_emotion_inference_in_eu_education_is_refused_with_the_article(
    locked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, passphrase = locked
    before = files(folder)
    school = ["--setting", "education", "--purpose", "education", "--passphrase-file", passphrase]
    assert run("policy", folder, *school) == 2
    refused = capsys.readouterr().err
    assert "Article 5(1)(f) of Regulation (EU) 2024/1689" in refused
    assert "Set the mode to 'presence'" in refused
    assert files(folder) == before
    assert run("policy", folder, *school, "--mode", "presence") == 0
    assert run("policy", folder, *school, "--mode", "off") == 0
    assert run("policy", folder, "--setting", "education", "--purpose", "safety", "--passphrase-file", passphrase) == 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (NEEDED[2:], "The policy lacks --purpose"),
        ([], "lacks --purpose, --setting, --jurisdiction, --mode, --approved-by, --until"),
        ([*NEEDED, "--mode", "loud"], "--mode 'loud': is not one of off, class-aggregate, labels"),
        ([*NEEDED, "--until", "31.7.2030"], "--until '31.7.2030': is not a day in the form"),
        ([*NEEDED, "--until", "2001-01-01"], "the policy ends before it begins"),
        ([*NEEDED, "--min-group", "few"], "--min-group 'few': is not a whole number"),
        ([*NEEDED, "--jurisdiction", "Germany"], "is no country code"),
        ([*NEEDED, "--capture", "mornings"], "--capture 'mornings': is not 'always', or like 'Europe/Berlin"),
        ([*NEEDED, "--updates", "UTC Mon 00:00-05:00; 2 sessions a day"], "sessions are sampled for capture alone"),
    ],
)
def test_policy_that_is_not_complete_or_not_sound_is_refused_by_its_flag(
    tmp_path: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "authority"
    assert run("init", folder, "--room", "r2") == 0
    assert run("policy", folder, *flags) == 2
    assert says in capsys.readouterr().err
    assert not (folder / "policy.cose").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["show"],
        ["revoke", "b1"],
        ["replace", "b1", "b2", "--reason", "x"],
        ["move", "b1", "--desk", "d"],
        ["rotate"],
        ["policy"],
    ],
    ids=lambda command: str(command[0]),
)
def test_commands_need_an_authority_and_found_none(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command[0], tmp_path / "nowhere", *command[1:]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_encrypted_keys_without_passphrase_are_refused_where_nobody_can_type(
    locked: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("revoke", locked[0], "b1") == 2
    assert "--passphrase-file" in capsys.readouterr().err
    assert read_roster_file(locked[0]).revoked == set()


def typed(arguments: list[object], answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Run a command at a real terminal; when it says the one, type the other. Exit code, and all that was shown."""
    answers = list(answers)
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "provisioning", *map(str, arguments)]
    with subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, start_new_session=True) as process:
        os.close(inside)
        shown = ""
        while select.select([terminal], [], [], 20)[0]:
            try:
                shown += os.read(terminal, 4_096).decode()
            except OSError:  # Linux says EIO when the program has closed its end
                break
            if answers and answers[0][0] in shown.rpartition("\n")[2]:
                os.write(terminal, answers.pop(0)[1].encode() + b"\n")
        else:
            process.kill()
        code = process.wait(10)
    os.close(terminal)
    return code, shown


def test_a_terminal_is_asked_for_the_passphrase_and_does_not_show_it(locked: tuple[Path, Path]) -> None:
    code, shown = typed(["revoke", locked[0], "b1"], [("Passphrase: ", PASSPHRASE.decode())])
    assert code == 0
    assert "b1 is revoked from epoch 2 on." in shown
    assert PASSPHRASE.decode() not in shown
    code, shown = typed(["revoke", locked[0], "b2"], [("Passphrase: ", "a wrong passphrase")])
    assert code == 2
    assert "passphrase is wrong" in shown
    assert read_roster_file(locked[0]).revoked == {"b1"}


def test_init_at_a_terminal_asks_twice_for_a_new_passphrase(tmp_path: Path) -> None:
    folder, good = tmp_path / "authority", PASSPHRASE.decode()
    init = ["init", folder, "--room", "r2"]
    code, shown = typed([*init], [("New passphrase", good), ("Once more: ", good + "r")])
    assert (code, "The two passphrases differ" in shown) == (2, True)
    code, shown = typed([*init], [("New passphrase", "short")])
    assert (code, "shorter than 12 characters" in shown) == (2, True)
    assert not folder.exists()
    code, shown = typed([*init], [("New passphrase", good), ("Once more: ", good)])
    assert (code, "two people" in shown, good in shown) == (0, True, False)
    assert RoomAuthority.open(folder, PASSPHRASE).room == "r2"


def test_a_policy_is_asked_for_field_by_field(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    assert run("init", folder, "--room", "r2") == 0
    answers = [
        ("what the labels are for", "fun"),
        ("what the labels are for", "medical"),
        ("where the room stands", "education"),
        ("country", "DE"),
        ("how much leaves", "class-aggregate"),
        ("class view [11]", ""),
        ("labels are kept [30]", "7"),
        ("witnessed [2]", ""),
        ("who approved", "Dr. Example, school physician"),
        ("first day on which it holds", ""),
        ("no longer holds", "2030-07-31"),
        ("when the boxes hear and see", "in the mornings"),
        ("when the boxes hear and see", "Europe/Berlin Mon-Fri 08:00-13:00; 4 sessions a day"),
        ("when updates may be installed", ""),
    ]
    code, shown = typed(["policy", folder], [*answers, ("Sign this?", "no")])
    assert (code, "The policy was not signed" in shown) == (2, True)
    assert not (folder / "policy.cose").exists()
    answers.append(("Sign this?", "yes"))
    code, shown = typed(["policy", folder], answers)
    assert code == 0, shown
    assert "is not one of medical, safety" in shown
    policy = read_policy_file(folder)
    assert (policy.purpose, policy.setting, policy.mode) == (Purpose.MEDICAL, Setting.EDUCATION, Mode.CLASS_AGGREGATE)
    assert (policy.min_group, policy.retention_days) == (11, 7)
    assert (policy.capture.kind, policy.updates.kind) == (ScheduleKind.SAMPLED, ScheduleKind.ALWAYS)
    assert policy.approved_by == "Dr. Example, school physician"
