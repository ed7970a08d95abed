from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest

from device.clock import TimeSource
from device.errors import VERDICTS, Verdict
from device.gateway.consumers import (
    CLASS_BIN_MS,
    NOTICES,
    ClassPicture,
    alert_document,
    class_message,
    is_newer,
    label_document,
    label_message,
    with_witnesses,
)
from device.gateway.documents import ClassDocument, StateName, encode
from device.line.actions import Alert, Deliver, Gap, Notice
from device.messages.label import LEVELS, Label, LabelState, SenseState
from models.labels import ABSTAIN_REASONS, EMOTIONS, AbstainReason, Emotion
from tests.gateway import schemas
from tests.gateway.scripted import a_label

WINDOW_END_MS = 1_800_000_000_000


def delivered(label: Label, **changes: Any) -> Deliver:
    fields: dict[str, Any] = {
        "line": "row-1",
        "unit": "desk-1",
        "session": 3,
        "sequence": 17,
        "label": label,
        "epoch": 1,
        "round": 5,
        "link": b"digest",
        "arrived": 12.5,
        "arrived_wall_ms": WINDOW_END_MS + 140,
        "time_plausible": True,
    }
    return Deliver(**(fields | changes))


def given(emotion: Emotion = Emotion.FEAR) -> Label:
    return Label(
        window_end_ms=WINDOW_END_MS,
        time_source=TimeSource.NTP,
        state=LabelState.GIVEN,
        emotion=emotion,
        confidence=834,
        share_speech=250,
        share_face=750,
        speech=SenseState.PRESENT,
        face=SenseState.PRESENT,
        bundle="2026.11-1",
    )


def without_emotion(state: LabelState, reason: AbstainReason | None = None) -> Label:
    return Label(window_end_ms=WINDOW_END_MS, time_source=TimeSource.UNSET, state=state, abstain_reason=reason)


EVERY_LABEL = [
    *(given(emotion) for emotion in EMOTIONS),
    *(without_emotion(LabelState.ABSTAINED, reason) for reason in ABSTAIN_REASONS),
    Label(
        window_end_ms=WINDOW_END_MS,
        time_source=TimeSource.GATEWAY,
        state=LabelState.ABSTAINED,
        abstain_reason=AbstainReason.LOW_CONFIDENCE,
        confidence=251,
        share_speech=1_000,
    ),
    without_emotion(LabelState.MUTED),
    without_emotion(LabelState.OPTED_OUT),
    *(
        Label(
            window_end_ms=WINDOW_END_MS,
            time_source=TimeSource.NTP,
            state=LabelState.PRESENCE,
            speech=SenseState.PRESENT,
            face=face,
            level=level,
        )
        for face, level in ((SenseState.PRESENT, 0), (SenseState.NO_FACE, LEVELS - 1), (SenseState.FAILED, 7))
    ),
    without_emotion(LabelState.PRESENCE),
]


@pytest.mark.parametrize(
    "label", EVERY_LABEL, ids=lambda label: str(label.emotion or label.abstain_reason or label.state)
)
def test_every_label_that_can_be_sent_agrees_with_the_schema(label: Label) -> None:
    document = label_document(delivered(label), room="lab", desk="Desk 1")
    schemas.check("label", encode(document))
    schemas.check("label", encode(with_witnesses(document, 2, enough=True)))


def test_presence_says_what_is_known_of_face_and_sound() -> None:
    told = [label_document(delivered(label), room="lab", desk="Desk 1").presence for label in EVERY_LABEL[-4:]]
    assert [(presence.face_seen, presence.level_dbfs) for presence in told if presence is not None] == [
        (True, -96),
        (False, -6),
        (None, -54),
        (None, None),
    ]


def test_a_label_says_all_that_was_signed_and_nothing_else() -> None:
    document = json.loads(encode(label_document(delivered(given()), room="lab", desk="Window left")))
    assert document == {
        "schema": "moodline/label/1",
        "event_id": "desk-1/3/17",
        "room": "lab",
        "line": "row-1",
        "unit": "desk-1",
        "desk": "Window left",
        "session": 3,
        "sequence": 17,
        "round": 5,
        "state": "given",
        "label": "fear",
        "abstain_reason": None,
        "confidence": 0.834,
        "shares": {"speech": 0.25, "face": 0.75},
        "senses": {"speech": "present", "face": "present"},
        "status": "signed",
        "witnesses": 0,
        "window_end_ms": WINDOW_END_MS,
        "time_source": "ntp",
        "accepted_ms": WINDOW_END_MS + 140,
        "delay_ms": 140,
        "model": "2026.11-1",
        "presence": None,
    }


def test_an_implausible_time_gives_no_delay_and_a_clock_that_is_ahead_none_below_zero() -> None:
    lost = label_document(delivered(given(), time_plausible=False), room="lab", desk="d")
    ahead = label_document(delivered(given(), arrived_wall_ms=WINDOW_END_MS - 5), room="lab", desk="d")
    assert (lost.delay_ms, ahead.delay_ms) == (None, 0)


def test_a_label_becomes_witnessed_only_when_enough_units_have_signed() -> None:
    document = label_document(delivered(given()), room="lab", desk="d")
    first, second = with_witnesses(document, 1, enough=False), with_witnesses(document, 2, enough=True)
    assert (first.status, first.witnesses) == ("signed", 1)
    assert (second.status, second.witnesses) == ("witnessed", 2)
    assert first.event_id == second.event_id == document.event_id


def test_a_backlog_that_comes_late_does_not_replace_the_retained_latest() -> None:
    latest, old = a_label(session=2, sequence=1), a_label(session=1, sequence=900)
    assert is_newer(latest, old) and is_newer(old, None)
    assert not is_newer(old, latest) and not is_newer(latest, latest)
    assert label_message(latest, newest=True).retain
    assert not label_message(old, newest=False).retain


@pytest.mark.parametrize("code", [*Verdict, *Notice])
def test_every_finding_has_plain_words_and_a_next_step_and_agrees_with_the_schema(code: Verdict | Notice) -> None:
    alert = Alert(code, "desk-1", "what was found", "row-1")
    document = alert_document(alert, room="lab", event_id="gateway/1/1", at_ms=WINDOW_END_MS, repeats=3)
    schemas.check("alert", encode(document))
    assert document.sentence.endswith(".") and document.next_step.endswith(".")
    if isinstance(code, Verdict):
        assert document.step == VERDICTS[code].step
        assert document.severity == ("note" if VERDICTS[code].honest else "refused")
    else:
        assert document.step is None and code in NOTICES


def test_a_gap_is_a_warning_that_agrees_with_the_schema() -> None:
    document = alert_document(Gap("row-1", "desk-1", 2, 7, 9), room="lab", event_id="gateway/1/1", at_ms=1, repeats=0)
    schemas.check("alert", encode(document))
    assert (document.severity, document.code, document.step) == ("warning", "gap", None)


# --- the class picture -----------------------------------------------------------------------------------------------


def picture(min_group: int = 3) -> ClassPicture:
    begun = ClassPicture(room="lab", min_group=min_group)
    assert begun.close_bin(0) is None
    return begun


def bin_of(class_picture: ClassPicture, number: int, said: Mapping[str, Emotion | None]) -> ClassDocument:
    for unit, emotion in said.items():
        class_picture.add(a_label(unit, label=emotion))
    document = class_picture.close_bin(number * CLASS_BIN_MS)
    assert document is not None
    schemas.check("class", class_message(document).payload)
    return document


JOY: dict[str, Emotion | None] = dict.fromkeys(("desk-1", "desk-2", "desk-3"), Emotion.HAPPINESS)


def test_the_class_is_counted_without_naming_a_desk() -> None:
    class_picture = picture()
    bin_of(class_picture, 1, JOY)
    document = bin_of(class_picture, 2, JOY | {"desk-3": None})
    assert document.desks == 3
    assert document.counts is not None
    assert {name: count for name, count in document.counts.items() if count} == {"happiness": 2, "unnamed": 1}
    assert b"desk-" not in encode(document)


def test_below_the_smallest_group_nothing_is_counted() -> None:
    class_picture = picture(min_group=4)
    for number in (1, 2, 3):
        document = bin_of(class_picture, number, JOY)
        assert (document.desks, document.counts) == (None, None)


@pytest.mark.parametrize("comes", [True, False])
def test_a_desk_that_comes_or_goes_hides_the_bin_so_that_no_difference_tells_on_it(comes: bool) -> None:
    more: dict[str, Emotion | None] = {**JOY, "desk-4": Emotion.SADNESS}
    before, after = (JOY, more) if comes else (more, JOY)
    class_picture = picture()
    bin_of(class_picture, 1, before)
    assert bin_of(class_picture, 2, before).counts is not None
    assert bin_of(class_picture, 3, after).counts is None
    assert bin_of(class_picture, 4, after).counts is not None


def test_abstaining_muted_and_opted_out_desks_give_the_same_bytes() -> None:
    payloads = set()
    kinds: list[tuple[StateName, AbstainReason | None]] = [
        ("abstained", AbstainReason.SILENCE),
        ("muted", None),
        ("opted_out", None),
    ]
    for state, reason in kinds:
        class_picture = picture()
        last = b""
        for number in (1, 2):
            for unit in ("desk-1", "desk-2"):
                class_picture.add(a_label(unit))
            class_picture.add(a_label("desk-3", label=None, state=state, abstain_reason=reason))
            document = class_picture.close_bin(number * CLASS_BIN_MS)
            assert document is not None
            last = encode(document)
        payloads.add(last)
    assert len(payloads) == 1


def test_a_bin_lasts_its_whole_time_and_a_clock_that_steps_back_begins_a_new_one() -> None:
    class_picture = picture()
    assert class_picture.close_bin(CLASS_BIN_MS - 1) is None
    assert class_picture.close_bin(-5) is None
    assert class_picture.close_bin(CLASS_BIN_MS - 6) is None
    assert class_picture.close_bin(CLASS_BIN_MS - 5) is not None


def test_schemas_refuse_what_the_contract_does_not_have() -> None:
    good = json.loads(encode(a_label()))
    for change, value in product(("audio", "name", "embedding"), ("x",)):
        with pytest.raises(AssertionError, match="Additional properties"):
            schemas.check("label", json.dumps(good | {change: value}).encode())
    for field in good:
        with pytest.raises(AssertionError):
            schemas.check("label", json.dumps({k: v for k, v in good.items() if k != field}).encode())
    with pytest.raises(AssertionError):
        schemas.check("label", json.dumps(good | {"state": "muted"}).encode())
