"""The folder of one box on its own disk: what is written when, and what an interrupted enrolment left behind.

Orders that a power cut may interrupt at any place:

- The session counter lies there before the key is made, so a key without a counter has lost it, and is never used
  again: a session number must not be used twice with one key.
- What the registrar gave is checked whole, then written; `device.toml` is written last and is the commit point. Without
  a whole `device.toml` the box is not enrolled, and all but key, record, counter and last known time is removed.
- A new key waits beside the old one until the room authority has taken it. Then it takes its place, and the box asks
  for certificate and roster as one that has lost them.
- A wipe begins with the key, so that what is left of a wiped box cannot enrol itself again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from device.clock import Clock, TimeSource
from device.config import Broker, Capture, Inference, Section, UnitConfig, load_unit
from device.errors import ConfigError, MoodlineError, StorageError
from device.messages.envelope import KeySigner
from device.messages.sealing import Sealer
from device.messages.trust_bundle import TrustBundle, decode_bundle, verify_bundle
from device.system.clock import SystemClock
from device.system.keys import load_signing_key, public_pem, signing_pem
from device.system.storage import (
    DISK,
    OWNER_ONLY,
    SESSION_FILE,
    SPILL_FILE,
    Disk,
    SessionCounter,
    read,
    read_record,
    write_durably,
    write_record,
)
from device.system.trusted_time import TIME_FILE, TrustedTime
from device.trust import STAGED_SUFFIX, line_in, load_trusted
from provisioning import boxes
from provisioning.authority import CA_CERTIFICATE, POLICY_FILE, ROSTER_FILE, VERIFYING_KEY
from provisioning.certificates import pem
from provisioning.enrolling import BoxSigner, Record
from provisioning.enrolment_messages import Enrolled, Renewed
from provisioning.keys import WORLD_READABLE
from provisioning.refusals import Refusal, RefusalError

RECORD_FILE: Final = "enrolment.json"
STATUS_FILE: Final = "status.json"
SETTINGS_FILE: Final = "box.toml"
KEY_ID: Final = "box"
PEM_BYTES: Final = 65_536
SETTINGS_BYTES: Final = 65_536
#: A wipe leaves this one: it says which microphone and camera the hardware has, and nothing about room or people.
KEPT_BY_WIPE: Final = SETTINGS_FILE
_TRUST_FILES: Final = (
    boxes.CERTIFICATE_FILE,
    CA_CERTIFICATE,
    VERIFYING_KEY,
    ROSTER_FILE,
    POLICY_FILE,
)


class BoxSettings(Section, frozen=True, kw_only=True):
    """box.toml, optional: what the image maker or an operator knows of the hardware. The default names fit one USB
    microphone under our ALSA rule and one Raspberry Pi camera module."""

    capture: Capture = Capture(microphone="moodline", camera="imx")
    inference: Inference = Inference()
    muted: bool = False


class _Timeless:
    """A clock that cannot be believed: whether files are whole does not depend on the time."""

    def monotonic(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 0

    def time_source(self) -> TimeSource:
        return TimeSource.UNSET


class Checked(msgspec.Struct, frozen=True):
    """What the registrar gave, verified. `authority_key` is the room authority's that signed the bundle (32 bytes)."""

    bundle: TrustBundle
    authority_key: bytes
    certificate: x509.Certificate
    certificate_authority: x509.Certificate


class BoxFolder:
    """One box's folder. Every method raises StorageError when the disk refuses, ConfigError when a file is unsafe."""

    def __init__(self, root: Path, *, disk: Disk = DISK, clock: Clock | None = None) -> None:
        self.root = root.absolute()
        self._disk = disk
        self._clock = clock or SystemClock()

    @property
    def config_file(self) -> Path:
        """device.toml"""
        return self.root / boxes.UNIT_FILE

    @property
    def _key_file(self) -> Path:
        return self.root / boxes.KEY_FILE

    @property
    def _next_key_file(self) -> Path:
        return self.root / (boxes.KEY_FILE + STAGED_SUFFIX)

    @property
    def _state(self) -> Path:
        return self.root / boxes.STATE_FOLDER

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other `moodline-box` out of this folder. Raises ConfigError when one is at work."""
        boxes.make_folder(self.root)
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.root}: another moodline-box is at work there.",
                next_step="Wait for it, or stop the service moodline-box first.",
            ) from error
        finally:
            os.close(descriptor)

    # --- key and record ------------------------------------------------------------------------------------------

    def signer(self) -> KeySigner | None:
        """The box's key; None when there is none yet.

        Raises ConfigError when its file is open to others, damaged, or has lost its session counter.
        """
        if not self._key_file.exists():
            return None
        key = load_signing_key(self._key_file)
        if not (self._state / SESSION_FILE).exists():
            raise ConfigError(
                f"{self._state / SESSION_FILE}: is lost, and a session number must never be used twice with one key.",
                next_step="Wipe this box (moodline-box wipe), enrol it anew and let it replace the old unit.",
            )
        return KeySigner(KEY_ID, key)

    def make_key(self) -> KeySigner:
        """A fresh key from the system's randomness, readable by its owner alone. What belonged to another key goes."""
        self._make_state_folder()
        self.remember(None)
        self._remove(self._state / SPILL_FILE)
        SessionCounter(self._state / SESSION_FILE, disk=self._disk).create()
        key = Ed25519PrivateKey.generate()
        write_durably(self._key_file, signing_pem(key), disk=self._disk)
        return KeySigner(KEY_ID, key)

    def next_key(self, *, make: bool) -> KeySigner | None:
        """The key that shall follow this one, made first when there is none and `make` says so."""
        path = self._next_key_file
        if path.exists():
            return KeySigner(KEY_ID, load_signing_key(path))
        if not make:
            return None
        key = Ed25519PrivateKey.generate()
        write_durably(path, signing_pem(key), disk=self._disk)
        return KeySigner(KEY_ID, key)

    def take_next_key(self) -> None:
        """The key that waited is the box's key from now on."""
        try:
            self._disk.rename(self._next_key_file, self._key_file)
            self._disk.fsync_folder(self.root)
        except OSError as error:
            raise StorageError(
                f"{self._key_file}: cannot be replaced ({error.strerror}).",
                next_step="Check the storage: full, read-only or worn out?",
            ) from error

    def next_key_is_rostered(self) -> bool:
        """Whether the roster on this disk lists this unit with the key that waits: it came over MQTT meanwhile."""
        try:
            waiting = self.next_key(make=False)
            if waiting is None:
                return False
            config = load_unit(self.config_file)
            roster = load_trusted(config.trust, config.room, _Timeless(), self._disk).roster
        except MoodlineError:
            return False
        return line_in(roster, config.unit, waiting.public_key) is not None

    def record(self) -> Record | None:
        """What the box remembers of its enrolment. A damaged record is as good as none."""
        path = self.root / RECORD_FILE
        try:
            return read_record(path, Record, limit=PEM_BYTES) if path.exists() else None
        except StorageError:
            return None

    def remember(self, record: Record | None) -> None:
        """Make the record durable; None removes it."""
        path = self.root / RECORD_FILE
        if record is None:
            self._remove(path)
        elif record != self.record():
            write_record(path, record, disk=self._disk)

    # --- enrolment -----------------------------------------------------------------------------------------------

    def enrolled(self) -> UnitConfig | None:
        """The configuration of an enrolled box; None when the box is not enrolled, or has lost a part of it."""
        if not self.config_file.exists():
            return None
        try:
            config = load_unit(self.config_file)
            trusted = load_trusted(config.trust, config.room, _Timeless(), self._disk)
            key = load_signing_key(config.trust.key).public_key()
            certificate = self.certificate()
            x509.load_pem_x509_certificate(read(config.trust.certificate_authority, limit=PEM_BYTES))
        except (MoodlineError, ValueError):
            return None
        listed = {unit.key for units in trusted.roster.lines.values() for unit in units if unit.unit == config.unit}
        own = certificate.public_key() == key and (not listed or listed == {key.public_bytes_raw()})
        return config if own else None

    def undo_half_done(self) -> bool:
        """Remove what an interrupted enrolment left, or a box that lost a part still has; whether there was any."""
        left = [self.config_file, *(self.root / name for name in _TRUST_FILES)]
        left += [path.with_name(path.name + STAGED_SUFFIX) for path in left]
        removed = [path for path in left if self._remove(path)]
        return bool(removed)

    def check(self, enrolled: Enrolled, key: BoxSigner) -> Checked:
        """Verify all that the registrar gave, before a byte of it is stored. Raises RefusalError MALFORMED."""
        try:
            authority = load_pem_public_key(enrolled.room_authority.encode())
            broker = {"host": enrolled.broker_host or "any", "port": enrolled.broker_port}
            msgspec.convert(broker | {"server_name": enrolled.broker_name or None}, Broker)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise RefusalError(Refusal.MALFORMED, f"The room authority's key or the broker: {error}.") from error
        if not isinstance(authority, Ed25519PublicKey):
            raise RefusalError(Refusal.MALFORMED, "The room authority's key is of another kind.")
        certificate, ca = _check_certificate(enrolled, enrolled.unit, key.public_key)
        try:
            bundle = decode_bundle(enrolled.trust)
            verified = verify_bundle(bundle, authority.public_bytes_raw(), enrolled.room)
            Sealer(verified.roster.gateway.opening_key, verified.roster.suite)
        except MoodlineError as error:
            raise RefusalError(Refusal.MALFORMED, f"The trust bundle: {error.what}") from error
        if line_in(verified.roster, enrolled.unit, key.public_key) != enrolled.line:
            raise RefusalError(
                Refusal.MALFORMED, f"The roster does not list {enrolled.unit} with this box's key on {enrolled.line}."
            )
        return Checked(bundle, verified.authority_key, certificate, ca)

    def store(
        self, enrolled: Enrolled, checked: Checked, record: Record, *, host: str, settings: BoxSettings
    ) -> UnitConfig:
        """Write what was checked, device.toml last. `host` is where the broker is when the registrar does not say."""
        before = self.record()
        self.remember(record)
        self._make_state_folder()
        if before is None or before.unit != enrolled.unit:
            self._remove(self._state / SPILL_FILE)
        self._write(boxes.CERTIFICATE_FILE, pem(checked.certificate))
        self._write(CA_CERTIFICATE, pem(checked.certificate_authority))
        self._write(VERIFYING_KEY, public_pem(Ed25519PublicKey.from_public_bytes(checked.authority_key)))
        self._write(POLICY_FILE, checked.bundle.policy)
        self._write(ROSTER_FILE, checked.bundle.roster)
        self.note_time(enrolled.wall_ms, checked.certificate)
        config = UnitConfig(
            room=enrolled.room,
            line=enrolled.line,
            unit=enrolled.unit,
            desk=enrolled.desk or enrolled.unit,
            state=self._state,
            muted=settings.muted,
            trust=boxes.trust_in(self.root),
            broker=Broker(
                host=enrolled.broker_host or host, port=enrolled.broker_port, server_name=enrolled.broker_name or None
            ),
            capture=settings.capture,
            inference=settings.inference,
        )
        self.write_config(config)
        return config

    # --- life after enrolment ------------------------------------------------------------------------------------

    def certificate(self) -> x509.Certificate:
        """The box's certificate. Raises StorageError or ValueError."""
        return x509.load_pem_x509_certificate(read(self.root / boxes.CERTIFICATE_FILE, limit=PEM_BYTES))

    def floor_ms(self) -> int:
        """The time that has surely come, in milliseconds since 1970."""
        begins_ms = round(self.certificate().not_valid_before_utc.timestamp() * 1_000)
        return TrustedTime(self._state / TIME_FILE, self._clock, known_ms=begins_ms, disk=self._disk).floor_ms

    def renew(self, renewed: Renewed, config: UnitConfig) -> None:
        """Take a renewed certificate, for the key that is here. Raises RefusalError MALFORMED when it is not right."""
        key = load_signing_key(self._key_file).public_key().public_bytes_raw()
        certificate, ca = _check_certificate(renewed, config.unit, key)
        self._write(CA_CERTIFICATE, pem(ca))
        self._write(boxes.CERTIFICATE_FILE, pem(certificate))
        self.note_time(renewed.wall_ms, certificate)

    def move_broker(self, config: UnitConfig, host: str) -> UnitConfig:
        """Write the broker's new address to device.toml. The name in its certificate stays what it was."""
        name = config.broker.server_name or config.broker.host
        broker = msgspec.structs.replace(config.broker, host=host, server_name=name)
        moved = msgspec.structs.replace(config, broker=broker)
        self.write_config(moved)
        return moved

    def note_time(self, wall_ms: int, certificate: x509.Certificate) -> None:
        """Raise the last known time by the certificate's beginning and, within its bounds, by the registrar's word."""
        begins_ms = round(certificate.not_valid_before_utc.timestamp() * 1_000)
        known = TrustedTime(self._state / TIME_FILE, self._clock, known_ms=begins_ms, disk=self._disk)
        known.note(wall_ms, TimeSource.GATEWAY, at_once=True)

    def settings(self) -> BoxSettings:
        """box.toml, or the defaults. Raises ConfigError naming the file and the entry."""
        path = self.root / SETTINGS_FILE
        if not path.exists():
            return BoxSettings()

        def decode_path(wanted: type, value: object) -> object:
            if wanted is Path and isinstance(value, str):
                return self.root / Path(value).expanduser()
            raise TypeError(f"expected {wanted.__name__}, got {type(value).__name__}")

        try:
            return msgspec.toml.decode(read(path, limit=SETTINGS_BYTES), type=BoxSettings, dec_hook=decode_path)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: {error}.", next_step="Correct that entry; see docs/configuration.md."
            ) from error

    # --- decommissioning -----------------------------------------------------------------------------------------

    def wipe(self) -> None:
        """Overwrite the key and remove everything but box.toml. Twice is the same as once.

        On flash an overwritten block may survive in a spare one: a card that leaves the school is destroyed, and the
        unit is revoked in any case.
        """
        for path in sorted(self.root.glob(boxes.KEY_FILE + "*")):
            if path.is_file() and not path.is_symlink():
                self._overwrite(path)
            self._remove(path)
        for path in sorted(self.root.iterdir()):
            if path.name == KEPT_BY_WIPE:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._disk.fsync_folder(self.root)

    def _overwrite(self, path: Path) -> None:
        try:
            descriptor = self._disk.open(path, OWNER_ONLY)
            try:
                rest = os.urandom(path.stat().st_size)
                while rest:
                    rest = rest[self._disk.write(descriptor, rest) :]
                self._disk.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be overwritten ({error.strerror}).", next_step="Destroy the card instead."
            ) from error

    def _make_state_folder(self) -> None:
        """It belongs to whom the box's folder belongs, though root may run this."""
        boxes.make_folder(self._state)
        if os.geteuid() == 0:
            owner = self.root.stat()
            os.chown(self._state, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def _write(self, name: str, content: bytes) -> None:
        """What stands already is left alone: whoever watches a file begins anew when it changes."""
        path = self.root / name
        if not path.exists() or path.read_bytes() != content:
            write_durably(path, content, mode=WORLD_READABLE, disk=self._disk)

    def write_config(self, config: UnitConfig) -> None:
        """Write device.toml: the box is enrolled, as this says."""
        write_durably(self.config_file, boxes.render(config, self.root).encode(), disk=self._disk)

    def _remove(self, path: Path) -> bool:
        """Remove a file, durably; whether it was there."""
        try:
            path.unlink()
            self._disk.fsync_folder(path.parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be removed ({error.strerror}).", next_step="Check the storage: read-only or worn out?"
            ) from error
        return True


def _check_certificate(given: Enrolled | Renewed, unit: str, key: bytes) -> tuple[x509.Certificate, x509.Certificate]:
    """Certificate and authority, when the authority issued it for that unit and key. Raises RefusalError MALFORMED."""
    try:
        certificate = x509.load_pem_x509_certificate(given.certificate.encode())
        ca = x509.load_pem_x509_certificate(given.certificate_authority.encode())
        public = certificate.public_key()
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RefusalError(
            Refusal.MALFORMED, "The certificate is none, or not by the room's certificate authority."
        ) from error
    names = [name.value for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    if not isinstance(public, Ed25519PublicKey) or public.public_bytes_raw() != key or names != [unit]:
        raise RefusalError(Refusal.MALFORMED, f"The certificate is not for {unit} with this box's key.")
    return certificate, ca
