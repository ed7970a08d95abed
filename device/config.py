"""Configuration files to frozen typed structs: an unknown key is an error, and every limit has a name and a unit.

`load_unit` reads device.toml, `load_gateway` reads gateway.toml. Relative paths count from the file's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from device.errors import ConfigError

CONFIG_BYTES: Final = 262_144

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
Port = Annotated[int, msgspec.Meta(gt=0, lt=65536)]
Identifier = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
#: A row from the board, or a column from the left, from 1.
PlaceNumber = Annotated[int, msgspec.Meta(ge=1, le=99)]
RuntimeName = Literal["tflite-runtime", "litert"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections."""


class LineLimits(Section, frozen=True, kw_only=True):
    """Every bound of the line protocol; the same on units, gateway and offline verifier.

    A round has at most one link of each unit, so `units_per_line` bounds it too. How many witnesses a label needs is
    not a limit: the signed deployment policy says it.
    """

    message_bytes: PositiveInt = 32_768
    entries_per_link: PositiveInt = 16
    units_per_line: PositiveInt = 40
    rounds_in_memory: PositiveInt = 64
    backlog_entries: PositiveInt = 7_200
    spill_after_ms: PositiveInt = 5_000
    hop_timeout_ms: PositiveInt = 60
    round_period_ms: PositiveInt = 500
    round_deadline_ms: PositiveInt = 450
    absent_after_rounds: PositiveInt = 4
    clock_tolerance_ms: PositiveInt = 120_000

    def __post_init__(self) -> None:
        if self.round_deadline_ms > self.round_period_ms:
            raise ValueError("`round_deadline_ms` must not be above `round_period_ms`")


class Trust(Section, frozen=True, kw_only=True):
    """Files that say who we are and whom we believe. `key` must be readable by its owner alone."""

    key: Path
    certificate: Path
    certificate_authority: Path
    room_authority_key: Path
    roster: Path
    policy: Path


class Broker(Section, frozen=True, kw_only=True):
    """The room's MQTT broker, reached over mutual TLS. `server_name` is the name in its certificate when that is not
    `host`: an address may change. With `session_expiry_s` 0 the broker keeps no session for us while we are away: what
    must not be lost is the outbox's to repeat, and over sleeping sessions Debian's mosquitto breaks
    (provisioning/broker.py)."""

    host: Name
    server_name: Name | None = None
    port: Port = 8883
    keepalive_s: Annotated[int, msgspec.Meta(gt=0, lt=2**16)] = 15
    session_expiry_s: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    reconnect_max_s: PositiveInt = 10
    queue_messages: PositiveInt = 2_000


class Capture(Section, frozen=True, kw_only=True):
    """Where sound and pictures come from.

    `microphone` and `camera` are stable names (see `moodline-unit --list-devices`), "none", or "replay", which plays
    the take in `replay` (a take folder, or a folder of take folders, played in turn).
    """

    microphone: Name
    camera: Name
    replay: Path | None = None
    replay_speed: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    replay_loop: bool = True
    block_ms: PositiveInt = 20
    ring_seconds: PositiveInt = 6
    frames_per_second: PositiveInt = 2
    silent_driver_after_ms: PositiveInt = 2_000

    def __post_init__(self) -> None:
        if self.microphone == self.camera == "none":
            raise ValueError('`microphone` and `camera` are both "none": the box would sense nothing')
        if "replay" in (self.microphone, self.camera) and self.replay is None:
            raise ValueError('`replay` is missing: a sense is set to "replay"')


class Inference(Section, frozen=True, kw_only=True):
    """The bundle and the runtime. `threads` are per network."""

    bundle: Path | None = None
    runtime: RuntimeName = "tflite-runtime"
    threads: PositiveInt = 1


class UnitConfig(Section, frozen=True, kw_only=True):
    """device.toml. `desk` is the name that people see."""

    room: Identifier
    line: Identifier
    unit: Identifier
    desk: Name
    state: Path
    muted: bool = False
    trust: Trust
    broker: Broker
    capture: Capture
    inference: Inference = Inference()
    limits: LineLimits = LineLimits()


class Web(Section, frozen=True, kw_only=True):
    """The page and its interface."""

    host: Name = "127.0.0.1"
    port: Port = 8080
    certificate: Path | None = None
    key: Path | None = None
    live_clients: PositiveInt = 50

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` come together or not at all")


class GatewayConfig(Section, frozen=True, kw_only=True):
    """gateway.toml. `opening_key` is the key that alone opens labels; `desks` are unit ids with their names.

    `places` are unit ids with (row, column) in the room, for the page's map; a unit without one is not on the map.
    """

    room: Identifier
    gateway: Identifier
    state: Path
    opening_key: Path
    trust: Trust
    broker: Broker
    web: Web = Web()
    limits: LineLimits = LineLimits()
    desks: dict[Identifier, Name] = {}
    places: dict[Identifier, tuple[PlaceNumber, PlaceNumber]] = {}


Config = TypeVar("Config", UnitConfig, GatewayConfig)


def _load(path: Path, kind: type[Config]) -> Config:
    def decode_path(wanted: type, value: object) -> object:
        if wanted is Path and isinstance(value, str):
            return path.absolute().parent / Path(value).expanduser()
        raise TypeError(f"expected {wanted.__name__}, got {type(value).__name__}")

    try:
        with path.open("rb") as stream:
            return msgspec.toml.decode(stream.read(CONFIG_BYTES), type=kind, dec_hook=decode_path)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}).",
            next_step="Provision this box (moodline-provision), or give the right file with --config.",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}.", next_step="Correct that entry; see docs/configuration.md.") from error


def load_unit(path: Path) -> UnitConfig:
    """Read device.toml. Raises ConfigError naming the file and the entry."""
    return _load(path, UnitConfig)


def load_gateway(path: Path) -> GatewayConfig:
    """Read gateway.toml. Raises ConfigError naming the file and the entry."""
    return _load(path, GatewayConfig)
