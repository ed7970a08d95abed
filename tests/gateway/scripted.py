"""A scripted room for the page: every kind of desk, without a line behind it."""

from __future__ import annotations

from typing import Any

import msgspec

from device.clock import TimeSource
from device.gateway.board import Board
from device.gateway.documents import AlertDocument, LabelDocument, Senses, Shares, StateName
from device.messages.label import SenseState
from models.labels import AbstainReason, Emotion

NOW_MS = 1_790_000_000_000


def a_label(
    unit: str = "unit-1", *, label: Emotion | None = Emotion.HAPPINESS, sequence: int = 1, **changes: Any
) -> LabelDocument:
    """A verified label's document; `changes` replace single fields."""
    state: StateName = "given" if label else "abstained"
    document = LabelDocument(
        event_id=f"{unit}/7/{sequence}",
        room="room-1",
        line="a",
        unit=unit,
        desk=f"Desk {unit[-1]}",
        session=7,
        sequence=sequence,
        round=1041,
        state=state,
        label=label,
        abstain_reason=None if label else AbstainReason.LOW_CONFIDENCE,
        confidence=0.83 if label else 0.0,
        shares=Shares(speech=0.6, face=0.4) if label else Shares(speech=0.0, face=0.0),
        senses=Senses(speech=SenseState.PRESENT, face=SenseState.PRESENT),
        status="witnessed",
        witnesses=2,
        window_end_ms=NOW_MS - 84,
        time_source=TimeSource.GATEWAY,
        accepted_ms=NOW_MS,
        delay_ms=84,
        model="2026.11-1",
    )
    return msgspec.structs.replace(document, **changes)


def an_alert(number: int = 1, **changes: Any) -> AlertDocument:
    """A refused forgery; `changes` replace single fields."""
    document = AlertDocument(
        event_id=f"gateway-1/3/{number}",
        at_ms=NOW_MS,
        room="room-1",
        line="a",
        peer="unit-2",
        severity="refused",
        code="bad_signature",
        step=5,
        sentence="The signature is not by the unit that it names.",
        detail="link of unit-2 in round 1040: signature does not verify",
        next_step="Look for a strange device on the room's network; the message was refused.",
        repeats=0,
    )
    return msgspec.structs.replace(document, **changes)


def room_part(mode: str = "labels") -> dict[str, Any]:
    """The board's part `room`."""
    return {
        "room": "room-1",
        "gateway": "gateway-1",
        "version": "0.1.0",
        "mode": mode,
        "broker": "connected",
        "storing": True,
        "policy": {
            "in_force": True,
            "why_not": "",
            "purpose": "demonstration",
            "setting": "laboratory",
            "jurisdiction": "DE",
            "approved_by": "A. Example, head of the laboratory",
            "retention_days": 30,
            "not_after_ms": NOW_MS + 200 * 86_400_000,
        },
    }


def line_part(units: list[str], **changes: Any) -> dict[str, Any]:
    """The board's part `line/a`."""
    part: dict[str, Any] = {
        "line": "a",
        "round": 1042,
        "opener": units[1],
        "order": units,
        "signed": units[1:4],
        "live": units,
        "desks": [{"unit": unit, "desk": f"Desk {unit.split('-')[1]}"} for unit in units],
        "verified": 4127,
        "refused": 2,
    }
    return part | changes


SURE = (0.97, 0.62, 0.71, 0.9, 0.93, 0.55, 0.8, 0.88)

REPLAYED = an_alert(
    3,
    code="replayed",
    step=6,
    peer="unit-3",
    sentence="The message was taken once already; somebody sent it again.",
    detail="The link for round 1031 was sent a second time.",
)
ABSENT = an_alert(
    1,
    severity="warning",
    code="unit_absent",
    step=None,
    peer="unit-13",
    sentence="A desk has left the line.",
    detail="unit-13 has not signed for 4 rounds.",
    next_step="Check that its box has power and network. The line goes on without it, and the box keeps its labels.",
)


def put_room(board: Board) -> None:
    """Thirteen desks: the eight emotions, two ways to abstain, muted, opted out, away; and three alerts."""
    units = [f"unit-{number}" for number in range(1, 14)]
    board.put("room", room_part())
    board.put("line/a", line_part(units, live=units[:12], order=units[:12], signed=units[1:8]))
    for number, (emotion, sure) in enumerate(zip(Emotion, SURE, strict=True)):
        shares = Shares(speech=0.2 + 0.07 * number, face=0.8 - 0.07 * number)
        put_label(board, a_label(units[number], label=emotion, confidence=sure, shares=shares))
    board.put(f"box/a/{units[4]}", {"unit": units[4], "session": 7, "process": "running", "camera": "unplugged"})
    board.put(f"box/a/{units[12]}", {"unit": units[12], "session": 7, "process": "lost"})
    put_label(board, a_label(units[8], label=None))
    put_label(board, a_label(units[9], label=None, abstain_reason=AbstainReason.CONFLICT, status="signed", witnesses=1))
    put_label(board, a_label(units[10], label=None, state="muted", abstain_reason=None))
    put_label(board, a_label(units[11], label=None, state="opted_out", abstain_reason=None))
    board.put("alerts", [REPLAYED, an_alert(2, repeats=4), ABSENT])


def put_label(board: Board, document: LabelDocument) -> None:
    """As the gateway does when a label is delivered."""
    board.put(f"desk/{document.line}/{document.unit}", document)
