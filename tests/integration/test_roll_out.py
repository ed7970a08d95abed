"""A newer roster goes through a running room, over a real broker: who is there learns it, and who was away, later."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

import pytest

from device.config import load_unit
from device.messages import topics
from device.publish.ports import Received
from device.system.clock import SystemClock
from device.system.storage import SPILL_FILE
from device.trust import load_trusted
from provisioning import boxes
from provisioning.authority import RoomAuthority
from provisioning.broker import ACCESS_FILE, Member, access_list
from provisioning.publication import Places, publish
from tests.integration.conftest import TAKE
from tests.integration.room_broker import EVENT_TIMEOUT_S, RoomBroker, require_mosquitto, wait_for, wait_until
from tests.integration.test_line_faults import Programs, assert_whole, read_json
from tests.trust_bundles import Signed, signed_by


class PageWatch:
    """Asks the gateway's page for its health every few hundredths of a second, and keeps when it answered."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._answered: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._stop.wait(0.05):
            with contextlib.suppress(OSError, HTTPException):
                try:
                    urllib.request.urlopen(self._address, timeout=1).close()
                except urllib.error.HTTPError as unwell:
                    unwell.close()
                self._answered.append(time.monotonic())

    def longest_silence_s(self) -> float:
        """Between two answers; ends the watch."""
        self._stop.set()
        self._thread.join()
        return max(after - before for before, after in pairwise(self._answered))


class RollOut(Programs):
    """A room whose authority goes on while it runs."""

    def __init__(self, broker: RoomBroker) -> None:
        super().__init__(broker)
        self.signed: Signed = signed_by(broker.room.authority)

    def publish_at_the_authority(self, authority: RoomAuthority) -> None:
        """Publish as the commands of provisioning do, while the gateway looks by itself."""
        publish(authority, Places(boxes.make_folder(self.broker.room.folder / "registrar"), self.broker.room.gateway))
        self.signed = signed_by(authority.folder)

    def lay_down(self, newer: Signed) -> None:
        """Put what the authority signed into the gateway's folder, and let the gateway look at once."""
        newer.write(self.broker.room.gateway)
        self.signed = newer
        self._processes["gateway"].send_signal(signal.SIGHUP)

    def epoch_of(self, unit: str) -> int:
        """The epoch that lies on a unit's disk, verified."""
        config = load_unit(self.broker.room.unit_config(unit))
        return load_trusted(config.trust, config.room, SystemClock()).roster.epoch

    def wait_for_epoch(self, units: tuple[str, ...], more: int = 4) -> None:
        """Return when these units have that many labels stored under the newest epoch."""
        epoch = self.signed.roster.epoch
        wait_until(lambda: {self.epoch_of(unit) for unit in units} == {epoch}, f"{units} learn epoch {epoch}")
        before = {unit: len(self.labels(unit)) for unit in units}
        wait_until(
            lambda: all(len(self.labels(unit)) >= count + more for unit, count in before.items()),
            f"{more} more labels of {units} under epoch {epoch}",
        )

    def exit_code(self, unit: str) -> int:
        """How a unit's program ended by itself."""
        return self._processes.pop(unit).wait(EVENT_TIMEOUT_S)

    def log_of(self, name: str) -> str:
        """What a program has said so far."""
        return (self.broker.box(name) / "log.txt").read_text()

    def spilled(self, unit: str) -> bytes:
        """What of a unit waits on its disk for the gateway."""
        path = self.broker.room.unit(unit) / "state" / SPILL_FILE
        return path.read_bytes() if path.exists() else b""

    def longest_pause_s(self) -> float:
        """Between two labels of a unit that the gateway accepted, of the units that were there all the time."""
        of_units = [sorted(label.accepted_ms for label in self.labels(unit)) for unit in ("a1", "a2")]
        return max(after - before for moments in of_units for before, after in pairwise(moments)) / 1_000


@pytest.fixture
def room(tmp_path: Path) -> Iterator[RollOut]:
    require_mosquitto()
    broker = RoomBroker(tmp_path / "room", TAKE, muted=True)
    broker.start()
    started = RollOut(broker)
    try:
        yield started
    finally:
        started.close()
        broker.close()


@pytest.mark.slow
def test_a_newer_roster_reaches_units_that_are_there_or_away_and_no_label_is_lost_or_doubled(
    room: RollOut,
) -> None:
    room.start_all()
    room.stop("a3")
    page = PageWatch(f"http://127.0.0.1:{room.broker.room.plan.web_port}/healthz")
    authority = room.broker.authority()
    authority.set_policy(replace(room.signed.policy, retention_days=3))
    authority.rotate()
    room.publish_at_the_authority(authority)
    room.wait_for_epoch(("a1", "a2"))
    assert room.epoch_of("a3") == 1
    room.start("a3")
    room.wait_for_epoch(("a3",))
    pause_s, silence_s = room.longest_pause_s(), page.longest_silence_s()
    print(f"longest pause between two accepted labels of one unit over the roll-out: {pause_s:.2f} s")
    print(f"longest time without an answer of the page: {silence_s:.2f} s")
    room.stop_all()
    assert room.accusations() == []
    for unit, last_session in (("a1", 2), ("a2", 2), ("a3", 3)):
        stored = room.sequences(unit)
        assert {1, last_session} <= set(stored) <= set(range(1, last_session + 1))
        for numbers in stored.values():
            assert numbers[0] == 1
            assert_whole(numbers)
        assert not room.spilled(unit), "nothing waits any more"
    assert pause_s < 10 and silence_s < 10


@pytest.mark.slow
def test_a_revoked_unit_stops_by_itself_and_a_moved_one_goes_on_where_the_roster_says(room: RollOut) -> None:
    room.start_all()
    room.lay_down(room.signed.without("a2"))
    assert room.exit_code("a2") == 2
    assert "a2 is revoked. Wipe this box" in room.log_of("a2")
    reader = room.broker.connected("reader", subscriptions=[topics.unit_status("demo", "a", "a2")])
    assert read_json(wait_for(reader, Received))["process"] == "revoked"
    reader.stop()
    signed_before = room.sequences("a2")
    room.start("a2")
    assert room.exit_code("a2") == 2
    room.wait_for_epoch(("a1", "a3"))

    members = [
        Member(entry.name, entry.role, "b" if entry.name == "a3" else entry.line)
        for entry in room.broker.authority().members
    ]
    (room.broker.room.broker / ACCESS_FILE).write_text(access_list("demo", members))
    room.broker.mosquitto.reload()
    room.lay_down(room.signed.moved("a3", "b"))
    room.wait_for_epoch(("a1", "a3"))
    room.stop_all()
    assert room.sequences("a2") == signed_before
    assert {(label.line, label.session) for label in room.labels("a3")} == {("a", 1), ("a", 2), ("b", 3)}
    for numbers in room.sequences("a3").values():
        assert_whole(numbers)
    assert room.accusations() == []
