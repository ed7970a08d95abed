"""Seeds for a whole classroom: who gets a new one, whose stays, and what does not fit."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from device.errors import ConfigError
from provisioning.book import Entry
from provisioning.certificates import Role
from provisioning.claims import Seat, SeatState, token_digest
from provisioning.classroom import Classroom, Desk, default_classroom
from provisioning.seed_file import read_seed
from provisioning.seeds import Outcome, Place, SeedPlan, make_seeds, new_token, write_seeds

NOW = datetime(2026, 8, 25, 9, 0, 0, 123_456, tzinfo=UTC)
ROOM = default_classroom(5, 8)
PLAN = SeedPlan(
    room="room-2",
    registrar_digest=bytes(range(32)),
    gateway=("gateway.local", "10.0.0.5"),
    expires=NOW + timedelta(days=14),
)


def seats_of(places: Sequence[Place]) -> list[Seat]:
    return [place.seat for place in places if place.seat is not None]


def used(seat: Seat, key: bytes = bytes(32)) -> Seat:
    return msgspec.structs.replace(seat, state=SeatState.BOUND, key=key)


def member(unit: str, desk: str | None, line: str | None = "a", role: Role = Role.UNIT, revoked: bool = False) -> Entry:
    return Entry(name=unit, role=role, key=unit.encode().ljust(32, b"."), line=line, desk=desk, revoked=revoked)


def renewing(*units: str) -> SeedPlan:
    return SeedPlan(
        room=PLAN.room,
        registrar_digest=PLAN.registrar_digest,
        gateway=PLAN.gateway,
        expires=PLAN.expires,
        renew=units,
    )


def test_a_token_is_128_random_bits_in_26_small_letters_and_digits() -> None:
    tokens = {new_token() for _ in range(200)}
    assert len(tokens) == 200
    assert all(re.fullmatch("[a-z2-7]{26}", token) for token in tokens)
    # 26 × 5 bits are 130: the last two of a 128-bit token are zero.
    assert {token[-1] for token in tokens} <= set("aeimquy4")


def test_forty_desks_get_forty_seeds_and_the_registrar_only_the_tokens_digests(tmp_path: Path) -> None:
    places = make_seeds(ROOM, PLAN, [], [], now=NOW)
    assert [place.outcome for place in places] == 40 * [Outcome.MADE]
    files = write_seeds(tmp_path / "seeds", ROOM, places)
    assert len(files) == 40 and files["b6"] == tmp_path / "seeds" / "desk-14" / "moodline-seed.toml"
    tokens = set()
    for place in places:
        seed, seat = read_seed(files[place.desk.unit]), place.seat
        assert seed is not None and seat is not None
        assert seed == place.seed
        assert (seed.room, seed.unit, seed.gateway, seed.registrar_digest) == (
            "room-2",
            place.desk.unit,
            PLAN.gateway,
            bytes(range(32)),
        )
        assert (seat.unit, seat.line, seat.desk) == (place.desk.unit, place.desk.line, place.desk.name)
        assert seat.token_sha256 == token_digest(seed.token) and seed.token.encode() not in msgspec.json.encode(seat)
        assert seat.expires_ms == round(datetime(2026, 9, 8, 9, tzinfo=UTC).timestamp() * 1_000)
        tokens.add(seed.token)
    assert len(tokens) == 40
    modes = {stat.S_IMODE(path.stat().st_mode) for path in files.values()}
    assert modes == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in files.values()} == {0o700}


def test_again_keeps_what_nobody_used_and_touches_nothing_that_a_box_has(tmp_path: Path) -> None:
    first = make_seeds(ROOM, PLAN, [], [], now=NOW)
    files = write_seeds(tmp_path, ROOM, first)
    before = {unit: path.read_bytes() for unit, path in files.items()}
    seats = seats_of(first)
    seats[0] = used(seats[0])
    again = make_seeds(ROOM, PLAN, seats, [member("a2", "Desk 2")], now=NOW + timedelta(days=1))
    assert [place.outcome for place in again] == [Outcome.USED, Outcome.USED, *(38 * [Outcome.KEPT])]
    assert [place.seat for place in again] == seats
    assert write_seeds(tmp_path, ROOM, again) == {}
    assert {unit: path.read_bytes() for unit, path in files.items()} == before


def test_renew_makes_a_new_token_for_an_unused_seat_alone() -> None:
    seats = seats_of(make_seeds(ROOM, PLAN, [], [], now=NOW))
    seats[0] = used(seats[0])
    places = make_seeds(ROOM, renewing("a1", "a2"), seats, [], now=NOW)
    assert [place.outcome for place in places[:3]] == [Outcome.USED, Outcome.MADE, Outcome.KEPT]
    assert places[0].seat == seats[0] and places[0].seed is None
    assert places[1].seat is not None and places[1].seat.token_sha256 != seats[1].token_sha256


def test_a_seed_that_has_expired_is_told_and_not_quietly_made_anew() -> None:
    seats = seats_of(make_seeds(ROOM, PLAN, [], [], now=NOW))
    late = NOW + timedelta(days=14)
    plan = SeedPlan(
        room="room-2", registrar_digest=bytes(32), gateway=("g",), expires=late + timedelta(days=1), renew=("a1",)
    )
    places = make_seeds(ROOM, plan, seats, [], now=late)
    assert [place.outcome for place in places[:2]] == [Outcome.MADE, Outcome.EXPIRED]


def test_a_desk_more_gets_a_seed_of_its_own_and_the_others_keep_theirs() -> None:
    seats = seats_of(make_seeds(ROOM, PLAN, [], [], now=NOW))
    more = Classroom((*ROOM.desks, Desk("Desk 41", "f", "f1")))
    places = make_seeds(more, PLAN, seats, [], now=NOW)
    assert [place.outcome for place in places] == [*(40 * [Outcome.KEPT]), Outcome.MADE]


@pytest.mark.parametrize(
    ("standing", "says"),
    [
        (member("a1", None, None, Role.CONSUMER), "a1: is the room's consumer. Name the unit otherwise"),
        (member("a1", "Desk 1", revoked=True), "a1: was revoked, and its name does not come back."),
        (
            member("a1", "Desk 9"),
            "a1: stands at 'Desk 9' on line a, not at 'Desk 1' on line a. Correct its row, or run:",
        ),
        (member("a1", None, "b"), "a1: stands at 'a desk' on line b, not at 'Desk 1' on line a."),
        (member("old", "Desk 1"), "a1: old stands at 'Desk 1' already. Write old in the column `unit`."),
    ],
)
def test_a_desk_that_does_not_fit_the_rooms_members_is_refused_with_a_way_on(standing: Entry, says: str) -> None:
    with pytest.raises(ConfigError, match="nothing was made") as refused:
        make_seeds(default_classroom(1, 2), PLAN, [], [standing], now=NOW)
    assert says in str(refused.value)


def test_a_row_put_in_the_middle_is_found_before_a_card_means_another_desk() -> None:
    room = default_classroom(1, 3)
    seats = seats_of(make_seeds(room, PLAN, [], [], now=NOW))
    shifted = Classroom((room.desks[0], Desk("New desk", "a", "a2"), Desk("Desk 2", "a", "a3")))
    seats[2] = used(seats[2])
    with pytest.raises(ConfigError) as refused:
        make_seeds(shifted, PLAN, seats, [], now=NOW)
    told = str(refused.value)
    assert "a2: its seat is 'Desk 2' on line a, not 'New desk' on line a." in told and "--renew a2" in told
    assert "a3: its seat is 'Desk 3' on line a, not 'Desk 2' on line a. A box has it already" in told
    assert "plan --out" in told
    with pytest.raises(ConfigError, match="a3: its seat"):
        make_seeds(shifted, renewing("a2", "a3"), seats, [], now=NOW)


def test_a_revoked_units_desk_is_free_for_another_unit() -> None:
    places = make_seeds(default_classroom(1, 1), PLAN, [], [member("old", "Desk 1", revoked=True)], now=NOW)
    assert places[0].outcome is Outcome.MADE


@pytest.mark.parametrize(
    ("gateway", "expires", "renew", "says"),
    [
        ((), PLAN.expires, (), "0 addresses"),
        (("g",) * 9, PLAN.expires, (), "9 addresses"),
        (("https://gateway:8884",), PLAN.expires, (), "'https://gateway:8884' is no host name"),
        (("gate way",), PLAN.expires, (), "is no host name"),
        (("g",), NOW, (), "expired already"),
        (("g",), PLAN.expires, ("z9",), "z9: no unit of the plan"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(
    gateway: tuple[str, ...], expires: datetime, renew: tuple[str, ...], says: str
) -> None:
    plan = SeedPlan(room="r", registrar_digest=bytes(32), gateway=gateway, expires=expires, renew=renew)
    with pytest.raises(ConfigError, match=re.escape(says)):
        make_seeds(default_classroom(1, 1), plan, [], [], now=NOW)


def test_addresses_of_every_kind_are_taken() -> None:
    hosts = ("gateway.local", "10.0.0.5", "fe80::1", "G-1")
    plan = SeedPlan(room="r", registrar_digest=bytes(32), gateway=hosts, expires=PLAN.expires)
    [place] = make_seeds(default_classroom(1, 1), plan, [], [], now=NOW)
    assert place.seed is not None and place.seed.gateway == hosts
