"""The registrar over real HTTPS: every refusal is reached by what brings it about, and told by its row."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.errors import ConfigError, TransportError
from device.messages.trust_bundle import BUNDLE_BYTES, decode_bundle, verify_bundle
from device.system.storage import Disk
from provisioning.authority import RoomAuthority
from provisioning.certificates import Role, key_of
from provisioning.claims import ClaimLimits, SeatState
from provisioning.enrolment_messages import (
    BODY_BYTES,
    CHALLENGE_PATH,
    CLAIMS_PATH,
    ENROL_PATH,
    RENEW_PATH,
    TRUST_PATH,
    ClaimOpened,
    Commitment,
    EnrolmentAnswer,
    RefusalBody,
    short_code,
)
from provisioning.office import OpenOffice
from provisioning.pinned import PinnedClient
from provisioning.publication import publish
from provisioning.refusals import REFUSALS, Refusal, RefusalError
from provisioning.registrar import open_office
from provisioning.registration import CLAIMS_FILE, RegistrarFolder, Registration
from tests.fakes.https_peer import HttpsPeer, http
from tests.fakes.storage import PowerCutError
from tests.provisioning.registrar_box import FakeBox
from tests.provisioning.registrar_program import (
    EXPIRED_TOKEN,
    HOST,
    OTHER_TOKEN,
    TOKEN,
    RegistrarProgram,
    found_room,
    post,
    seat,
)

DAY_S = 86_400.0


def refused(step: Callable[[], object]) -> Refusal:
    with pytest.raises(RefusalError) as caught:
        step()
    return caught.value.refusal


@pytest.fixture
def room(tmp_path: Path) -> Iterator[RegistrarProgram]:
    with RegistrarProgram(tmp_path).running() as program:
        yield program


# --- what goes well ----------------------------------------------------------------------------------------------


def test_a_box_with_a_token_is_enrolled_at_once_and_gets_the_same_again(room: RegistrarProgram) -> None:
    box = room.box()
    first = room.enrol(box)
    assert first.state == "enrolled"
    found = first.enrolled
    assert found is not None
    assert (found.unit, found.line, found.desk, found.room) == ("b3", "b", "Desk b3", "r2")
    assert (found.broker_host, found.broker_port, found.broker_name) == (HOST, 8_883, "broker")
    assert key_of(x509.load_pem_x509_certificate(found.certificate.encode())) == box.key
    verified = verify_bundle(decode_bundle(found.trust), room.authority.verifying_key, "r2")
    assert [unit.key for unit in verified.roster.units_of("b")] == [box.key]
    assert room.enrol(box) == room.enrol(box, None) == first
    assert room.client.get(TRUST_PATH, limit=BUNDLE_BYTES) == found.trust


def test_a_box_without_a_seed_is_enrolled_when_its_code_is_accepted(room: RegistrarProgram) -> None:
    box = room.box()
    room.open_window()
    opened = room.announce(box)
    code = short_code(box.key, room.digest, box.nonce, opened.nonce)
    waiting = EnrolmentAnswer(state="waiting", code=code, waiting="operator")
    assert room.reveal(box, opened.claim) == room.reveal(box, opened.claim) == waiting
    with room.registrar.claims() as claims:
        claims.accept(code, unit="a1", line="a", desk="Desk 1", wall_ms=room.clock.wall_ms())
    answer = room.reveal(box, opened.claim)
    assert answer.enrolled is not None
    assert (answer.enrolled.unit, answer.enrolled.line, answer.code) == ("a1", "a", code)


def test_a_box_of_the_roster_is_answered_when_the_book_was_lost_and_its_certificate_is_long_over(
    room: RegistrarProgram,
) -> None:
    box = room.box()
    first = room.enrol(box).enrolled
    room.clock.advance(900 * DAY_S)
    late = room.enrol(box, None).enrolled
    (room.registrar.folder / CLAIMS_FILE).unlink()
    again = room.enrol(box).enrolled
    assert first is not None
    assert late is not None
    assert again is not None
    assert ends(late.certificate) - ends(first.certificate) > timedelta(days=899)
    assert (again.unit, again.line, again.certificate) == ("b3", "b", late.certificate)


def test_with_a_closed_authority_the_box_waits_and_goes_on_when_it_opens(tmp_path: Path) -> None:
    program, waiting = RegistrarProgram(tmp_path), EnrolmentAnswer(state="waiting", waiting="authority")
    box = program.box()
    with program.running(open_authority=False):
        assert program.enrol(box) == program.enrol(box) == waiting
        assert refused(lambda: program.enrol(program.box())) is Refusal.TOKEN_USED
    with program.running():
        assert program.enrol(box).state == "enrolled"
    with program.running(open_authority=False):
        assert program.enrol(box).state == "enrolled"


def test_forty_boxes_at_once_are_all_enrolled(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    tokens = [f"{chr(ord('p') + n // 8)}{'abcdefgh'[n % 8]}" * 13 for n in range(40)]
    with program.registrar.claims() as claims:
        for n, token in enumerate(tokens):
            claims.add_seat(seat(f"c{n}", token, program.clock.wall_ms() + 1_000))
    answers: dict[int, EnrolmentAnswer] = {}
    with program.running():
        threads = [
            threading.Thread(target=lambda n=n, token=token: answers.update({n: program.enrol(program.box(), token)}))
            for n, token in enumerate(tokens)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    units = {answer.enrolled.unit for answer in answers.values() if answer.enrolled is not None}
    assert units == {f"c{n}" for n in range(40)}
    assert len(program.registrar.trust().roster.units_of("b")) == 40


# --- refusals of enrolment ---------------------------------------------------------------------------------------


def test_wrong_used_expired_and_foreign_tokens_are_refused(room: RegistrarProgram) -> None:
    room.enrol(room.box())
    assert refused(lambda: room.enrol(room.box(), "d" * 26)) is Refusal.TOKEN_UNKNOWN
    assert refused(lambda: room.enrol(room.box())) is Refusal.TOKEN_USED
    assert refused(lambda: room.enrol(room.box(), EXPIRED_TOKEN)) is Refusal.TOKEN_EXPIRED
    assert refused(lambda: room.enrol(room.box(), OTHER_TOKEN, room="r9")) is Refusal.OTHER_ROOM
    assert refused(lambda: room.enrol(room.box(), None)) is Refusal.NOT_ENROLLED


def test_two_boxes_with_one_key_are_one_member(room: RegistrarProgram) -> None:
    box = room.box()
    room.enrol(box)
    copied = FakeBox(room.digest, box.signer)
    assert refused(lambda: room.enrol(copied, OTHER_TOKEN)) is Refusal.KEY_IN_USE


def test_a_place_that_the_authority_has_given_otherwise_is_refused(room: RegistrarProgram) -> None:
    known, desk = room.box(), room.box()
    room.authority.admit("b3", Role.UNIT, known.signer.private_key.public_key(), line="b", desk="Desk b3")
    # Not published yet, so that only the authority knows; then published, so that the registrar knows it itself.
    assert refused(lambda: room.enrol(desk)) is Refusal.SEAT_TAKEN
    publish(room.authority, room.registrar.places)
    room.authority.admit("b4", Role.UNIT, desk.signer.private_key.public_key(), line="b", desk="Desk b4")
    publish(room.authority, room.registrar.places)
    assert refused(lambda: room.enrol(room.box(), OTHER_TOKEN)) is Refusal.SEAT_TAKEN


def test_claims_are_refused_without_a_window_in_vain_and_too_late(room: RegistrarProgram) -> None:
    box = room.box()
    assert refused(lambda: room.announce(box)) is Refusal.WINDOW_CLOSED
    room.open_window()
    claim = room.announce(box).claim
    assert refused(lambda: room.reveal(box, "x" * 26)) is Refusal.NO_SUCH_CLAIM
    assert refused(lambda: room.reveal(room.box(), claim)) is Refusal.WRONG_COMMITMENT
    code = room.reveal(box, claim).code
    with room.registrar.claims() as claims:
        claims.reject(code, wall_ms=room.clock.wall_ms())
    assert refused(lambda: room.reveal(box, claim)) is Refusal.CLAIM_REJECTED
    late = room.box()
    claim = room.announce(late).claim
    room.clock.advance(room.registrar.limits.claim_s)
    assert refused(lambda: room.reveal(late, claim)) is Refusal.CLAIM_EXPIRED


def test_a_forged_request_is_refused(room: RegistrarProgram) -> None:
    forged = msgspec.structs.replace(room.box().request(TOKEN), key=room.box().key)
    asked = lambda: room.client.post(ENROL_PATH, forged, EnrolmentAnswer)  # noqa: E731
    assert refused(asked) is Refusal.BAD_SIGNATURE


# --- the man in the middle ---------------------------------------------------------------------------------------


def relay(room: RegistrarProgram, change: Callable[[bytes], bytes] = lambda body: body) -> Callable[[bytes], bytes]:
    """What a man in the middle does who speaks TLS with his own key to the box and passes its requests on."""

    def answer(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        changed = change(body)
        path = head.split(b" ")[1].decode()
        answered = room.raw(post(path, changed))
        status = int(answered.split(b" ", 2)[1])
        return http(answered.partition(b"\r\n\r\n")[2], status)

    return answer


def test_a_box_that_knows_the_key_sends_a_man_in_the_middle_nothing(room: RegistrarProgram, tmp_path: Path) -> None:
    with HttpsPeer(tmp_path, relay(room)) as middle:
        client = PinnedClient([HOST], middle.port, room.digest)
        asked = lambda: client.post(ENROL_PATH, room.box().request(TOKEN), EnrolmentAnswer)  # noqa: E731
        assert refused(asked) is Refusal.OTHER_CHANNEL
        assert middle.requests == []


def test_a_relayed_request_of_a_box_that_sees_another_key_is_refused(room: RegistrarProgram, tmp_path: Path) -> None:
    room.open_window()
    with HttpsPeer(tmp_path, relay(room)) as middle:
        client = PinnedClient([HOST], middle.port, None)
        box = FakeBox(middle.digest)
        opened = client.post(CLAIMS_PATH, Commitment(commitment=box.commitment), ClaimOpened)
        asked = lambda: client.post(f"{CLAIMS_PATH}/{opened.claim}", box.request(), EnrolmentAnswer)  # noqa: E731
        assert refused(asked) is Refusal.OTHER_CHANNEL
    with room.registrar.claims() as claims:
        assert claims.waiting(room.clock.wall_ms()) == []


def test_a_man_in_the_middle_with_a_box_of_his_own_shows_another_code(room: RegistrarProgram, tmp_path: Path) -> None:
    """He changes the commitment for his own: the true box is then refused, and his box shows a code that differs."""
    room.open_window()
    attacker = room.box()
    ours = msgspec.json.encode(Commitment(commitment=attacker.commitment))
    with HttpsPeer(tmp_path, relay(room, lambda body: ours if b"commitment" in body else body)) as middle:
        client = PinnedClient([HOST], middle.port, None)
        box = FakeBox(middle.digest)
        opened = client.post(CLAIMS_PATH, Commitment(commitment=box.commitment), ClaimOpened)
        true_box = FakeBox(room.digest, box.signer, box.nonce)
        assert refused(lambda: room.reveal(true_box, opened.claim)) is Refusal.WRONG_COMMITMENT
        shown_at_registrar = room.reveal(attacker, opened.claim).code
        assert shown_at_registrar != short_code(box.key, middle.digest, box.nonce, opened.nonce)


# --- renewal -----------------------------------------------------------------------------------------------------


def ends(pem: str) -> datetime:
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc


def test_a_certificate_is_renewed_long_after_it_has_expired(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    box = program.box()
    with program.running():
        first = program.enrol(box).enrolled
    assert first is not None
    with program.running(open_authority=False):
        program.clock.advance(900 * DAY_S)
        before = program.client.get(TRUST_PATH, limit=BUNDLE_BYTES)
        renewed = program.renew(box, "b3")
        assert ends(first.certificate) < datetime.fromtimestamp(program.clock.wall_ms() / 1_000, UTC)
        assert ends(renewed.certificate) - ends(first.certificate) > timedelta(days=899)
        assert key_of(x509.load_pem_x509_certificate(renewed.certificate.encode())) == box.key
        assert program.renew(box, "b3").certificate == renewed.certificate
        assert program.client.get(TRUST_PATH, limit=BUNDLE_BYTES) == before
        program.clock.advance(2 * DAY_S)
        assert ends(program.renew(box, "b3").certificate) > ends(renewed.certificate)
    assert len(list((program.registrar.folder / "issued").iterdir())) == 2


def test_a_replayed_renewal_is_stale(room: RegistrarProgram) -> None:
    box = room.box()
    room.enrol(box)
    challenge = room.challenge()
    room.renew(box, "b3", challenge)
    assert refused(lambda: room.renew(box, "b3", challenge)) is Refusal.STALE_REQUEST
    old = room.challenge()
    room.clock.advance(room.registrar.limits.challenge_s)
    assert refused(lambda: room.renew(box, "b3", old)) is Refusal.STALE_REQUEST


def test_a_revoked_box_gets_no_certificate_and_no_seat(room: RegistrarProgram) -> None:
    box = room.box()
    room.enrol(box)
    room.authority.revoke("b3")
    publish(room.authority, room.registrar.places)
    assert refused(lambda: room.renew(box, "b3")) is Refusal.REVOKED
    for token in (TOKEN, None):
        assert refused(lambda token=token: room.enrol(box, token)) is Refusal.REVOKED  # type: ignore[misc]
    room.open_window()
    claim = room.announce(box).claim
    assert refused(lambda: room.reveal(box, claim)) is Refusal.REVOKED


def test_a_stranger_gets_no_certificate(room: RegistrarProgram) -> None:
    room.enrol(room.box())
    assert refused(lambda: room.renew(room.box(), "b3")) is Refusal.NOT_ENROLLED


def test_a_key_is_rotated_only_while_the_authority_is_open(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    box, new = program.box(), program.box()
    with program.running():
        program.enrol(box)
    with program.running(open_authority=False):
        assert refused(lambda: program.renew(box, "b3", new=new)) is Refusal.AUTHORITY_CLOSED
    with program.running():
        renewed = program.renew(box, "b3", new=new)
        assert key_of(x509.load_pem_x509_certificate(renewed.certificate.encode())) == new.key
        assert program.registrar.trust().roster.units_of("b")[0].key == new.key
        assert refused(lambda: program.renew(box, "b3")) is Refusal.NOT_ENROLLED
    with program.running(open_authority=False):
        # A box whose power was cut before it had stored the answer asks the same again.
        again = program.renew(box, "b3", new=new)
        assert key_of(x509.load_pem_x509_certificate(again.certificate.encode())) == new.key
        assert program.enrol(new, None).state == "enrolled"


def test_a_clock_from_before_the_room_issues_nothing(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    box = program.box()
    with program.running():
        program.enrol(box)
        program.clock.step_wall(-program.clock.wall_ms())
        with pytest.raises(TransportError):
            program.renew(box, "b3")
    assert not list((program.registrar.folder).glob("issued/*"))


# --- bad bodies --------------------------------------------------------------------------------------------------


def told(answer: bytes) -> tuple[int, RefusalBody]:
    status = int(answer.split(b" ", 2)[1])
    return status, msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=RefusalBody)


@pytest.mark.parametrize("path", [CLAIMS_PATH, f"{CLAIMS_PATH}/{'x' * 26}", ENROL_PATH, RENEW_PATH])
def test_a_body_that_is_none_of_the_protocol_is_malformed(room: RegistrarProgram, path: str) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + b"x" * 0x4000 + b"\r\n1\r\nx\r\n0\r\n\r\n"
    head = post(path, b"").partition(b"Content-Length")[0]
    bodies = [
        post(path, b""),
        post(path, b"{}"),
        post(path, b"\xff\x00"),
        post(path, b"{}", content_type="text/plain"),
        post(path, b" " * (BODY_BYTES + 1)),
        head + chunked,
    ]
    for request in bodies:
        status, body = told(room.raw(request))
        row = REFUSALS[Refusal.MALFORMED]
        assert (status, body.code, body.sentence, body.next_step) == (
            row.status,
            Refusal.MALFORMED,
            row.sentence,
            row.next_step,
        )


def test_other_paths_and_methods_say_nothing_more(room: RegistrarProgram) -> None:
    for request, status in (
        (post("/", b"{}"), 404),
        (b"GET /v1/enrol HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
    ):
        assert told(room.raw(request)) == (
            status,
            RefusalBody(
                code="malformed",
                sentence=REFUSALS[Refusal.MALFORMED].sentence,
                next_step=REFUSALS[Refusal.MALFORMED].next_step,
                detail="There is no such path, or not for this method.",
            ),
        )


def test_every_answer_carries_the_security_headers_and_no_server_name(room: RegistrarProgram) -> None:
    for request in (post("/", b""), post(ENROL_PATH, b"{}"), post(CHALLENGE_PATH, b"")):
        head = room.raw(request).partition(b"\r\n\r\n")[0].lower()
        for wanted in (b"content-security-policy: default-src 'none'", b"nosniff", b"cache-control: no-store"):
            assert wanted in head
        assert b"server:" not in head


def test_a_fault_of_our_own_leaks_nothing(room: RegistrarProgram) -> None:
    (room.registrar.folder / CLAIMS_FILE).write_text("{")
    for path, body in ((ENROL_PATH, msgspec.json.encode(room.box().request(TOKEN))), (CHALLENGE_PATH, b"")):
        answer = room.raw(post(path, body))
        assert b"claims.json" not in answer
        assert answer.startswith(b"HTTP/1.1 503" if path == ENROL_PATH else b"HTTP/1.1 200")
    (room.registrar.folder / "trust.cbor").unlink()
    health = room.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert health.startswith(b"HTTP/1.1 503")


def test_health_is_good_while_boxes_can_be_answered(room: RegistrarProgram) -> None:
    assert json.loads(room.client.get("/healthz", limit=100)) == {"ok": True}


def test_who_asks_too_often_is_told_to_wait(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path, ClaimLimits(address_burst=3, address_rate=1.0))
    with program.running():
        for _ in range(3):
            program.challenge()
        assert refused(program.challenge) is Refusal.TOO_MANY
        program.clock.advance(1.0)
        program.challenge()


def test_a_body_that_does_not_come_is_not_waited_for(room: RegistrarProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioning.registrar_app.BODY_TIMEOUT_S", 0.2)
    head, body = post(ENROL_PATH, b"{}").split(b"\r\n\r\n")
    status, answer = told(room.raw(head + b"\r\n\r\n" + body[:1]))
    assert (status, answer.code, answer.detail) == (400, "malformed", "The body did not come within 0.2 s.")


def test_idle_connections_are_ended_and_limited_for_each_address(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path, ClaimLimits(connections_per_address=3, connection_s=0.6))
    with program.running(), contextlib.ExitStack() as idle:
        started = time.monotonic()
        held = [idle.enter_context(program.connected()) for _ in range(3)]
        with program.connected() as one_more:
            assert ended(one_more)
        assert time.monotonic() - started < 0.6
        assert all(ended(connection) for connection in held)
        program.challenge()


def ended(connection: ssl.SSLSocket) -> bool:
    """Whether the registrar hangs up without a word."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([CLAIMS_PATH, f"{CLAIMS_PATH}/x", ENROL_PATH, RENEW_PATH]), st.binary(max_size=60))
def test_garbage_gets_a_refusal_whatever_it_is(room: RegistrarProgram, path: str, body: bytes) -> None:
    room.clock.advance(10.0)
    status, answer = told(room.raw(post(path, body)))
    assert (status, answer.code) == (400, "malformed")


# --- power cuts --------------------------------------------------------------------------------------------------


class PowerCut:
    """Takes the place of `Disk.rename`: the power goes just before or just after the call number `at`, from 0."""

    def __init__(self, at: int, *, after: bool) -> None:
        self._rename = Disk.rename
        self._left = at
        self._after = after

    def __call__(self, disk: Disk, source: Path, target: Path) -> None:
        self._left -= 1
        if self._left != -1 or self._after:
            self._rename(disk, source, target)
        if self._left == -1:
            raise PowerCutError(target.name)


def cut_off(step: Callable[[], object]) -> bool:
    """Whether the power went during that step."""
    try:
        step()
    except PowerCutError:
        return True
    return False


@pytest.mark.parametrize("after", [False, True])
def test_a_power_cut_at_any_write_leaves_an_enrolment_that_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """At each replacement of a file, the authority's too: the same request again ends as if nothing had been."""
    for at in range(100):
        program = RegistrarProgram(tmp_path / str(at))
        box = program.box()
        request = msgspec.json.encode(box.request(TOKEN))
        cut = PowerCut(at, after=after)
        with monkeypatch.context() as patch:
            patch.setattr(Disk, "rename", lambda *call, cut=cut: cut(*call))
            if not cut_off(partial(_answered, program, request)):
                assert at >= 5
                return
        answer = _answered(program, request)
        assert answer.enrolled is not None
        certificate = x509.load_pem_x509_certificate(answer.enrolled.certificate.encode())
        (unit,) = program.registrar.trust().roster.units_of("b")
        assert (unit.unit, unit.key, key_of(certificate)) == ("b3", box.key, box.key)
        assert _answered(program, request) == answer
    raise AssertionError("an enrolment writes without end")


def test_a_power_cut_at_any_write_leaves_a_key_rotation_that_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(100):
        program = RegistrarProgram(tmp_path / str(at))
        box, new = program.box(), program.box()
        _answered(program, msgspec.json.encode(box.request(TOKEN)))
        cut = PowerCut(at, after=True)
        with monkeypatch.context() as patch:
            patch.setattr(Disk, "rename", lambda *call, cut=cut: cut(*call))
            if not cut_off(partial(_rotated, program, box, new)):
                assert at >= 5
                return
        assert key_of(x509.load_pem_x509_certificate(_rotated(program, box, new))) == new.key
        (unit,) = program.registrar.trust().roster.units_of("b")
        assert unit.key == new.key
        with program.registrar.claims() as claims:
            assert [each.key for each in claims.book.seats if each.unit == "b3"] == [new.key]
    raise AssertionError("a rotation writes without end")


def _rotated(program: RegistrarProgram, box: FakeBox, new: FakeBox) -> bytes:
    registration = _started(program)
    request = box.renewal("b3", registration.challenge().challenge, new=new.signer)
    return registration.renew(msgspec.json.encode(request)).certificate.encode()


def _answered(program: RegistrarProgram, request: bytes) -> EnrolmentAnswer:
    return _started(program).enrol(request, reached=HOST)


def _started(program: RegistrarProgram) -> Registration:
    """As a program that has just started: nothing is remembered but what lies on the disk."""
    folder = RegistrarFolder(program.registrar.folder)
    authority = RoomAuthority.open(program.authority.folder)
    return Registration(folder, program.clock, OpenOffice(authority, folder.places, None))


def test_an_answer_is_given_only_when_the_book_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = RegistrarProgram(tmp_path)
    box = program.box()
    with program.running(open_authority=False):
        with monkeypatch.context() as patch:

            def full(disk: Disk, source: Path, target: Path) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(Disk, "rename", full)
            with pytest.raises(TransportError):
                program.enrol(box)
        with program.registrar.claims() as claims:
            assert claims.book.seats[0].state is SeatState.UNUSED
        assert program.enrol(box).state == "waiting"


def test_a_folder_of_another_rooms_authority_is_refused(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path / "a")
    with pytest.raises(ConfigError, match="is not the authority"):
        open_office(found_room(tmp_path / "b"), program.registrar)
