"""The services as systemd itself reads them: no warning, and little exposed.

`systemd-analyze verify` ends with 0 although a key is misspelt, so what it says is read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioning.installation import ROLES, SYSTEMD, Role
from provisioning.installer import Installation

TARGETS = Path("/usr/lib/systemd/system")
#: Upper bounds of what `systemd-analyze security` finds exposed, of 10 (what systemd 252 finds).
EXPOSED = {
    "moodline-box.service": 1.1,
    "moodline-unit.service": 1.5,
    "moodline-box-renew.service": 1.1,
    "moodline-unit-again.service": 0.9,
    "moodline-broker.service": 1.1,
    "moodline-gateway.service": 1.1,
    "moodline-registrar.service": 1.1,
    "moodline-registrar-upkeep.service": 1.4,
}

each_role = pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)


@pytest.fixture
def root(tmp_path: Path, role: Role) -> Path:
    """A root folder with the role installed, the system's own targets, and empty programs in their places."""
    if shutil.which("systemd-analyze") is None or not TARGETS.is_dir():
        if os.environ.get("MOODLINE_REQUIRE_REAL"):
            pytest.fail("systemd is not installed and MOODLINE_REQUIRE_REAL is set", pytrace=False)
        pytest.skip("systemd is not installed")
    Installation(tmp_path, role).install()
    for target in (*TARGETS.glob("*.target"), *TARGETS.glob("*.slice"), *TARGETS.glob("*.mount")):
        shutil.copy(target, tmp_path / SYSTEMD[1:], follow_symlinks=True)
    for program in ("/usr/sbin/mosquitto", "/bin/chown", "/bin/kill", "/bin/systemctl"):
        path = tmp_path / program[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return tmp_path


def analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", f"--root={root}", "--man=no", *arguments],
        env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


def unit_files(root: Path, role: Role) -> list[str]:
    return [str(root / SYSTEMD[1:] / service.name) for service in role.services]


@each_role
def test_systemd_finds_nothing_to_warn_of(root: Path, role: Role) -> None:
    verified = analyze(root, "verify", *unit_files(root, role))
    assert (verified.stdout, verified.stderr, verified.returncode) == ("", "", 0)


@pytest.mark.parametrize("role", [ROLES["unit"]], ids=["unit"])
def test_the_check_finds_a_misspelt_key_and_a_program_that_is_missing(root: Path, role: Role) -> None:
    unit = root / SYSTEMD[1:] / "moodline-unit.service"
    unit.write_text(unit.read_text().replace("ProtectClock=", "ProtectClok="))
    (root / "usr" / "bin" / "moodline-unit").unlink()
    said = analyze(root, "verify", *unit_files(root, role)).stderr
    assert "Unknown key 'ProtectClok'" in said
    assert "Command /usr/bin/moodline-unit is not executable" in said


@each_role
def test_services_expose_no_more_than_their_bound(root: Path, role: Role) -> None:
    services = [service.name for service in role.services if service.kind == "Service"]
    found = {}
    for name in services:
        said = analyze(root, "security", "--offline=true", "--threshold=100", name).stdout
        exposed = re.search(rf"Overall exposure level for {re.escape(name)}: ([0-9.]+)", said)
        assert exposed is not None, said
        found[name] = float(exposed[1])
    assert {name: value for name, value in found.items() if value > EXPOSED[name]} == {}
