"""The golden vectors, read from their files as any other implementation would, through the verification that ships."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.errors import VERDICTS, Verdict
from device.messages.roster import Roster, read_roster
from device.messages.sealing import Opener
from tools.vectors import room
from tools.vectors.__main__ import case_json
from tools.vectors.cases import Case, SealedEntries, all_cases
from tools.vectors.replay import verdict_of

FOLDER = Path(__file__).parent.parent / "vectors" / "line"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem not in ("room", "sealed"))
ROOM = json.loads((FOLDER / "room.json").read_text())


def _stored(name: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return stored


def _case(name: str) -> Case:
    stored = _stored(name)
    return Case(
        name,
        stored["about"],
        stored["kind"],
        tuple(map(bytes.fromhex, stored["messages"])),
        Verdict(stored["verdict"]) if stored["verdict"] else None,
        tuple(map(bytes.fromhex, stored["chain"])),
    )


def _roster(name: str) -> Roster:
    authority = bytes.fromhex(ROOM["verifying_keys"][room.AUTHORITY])
    roster = read_roster(bytes.fromhex(ROOM["roster"]), authority_key=authority, room=ROOM["room"])
    return replace(roster, revoked=frozenset(_stored(name).get("revoked", ())))


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_gets_its_verdict(name: str) -> None:
    case = _case(name)
    opener = Opener(X25519PrivateKey.from_private_bytes(bytes.fromhex(ROOM["opening_key"])))
    assert verdict_of(case, _roster(name), opener) == case.verdict


def test_the_files_are_what_the_rebuild_makes() -> None:
    sealed = SealedEntries(json.loads((FOLDER / "sealed.json").read_text()))
    rebuilt = {case.name: case_json(case) for case in all_cases(sealed)}
    assert sorted(rebuilt) == NAMES
    assert [name for name in NAMES if rebuilt[name] != _stored(name)] == []


#: Found by a machine's memory, not by one message on one chain; their tests are in test_unit.py and test_gateway.py.
STATEFUL = {
    Verdict.REPLAYED,
    Verdict.UNSEEN_HEAD,
    Verdict.EQUIVOCATION,
    Verdict.QUARANTINED,
    Verdict.IMPLAUSIBLE_TIME,
}


def _verdicts() -> Iterator[Verdict]:
    for name in NAMES:
        verdict = _stored(name)["verdict"]
        if verdict:
            yield Verdict(verdict)


def test_every_verdict_has_a_vector_or_a_machine_that_finds_it() -> None:
    assert set(_verdicts()) | STATEFUL == set(Verdict) - {Verdict.BAD_LABEL}
    assert {VERDICTS[verdict].step for verdict in _verdicts()} == set(range(1, 11))
