"""What the command says: one JSON document for programs, a page of text for people."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from device.errors import RemoteMessageError
from device.line.evidence import Proved
from device.line.log import LogError, Stub
from tools.verify.check import Findings
from tools.verify.rosters import Rosters
from tools.verify.summary import LineSummary, UnitSummary


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the document's parts."""


class Failure(Part, frozen=True, kw_only=True):
    """The first object that does not hold. `place` is 0 for the round's grant, n for its n-th link, null when the
    finding is about the whole round or file; `signer` is empty when the object does not say."""

    line: str
    round: int
    place: int | None
    signer: str
    step: int | None
    code: str
    sentence: str
    detail: str
    next_step: str


class SessionPart(Part, frozen=True, kw_only=True):
    """Labels of one session, gaps included."""

    session: int
    first: int
    last: int


class UnitPart(Part, frozen=True, kw_only=True):
    """One unit; at most 20 sessions and gaps are listed, all are counted."""

    unit: str
    links: int
    labels: int
    session_count: int
    sessions: list[SessionPart]
    gap_count: int
    missing: int
    gaps: list[SessionPart]


class StubPart(Part, frozen=True, kw_only=True):
    """Rounds that retention deleted."""

    first_round: int
    last_round: int
    links: int
    running: str


class LinePart(Part, frozen=True, kw_only=True):
    """What is verified of one line. `running` is what a stub of these very rounds would carry."""

    line: str
    deleted: StubPart | None
    first_round: int
    last_round: int
    rounds: int
    links: int
    labels: int
    epochs: list[int]
    first_time: str
    last_time: str
    head: str
    running: str
    open_round: int | None
    units: list[UnitPart]


class ProvedPart(Part, frozen=True, kw_only=True):
    """What a proof proves."""

    line: str
    signer: str
    code: str
    sentence: str
    rounds: tuple[int, int]


class Document(Part, frozen=True, kw_only=True):
    """The whole. `rosters` says how they came to be believed."""

    schema: Literal["moodline/verification/1"] = "moodline/verification/1"
    file: str
    kind: Literal["log", "receipt", "proof"]
    verified: bool
    room: str
    rosters: Literal["signed by the given authority", "on trust", "from the file itself, on trust"]
    roster_epochs: list[int]
    failure: Failure | None = None
    lines: list[LinePart] = []
    proved: ProvedPart | None = None
    notes: list[str] = []


def log_document(path: Path, kind: Literal["log", "receipt"], rosters: Rosters, found: Findings) -> Document:
    """The document of a log or receipt."""
    return Document(
        file=str(path),
        kind=kind,
        verified=found.failure is None,
        room=rosters.room,
        rosters=_trust(rosters),
        roster_epochs=sorted(rosters.by_epoch),
        failure=None if found.failure is None else _failure(found.failure),
        lines=[_line(summary) for summary in found.lines.values()],
        notes=found.notes,
    )


def proof_document(path: Path, rosters: Rosters, line: str, outcome: Proved | RemoteMessageError) -> Document:
    """The document of a proof."""
    proved, failure = None, None
    if isinstance(outcome, Proved):
        proved = ProvedPart(
            line=line,
            signer=outcome.signer,
            code=outcome.verdict.value,
            sentence=outcome.sentence,
            rounds=outcome.rounds,
        )
    else:
        error = outcome
        if not isinstance(error, LogError):
            error = LogError(error.verdict, error.what, line=line, round_number=0, place=None, peer=error.peer)
        failure = _failure(error)
    return Document(
        file=str(path),
        kind="proof",
        verified=failure is None,
        room=rosters.room,
        rosters=_trust(rosters),
        roster_epochs=sorted(rosters.by_epoch),
        failure=failure,
        proved=proved,
    )


def _trust(
    rosters: Rosters,
) -> Literal["signed by the given authority", "on trust", "from the file itself, on trust"]:
    if rosters.authority is not None:
        return "signed by the given authority"
    return "from the file itself, on trust" if rosters.from_file else "on trust"


def _failure(error: LogError) -> Failure:
    return Failure(
        line=error.line,
        round=error.round,
        place=error.place,
        signer=error.peer,
        step=error.found_in_step,
        code=error.code.value,
        sentence=error.sentence,
        detail=error.what,
        next_step=error.next_step,
    )


def _line(summary: LineSummary) -> LinePart:
    stub = summary.stub
    return LinePart(
        line=summary.line,
        deleted=None if stub is None else _stub(stub),
        first_round=summary.first_round,
        last_round=summary.last_round,
        rounds=summary.rounds,
        links=summary.links,
        labels=summary.labels,
        epochs=summary.epochs,
        first_time=_time(summary.first_ms) if summary.rounds else "",
        last_time=_time(summary.last_ms) if summary.rounds else "",
        head=(summary.head or (stub.head if stub else b"")).hex(),
        running=summary.running.hex(),
        open_round=summary.open_round,
        units=[_unit(name, unit) for name, unit in sorted(summary.units.items())],
    )


def _stub(stub: Stub) -> StubPart:
    return StubPart(first_round=stub.first, last_round=stub.last, links=stub.links, running=stub.running.hex())


def _unit(name: str, unit: UnitSummary) -> UnitPart:
    return UnitPart(
        unit=name,
        links=unit.links,
        labels=unit.labels,
        session_count=unit.session_count,
        sessions=[SessionPart(session=each.session, first=each.first, last=each.last) for each in unit.sessions],
        gap_count=unit.gap_count,
        missing=unit.missing,
        gaps=[SessionPart(session=each.session, first=each.first, last=each.last) for each in unit.gaps],
    )


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms after 1970"


def as_json(document: Document) -> str:
    """The document, indented."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def as_text(document: Document) -> str:
    """The document for people."""
    says = "proved" if document.proved else "verified" if document.verified else "NOT VERIFIED"
    if document.kind == "proof" and not document.verified:
        says = "PROVES NOTHING"
    epochs = ", ".join(map(str, document.roster_epochs))
    lines = [f"{document.file}: {says}", f"Room {document.room}; rosters of epoch {epochs}: {_TRUST[document.rosters]}"]
    if document.proved:
        lines.append(f"{document.proved.sentence} (line {document.proved.line}; {document.proved.code}).")
    if document.failure:
        lines += _failure_text(document.failure)
    for each in document.lines:
        lines += _line_text(each)
    lines += [f"Note: {note}" for note in document.notes]
    return "\n".join(lines)


_TRUST = {
    "signed by the given authority": "signed by the given room authority.",
    "on trust": "taken on trust, because no --authority was given.",
    "from the file itself, on trust": "taken from the file itself, on trust. This shows only that the file agrees with"
    " itself: give --authority or --roster to learn more.",
}


def _failure_text(failure: Failure) -> list[str]:
    where = [f"Line {failure.line}"] if failure.line else []
    if failure.round:
        where.append(f"round {failure.round}")
    if failure.place is not None:
        where.append("the grant" if failure.place == 0 else f"link {failure.place}")
    if failure.signer:
        where.append(f"signed in the name of {failure.signer}")
    step = f" (step {failure.step})" if failure.step else ""
    return [
        f"{', '.join(where) or 'The file'}: {failure.code}{step}",
        f"  {failure.sentence} {failure.detail}",
        f"  What to do: {failure.next_step}",
        "What was verified up to there:" if failure.line else "",
    ][: 4 if failure.line else 3]


def _line_text(line: LinePart) -> list[str]:
    lines = [f"Line {line.line}: nothing yet"]
    if line.rounds:
        lines = [
            f"Line {line.line}: rounds {line.first_round} to {line.last_round}, {line.links:,} links,"
            f" {line.labels:,} labels (sealed entries), epoch {', '.join(map(str, line.epochs))}",
            f"  from {line.first_time} to {line.last_time} by the gateway's clock",
        ]
    if line.deleted:
        lines.append(
            f"  rounds {line.deleted.first_round} to {line.deleted.last_round} ({line.deleted.links:,} links) were"
            f" deleted; running digest {line.deleted.running}"
        )
    if line.open_round is not None:
        lines.append(f"  goes on with the grant of round {line.open_round}")
    lines += [_unit_text(unit) for unit in line.units]
    return [*lines, f"  head {line.head}", *([f"  running digest {line.running}"] if line.rounds else [])]


def _unit_text(unit: UnitPart) -> str:
    sessions = [f"session {each.session}: {each.first} to {each.last}" for each in unit.sessions]
    if unit.session_count > len(sessions):
        sessions.append(f"and {unit.session_count - len(sessions)} more sessions")
    text = f"  {unit.unit}: {unit.links:,} links, {unit.labels:,} labels"
    text += f" ({'; '.join(sessions)})" if sessions else ""
    if not unit.gap_count:
        return text
    gaps = [f"{each.session}/{each.first}" + (f"-{each.last}" if each.last > each.first else "") for each in unit.gaps]
    if unit.gap_count > len(gaps):
        gaps.append(f"and {unit.gap_count - len(gaps)} more")
    return f"{text}; {unit.missing:,} never came: {', '.join(gaps)}"
