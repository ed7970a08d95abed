"""Who cheats in a simulated room: copied and restored boxes, thieves of a unit's key, a lying gateway, strangers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from device.clock import TimeSource
from device.errors import Verdict
from device.line.actions import ClosedRound
from device.messages import topics
from device.messages.envelope import ContentType, KeySigner, open_envelope
from device.messages.grant import Accepted, Grant, decode_grant, sign_grant
from device.messages.label import Label, LabelState
from device.messages.link import Entry, Link, decode_link, sign_link
from device.messages.sealing import Place, Sealer
from tools.attacks import forge_link
from tools.simulate.checks import BROKER
from tools.simulate.line import SimulatedLine
from tools.simulate.parties import SimulatedUnit
from tools.vectors import room

GRANT_TOPIC: Final = topics.grant(room.ROOM, room.LINE)


def link_of(raw: bytes) -> Link:
    """The content of a link."""
    return decode_link(open_envelope(raw, wanted=ContentType.LINK))


def grant_of(raw: bytes) -> Grant:
    """The content of a grant."""
    return decode_grant(open_envelope(raw, wanted=ContentType.GRANT))


# --- copies and backups ----------------------------------------------------------------------------------------------


def copy_while_off(line: SimulatedLine, name: str) -> None:
    """The card was copied between two starts: both boxes come up with the same session."""
    line.kill_unit(name)
    _add_copy(line, name)
    line.start_unit(name)


def copy_while_on(line: SimulatedLine, name: str) -> None:
    """The card was copied while the box ran: the copy comes up with the next session."""
    _add_copy(line, name)


def _add_copy(line: SimulatedLine, name: str) -> None:
    original = line.units[name]
    line.checks.compromised.add(name)
    copies = sum(unit.name == name for unit in line.units.values())
    copy = SimulatedUnit(f"{name}+{copies}", name, session=original.session, spilled=list(original.spilled))
    copy.clock = original.clock
    line.units[copy.box] = copy
    line.checks.due.add(name)
    line.start_unit(copy.box)


def restore_backup(line: SimulatedLine, name: str) -> None:
    """An old image of the card is put back: the session counter is what it was some starts ago."""
    unit = line.units[name]
    accepted = grant_of(line.stored_grant).accepted.get(name) if line.stored_grant else None
    line.checks.compromised.add(name)
    line.kill_unit(name)
    unit.session = max(unit.session - 1 - line.random.randrange(3), 0)
    unit.spilled = []
    line.start_unit(name)
    if unit.machine is not None and accepted is not None and accepted.session >= unit.session:
        line.checks.due.add(name)


# --- thieves of a unit's key -----------------------------------------------------------------------------------------


def _thief_signs(line: SimulatedLine, link: Link) -> None:
    """Who has the key signs whatever he likes, and the line may lose a race to him: that round is not calm."""
    line.checks.compromised.add(link.unit)
    line.checks.disturbed(BROKER, until_further_notice=line.faults.any)
    line.note(f"a thief signs as {link.unit} in session {link.session} for round {link.round}")
    raw = sign_link(link, room.signer(link.unit))
    line.checks.signed(raw)
    line.inject(raw, unit=link.unit)


def sign_two_links(line: SimulatedLine, name: str) -> None:
    """The thief signs another link for the session and round of the unit's newest one."""
    if line.units[name].published:
        newest = link_of(line.units[name].published[-1])
        _thief_signs(line, replace(newest, entries=(), prev=bytes(32) if line.random.random() < 0.5 else newest.prev))


def give_two_contents(line: SimulatedLine, name: str) -> None:
    """The thief gives the unit's newest number another content, in a link that continues the head."""
    published = [link_of(raw) for raw in line.units[name].published]
    newest = next((link for link in reversed(published) if link.entries), None)
    if newest is None or line.gateway is None:
        return
    old = newest.entries[-1]
    label = line.make_label(line.units[name])
    entry = _sealed(line, name, old.session, old.sequence, label)
    _thief_signs(line, replace(newest, round=line.gateway.round, prev=line.gateway.head, entries=(entry,)))


def sign_older_session(line: SimulatedLine, name: str) -> None:
    """The thief has an old copy of the card and signs under its session, over a grant that knows a newer one."""
    unit = line.units[name]
    if unit.session < 2 or not unit.published or line.gateway is None:
        return
    newest = link_of(unit.published[-1])
    link = replace(newest, session=unit.session - 1, round=line.gateway.round, prev=line.gateway.head, entries=())
    _thief_signs(line, link)


def _sealed(line: SimulatedLine, name: str, session: int, sequence: int, label: Label) -> Entry:
    line.checks.accounts[name].labels[session, sequence].append(label)
    return Entry(session, sequence, _sealer(line).seal(label, Place(room.ROOM, room.LINE, name, session, sequence)))


def _sealer(line: SimulatedLine) -> Sealer:
    """The gateway's opening key is in the roster, so anyone can seal."""
    return Sealer(line.roster.gateway.opening_key, line.roster.suite)


# --- strangers -------------------------------------------------------------------------------------------------------


def _flip_signature(line: SimulatedLine, captured: bytes) -> bytes:
    place = len(captured) - 1 - line.random.randrange(64)
    return captured[:place] + bytes([captured[place] ^ 1 << line.random.randrange(8)]) + captured[place + 1 :]


def _forge_at_head(line: SimulatedLine, captured: bytes) -> bytes:
    """All is as it should be but the key: a label that comes next, sealed for the gateway, at the head of the round."""
    link = link_of(captured)
    unit = line.units[link.unit]
    session, sequence = max(line.checks.accounts[link.unit].newest, (unit.session, 0))
    place = Place(link.room, link.line, link.unit, session, sequence + 1)
    label = Label(window_end_ms=0, time_source=TimeSource.UNSET, state=LabelState.OPTED_OUT)
    entry = Entry(place.session, place.sequence, _sealer(line).seal(label, place))
    if line.gateway is not None:
        link = replace(link, session=unit.session, entries=(entry,), round=line.gateway.round, prev=line.gateway.head)
    return sign_link(link, KeySigner(link.unit, room.signer("forger").private_key))


def _as(name: str) -> Callable[[SimulatedLine, bytes], bytes]:
    return lambda line, captured: sign_link(replace(link_of(captured), unit=name), room.signer(name))


#: What a stranger makes of a captured link, and what everybody must find in it.
STRANGERS: Final[dict[str, tuple[Callable[[SimulatedLine, bytes], bytes], Verdict]]] = {
    "garbage": (lambda line, captured: b"\x00" + line.random.randbytes(200), Verdict.NOT_DECODABLE),
    "oversized": (lambda line, captured: captured + bytes(line.limits.message_bytes), Verdict.TOO_LARGE),
    "forged": (lambda line, captured: forge_link(captured), Verdict.BAD_SIGNATURE),
    "forged at the head": (_forge_at_head, Verdict.BAD_SIGNATURE),
    "altered": (_flip_signature, Verdict.BAD_SIGNATURE),
    "stranger": (_as("stranger"), Verdict.UNKNOWN_SIGNER),
    "other line": (_as(room.OTHER_UNIT), Verdict.SIGNER_OF_ANOTHER_LINE),
}


def attack(line: SimulatedLine, how: str) -> None:
    """A stranger on the network sends something of his own making."""
    captured = [raw for unit in line.units.values() for raw in unit.published]
    if captured:
        make, verdict = STRANGERS[how]
        line.checks.explained.add(verdict)
        line.inject(make(line, line.random.choice(captured)))


def revoked_speaks(line: SimulatedLine, name: str) -> None:
    """A revoked unit signs a link that continues the head."""
    if line.gateway is None or not line.gateway.round:
        return
    machine = line.gateway
    line.checks.explained.add(Verdict.REVOKED)
    link = Link(room.ROOM, room.LINE, line.roster.epoch, machine.round, name, 9, (), machine.head)
    line.inject(sign_link(link, room.signer(name)), unit=name)


# --- the gateway -----------------------------------------------------------------------------------------------------


def _publish_as_gateway(line: SimulatedLine, grant: Grant) -> None:
    line.publish(GRANT_TOPIC, sign_grant(grant, room.signer(room.GATEWAY)), retain=True)


def rewrite_grant(line: SimulatedLine) -> None:
    """The gateway signs a second, different grant for the open round."""
    assert line.stored_grant is not None
    _publish_as_gateway(line, replace(grant_of(line.stored_grant), prev=line.random.randbytes(32)))


def take_back(line: SimulatedLine) -> None:
    """The gateway opens the next round and acknowledges less than before."""
    assert line.stored_grant is not None
    grant = grant_of(line.stored_grant)
    units = [unit for unit, accepted in sorted(grant.accepted.items()) if accepted.covers(1, 1)]
    if not units:
        rewrite_grant(line)
        return
    unit = line.random.choice(units)
    less = {**grant.accepted, unit: Accepted(grant.accepted[unit].session, 1, 0)}
    line.kill_gateway()
    _publish_as_gateway(line, replace(grant, round=grant.round + 1, accepted=less))


def roll_back(line: SimulatedLine) -> None:
    """An older image of the gateway's disk is put back: it opens rounds again that it had closed."""
    rounds = line.random.randrange(1, 6)
    line.kill_gateway()
    line.box.stored_grant = line.log[-rounds].grant
    del line.log[-rounds:]
    line.start_gateway()


LIES: Final[dict[str, Callable[[SimulatedLine], None]]] = {
    "rewrite": rewrite_grant,
    "take back": take_back,
    "roll back": roll_back,
}


# --- the log ---------------------------------------------------------------------------------------------------------

Log = list[ClosedRound]


def _altered(log: Log, at: int, line: SimulatedLine) -> Log:
    links = list(log[at].links)
    place = line.random.randrange(len(links))
    links[place] = _flip_signature(line, links[place])
    return [*log[:at], replace(log[at], links=tuple(links)), *log[at + 1 :]]


def _link_dropped(log: Log, at: int, line: SimulatedLine) -> Log:
    place = line.random.randrange(len(log[at].links))
    links = log[at].links[:place] + log[at].links[place + 1 :]
    return [*log[:at], replace(log[at], links=links), *log[at + 1 :]]


def _links_swapped(log: Log, at: int, line: SimulatedLine) -> Log:
    first, second, *rest = log[at].links
    return [*log[:at], replace(log[at], links=(second, first, *rest)), *log[at + 1 :]]


def _link_inserted(log: Log, at: int, line: SimulatedLine) -> Log:
    return [*log[:at], replace(log[at], links=(*log[at].links, log[at - 1].links[0])), *log[at + 1 :]]


def _grant_signed_again(log: Log, at: int, line: SimulatedLine) -> Log:
    grant = grant_of(log[at].grant)
    other = sign_grant(replace(grant, gateway_ms=grant.gateway_ms + 1), room.signer(room.GATEWAY))
    return [*log[:at], replace(log[at], grant=other), *log[at + 1 :]]


#: Ways to tamper with a closed log at one round of at least two links, between two such rounds.
TAMPERINGS: Final[dict[str, Callable[[Log, int, SimulatedLine], Log]]] = {
    "first rounds dropped": lambda log, at, line: log[at:],
    "round dropped": lambda log, at, line: [*log[:at], *log[at + 1 :]],
    "rounds reordered": lambda log, at, line: [*log[:at], log[at + 1], log[at], *log[at + 2 :]],
    "round twice": lambda log, at, line: [*log[: at + 1], *log[at:]],
    "link dropped": _link_dropped,
    "links swapped": _links_swapped,
    "link inserted": _link_inserted,
    "bit altered": _altered,
    "grant signed again": _grant_signed_again,
}
