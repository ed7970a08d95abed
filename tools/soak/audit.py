"""After a soak run: the gateway's store, the wire and the units' own logs side by side, and what must hold of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from device.errors import RemoteMessageError
from device.gateway.documents import AlertDocument, LabelDocument
from device.gateway.store import LabelReader, Store
from device.gateway.wiring import STORE_FILE
from device.line.actions import ClosedRound
from device.line.log import follow_log
from device.line.verify import OpenRound, step_2_grant
from device.messages.grant import Grant
from device.messages.link import Link
from tools.soak.report import Check, Figure, at_most, count
from tools.soak.room import NORMAL_BACKLOG, Life, Number, SoakRoom

ALL: Final = 10_000_000
#: Beyond the seconds that may pass until a label is on the disk: the label of the moment, and one of a slow tick.
LABELS_OF_THE_MOMENT: Final = 2
#: Share of the links that the listener must have heard; it misses some when the broker is killed.
HEARD: Final = 0.8

#: (unit, session, sequence): a label's name for ever.
Name = tuple[str, int, int]


@dataclass(frozen=True)
class Record:
    """What the gateway kept: closed rounds, every grant with the open one, labels by name, and alerts."""

    rounds: list[ClosedRound]
    views: list[OpenRound]
    broken: str
    grants: list[Grant]
    labels: dict[Name, LabelDocument]
    alerts: list[AlertDocument]

    def links(self) -> Iterator[Link]:
        """Accepted links in the order of the chain."""
        for view in self.views:
            for link in view.links.values():
                yield link.body

    def stored(self) -> dict[str, dict[int, list[int]]]:
        """Unit → session → stored sequence numbers, in order."""
        found: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for unit, session, sequence in sorted(self.labels):
            found[unit][session].append(sequence)
        return found


def read_record(room: SoakRoom) -> Record:
    """Read the store of a gateway that has stopped, and verify its log. Raises StorageError."""
    path = room.gateway_config.state / STORE_FILE
    line, limits = room.room.plan.line, room.gateway_config.limits
    with closing(Store(path)) as store:
        rounds = store.rounds(line, limit=ALL)
        open_grant = store.open_grant(line)
        alerts = store.newest_alerts(ALL)
    reader = LabelReader(path)
    labels = [label for unit in room.units for label in reader.since(unit, 0, limit=ALL)]
    views: list[OpenRound] = []
    broken = ""
    try:
        views.extend(follow_log(rounds, roster=room.roster, line=line, limits=limits))
    except RemoteMessageError as error:
        broken = f"{error.verdict.value}: {error.what}"
    raw_grants = [closed.grant for closed in rounds] + ([open_grant] if open_grant else [])
    return Record(
        rounds=rounds,
        views=views,
        broken=broken,
        grants=[step_2_grant(raw)[0] for raw in raw_grants],
        labels={(label.unit, label.session, label.sequence): label for label in labels},
        alerts=alerts,
    )


def check_record(room: SoakRoom, record: Record) -> list[Check]:
    """What must hold of any run: see the names of the checks."""
    links = list(record.links())
    entries = Counter((link.unit, entry.session, entry.sequence) for link in links for entry in link.entries)
    stored = record.stored()
    return [
        Check(
            name="the gateway's log verifies from its first round to its last (device.line.log)",
            found=record.broken or f"{len(record.views)} rounds, {len(links)} links",
            wanted="no finding",
            passed=not record.broken and len(record.views) > 0,
        ),
        _check_heard(room, links),
        count("labels that stand in the log twice", [name for name, times in entries.items() if times > 1]),
        count("labels in the log but not in the store, or the reverse", entries.keys() ^ record.labels.keys()),
        count("labels that a grant acknowledged and that are not stored", acknowledged(record) - record.labels.keys()),
        count("holes in the stored numbers of a session", holes(stored)),
        count("numbers that were seen with two contents, in the log or on the wire", two_contents(room, links)),
        count("sessions that did not rise, from start to start", falling_sessions(room.lives)),
        count("links on the wire whose session was below one before", falling_links(room.heard.links)),
        count("labels that lay on a unit's disk when it was killed and are not stored", undelivered(room, record)),
        count("alerts that call an honest unit a cheat", sum(alert.severity == "refused" for alert in record.alerts)),
    ]


def check_delivered(delivered: bool, seconds: float) -> Check:
    """Whether, with everything running again, all that waited came through in so many seconds."""
    return Check(
        name="everything that waited was delivered in the end, and every disk emptied",
        found="yes" if delivered else "no",
        wanted=f"within {seconds:.0f} s",
        passed=delivered,
    )


def _check_heard(room: SoakRoom, links: Sequence[Link]) -> Check:
    """Whether the listener on the wire listened: else what it did not see would prove nothing."""
    heard = {(link.unit, link.session, link.round) for link in room.heard.links}
    in_log = {(link.unit, link.session, link.round) for link in links}
    share = len(heard & in_log) / max(len(in_log), 1)
    return Check(
        name="links of the log that were heard on the wire, too",
        found=f"{share:.1%} of {len(in_log)}, and {len(heard - in_log)} others",
        wanted=f"at least {HEARD:.0%}",
        passed=share >= HEARD,
    )


def check_losses(room: SoakRoom, record: Record) -> tuple[list[Check], list[Figure]]:
    """What was lost with a unit's memory: the tail of a killed session, and no more than the documented seconds."""
    limits = room.gateway_config.limits
    labels_a_second = 1_000 / limits.round_period_ms
    bound = limits.spill_after_ms / 1_000 * labels_a_second + LABELS_OF_THE_MOMENT
    stored = record.stored()
    lost: dict[bool, list[int]] = {True: [], False: []}
    unkilled = 0
    made = 0
    for life in room.lives:
        numbers = stored.get(life.unit, {}).get(life.session, [])
        on_disk = {number for session, number in life.spilled if session == life.session and not life.killed}
        missing = max(life.made - len(on_disk.union(numbers)), 0)
        made += max(life.made, len(numbers))
        if not life.killed:
            unkilled += missing
        elif life.session:
            lost[life.undisturbed].append(missing)
    both = lost[True] + lost[False]
    checks = [
        at_most("labels lost with one kill -9, largest", max(both, default=0), bound, "labels"),
        at_most("the same in normal work", max(lost[True], default=0), NORMAL_BACKLOG, "labels"),
        count("labels of units that were stopped, neither stored nor on their disks", unkilled),
    ]
    figures = [
        Figure(name="labels made", value=made, unit="labels"),
        Figure(name="labels stored", value=len(record.labels), unit="labels"),
        Figure(name="lost with memory in all", value=sum(both), unit="labels"),
        *_losses("in normal work", lost[True]),
        *_losses("while gateway or broker was away, or just back", lost[False]),
    ]
    return checks, figures


def _losses(when: str, lost: Sequence[int]) -> list[Figure]:
    if not lost:
        return []
    return [
        Figure(name=f"kills of units that had a session, {when}", value=len(lost), unit="kills"),
        Figure(name=f"lost with a kill {when}, mean", value=sum(lost) / len(lost), unit="labels"),
        Figure(name=f"lost with a kill {when}, largest", value=max(lost), unit="labels"),
    ]


def acknowledged(record: Record) -> set[Name]:
    """Every number that some published grant covered: within a session everything up to the highest that was named."""
    highest: dict[tuple[str, int], int] = {}
    for grant in record.grants:
        for unit, accepted in grant.accepted.items():
            key = (unit, accepted.entry_session)
            highest[key] = max(highest.get(key, 0), accepted.sequence)
    return {(unit, session, n) for (unit, session), last in highest.items() for n in range(1, last + 1)}


def holes(stored: dict[str, dict[int, list[int]]]) -> list[str]:
    """Sessions whose stored numbers do not run from 1 without a gap: what memory lost is always a session's end."""
    return [
        f"{unit} session {session}"
        for unit, sessions in stored.items()
        for session, numbers in sessions.items()
        if numbers != list(range(1, len(numbers) + 1))
    ]


def two_contents(room: SoakRoom, links: Iterable[Link]) -> set[Name]:
    """Numbers under which two sealed labels were seen."""
    seen: dict[Name, bytes] = {}
    wrong: set[Name] = set()
    for link in (*links, *room.heard.links):
        for entry in link.entries:
            name = (link.unit, entry.session, entry.sequence)
            if seen.setdefault(name, entry.sealed) != entry.sealed:
                wrong.add(name)
    return wrong


def falling_sessions(lives: Iterable[Life]) -> list[str]:
    """Starts whose session is not above that of every start before. One killed before it had a session is left out."""
    newest: dict[str, int] = {}
    wrong = []
    for life in lives:
        if not life.session:
            continue
        if life.session <= newest.get(life.unit, 0):
            wrong.append(f"{life.unit} session {life.session}")
        newest[life.unit] = max(life.session, newest.get(life.unit, 0))
    return wrong


def falling_links(links: Iterable[Link]) -> list[str]:
    """Links on the wire that came after one of a higher session of their unit. The broker may repeat one, in order."""
    newest: dict[str, tuple[int, int]] = {}
    wrong = []
    for link in links:
        here = (link.session, link.round)
        if link.session < newest.get(link.unit, (0, 0))[0] and link.round > newest[link.unit][1]:
            wrong.append(f"{link.unit} session {link.session} in round {link.round}")
        newest[link.unit] = max(here, newest.get(link.unit, (0, 0)))
    return wrong


def undelivered(room: SoakRoom, record: Record) -> set[Name]:
    """Labels that were durable at a kill and never reached the store."""
    durable: set[Name] = {(life.unit, *number) for life in room.lives if life.killed for number in life.spilled}
    return durable - record.labels.keys()


def spilled_labels(lives: Iterable[Life]) -> set[tuple[str, Number]]:
    """Labels that lay on a disk at some kill."""
    return {(life.unit, number) for life in lives for number in life.spilled}
