"""Proofs of equivocation, and the memory that finds them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.errors import RemoteMessageError, Verdict
from device.line.evidence import Evidence, check_proof, contradiction, equivocator, grant_contradiction, prove
from device.line.log import LogError, LogFinding, MissingRosterError
from device.line.verify import SignedLink, Verifier
from device.messages.envelope import KeySigner, digest
from device.messages.grant import Accepted, Grant, sign_grant
from device.messages.link import Entry, Link, LinkFlag, sign_link
from device.messages.roster import Roster
from tools.vectors import room
from tools.vectors.cases import LIMITS, Round, SealedEntries, grant_7

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
    known = signed(replace(PLAY.good, flags=LinkFlag.SESSION_KNOWN))
    restored = signed(replace(PLAY.good, round=9, session=4, entries=()))
    for order in ((known, restored), (restored, known)):
        evidence = Evidence(rounds=64)
        assert [evidence.add(link) for link in order] == [None, (order[0].raw, order[1].raw)]
    assert check_proof((known.raw, restored.raw), VERIFIER) == "desk-2 used session 4 after session 5"


def test_an_older_session_is_proved_by_the_first_link_over_a_grant_that_knew_the_newer_one() -> None:
    evidence = Evidence(rounds=64)
    rounds = {7: LinkFlag.NONE, 8: LinkFlag.SESSION_KNOWN, 10: LinkFlag.SESSION_KNOWN}
    links = [signed(replace(PLAY.good, round=at, flags=flags, entries=())) for at, flags in rounds.items()]
    assert [evidence.add(link) for link in links] == [None] * 3
    restored = signed(replace(PLAY.good, round=9, session=4, entries=()))
    assert evidence.add(restored) == (links[1].raw, restored.raw)


def test_an_old_grant_replayed_to_a_unit_that_has_just_started_makes_no_proof_against_it() -> None:
    before = signed(replace(PLAY.good, round=12, flags=LinkFlag.SESSION_KNOWN, entries=()))
    fooled = signed(replace(PLAY.good, round=9, session=6, entries=()))
    evidence = Evidence(rounds=64)
    assert [evidence.add(link) for link in (before, fooled)] == [None, None]
    with pytest.raises(RemoteMessageError):
        check_proof((before.raw, fooled.raw), VERIFIER)


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


LESS = {**grant_7().accepted, "desk-2": Accepted(5, 5, 19)}


def granted(grant: Grant, signer: str = room.GATEWAY) -> bytes:
    return sign_grant(grant, room.signer(signer))


@pytest.mark.parametrize(
    ("other", "verdict", "says"),
    [
        (replace(grant_7(), gateway_ms=1), Verdict.GRANT_REWRITTEN, "A second, different grant for round 7."),
        (
            replace(grant_7(), round=12, accepted=LESS),
            Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
            "Grant 12 acknowledges less of desk-2 than grant 7 did.",
        ),
        (
            replace(grant_7(), round=12, accepted={}),
            Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
            "Grant 12 acknowledges less of desk-1 than grant 7 did.",
        ),
    ],
    ids=["two grants for one round", "acknowledges less", "acknowledges nothing any more"],
)
def test_g8_two_grants_of_the_gateway_that_exclude_each_other_are_a_proof(
    other: Grant, verdict: Verdict, says: str
) -> None:
    raw = granted(other)
    for proof in ((PLAY.grant, raw), (raw, PLAY.grant)):
        assert check_proof(proof, VERIFIER) == says
        proved = prove(proof, rosters={1: room.roster()}, line=room.LINE, limits=LIMITS)
        assert (proved.signer, proved.verdict, proved.sentence) == (room.GATEWAY, verdict, says)


def test_g8_an_honest_gateway_makes_no_proof() -> None:
    more = {**grant_7().accepted, "desk-2": Accepted(6, 5, 21)}
    later = VERIFIER.grant(granted(replace(grant_7(), round=8, accepted=more)))
    assert grant_contradiction(VERIFIER.grant(PLAY.grant), later) is None
    assert grant_contradiction(later, later) is None
    for proof in ((PLAY.grant, later.raw), (later.raw, later.raw)):
        with pytest.raises(LogError) as refused:
            check_proof(proof, VERIFIER)
        assert refused.value.code is LogFinding.PROVES_NOTHING


def test_g8_nobody_else_can_make_a_proof_against_the_gateway() -> None:
    forged = granted(replace(grant_7(), gateway_ms=1), signer="desk-1")
    with pytest.raises(RemoteMessageError) as refused:
        check_proof((PLAY.grant, forged), VERIFIER)
    assert refused.value.verdict is Verdict.UNKNOWN_SIGNER


def with_new_key(roster: Roster, unit: str) -> Roster:
    """The unit enrolled anew with another key."""
    units = tuple(
        replace(each, key=room.signer(f"{unit} anew").public_key, since=roster.epoch) if each.unit == unit else each
        for each in roster.lines[room.LINE]
    )
    return replace(roster, lines={**roster.lines, room.LINE: units})


KNOWN = PLAY.signed(replace(PLAY.good, flags=LinkFlag.SESSION_KNOWN))
BACKWARDS = replace(PLAY.good, epoch=2, round=9, session=4, entries=())


def test_g5_a_proof_may_span_two_epochs_if_the_key_is_the_same() -> None:
    proof = (KNOWN, PLAY.signed(BACKWARDS))
    same = {1: room.roster(), 2: room.roster(epoch=2)}
    assert prove(proof, rosters=same, line=room.LINE, limits=LIMITS).sentence == "desk-2 used session 4 after session 5"
    with pytest.raises(MissingRosterError):
        prove(proof, rosters={1: room.roster()}, line=room.LINE, limits=LIMITS)


def test_g5_a_unit_enrolled_anew_with_another_key_begins_anew_and_is_not_accused() -> None:
    anew = sign_link(BACKWARDS, KeySigner("desk-2", room.signer("desk-2 anew").private_key))
    rosters = {1: room.roster(), 2: with_new_key(room.roster(epoch=2), "desk-2")}
    with pytest.raises(LogError, match="desk-2 has another key in epoch 1 than in epoch 2") as refused:
        prove((KNOWN, anew), rosters=rosters, line=room.LINE, limits=LIMITS)
    assert refused.value.code is LogFinding.PROVES_NOTHING


def test_who_equivocated_is_told_by_the_key_in_force_whatever_the_epoch() -> None:
    proof = (GOOD.raw, PLAY.signed(replace(PLAY.good, prev=bytes(32))))
    for roster in (room.roster(), room.roster(epoch=5)):
        assert equivocator(proof, roster=roster, line=room.LINE, limits=LIMITS) == "desk-2"
    for roster, line in (
        (with_new_key(room.roster(epoch=5), "desk-2"), room.LINE),
        (room.roster(), room.OTHER_LINE),
        (room.roster(), "row-9"),
        (room.roster(room="gym"), room.LINE),
    ):
        assert equivocator(proof, roster=roster, line=line, limits=LIMITS) is None
    for nothing in ((), (GOOD.raw,), (GOOD.raw, GOOD.raw), (b"x", b"y"), (PLAY.grant, PLAY.grant)):
        assert equivocator(nothing, roster=room.roster(), line=room.LINE, limits=LIMITS) is None
