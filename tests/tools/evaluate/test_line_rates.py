"""The running line at several transmission rates: its arithmetic, its parties, and a short real run."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.clock import TimeSource
from device.errors import ConfigError
from device.gateway.documents import LabelDocument, Senses, Shares
from device.messages.label import Label, LabelState, SenseState
from device.messages.roster import SealingSuite
from device.messages.sealing import Opener, Place, Sealer
from models.labels import AbstainReason, Emotion
from tools.evaluate.line_parties import Answer, Pace, Sent, every_rounds, openers_of, random_opener, try_to_open
from tools.evaluate.line_rates import RateRow, answers_of_predictions, findings, measure, row_of
from tools.evaluate.line_room import StoppedError, Trial
from tools.evaluate.predictions import Row, write_rows

RIGHT = Answer(Emotion.FEAR, Emotion.FEAR, 0.9)
WRONG = Answer(Emotion.FEAR, Emotion.NEUTRAL, 0.5)
ABSTAINED = Answer(Emotion.FEAR, None, 0.2, AbstainReason.LOW_CONFIDENCE)
SUITE = SealingSuite.X25519_SHA256_CHACHA20POLY1305


def document(sequence: int, answer: Answer, *, delay_ms: int = 40, **changes: Any) -> LabelDocument:
    built = LabelDocument(
        event_id=f"a1/1/{sequence}",
        room="demo",
        line="a",
        unit="a1",
        desk="Desk 1",
        session=1,
        sequence=sequence,
        round=sequence,
        state="given" if answer.decided else "abstained",
        label=answer.decided,
        abstain_reason=answer.reason,
        confidence=answer.confidence,
        shares=Shares(speech=0.0, face=0.0),
        senses=Senses(speech=SenseState.OFF, face=SenseState.OFF),
        status="signed",
        witnesses=0,
        window_end_ms=1_000 * sequence,
        time_source=TimeSource.UNSET,
        accepted_ms=1_000 * sequence + delay_ms,
        delay_ms=delay_ms,
        model="recorded",
    )
    return msgspec.structs.replace(built, **changes)


def trial(answers: list[Answer], **changes: Any) -> Trial:
    """Every label of unit a1 made at full seconds and verified 40 ms later."""
    names = [("a1", 1, number) for number in range(1, len(answers) + 1)]
    fields: dict[str, Any] = {
        "pace": Pace(1.0, 100.0, 100.0 + len(answers), 2),
        "units": 1,
        "sent": {name: Sent(answer, 1_000 * name[2]) for name, answer in zip(names, answers, strict=True)},
        "published_ms": {name: 1_000 * name[2] + 10 for name in names},
        "verified": {name: document(name[2], answer) for name, answer in zip(names, answers, strict=True)},
        "opened": (12, 0),
        "control": (len(answers), len(answers)),
        "forged": [b"forged"],
        "replayed": [b"old"],
        "refused": 2,
        "load_average": 0.5,
    }
    return Trial(**(fields | changes))


GOOD_LOG = {b"old": 1, b"genuine": 1}


def test_a_rate_is_paced_by_grants_only_where_whole_rounds_give_it() -> None:
    assert [every_rounds(rate, 500) for rate in (0.5, 1.0, 2.0)] == [4, 2, 1]
    assert [every_rounds(rate, 500) for rate in (0.7, 4.0, 5.0, 10.0)] == [None] * 4


def test_a_line_that_keeps_everything_has_no_problem() -> None:
    row = row_of(trial([RIGHT, WRONG, ABSTAINED, RIGHT]), GOOD_LOG)
    assert row.problems() == []
    assert (row.sent, row.verified, row.lost, row.altered, row.attempts) == (4, 4, 0, 0, 14)
    assert (row.recognition_box, row.recognition_gateway, row.recognition_kept) == (0.5, 0.5, 1.0)
    assert (row.delay_ms.p50, row.transit_ms.p99, row.achieved_hz, row.labels_per_link) == (40.0, 30.0, 1.0, 1.0)
    assert row.paced_by == "grant"


def test_a_lost_label_lowers_the_recognition_kept() -> None:
    whole = trial([RIGHT, WRONG, RIGHT, RIGHT])
    row = row_of(trial([RIGHT, WRONG, RIGHT, RIGHT], verified=dict(list(whole.verified.items())[1:])), GOOD_LOG)
    assert row.lost == 1
    assert row.recognition_kept == pytest.approx(2 / 3)
    assert row.problems() == ["1 labels/s: 1 of 4 labels were lost."]


@pytest.mark.parametrize(
    "changes",
    [
        {"label": Emotion.NEUTRAL},
        {"label": None, "abstain_reason": AbstainReason.SILENCE, "state": "abstained"},
        {"window_end_ms": 999},
    ],
)
def test_a_label_that_says_something_else_is_altered(changes: dict[str, Any]) -> None:
    row = row_of(trial([RIGHT], verified={("a1", 1, 1): document(1, RIGHT, **changes)}), GOOD_LOG)
    assert row.problems() == ["1 labels/s: 1 labels were altered."]


def test_a_label_that_is_stored_and_not_told_is_no_loss_but_a_problem() -> None:
    row = row_of(trial([RIGHT, RIGHT], untold=1), GOOD_LOG)
    assert (row.lost, row.recognition_kept) == (0, 1.0)
    assert row.problems() == ["1 labels/s: 1 of 2 labels were stored, but their consumer was not told."]


def test_labels_of_other_rates_do_not_count() -> None:
    verified = {("a1", 1, 1): document(1, RIGHT), ("a1", 1, 9): document(9, RIGHT)}
    assert row_of(trial([RIGHT], verified=verified), GOOD_LOG).verified == 1


def test_without_a_right_label_there_is_no_share_to_keep_and_without_any_label_the_rate_failed() -> None:
    assert row_of(trial([WRONG]), GOOD_LOG).recognition_kept is None
    empty = row_of(trial([RIGHT], sent={}, verified={}, control=(0, 0)), GOOD_LOG)
    assert empty.problems() == ["1 labels/s: no label was sent."]
    assert (empty.delay_ms.p50, empty.labels_per_link) == (None, None)


@pytest.mark.parametrize(
    ("log", "accepted"),
    [(GOOD_LOG, 0), ({}, 0), ({b"forged": 1}, 1), ({b"old": 2}, 1), ({b"forged": 1, b"old": 2}, 2)],
)
def test_a_forged_link_in_the_log_or_an_old_one_twice_was_accepted(log: dict[bytes, int], accepted: int) -> None:
    row = row_of(trial([RIGHT]), log)
    assert row.forged_accepted == accepted
    assert len(row.problems()) == (accepted > 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"opened": (12, 3)}, "3 opening attempts succeeded"),
        ({"control": (1, 0)}, "the gateway's own key did not open everything"),
        ({"control": (0, 0)}, "the gateway's own key did not open everything"),
        ({"forged": [], "replayed": []}, "nothing was forged"),
        ({"refused": 0}, "the gateway has seen nothing of it"),
    ],
)
def test_a_success_or_attempts_that_prove_nothing_are_problems(changes: dict[str, Any], said: str) -> None:
    (problem,) = row_of(trial([RIGHT], **changes), GOOD_LOG).problems()
    assert said in problem


def sealed_for(public_key: bytes) -> dict[Place, bytes]:
    place = Place("demo", "a", "a1", 1, 1)
    label = Label(window_end_ms=1, time_source=TimeSource.UNSET, state=LabelState.MUTED)
    return {place: Sealer(public_key, SUITE).seal(label, place)}


def test_both_forms_of_a_units_key_are_keys_that_open_what_is_sealed_for_them() -> None:
    openers = openers_of(Ed25519PrivateKey.generate())
    assert [try_to_open(sealed_for(opener.public_key), openers) for opener in openers] == [(2, 1), (2, 1)]


def test_the_second_form_is_the_point_of_the_signing_key_on_the_other_curve() -> None:
    key = Ed25519PrivateKey.generate()
    y = int.from_bytes(key.public_key().public_bytes_raw(), "little") & (2**255 - 1)
    p = 2**255 - 19
    u = (1 + y) * pow(1 - y, -1, p) % p  # RFC 7748 section 4.1
    assert openers_of(key)[1].public_key == u.to_bytes(32, "little")


def test_a_label_sealed_for_the_gateway_opens_with_its_key_alone() -> None:
    gateway = Opener(X25519PrivateKey.generate())
    sealed = sealed_for(gateway.public_key)
    assert try_to_open(sealed, [*openers_of(Ed25519PrivateKey.generate()), random_opener()]) == (3, 0)
    assert try_to_open(sealed, [gateway]) == (1, 1)


def test_a_label_moved_to_another_place_does_not_open() -> None:
    gateway = Opener(X25519PrivateKey.generate())
    (entry,) = sealed_for(gateway.public_key).values()
    assert try_to_open({Place("demo", "a", "a1", 1, 2): entry}, [gateway]) == (1, 0)


def predictions(path: Path, classes: tuple[str, ...]) -> Path:
    scores = np.log(np.array([[0.8, 0.2], [0.7, 0.3]], np.float32))
    write_rows(path, [Row("int8/speech", "speech", "int8", classes, scores, np.array([0, 1]))])
    return path


def test_released_predictions_become_answers(tmp_path: Path) -> None:
    first, second = answers_of_predictions(predictions(tmp_path / "int8.npz", ("anger", "fear")))
    assert (first.true, first.decided, second.true, second.decided) == ("anger", "anger", "fear", "anger")
    assert first.confidence == pytest.approx(0.8, abs=1e-3)


def test_predictions_over_other_classes_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"other\.npz"):
        answers_of_predictions(predictions(tmp_path / "other.npz", ("anger", "calm")))


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.slow
def test_the_running_line_keeps_every_label_and_tells_nobody_without_the_key() -> None:
    before = children()
    rows = measure([RIGHT, WRONG, ABSTAINED], units=2, seconds=3.0, rates_hz=(2.0, 10.0))
    assert [problem for row in rows for problem in row.problems()] == []
    slow, fast = rows
    assert (slow.paced_by, fast.paced_by) == ("grant", "clock")
    assert slow.sent >= 4
    assert fast.sent == 60
    assert {(row.lost, row.altered, row.readable, row.forged_accepted) for row in rows} == {(0, 0, 0, 0)}
    assert {row.recognition_kept for row in rows} == {1.0}
    # One peer with three keys, and the intruder with the two units' four and a random one.
    assert [row.opening_attempts for row in rows] == [8 * row.sent for row in rows]
    assert all(row.forging_attempts >= 4 for row in rows)
    assert fast.delay_ms.p99 is not None
    assert fast.delay_ms.p50 is not None
    assert 0 < fast.delay_ms.p50 <= fast.delay_ms.p99
    assert children() == before
    written = msgspec.json.decode(msgspec.json.encode(findings(rows, "command", [RIGHT], "made up")))
    assert [msgspec.convert(row, RateRow) for row in written["rows"]] == rows
    assert written["line"]["highest_rate_hz"] == 32.0
    assert written["machine"]["mosquitto"]


def test_a_run_stopped_by_hand_leaves_no_program_behind() -> None:
    before, stop = children(), threading.Event()
    timer = threading.Timer(1.0, stop.set)
    timer.start()
    with pytest.raises(StoppedError):
        measure([RIGHT], units=1, seconds=30.0, rates_hz=(2.0,), stop=stop)
    timer.join()
    assert children() == before
