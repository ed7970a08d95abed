"""The desk program's command line: refusals with exit code 2 and a sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.unit.__main__ import main
from provisioning.demo_room import DemoPlan, build

TAKE = Path(__file__).resolve().parents[2] / "tools" / "takes" / "neutral"


def test_missing_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "device.toml")]) == 2
    assert "device.toml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["policy.cose", "roster.cose", "key.pem"])
def test_a_box_without_a_trust_file_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    room = build(tmp_path / "room", DemoPlan(takes=[TAKE], units=1))
    (room.unit("a1") / part).unlink()
    assert main(["--config", str(room.unit_config("a1"))]) == 2
    assert part in capsys.readouterr().err


def test_devices_are_listed_or_it_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-devices"]) == 0
    said = capsys.readouterr()
    assert "microphone" in said.out + said.err
    assert "camera" in said.out + said.err
