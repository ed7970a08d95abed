"""What only a unit can find is kept as a file that the offline verifier takes, and told at the gateway."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from device.errors import StorageError
from device.line.actions import Notice
from device.messages.envelope import digest
from device.messages.grant import Grant, sign_grant
from device.messages.roster import sign_roster
from device.system.storage import Disk
from device.unit.proofs import PROOFS, ProofFolder
from tests.unit.test_service import UNIT, Unit
from tools.vectors import room
from tools.vectors.cases import grant_7
from tools.verify import main as verify

ROSTER = sign_roster(room.roster(), room.signer(room.AUTHORITY))


def folder_in(path: Path, disk: Disk | None = None) -> ProofFolder:
    return ProofFolder(path / "proofs", room=room.ROOM, line=room.LINE, roster=ROSTER, disk=disk or Disk())


def signed(grant: Grant) -> bytes:
    return sign_grant(grant, room.signer(room.GATEWAY))


def contradiction(number: int = 7) -> tuple[bytes, bytes]:
    first = replace(grant_7(), round=number)
    return signed(first), signed(replace(first, prev=digest(b"another chain")))


def test_g8_a_kept_proof_against_the_gateway_is_accepted_by_the_offline_verifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder_in(tmp_path).keep(contradiction())
    assert file is not None
    (tmp_path / "roster.cose").write_bytes(ROSTER)
    assert verify([str(file), "--roster", str(tmp_path / "roster.cose")]) == 0
    assert "A second, different grant for round 7" in capsys.readouterr().out


def test_a_proof_is_kept_once_and_a_flood_of_them_is_bounded(tmp_path: Path) -> None:
    proofs = folder_in(tmp_path)
    assert proofs.keep(contradiction()) == proofs.keep(contradiction())
    for number in range(8, 8 + PROOFS + 3):
        proofs.keep(contradiction(number))
    assert len(list((tmp_path / "proofs").iterdir())) == PROOFS


def test_one_object_is_no_proof(tmp_path: Path) -> None:
    assert folder_in(tmp_path).keep(contradiction()[:1]) is None
    assert not (tmp_path / "proofs").exists()


def test_a_disk_that_refuses_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full(Disk):
        def create(self, path: Path, mode: int) -> int:
            raise StorageError(f"{path}: no space", next_step="Free some.")

    assert folder_in(tmp_path, Full()).keep(contradiction()) is None
    assert "could not be kept" in caplog.text


def test_a_restored_box_says_so_and_the_gateway_tells_it_as_an_alert(tmp_path: Path) -> None:
    unit = Unit(tmp_path)
    unit.run(2.0)
    unit.link.die()
    unit.start(session=3)
    unit.run(2.0)
    assert unit.machine.state == "stopped"
    assert unit.statuses()[-1]["process"] == "enrol_anew"
    said = [json.loads(payload) for topic, payload in unit.room.broker.published if topic.endswith("/alerts")]
    (alert,) = [alert for alert in said if alert["code"] == Notice.ENROL_ANEW]
    assert alert["peer"] == UNIT
