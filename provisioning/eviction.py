"""End the open session of a revoked member at once.

mosquitto 2.0 cannot be told to drop one client, and a reload ends no session. But whoever connects with a client id in
use takes the session over, and the broker ends the older connection (MQTT 5, section 3.1.4). The client id is the
certificate's common name, so the certificate authority can do that and nobody else: it issues a certificate of minutes
in the revoked member's name over a throw-away key, connects with it, and leaves. The revoked member's own certificate
is on the revocation list, so it does not come back. One thing is left: a box that had made a TLS connection before, and
says CONNECT on it only afterwards, is let in (the broker looked at its certificate when it was still good). It has no
rights and hears nothing, doing the same again ends it, and mosquitto itself closes a connection without CONNECT within
two minutes.

Its retained status would say `lost` for ever, by its last will (or `running`, where it had a session that outlives the
connection: for one that is taken over and continued 2.0.11 publishes no will), and nobody else may write a unit's
status. So the evictor says the unit's last word, `revoked`; for that moment alone the access list gives the unit's name
its own status topic.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from device.config import Broker
from device.errors import ConfigError, TransportError
from device.gateway.boxes import read_status
from device.messages import topics
from device.publish.mqtt import MqttLink
from device.publish.ports import Connected, Disconnected, Received
from device.system.storage import read, write_durably
from device.unit.status import REVOKED, UnitStatus, status_payload
from provisioning import certificates, keys
from provisioning.boxes import Credentials
from provisioning.broker import ACCESS_FILE, FILE_BYTES, Member, last_word, members_in
from provisioning.certificates import CertificateAuthority, Role, now_utc

CERTIFICATE_LIFE: Final = timedelta(minutes=5)
CONNECT_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.01
#: A retained status comes at once after the subscription's answer; so long it may take on a busy broker.
RETAINED_S: Final = 0.5
SESSION_S: Final = 0
"""The evictor's session, and with it what was queued for the member, ends when it leaves."""


@dataclass(frozen=True)
class Evictor:
    """Puts revoked members out of one broker. `folder` is mosquitto's, `reload` makes mosquitto read it again."""

    ca: CertificateAuthority
    broker: Broker
    folder: Path
    reload: Callable[[], None]

    def put_out(self, members: Sequence[Member]) -> None:
        """Take all rights, then end the sessions. Running it again changes nothing.

        The folder's access list (without the members) and revocation list (with their certificates) must have been
        written; whatever follows fails, those rights are gone. Raises ConfigError when a member still stands in the
        access list, TransportError when the broker cannot be reached or does not do as told, StorageError.
        """
        path = self.folder / ACCESS_FILE
        access = read(path, limit=FILE_BYTES)
        for member in members:
            if member.name in members_in(access.decode()):
                raise ConfigError(
                    f"{path}: still gives {member.name} its rights.", next_step="Write the broker's files anew first."
                )
        units = [member for member in members if member.role is Role.UNIT]
        try:
            if units:
                words = "".join(last_word(self.ca.room, unit) for unit in units)
                _replace(path, access + words.encode())
            self.reload()
            for member in members:
                self._take_over(member)
        finally:
            if units:
                _replace(path, access)
                self.reload()

    def credentials(self, folder: Path, member: Member) -> Credentials:
        """Files in that folder with which to connect in the member's name, for minutes. Raises StorageError."""
        made = Credentials(folder / "key.pem", folder / "certificate.pem", folder / "authority.pem")
        public_key = keys.signing_key(made.key).public_key()
        certificate = self.ca.issue(member.name, member.role, public_key, now_utc(), life=CERTIFICATE_LIFE)
        write_durably(made.certificate, certificates.pem(certificate))
        write_durably(made.certificate_authority, certificates.pem(self.ca.certificate))
        return made

    def _take_over(self, member: Member) -> None:
        status = topics.unit_status(self.ca.room, member.line, member.name) if member.line is not None else None
        with tempfile.TemporaryDirectory(prefix="moodline-evict-") as folder:
            link = MqttLink(
                member.name,
                msgspec.structs.replace(self.broker, session_expiry_s=SESSION_S),
                self.credentials(Path(folder), member),
                subscriptions=[status] if status is not None else [],
            )
            link.start()
            try:
                _wait_until_taken(link, member.name)
                if status is not None and member.line is not None:
                    _say_revoked(link, status, member.name, member.line)
            finally:
                link.stop()


def _replace(path: Path, content: bytes) -> None:
    """Other content under the same owner: mosquitto reads it as its own user."""
    standing = path.stat()
    write_durably(path, content, mode=standing.st_mode & 0o777)
    os.chown(path, standing.st_uid, standing.st_gid)


def _wait_until_taken(link: MqttLink, name: str) -> None:
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    reason = "no answer"
    while (left_s := deadline - time.monotonic()) > 0:
        match link.next_event(left_s):
            case Connected():
                return
            case Disconnected(reason=said):
                reason = said
    raise TransportError(
        f"{name}: its session at the broker may still be open ({reason}).",
        next_step="It has no rights any more. Run the same again when the broker is up.",
    )


def _say_revoked(link: MqttLink, topic: str, unit: str, line: str) -> None:
    """Replace the unit's retained status, under the session that it named itself; nothing where it has none."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while not link.subscribed and time.monotonic() < deadline:
        time.sleep(POLL_S)
    standing = _next_message(link, topic, RETAINED_S)
    if standing is None:
        return
    known = read_status(standing, unit)
    session = known.session if known is not None else 0
    word = status_payload(UnitStatus(unit=unit, line=line, session=session, process=REVOKED))
    link.publish(topic, word, qos=1, retain=True)
    while (heard := _next_message(link, topic, CONNECT_TIMEOUT_S)) != word:
        if heard is None:
            raise TransportError(
                f"{topic}: the broker keeps the revoked unit's last status.", next_step="Run the same again."
            )


def _next_message(link: MqttLink, topic: str, timeout_s: float) -> bytes | None:
    """The next one on that topic; what the broker had still queued for the member is passed over."""
    deadline = time.monotonic() + timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        event = link.next_event(left_s)
        if isinstance(event, Received) and event.topic == topic:
            return event.payload
    return None
