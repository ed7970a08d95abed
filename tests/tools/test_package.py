"""The Debian packages: the same bytes twice, everything in its place, and nothing that must not be in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from device.errors import ConfigError
from provisioning.installation import ROLES, Role, files
from tools.package import debian
from tools.package.__main__ import main
from tools.package.debian import SCRIPTS, Build, build, committed, control_files, source_names, tree_files

EPOCH = 1_700_000_000
VERSION = "1.2.3"
COMMIT = subprocess.run(
    ["git", "rev-parse", "HEAD"], cwd=debian.REPOSITORY, check=True, capture_output=True, text=True
).stdout.strip()

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not a Debian system")
each_role = pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)


def made_of(role: Role) -> Build:
    return Build(role, VERSION, EPOCH, COMMIT)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    return {name: build(made_of(role), folder) for name, role in ROLES.items()}


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@each_role
def test_building_twice_gives_the_same_bytes(role: Role, built: dict[str, Path], tmp_path: Path) -> None:
    """Also under another umask, in another folder, at another time."""
    before = os.umask(0o077)
    try:
        again = build(made_of(role), tmp_path)
    finally:
        os.umask(before)
    assert again.read_bytes() == built[role.name].read_bytes()


@each_role
def test_unpacked_it_is_the_described_tree(role: Role, built: dict[str, Path], tmp_path: Path) -> None:
    said("dpkg-deb", "-x", str(built[role.name]), str(tmp_path))
    wanted = {each.path: each for each in tree_files(made_of(role))}
    found = {"/" + path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    assert set(found) == set(wanted)
    for path, each in wanted.items():
        assert found[path].read_bytes() == each.content
        assert found[path].stat().st_mode & 0o7777 == each.mode
        assert found[path].stat().st_mtime == EPOCH
    assert {each.path for each in files(role)} <= set(found)
    assert (tmp_path / "etc" / "moodline").is_dir()


@each_role
def test_everything_belongs_to_root(role: Role, built: dict[str, Path]) -> None:
    lines = said("dpkg-deb", "-c", str(built[role.name])).splitlines()
    assert {line.split()[1] for line in lines} == {"root/root"}
    assert not [line for line in lines if line[0] not in "-d" or re.search(r"[sStT]|.{8}w", line[:10])]


@each_role
def test_dpkg_reads_its_description(role: Role, built: dict[str, Path]) -> None:
    package = str(built[role.name])
    assert built[role.name].name == f"moodline-{role.name}_{VERSION}_all.deb"
    fields = {name: said("dpkg-deb", "-f", package, name).strip() for name in ("Package", "Version", "Architecture")}
    assert fields == {"Package": f"moodline-{role.name}", "Version": VERSION, "Architecture": "all"}
    assert said("dpkg-deb", "-f", package, "Depends").strip().split(", ") == list(role.packages)
    other = {"unit": "moodline-gateway", "gateway": "moodline-unit"}[role.name]
    assert said("dpkg-deb", "-f", package, "Conflicts").strip() == other
    assert "conffiles" in said("dpkg-deb", "--info", package) or role.name == "gateway"


@each_role
def test_only_what_a_machine_runs_is_in_it(role: Role) -> None:
    names = source_names(role, committed(COMMIT))
    assert {"device/__init__.py", "provisioning/installation.py", "models/labels.py"} <= set(names)
    assert not [name for name in names if name.startswith(("tools/", "tests/", "models/networks/", "models/teachers/"))]
    assert ("models/bundle/speech.tflite" in names) == (role.name == "unit")


def test_what_lies_in_the_working_folder_does_not_get_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an untracked file nor a change that was not committed."""
    for name in ("device/a.py", "models/a.py", "provisioning/a.py", "requirements/a.txt", "docs/installation.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("committed")
    (tmp_path / "LICENSE").write_text("committed")
    who = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "provisioning" / "room-authority.key").write_text("a private key")
    (tmp_path / "device" / "a.py").write_text("changed since")
    monkeypatch.setattr(debian, "REPOSITORY", tmp_path)
    found = committed.__wrapped__("HEAD")
    assert set(found.values()) == {b"committed"}
    assert len(found) == 6


def test_an_unknown_commit_is_refused() -> None:
    with pytest.raises(ConfigError, match="git archive failed"):
        tree_files(Build(ROLES["unit"], VERSION, EPOCH, commit="no-such-commit"))


@each_role
def test_scripts_are_whole_and_well_formed(role: Role, tmp_path: Path) -> None:
    made = made_of(role)
    scripts = [*control_files(made, []), *(each for each in tree_files(made) if each.path.endswith("make-environment"))]
    shells = [each for each in scripts if each.content.startswith(b"#!/bin/sh\n")]
    assert len(shells) == len(list(SCRIPTS.iterdir())) == 4
    for each in shells:
        assert b"@" not in each.content
        assert each.mode == 0o755
        path = tmp_path / each.path.rpartition("/")[2]
        path.write_bytes(each.content)
        subprocess.run(["bash", "-n", str(path)], check=True)
        if shutil.which("shellcheck"):
            # A role with one service has a loop over one word.
            subprocess.run(["shellcheck", "--shell=sh", "--exclude=SC2043", str(path)], check=True)


@each_role
def test_every_lock_is_complete_with_hashes(role: Role) -> None:
    locks = [each for each in tree_files(made_of(role)) if each.path.startswith("/opt/moodline/locks/")]
    assert [each.path.rpartition("/")[2] for each in locks] == sorted(role.locks)
    for each in locks:
        pinned = re.findall(r"^[A-Za-z0-9_.-]+==\S+(.*)$", each.content.decode(), re.M)
        assert pinned
        assert all(rest.strip() == "\\" for rest in pinned)
        assert each.content.count(b"--hash=sha256:") >= len(pinned)


def test_the_time_of_the_files_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "123")
    assert debian.epoch() == 123
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ConfigError, match="whole seconds since 1970"):
        debian.epoch()
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert debian.epoch() > EPOCH


def test_the_command_says_what_it_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    assert main(["--out", str(tmp_path), "--role", "gateway"]) == 0
    [package] = tmp_path.glob("*.deb")
    assert capsys.readouterr().out.startswith(f"{package}   sha256 ")


def test_without_dpkg_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(Path(shutil.which("git") or "").parent / "nowhere"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    assert main(["--out", str(tmp_path)]) == 2
    assert "dpkg-deb is not installed. Run: apt install dpkg" in capsys.readouterr().err
