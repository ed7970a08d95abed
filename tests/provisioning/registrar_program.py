"""A room's registrar as it really runs: its HTTPS server on loopback, its folder on disk, its authority open or not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device.messages.policy import DeploymentPolicy, Mode, Purpose, Setting
from provisioning.authority import RoomAuthority
from provisioning.certificates import Role
from provisioning.claims import ClaimLimits, Seat, token_digest
from provisioning.enrolment_messages import (
    ANSWER_BYTES,
    CHALLENGE_PATH,
    CLAIMS_PATH,
    ENROL_PATH,
    RENEW_PATH,
    Challenge,
    ClaimOpened,
    Commitment,
    EnrolmentAnswer,
    Renewed,
)
from provisioning.pinned import PinnedClient
from provisioning.registrar import Registrar, open_office, write_registrar_box
from provisioning.registration import RegistrarFolder
from tests.fakes.clock import FakeClock
from tests.provisioning.registrar_box import FakeBox

ROOM = "r2"
HOST = "127.0.0.1"
TOKEN, OTHER_TOKEN, EXPIRED_TOKEN = "a" * 26, "b" * 26, "c" * 26


def policy(room: str = ROOM) -> DeploymentPolicy:
    """One that is in force."""
    now = datetime.now(UTC)
    return DeploymentPolicy(
        room=room,
        purpose=Purpose.DEMONSTRATION,
        setting=Setting.LABORATORY,
        jurisdiction="EU",
        mode=Mode.LABELS,
        min_group=2,
        retention_days=1,
        witness_count=1,
        approved_by="a test",
        not_before_ms=int((now - timedelta(days=1)).timestamp() * 1_000),
        not_after_ms=int((now + timedelta(days=900)).timestamp() * 1_000),
    )


def found_authority(folder: Path, passphrase: bytes | None = None) -> RoomAuthority:
    """An authority with a policy."""
    authority = RoomAuthority.found(folder, ROOM, passphrase)
    authority.set_policy(policy())
    return authority


def found_room(folder: Path) -> RoomAuthority:
    """An authority with a policy and a gateway, published."""
    authority = found_authority(folder)
    opening = X25519PrivateKey.generate().public_key().public_bytes_raw()
    authority.admit("gateway", Role.GATEWAY, Ed25519PrivateKey.generate().public_key(), opening_key=opening)
    authority.publish()
    return authority


def seat(unit: str, token: str | None, expires_ms: int, *, line: str = "b") -> Seat:
    """A place."""
    digest = token_digest(token) if token is not None else None
    return Seat(unit=unit, line=line, desk=f"Desk {unit}", token_sha256=digest, expires_ms=expires_ms)


@dataclass
class RegistrarProgram:
    """Seats b3 (TOKEN), b4 (OTHER_TOKEN) and b5 (EXPIRED_TOKEN). The clock stands still until a test moves it."""

    folder: Path
    limits: ClaimLimits = field(default_factory=ClaimLimits)

    def __post_init__(self) -> None:
        self.clock = FakeClock(wall_ms=int(datetime.now(UTC).timestamp()) * 1_000)
        self.authority = found_room(self.folder / "authority")
        write_registrar_box(self.folder / "registrar", self.authority)
        self.registrar = RegistrarFolder(self.folder / "registrar", limits=self.limits)
        self.digest = self.registrar.digest
        self.port = 0
        now_ms = self.clock.wall_ms()
        with self.registrar.claims() as claims:
            claims.add_seat(seat("b3", TOKEN, now_ms + 86_400_000))
            claims.add_seat(seat("b4", OTHER_TOKEN, now_ms + 86_400_000))
            claims.add_seat(seat("b5", EXPIRED_TOKEN, now_ms))

    @contextmanager
    def running(self, *, open_authority: bool = True) -> Iterator[RegistrarProgram]:
        """The server answers while this lasts."""
        office = open_office(self.authority, self.registrar) if open_authority else None
        program = Registrar(self.registrar, host=HOST, port=0, office=office, clock=self.clock)
        program.start()
        try:
            self.port = program.port
            yield self
        finally:
            program.stop()

    def box(self) -> FakeBox:
        """A new box that sees the true registrar."""
        return FakeBox(self.digest)

    @property
    def client(self) -> PinnedClient:
        """A connection that knows the registrar's key."""
        return PinnedClient([HOST], self.port, self.digest)

    def enrol(self, box: FakeBox, token: str | None = TOKEN, *, room: str = ROOM) -> EnrolmentAnswer:
        """POST /v1/enrol."""
        return self.client.post(ENROL_PATH, box.request(token, room=room), EnrolmentAnswer, limit=ANSWER_BYTES)

    def announce(self, box: FakeBox) -> ClaimOpened:
        """POST /v1/claims."""
        return self.client.post(CLAIMS_PATH, Commitment(commitment=box.commitment), ClaimOpened)

    def reveal(self, box: FakeBox, claim: str) -> EnrolmentAnswer:
        """POST /v1/claims/{claim}."""
        return self.client.post(f"{CLAIMS_PATH}/{claim}", box.request(), EnrolmentAnswer, limit=ANSWER_BYTES)

    def challenge(self) -> bytes:
        """POST /v1/challenge."""
        return self.client.post(CHALLENGE_PATH, None, Challenge).challenge

    def renew(self, box: FakeBox, unit: str, challenge: bytes | None = None, new: FakeBox | None = None) -> Renewed:
        """POST /v1/renew."""
        request = box.renewal(unit, challenge or self.challenge(), new=new.signer if new is not None else None)
        return self.client.post(RENEW_PATH, request, Renewed)

    def open_window(self) -> None:
        """Boxes without a seed may come."""
        with self.registrar.claims() as claims:
            claims.open_window(3_600, wall_ms=self.clock.wall_ms())

    def connected(self) -> ssl.SSLSocket:
        """A TLS connection on which nothing was said."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(socket.create_connection((HOST, self.port), timeout=10.0))

    def raw(self, request: bytes) -> bytes:
        """Send bytes over TLS and read until the registrar hangs up."""
        with self.connected() as secure:
            secure.sendall(request)
            answer = b""
            while chunk := secure.recv(65_536):
                answer += chunk
            return answer


def post(path: str, body: bytes, *, content_type: str = "application/json") -> bytes:
    """A request as it stands on the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: registrar\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
