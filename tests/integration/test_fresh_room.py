"""From nothing to verified labels by the operator's own commands, with every part a real program."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from device.messages.roster import Roster
from provisioning.authority_files import read_roster_file
from provisioning.seed_file import read_seed
from tests.integration.room_broker import require_mosquitto, wait_until
from tools.bench.fresh_room import FreshRoom, FreshRoomError


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreshRoom]:
    require_mosquitto()
    with FreshRoom(tmp_path_factory.mktemp("fresh"), 3) as made:
        made.found()
        made.start()
        made.listen()
        yield made


def roster(room: FreshRoom) -> Roster:
    return read_roster_file(room.folder / "authority")


def test_boxes_with_a_seed_become_the_desks_of_the_plan_and_their_labels_are_verified(room: FreshRoom) -> None:
    began = time.monotonic()
    plugged_in = [room.enrol(unit) for unit in ("b1", "b2")]
    for box in plugged_in:
        room.wait(box)
    for unit in ("b1", "b2"):
        room.start_unit(unit)
    first = room.first_labels(("b1", "b2"))
    assert all(moment > began for moment in first.values())
    assert {unit.unit for unit in roster(room).units_of("b")} == {"b1", "b2"}
    assert read_seed(room.seed("b1")) is None, "a used token is gone from the card"
    wait_until(lambda: bool(room.stored_labels("b1", 0)), "the gateway stores its labels")
    assert room.stored_labels("b1", 0)[0].desk == "Desk 1"
    epoch = roster(room).epoch
    again = room.enrol("b1")
    room.wait(again)
    assert roster(room).epoch == epoch, "a second enrolment changes nothing"


def test_a_copied_card_makes_no_second_box(room: FreshRoom) -> None:
    card = room.seed("b3").read_bytes()
    room.wait(room.enrol("b3"))
    copied = room.folder / "copied.toml"
    copied.write_bytes(card)
    folder = room.folder / "boxes" / "thief"
    folder.mkdir(mode=0o700)
    thief = room.run("box-thief", "provisioning.box", "enrol", "--root", f"{folder}", "--seed", f"{copied}", "--once")
    assert thief.process.wait(30) == 1
    told = thief.log.read_text()
    assert "token_used" in told
    assert "Was the card copied?" in told
    assert not (folder / "device.toml").exists()


def test_a_box_without_a_seed_is_accepted_by_the_code_that_it_shows(room: FreshRoom) -> None:
    registrar = ("--registrar", f"{room.places.registrar}")
    with pytest.raises(FreshRoomError, match="AAAAAA"):
        room.provision("accept", "AAAAAA", "--unit", "b4", *registrar, passphrase=False)
    room.provision("window", "open", "--minutes", "5", *registrar, passphrase=False)
    claims = room.provision("claims", *registrar, passphrase=False)
    assert "No box waits for an operator" in claims
    assert "b3           line b            Desk 3                   enrolled" in claims


def test_a_revoked_box_is_put_out_and_is_told_so_by_the_registrar(room: FreshRoom) -> None:
    room.provision("revoke", "authority", "b2", "--issued", f"{room.places.registrar / 'issued'}")
    room.publish()
    unit = next(program for program in room.programs if program.name == "unit-b2")
    wait_until(lambda: "before it took us" in unit.log.read_text(), "the broker refuses its certificate")
    since_ms = int(time.time() * 1_000)
    room.first_labels(("b1",))
    assert room.stored_labels("b2", since_ms) == []
    unit.stop()
    renewal = room.run("box-b2", "provisioning.box", "renew", "--root", f"{room.box('b2')}", "--now")
    assert renewal.process.wait(60) == 1
    assert "revoked: This box was revoked." in renewal.log.read_text()
    assert "b2" in roster(room).revoked


def test_a_desks_new_name_reaches_the_labels_with_the_next_roster(room: FreshRoom) -> None:
    room.provision("move", "authority", "b1", "--desk", "Desk by the window")
    room.provision("revoke", "authority", "b3")
    since_ms = int(time.time() * 1_000)
    room.publish()
    wait_until(
        lambda: any(label.desk == "Desk by the window" for label in room.stored_labels("b1", since_ms)),
        "labels carry the desk's new name",
    )
    names = [label.desk for label in room.stored_labels("b1", since_ms)]
    assert names == sorted(names, key=lambda name: name == "Desk by the window"), "and none the old one after it"
    assert {*names} <= {"Desk 1", "Desk by the window"}


def test_a_dead_gateway_is_replaced_from_the_authoritys_folder_and_boxes_follow(room: FreshRoom) -> None:
    before = roster(room)
    room.lose_gateway_machine()
    room.gateway_machine("--replace")
    room.start()
    room.listen()
    room.first_labels(("b1",))
    after = roster(room)
    assert after.gateway.key != before.gateway.key
    assert after.gateway.opening_key != before.gateway.opening_key
    assert after.units_of("b") == before.units_of("b"), "boxes keep their keys and places"
