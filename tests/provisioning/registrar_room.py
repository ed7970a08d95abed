"""A room with an open or closed authority and its registrar, in this program, behind a real TLS socket."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.clock import Clock
from device.system.clock import SystemClock
from provisioning.authority import RoomAuthority
from provisioning.certificates import Role
from provisioning.claims import Seat, token_digest
from provisioning.enrolment_messages import Enrolled, EnrolmentAnswer, Message, RefusalBody
from provisioning.gateway import GatewayPlaces, GatewayPlan, admit_gateway, write_gateway
from provisioning.office import OpenOffice
from provisioning.publication import Places, publish
from provisioning.refusals import RefusalError
from provisioning.registrar import write_registrar_box
from provisioning.registration import RegistrarFolder, Registration
from provisioning.seed_file import Seed
from tests.fakes.https_peer import HttpsPeer, http
from tests.provisioning.registrar_program import policy

ROOM, LINE = "room-2", "line-b"
TOKEN = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class RegistrarRoom:
    """A room in `folder`; one that was built there before is taken as it is.

    `requests` are the paths that were asked for; `spoil` changes what an enrolled box is given. `port` is the
    registrar's while `serving`.
    """

    folder: Path
    broker_port: int = 8_883
    broker_address: str = "127.0.0.1"
    clock: Clock | None = None
    certificate_days: int = 730

    def __post_init__(self) -> None:
        self.requests: list[str] = []
        self.port = 0
        self.is_broken = False
        self.spoil: Callable[[Enrolled], Enrolled] = lambda enrolled: enrolled
        self.places = GatewayPlaces((self.folder / "machine").absolute())
        self._places = Places(self.places.registrar)
        if self.places.registrar.exists():
            self.authority = RoomAuthority.open(self.folder / "authority")
        else:
            self._build()
        self.registrar = RegistrarFolder(self.places.registrar)
        self.office = OpenOffice(self.authority, self._places, None)
        self.open_office()

    def _build(self) -> None:
        self.authority = RoomAuthority.found(self.folder / "authority", ROOM)
        plan = GatewayPlan(
            hosts=("127.0.0.1",),
            address=self.broker_address,
            port=self.broker_port,
            run_broker_as="root",
            desks={},
        )
        admit_gateway(self.folder / "machine", self.authority, plan)
        self.authority.set_policy(policy(ROOM))
        self.authority.publish()
        write_gateway(self.places, self.authority, plan)
        write_registrar_box(
            self.places.registrar,
            self.authority,
            broker_port=self.broker_port,
            certificate_days=self.certificate_days,
        )

    def open_office(self) -> None:
        """The room authority is at hand."""
        self._registration = Registration(self.registrar, self.clock or SystemClock(), self.office)

    def close_office(self) -> None:
        """It is put away."""
        self._registration = Registration(self.registrar, self.clock or SystemClock(), None)

    def publish(self) -> None:
        """What the authority did becomes known to the registrar."""
        publish(self.authority, self._places)

    def seed(self, unit: str = "b14", token: str = TOKEN, *, lasts: timedelta = timedelta(days=14)) -> Seed:
        """A seat with that token, and the seed for its box."""
        expires = datetime.now(UTC).replace(microsecond=0) + lasts
        seat = Seat(
            unit=unit,
            line=LINE,
            desk=f"Desk {unit}",
            token_sha256=token_digest(token),
            expires_ms=int(expires.timestamp() * 1_000),
        )
        with self.registrar.claims() as claims:
            claims.add_seat(seat)
        return Seed(
            room=ROOM,
            gateway=("127.0.0.1",),
            port=self.port,
            registrar_digest=self.registrar.digest,
            token=token,
            unit=unit,
            expires=expires,
        )

    def admit_unit(self, name: str, key: bytes) -> None:
        """Somebody else is a unit of the line, too."""
        public = Ed25519PublicKey.from_public_bytes(key)
        self.authority.admit(name, Role.UNIT, public, line=LINE, desk=name)
        self.publish()

    @contextmanager
    def serving(self, host: str = "127.0.0.1") -> Iterator[HttpsPeer]:
        """The registrar answers there while this lasts, or says that it cannot while `is_broken`."""
        with HttpsPeer(self.folder, self._answer, key=self.registrar.key, host=host) as peer:
            assert peer.digest == self.registrar.digest
            self.port = peer.port
            yield peer

    def _answer(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.requests.append(path)
        if self.is_broken:
            return http(b"{}", 500)
        try:
            answer = self._route(f"{method} {path}", body)
        except RefusalError as error:
            row = error.row
            refusal = RefusalBody(
                code=error.refusal, sentence=row.sentence, next_step=row.next_step, detail=error.detail
            )
            return http(msgspec.json.encode(refusal), row.status)
        if isinstance(answer, EnrolmentAnswer) and answer.enrolled is not None:
            answer = msgspec.structs.replace(answer, enrolled=self.spoil(answer.enrolled))
        return http(msgspec.json.encode(answer))

    def _route(self, asked: str, body: bytes) -> Message:
        claim = re.fullmatch(r"POST /v1/claims/([a-z2-7]{26})", asked)
        if claim is not None:
            return self._registration.reveal(claim[1], body, reached="127.0.0.1")
        match asked:
            case "POST /v1/claims":
                return self._registration.announce(body, address="192.0.2.1")
            case "POST /v1/enrol":
                return self._registration.enrol(body, reached="127.0.0.1")
            case "POST /v1/challenge":
                return self._registration.challenge()
            case "POST /v1/renew":
                return self._registration.renew(body)
        raise AssertionError(asked)
