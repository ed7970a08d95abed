"""Every way to tamper with a log is found off line, at the right object, under its own code."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.line.actions import ClosedRound
from device.messages.envelope import ContentType, KeySigner, Signer, digest, open_envelope
from device.messages.grant import decode_grant, sign_grant
from device.messages.link import decode_link, sign_link
from tests.verify.files import UNITS, roster_file, some_rounds, store_file, verify
from tools.attacks import forge_link
from tools.vectors import room

Rounds = list[ClosedRound]


def _with(rounds: Rounds, index: int, **changes: object) -> Rounds:
    return [*rounds[:index], replace(rounds[index], **changes), *rounds[index + 1 :]]  # type: ignore[arg-type]


def _altered_link(rounds: Rounds) -> Rounds:
    links = list(rounds[4].links)
    links[1] = forge_link(links[1])
    return _with(rounds, 4, links=tuple(links))


def _damaged_link(rounds: Rounds) -> Rounds:
    links = list(rounds[4].links)
    links[1] = links[1][:-1]
    return _with(rounds, 4, links=tuple(links))


def _dropped_link(rounds: Rounds) -> Rounds:
    return _with(rounds, 4, links=rounds[4].links[1:])


def _dropped_last_link(rounds: Rounds) -> Rounds:
    return _with(rounds, 4, links=rounds[4].links[:-1])


def _inserted_old_link(rounds: Rounds) -> Rounds:
    return _with(rounds, 4, links=(*rounds[4].links, rounds[3].links[0]))


def _inserted_link_of_a_stranger(rounds: Rounds) -> Rounds:
    body = decode_link(open_envelope(rounds[4].links[-1], wanted=ContentType.LINK))
    mine = sign_link(
        replace(body, unit="stranger", prev=digest(rounds[4].links[-1]), entries=()), room.signer("stranger")
    )
    return _with(rounds, 4, links=(*rounds[4].links, mine))


def _swapped_links(rounds: Rounds) -> Rounds:
    first, second, *rest = rounds[4].links
    return _with(rounds, 4, links=(second, first, *rest))


def _swapped_grants(rounds: Rounds) -> Rounds:
    return _with(_with(rounds, 4, grant=rounds[5].grant), 5, grant=rounds[4].grant)


def _grant_signed_again(rounds: Rounds) -> Rounds:
    body = decode_grant(open_envelope(rounds[4].grant, wanted=ContentType.GRANT))
    return _with(rounds, 4, grant=sign_grant(replace(body, gateway_ms=1), room.signer(room.GATEWAY)))


def _last_grant_acknowledges_more(rounds: Rounds) -> Rounds:
    body = decode_grant(open_envelope(rounds[-1].grant, wanted=ContentType.GRANT))
    more = {unit: replace(accepted, sequence=accepted.sequence + 1) for unit, accepted in body.accepted.items()}
    grant = sign_grant(replace(body, accepted=more), room.signer(room.GATEWAY))
    return _with(rounds, len(rounds) - 1, grant=grant, links=())


def _other_key(name: str) -> Signer:
    return KeySigner(name, Ed25519PrivateKey.from_private_bytes(digest(b"other " + name.encode())))


def _resealed(rounds: Rounds) -> Rounds:
    """The whole log made anew by somebody who has other keys under the same names."""
    made: Rounds = []
    head = bytes(32)
    for closed in rounds:
        body = decode_grant(open_envelope(closed.grant, wanted=ContentType.GRANT))
        grant = sign_grant(replace(body, prev=head), _other_key(room.GATEWAY))
        head, links = digest(grant), []
        for raw in closed.links:
            link = decode_link(open_envelope(raw, wanted=ContentType.LINK))
            links.append(sign_link(replace(link, prev=head), _other_key(link.unit)))
            head = digest(links[-1])
        made.append(replace(closed, grant=grant, links=tuple(links)))
    return made


@pytest.mark.parametrize(
    ("tamper", "finding"),
    [
        (lambda rounds: rounds[2:], ("start_missing", 3, 0)),
        (lambda rounds: [*rounds[:4], *rounds[5:]], ("round_missing", 5, None)),
        (lambda rounds: [*rounds[:4], rounds[5], rounds[4], *rounds[6:]], ("round_out_of_order", 5, None)),
        (lambda rounds: [*rounds[:5], replace(rounds[4], epoch=2), *rounds[5:]], ("round_out_of_order", 5, 0)),
        (_altered_link, ("bad_signature", 5, 2)),
        (_damaged_link, ("not_decodable", 5, 2)),
        (_dropped_link, ("wrong_previous", 5, 1)),
        (_dropped_last_link, ("wrong_previous", 6, 0)),
        (_swapped_links, ("wrong_previous", 5, 1)),
        (_inserted_old_link, ("stale_round", 5, UNITS + 1)),
        (_inserted_link_of_a_stranger, ("unknown_signer", 5, UNITS + 1)),
        (_swapped_grants, ("round_out_of_order", 5, None)),
        (_grant_signed_again, ("wrong_previous", 5, 1)),
        (_last_grant_acknowledges_more, ("acknowledgement_withdrawn", 8, 0)),
        (lambda rounds: _with(rounds, 4, grant=rounds[4].links[0]), ("wrong_kind", 5, 0)),
        (_resealed, ("resealed", 1, 0)),
        (lambda rounds: [*rounds[:4], *_resealed(rounds)[4:]], ("resealed", 5, 0)),
        (lambda rounds: rounds[:-2], ("cut_at_end", 9, 0)),
    ],
    ids=[
        "beginning cut off",
        "round dropped",
        "rounds reordered",
        "round twice",
        "link altered",
        "link damaged",
        "link dropped",
        "last link of a round dropped",
        "links swapped",
        "old link inserted",
        "stranger's link inserted",
        "grants swapped",
        "grant signed again by the gateway",
        "grant acknowledges what is not there",
        "link in the grant's place",
        "re-sealed by another key",
        "re-sealed from round 5 on",
        "end cut off under the open grant",
    ],
)
def test_g3_tampering_is_found_at_its_object_with_its_code(
    tmp_path: Path, tamper: Callable[[Rounds], Rounds], finding: tuple[str, int, int | None]
) -> None:
    rounds, line = some_rounds()
    ran = verify(store_file(tmp_path, tamper(rounds), line), "--roster", roster_file(tmp_path))
    assert ran.finding == finding
    assert ran.code == 1
    assert ran.document["verified"] is False
    failure = ran.document["failure"]
    assert failure["line"] == room.LINE and failure["sentence"] and failure["detail"] and failure["next_step"]


def test_a_log_that_nobody_touched_is_verified(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    ran = verify(store_file(tmp_path, rounds, line), "--roster", roster_file(tmp_path))
    assert (ran.code, ran.document["failure"]) == (0, None)
    (found,) = ran.document["lines"]
    assert (found["rounds"], found["links"], found["labels"]) == (8, 24, 24)
    assert (found["first_round"], found["last_round"], found["open_round"]) == (1, 8, 9)
    assert found["head"] == digest(rounds[-1].links[-1]).hex()


def test_a_log_of_nothing_is_a_finding_and_one_of_a_line_that_just_began_is_not(tmp_path: Path) -> None:
    rounds, line = some_rounds(0)
    path = store_file(tmp_path, rounds, None)
    assert verify(path, "--roster", roster_file(tmp_path)).finding == ("empty_log", 0, None)
    store_file(tmp_path, rounds, line)
    ran = verify(path, "--roster", roster_file(tmp_path))
    assert (ran.code, ran.document["lines"][0]["open_round"]) == (0, 1)


def test_a_store_without_its_open_grant_was_cut(tmp_path: Path) -> None:
    rounds, _ = some_rounds()
    ran = verify(store_file(tmp_path, rounds, None), "--roster", roster_file(tmp_path))
    assert ran.finding == ("cut_at_end", 8, None)


def test_an_emptied_log_whose_open_grant_stayed_is_found(tmp_path: Path) -> None:
    _, line = some_rounds()
    assert verify(store_file(tmp_path, [], line), "--roster", roster_file(tmp_path)).finding == ("cut_at_end", 9, 0)


def test_a_round_whose_grant_row_is_gone_is_found(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    path = store_file(tmp_path, rounds, line)
    with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
        intruder.execute("DELETE FROM rounds WHERE round = 5")
    assert verify(path, "--roster", roster_file(tmp_path)).finding == ("round_missing", 5, None)


def test_a_log_cut_at_its_end_is_good_by_itself_and_a_grant_or_head_that_somebody_holds_shows_the_cut(
    tmp_path: Path,
) -> None:
    line = room_line_at(5)
    rounds, later = some_rounds()
    held = tmp_path / "grant-of-desk-1.cose"
    held.write_bytes(later.grant())
    path = store_file(tmp_path, line[0], None)
    with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
        intruder.execute("INSERT INTO open_grants VALUES (?, ?)", (room.LINE, line[1]))
    roster = roster_file(tmp_path)
    good = verify(path, "--roster", roster)
    assert good.code == 0
    assert verify(path, "--roster", roster, "--grant", held).finding == ("cut_at_end", 5, None)
    head = digest(rounds[6].links[0]).hex()
    assert verify(path, "--roster", roster, "--head", head).finding == ("head_missing", 0, None)
    there = good.document["lines"][0]["head"]
    assert verify(path, "--roster", roster, "--head", there).code == 0


def room_line_at(count: int) -> tuple[Rounds, bytes]:
    """The first rounds of a line, and the grant that followed them."""
    rounds, _ = some_rounds(count + 1)
    return rounds[:count], rounds[count].grant


def test_g8_a_grant_that_contradicts_the_log_is_found_and_makes_a_proof(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    body = decode_grant(open_envelope(rounds[4].grant, wanted=ContentType.GRANT))
    held = tmp_path / "grant-of-desk-2.cose"
    held.write_bytes(sign_grant(replace(body, gateway_ms=1), room.signer(room.GATEWAY)))
    roster = roster_file(tmp_path)
    path = store_file(tmp_path, rounds, line)
    ran = verify(path, "--roster", roster, "--grant", held, "--proofs", tmp_path / "proofs")
    assert ran.finding == ("grant_rewritten", 5, 0)
    (proof,) = (tmp_path / "proofs").iterdir()
    proved = verify(proof, "--roster", roster)
    assert proved.code == 0
    assert (proved.document["proved"]["signer"], proved.document["proved"]["code"]) == (
        room.GATEWAY,
        "grant_rewritten",
    )


@pytest.mark.parametrize(
    ("roster", "code"),
    [
        (room.roster(UNITS, room="gym"), "wrong_room"),
        (room.roster(1), "unknown_signer"),
        (room.roster(UNITS, revoked=frozenset({"desk-2"})), "revoked"),
    ],
    ids=["another room", "an older, shorter line", "a unit revoked"],
)
def test_a_wrong_roster_is_told_by_what_it_makes_of_the_log(tmp_path: Path, roster: object, code: str) -> None:
    rounds, line = some_rounds()
    ran = verify(store_file(tmp_path, rounds, line), "--roster", roster_file(tmp_path, roster))  # type: ignore[arg-type]
    assert (ran.code, ran.finding[0]) == (1, code)


def test_a_line_that_the_roster_does_not_have_is_told(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    other = replace(room.roster(UNITS), lines={room.OTHER_LINE: room.roster(UNITS).lines[room.LINE]})
    ran = verify(store_file(tmp_path, rounds, line), "--roster", roster_file(tmp_path, other))
    assert (ran.code, ran.finding[0]) == (1, "wrong_line")


def test_rounds_of_one_line_under_another_lines_name_are_told(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    ran = verify(store_file(tmp_path, rounds, line, room.OTHER_LINE), "--roster", roster_file(tmp_path))
    assert ran.finding == ("wrong_line", 1, 0)


@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_a_file_cut_in_the_middle_is_damaged(tmp_path: Path, keep: float) -> None:
    rounds, line = some_rounds(60)
    path = store_file(tmp_path, rounds, line)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) // 4_096 * 4_096])
    ran = verify(path, "--roster", roster_file(tmp_path))
    assert (ran.code, ran.finding[0]) == (1, "damaged_file")
