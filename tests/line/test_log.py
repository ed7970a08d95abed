"""Following a log object by object: stubs, receipts from the middle, epochs, and what the rest of the log tells."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from device.config import LineLimits
from device.errors import VERDICTS, RemoteMessageError, Verdict
from device.line.actions import ClosedRound
from device.line.log import (
    FINDINGS,
    NOTHING_DELETED,
    EpochVerifier,
    LogError,
    LogFinding,
    LogFollower,
    MissingRosterError,
    Stub,
    fold,
    follow_log,
    previous_of,
    tell_more,
)
from device.messages.envelope import digest
from tools.attacks import forge_link
from tools.vectors import room
from tools.verify.synthetic import SyntheticLine

LIMITS = LineLimits()
ROSTERS = {1: room.roster(3)}


def rounds_of(line: SyntheticLine, count: int) -> list[ClosedRound]:
    return list(line.rounds(count))


def follower(*, from_middle: bool = False) -> LogFollower:
    return LogFollower(ROSTERS, room.LINE, LIMITS, from_middle=from_middle)


def test_a_log_is_followed_round_by_round_up_to_its_open_grant() -> None:
    line, follow = SyntheticLine(3), follower()
    assert (follow.round, follow.head) == (0, bytes(32))
    for closed in rounds_of(line, 4):
        view = follow.take(closed)
        assert list(view.links) == ["desk-1", "desk-2", "desk-3"]
    assert (follow.round, follow.head) == (4, line.head)
    assert follow.close(line.grant()).body.round == 5


def test_a_receipt_begins_in_the_middle_and_is_strict_from_there() -> None:
    rounds = rounds_of(SyntheticLine(3), 6)
    follow = follower(from_middle=True)
    follow.take(rounds[2])
    with pytest.raises(LogError) as refused:
        follow.take(rounds[4])
    assert (refused.value.code, refused.value.round) == (LogFinding.ROUND_MISSING, 4)


def stub_of(rounds: list[ClosedRound]) -> Stub:
    objects = [raw for closed in rounds for raw in (closed.grant, *closed.links)]
    links = sum(len(closed.links) for closed in rounds)
    return Stub(1, len(rounds), links, bytes(32), digest(objects[-1]), fold(NOTHING_DELETED, map(digest, objects)))


def test_a_stub_is_crossed_and_what_follows_is_strict_again() -> None:
    line = SyntheticLine(3)
    rounds = rounds_of(line, 6)
    follow = follower()
    follow.skip(stub_of(rounds[:3]))
    assert (follow.round, follow.head) == (3, digest(rounds[2].links[-1]))
    for closed in rounds[3:]:
        follow.take(closed)
    follow.close(line.grant())


def test_a_stub_stands_at_the_beginning_or_nowhere() -> None:
    """In the middle it would hide a cut: retention deletes from the oldest on."""
    rounds = rounds_of(SyntheticLine(3), 6)
    follow = follower()
    follow.take(rounds[0])
    with pytest.raises(LogError) as refused:
        follow.skip(replace(stub_of(rounds[:3]), first=1))
    assert refused.value.code is LogFinding.STUB_MISMATCH


def test_the_running_digest_is_that_of_the_page() -> None:
    first, second = digest(b"first"), digest(b"second")
    once = hashlib.sha256(bytes(32) + first).digest()
    assert fold(NOTHING_DELETED, []) == bytes(32)
    assert fold(NOTHING_DELETED, [first, second]) == hashlib.sha256(once + second).digest()
    assert fold(fold(NOTHING_DELETED, [first]), [second]) == fold(NOTHING_DELETED, [first, second])


def test_every_error_names_line_round_place_signer_step_sentence_and_next_step() -> None:
    rounds = rounds_of(SyntheticLine(3), 3)
    links = (*rounds[1].links[:2], forge_link(rounds[1].links[2]))
    follow = follower()
    follow.take(rounds[0])
    with pytest.raises(LogError) as refused:
        follow.take(replace(rounds[1], links=links))
    error = refused.value
    assert (error.line, error.round, error.place, error.peer) == (room.LINE, 2, 3, "desk-3")
    assert (error.code, error.found_in_step, error.step) == (Verdict.BAD_SIGNATURE, 5, 5)
    assert error.sentence == VERDICTS[Verdict.BAD_SIGNATURE].sentence
    assert error.next_step.startswith("Check that the roster")
    assert str(error) == f"{error.what} {error.next_step}"


def test_every_finding_has_words_and_a_step_that_its_verdict_has() -> None:
    assert FINDINGS.keys() == set(LogFinding)
    for row in FINDINGS.values():
        assert row.sentence.endswith(".") and row.next_step.endswith(".")
        assert row.step is None or row.step == VERDICTS[row.verdict].step or row.verdict is Verdict.NOT_DECODABLE
    assert not {finding.value for finding in LogFinding} & {verdict.value for verdict in Verdict}


def error_at(code: Verdict | LogFinding, round_number: int, place: int) -> LogError:
    return LogError(code, "as found", line=room.LINE, round_number=round_number, place=place)


def test_the_rest_of_the_log_tells_missing_from_misplaced_and_altered_from_resealed() -> None:
    rounds = rounds_of(SyntheticLine(3), 4)
    missing, bad = error_at(LogFinding.ROUND_MISSING, 2, 0), error_at(Verdict.BAD_SIGNATURE, 2, 3)
    assert tell_more(missing, rounds[2], rounds[3:]).code is LogFinding.ROUND_MISSING
    assert tell_more(missing, rounds[2], [rounds[1]]).code is LogFinding.ROUND_OUT_OF_ORDER
    assert tell_more(bad, rounds[1], rounds[2:]).code is LogFinding.RESEALED
    altered = replace(rounds[1], links=(*rounds[1].links[:2], forge_link(rounds[1].links[2])))
    assert tell_more(bad, altered, rounds[2:]) is bad
    assert tell_more(bad, altered, []) is bad
    other = error_at(Verdict.WRONG_PREVIOUS, 2, 3)
    assert tell_more(other, rounds[1], rounds[2:]) is other


def test_previous_is_read_from_grants_and_links_and_nothing_else() -> None:
    (closed,) = rounds_of(SyntheticLine(3), 1)
    assert previous_of(closed.grant) == bytes(32)
    assert previous_of(closed.links[0]) == digest(closed.grant)
    assert previous_of(b"neither") is None


def test_a_log_of_one_epoch_meets_another_one_as_a_verdict_and_never_as_another_error() -> None:
    line = SyntheticLine(3)
    rounds = rounds_of(line, 1)
    line.epoch = 2
    rounds += rounds_of(line, 1)
    with pytest.raises(RemoteMessageError) as refused:
        list(follow_log(rounds, roster=ROSTERS[1], line=room.LINE, limits=LIMITS))
    assert refused.value.verdict is Verdict.UNKNOWN_EPOCH
    with pytest.raises(RemoteMessageError) as refused:
        list(follow_log(rounds, roster=room.roster(3, epoch=2), line=room.LINE, limits=LIMITS))
    assert refused.value.verdict is Verdict.STALE_EPOCH


def test_a_missing_roster_names_its_epoch_and_the_given_ones() -> None:
    line = SyntheticLine(3)
    line.epoch = 4
    (closed,) = rounds_of(line, 1)
    with pytest.raises(MissingRosterError, match=r"no roster of epoch 4 was given \(given: 1, 2\)") as refused:
        LogFollower({1: ROSTERS[1], 2: room.roster(3, epoch=2)}, room.LINE, LIMITS).take(closed)
    assert refused.value.epoch == 4


def test_each_object_is_judged_under_the_roster_of_its_epoch() -> None:
    line = SyntheticLine(3)
    (old,) = rounds_of(line, 1)
    rosters = {1: ROSTERS[1], 2: room.roster(3, epoch=2, revoked=frozenset({"desk-1"}))}
    judge = EpochVerifier(rosters, room.LINE, LIMITS)
    assert judge.link(old.links[0]).body.unit == "desk-1"
    line.epoch = 2
    (new,) = rounds_of(line, 1)
    assert judge.grant(new.grant).body.epoch == 2
    with pytest.raises(RemoteMessageError) as refused:
        judge.link(new.links[0])
    assert refused.value.verdict is Verdict.REVOKED
    assert judge.key_of(1, "desk-1") == room.signer("desk-1").public_key
    assert judge.key_of(1, room.GATEWAY) == room.signer(room.GATEWAY).public_key
    assert judge.key_of(1, "nobody") is None


@pytest.mark.parametrize("raw", [b"", b"\xd2\x84", bytes(40_000)])
def test_whatever_the_bytes_only_a_log_error_leaves_the_follower(raw: bytes) -> None:
    (good,) = rounds_of(SyntheticLine(3), 1)
    for closed in (replace(good, grant=raw), replace(good, links=(raw,)), replace(good, links=(*good.links, raw))):
        with pytest.raises(LogError):
            follower().take(closed)
    with pytest.raises(LogError):
        follower().close(raw)


def test_what_a_stranger_wrote_is_not_shown() -> None:
    line = SyntheticLine(3, line="\x1b[2Jevil")
    with pytest.raises(LogError) as refused:
        follower().take(rounds_of(line, 1)[0])
    assert refused.value.code is Verdict.WRONG_LINE
    assert "evil" not in str(refused.value)
