"""One box on the bench, beside a room whose registrar answers for real, and disks that lose power."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest

from device.system.clock import SystemClock
from device.system.storage import DISK, Disk, read_record
from provisioning.box import Box, BoxStatus
from provisioning.box_folder import STATUS_FILE, BoxFolder
from provisioning.box_light import Sign
from provisioning.enrolling import FoundRegistrar
from provisioning.seed_file import SEED_FILE, write_seed
from tests.fakes.clock import FakeClock
from tests.fakes.storage import PowerCutDisk, PowerCutError
from tests.provisioning.registrar_room import ROOM, RegistrarRoom


class Signs:
    """A Signal that remembers what it showed."""

    def __init__(self) -> None:
        self.shown: list[Sign] = []

    def show(self, sign: Sign) -> None:
        if self.shown[-1:] != [sign]:
            self.shown.append(sign)


class Bench:
    """One box on the bench: a root folder, a boot partition, and what stands around it."""

    def __init__(self, folder: Path, room: RegistrarRoom) -> None:
        self.root = folder / "box"
        self.card = folder / "boot" / SEED_FILE
        self.card.parent.mkdir()
        self.room = room
        self.signs = Signs()
        self.clock = FakeClock(wall_ms=SystemClock().wall_ms())
        self.on_network: list[FoundRegistrar] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def folder(self, disk: Disk = DISK) -> BoxFolder:
        return BoxFolder(self.root, disk=disk, clock=self.clock)

    def box(self, disk: Disk = DISK) -> Box:
        folder = self.folder(disk)
        self.root.mkdir(mode=0o700, exist_ok=True)
        return Box(
            folder,
            folder.settings(),
            seeds=[self.card],
            clock=self.clock,
            signal=self.signs,
            search=lambda room, digest: [each for each in self.on_network if digest in (None, each.digest)],
            sleep=self.sleep,
            jitter=lambda: 1.0,
        )

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.on_sleep()

    def enrol(self, within_s: float = 60.0, disk: Disk = DISK) -> bool:
        return self.box(disk).enrol(until=self.clock.monotonic() + within_s)

    def lay_seed(self, changes: Mapping[str, object] = MappingProxyType({})) -> None:
        write_seed(self.card, msgspec.structs.replace(self.room.seed(), **changes))

    def status(self) -> BoxStatus:
        return read_record(self.root / STATUS_FILE, BoxStatus)

    def contents(self) -> dict[str, bytes]:
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room as it was founded, to be copied."""
    return RegistrarRoom(tmp_path_factory.mktemp("built")).folder


@pytest.fixture
def bench(built: Path, tmp_path: Path) -> Iterator[Bench]:
    shutil.copytree(built, tmp_path / "room")
    room = RegistrarRoom(tmp_path / "room")
    made = Bench(tmp_path, room)
    with room.serving():
        made.on_network = [FoundRegistrar(ROOM, room.registrar.digest, room.port, ("127.0.0.1",))]
        yield made


def power_cuts(run: Callable[[Disk], object]) -> Iterator[int]:
    """Run with the power cut at each durable step in turn, until a run has none; yields after each cut."""
    for number in range(400):
        try:
            run(PowerCutDisk(number, bytes_per_write=4_096))
        except PowerCutError:
            yield number
        else:
            return
    raise AssertionError("it never came to its end")
