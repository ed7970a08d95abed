"""The registrar's machine: every step and every refusal, made once and made twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import ConfigError
from device.messages.roster import Roster, RosteredGateway, RosteredUnit
from provisioning.claims import (
    Admit,
    Answer,
    ClaimLimits,
    Claims,
    ClaimsBook,
    ClaimState,
    Seat,
    SeatState,
    Step,
    Wait,
    readable_code,
    token_digest,
)
from provisioning.door import Challenges, RateGate, check_renewal
from provisioning.enrolment_messages import EnrolmentRequest, short_code
from provisioning.refusals import Refusal, RefusalError
from tests.provisioning.registrar_box import FakeBox

REGISTRAR = b"R" * 32
NOW = 1_800_000_000_000
HOUR = 3_600_000
TOKEN, OTHER_TOKEN = "a" * 26, "b" * 26
EMPTY = Roster(
    room="r2",
    epoch=1,
    lines={},
    gateway=RosteredGateway("gateway", b"g" * 32, b"o" * 32, b"c" * 32),
    revoked=frozenset(),
    policy=b"p" * 32,
)
LIMITS = ClaimLimits(open_claims=4, open_claims_per_address=2, seats=3)


def seat(unit: str = "b3", token: str | None = TOKEN, *, expires_ms: int = NOW + HOUR) -> Seat:
    return Seat(
        unit=unit,
        line="b",
        desk=f"Desk {unit}",
        token_sha256=token_digest(token) if token is not None else None,
        expires_ms=expires_ms,
    )


def machine(*seats: Seat, roster: Roster = EMPTY) -> Claims:
    return Claims(ClaimsBook(seats=list(seats)), registrar=REGISTRAR, roster=roster, limits=LIMITS)


def with_units(*units: tuple[str, bytes], revoked: frozenset[str] = frozenset()) -> Roster:
    rows = tuple(RosteredUnit(name, key, b"c" * 32, 1) for name, key in units)
    return replace(EMPTY, lines={"b": rows}, revoked=revoked)


def refused(step: Callable[[], object]) -> Refusal:
    with pytest.raises(RefusalError) as caught:
        step()
    return caught.value.refusal


def twice(claims: Claims, step: Callable[[], Step]) -> Step:
    """The step's answer; made again it must be the same and change nothing."""
    first = step()
    after = msgspec.json.encode(claims.book)
    assert step() == first
    assert msgspec.json.encode(claims.book) == after
    return first


def announced(claims: Claims, box: FakeBox, name: str = "x" * 26, address: str = "192.0.2.7") -> str:
    return claims.announce(box.commitment, claim=name, nonce=b"n" * 16, address=address, wall_ms=NOW).claim


def waiting_claims() -> tuple[Claims, FakeBox, str]:
    claims, box = machine(), FakeBox(REGISTRAR)
    claims.open_window(3_600, wall_ms=NOW)
    return claims, box, announced(claims, box)


# --- seats and tokens --------------------------------------------------------------------------------------------


def test_a_token_binds_the_seat_to_the_first_key_that_shows_it() -> None:
    claims, box = machine(seat()), FakeBox(REGISTRAR)
    step = twice(claims, lambda: claims.enrol(box.request(TOKEN), wall_ms=NOW))
    assert isinstance(step, Admit)
    assert (step.seat.unit, step.seat.key, step.seat.state) == ("b3", box.key, SeatState.BOUND)
    assert refused(lambda: claims.enrol(FakeBox(REGISTRAR).request(TOKEN), wall_ms=NOW)) is Refusal.TOKEN_USED
    assert claims.book.seats[0].key == box.key


def test_an_admitted_seat_answers_its_box_for_ever_with_or_without_the_token() -> None:
    claims, box = machine(seat()), FakeBox(REGISTRAR)
    claims.enrol(box.request(TOKEN), wall_ms=NOW)
    claims.admitted("b3", box.key, "PEM")
    assert claims.admitted("b3", box.key, "another") == claims.book.seats[0]
    for token in (TOKEN, None):
        step = twice(claims, lambda token=token: claims.enrol(box.request(token), wall_ms=NOW + 99 * HOUR))  # type: ignore[misc]
        assert isinstance(step, Answer)
        assert step.seat.certificate == "PEM"


def test_a_bound_token_outlives_its_expiry_and_an_unused_one_does_not() -> None:
    claims, box = machine(seat(), seat("b4", OTHER_TOKEN)), FakeBox(REGISTRAR)
    claims.enrol(box.request(TOKEN), wall_ms=NOW + HOUR - 1)
    assert isinstance(claims.enrol(box.request(TOKEN), wall_ms=NOW + HOUR), Admit)
    other = FakeBox(REGISTRAR).request(OTHER_TOKEN)
    assert refused(lambda: claims.enrol(other, wall_ms=NOW + HOUR)) is Refusal.TOKEN_EXPIRED
    assert claims.book.seats[1].state is SeatState.UNUSED


def test_an_unknown_token_and_a_key_without_a_seat_are_refused() -> None:
    claims, box = machine(seat(), seat("b4", None)), FakeBox(REGISTRAR)
    assert refused(lambda: claims.enrol(box.request(OTHER_TOKEN), wall_ms=NOW)) is Refusal.TOKEN_UNKNOWN
    assert refused(lambda: claims.enrol(box.request(), wall_ms=NOW)) is Refusal.NOT_ENROLLED


def test_two_boxes_with_one_key_get_one_seat() -> None:
    claims, box = machine(seat(), seat("b4", OTHER_TOKEN)), FakeBox(REGISTRAR)
    claims.enrol(box.request(TOKEN), wall_ms=NOW)
    copied = FakeBox(REGISTRAR, box.signer)
    assert refused(lambda: claims.enrol(copied.request(OTHER_TOKEN), wall_ms=NOW)) is Refusal.KEY_IN_USE
    assert claims.book.seats[1].state is SeatState.UNUSED


def test_the_roster_counts_where_the_book_knows_nothing() -> None:
    box = FakeBox(REGISTRAR)
    elsewhere = machine(seat(), roster=with_units(("a9", box.key)))
    assert refused(lambda: elsewhere.enrol(box.request(TOKEN), wall_ms=NOW)) is Refusal.KEY_IN_USE
    lost = machine(roster=with_units(("a9", box.key)))
    for token in (TOKEN, None):
        step = twice(lost, lambda token=token: lost.enrol(box.request(token), wall_ms=NOW))  # type: ignore[misc]
        assert isinstance(step, Answer)
        assert (step.seat.unit, step.seat.line, step.seat.certificate) == ("a9", "b", "")
    taken = machine(seat(), roster=with_units(("b3", b"k" * 32)))
    assert refused(lambda: taken.enrol(box.request(TOKEN), wall_ms=NOW)) is Refusal.SEAT_TAKEN
    revoked = machine(seat(), roster=with_units(("b3", box.key), revoked=frozenset({"b3"})))
    for token in (TOKEN, OTHER_TOKEN, None):
        assert refused(lambda token=token: revoked.enrol(box.request(token), wall_ms=NOW)) is Refusal.REVOKED  # type: ignore[misc]


def test_a_request_for_another_registrar_room_or_key_changes_nothing() -> None:
    claims, box = machine(seat()), FakeBox(REGISTRAR)
    before = copy.deepcopy(claims.book)
    other_channel = FakeBox(b"M" * 32, box.signer).request(TOKEN)
    assert refused(lambda: claims.enrol(other_channel, wall_ms=NOW)) is Refusal.OTHER_CHANNEL
    assert refused(lambda: claims.enrol(box.request(TOKEN, room="r9"), wall_ms=NOW)) is Refusal.OTHER_ROOM
    forged = msgspec.structs.replace(box.request(TOKEN), registrar=b"M" * 32)
    assert refused(lambda: claims.enrol(forged, wall_ms=NOW)) is Refusal.BAD_SIGNATURE
    assert claims.book == before


def test_a_rotated_key_has_the_seat() -> None:
    claims, box, new = machine(seat()), FakeBox(REGISTRAR), FakeBox(REGISTRAR)
    claims.enrol(box.request(TOKEN), wall_ms=NOW)
    claims.admitted("b3", box.key, "PEM")
    claims.rekeyed("b3", new.key, "NEW")
    claims.rekeyed("b3", new.key, "NEW")
    claims.rekeyed("unknown", new.key, "NEW")
    step = claims.enrol(new.request(), wall_ms=NOW)
    assert isinstance(step, Answer)
    assert step.seat.certificate == "NEW"
    assert refused(lambda: claims.enrol(box.request(), wall_ms=NOW)) is Refusal.NOT_ENROLLED


def test_seats_are_added_once_and_an_unused_token_gives_way() -> None:
    claims, box = machine(), FakeBox(REGISTRAR)
    claims.add_seat(seat())
    claims.add_seat(seat(token=OTHER_TOKEN))
    assert refused(lambda: claims.enrol(box.request(TOKEN), wall_ms=NOW)) is Refusal.TOKEN_UNKNOWN
    claims.enrol(box.request(OTHER_TOKEN), wall_ms=NOW)
    claims.add_seat(seat(token=OTHER_TOKEN))
    assert claims.book.seats[0].key == box.key
    for wrong in (seat(token="c" * 26), seat("b4", OTHER_TOKEN), seat("B 4", "c" * 26)):
        with pytest.raises(ConfigError):
            claims.add_seat(wrong)
    claims.add_seat(seat("b4", "d" * 26))
    claims.add_seat(seat("b5", "e" * 26))
    with pytest.raises(ConfigError, match="More than 3 seats"):
        claims.add_seat(seat("b6", "f" * 26))


# --- the claim window --------------------------------------------------------------------------------------------


def test_a_claim_goes_from_announcement_to_admission() -> None:
    claims, box, name = waiting_claims()
    step = twice(claims, lambda: claims.reveal(name, box.request(), wall_ms=NOW))
    code = short_code(box.key, REGISTRAR, box.nonce, b"n" * 16)
    assert step == Wait(code)
    assert [claim.code for claim in claims.waiting(NOW)] == [code]
    typed = f"{code[:3].lower()} - {code[3:]}"
    accepted = [claims.accept(typed, unit="b3", line="b", desk="Desk 3", wall_ms=NOW) for _ in range(2)]
    assert accepted[0] == accepted[1] == claims.book.seats[0]
    # From here on the claim's own time is of no account: the room authority may be closed for days.
    step = twice(claims, lambda: claims.reveal(name, box.request(), wall_ms=NOW + 99 * HOUR))
    assert step == Admit(accepted[0], code)
    admitted = claims.admitted("b3", box.key, "PEM")
    assert claims.reveal(name, box.request(), wall_ms=NOW) == Answer(admitted, code)
    assert claims.waiting(NOW) == []


def test_announcing_twice_is_one_claim() -> None:
    claims, box, name = waiting_claims()
    assert announced(claims, box, "y" * 26) == name
    assert len(claims.book.claims) == 1


def test_the_window_has_an_end_and_a_clock_put_back_closes_it() -> None:
    claims, box = machine(), FakeBox(REGISTRAR)
    assert refused(lambda: announced(claims, box)) is Refusal.WINDOW_CLOSED
    claims.open_window(60, wall_ms=NOW)
    step_ms = LIMITS.clock_step_s * 1_000
    moments = (-step_ms - 1, -step_ms, 0, 59_999, 60_000)
    assert [claims.window_open(NOW + ms) for ms in moments] == [False, True, True, True, False]
    claims.close_window()
    assert refused(lambda: announced(claims, box)) is Refusal.WINDOW_CLOSED
    for wrong in (0, LIMITS.longest_window_s + 1):
        with pytest.raises(ConfigError):
            claims.open_window(wrong, wall_ms=NOW)


def test_a_box_that_shows_another_key_than_announced_is_refused() -> None:
    claims, box, name = waiting_claims()
    other = FakeBox(REGISTRAR, nonce=box.nonce)
    assert refused(lambda: claims.reveal(name, other.request(), wall_ms=NOW)) is Refusal.WRONG_COMMITMENT
    assert refused(lambda: claims.reveal("z" * 26, box.request(), wall_ms=NOW)) is Refusal.NO_SUCH_CLAIM
    assert claims.book.claims[0].state is ClaimState.ANNOUNCED


def test_a_man_in_the_middle_makes_the_two_codes_differ() -> None:
    """He shows the box a key of his own and the registrar a box of his own: each side computes over what it sees."""
    claims, attacker, name = waiting_claims()
    box = FakeBox(b"M" * 32)
    step = claims.reveal(name, attacker.request(), wall_ms=NOW)
    assert isinstance(step, Wait)
    assert step.code != short_code(box.key, b"M" * 32, box.nonce, b"n" * 16)
    assert refused(lambda: claims.reveal(name, box.request(), wall_ms=NOW)) is Refusal.OTHER_CHANNEL


def test_an_old_claim_expires_and_is_forgotten_later() -> None:
    claims, box, name = waiting_claims()
    claims.reveal(name, box.request(), wall_ms=NOW)
    late = NOW + LIMITS.claim_s * 1_000
    assert refused(lambda: claims.reveal(name, box.request(), wall_ms=late)) is Refusal.CLAIM_EXPIRED
    with pytest.raises(ConfigError, match="No box shows"):
        claims.accept(claims.book.claims[0].code, unit="b3", line="b", wall_ms=late)
    much_later = NOW + LIMITS.remembered_s * 1_000
    claims.open_window(60, wall_ms=much_later)
    claims.announce(
        FakeBox(REGISTRAR).commitment, claim="y" * 26, nonce=b"n" * 16, address="192.0.2.8", wall_ms=much_later
    )
    assert refused(lambda: claims.reveal(name, box.request(), wall_ms=much_later)) is Refusal.NO_SUCH_CLAIM


def test_a_rejected_claim_stays_rejected() -> None:
    claims, box, name = waiting_claims()
    claims.reveal(name, box.request(), wall_ms=NOW)
    code = claims.book.claims[0].code
    assert claims.reject(code, wall_ms=NOW) == claims.reject(code, wall_ms=NOW)
    assert refused(lambda: claims.reveal(name, box.request(), wall_ms=NOW)) is Refusal.CLAIM_REJECTED
    with pytest.raises(ConfigError):
        claims.accept(code, unit="b3", line="b", wall_ms=NOW)


def test_a_seat_can_be_taken_back_before_the_box_is_admitted_and_not_after() -> None:
    claims, box, name = waiting_claims()
    claims.reveal(name, box.request(), wall_ms=NOW)
    claims.accept(claims.book.claims[0].code, unit="b3", line="b", wall_ms=NOW)
    claims.release("b3")
    assert claims.book.seats == []
    assert refused(lambda: claims.reveal(name, box.request(), wall_ms=NOW)) is Refusal.CLAIM_REJECTED
    used = machine(seat())
    used.enrol(box.request(TOKEN), wall_ms=NOW)
    used.admitted("b3", box.key, "PEM")
    for unit in ("b3", "b4"):
        with pytest.raises(ConfigError, match="no seat that waits"):
            used.release(unit)


def test_open_claims_are_limited_for_each_address_and_in_all() -> None:
    claims = machine()
    claims.open_window(3_600, wall_ms=NOW)
    for number in range(4):
        announced(claims, FakeBox(REGISTRAR), f"{number}" * 26, f"192.0.2.{number // 2}")
    for address in ("192.0.2.0", "192.0.2.9"):
        assert (
            refused(lambda address=address: announced(claims, FakeBox(REGISTRAR), "q" * 26, address))  # type: ignore[misc]
            is Refusal.TOO_MANY
        )


def test_an_operator_cannot_give_a_taken_place_or_a_copied_key() -> None:
    claims, box, name = waiting_claims()
    claims.reveal(name, box.request(), wall_ms=NOW)
    code = claims.book.claims[0].code
    before = copy.deepcopy(claims.book)
    for unit, line in (("b3", None), ("B 3", "b"), ("b3", "trust line")):
        with pytest.raises(ConfigError, match="no proper place"):
            claims.accept(code, unit=unit, line=line, wall_ms=NOW)
    others: list[Roster] = [with_units(("b3", b"k" * 32)), with_units(("a9", box.key))]
    for roster, words in zip(others, ("another box has", "storage was copied"), strict=True):
        again = Claims(claims.book, registrar=REGISTRAR, roster=roster, limits=LIMITS)
        with pytest.raises(ConfigError, match=words):
            again.accept(code, unit="b3", line="b", wall_ms=NOW)
    assert claims.book == before
    claims.accept(code, unit="b3", line="b", replaces="b1", wall_ms=NOW)
    assert claims.book.seats[0].replaces == "b1"
    with pytest.raises(ConfigError, match="was accepted for b3"):
        claims.accept(code, unit="b4", line="b", wall_ms=NOW)


def test_a_revoked_box_cannot_come_back_by_the_window() -> None:
    claims, box, name = waiting_claims()
    revoked = Claims(
        claims.book,
        registrar=REGISTRAR,
        roster=with_units(("b3", box.key), revoked=frozenset({"b3"})),
        limits=LIMITS,
    )
    assert refused(lambda: revoked.reveal(name, box.request(), wall_ms=NOW)) is Refusal.REVOKED


def test_codes_are_read_as_people_write_them() -> None:
    assert readable_code(" oiL-4zq ") == "0114ZQ"


# --- whatever comes ----------------------------------------------------------------------------------------------

BOXES = [FakeBox(REGISTRAR) for _ in range(3)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["announce", "reveal", "enrol", "accept", "reject", "admit", "release", "open", "close", "wait", "seat"]
        ),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_order_of_steps_gives_a_key_two_seats_or_a_seat_two_keys(steps: list[tuple[str, int, int]]) -> None:
    claims, now = machine(), NOW
    given: dict[str, bytes] = {}
    for what, which, other in steps:
        box, unit, token = BOXES[which], f"b{other}", f"{'abc'[other]}" * 26
        before = msgspec.json.encode(claims.book)
        codes = [claim.code for claim in claims.book.claims if claim.key == box.key] or ["0"]
        try:
            match what:
                case "announce":
                    claims.announce(
                        box.commitment, claim=f"{'xyz'[which]}" * 26, nonce=b"n" * 16, address="a", wall_ms=now
                    )
                case "reveal":
                    claims.reveal(f"{'xyz'[other]}" * 26, box.request(), wall_ms=now)
                case "enrol":
                    claims.enrol(box.request(token), wall_ms=now)
                case "accept":
                    claims.accept(codes[0], unit=unit, line="b", wall_ms=now)
                case "reject":
                    claims.reject(codes[0], wall_ms=now)
                case "admit":
                    for bound in [each for each in claims.book.seats if each.state is SeatState.BOUND]:
                        assert bound.key is not None
                        claims.admitted(bound.unit, bound.key, "PEM")
                case "release":
                    given.pop(claims.release(unit).unit, None)
                case "open":
                    claims.open_window(600, wall_ms=now)
                case "close":
                    claims.close_window()
                case "wait":
                    now += 10 * 60_000
                case "seat":
                    claims.add_seat(seat(unit, token, expires_ms=now + HOUR))
        except RefusalError:
            assert msgspec.json.encode(claims.book) == before or what == "announce"
        except ConfigError:
            assert msgspec.json.encode(claims.book) == before
        holders = [each.key for each in claims.book.seats if each.key is not None]
        assert len(set(holders)) == len(holders)
        for each in claims.book.seats:
            if each.key is not None:
                assert given.setdefault(each.unit, each.key) == each.key
        assert msgspec.json.decode(msgspec.json.encode(claims.book), type=ClaimsBook) == claims.book


# --- the door ----------------------------------------------------------------------------------------------------


def test_requests_are_limited_for_each_address_and_one_cannot_spend_the_others_share() -> None:
    gate = RateGate(ClaimLimits(address_burst=3, address_rate=1.0, total_burst=5, total_rate=1.0, addresses=2), 0.0)
    for _ in range(3):
        gate.enter("a", 0.0)
    for _ in range(100):
        assert refused(lambda: gate.enter("a", 0.0)) is Refusal.TOO_MANY
    gate.enter("b", 0.0)
    gate.enter("b", 0.0)
    assert refused(lambda: gate.enter("b", 0.0)) is Refusal.TOO_MANY
    gate.enter("a", 1.0)
    assert refused(lambda: gate.enter("a", 1.5)) is Refusal.TOO_MANY


def test_a_challenge_is_good_once_and_not_for_long() -> None:
    challenges = Challenges(ClaimLimits(challenge_s=60.0, challenges=2))
    challenges.give(b"1" * 16, 0.0)
    challenges.take(b"1" * 16, 59.0)
    assert refused(lambda: challenges.take(b"1" * 16, 59.0)) is Refusal.STALE_REQUEST
    challenges.give(b"2" * 16, 0.0)
    assert refused(lambda: challenges.take(b"2" * 16, 60.0)) is Refusal.STALE_REQUEST
    assert refused(lambda: challenges.take(b"3" * 16, 60.0)) is Refusal.STALE_REQUEST
    challenges.give(b"4" * 16, 100.0)
    challenges.give(b"5" * 16, 100.0)
    assert refused(lambda: challenges.give(b"6" * 16, 100.0)) is Refusal.TOO_MANY
    challenges.give(b"6" * 16, 160.0)


def test_a_renewal_is_for_a_rostered_key_or_one_that_follows_it() -> None:
    box, new = FakeBox(REGISTRAR), FakeBox(REGISTRAR)
    roster = with_units(("b3", box.key), ("b4", b"k" * 32))
    challenge = b"c" * 16

    def check(request_of: FakeBox, unit: str, rostered: Roster = roster, following: FakeBox | None = None) -> bytes:
        request = request_of.renewal(unit, challenge, new=following.signer if following else None)
        return check_renewal(request, registrar=REGISTRAR, roster=rostered)

    assert check(box, "b3") == box.key
    assert check(box, "b3", following=new) == new.key
    assert check(box, "b3", with_units(("b3", new.key)), following=new) == new.key
    assert refused(lambda: check(box, "b4")) is Refusal.NOT_ENROLLED
    assert refused(lambda: check(new, "b3")) is Refusal.NOT_ENROLLED
    gone = with_units(("b3", box.key), revoked=frozenset({"b3"}))
    assert refused(lambda: check(box, "b3", gone)) is Refusal.REVOKED
    assert refused(lambda: check(FakeBox(b"M" * 32, box.signer), "b3")) is Refusal.OTHER_CHANNEL
    stolen = msgspec.structs.replace(box.renewal("b3", challenge, new=new.signer), possession=bytes(64))
    assert refused(lambda: check_renewal(stolen, registrar=REGISTRAR, roster=roster)) is Refusal.BAD_SIGNATURE


def test_a_request_is_bound_to_all_that_it_says() -> None:
    box = FakeBox(REGISTRAR)
    claims = machine(seat())
    good = box.request(TOKEN)
    changed: dict[str, object] = {
        "key": FakeBox(REGISTRAR).key,
        "serial": "2",
        "model": "x",
        "nonce": b"m" * 16,
        "room": "",
        "token": OTHER_TOKEN,
    }
    for name, value in changed.items():
        forged: EnrolmentRequest = msgspec.structs.replace(good, **{name: value})
        assert refused(lambda forged=forged: claims.enrol(forged, wall_ms=NOW)) is Refusal.BAD_SIGNATURE  # type: ignore[misc]
