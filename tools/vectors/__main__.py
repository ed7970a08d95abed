"""`python -m tools.vectors`: rebuild tests/vectors/line, its logs and sequences, and tests/vectors/hybrid.

Run twice, it changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from device.errors import VERDICTS
from device.messages.roster import sign_roster
from tools.vectors import hybrid, room
from tools.vectors.cases import LIMITS, Case, SealedEntries, all_cases
from tools.vectors.logs import log_cases, log_json
from tools.vectors.replay import verdict_of
from tools.vectors.sequences import limits_json, sequence_cases, sequence_json

FOLDER: Final = Path("tests/vectors/line")
LOGS: Final = FOLDER / "logs"
SEQUENCES: Final = FOLDER / "sequences"
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


def write_all(folder: Path, files: Mapping[str, object]) -> None:
    """Write these files (by name, without `.json`), and remove every other one of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write(folder / f"{name}.json", content)
    for stray in folder.glob("*.json"):
        if stray.stem not in files:
            stray.unlink()
    print(f"{len(files)} files in {folder}")


def checked(cases: Iterable[Case]) -> dict[str, object]:
    """The files of single messages, each checked by the verification that ships."""
    files: dict[str, object] = {}
    for case in cases:
        roster = room.roster(UNITS, revoked=frozenset(case.extra.get("revoked", ())))
        found = verdict_of(case, roster, room.opener())
        assert found == case.verdict, f"{case.name}: {found} instead of {case.verdict}"
        assert case.name not in files, case.name
        files[case.name] = case_json(case)
    return files


def main() -> None:
    """Rebuild every vector and check each by the code that ships."""
    recorded = FOLDER / "sealed.json"
    sealed = SealedEntries(json.loads(recorded.read_text()) if recorded.exists() else {})
    messages = checked(all_cases(sealed))
    logs = {case.name: log_json(case) for case in log_cases(sealed)}
    sequences = {case.name: sequence_json(case) for case in sequence_cases(sealed)}
    write_all(FOLDER, {**messages, "room": room_json(), "sealed": sealed.recorded})
    write_all(LOGS, logs)
    write_all(SEQUENCES, {**sequences, "limits": limits_json()})
    hybrid.rebuild(room_json(), case_json, write)


if __name__ == "__main__":
    main()
