"""The room authority's side of enrolment, while its keys are at hand: "the office is open"."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.errors import ConfigError, MoodlineError
from device.system.storage import read
from provisioning.authority import RoomAuthority
from provisioning.certificates import CERTIFICATE_BYTES, MEMBER_LIFE, Role
from provisioning.claims import Seat
from provisioning.publication import Broker, Places, publish
from provisioning.refusals import Refusal, RefusalError

LOG: Final = logging.getLogger(__name__)
REPLACED: Final = "replaced at enrolment"


class Office(Protocol):
    """Who can change the roster. Doing any of it again changes nothing."""

    def admit(self, seat: Seat) -> str:
        """Admit the seat's key and publish; returns the box's certificate (PEM).

        Raises RefusalError KEY_IN_USE, SEAT_TAKEN or REVOKED; ConfigError when another program changes the room for
        too long, or the room cannot be published; StorageError.
        """
        ...

    def rekey(self, unit: str, key: bytes) -> str:
        """Give a rostered unit a new key (32 bytes) and publish; returns its certificate (PEM). Raises as `admit`."""
        ...


class OpenOffice:
    """An open room authority. Several threads may ask at once: what they change is published together.

    `life` is that of the certificates which it makes.
    """

    def __init__(
        self, authority: RoomAuthority, places: Places, broker: Broker | None, *, life: timedelta = MEMBER_LIFE
    ) -> None:
        self._authority = authority
        self._places = places
        self._broker = broker
        self._life = life
        self._changing = threading.Lock()
        self._publishing = threading.Lock()
        self._changes = 0
        self._published = 0

    def admit(self, seat: Seat) -> str:
        """As `Office.admit`."""
        assert seat.key is not None
        key = Ed25519PublicKey.from_public_bytes(seat.key)

        def change() -> None:
            if seat.replaces is not None:
                self._authority.replace_unit(seat.replaces, seat.unit, key, REPLACED, life=self._life)
            else:
                self._authority.admit(seat.unit, Role.UNIT, key, line=seat.line, desk=seat.desk, life=self._life)

        return self._certificate_after(change, seat.unit, seat.key, seat)

    def rekey(self, unit: str, key: bytes) -> str:
        """As `Office.rekey`."""
        public = Ed25519PublicKey.from_public_bytes(key)
        return self._certificate_after(lambda: self._authority.renew(unit, public, life=self._life), unit, key)

    def publish(self) -> None:
        """Carry all changes so far to registrar, gateway and broker. Raises ConfigError, StorageError.

        A broker that cannot be told is only logged: the room is right, and the box comes in as soon as it is told.
        """
        wanted = self._changes
        with self._publishing:
            if self._published >= wanted > 0:
                return
            with self._changing:
                reached = self._changes
                publish(self._authority, self._places)
            self._published = reached
            if self._broker is not None:
                try:
                    self._broker.reload()
                except MoodlineError as error:
                    LOG.warning("the broker was not told of the change: %s", error)

    def _certificate_after(self, change: Callable[[], object], unit: str, key: bytes, seat: Seat | None = None) -> str:
        with self._changing:
            try:
                change()
            except ConfigError as error:
                LOG.warning("%s was not admitted: %s", unit, error)
                reason = self._reason(key, seat)
                if reason is None:
                    raise
                raise RefusalError(reason) from error
            self._changes += 1
            certificate = read(self._authority.certificate_path(unit), limit=CERTIFICATE_BYTES).decode()
        self.publish()
        return certificate

    def _reason(self, key: bytes, seat: Seat | None) -> Refusal | None:
        """Why the box cannot be a member; None when that is not the box's fault (the book may be locked)."""
        for entry in self._authority.members:
            if entry.key == key:
                return Refusal.REVOKED if entry.revoked else Refusal.KEY_IN_USE
        if seat is None:
            return None
        taken = any(
            entry.name == seat.unit or (not entry.revoked and (entry.line, entry.desk) == (seat.line, seat.desk))
            for entry in self._authority.members
        )
        return Refusal.SEAT_TAKEN if taken or seat.replaces is not None else None
