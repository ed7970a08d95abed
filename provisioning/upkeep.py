"""How an enrolled box stays in service without hands: its certificate is renewed, and a gateway that moved is found.

Nothing is asked while the broker takes this box and its certificate has a third of its life left. Otherwise the
registrar is looked for: at the addresses that this box knows, then over mDNS by the digest of its key. It renews the
certificate, expired or not, against a request that the box's key signs; and where it answers, the broker is too. With
the certificate comes the certificate authority's, so a box follows the room to a new one.

A box whose clock is not set cannot know whether its certificate has ended. The broker knows: it refuses.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
from cryptography import x509

from device.clock import Clock, TimeSource
from device.config import UnitConfig
from device.errors import ConfigError, TransportError
from device.messages.envelope import KeySigner
from device.publish.mqtt import tls_context
from provisioning.box_folder import BoxFolder
from provisioning.enrolling import FoundRegistrar, Place, Record
from provisioning.enrolment_messages import (
    CHALLENGE_PATH,
    RENEW_PATH,
    Challenge,
    RenewalRequest,
    Renewed,
    sign_request,
)
from provisioning.pinned import CONNECT_S, PinnedClient

LOG: Final = logging.getLogger(__name__)

HANDSHAKE_S: Final = 5.0
#: A broker that does not take our certificate says so at once; one that does waits for us to speak.
OBJECTION_S: Final = 1.0
HOSTS: Final = 8
#: The share of a certificate's life that is left when it is renewed: 1 / RENEWED_AT.
RENEWED_AT: Final = 3

Search = Callable[[str | None, bytes | None], list[FoundRegistrar]]


class Reach(StrEnum):
    """What became of a TLS connection to the broker."""

    TAKEN = "taken"
    REFUSED = "refused"
    STRANGER = "stranger"
    UNREACHABLE = "unreachable"


def reach_broker(config: UnitConfig, floor_ms: int | None) -> Reach:
    """Open a TLS connection to the broker with this box's certificate, and say nothing.

    REFUSED when it is this room's broker and closes the connection (TLS 1.3 tells a client only after the handshake);
    STRANGER when somebody answers who cannot prove to be the broker, or whom our copy of the certificate authority
    does not know any more. `floor_ms` is given when the clock is not set.
    """
    context = tls_context(config.trust, server_name=config.broker.server_name, floor_ms=floor_ms)
    try:
        plain = socket.create_connection((config.broker.host, config.broker.port), timeout=CONNECT_S)
    except OSError:
        return Reach.UNREACHABLE
    with plain:
        plain.settimeout(HANDSHAKE_S)
        try:
            secure = context.wrap_socket(plain, server_hostname=config.broker.host)
        except ssl.SSLError as error:
            return Reach.REFUSED if "ALERT" in (error.reason or "") else Reach.STRANGER
        except OSError:
            return Reach.STRANGER
        with secure:
            secure.settimeout(OBJECTION_S)
            try:
                secure.recv(1)
            except TimeoutError:
                return Reach.TAKEN
            except OSError:
                # An alert or a reset after the handshake: that is how TLS 1.3 tells a client that it is not wanted.
                return Reach.REFUSED
            return Reach.REFUSED


def is_due(certificate: x509.Certificate, now_ms: int) -> bool:
    """Whether a third of the certificate's life or less is left."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now_ms >= (ends - (ends - begins) / RENEWED_AT).timestamp() * 1_000


@dataclass(frozen=True)
class Done:
    """What one round of upkeep did."""

    renewed: bool = False
    moved_to: str = ""


class Upkeep:
    """One enrolled box. `search` looks for registrars by room and key digest."""

    def __init__(self, folder: BoxFolder, key: KeySigner, record: Record | None, clock: Clock, search: Search) -> None:
        if record is None:
            raise ConfigError(
                f"{folder.root}: this box does not know its registrar's key.",
                next_step="Wipe it (moodline-box wipe) and enrol it by a seed file, or renew its files by hand.",
            )
        self._folder = folder
        self._key = key
        self._record = record
        self._clock = clock
        self._search = search

    def turn(self, config: UnitConfig, *, at_once: bool = False) -> Done:
        """Do what is due; `at_once` renews in any case. The same again changes nothing.

        Raises TransportError when the registrar is needed and away, RefusalError when it says no (REVOKED,
        NOT_ENROLLED …) or is not the one that enrolled this box, ConfigError and StorageError.
        """
        unset = self._clock.time_source() is TimeSource.UNSET
        floor_ms = self._folder.floor_ms()
        reach = reach_broker(config, floor_ms if unset else None)
        due = at_once or is_due(self._folder.certificate(), floor_ms if unset else self._clock.wall_ms())
        if reach is Reach.TAKEN and not due:
            return Done()
        client, challenge = self._find_registrar(config)
        moved_to = ""
        if reach in (Reach.UNREACHABLE, Reach.STRANGER) and client.seen_host != config.broker.host:
            broker = msgspec.structs.replace(config.broker, host=client.seen_host)
            broker = msgspec.structs.replace(broker, server_name=config.broker.server_name or config.broker.host)
            moved = msgspec.structs.replace(config, broker=broker)
            reach = reach_broker(moved, floor_ms if unset else None)
            if reach in (Reach.TAKEN, Reach.REFUSED):
                config, moved_to = self._folder.move_broker(config, client.seen_host), client.seen_host
        renewed = due or reach in (Reach.REFUSED, Reach.STRANGER)
        if renewed:
            self._renew(client, challenge, config)
        return Done(renewed, moved_to)

    def rotate(self, config: UnitConfig, new_key: KeySigner) -> None:
        """Have the room authority give this unit another key. The same key again changes nothing.

        Raises RefusalError, AUTHORITY_CLOSED among them, and TransportError.
        """
        client, challenge = self._find_registrar(config)
        request = msgspec.structs.replace(self._request(challenge, config), new_key=new_key.public_key)
        possession = sign_request(request, new_key).signature
        client.post(
            RENEW_PATH, msgspec.structs.replace(sign_request(request, self._key), possession=possession), Renewed
        )

    def _find_registrar(self, config: UnitConfig) -> tuple[PinnedClient, Challenge]:
        record = self._record
        known = Place(tuple(dict.fromkeys((*record.place.hosts, config.broker.host))), record.place.port)
        try:
            return self._ask(known)
        except TransportError as error:
            LOG.warning("%s Looking for the registrar over mDNS.", error)
            found = self._search(None, record.registrar)
            if not found:
                raise
        place = Place(found[0].addresses, found[0].port)
        answer = self._ask(place)
        hosts = tuple(dict.fromkeys((*place.hosts, *record.place.hosts)))[:HOSTS]
        self._record = msgspec.structs.replace(record, place=Place(hosts, place.port))
        self._folder.remember(self._record)
        return answer

    def _ask(self, place: Place) -> tuple[PinnedClient, Challenge]:
        client = PinnedClient(place.hosts, place.port, self._record.registrar)
        return client, client.post(CHALLENGE_PATH, None, Challenge)

    def _renew(self, client: PinnedClient, challenge: Challenge, config: UnitConfig) -> None:
        request = sign_request(self._request(challenge, config), self._key)
        self._folder.renew(client.post(RENEW_PATH, request, Renewed), config)

    def _request(self, challenge: Challenge, config: UnitConfig) -> RenewalRequest:
        return RenewalRequest(
            unit=config.unit,
            key=self._key.public_key,
            challenge=challenge.challenge,
            registrar=self._record.registrar,
        )
