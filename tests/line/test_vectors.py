"""The golden vectors, read from their files as any other implementation would, through the code that ships."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.config import LineLimits
from device.errors import VERDICTS, Verdict
from device.line.evidence import check_proof
from device.line.log import follow_log
from device.line.verify import Verifier
from device.messages.roster import Roster, read_roster
from device.messages.sealing import Opener
from tools.vectors import room
from tools.vectors.__main__ import case_json
from tools.vectors.cases import LIMITS, Case, SealedEntries, all_cases
from tools.vectors.logs import first_failing, log_cases, log_from_json, log_json
from tools.vectors.replay import verdict_of
from tools.vectors.sequences import answer, event_of, fed, sequence_cases, sequence_json

FOLDER = Path(__file__).parent.parent / "vectors" / "line"
NO_VECTORS = ("room", "sealed", "limits")


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.json") if path.stem not in NO_VECTORS)


MESSAGES, LOGS, SEQUENCES = _names(FOLDER), _names(FOLDER / "logs"), _names(FOLDER / "sequences")
ROOM = json.loads((FOLDER / "room.json").read_text())


@cache
def _stored(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return stored


def _roster(*revoked: str) -> Roster:
    authority = bytes.fromhex(ROOM["verifying_keys"][room.AUTHORITY])
    roster = read_roster(bytes.fromhex(ROOM["roster"]), authority_key=authority, room=ROOM["room"])
    return replace(roster, revoked=frozenset(revoked))


def _every_one() -> Iterator[dict[str, Any]]:
    for folder, names in ((FOLDER, MESSAGES), (FOLDER / "logs", LOGS), (FOLDER / "sequences", SEQUENCES)):
        yield from (_stored(name, folder) for name in names)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_gets_its_verdict(name: str) -> None:
    stored = _stored(name)
    verdict = Verdict(stored["verdict"]) if stored["verdict"] else None
    messages, chain = (tuple(map(bytes.fromhex, stored[part])) for part in ("messages", "chain"))
    case = Case(name, stored["about"], stored["kind"], messages, verdict, chain)
    opener = Opener(X25519PrivateKey.from_private_bytes(bytes.fromhex(ROOM["opening_key"])))
    assert verdict_of(case, _roster(*stored.get("revoked", ())), opener) == verdict
    assert stored["step"] == (VERDICTS[verdict].step if verdict else None)


@pytest.mark.parametrize("name", LOGS)
def test_a_log_is_found_out_at_its_first_object_that_does_not_hold(name: str) -> None:
    stored = _stored(name, FOLDER / "logs")
    rounds, newer = log_from_json(stored)
    error = first_failing(rounds, newer, rosters={1: _roster()})
    found = (error.verdict, error.found_in_step, error.code, error.round, error.place) if error else (None,) * 5
    assert found == tuple(stored[part] for part in ("verdict", "step", "finding", "round", "place"))


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_machine_answers_each_event_of_a_sequence_as_it_should(name: str) -> None:
    stored = _stored(name, FOLDER / "sequences")
    machine = fed(stored)
    for step in stored["steps"]:
        assert {**step, **answer(machine.take(event_of(step)))} == step


def test_every_proof_of_the_sequences_convinces_somebody_who_has_only_the_roster() -> None:
    proofs = [
        tuple(map(bytes.fromhex, alert["proof"]))
        for name in SEQUENCES
        for step in _stored(name, FOLDER / "sequences")["steps"]
        for alert in step["alerts"]
        if alert["code"] in ("equivocation", "grant_rewritten", "acknowledgement_withdrawn")
    ]
    assert len(proofs) >= 7
    for first, second in proofs:
        assert check_proof((first, second), Verifier(_roster(), room.LINE, LIMITS))


def test_the_limits_of_the_sequences_are_those_that_boxes_have() -> None:
    stored = json.loads((FOLDER / "sequences" / "limits.json").read_text())
    assert LineLimits(**stored) == LineLimits()
    assert ROOM["limits"].items() <= stored.items()


def test_a_log_without_its_newer_grant_is_followed_like_the_gateways_own() -> None:
    for name in LOGS:
        stored = _stored(name, FOLDER / "logs")
        if stored["verdict"] is None:
            rounds, _ = log_from_json(stored)
            assert len(list(follow_log(rounds, roster=_roster(), line=room.LINE, limits=LIMITS))) == len(rounds)


def test_the_files_are_what_the_rebuild_makes() -> None:
    sealed = SealedEntries(json.loads((FOLDER / "sealed.json").read_text()))
    recorded = dict(sealed.recorded)
    rebuilt = [
        (FOLDER, MESSAGES, {case.name: case_json(case) for case in all_cases(sealed)}),
        (FOLDER / "logs", LOGS, {case.name: log_json(case) for case in log_cases(sealed)}),
        (FOLDER / "sequences", SEQUENCES, {case.name: sequence_json(case) for case in sequence_cases(sealed)}),
    ]
    for folder, names, made in rebuilt:
        assert sorted(made) == names
        assert [name for name in names if made[name] != _stored(name, folder)] == []
    assert sealed.recorded == recorded


def test_every_verdict_has_a_vector_and_every_step_too() -> None:
    alerts = {alert["code"] for stored in _every_one() for step in stored.get("steps", ()) for alert in step["alerts"]}
    verdicts = {stored["verdict"] for stored in _every_one()} | alerts
    assert set(Verdict) <= {Verdict(code) for code in verdicts if code in set(Verdict)}
    assert {VERDICTS[Verdict(code)].step for code in verdicts if code in set(Verdict)} == set(range(1, 11))
