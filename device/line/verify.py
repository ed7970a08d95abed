"""The verification procedure: ten numbered steps, the same on a unit, in the gateway and in the offline verifier.

Bytes go in; a verified object comes out, or RemoteMessageError with a verdict of the closed list, and nothing else,
whatever the bytes. `Verifier` does steps 1 to 5 (is this authentic?), `follow_link` and `follow_grant` steps 6 to 9
(does it continue the chain?), `step_10_open` and `step_10_time` step 10 (the gateway alone). Every verdict stands in
docs/verdicts.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from device.clock import TimeSource
from device.config import LineLimits
from device.errors import ConfigError, RemoteMessageError, Verdict
from device.messages.envelope import ContentType, Envelope, check_signature, open_envelope
from device.messages.grant import NOTHING_ACCEPTED, Accepted, Grant, decode_grant
from device.messages.label import Label
from device.messages.link import Entry, Link, decode_link
from device.messages.roster import Roster, SealingSuite
from device.messages.sealing import Opener, Place, sealed_bytes

#: At most so many bytes of an entry are not sealed, and of a link are not entries.
_ENTRY_BYTES: Final = 22
_LINK_BYTES: Final = 512


@dataclass(frozen=True)
class SignedLink:
    """An authentic link: its content, the bytes as received and their digest."""

    body: Link
    raw: bytes
    digest: bytes


@dataclass(frozen=True)
class SignedGrant:
    """An authentic grant: its content, the bytes as received and their digest."""

    body: Grant
    raw: bytes
    digest: bytes


@dataclass
class OpenRound:
    """A round as one party has followed it: grant, accepted links in chain order, head and acknowledgements so far.

    `objects` are the digests of every authentic object of the round, also of links that lost a race.
    """

    grant: SignedGrant
    head: bytes = b""
    links: dict[str, SignedLink] = field(default_factory=dict)
    accepted: dict[str, Accepted] = field(default_factory=dict)
    objects: set[bytes] = field(default_factory=set)
    quarantined: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.head = self.grant.digest
        self.accepted = dict(self.grant.body.accepted)
        self.objects = {self.grant.digest}

    def remember(self, link: SignedLink) -> None:
        """Note an authentic link of this round that was refused, so that it is known when it comes again."""
        if link.body.round == self.grant.body.round:
            self.objects.add(link.digest)

    def extend(self, link: SignedLink) -> None:
        """Take a link that `follow_link` let pass as the new head."""
        self.links[link.body.unit] = link
        self.head = link.digest
        self.objects.add(link.digest)
        before = self.accepted.get(link.body.unit, NOTHING_ACCEPTED)
        newest = link.body.entries[-1] if link.body.entries else Entry(before.entry_session, before.sequence, b"")
        self.accepted[link.body.unit] = Accepted(link.body.session, newest.session, newest.sequence)


class Verifier:
    """Steps 1 to 5 for one line, under one roster. Raises ConfigError for a line longer than the limits allow, or when
    a full link would be larger than a message may be."""

    def __init__(self, roster: Roster, line: str, limits: LineLimits) -> None:
        count = len(roster.lines.get(line, ()))
        if count > limits.units_per_line:
            raise ConfigError(
                f"Line {line} has {count} units on the roster; the limit `units_per_line` is {limits.units_per_line}.",
                next_step="Split the line, or raise the limit on every box of the room.",
            )
        fullest = limits.entries_per_link * (sealed_bytes(roster.suite) + _ENTRY_BYTES) + _LINK_BYTES
        if fullest > limits.message_bytes:
            raise ConfigError(
                f"A link of {limits.entries_per_link} entries in suite {roster.suite:d} has up to {fullest} bytes;"
                f" the limit `message_bytes` is {limits.message_bytes}.",
                next_step="Lower `entries_per_link` or raise `message_bytes`, on every box of the room.",
            )
        self._roster = roster
        self._line = line
        self._limits = limits
        self._keys = {unit.unit: unit.key for unit in roster.lines.get(line, ())}

    def link(self, raw: bytes) -> SignedLink:
        """An authentic link of this line. Raises RemoteMessageError with a verdict of steps 1 to 5."""
        step_1_size(raw, self._limits)
        body, envelope = step_2_link(raw)
        step_3_place(body, self._roster, self._line, envelope)
        key = self.step_4_unit(body, envelope)
        step_5_signature(envelope, key, self._roster.room, self._line)
        return SignedLink(body, raw, envelope.digest)

    def grant(self, raw: bytes) -> SignedGrant:
        """An authentic grant of this line. Raises RemoteMessageError with a verdict of steps 1 to 5."""
        step_1_size(raw, self._limits)
        body, envelope = step_2_grant(raw)
        step_3_place(body, self._roster, self._line, envelope)
        key = self.step_4_gateway(envelope)
        step_5_signature(envelope, key, self._roster.room, self._line)
        return SignedGrant(body, raw, envelope.digest)

    def step_4_unit(self, body: Link, envelope: Envelope) -> bytes:
        """4: the signer is the unit it names, on the roster, on this line, not revoked. Returns its key."""
        signer = envelope.key_id
        key = self._keys.get(signer)
        if key is None and self._roster.line_of(signer) is not None:
            raise _refuse(Verdict.SIGNER_OF_ANOTHER_LINE, envelope, f"{signer} is not of line {self._line}.")
        if key is None or body.unit != signer:
            raise _refuse(Verdict.UNKNOWN_SIGNER, envelope, f"{signer} is not on the roster, or signs for another.")
        if signer in self._roster.revoked:
            raise _refuse(Verdict.REVOKED, envelope, f"{signer} was revoked.")
        return key

    def step_4_gateway(self, envelope: Envelope) -> bytes:
        """4: the signer is the room's gateway. Returns its key."""
        gateway = self._roster.gateway
        if envelope.key_id != gateway.gateway:
            raise _refuse(Verdict.UNKNOWN_SIGNER, envelope, f"{envelope.key_id} is not the gateway of the room.")
        return gateway.key


def _refuse(verdict: Verdict, envelope: Envelope, what: str) -> RemoteMessageError:
    return RemoteMessageError(verdict, what, peer=envelope.key_id)


def step_1_size(raw: bytes, limits: LineLimits) -> None:
    """1: the size, before anything is decoded."""
    if len(raw) > limits.message_bytes:
        raise RemoteMessageError(
            Verdict.TOO_LARGE, f"A message of {len(raw)} bytes; the line allows {limits.message_bytes}."
        )


def step_2_link(raw: bytes) -> tuple[Link, Envelope]:
    """2: a link of a known version, in its deterministic form."""
    envelope = open_envelope(raw, wanted=ContentType.LINK)
    return decode_link(envelope), envelope


def step_2_grant(raw: bytes) -> tuple[Grant, Envelope]:
    """2: a grant of a known version, in its deterministic form."""
    envelope = open_envelope(raw, wanted=ContentType.GRANT)
    return decode_grant(envelope), envelope


def step_3_place(body: Link | Grant, roster: Roster, line: str, envelope: Envelope) -> None:
    """3: room, line and epoch are ours."""
    if body.room != roster.room:
        raise _refuse(Verdict.WRONG_ROOM, envelope, "A message of another room.")
    if body.line != line:
        raise _refuse(Verdict.WRONG_LINE, envelope, "A message of another line.")
    if body.epoch < roster.epoch:
        raise _refuse(Verdict.STALE_EPOCH, envelope, f"Epoch {body.epoch}; the roster here has {roster.epoch}.")
    if body.epoch > roster.epoch:
        raise _refuse(Verdict.UNKNOWN_EPOCH, envelope, f"Epoch {body.epoch}; the roster here has {roster.epoch}.")


def step_5_signature(envelope: Envelope, key: bytes, room: str, line: str) -> None:
    """5: the signature, over the received bytes."""
    check_signature(envelope, key, room=room, line=line)


def follow_link(link: SignedLink, view: OpenRound, limits: LineLimits, suite: SealingSuite) -> None:
    """Steps 6 to 9 for a link that is authentic. Raises RemoteMessageError; `view.extend` may follow if it does not."""
    step_6_round(link, view)
    step_7_previous(link, view)
    step_8_session(link, view)
    step_9_entries(link, view, limits, sealed_bytes(suite))


def step_6_round(link: SignedLink, view: OpenRound) -> None:
    """6: the round is the one that the grant opened."""
    body, granted = link.body, view.grant.body.round
    if body.round < granted:
        raise RemoteMessageError(
            Verdict.STALE_ROUND, f"A link for round {body.round}; round {granted} is open.", peer=body.unit
        )
    if body.round > granted:
        raise RemoteMessageError(
            Verdict.UNGRANTED_ROUND, f"A link for round {body.round}; round {granted} is open.", peer=body.unit
        )


def step_7_previous(link: SignedLink, view: OpenRound) -> None:
    """7: the link continues the head. A link on an earlier object of the round lost a race."""
    body = link.body
    if body.prev == view.head:
        return
    if body.prev in view.objects:
        raise RemoteMessageError(Verdict.LOST_RACE, f"Round {body.round} has moved on.", peer=body.unit)
    raise RemoteMessageError(
        Verdict.WRONG_PREVIOUS, f"The link continues something that round {body.round} does not hold.", peer=body.unit
    )


def step_8_session(link: SignedLink, view: OpenRound) -> None:
    """8: the session is not below the accepted one, and the unit has no other link in this round."""
    body = link.body
    accepted = view.accepted.get(body.unit, NOTHING_ACCEPTED)
    if body.unit in view.quarantined:
        raise RemoteMessageError(Verdict.QUARANTINED, f"{body.unit} equivocated.", peer=body.unit)
    if body.session < accepted.session or body.session == 0:
        raise RemoteMessageError(
            Verdict.STALE_SESSION, f"Session {body.session}; {accepted.session} was used already.", peer=body.unit
        )
    if body.unit in view.links:
        raise RemoteMessageError(
            Verdict.SECOND_LINK_IN_ROUND, f"{body.unit} already signed in round {body.round}.", peer=body.unit
        )


def step_9_entries(link: SignedLink, view: OpenRound, limits: LineLimits, size: int) -> None:
    """9: number of entries, size of each, and numbers that run upwards from what is accepted."""
    body = link.body
    if len(body.entries) > limits.entries_per_link:
        raise RemoteMessageError(
            Verdict.TOO_MANY_ENTRIES,
            f"{len(body.entries)} entries; a link holds at most {limits.entries_per_link}.",
            peer=body.unit,
        )
    accepted = view.accepted.get(body.unit, NOTHING_ACCEPTED)
    before = (accepted.entry_session, accepted.sequence)
    for entry in body.entries:
        number = (entry.session, entry.sequence)
        if number <= before or entry.session > body.session:
            raise RemoteMessageError(
                Verdict.SEQUENCE_DISORDER,
                f"Entry {entry.session}/{entry.sequence} after {before[0]}/{before[1]}.",
                peer=body.unit,
            )
        if len(entry.sealed) != size:
            raise RemoteMessageError(
                Verdict.WRONG_SEALED_SIZE, f"A sealed entry of {len(entry.sealed)} bytes, not {size}.", peer=body.unit
            )
        before = number


def follow_grant(grant: SignedGrant, newest: SignedGrant, remembered: Mapping[int, SignedGrant]) -> None:
    """Steps 6 and 8 for an authentic grant that differs from all `remembered` ones (by round).

    Step 7 is the unit's own: it compares `prev` with what it has seen, and says so without refusing the grant, because
    a unit may have missed a link. Raises RemoteMessageError STALE_ROUND, GRANT_REWRITTEN, ACKNOWLEDGEMENT_WITHDRAWN.
    """
    step_6_grant_round(grant, newest, remembered)
    step_8_acknowledgements(grant, newest)


def step_6_grant_round(grant: SignedGrant, newest: SignedGrant, remembered: Mapping[int, SignedGrant]) -> None:
    """6: a grant opens a newer round, and no round twice."""
    body, gateway = grant.body, "gateway"
    if body.round in remembered:
        raise RemoteMessageError(
            Verdict.GRANT_REWRITTEN, f"A second, different grant for round {body.round}.", peer=gateway
        )
    if body.round <= newest.body.round:
        raise RemoteMessageError(
            Verdict.STALE_ROUND, f"A grant for round {body.round} after one for {newest.body.round}.", peer=gateway
        )


def step_8_acknowledgements(grant: SignedGrant, newest: SignedGrant) -> None:
    """8: a grant takes back nothing that the newest one acknowledged."""
    body, gateway = grant.body, "gateway"
    for unit, before in newest.body.accepted.items():
        after = body.accepted.get(unit, NOTHING_ACCEPTED)
        if after.session < before.session or not after.covers(before.entry_session, before.sequence):
            raise RemoteMessageError(
                Verdict.ACKNOWLEDGEMENT_WITHDRAWN,
                f"Grant {body.round} acknowledges less of {unit} than grant {newest.body.round} did.",
                peer=gateway,
            )


def step_10_open(opener: Opener, link: Link, entry: Entry) -> Label:
    """10 (the gateway alone): the sealed entry opens at its place and is a label. Raises RemoteMessageError
    NOT_OPENABLE or BAD_LABEL."""
    return opener.open(entry.sealed, Place(link.room, link.line, link.unit, entry.session, entry.sequence))


def step_10_time(label: Label, wall_ms: int, limits: LineLimits) -> bool:
    """10: whether a label's time can be. Times are claims, so this annotates and refuses nothing: numbers decide order.

    A unit without a clock claims nothing. Otherwise the window may have ended as long ago as a full backlog reaches,
    and not further ahead than the clock tolerance.
    """
    if label.time_source is TimeSource.UNSET:
        return True
    oldest = wall_ms - limits.clock_tolerance_ms - limits.backlog_entries * limits.round_period_ms
    return oldest <= label.window_end_ms <= wall_ms + limits.clock_tolerance_ms
