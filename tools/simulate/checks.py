"""G1 to G8 as checks that run after every step: each keeps what it needs, and raises GuaranteeError with its name."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from device.config import LineLimits
from device.errors import VERDICTS, RemoteMessageError, Verdict
from device.line.actions import Alert, ClosedRound, Deliver, Gap, Notice, Persist
from device.line.evidence import check_proof
from device.line.log import follow_log
from device.line.verify import OpenRound, Verifier
from device.messages.envelope import ContentType, open_envelope
from device.messages.grant import NOTHING_ACCEPTED, Grant, decode_grant
from device.messages.label import Label
from device.messages.link import Entry, Link, LinkFlag, decode_link
from device.messages.roster import Roster
from device.messages.sealing import sealed_bytes
from tools.simulate.broker import DELAY_S
from tools.simulate.parties import GATEWAY, Number, SimulatedUnit

#: Seconds a unit takes to decide after a grant.
INFER_S: Final = (0.005, 0.03)
#: Rounds in which a box that was disturbed may find its place again.
SETTLING_ROUNDS: Final = 3
#: Boxes' clocks run at different rates; what they measure may differ by so much.
_RATE_SLACK: Final = 1.06
_NEVER_HONEST: Final = {verdict for verdict, row in VERDICTS.items() if not row.honest}
#: Whose failure it is when the log holds what a step of the verification refuses.
_GUARANTEE_OF_STEP: Final = {4: "G1", 5: "G1", 9: "G2"}
BROKER: Final = "broker"
NEVER: Final = float("inf")


class GuaranteeError(AssertionError):
    """A guarantee does not hold. `guarantee` is its name, G1 to G8."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {what}")
        self.guarantee = guarantee


def gateway_proof(first: Grant, second: Grant) -> str | None:
    """Why two authentic grants of one gateway exclude each other, or None: two for one round, or a later one that
    acknowledges less."""
    if first.round == second.round:
        return None if first == second else f"two grants for round {first.round}"
    older, newer = sorted((first, second), key=lambda grant: grant.round)
    for unit, before in older.accepted.items():
        after = newer.accepted.get(unit, NOTHING_ACCEPTED)
        if after.session < before.session or not after.covers(before.entry_session, before.sequence):
            return f"grant {newer.round} takes back what grant {older.round} acknowledged of {unit}"
    return None


@dataclass
class Account:
    """What became of one unit's labels. `open` are those that no grant has covered, oldest first."""

    labels: dict[Number, list[Label]] = field(default_factory=lambda: defaultdict(list))
    sealed: dict[Number, bytes] = field(default_factory=dict)
    given_at: dict[Number, float] = field(default_factory=dict)
    logged: dict[Number, int] = field(default_factory=dict)
    open: deque[Number] = field(default_factory=deque)
    acknowledged: set[Number] = field(default_factory=set)
    lost: set[Number] = field(default_factory=set)
    overflowed: set[Number] = field(default_factory=set)
    told: set[Number] = field(default_factory=set)
    delivered: dict[Number, Label] = field(default_factory=dict)
    newest: Number = (0, 0)


class Checks:
    """Watches one room. The room calls it at every step; `finish` says whether everything came home."""

    def __init__(self, roster: Roster, line: str, limits: LineLimits) -> None:
        self.now = 0.0
        self.roster = roster
        self.limits = limits
        self.verifier = Verifier(roster, line, limits)
        self.accounts = {unit.unit: Account() for unit in roster.lines[line]}
        self.listened = {unit.unit for unit in roster.units_of(line)}
        self.expected: dict[str, dict[Number, None]] = {}
        self.compromised: set[str] = set()
        self.noticed: set[str] = set()
        self.proved: set[str] = set()
        self.due: set[str] = set()
        self.explained: set[Verdict] = set()
        self.gateway_lies = False
        self.anyone_may_cheat = False
        self.disturbed_at: dict[str, float] = dict.fromkeys((GATEWAY, *self.listened), NEVER)
        self.infer_s = INFER_S[1]
        self.rounds = 0
        self._size = sealed_bytes(roster.suite)
        self._feed: deque[ClosedRound] = deque()
        self._follower = follow_log(self._closed_rounds(), roster=roster, line=line, limits=limits)
        #: Units that died while the network held messages of theirs.
        self.late_echoes: set[str] = set()
        self._signed: dict[bytes, Link] = {}
        self._heard: dict[tuple[str, int, int], bytes] = {}
        self._heard_links: dict[str, list[Link]] = {}
        self._stored_grant: bytes | None = None
        self._open_grant: Grant | None = None
        self._opened_at = 0.0

    # --- what happens in the room ------------------------------------------------------------------------------------

    def disturbed(self, box: str, *, until_further_notice: bool = False) -> None:
        """A box, or the broker, is not left in peace: liveness is not asked of it for a while."""
        self.disturbed_at[box] = NEVER if until_further_notice else self.now

    def steady(self, box: str, since: float) -> bool:
        """Whether a box has been left in peace since a moment."""
        return self.disturbed_at.get(box, 0.0) <= since

    def pushed(self, box: SimulatedUnit, label: Label, entry: Entry) -> None:
        """A unit sealed and kept a label."""
        number = (entry.session, entry.sequence)
        self.expected[box.box][number] = None
        account = self.accounts[box.name]
        account.labels[number].append(label)
        if box.name in self.compromised:
            return
        if number in account.sealed:
            raise GuaranteeError("G2", f"{box.name} used number {number} twice")
        account.sealed[number] = entry.sealed
        account.given_at[number] = self.now
        account.open.append(number)
        if len(entry.sealed) != self._size:
            raise GuaranteeError("G4", f"a sealed label of {len(entry.sealed)} bytes")

    def started(self, box: SimulatedUnit) -> None:
        """A unit starts, with what its disk had kept."""
        self.expected[box.box] = {(entry.session, entry.sequence): None for entry in box.waiting()}

    def died(self, box: SimulatedUnit) -> None:
        """A unit is gone. What was in memory only is lost, and that is documented."""
        spilled = {(entry.session, entry.sequence) for entry in box.spilled}
        self.accounts[box.name].lost |= self.expected[box.box].keys() - spilled

    def overflowed(self, box: SimulatedUnit, entry: Entry) -> None:
        """The outbox was full."""
        number = (entry.session, entry.sequence)
        self.accounts[box.name].lost.add(number)
        self.accounts[box.name].overflowed.add(number)
        del self.expected[box.box][number]

    def acknowledged(self, box: SimulatedUnit, entries: tuple[Entry, ...]) -> None:
        """G6: what leaves an outbox is in the durable log."""
        account = self.accounts[box.name]
        for entry in entries:
            number = (entry.session, entry.sequence)
            del self.expected[box.box][number]
            if (
                number in account.overflowed
            ):  # Its disk may bring back what the outbox had dropped, and a gap covers it.
                continue
            if not self.gateway_lies and box.name not in self.compromised and number not in account.logged:
                raise GuaranteeError("G6", f"{box.name} let go of {number}, which is not in the durable log")
            account.acknowledged.add(number)

    def after_unit(self, box: SimulatedUnit) -> None:
        """G6: nothing left the outbox but by a grant, an overflow, or a power cut."""
        if box.backlog != len(self.expected[box.box]):
            gone = self.expected[box.box].keys() - {(entry.session, entry.sequence) for entry in box.waiting()}
            raise GuaranteeError("G6", f"{sorted(gone)} left the outbox of {box.box} without a grant")

    def signed(self, raw: bytes) -> Link:
        """Whoever has the key signed a link."""
        link = self._signed[raw] = decode_link(open_envelope(raw, wanted=ContentType.LINK))
        return link

    def link_published(self, box: SimulatedUnit, raw: bytes) -> None:
        """G4: a link is as long as its numbers make it, and its flags say nothing of the desk."""
        link = self.signed(raw)
        if {len(entry.sealed) for entry in link.entries} - {self._size}:
            raise GuaranteeError("G4", f"{box.box} published entries of different sizes")
        waiting = [(entry.session, entry.sequence) for entry in box.waiting()]
        numbers = [(entry.session, entry.sequence) for entry in link.entries]
        if numbers != waiting[: self.limits.entries_per_link]:
            raise GuaranteeError("G4", f"{box.box} published {numbers} while {waiting} were waiting")
        more = len(waiting) > len(numbers)
        if link.flags & ~LinkFlag.SESSION_KNOWN != (LinkFlag.MORE_BACKLOG if more else LinkFlag.NONE):
            raise GuaranteeError("G4", f"{box.box} published flags {link.flags!r} with {len(waiting)} labels waiting")

    # --- gateway -----------------------------------------------------------------------------------------------------

    def gateway_started(self) -> None:
        """A gateway starts from its disk: what it had delivered and not stored may come a second time."""
        self._heard.clear()
        self._heard_links.clear()
        for account in self.accounts.values():
            account.newest = max(account.logged, default=(0, 0))

    def grant_published(self, raw: bytes) -> None:
        """G6: a grant acknowledges nothing before it is stored."""
        if raw != self._stored_grant and not self.gateway_lies:
            raise GuaranteeError("G6", "a grant was published before it was stored")

    def delivered(self, news: Deliver) -> None:
        """G1: given by that unit. G2: numbers run upwards, and a second time means the same content."""
        number = (news.session, news.sequence)
        if news.unit not in self.listened:
            raise GuaranteeError("G1", f"a label of {news.unit}, which is not on the line or was revoked")
        account = self.accounts[news.unit]
        if news.label not in account.labels.get(number, []):
            raise GuaranteeError("G1", f"{news.unit} never gave label {number}")
        if number <= account.newest:
            raise GuaranteeError("G2", f"{news.unit} {number} was delivered after {account.newest}")
        if account.delivered.get(number, news.label) != news.label and news.unit not in self.compromised:
            raise GuaranteeError("G2", f"{news.unit} {number} was delivered with two contents")
        account.newest = number
        account.delivered[number] = news.label
        self._g7_delay(news, account)

    def gap(self, gap: Gap) -> None:
        """G2: only numbers that will never come are told as a gap."""
        account = self.accounts[gap.unit]
        numbers = {(gap.session, number) for number in range(gap.first, gap.last + 1)}
        account.told |= numbers
        if gap.unit in self.compromised:
            return
        coming = numbers & (account.logged.keys() | set(account.open)) - account.lost
        if coming or gap.first > gap.last:
            raise GuaranteeError("G2", f"gap {gap.session}/{gap.first}-{gap.last} of {gap.unit} holds {coming}")

    def persisted(self, stored: Persist) -> None:
        """A round is closed and on the medium: G2, G3, G6 and G7 over it."""
        grant = decode_grant(open_envelope(stored.next_grant, wanted=ContentType.GRANT))
        if stored.closed is not None and not self.gateway_lies:
            self._g3_follow(stored.closed)
        if not self.gateway_lies:
            self._g6_acknowledges(grant)
        self._stored_grant = stored.next_grant
        self._open_grant = grant
        self._opened_at = self.now

    def _closed_rounds(self) -> Iterator[ClosedRound]:
        while True:
            yield self._feed.popleft()

    def _g3_follow(self, closed: ClosedRound) -> None:
        self._feed.append(closed)
        try:
            view = next(self._follower)
        except RemoteMessageError as error:
            raise GuaranteeError(
                _GUARANTEE_OF_STEP.get(error.step, "G3"), f"the log does not verify: {error}"
            ) from error
        self.rounds += 1
        for link in view.links.values():
            account = self.accounts[link.body.unit]
            for entry in link.body.entries:
                number = (entry.session, entry.sequence)
                if number in account.logged:
                    raise GuaranteeError("G2", f"{link.body.unit} {number} is in the log twice")
                if account.sealed.get(number, entry.sealed) != entry.sealed and link.body.unit not in self.compromised:
                    raise GuaranteeError("G1", f"{link.body.unit} never sealed what the log holds as {number}")
                account.logged[number] = view.grant.body.round
        self._g7_round(view)

    def _g6_acknowledges(self, grant: Grant) -> None:
        for unit, accepted in grant.accepted.items():
            account = self.accounts[unit]
            while account.open and accepted.covers(*account.open[0]):
                number = account.open.popleft()
                if number not in account.logged and number not in account.lost and unit not in self.compromised:
                    raise GuaranteeError("G6", f"{unit} {number} is acknowledged and not in the log")

    # --- liveness ----------------------------------------------------------------------------------------------------

    def _calm_since(self, opened: float) -> bool:
        settled = opened - SETTLING_ROUNDS * self.limits.round_period_ms / 1_000
        return self.steady(GATEWAY, settled) and self.steady(BROKER, settled)

    def _g7_round(self, view: OpenRound) -> None:
        """G7: rounds go on at their pace, and every unit that is left in peace signs in each of them."""
        period = self.limits.round_period_ms / 1_000
        opened = self._opened_at
        if opened <= 0.0 or not self._calm_since(opened):
            return
        if self.now - opened > period * _RATE_SLACK:
            raise GuaranteeError("G7", f"round {view.grant.body.round} took {self.now - opened:.3f} s")
        absent = sum(unit not in view.links for unit in view.grant.body.order)
        if self._worst_delay(len(view.grant.body.order), absent) > view.grant.body.deadline_ms / 1_000:
            return
        settled = opened - SETTLING_ROUNDS * period
        for unit in sorted(self.listened - view.links.keys() - self.compromised):
            if self.steady(unit, settled):
                raise GuaranteeError("G7", f"{unit} was left in peace and has no link in round {view.grant.body.round}")

    def _worst_delay(self, units: int, absent: int) -> float:
        """Seconds from the grant's arrival until a link arrives: one hop time-out for each absent unit, and twice the
        way between two boxes for each unit that signs."""
        hop = self.limits.hop_timeout_ms / 1_000
        return self.infer_s + (absent * hop + (units + 2) * 2 * DELAY_S[1]) * _RATE_SLACK

    def _g7_delay(self, news: Deliver, account: Account) -> None:
        """G7: a label that was given in a calm round is delayed by one hop time-out for each absent unit at most."""
        given = account.given_at.get((news.session, news.sequence))
        if given is None or given < self._opened_at or self._open_grant is None:
            return
        if not self._calm_since(self._opened_at):
            return
        settled = self._opened_at - SETTLING_ROUNDS * self.limits.round_period_ms / 1_000
        order = self._open_grant.order
        absent = sum(unit in self.compromised or not self.steady(unit, settled) for unit in order)
        if not self.steady(news.unit, settled):
            return
        worst = self._worst_delay(len(order), absent)
        if self.now - given > worst:
            text = f"a label of {news.unit} took {self.now - given:.3f} s with {absent} absent, not {worst:.3f}"
            raise GuaranteeError("G7", text)

    # --- accusations -------------------------------------------------------------------------------------------------

    def alert(self, box: str, alert: Alert) -> None:
        """G5 and G8: whoever is accused did it, and a proof proves it to anyone."""
        if self.anyone_may_cheat:
            if alert.code in (Verdict.EQUIVOCATION, Notice.ENROL_ANEW):
                self.compromised.add(alert.peer)
            return
        if alert.code is Verdict.EQUIVOCATION or alert.code is Notice.ENROL_ANEW:
            self._g5_accused(alert)
        elif alert.code in (Verdict.GRANT_REWRITTEN, Verdict.ACKNOWLEDGEMENT_WITHDRAWN):
            self._g8_accused(box, alert)
        elif alert.code is Verdict.REPLAYED and alert.peer == box and box in self.late_echoes:
            return
        elif alert.peer not in self.compromised and alert.code in _NEVER_HONEST - self.explained:
            raise GuaranteeError("G5", f"{box} accuses {alert.peer} of {alert.code}, and nobody did: {alert.text}")

    def gateway_hears(self, raw: bytes, head: bytes, round_: int) -> str | None:
        """G5: the unit that must be proved a cheat as soon as the gateway has dealt with this message, if any.

        An oracle of its own: it knows from the room who signed what and who cheats, and keeps what the gateway heard in
        its present life.
        """
        link = self._signed.get(raw)
        if link is None or not 0 <= round_ - link.round <= self.limits.rounds_in_memory:
            return None
        contents: list[tuple[tuple[str, int, int], bytes]] = [((f"{link.unit} link", link.session, link.round), raw)]
        contents += [((f"{link.unit} entry", entry.session, entry.sequence), entry.sealed) for entry in link.entries]
        twofold = [self._heard.setdefault(place, content) != content for place, content in contents]
        heard = self._heard_links.setdefault(link.unit, [])
        backwards = any(_backwards(link, other) or _backwards(other, link) for other in heard)
        heard.append(link)
        current = link.round == round_ and link.prev == head
        return link.unit if link.unit in self.compromised and (any(twofold) or (backwards and current)) else None

    def must_be_proved(self, unit: str | None) -> None:
        """G5: the gateway holds a proof against that unit by now."""
        if unit is not None and unit not in self.proved:
            raise GuaranteeError("G5", f"{unit} contradicted itself before the gateway, and nothing was proved")

    def _g5_accused(self, alert: Alert) -> None:
        if alert.peer not in self.compromised:
            raise GuaranteeError("G5", f"{alert.peer} is honest and is accused: {alert.text}")
        self.noticed.add(alert.peer)
        if alert.code is Verdict.EQUIVOCATION:
            first, second = alert.proof
            try:
                check_proof((first, second), self.verifier)
            except RemoteMessageError as error:
                raise GuaranteeError("G5", f"the proof against {alert.peer} proves nothing: {error.what}") from error
            self.proved.add(alert.peer)

    def _g8_accused(self, box: str, alert: Alert) -> None:
        if not self.gateway_lies:
            raise GuaranteeError("G8", f"{box} accuses an honest gateway: {alert.text}")
        first, second = (self.verifier.grant(raw).body for raw in alert.proof)
        if gateway_proof(first, second) is None:
            raise GuaranteeError("G8", f"the proof of {box} against the gateway proves nothing")

    # --- the end -----------------------------------------------------------------------------------------------------

    def finish(self, boxes: dict[str, SimulatedUnit]) -> None:
        """G2 and G6 over everything that was ever given."""
        for box in boxes.values():
            if box.name in self.compromised:
                continue
            account = self.accounts[box.name]
            kept = {(entry.session, entry.sequence) for entry in (*box.waiting(), *box.spilled)}
            nowhere = account.labels.keys() - account.logged.keys() - kept - account.lost
            if nowhere:
                raise GuaranteeError("G6", f"{box.name} gave {sorted(nowhere)}, which are nowhere")
            self._g2_gaps(box.name, account)

    def _g2_gaps(self, name: str, account: Account) -> None:
        """Every number that the log passes over was told as a gap, and no other."""
        newest: dict[int, int] = {}
        for session, sequence in account.logged:
            newest[session] = max(newest.get(session, 0), sequence)
        missing = {(s, n) for s, last in newest.items() for n in range(1, last)} - account.logged.keys()
        if missing != {number for number in account.told if number[1] < newest.get(number[0], 0)}:
            raise GuaranteeError("G2", f"{name}: {sorted(missing)} are missing, {sorted(account.told)} were told")

    def all_noticed(self) -> None:
        """G5: every copied or restored box was noticed, by the box itself or by a proof."""
        if self.due - self.noticed:
            raise GuaranteeError("G5", f"{sorted(self.due - self.noticed)} run twice or again, and nobody noticed")

    def drained(self, boxes: dict[str, SimulatedUnit], away: set[str]) -> None:
        """G7: after all faults have ended, no unit that is there has a backlog."""
        for box in boxes.values():
            if box.box in away or box.name in self.compromised or box.name not in self.listened:
                continue
            if box.backlog > 2:
                raise GuaranteeError("G7", f"{box.box} still has {box.backlog} labels in its outbox")


def _backwards(low: Link, high: Link) -> bool:
    """A lower session in the round of a higher one whose grant knew it, or in a later round (ADR 5)."""
    return low.session < high.session and low.round >= high.round and bool(high.flags & LinkFlag.SESSION_KNOWN)
