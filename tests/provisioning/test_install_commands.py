"""`install` and `uninstall`: twice is once, a dry run changes nothing, and nothing of somebody else's is touched."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path

import pytest

from device.errors import ConfigError
from provisioning import install_commands, installer
from provisioning.installation import GATEWAY_ROLE, ROLES, UNIT_ROLE, InstalledFile, Role, activation, files
from provisioning.installer import Installation

UNIT_FILE = "usr/lib/systemd/system/moodline-unit.service"
SYSCTL_FILE = "usr/lib/sysctl.d/60-moodline.conf"

each_role = pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    install_commands.add(parser.add_subparsers(required=True))
    options = parser.parse_args(arguments)
    code: int = options.command(options)
    return code


def everything(root: Path) -> dict[str, tuple[int, str]]:
    """Every path below the root with its mode and its content's digest or kind."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
        )
        for path in root.rglob("*")
    }


@each_role
def test_installs_every_file_with_its_mode(role: Role, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("install", role.name, "--root", str(tmp_path)) == 0
    for each in files(role):
        path = tmp_path / each.path[1:]
        assert path.read_bytes() == each.content
        assert path.stat().st_mode & 0o7777 == each.mode
    for folder in role.folders:
        assert (tmp_path / folder.path[1:]).stat().st_mode & 0o7777 == folder.mode
    said = capsys.readouterr().out
    assert f"{len(files(role))} files changed." in said
    assert "systemctl" not in said


@each_role
def test_a_second_run_changes_nothing_and_says_so(
    role: Role, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("install", role.name, "--root", str(tmp_path))
    before, record = everything(tmp_path), tmp_path / f"var/lib/moodline/installed-{role.name}.json"
    written_at = record.stat().st_mtime_ns
    capsys.readouterr()
    assert run("install", role.name, "--root", str(tmp_path)) == 0
    assert capsys.readouterr().out == "Nothing changed: everything was installed already.\n"
    assert everything(tmp_path) == before
    assert record.stat().st_mtime_ns == written_at


def test_a_dry_run_shows_the_difference_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("install", "unit", "--root", str(tmp_path), "--dry-run") == 1
    assert everything(tmp_path) == {}
    said = capsys.readouterr().out
    assert f"--- /dev/null\n+++ b/{UNIT_FILE}\n" in said
    assert "+ExecStart=/usr/bin/moodline-unit --config /var/lib/moodline/device.toml $OPTIONS\n" in said
    run("install", "unit", "--root", str(tmp_path))
    capsys.readouterr()
    assert run("install", "unit", "--root", str(tmp_path), "--dry-run") == 0
    assert capsys.readouterr().out == "Nothing would change.\n"


def test_an_older_version_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of ours that changed is replaced, one that is no longer ours goes, one that somebody changed stays."""
    older = [
        InstalledFile("/" + SYSCTL_FILE, b"-net.ipv4.tcp_rto_min_us = 9000\n"),
        InstalledFile("/usr/lib/old.conf", b"old\n"),
        InstalledFile("/usr/lib/old-but-changed.conf", b"old\n"),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(installer, "files", lambda role: older)
        run("install", "unit", "--root", str(tmp_path))
    (tmp_path / "usr/lib/old-but-changed.conf").write_text("mine\n")
    capsys.readouterr()
    assert run("install", "unit", "--root", str(tmp_path), "--dry-run") == 1
    assert "--- a/usr/lib/old.conf\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n" in capsys.readouterr().out
    assert run("install", "unit", "--root", str(tmp_path)) == 0
    assert "5000" in (tmp_path / SYSCTL_FILE).read_text()
    assert not (tmp_path / "usr/lib/old.conf").exists()
    assert (tmp_path / "usr/lib/old-but-changed.conf").read_text() == "mine\n"


@pytest.mark.parametrize("installed_before", [True, False])
def test_somebody_elses_file_is_kept_unless_forced(
    installed_before: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if installed_before:
        run("install", "unit", "--root", str(tmp_path))
    theirs = tmp_path / SYSCTL_FILE
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("vm.swappiness = 10\n")
    before = everything(tmp_path)
    with pytest.raises(ConfigError, match=rf"Written or changed by somebody else: /{SYSCTL_FILE}\."):
        run("install", "unit", "--root", str(tmp_path))
    assert everything(tmp_path) == before
    run("install", "unit", "--root", str(tmp_path), "--dry-run")
    assert f"only --force replaces it: /{SYSCTL_FILE}\n" in capsys.readouterr().out
    assert run("install", "unit", "--root", str(tmp_path), "--force") == 0
    assert "5000" in theirs.read_text()


def test_a_changed_mode_is_put_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("install", "unit", "--root", str(tmp_path))
    (tmp_path / UNIT_FILE).chmod(0o666)
    capsys.readouterr()
    assert run("install", "unit", "--root", str(tmp_path), "--dry-run") == 1
    assert "mode becomes 0644" in capsys.readouterr().out
    run("install", "unit", "--root", str(tmp_path))
    assert (tmp_path / UNIT_FILE).stat().st_mode & 0o777 == 0o644


def test_an_interrupted_installation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power goes before the record is written: what stands there is right, and is adopted."""
    with monkeypatch.context() as patched:
        patched.setattr(installer, "write_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Installation(tmp_path, UNIT_ROLE).install()
    assert (tmp_path / UNIT_FILE).exists()
    assert Installation(tmp_path, UNIT_ROLE).install() == []
    assert Installation(tmp_path, UNIT_ROLE).uninstall() is not None
    assert not (tmp_path / UNIT_FILE).exists()


@each_role
def test_uninstall_leaves_an_empty_root_as_it_was(role: Role, tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "theirs").write_text("stays")
    before = everything(tmp_path)
    run("install", role.name, "--root", str(tmp_path))
    assert run("uninstall", role.name, "--root", str(tmp_path)) == 0
    assert everything(tmp_path) == before


def test_uninstall_keeps_state_settings_and_changed_files_and_lists_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("install", "gateway", "--root", str(tmp_path))
    key = tmp_path / "var/lib/moodline/registrar/registrar.key"
    key.write_text("a key")
    settings = tmp_path / "etc/moodline/moodline-gateway.env"
    settings.write_text("OPTIONS=--verbose\n")
    (tmp_path / SYSCTL_FILE).write_text("# mine\n")
    users = tmp_path / "etc/passwd"
    users.write_text("root:x:0:0::/root:/bin/sh\nmoodline-gateway:x:997:997::/:/usr/sbin/nologin\n")
    capsys.readouterr()
    assert run("uninstall", "gateway", "--root", str(tmp_path)) == 0
    kept = [line.split()[1].rstrip(":") for line in capsys.readouterr().out.splitlines() if line.startswith("kept")]
    assert kept == ["/" + SYSCTL_FILE, "/var/lib/moodline/registrar", "/etc/moodline", "user"]
    assert sorted(str(path) for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        str(path) for path in (key, settings, users, tmp_path / SYSCTL_FILE)
    )


def test_purge_takes_keys_and_state_but_nothing_else(tmp_path: Path) -> None:
    run("install", "gateway", "--root", str(tmp_path))
    for kept in ("var/lib/moodline/authority/room-authority.key", "etc/moodline/moodline-gateway.env"):
        (tmp_path / kept).parent.mkdir(exist_ok=True)
        (tmp_path / kept).write_text("stays")
    (tmp_path / "var/lib/moodline/gateway/key.pem").write_text("goes")
    run("uninstall", "gateway", "--root", str(tmp_path), "--purge")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "etc/moodline/moodline-gateway.env",
        "var/lib/moodline/authority/room-authority.key",
    ]


def test_what_is_not_installed_cannot_be_uninstalled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no installation of the role unit"):
        run("uninstall", "unit", "--root", str(tmp_path))


def test_one_machine_has_one_role(tmp_path: Path) -> None:
    run("install", "unit", "--root", str(tmp_path))
    with pytest.raises(ConfigError, match=r"is installed as unit\. One machine has one role"):
        run("install", "gateway", "--root", str(tmp_path))


def test_debians_own_installation_is_left_to_apt(tmp_path: Path) -> None:
    listing = tmp_path / "var/lib/dpkg/info/moodline-unit.list"
    listing.parent.mkdir(parents=True)
    listing.write_text("/.\n")
    with pytest.raises(ConfigError, match=r"the Debian package moodline-unit is installed there\. Use apt"):
        run("install", "unit", "--root", str(tmp_path))


@pytest.mark.parametrize("link", ["usr", "usr/lib", "etc"])
def test_a_link_does_not_lead_out_of_the_root(link: str, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="leads out of the root folder"):
        run("install", "unit", "--root", str(root))
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_somebody_elses(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("stays")
    (tmp_path / UNIT_FILE).parent.mkdir(parents=True)
    (tmp_path / UNIT_FILE).symlink_to(theirs)
    with pytest.raises(ConfigError, match="Written or changed by somebody else"):
        run("install", "unit", "--root", str(tmp_path))
    run("install", "unit", "--root", str(tmp_path), "--force")
    assert theirs.read_text() == "stays"
    assert not (tmp_path / UNIT_FILE).is_symlink()


@pytest.mark.parametrize("path", ["/usr/../../outside", "relative/outside"])
def test_a_record_that_names_files_outside_is_refused(path: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_text("stays")
    run("install", "unit", "--root", str(root))
    record = root / "var/lib/moodline/installed-unit.json"
    content = json.loads(record.read_text())
    content["files"][path] = hashlib.sha256(b"stays").hexdigest()
    record.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="leads out of the root folder"):
        run("uninstall", "unit", "--root", str(root))
    assert outside.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_record_that_a_service_could_have_written_is_refused(tmp_path: Path) -> None:
    run("install", "unit", "--root", str(tmp_path))
    os.chown(tmp_path / "var/lib/moodline/installed-unit.json", 65_534, 65_534)
    with pytest.raises(ConfigError, match="was not written by this installer"):
        run("uninstall", "unit", "--root", str(tmp_path))


def test_activation_is_for_this_machine_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="acts on this machine"):
        run("install", "unit", "--root", str(tmp_path), "--activate")


def test_on_this_machine_the_commands_are_printed_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands as they are for `--root /`, without touching this machine."""
    ran: list[list[str]] = []
    monkeypatch.setattr(install_commands, "_run", lambda command: ran.append(list(command)))
    options = argparse.Namespace(root=Path("/"), activate=False)
    commands = activation(GATEWAY_ROLE)
    install_commands._run_or_print(commands, options)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Run as root:"
    assert said[-1].startswith("  systemctl enable --now moodline-broker.service")
    assert ran == []
    options.activate = True
    install_commands._run_or_print(commands, options)
    assert ran == commands


@pytest.mark.parametrize("wrong", [["install"], ["install", "kiosk", "--root", "x"], ["install", "unit"]])
def test_wrong_usage_exits_with_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*wrong)
    assert stopped.value.code == 2
