"""Proofs of equivocation, and the memory that finds them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.errors import RemoteMessageError
from device.line.evidence import Evidence, check_proof, contradiction
from device.line.verify import SignedLink, Verifier
from device.messages.envelope import digest
from device.messages.link import Entry, Link
from tools.vectors import room
from tools.vectors.cases import LIMITS, Round, SealedEntries

PLAY = Round(SealedEntries({}))
VERIFIER = Verifier(room.roster(), room.LINE, LIMITS)


def signed(link: Link) -> SignedLink:
    """An authentic link."""
    return VERIFIER.link(PLAY.signed(link))


GOOD = signed(PLAY.good)


def test_an_honest_unit_leaves_no_evidence() -> None:
    evidence = Evidence(rounds=64)
    entries = PLAY.good.entries
    later = [
        replace(PLAY.good, round=8),
        replace(PLAY.good, round=9, entries=(*entries, PLAY.sealed.entry("desk-2", 5, 22))),
        replace(PLAY.good, round=9, session=6, entries=()),
        replace(PLAY.good, round=10, session=6, entries=(PLAY.sealed.entry("desk-2", 6, 1),)),
    ]
    assert [evidence.add(signed(link)) for link in (PLAY.good, PLAY.good, *later)] == [None] * 6


def test_links_of_two_units_never_contradict_each_other() -> None:
    assert contradiction(GOOD, signed(PLAY.first)) is None


def test_two_contents_for_one_number_are_found_rounds_later() -> None:
    evidence = Evidence(rounds=64)
    evidence.add(GOOD)
    for number in range(8, 40):
        other = replace(PLAY.good, round=number, entries=(PLAY.sealed.entry("desk-2", 5, 100 + number),))
        assert evidence.add(signed(other)) is None
    copied = signed(replace(PLAY.good, round=40, entries=(Entry(5, 21, b"\x07" * 112),)))
    assert evidence.add(copied) == (GOOD.raw, copied.raw)
    assert check_proof((GOOD.raw, copied.raw), VERIFIER) == "desk-2 gave two contents to entry 5/21"


def test_a_restored_box_that_signs_is_proved_whichever_link_comes_first() -> None:
    restored = signed(replace(PLAY.good, round=9, session=4, entries=()))
    for order in ((GOOD, restored), (restored, GOOD)):
        evidence = Evidence(rounds=64)
        assert [evidence.add(link) for link in order] == [None, (order[0].raw, order[1].raw)]
    assert check_proof((GOOD.raw, restored.raw), VERIFIER) == "desk-2 used session 4 after session 5"


def test_a_proof_is_worth_nothing_with_a_forged_half() -> None:
    forged = PLAY.signed(replace(PLAY.good, prev=digest(b"other")), signer="desk-3")
    with pytest.raises(RemoteMessageError):
        check_proof((GOOD.raw, forged), VERIFIER)
    with pytest.raises(RemoteMessageError):
        check_proof((GOOD.raw, GOOD.raw), VERIFIER)


def test_memory_is_bounded_and_forgets_by_round() -> None:
    evidence = Evidence(rounds=2)
    evidence.add(GOOD)
    assert evidence.seen(GOOD.digest)
    evidence.forget_before(PLAY.good.round + 2)
    assert evidence.seen(GOOD.digest)
    evidence.forget_before(PLAY.good.round + 3)
    assert not evidence.seen(GOOD.digest)


def test_one_unit_cannot_fill_the_memory() -> None:
    evidence = Evidence(rounds=64)
    many = [signed(replace(PLAY.good, session=session, entries=())) for session in range(5, 105)]
    assert [evidence.add(link) for link in many] == [None] * 100
    assert sum(evidence.seen(link.digest) for link in many) == 4
