"""The box's machine: both ways in, every fault on the way, and what a power cut or a stranger may not change."""

from __future__ import annotations

import itertools
import random
import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.messages.envelope import KeySigner
from device.system.hardware import Hardware
from provisioning import enrolling
from provisioning.enrolling import (
    FINAL_S,
    GIVE_UP_S,
    LONGEST_RETRY_S,
    POLL_S,
    Action,
    BoxState,
    Enrolling,
    Find,
    FoundRegistrar,
    MakeKey,
    Place,
    Record,
    Remember,
    Send,
    Show,
    Store,
    Tell,
)
from provisioning.enrolment_messages import (
    CLAIMS_PATH,
    ENROL_PATH,
    ClaimOpened,
    Commitment,
    Enrolled,
    EnrolmentAnswer,
    EnrolmentRequest,
    check_request,
    commitment,
    short_code,
)
from provisioning.refusals import REFUSALS, Refusal, RefusalError
from provisioning.seed_file import Seed

KEY = KeySigner("box", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
REGISTRAR, STRANGER = bytes(32), b"\xff" * 32
SEED = Seed(
    room="room-2",
    gateway=("gateway.local",),
    registrar_digest=REGISTRAR,
    token="abcdefghijklmnopqrstuvwxyz",
    unit="b14",
    expires=datetime(2026, 9, 1, tzinfo=UTC),
)
THERE = FoundRegistrar("room-2", REGISTRAR, 8_884, ("192.168.7.2",))
ELSEWHERE = FoundRegistrar("room-3", STRANGER, 8_884, ("192.168.7.3",))
OPENED = ClaimOpened(claim="b" * 26, nonce=b"\x07" * 16)
ENROLLED = Enrolled(
    room="room-2",
    line="line-b",
    unit="b14",
    desk="Desk 14",
    broker_host="192.168.7.2",
    broker_port=8_883,
    broker_name="broker",
    certificate="",
    certificate_authority="",
    room_authority="",
    trust=b"",
    wall_ms=1,
)
ADMITTED = EnrolmentAnswer(state="enrolled", enrolled=ENROLLED)
WAITING = EnrolmentAnswer(state="waiting", code="REGSAY", waiting="authority")


def box(
    *, key: KeySigner | None = KEY, seed: Seed | None = None, record: Record | None = None, enrolled: bool = False
) -> Enrolling:
    numbers = itertools.count(1)
    return Enrolling(
        hardware=Hardware("serial-1", "model-1"),
        key=key,
        record=record,
        seed=seed,
        enrolled=enrolled,
        nonce=lambda: next(numbers).to_bytes(16, "big"),
        jitter=lambda: 1.0,
    )


def state_of(machine: Enrolling) -> BoxState:
    """A fresh look: a type checker believes that a property does not change."""
    return machine.state


def sent(actions: list[Action]) -> Send:
    (send,) = [action for action in actions if isinstance(action, Send)]
    return send


def request_of(actions: list[Action]) -> EnrolmentRequest:
    body = sent(actions).body
    assert isinstance(body, EnrolmentRequest)
    check_request(body, REGISTRAR)
    return body


def claimed() -> tuple[Enrolling, list[Action]]:
    """A box that has committed itself to the registrar in the claim window, and what it did then."""
    machine = box()
    assert machine.start(0.0) == [Find(None, None)]
    machine.found([THERE], 1.0)
    return machine, machine.answered(OPENED, REGISTRAR, 2.0)


def test_seed_way_goes_from_blank_to_enrolled() -> None:
    machine = box(key=None, seed=SEED)
    assert machine.start(0.0) == [MakeKey()]
    assert state_of(machine) is BoxState.BLANK
    first = machine.keyed(KEY, 0.1)
    assert state_of(machine) is BoxState.KEYED
    assert sent(first).place == Place(("gateway.local",), 8_884)
    assert (sent(first).path, sent(first).digest) == (ENROL_PATH, REGISTRAR)
    body = request_of(first)
    assert (body.token, body.room, body.serial, body.model) == (SEED.token, "room-2", "serial-1", "model-1")
    assert machine.answered(WAITING, REGISTRAR, 1.0) == [Show("REGSAY", "authority")]
    assert state_of(machine) is BoxState.CLAIMED
    due = machine.next_deadline() or 0.0
    assert due == pytest.approx(1.0 + POLL_S["authority"] * 1.25)
    assert machine.tick(due - 0.1) == []
    again = request_of(machine.tick(due))
    assert again.nonce != body.nonce
    (store,) = machine.answered(ADMITTED, REGISTRAR, due)
    assert store == Store(
        ENROLLED, Record(registrar=REGISTRAR, place=Place(("gateway.local",), 8_884), room="room-2", unit="b14")
    )
    assert machine.stored(due) == []
    assert state_of(machine) is BoxState.ENROLLED
    assert machine.next_deadline() is None


def test_claim_window_commits_before_it_shows_its_key_and_shows_its_own_code() -> None:
    machine = box()
    assert machine.start(0.0) == [Find(None, None)]
    opening = sent(machine.found([THERE], 1.0))
    nonce = (1).to_bytes(16, "big")
    assert (opening.path, opening.digest) == (CLAIMS_PATH, None)
    assert opening.body == Commitment(commitment=commitment(KEY.public_key, nonce))
    actions = machine.answered(OPENED, REGISTRAR, 2.0)
    remembered, shown = actions[:2]
    assert isinstance(remembered, Remember)
    assert remembered.record is not None
    assert remembered.record.registrar == REGISTRAR
    code = short_code(KEY.public_key, REGISTRAR, nonce, OPENED.nonce)
    assert shown == Show(code, "operator")
    assert (sent(actions).path, sent(actions).digest) == (f"{CLAIMS_PATH}/{OPENED.claim}", REGISTRAR)
    assert request_of(actions).nonce == nonce
    assert request_of(actions).token is None
    lying = EnrolmentAnswer(state="waiting", code="LIEDTO", waiting="operator")
    assert machine.answered(lying, REGISTRAR, 3.0) == [Show(code, "operator")]
    polled = machine.tick(3.0 + 2 * POLL_S["operator"])
    assert request_of(polled) == request_of(actions)
    assert isinstance(machine.answered(ADMITTED, REGISTRAR, 9.0)[0], Store)


def test_power_cut_in_the_claim_window_keeps_claim_code_and_registrar() -> None:
    _, actions = claimed()
    assert isinstance(actions[0], Remember)
    revived = box(record=actions[0].record)
    assert state_of(revived) is BoxState.CLAIMED
    again = revived.start(100.0)
    assert again[0] == actions[1]
    assert request_of(again) == request_of(actions)


def test_registrar_of_a_claim_may_not_change_though_another_is_found() -> None:
    machine, _ = claimed()
    assert machine.failed(3.0) == [Find("room-2", REGISTRAR)]
    assert machine.found([ELSEWHERE], 4.0) == []
    due = machine.next_deadline()
    assert due is not None
    assert sent(machine.tick(due)).digest == REGISTRAR


def test_expired_claim_is_begun_anew_with_a_fresh_nonce_and_any_registrar() -> None:
    machine, _ = claimed()
    actions = machine.refused(RefusalError(Refusal.CLAIM_EXPIRED), 3.0)
    assert actions[0] == Remember(None)
    assert isinstance(actions[1], Tell)
    assert state_of(machine) is BoxState.KEYED
    due = machine.next_deadline()
    assert due is not None
    assert due <= 3.0 + LONGEST_RETRY_S
    assert machine.tick(due) == [Find(None, None)]
    fresh = sent(machine.found([THERE], due)).body
    assert fresh != Commitment(commitment=commitment(KEY.public_key, (1).to_bytes(16, "big")))


def test_claim_with_somebody_in_between_is_given_up_and_any_registrar_may_be_next() -> None:
    machine, _ = claimed()
    actions = machine.refused(RefusalError(Refusal.OTHER_CHANNEL), 3.0)
    assert [type(action) for action in actions] == [Remember, Tell]
    assert state_of(machine) is BoxState.KEYED
    assert machine.tick(3.0 + FINAL_S) == [Find(None, None)]


def test_claim_whose_registrar_is_gone_for_long_is_given_up() -> None:
    machine, _ = claimed()
    now = 3.0
    lost: list[Action] = []
    machine.failed(now)
    while not lost:
        lost = machine.found([ELSEWHERE], now)
        assert state_of(machine) is (BoxState.KEYED if lost else BoxState.CLAIMED)
        now = machine.next_deadline() or 0.0
        if not lost:
            machine.tick(now)
            machine.failed(now)
    assert lost == [Remember(None)]
    assert GIVE_UP_S < now < GIVE_UP_S + 2 * LONGEST_RETRY_S
    machine.tick(now)
    assert sent(machine.found([ELSEWHERE], now)).digest is None


def test_box_that_lost_its_files_never_leaves_its_registrar_for_another() -> None:
    record = Record(registrar=REGISTRAR, place=Place(("10.0.0.9",), 8_884), room="room-2", unit="b14")
    machine = box(record=record)
    machine.start(0.0)
    for now in range(0, 10 * int(GIVE_UP_S), 700):
        machine.refused(RefusalError(Refusal.OTHER_CHANNEL), float(now))
        assert sent(machine.tick(now + FINAL_S)).digest == REGISTRAR


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_only_the_commitment_leaves_without_a_pinned_key(seed: int) -> None:
    dice = random.Random(seed)
    machine = box(key=None)
    now, actions = 0.0, machine.start(0.0)
    for _ in range(400):
        now += dice.random()
        waiting = [action for action in actions if isinstance(action, MakeKey | Find | Send | Store)]
        assert len(waiting) <= 1
        match waiting:
            case [MakeKey()]:
                actions = machine.keyed(KEY, now)
            case [Find()]:
                actions = machine.found(dice.choice([[], [THERE], [ELSEWHERE], [THERE, ELSEWHERE]]), now)
            case [Send(path, body, _, digest)]:
                assert (digest is None) == isinstance(body, Commitment)
                shown = digest or dice.choice([REGISTRAR, STRANGER])
                if isinstance(body, EnrolmentRequest):
                    check_request(body, shown)
                answer = OPENED if path == CLAIMS_PATH else dice.choice([WAITING, ADMITTED])
                way = dice.randrange(3)
                if way == 0:
                    actions = machine.failed(now)
                elif way == 1:
                    actions = machine.refused(RefusalError(dice.choice(list(Refusal))), now)
                else:
                    actions = machine.answered(answer, shown, now)
            case [Store()]:
                actions = machine.refused(RefusalError(Refusal.MALFORMED), now)
            case _:
                now = machine.next_deadline() or now
                laid = machine.seed_found(SEED, now) if dice.random() < 0.01 else []
                actions = laid or machine.tick(now)


def test_among_several_registrars_each_is_asked_in_turn() -> None:
    machine = box()
    machine.start(0.0)
    hosts = []
    for _ in range(4):
        hosts.append(sent(machine.found([THERE, ELSEWHERE], 0.0)).place.hosts)
        machine.refused(RefusalError(Refusal.WINDOW_CLOSED), 0.0)
        due = machine.next_deadline()
        assert due is not None
        machine.tick(due)
    assert hosts == 2 * [THERE.addresses, ELSEWHERE.addresses]


def test_seed_whose_address_is_stale_is_followed_by_its_key_over_mdns() -> None:
    machine = box(seed=SEED)
    machine.start(0.0)
    assert machine.failed(1.0) == [Find("room-2", REGISTRAR)]
    assert sent(machine.found([ELSEWHERE, THERE], 2.0)).place == Place(THERE.addresses, THERE.port)
    (store,) = machine.answered(ADMITTED, REGISTRAR, 3.0)
    assert isinstance(store, Store)
    assert store.record.place == Place(THERE.addresses, THERE.port)


def test_pauses_double_up_to_the_longest_and_are_half_random() -> None:
    machine = box(seed=SEED)
    machine.start(0.0)
    pauses = []
    for _ in range(9):
        machine.failed(0.0)
        machine.found([], 0.0)
        due = machine.next_deadline()
        assert due is not None
        pauses.append(due)
        assert sent(machine.tick(due)).place.hosts == SEED.gateway
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    still = box(seed=SEED)
    still._jitter = lambda: 0.0
    still.start(0.0)
    still.failed(0.0)
    still.found([], 0.0)
    assert still.next_deadline() == 0.5


@pytest.mark.parametrize("refusal", [refusal for refusal in Refusal if REFUSALS[refusal].final])
def test_final_refusal_is_told_and_asked_again_only_after_long(refusal: Refusal) -> None:
    machine = box(seed=SEED)
    machine.start(0.0)
    (told,) = machine.refused(RefusalError(refusal), 5.0)
    assert isinstance(told, Tell)
    assert told.error.next_step
    assert machine.next_deadline() == 5.0 + FINAL_S
    assert machine.tick(5.0 + FINAL_S - 1) == []
    assert request_of(machine.tick(5.0 + FINAL_S)).token == SEED.token


def test_new_seed_ends_the_long_pause_and_the_same_one_does_not() -> None:
    machine = box(seed=SEED)
    machine.start(0.0)
    machine.refused(RefusalError(Refusal.TOKEN_USED), 5.0)
    assert machine.seed_found(SEED, 6.0) == []
    fresh = msgspec.structs.replace(SEED, token="z" * 26)
    assert request_of(machine.seed_found(fresh, 7.0)).token == fresh.token


def test_seed_is_stronger_than_an_open_claim() -> None:
    machine, _ = claimed()
    machine.answered(EnrolmentAnswer(state="waiting", waiting="operator"), REGISTRAR, 3.0)
    other = msgspec.structs.replace(SEED, registrar_digest=STRANGER)
    send = sent(machine.seed_found(other, 4.0))
    assert (send.path, send.digest) == (ENROL_PATH, STRANGER)


def test_refused_bundle_is_told_and_leaves_the_claim() -> None:
    machine = box(seed=SEED)
    machine.start(0.0)
    machine.answered(ADMITTED, REGISTRAR, 1.0)
    (told,) = machine.refused(RefusalError(Refusal.MALFORMED, "the roster is of another room"), 2.0)
    assert isinstance(told, Tell)
    assert state_of(machine) is BoxState.CLAIMED


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (EnrolmentAnswer(state="enrolled"), Refusal.MALFORMED),
        (EnrolmentAnswer(state="waiting", enrolled=ENROLLED), Refusal.MALFORMED),
        (
            EnrolmentAnswer(state="enrolled", enrolled=msgspec.structs.replace(ENROLLED, room="room-9")),
            Refusal.OTHER_ROOM,
        ),
    ],
)
def test_answer_that_cannot_be_is_refused_by_the_box(answer: EnrolmentAnswer, refusal: Refusal) -> None:
    machine = box(seed=SEED)
    machine.start(0.0)
    (told,) = machine.answered(answer, REGISTRAR, 1.0)
    assert isinstance(told, Tell)
    assert told.error.refusal is refusal
    assert machine.next_deadline() == 1.0 + FINAL_S


def test_box_that_lost_its_files_asks_its_own_registrar_with_its_old_key() -> None:
    record = Record(registrar=REGISTRAR, place=Place(("10.0.0.9",), 8_884), room="room-2", unit="b14")
    machine = box(record=record)
    send = sent(machine.start(0.0))
    assert (send.path, send.digest, send.place) == (ENROL_PATH, REGISTRAR, record.place)
    assert isinstance(send.body, EnrolmentRequest)
    assert (send.body.key, send.body.token) == (KEY.public_key, None)


def test_only_the_registrar_that_enrolled_a_box_can_revoke_it() -> None:
    record = Record(registrar=REGISTRAR, place=Place(("10.0.0.9",), 8_884), room="room-2", unit="b14")
    machine = box(record=record)
    machine.start(0.0)
    actions = machine.refused(RefusalError(Refusal.REVOKED), 1.0)
    assert actions[0] == Remember(msgspec.structs.replace(record, revoked=True))
    assert state_of(machine) is BoxState.REVOKED
    assert machine.next_deadline() is None
    assert machine.seed_found(SEED, 2.0) == []
    stranger = box(record=record, seed=msgspec.structs.replace(SEED, registrar_digest=STRANGER))
    stranger.start(0.0)
    assert [type(action) for action in stranger.refused(RefusalError(Refusal.REVOKED), 1.0)] == [Tell]
    assert state_of(stranger) is BoxState.KEYED


def test_enrolled_and_revoked_boxes_ask_nothing() -> None:
    record = Record(registrar=REGISTRAR, place=Place(("10.0.0.9",), 8_884), unit="b14")
    assert box(record=record, enrolled=True).start(0.0) == []
    revoked = box(record=msgspec.structs.replace(record, revoked=True), enrolled=True)
    assert state_of(revoked) is BoxState.REVOKED
    assert revoked.start(0.0) == []


def test_table_on_the_page_is_the_table_in_the_code() -> None:
    rows = re.findall(r"^\| (\w+) +\| (\w+)[^|]* \| (\w+) +\|", Path(enrolling.__file__).read_text(), re.MULTILINE)
    written = {
        (state, event, after)
        for name, event, after in rows[1:]
        for state in ([state.name for state in BoxState] if name == "any" else [name])
    }
    assert written == {(state.name, event.name, after.name) for (state, event), after in enrolling._NEXT.items()}
