"""`python -m tools.vectors`: rebuild tests/vectors/line and tests/vectors/hybrid. Run twice, it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from device.errors import VERDICTS
from device.messages.roster import sign_roster
from tools.vectors import hybrid, room
from tools.vectors.cases import LIMITS, Case, SealedEntries, all_cases
from tools.vectors.replay import verdict_of

FOLDER: Final = Path("tests/vectors/line")
UNITS: Final = 4


def room_json() -> dict[str, Any]:
    """Keys and roster that all vectors share. The private keys are for these vectors only."""
    signers = [*room.unit_names(UNITS), room.OTHER_UNIT, room.GATEWAY, room.AUTHORITY]
    return {
        "room": room.ROOM,
        "line": room.LINE,
        "units": UNITS,
        "signing_keys": {name: room.signer(name).private_key.private_bytes_raw().hex() for name in signers},
        "verifying_keys": {name: room.signer(name).public_key.hex() for name in signers},
        "opening_key": room.opening_key().private_bytes_raw().hex(),
        "roster": sign_roster(room.roster(UNITS), room.signer(room.AUTHORITY)).hex(),
        "limits": {"message_bytes": LIMITS.message_bytes, "entries_per_link": LIMITS.entries_per_link},
    }


def case_json(case: Case) -> dict[str, Any]:
    """One vector as it stands in its file."""
    return {
        "about": case.about,
        "kind": case.kind,
        "verdict": case.verdict.value if case.verdict else None,
        "step": VERDICTS[case.verdict].step if case.verdict else None,
        "chain": [raw.hex() for raw in case.chain],
        "messages": [raw.hex() for raw in case.messages],
        **case.extra,
    }


def write(path: Path, content: object) -> None:
    """JSON as a person and git like it."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Rebuild every vector and check each by the verification that ships."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    recorded_path = FOLDER / "sealed.json"
    sealed = SealedEntries(json.loads(recorded_path.read_text()) if recorded_path.exists() else {})
    cases = all_cases(sealed)
    kept = {recorded_path, FOLDER / "room.json"}
    write(FOLDER / "room.json", room_json())
    for case in cases:
        roster = room.roster(UNITS, revoked=frozenset(case.extra.get("revoked", ())))
        found = verdict_of(case, roster, room.opener())

        assert found == case.verdict, f"{case.name}: {found} instead of {case.verdict}"
        path = FOLDER / f"{case.name}.json"
        kept.add(path)
        write(path, case_json(case))
    write(recorded_path, sealed.recorded)
    for stray in set(FOLDER.glob("*.json")) - kept:
        stray.unlink()
    print(f"{len(cases)} vectors in {FOLDER}")
    hybrid.rebuild(room_json(), case_json, write)


if __name__ == "__main__":
    main()
