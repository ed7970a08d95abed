"""The shell around the line's machines: carries out what they ask, in order, and tells store, consumers and page.

One `LineShell` per line of the roster. When something cannot be stored, the line stands still at that action: nothing
later is carried out, so nothing is acknowledged that is not safe, the boxes keep their labels, and the same action is
tried again. What arrives meanwhile is left alone; it comes again.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from device.errors import VERDICTS, StorageError, TransportError, Verdict
from device.gateway.alerts import AlertBook, Told
from device.gateway.board import Board
from device.gateway.boxes import ENROL_ANEW, BoxStatus, is_news, read_status
from device.gateway.consumers import (
    ClassPicture,
    class_message,
    is_newer,
    label_document,
    label_message,
    with_witnesses,
)
from device.gateway.documents import LabelDocument, LineState
from device.gateway.store import Store
from device.line.actions import Action, Alert, Deliver, Gap, Infer, Notice, Persist, Publish, Witnessed
from device.messages import topics
from device.messages.label import Label, LabelState
from device.messages.policy import Mode
from device.messages.topics import TopicKind

LOG: Final = logging.getLogger(__name__)

RETRY_STORING_S: Final = 1.0
#: Links whose labels may still gain witnesses; the machine forgets them after `rounds_in_memory` rounds.
LINKS_REMEMBERED: Final = 4_096


class LineMachine(Protocol):
    """What is asked of `device.line.gateway.LineGateway`."""

    @property
    def round(self) -> int:
        """The open round; 0 before the first."""
        ...

    @property
    def order(self) -> tuple[str, ...]:
        """Units in the order that the open grant prefers; the first holds the right to open the round."""
        ...

    @property
    def signed_units(self) -> tuple[str, ...]:
        """Units whose links of the open round are accepted, in the order of the chain."""
        ...

    @property
    def live_units(self) -> tuple[str, ...]:
        """Units that signed lately."""
        ...

    def connected(self, now: float, wall_ms: int) -> list[Action]:
        """The broker is there."""
        ...

    def disconnected(self, now: float) -> list[Action]:
        """The broker is gone."""
        ...

    def received(self, topic: str, payload: bytes, now: float, wall_ms: int) -> list[Action]:
        """A message arrived."""
        ...

    def tick(self, now: float, wall_ms: int) -> list[Action]:
        """Time went by."""
        ...

    def next_deadline(self) -> float | None:
        """When `tick` is due, in monotonic seconds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outlets:
    """Where a line's results go. `desks` names units' desks; `publish` raises TransportError without a broker.

    `places` are units' (row, column) in the room, for the page's map.
    """

    room: str
    mode: Mode
    desks: Mapping[str, str]
    store: Store
    board: Board
    alerts: AlertBook
    publish: Callable[[Publish], None]
    class_picture: ClassPicture
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _ShownRound:
    round: int
    order: tuple[str, ...]
    signed: tuple[str, ...]


def _infers(label: Label) -> bool:
    """Whether the unit ran the emotion networks for this label."""
    return label.state in (LabelState.GIVEN, LabelState.ABSTAINED)


class LineShell:
    """One line: its machine, what is still to be carried out, and what the page shows of it."""

    def __init__(self, line: str, units: Iterable[str], machine: LineMachine, outlets: Outlets) -> None:
        assert outlets.mode is not Mode.OFF, "a room that is off has no lines"
        self.line = line
        self._units = tuple(units)
        self._machine = machine
        self._out = outlets
        self._todo: deque[Action | Told] = deque()
        self._try_again_at: float | None = None
        self._fresh: list[LabelDocument] = []
        self._of_link: OrderedDict[bytes, list[LabelDocument]] = OrderedDict()
        self._changed: dict[str, LabelDocument] = {}
        self._latest: dict[str, LabelDocument] = {}
        self._shown = _ShownRound(0, (), ())
        self._boxes: dict[str, BoxStatus] = {}
        self._verified = 0
        self._refused = 0

    @property
    def stuck(self) -> bool:
        """Whether the line stands still because something could not be stored."""
        return self._try_again_at is not None

    def resume_with(self, latest: Iterable[LabelDocument]) -> None:
        """Take what was stored before the start, so that the page and late joiners see it again."""
        for document in latest:
            self._latest[document.unit] = document
            self._show(document)
        self._show_line()

    def state(self) -> LineState:
        """For the gateway's status."""
        live = self._machine.live_units
        absent = [unit for unit in self._units if unit not in live]
        return LineState(line=self.line, round=self._machine.round or None, live=list(live), absent=absent)

    # --- events --------------------------------------------------------------------------------------------------

    def connected(self, now: float, wall_ms: int) -> None:
        """The broker is there: the line goes on, and late joiners get the latest labels again."""
        self._do(self._machine.connected(now, wall_ms), now, wall_ms)
        for unit in self._units:
            if self._out.mode.shows_desks and unit in self._latest:
                self._send(label_message(self._latest[unit], newest=True))
            elif self._out.mode is not Mode.LABELS:
                # A label that an earlier policy let the broker keep must not outlive that policy.
                self._send(Publish(topics.labels(self._out.room, self.line, unit), b"", qos=1, retain=True))

    def disconnected(self, now: float, wall_ms: int) -> None:
        """The broker is gone."""
        self._do(self._machine.disconnected(now), now, wall_ms)

    def received(self, topic: str, payload: bytes, now: float, wall_ms: int) -> None:
        """A message for this line."""
        if not self.stuck:
            self._do(self._machine.received(topic, payload, now, wall_ms), now, wall_ms)

    def status(self, unit: str, payload: bytes, now: float, wall_ms: int) -> None:
        """What a unit of this line says of itself; that it must be enrolled anew becomes an alert."""
        status = read_status(payload, unit) if unit in self._units else None
        before = self._boxes.get(unit)
        if status is None or not is_news(status, before):
            return
        self._boxes[unit] = status
        self._out.board.put(f"box/{self.line}/{unit}", status)
        if status.process == ENROL_ANEW and (before is None or before.process != ENROL_ANEW):
            said = f"{unit} says so itself, in session {status.session}."
            self._do([Alert(Notice.ENROL_ANEW, unit, said, self.line)], now, wall_ms)

    def tick(self, now: float, wall_ms: int) -> None:
        """Time went by: storing is tried again when it is due."""
        if self._try_again_at is not None:
            if now < self._try_again_at:
                return
            self._do([], now, wall_ms)
        if not self.stuck:
            self._do(self._machine.tick(now, wall_ms), now, wall_ms)

    def next_deadline(self) -> float | None:
        """When `tick` is due, in monotonic seconds."""
        return self._try_again_at if self._try_again_at is not None else self._machine.next_deadline()

    # --- actions -------------------------------------------------------------------------------------------------

    def _do(self, actions: list[Action], now: float, wall_ms: int) -> None:
        for action in actions:
            self._todo.extend(self._noted(action, now, wall_ms))
        self._try_again_at = None
        while self._todo:
            try:
                self._carry_out(self._todo[0], wall_ms)
            except StorageError as error:
                self._try_again_at = now + RETRY_STORING_S
                LOG.error("line %s stands still: %s", self.line, error)
                self._out.alerts.show_storage_fault(self.line, error, wall_ms)
                break
            self._todo.popleft()
        if not self.stuck:
            self._out.alerts.storage_is_back(self.line)
        self._show_line()

    def _noted(self, action: Action, now: float, wall_ms: int) -> Iterable[Action | Told]:
        """Alerts are told apart from repeats once, when they come, not again at each try to store them."""
        if isinstance(action, Deliver) and self._out.mode is Mode.PRESENCE and _infers(action.label):
            said = "The policy lets no emotion be inferred; perhaps this is a label of before that policy."
            action = Alert(Verdict.BAD_LABEL, action.unit, said, action.line)
        if not isinstance(action, Alert | Gap):
            return (action,)
        if isinstance(action, Alert):
            self._refused += isinstance(action.code, Verdict) and not VERDICTS[action.code].honest
        told = self._out.alerts.take(action, now, wall_ms)
        return () if told is None else (told,)

    def _carry_out(self, action: Action | Told, wall_ms: int) -> None:
        match action:
            case Publish():
                self._send(action)
            case Persist():
                self._persist(action, wall_ms)
            case Deliver():
                self._deliver(action)
            case Witnessed():
                self._witnessed(action)
            case Told():
                self._send(self._out.alerts.keep(action))
            case Infer() | Alert() | Gap():
                raise AssertionError(f"the gateway's line asked for {action}")

    def _send(self, message: Publish) -> None:
        """Publish; while the broker is away it is dropped: at the next connection everything that counts goes again."""
        try:
            self._out.publish(message)
        except TransportError as error:
            LOG.info("not published: %s", error)

    def _persist(self, done: Persist, wall_ms: int) -> None:
        keep = self._out.mode is Mode.LABELS
        current = {document.event_id: document for document in self._fresh} | self._changed
        fresh = [current[document.event_id] for document in self._fresh]
        self._out.store.persist(
            done,
            wall_ms,
            labels=fresh if keep else [],
            witnessed=list(self._changed.values()) if keep else [],
        )
        self._fresh.clear()
        self._changed.clear()

    def _deliver(self, delivered: Deliver) -> None:
        desk = self._out.desks.get(delivered.unit, delivered.unit)
        document = label_document(delivered, room=self._out.room, desk=desk)
        self._verified += 1
        self._fresh.append(document)
        self._of_link.setdefault(delivered.link, []).append(document)
        while len(self._of_link) > LINKS_REMEMBERED:
            self._of_link.popitem(last=False)
        newest = is_newer(document, self._latest.get(document.unit))
        if newest:
            self._latest[document.unit] = document
            self._out.class_picture.add(document)
        if self._out.mode.shows_desks:
            self._send(label_message(document, newest=newest))
            if newest:
                self._show(document)

    def _witnessed(self, news: Witnessed) -> None:
        documents = [
            with_witnesses(document, news.count, enough=news.enough) for document in self._of_link.get(news.link, [])
        ]
        if news.enough:
            self._of_link.pop(news.link, None)
        elif documents:
            self._of_link[news.link] = documents
        for document in documents:
            self._changed[document.event_id] = document
            latest = self._latest.get(document.unit)
            newest = latest is not None and latest.event_id == document.event_id
            if newest:
                self._latest[document.unit] = document
            if self._out.mode.shows_desks:
                if newest:
                    self._show(document)
                if news.enough:
                    self._send(label_message(document, newest=newest))

    # --- page ----------------------------------------------------------------------------------------------------

    def _show(self, document: LabelDocument) -> None:
        if self._out.mode.shows_desks:
            self._out.board.put(f"desk/{self.line}/{document.unit}", document)

    def _show_line(self) -> None:
        machine = self._machine
        # A round that has just been opened has no link yet: until then the one before it is the news.
        if machine.signed_units or machine.round != self._shown.round + 1:
            self._shown = _ShownRound(machine.round, machine.order, machine.signed_units)
        shown = self._shown
        self._out.board.put(
            f"line/{self.line}",
            {
                "line": self.line,
                "round": shown.round or None,
                "opener": next(iter(shown.signed or shown.order), None),
                "order": shown.order,
                "signed": shown.signed,
                "live": machine.live_units,
                "desks": [self._desk(unit) for unit in self._units],
                "verified": self._verified,
                "refused": self._refused,
            },
        )

    def _desk(self, unit: str) -> dict[str, object]:
        desk: dict[str, object] = {"unit": unit, "desk": self._out.desks.get(unit, unit)}
        place = self._out.places.get(unit)
        return desk if place is None else desk | {"place": place}


class Ingest:
    """All lines of the room."""

    def __init__(
        self, shells: Mapping[str, LineShell], outlets: Outlets, roster: bytes, bundle: bytes | None = None
    ) -> None:
        """`roster` and the trust `bundle` are what units and verifiers are to have, as they go on the wire."""
        self._shells = dict(shells)
        self._out = outlets
        self._roster = roster
        self._bundle = bundle

    @property
    def storing(self) -> bool:
        """Whether every line can store what it receives."""
        return not any(shell.stuck for shell in self._shells.values())

    def lines(self) -> list[LineState]:
        """Where each line stands."""
        return [shell.state() for shell in self._shells.values()]

    def connected(self, now: float, wall_ms: int) -> None:
        """The broker is there. Units must hear of a newer roster before they hear grants that were made under it."""
        if self._bundle is not None:
            self._send(Publish(topics.trust(self._out.room), self._bundle, qos=1, retain=True))
        self._send(Publish(topics.roster(self._out.room), self._roster, qos=1, retain=True))
        for shell in self._shells.values():
            shell.connected(now, wall_ms)

    def disconnected(self, now: float, wall_ms: int) -> None:
        """The broker is gone."""
        for shell in self._shells.values():
            shell.disconnected(now, wall_ms)

    def received(self, topic: str, payload: bytes, now: float, wall_ms: int) -> None:
        """A message arrived; one that belongs to no line is left alone."""
        parts = topics.parse_line_topic(topic)
        shell = self._shells.get(parts.line) if parts is not None else None
        if parts is None or shell is None or parts.room != self._out.room:
            return
        if parts.kind is TopicKind.STATUS:
            shell.status(parts.unit, payload, now, wall_ms)
        else:
            shell.received(topic, payload, now, wall_ms)

    def tick(self, now: float, wall_ms: int) -> None:
        """Time went by."""
        for shell in self._shells.values():
            shell.tick(now, wall_ms)
        self._close_class_bin(wall_ms)

    def tell(self, alert: Alert, now: float, wall_ms: int) -> None:
        """Tell what concerns the whole room."""
        told = self._out.alerts.take(alert, now, wall_ms)
        if told is None:
            return
        try:
            self._send(self._out.alerts.keep(told))
        except StorageError as error:
            LOG.error("an alert is not stored: %s", error)

    def clear_labels(self, places: Iterable[tuple[str, str]]) -> None:
        """Let the broker keep no label of these (line, unit) any more."""
        for line, unit in places:
            self._send(Publish(topics.labels(self._out.room, line, unit), b"", qos=1, retain=True))

    def next_deadline(self) -> float | None:
        """When `tick` is due, in monotonic seconds."""
        deadlines = [shell.next_deadline() for shell in self._shells.values()]
        return min((each for each in deadlines if each is not None), default=None)

    def _close_class_bin(self, wall_ms: int) -> None:
        if self._out.mode is not Mode.CLASS_AGGREGATE:
            return
        document = self._out.class_picture.close_bin(wall_ms)
        if document is not None:
            self._out.board.put("class", document)
            self._send(class_message(document))

    def _send(self, message: Publish) -> None:
        try:
            self._out.publish(message)
        except TransportError as error:
            LOG.info("not published: %s", error)
