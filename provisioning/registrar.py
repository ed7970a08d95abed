"""`moodline-registrar`: enrols boxes, renews certificates, hands out the room's trust bundle, over HTTPS.

It runs on the gateway machine all year with its own key and the certificate authority's, without the room authority's.
With `--authority` it can admit boxes too: "the office is open", for an afternoon.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from device.clock import Clock
from device.errors import ConfigError, MoodlineError, TransportError
from device.system.clock import SystemClock
from device.system.storage import write_durably
from device.system.systemd import log_handler
from provisioning import boxes, certificates, keys
from provisioning.authority import CA_KEY, REGISTRAR_KEY, RoomAuthority
from provisioning.connections import hurried_protocol
from provisioning.discovery import Advertisement, own_addresses
from provisioning.enrolment_messages import REGISTRAR_PORT
from provisioning.office import OpenOffice
from provisioning.publication import (
    OWNERS_DISK,
    Broker,
    BrokerProcess,
    BrokerService,
    Places,
    hand_over,
    publish,
    renew_own,
)
from provisioning.registrar_app import build_app, guarded
from provisioning.registration import SETTINGS_FILE, RegistrarFolder, RegistrarSettings, Registration

LOG: Final = logging.getLogger(__name__)
FINDING: Final = 1
REFUSED: Final = 2
UPKEEP_S: Final = 86_400.0
LOOK_S: Final = 3.0
STOP_TIMEOUT_S: Final = 5.0
ALL_ADDRESSES: Final = frozenset({"0.0.0.0", "::"})
#: Nobody looks at the dates of the self-signed certificate: boxes pin its key, and their clock may stand at 1970.
CERTIFICATE_BEGINS: Final = datetime(1970, 1, 1, tzinfo=UTC)
CERTIFICATE_LIFE: Final = timedelta(days=36_500)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the room's registrar until SIGTERM or SIGINT."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, handlers=[log_handler("moodline-registrar")]
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        folder = RegistrarFolder(options.folder)
        if options.upkeep:
            return 0 if upkeep(folder, SystemClock()) else FINDING
        office = _office(options, folder)
        with contextlib.ExitStack() as running:
            registrar = Registrar(folder, host=options.host, port=options.port, office=office)
            running.callback(registrar.stop)
            registrar.start()
            print(f"The registrar of room {folder.settings.room} is at {registrar.address}", flush=True)
            print(f"Boxes know it by its key digest {folder.digest.hex()}", flush=True)
            print(_office_sentence(options.authority), flush=True)
            beacon = Beacon(folder, options.host, registrar.port)
            running.callback(beacon.stop)
            _wait(stop, folder, None if options.no_mdns else beacon)
    except MoodlineError as error:
        print(f"moodline-registrar: {error}", file=sys.stderr)
        return REFUSED
    print("The registrar has stopped.", flush=True)
    return 0


def _wait(stop: threading.Event, folder: RegistrarFolder, beacon: Beacon | None) -> None:
    """Until asked to stop: do the daily upkeep, and tell the network when this machine's address changes."""
    clock = SystemClock()
    kept_at = clock.monotonic()
    while True:
        if beacon is not None:
            beacon.look()
        if stop.wait(LOOK_S):
            return
        if clock.monotonic() - kept_at >= UPKEEP_S:
            upkeep(folder, clock)
            kept_at = clock.monotonic()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moodline-registrar",
        description="Enrols boxes, renews their certificates and hands out the room's roster, over HTTPS.",
        epilog="Exit codes: 0 stopped on request, 1 --upkeep could not do everything, 2 refused to start.",
    )
    parser.add_argument("--folder", type=Path, default=Path("/var/lib/moodline/registrar"), help="default: %(default)s")
    parser.add_argument(
        "--authority",
        type=Path,
        metavar="DIR",
        help="the room authority's folder: the office is open, boxes with a token are admitted at once",
    )
    parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="the authority's passphrase (mode 600)")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")
    parser.add_argument("--port", type=int, default=REGISTRAR_PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--no-mdns", action="store_true", help="do not tell the network where the registrar is")
    parser.add_argument(
        "--upkeep",
        action="store_true",
        help="only renew the certificates of gateway and broker where it is time, and stop; for root, to whom their"
        " folders are open",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    return parser


def _office_sentence(authority: Path | None) -> str:
    if authority is None:
        return "The room authority is closed: boxes wait until an operator accepts them (moodline-provision accept)."
    return f"The room authority in {authority} is open: boxes with a token of this room are admitted at once."


def _office(options: argparse.Namespace, folder: RegistrarFolder) -> OpenOffice | None:
    if options.authority is None:
        return None
    passphrase = keys.read_passphrase(options.passphrase_file) if options.passphrase_file is not None else None
    return open_office(RoomAuthority.open(options.authority, passphrase), folder)


def open_office(authority: RoomAuthority, folder: RegistrarFolder) -> OpenOffice:
    """The open room authority over a registrar's folder.

    It learns which certificates the registrar has issued, so that a revocation ends them, and what it has published
    already is carried over.

    Raises ConfigError when the authority is another room's or a folder is not open to this user, StorageError.
    """
    if authority.room != folder.settings.room or authority.registrar_digest != folder.digest:
        raise ConfigError(
            f"{authority.folder}: is not the authority by which {folder.folder} was set up.",
            next_step="Give this room's authority, or set up the gateway again.",
        )
    for place in (folder.places.registrar, folder.places.gateway, folder.places.broker):
        if place is not None and not os.access(place, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{place}: cannot be written to by this user, so no change of the room could be published.",
                next_step="Run it as root, who may write to all of them, while the authority is open.",
            )
    ca = authority.ca.certificate
    authority.learn_certificates(each for each in folder.all_issued() if certificates.is_issued_by(each, ca))
    life = timedelta(days=folder.settings.certificate_days)
    office = OpenOffice(authority, folder.places, broker_of(folder.settings), life=life)
    office.publish()
    return office


def broker_of(settings: RegistrarSettings) -> Broker | None:
    """How the settings say that mosquitto is told to reload; None when they do not."""
    if settings.broker is None:
        return None
    if settings.broker_service is not None:
        return BrokerService(settings.broker, settings.broker_service)
    if settings.broker_pid_file is not None:
        return BrokerProcess(settings.broker, settings.broker_pid_file)
    return None


def write_registrar_box(
    folder: Path,
    authority: RoomAuthority,
    *,
    broker_host: str = "",
    broker_port: int = 8_883,
    broker_name: str = "broker",
    certificate_days: int = 730,
    gateway: Path | None = None,
    broker: Path | None = None,
    broker_service: str | None = None,
    broker_pid_file: Path | None = None,
) -> None:
    """The registrar's folder, from an opened room authority: its key, the certificate authority, what is public.

    Running it again brings it up to date and leaves the book of claims alone. The keys lie there without a passphrase,
    for their owner alone: the program starts without a person. See `RegistrarSettings` for the rest. Raises
    ConfigError before the room has a policy and a gateway, StorageError.
    """
    boxes.make_folder(folder)
    settings = RegistrarSettings(
        room=authority.room,
        broker_host=broker_host,
        broker_port=broker_port,
        broker_name=broker_name,
        certificate_days=certificate_days,
        gateway=gateway,
        broker=broker,
        broker_service=broker_service,
        broker_pid_file=broker_pid_file,
    )
    publish(authority, Places(folder))
    for name, key in ((REGISTRAR_KEY, authority.registrar_key), (CA_KEY, authority.ca.key)):
        keys.write_signing_key(folder / name, key)
        hand_over(folder / name)
    text = boxes.render(settings, folder.absolute())
    write_durably(folder / SETTINGS_FILE, text.encode(), disk=OWNERS_DISK)


class Registrar:
    """The program's HTTPS server, on its own thread.

    Raises ConfigError when a key or file is unusable or the port is taken.
    """

    def __init__(
        self,
        folder: RegistrarFolder,
        *,
        host: str,
        port: int,
        office: OpenOffice | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()
        registration = Registration(folder, self._clock, office)
        registration.check()
        self._context = server_context(folder.key, folder.folder / REGISTRAR_KEY)
        self._listener = _bind(host, port)
        self.port: int = self._listener.getsockname()[1]
        self.address = f"https://{f'[{host}]' if ':' in host else host}:{self.port}"
        config = uvicorn.Config(
            guarded(build_app(registration)),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            http=hurried_protocol(folder.limits),
            limit_concurrency=folder.limits.connections,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
            ssl_context_factory=lambda *_: self._context,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="registrar", daemon=True)

    def start(self) -> None:
        """Do the upkeep, begin to serve, and return at once."""
        upkeep(self._folder, self._clock)
        self._thread.start()

    def stop(self) -> None:
        """Finish open requests and stop. May be called twice, and before `start`."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)
        self._listener.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except SystemExit:
            LOG.error("boxes cannot be served on %s", self.address)


def upkeep(folder: RegistrarFolder, clock: Clock) -> bool:
    """Renew the gateway's and the broker's certificates where it is time; False when that failed, which is logged.

    A folder that is not open to this user is another's to keep: a service does not write into its neighbours'.
    """
    places, broker = folder.places, broker_of(folder.settings)
    now = datetime.fromtimestamp(clock.wall_ms() // 1_000, UTC)
    done = True
    for place in (places.gateway, places.broker):
        if place is None or not os.access(place, os.W_OK | os.X_OK):
            continue
        try:
            name = renew_own(place, folder.certificate_authority(), now)
            if name is not None:
                print(f"The certificate of {name} was renewed.", flush=True)
                if place == places.broker and broker is not None:
                    broker.reload()
        except MoodlineError as error:
            LOG.error("the certificate in %s was not renewed, or the broker not told: %s", place, error)
            done = False
    return done


def server_context(key: Ed25519PrivateKey, key_file: Path) -> ssl.SSLContext:
    """TLS 1.3 with a self-signed certificate over the key, which lives in memory only. Raises ConfigError."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Moodline registrar")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(CERTIFICATE_BEGINS)
        .not_valid_after(CERTIFICATE_BEGINS + CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, algorithm=None)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        with _in_memory(certificates.pem(certificate)) as path:
            context.load_cert_chain(path, key_file)
    except OSError as error:
        raise ConfigError(
            f"{key_file}: cannot be used for TLS ({error.strerror or type(error).__name__}).",
            next_step="Set up the gateway again from the room authority.",
        ) from error
    return context


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path of a file that lies on no disk: OpenSSL's Python interface takes certificates by path alone."""
    descriptor = os.memfd_create("moodline-registrar", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Boxes may come before uvicorn has begun: 40 are switched on at once.
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host} port {port} cannot be used ({error.strerror}).",
            next_step="Stop the program that uses it (perhaps another registrar), or give another --port.",
        ) from error
    return listener


class Beacon:
    """Says by mDNS where the registrar is, under the addresses that this machine has at the moment."""

    def __init__(self, folder: RegistrarFolder, host: str, port: int) -> None:
        self._room, self._digest = folder.settings.room, folder.digest
        self._host = host
        self._port = port
        self._told: tuple[str, ...] = ()
        self._advertisement: Advertisement | None = None

    def look(self) -> None:
        """Advertise anew when the addresses have changed. What fails is tried again at the next look."""
        addresses = own_addresses() if self._host in ALL_ADDRESSES else (self._host,)
        if addresses == self._told:
            return
        self.stop()
        if not addresses:
            return
        advertisement = Advertisement(self._room, self._digest, self._port, addresses)
        try:
            advertisement.__enter__()
        except TransportError as error:
            LOG.warning("boxes cannot find the registrar by mDNS: %s", error)
            return
        self._advertisement, self._told = advertisement, addresses
        print(f"Boxes find it by mDNS at {', '.join(addresses)}.", flush=True)

    def stop(self) -> None:
        """Say no more. May be called twice."""
        if self._advertisement is not None:
            self._advertisement.__exit__(None, None, None)
        self._advertisement, self._told = None, ()


if __name__ == "__main__":
    sys.exit(main())
