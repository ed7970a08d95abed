"""Run one vector through the verification that ships: as the build's own check, and as a test."""

from __future__ import annotations

from device.errors import RemoteMessageError, Verdict
from device.line.evidence import check_proof
from device.line.verify import OpenRound, Verifier, follow_grant, follow_link, step_10_open
from device.messages.roster import Roster
from device.messages.sealing import Opener
from tools.vectors import room
from tools.vectors.cases import LIMITS, Case


def verdict_of(case: Case, roster: Roster, opener: Opener) -> Verdict | None:
    """What verification says of a case; None when everything is in order."""
    try:
        _verify(case, roster, opener)
    except RemoteMessageError as error:
        return error.verdict
    return None


def _verify(case: Case, roster: Roster, opener: Opener) -> None:
    verifier = Verifier(roster, room.LINE, LIMITS)
    if case.kind == "proof":
        first, second = case.messages
        check_proof((first, second), verifier)
        return
    (message,) = case.messages
    grant, *links = case.chain
    view = OpenRound(verifier.grant(grant))
    for raw in links:
        link = verifier.link(raw)
        follow_link(link, view, LIMITS, roster.suite)
        view.extend(link)
    if case.kind == "grant":
        granted = verifier.grant(message)
        follow_grant(granted, view.grant, {view.grant.body.round: view.grant})
        return
    link = verifier.link(message)
    follow_link(link, view, LIMITS, roster.suite)
    for entry in link.body.entries:
        step_10_open(opener, link.body, entry)
