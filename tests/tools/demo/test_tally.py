"""What the demo's summary counts."""

from __future__ import annotations

from typing import Any

import msgspec

from device.clock import TimeSource
from device.gateway.documents import AlertDocument, LabelDocument, Senses, Shares
from device.messages.label import SenseState
from models.labels import AbstainReason, Emotion
from tools.demo.tally import Tally, accuracy, quantile_ms


def label(unit: str = "a1", sequence: int = 1, **changes: Any) -> LabelDocument:
    document = LabelDocument(
        event_id=f"{unit}/1/{sequence}",
        room="demo",
        line="a",
        unit=unit,
        desk="Desk 1",
        session=1,
        sequence=sequence,
        round=sequence,
        state="given",
        label=Emotion.ANGER,
        abstain_reason=None,
        confidence=0.9,
        shares=Shares(speech=0.5, face=0.5),
        senses=Senses(speech=SenseState.PRESENT, face=SenseState.PRESENT),
        status="signed",
        witnesses=0,
        window_end_ms=1_000 * sequence,
        time_source=TimeSource.GATEWAY,
        accepted_ms=1_000 * sequence + 50,
        delay_ms=50,
        model="m",
    )
    return msgspec.structs.replace(document, **changes)


def alert(code: str, severity: str, repeats: int) -> AlertDocument:
    return msgspec.convert(
        {
            "event_id": "x",
            "at_ms": 1,
            "room": "demo",
            "line": "a",
            "peer": "a1",
            "severity": severity,
            "code": code,
            "step": 5,
            "sentence": "s",
            "detail": "d",
            "next_step": "n",
            "repeats": repeats,
        },
        AlertDocument,
    )


def test_the_same_label_signed_and_witnessed_counts_once() -> None:
    tally = Tally()
    assert tally.add_label(label())
    assert not tally.add_label(label(status="witnessed", witnesses=2))
    assert len(tally.labels) == 1
    assert tally.latest["a1"].status == "witnessed"


def test_a_backlog_that_comes_late_does_not_replace_the_latest() -> None:
    tally = Tally()
    tally.add_label(label(sequence=3))
    tally.add_label(label(sequence=2))
    assert tally.latest["a1"].sequence == 3


def test_holes_in_the_sequence_are_lost_labels_per_unit_and_session() -> None:
    tally = Tally()
    for sequence in (1, 2, 5):
        tally.add_label(label(sequence=sequence))
    tally.add_label(label("a2", 2))
    tally.add_label(label(sequence=1, session=2))
    assert tally.lost() == 3


def test_refusals_count_repeats_and_notices_do_not_count() -> None:
    tally = Tally()
    tally.add_alert(alert("bad_signature", "refused", 2))
    tally.add_alert(alert("unit_absent", "warning", 0))
    assert tally.refusals == {"bad_signature": 3}


def test_accuracy_joins_windows_with_what_was_played_and_keeps_abstentions_apart() -> None:
    labels = [
        label(sequence=1),  # before the first take: does not count
        label(sequence=2),
        label(sequence=3, label=Emotion.FEAR),
        label(sequence=4, label=None, state="abstained", abstain_reason=AbstainReason.CONFLICT),
        label(sequence=5, label=Emotion.FEAR),
        label(sequence=6, label=None, state="muted"),
    ]
    played = {"a1": [(2_000, "anger"), (5_000, "fear")]}
    seen = accuracy(labels, played, {"anger": Emotion.ANGER, "fear": Emotion.FEAR})
    assert (seen.windows, seen.named, seen.right) == (4, 3, 2)
    assert seen.takes == {"anger": (3, 2, 1), "fear": (1, 1, 1)}


def test_nothing_played_gives_zeros_and_no_division() -> None:
    seen = accuracy([label()], {}, {})
    assert (seen.windows, seen.of_named) == (0, 0.0)


def test_quantiles() -> None:
    assert quantile_ms([], 0.5) is None
    assert quantile_ms([7], 0.95) == 7.0
    assert quantile_ms(list(range(1, 102)), 0.5) == 51.0
