"""The one description of a role: what is rendered from it is deterministic, complete and of one mind."""

from __future__ import annotations

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from provisioning import services
from provisioning.installation import (
    GATEWAY_ROLE,
    ROLES,
    UNIT_ROLE,
    Role,
    activation,
    files,
    launcher,
    sysusers,
    tables,
    tmpfiles,
)
from provisioning.services import STATE_ROOT

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "installation.md"
#: One `KEY op "value"` of a udev rule (udev(7)).
UDEV_TOKEN = re.compile(r'[A-Z]+(\{[A-Za-z_]+\})?(==|!=|\+=|=)"[^"]*"')

each_role = pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)


def text_of(role: Role, name: str) -> str:
    [found] = [each.content.decode() for each in files(role) if each.path.endswith(name)]
    return found


@each_role
def test_the_same_description_gives_the_same_files_in_order(role: Role) -> None:
    once, again = files(role), files(role)
    assert once == again
    paths = [each.path for each in once]
    assert paths == sorted(set(paths))
    assert all(re.fullmatch(r"/(usr|etc)/[a-z0-9./-]+", path) for path in paths)


@each_role
def test_every_file_says_who_wrote_it_and_is_writable_by_nobody_else(role: Role) -> None:
    for each in files(role):
        assert b"Written by moodline-provision install." in each.content
        assert each.mode in (0o644, 0o755)
        assert (each.mode == 0o755) == each.path.startswith("/usr/bin/")


@each_role
def test_every_service_runs_as_a_user_of_the_role_in_a_folder_of_that_user(role: Role) -> None:
    accounts = {account.name for account in role.accounts}
    owners = {folder.path: folder.owner for folder in role.folders}
    for service in role.services:
        if service.kind == "Service" and service not in (services.AGAIN, services.UPKEEP):
            user = str(service.body["User"])
            assert user in accounts
            assert owners["/var/lib/" + str(service.body["StateDirectory"])] == user


@each_role
def test_state_is_closed_to_everybody_but_its_owner(role: Role) -> None:
    for folder in role.folders:
        if folder.state:
            assert folder.mode == 0o700
            assert folder.owner != "root"
            assert folder.path.startswith(STATE_ROOT)


@each_role
def test_one_service_runs_as_root_and_that_off_the_network(role: Role) -> None:
    [as_root] = [each for each in role.services if each.kind == "Service" and "User" not in each.body]
    assert as_root == (services.AGAIN if role is UNIT_ROLE else services.UPKEEP)
    assert as_root.body["PrivateNetwork"] == "yes"
    assert as_root.body["RestrictAddressFamilies"] == "AF_UNIX"


@each_role
def test_every_program_of_a_service_is_installed(role: Role) -> None:
    programs = {f"/usr/bin/{program.name}" for program in role.programs} | {"/usr/sbin/mosquitto", "/bin/systemctl"}
    for service in role.services:
        if service.kind == "Service":
            assert str(service.body["ExecStart"]).split()[0] in programs


@each_role
def test_the_programs_are_those_of_setup_cfg(role: Role) -> None:
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    declared = dict(re.split(r"\s*=\s*", line) for line in lines if line)
    for program in role.programs:
        assert declared[program.name] == f"{program.module}:main"


def test_a_launcher_calls_the_program_with_our_library_first() -> None:
    lines = launcher(UNIT_ROLE.programs[1]).splitlines()
    assert lines[0] == "#!/opt/moodline/venv/bin/python -IB"
    assert lines.index('sys.path.insert(0, "/opt/moodline/lib")') < lines.index("from device.unit.__main__ import main")


@each_role
def test_systemd_takes_the_users(role: Role, tmp_path: Path) -> None:
    """systemd-sysusers makes them in an empty system, once; a second run adds nothing."""
    config = tmp_path / "moodline.conf"
    config.write_text(sysusers(role.accounts))
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", str(config)]
    subprocess.run(command, check=True, capture_output=True)
    passwd = (tmp_path / "etc" / "passwd").read_text()
    groups = (tmp_path / "etc" / "group").read_text()
    for account in role.accounts:
        assert re.search(rf"^{account.name}:[^:]*:\d+:\d+:[^:]*:{account.home}:/usr/sbin/nologin$", passwd, re.M)
        for group in account.groups:
            assert re.search(rf"^{group}:.*\b{account.name}\b", groups, re.M)
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "etc" / "passwd").read_text() == passwd


@each_role
def test_systemd_takes_the_folders(role: Role, tmp_path: Path) -> None:
    config = tmp_path / "moodline.conf"
    numbered = re.sub(
        r" (moodline-[a-z]+|mosquitto|root) (moodline-[a-z]+|mosquitto|root) ", " - - ", tmpfiles(role.folders)
    )
    config.write_text(numbered)
    subprocess.run(["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(config)], check=True, capture_output=True)
    for folder in role.folders:
        assert (tmp_path / folder.path[1:]).stat().st_mode & 0o777 == folder.mode


def test_the_folders_name_owner_and_mode() -> None:
    assert f"d {STATE_ROOT} 0700 moodline-unit moodline-unit -" in tmpfiles(UNIT_ROLE.folders).splitlines()
    assert f"d {STATE_ROOT}/broker 0700 mosquitto mosquitto -" in tmpfiles(GATEWAY_ROLE.folders).splitlines()


def test_udev_rules_are_well_formed() -> None:
    """`udevadm verify` came after Bookworm's systemd; so the grammar of a rule is held here."""
    rules = [line for line in text_of(UNIT_ROLE, ".rules").splitlines() if line and not line.startswith("#")]
    assert len(rules) == 5
    for rule in rules:
        assert all(UDEV_TOKEN.fullmatch(token) for token in rule.split(", ")), rule


def test_the_least_retransmission_time_out_is_let_go_by_older_kernels() -> None:
    for role in ROLES.values():
        lines = text_of(role, "sysctl.d/60-moodline.conf").splitlines()
        assert [line for line in lines if line and not line.startswith("#")] == ["-net.ipv4.tcp_rto_min_us = 5000"]


def test_timers_do_not_need_the_date() -> None:
    for role in ROLES.values():
        assert not [each.path for each in files(role) if b"OnCalendar" in each.content]


@each_role
def test_what_starts_at_boot_is_enabled(role: Role) -> None:
    enable = activation(role)[-1]
    assert enable[:3] == ["systemctl", "enable", "--now"]
    assert set(enable[3:]) == {
        each.path.rpartition("/")[2] for each in files(role) if b"\n[Install]\nWantedBy=" in each.content
    }


@each_role
def test_the_page_for_it_people_holds_the_tables(role: Role) -> None:
    assert tables(role) in PAGE.read_text(), "rebuild them: python -m tools.package --write-docs"
