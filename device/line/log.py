"""Following a gateway's log of closed rounds with nothing but the roster: what makes it tamper-evident."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from device.config import LineLimits
from device.errors import RemoteMessageError, Verdict
from device.line.actions import ClosedRound
from device.line.verify import OpenRound, Verifier, follow_link
from device.messages.grant import NO_PREVIOUS
from device.messages.roster import Roster


def follow_log(rounds: Iterable[ClosedRound], *, roster: Roster, line: str, limits: LineLimits) -> Iterator[OpenRound]:
    """Verify a log from its first round on, one round in memory at a time; yields each verified round.

    Raises RemoteMessageError at the first object that is altered, inserted, out of order, or follows a dropped one. A
    log that was cut off at its end verifies: only a newer grant, which every unit of the line has, shows that more
    must be there.
    """
    verifier = Verifier(roster, line, limits)
    before: OpenRound | None = None
    for closed in rounds:
        grant = verifier.grant(closed.grant)
        gateway = roster.gateway.gateway
        if grant.body.round != (before.grant.body.round + 1 if before else 1):
            raise RemoteMessageError(Verdict.UNGRANTED_ROUND, f"Round {grant.body.round} is out of turn.", peer=gateway)
        if grant.body.prev != (before.head if before else NO_PREVIOUS):
            raise RemoteMessageError(
                Verdict.WRONG_PREVIOUS, f"Grant {grant.body.round} does not continue the log.", peer=gateway
            )
        if grant.body.accepted != (before.accepted if before else {}):
            raise RemoteMessageError(
                Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
                f"Grant {grant.body.round} acknowledges something else than the log holds.",
                peer=gateway,
            )
        view = OpenRound(grant)
        for raw in closed.links:
            link = verifier.link(raw)
            follow_link(link, view, limits, roster.suite)
            view.extend(link)
        yield view
        before = view
