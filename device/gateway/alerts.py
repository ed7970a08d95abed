"""Alerts on their way to store, topic and page: told once, repeats counted, a flood held down."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from device.errors import StorageError
from device.gateway.board import Board
from device.gateway.consumers import alert_document
from device.gateway.documents import AlertDocument, encode
from device.gateway.store import Store
from device.line.actions import Alert, Gap, Publish
from device.messages import topics

LOG: Final = logging.getLogger(__name__)

REPEAT_WINDOW_S: Final = 10.0
ALERTS_PER_WINDOW: Final = 30
SHOWN: Final = 40
NOTES_SHOWN: Final = 5


@dataclass(frozen=True)
class Told:
    """An alert that is worth telling, with the signed objects that prove it."""

    document: AlertDocument
    proof: tuple[bytes, ...]


class AlertBook:
    """The room's alerts.

    Within `REPEAT_WINDOW_S` seconds the same finding (line, peer, code) is told once and then counted, and at most
    `ALERTS_PER_WINDOW` are told in all. Alerts with a proof are always told: the machines give each proof only once.
    """

    def __init__(self, *, room: str, gateway: str, session: int, store: Store, board: Board) -> None:
        self._room = room
        self._prefix = f"{gateway}/{session}"
        self._store = store
        self._board = board
        self._number = 0
        self._window_ends = 0.0
        self._counted: dict[tuple[str, str, str], int] = {}
        self._repeats: dict[tuple[str, str, str], int] = {}
        self._shown: deque[AlertDocument] = deque(maxlen=SHOWN)
        self._notes: deque[AlertDocument] = deque(maxlen=NOTES_SHOWN)
        for stored in reversed(store.newest_alerts(SHOWN)):
            self._place_of(stored).appendleft(stored)
        self._faults: dict[str, AlertDocument] = {}
        self._show()

    def take(self, found: Alert | Gap, now: float, wall_ms: int) -> Told | None:
        """The finding to tell, or None when it only counts."""
        proof = found.proof if isinstance(found, Alert) else ()
        if now >= self._window_ends:
            self._window_ends = now + REPEAT_WINDOW_S
            self._repeats, self._counted = self._counted, {}
        key = (found.line, *_same(found))
        known = key in self._counted
        if not proof and (known or len(self._counted) >= ALERTS_PER_WINDOW):
            if known:
                self._counted[key] += 1
            return None
        self._counted[key] = 0
        repeats = self._repeats.pop(key, 0)
        event_id = self._next_id()
        return Told(alert_document(found, room=self._room, event_id=event_id, at_ms=wall_ms, repeats=repeats), proof)

    def keep(self, told: Told) -> Publish:
        """Show and store it; returns the message for the alerts topic. Raises StorageError."""
        place = self._place_of(told.document)
        if not any(shown.event_id == told.document.event_id for shown in place):
            level = logging.INFO if told.document.severity == "note" else logging.WARNING
            LOG.log(level, "%s: %s %s", told.document.code, told.document.sentence, told.document.detail)
            place.appendleft(told.document)
            self._show()
        self._store.alert(told.document, told.proof)
        return Publish(topics.alerts(self._room), encode(told.document), qos=1)

    def show_storage_fault(self, line: str, error: StorageError, wall_ms: int) -> None:
        """Say on the page that a line stands still; it cannot be stored."""
        if line in self._faults:
            return
        self._faults[line] = AlertDocument(
            event_id=self._next_id(),
            at_ms=wall_ms,
            room=self._room,
            line=line,
            peer="",
            severity="warning",
            code="not_storing",
            step=None,
            sentence="The gateway cannot store labels. The line stands still, and the boxes keep theirs.",
            detail=error.what,
            next_step=error.next_step,
            repeats=0,
        )
        self._show()

    def storage_is_back(self, line: str) -> None:
        """The line stores again."""
        if self._faults.pop(line, None) is not None:
            self._show()

    def _place_of(self, document: AlertDocument) -> deque[AlertDocument]:
        """Notes have a place of their own, so that they never push out what matters."""
        return self._notes if document.severity == "note" else self._shown

    def _next_id(self) -> str:
        self._number += 1
        return f"{self._prefix}/{self._number}"

    def _show(self) -> None:
        told = sorted([*self._shown, *self._notes], key=lambda document: document.at_ms, reverse=True)
        self._board.put("alerts", [*self._faults.values(), *told])


def _same(found: Alert | Gap) -> tuple[str, str]:
    """What makes two findings the same: who and what; gaps also by their bounds, so that each is told."""
    if isinstance(found, Alert):
        return found.peer, found.code.value
    return found.unit, f"gap {found.session}/{found.first}-{found.last}"
