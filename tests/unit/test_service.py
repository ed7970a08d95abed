"""The unit's loop with the real line machine and gateway in memory: what a peer, a broker or silence can do to it."""

from __future__ import annotations

import errno
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device.clock import TimeSource
from device.config import LineLimits
from device.errors import ConfigError, MoodlineError, RemoteMessageError, StorageError, Verdict
from device.inference.decision import Decision
from device.line.unit import LineUnit, UnitState
from device.messages import topics
from device.messages.envelope import ContentType, open_envelope
from device.messages.label import SenseState
from device.messages.link import decode_link, sign_link
from device.messages.roster import Roster
from device.publish.ports import Event, LastWill
from device.publish.spill import Spill, place_digest
from device.system.storage import DISK, Disk
from device.system.systemd import ServiceNotifier
from device.system.trusted_time import DAY_MS, TIME_FILE, TrustedTime
from device.trust import TrustChange, Trusted
from device.unit.service import BUNDLE_AGAIN_S, Ending, Identity, UnitService
from device.unit.status import last_will
from models.labels import AbstainReason, Emotion
from tests.fakes.clock import FakeClock
from tests.fakes.storage import FailingDisk
from tests.gateway.memory_room import MemoryRoom, a_policy
from tools.vectors import room

UNIT = "desk-1"
STATUS = topics.unit_status(room.ROOM, room.LINE, UNIT)
LABELS = topics.labels(room.ROOM, room.LINE, UNIT)
LINK = topics.link(room.ROOM, room.LINE, UNIT)
TRUST = topics.trust(room.ROOM)


class ScriptedSenses:
    """Senses that decide what a test says; counts how often they were used."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.label: Emotion | None = Emotion.SADNESS
        self.reason: AbstainReason | None = None
        self.states = {"microphone": "ok", "camera": "ok"}
        self.ticks = 0
        self.open = False
        self.window_end = clock.monotonic()

    def start(self) -> None:
        self.open = True

    def stop(self) -> None:
        self.open = False

    def pump(self) -> None:
        assert self.open

    def tick(self, now: float) -> Decision:
        self.ticks += 1
        self.window_end = now - 0.02
        probabilities = np.full(8, 0.125, np.float32)
        return Decision(
            self.label, self.reason, 0.8, probabilities, 0.4, 0.6, SenseState.PRESENT, SenseState.SEVERAL_FACES
        )

    def sense_states(self) -> dict[str, str]:
        return self.states


class ScriptedTrust:
    """Says of each bundle what a test wants, or raises it."""

    def __init__(self) -> None:
        self.answers: dict[bytes, TrustChange | MoodlineError] = {}

    def offer(self, bundle_raw: bytes) -> TrustChange | None:
        answer = self.answers.get(bundle_raw)
        if isinstance(answer, MoodlineError):
            raise answer
        return answer


def change_to(roster: Roster) -> TrustChange:
    """That roster, one epoch later than the standing one."""
    return TrustChange(roster.epoch, Trusted(replace(roster, epoch=roster.epoch + 1), b"", a_policy(), b"", bytes(32)))


class Telling(ServiceNotifier):
    """Keeps the status lines that the service manager would show."""

    def __init__(self, told: list[str]) -> None:
        super().__init__({})
        self._told = told

    def status(self, text: str) -> None:
        self._told.append(text)


class Unit:
    """One unit's real service against the gateway of a `MemoryRoom`."""

    def __init__(self, folder: Path, *, muted: bool = False, disk: Disk = DISK) -> None:
        folder.mkdir(exist_ok=True)
        self.room = MemoryRoom(folder, desks=0)
        self.clock = self.room.clock
        self.senses = ScriptedSenses(self.clock)
        self.folder = folder
        self.disk = disk
        self.muted = muted
        self.windows: list[int] = []
        self.trust = ScriptedTrust()
        self.start(session=3)

    def start(self, session: int) -> None:
        """Start the program, as after a power cut when it ran before."""
        limits = LineLimits()
        spill = Spill(
            self.folder / "outbox.spill",
            place_digest(room.roster(), room.LINE, UNIT),
            session=session,
            capacity=limits.backlog_entries,
            spill_after_s=limits.spill_after_ms / 1_000,
            disk=self.disk,
        )
        self.outbox = spill.outbox
        self.machine = LineUnit(
            roster=room.roster(),
            line=room.LINE,
            session=session,
            signer=room.signer(UNIT),
            outbox=self.outbox,
            limits=limits,
        )
        self.link = self.room.broker.link(
            [TRUST, topics.grant(room.ROOM, room.LINE), topics.link(room.ROOM, room.LINE, "+")],
            LastWill(STATUS, last_will(UNIT, room.LINE, session)),
        )
        self.told: list[str] = []
        self.time = TrustedTime(self.folder / TIME_FILE, self.clock, known_ms=self.clock.wall_ms(), disk=self.disk)
        self.service = UnitService(
            Identity(room.ROOM, room.LINE, UNIT, session, "test-1", "labels", room.signer(UNIT).public_key),
            clock=self.clock,
            senses=None if self.muted else self.senses,
            machine=self.machine,
            spill=spill,
            link=self.link,
            status_topic=STATUS,
            trust_topic=TRUST,
            trust=self.trust,
            time=self.time,
            notifier=Telling(self.told),
            period_s=0.5,
            on_tick=self.windows.append,
        )
        self.senses.start()
        self.link.start()

    def run(self, seconds: float, *, gateway: bool = True) -> None:
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)
            if gateway:
                self.room.service.step()
            self.service.step()

    def labels(self) -> list[dict[str, object]]:
        return [json.loads(payload) for topic, payload in self.room.broker.published if topic == LABELS]

    def statuses(self) -> list[dict[str, object]]:
        return [json.loads(payload) for topic, payload in self.room.broker.published if topic == STATUS]


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(tmp_path)


def test_each_grant_brings_one_decision_and_one_verified_label(unit: Unit) -> None:
    unit.run(5.0)
    sequences = {label["sequence"] for label in unit.labels()}
    assert len(sequences) >= 8
    assert sequences == set(range(1, len(sequences) + 1))
    newest = unit.labels()[-1]
    assert (newest["label"], newest["session"], newest["model"]) == ("sadness", 3, "test-1")
    assert newest["senses"] == {"speech": "present", "face": "several_faces"}
    assert newest["shares"] == {"speech": 0.4, "face": 0.6}


def test_an_abstention_says_its_reason(unit: Unit) -> None:
    unit.senses.label, unit.senses.reason = None, AbstainReason.CONFLICT
    unit.run(2.0)
    assert unit.labels()[-1]["state"] == "abstained"
    assert unit.labels()[-1]["abstain_reason"] == "conflict"


def test_a_muted_unit_opens_no_sense_and_sends_as_many_labels(tmp_path: Path) -> None:
    muted = Unit(tmp_path, muted=True)
    muted.run(5.0)
    assert muted.senses.ticks == 0
    assert len({label["sequence"] for label in muted.labels()}) >= 8
    assert {label["state"] for label in muted.labels()} == {"muted"}


def test_the_public_status_of_a_muted_unit_is_that_of_a_speaking_one(tmp_path: Path) -> None:
    said = []
    for muted in (True, False):
        unit = Unit(tmp_path / str(muted), muted=muted)
        unit.run(2.0)
        said.append(unit.statuses())
    assert said[0] == said[1] != []


def test_without_grants_the_unit_goes_on_deciding_and_nothing_is_lost(unit: Unit) -> None:
    unit.run(2.0)
    unit.room.broker.down()
    unit.run(10.0)
    assert len(unit.outbox) >= 18
    unit.room.broker.up()
    unit.run(6.0)
    sequences = {label["sequence"] for label in unit.labels()}
    assert sequences == set(range(1, len(sequences) + 1))
    assert len(unit.outbox) <= 2


def test_random_bytes_on_every_topic_do_not_stop_the_unit(unit: Unit) -> None:
    unit.run(1.0)
    draw = np.random.default_rng(1)
    for size in (0, 1, 17, 400, 40_000):
        for topic in (topics.grant(room.ROOM, room.LINE), topics.link(room.ROOM, room.LINE, "desk-2")):
            unit.room.broker.deliver(topic, draw.bytes(size))
    before = len(unit.labels())
    unit.run(3.0)
    assert len(unit.labels()) > before


def test_status_follows_the_senses_and_is_said_again_after_a_reconnection(unit: Unit) -> None:
    unit.run(1.0)
    assert unit.statuses()[-1]["microphone"] == "ok"
    unit.senses.states = {"microphone": "silent_driver", "camera": "ok"}
    unit.run(1.0)
    assert unit.statuses()[-1]["microphone"] == "silent_driver"
    said = len(unit.statuses())
    unit.room.broker.down()
    unit.run(1.0)
    unit.room.broker.up()
    unit.run(1.0)
    assert len(unit.statuses()) == said + 1


def test_killed_unit_is_said_to_be_lost_by_its_last_will(unit: Unit) -> None:
    unit.run(1.0)
    unit.link.die()
    assert unit.statuses()[-1]["process"] == "lost"
    assert unit.statuses()[-1]["session"] == 3


def test_without_a_set_clock_the_time_comes_from_the_grant(unit: Unit) -> None:
    unit.clock.source = TimeSource.UNSET
    unit.run(3.0)
    newest = unit.labels()[-1]
    assert newest["time_source"] == "gateway"
    assert abs(unit.windows[-1] - unit.clock.wall_ms()) < 1_000


def stored(unit: Unit) -> list[tuple[int, int]]:
    """(session, sequence) of every label that the gateway has published, each once, in order."""
    return sorted({(int(str(label["session"])), int(str(label["sequence"]))) for label in unit.labels()})


def test_in_normal_work_nothing_is_written_after_the_start(tmp_path: Path) -> None:
    disk = FailingDisk()
    unit = Unit(tmp_path, disk=disk)
    unit.run(60.0)
    assert len(stored(unit)) >= 115
    assert disk.calls == []


@pytest.mark.parametrize("away", ["broker", "gateway"])
def test_labels_made_while_the_gateway_is_away_outlive_a_power_cut(tmp_path: Path, away: str) -> None:
    disk = FailingDisk(bytes_per_write=1 << 20)
    unit = Unit(tmp_path, disk=disk)
    unit.run(5.0)
    if away == "broker":
        unit.room.broker.down()
    unit.run(60.0, gateway=False)
    made = unit.outbox.newest
    assert made is not None
    assert disk.calls.count("fsync") <= 60 / 5
    unit.link.die()
    unit.start(session=4)
    back = [(entry.session, entry.sequence) for entry in unit.outbox.pending(1_000)]
    assert made[1] - back[-1][1] <= 11, "at most the labels of five seconds"
    unit.room.broker.up()
    unit.run(20.0)
    sessions = {session: [number for s, number in stored(unit) if s == session] for session in (3, 4)}
    assert sessions[3] == list(range(1, back[-1][1] + 1))
    assert sessions[4] == list(range(1, len(sessions[4]) + 1)) and len(sessions[4]) > 20
    assert (tmp_path / "outbox.spill").read_bytes() == b""
    written = len(disk.calls)
    unit.run(20.0)
    assert len(disk.calls) == written


def test_a_full_disk_stops_nothing_and_shows_in_the_services_status(tmp_path: Path) -> None:
    class Full(Disk):
        def open(self, path: Path, mode: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    unit = Unit(tmp_path, disk=Full())
    unit.run(2.0)
    unit.room.broker.down()
    unit.run(30.0, gateway=False)
    assert len(unit.outbox) >= 55
    assert "disk failing" in unit.told[-1]
    unit.room.broker.up()
    unit.run(10.0)
    numbers = stored(unit)
    assert numbers == [(3, number) for number in range(1, len(numbers) + 1)] and len(numbers) > 70


def test_a_restored_backup_stays_silent_and_writes_nothing(tmp_path: Path) -> None:
    disk = FailingDisk(bytes_per_write=1 << 20)
    unit = Unit(tmp_path, disk=disk)
    unit.run(5.0)
    unit.link.die()
    unit.start(session=3)
    before = stored(unit)
    unit.run(20.0)
    assert unit.machine.state is UnitState.STOPPED
    assert stored(unit) == before
    assert disk.calls == []


def test_a_unit_that_met_a_later_session_of_its_own_name_writes_nothing_more(tmp_path: Path) -> None:
    disk = FailingDisk(bytes_per_write=1 << 20)
    unit = Unit(tmp_path, disk=disk)
    unit.run(5.0)
    newest = max(
        (payload for topic, payload in unit.room.broker.published if topic == topics.link(room.ROOM, room.LINE, UNIT)),
        key=lambda raw: decode_link(open_envelope(raw, wanted=ContentType.LINK)).round,
    )
    link = decode_link(open_envelope(newest, wanted=ContentType.LINK))
    double = sign_link(replace(link, session=4, entries=()), room.signer(UNIT))
    unit.machine.received(topics.link(room.ROOM, room.LINE, UNIT), double, unit.clock.monotonic())
    assert unit.machine.state is UnitState.LEAVING
    unit.run(20.0, gateway=False)
    assert unit.machine.backlog > 0
    assert unit.machine.state is UnitState.LEAVING
    assert disk.calls == []


@pytest.mark.parametrize("gateway", [True, False])
def test_a_stop_gives_the_gateway_a_moment_and_writes_what_no_grant_covers(tmp_path: Path, gateway: bool) -> None:
    disk = FailingDisk(bytes_per_write=1 << 20)
    unit = Unit(tmp_path, disk=disk)
    unit.run(4.8, gateway=gateway)
    waits = unit.link.next_event

    def time_passes(timeout_s: float) -> Event | None:
        unit.clock.advance(0.01)
        if gateway:
            unit.room.service.step()
        return waits(timeout_s)

    unit.link.next_event = time_passes  # type: ignore[method-assign]
    made = unit.outbox.newest
    stop = threading.Event()
    stop.set()
    unit.service.run(stop)
    assert unit.outbox.newest in (made, None), "no label is made any more"
    unit.start(session=4)
    assert unit.outbox.newest == (None if gateway else made)
    assert disk.calls.count("fsync") == (0 if gateway else 1)


def test_an_old_copy_of_the_spill_brings_nothing_twice_and_accuses_nobody(tmp_path: Path) -> None:
    unit = Unit(tmp_path)
    unit.run(2.0)
    unit.run(20.0, gateway=False)
    copy = (tmp_path / "outbox.spill").read_bytes()
    unit.run(10.0)
    assert (tmp_path / "outbox.spill").read_bytes() == b""
    unit.link.die()
    (tmp_path / "outbox.spill").write_bytes(copy)
    unit.start(session=4)
    assert len(unit.outbox) > 20
    before = [number for number in stored(unit) if number[0] == 3]
    links_before = len(unit.room.broker.published)
    unit.run(10.0)
    assert [number for number in stored(unit) if number[0] == 3] == before
    sent = [payload for topic, payload in unit.room.broker.published[links_before:] if topic == LINK]
    entries = [entry for raw in sent for entry in decode_link(open_envelope(raw, wanted=ContentType.LINK)).entries]
    assert {entry.session for entry in entries} == {4}
    assert (tmp_path / "outbox.spill").read_bytes() == b""
    alerts = [json.loads(raw) for topic, raw in unit.room.broker.published if topic == topics.alerts(room.ROOM)]
    assert [alert for alert in alerts if alert["severity"] == "refused"] == []


# --- a newer roster ---------------------------------------------------------------------------------------------------


def run_until_it_ends(unit: Unit, seconds: float = 5.0) -> Ending:
    """Let the loop run by itself, with time and gateway going on; it is stopped after `seconds`."""
    waits, stop = unit.link.next_event, threading.Event()
    ends = unit.clock.monotonic() + seconds

    def time_passes(timeout_s: float) -> Event | None:
        unit.clock.advance(0.01)
        unit.room.service.step()
        if unit.clock.monotonic() >= ends:
            stop.set()
        return waits(timeout_s)

    unit.link.next_event = time_passes  # type: ignore[method-assign]
    return unit.service.run(stop)


def test_a_newer_roster_ends_the_loop_and_what_waits_is_safe(tmp_path: Path) -> None:
    unit = Unit(tmp_path)
    unit.trust.answers[b"newer"] = change_to(room.roster())
    unit.run(2.0)
    unit.run(2.2, gateway=False)
    unit.room.broker.deliver(TRUST, b"newer", retain=True)
    made = unit.outbox.newest
    assert run_until_it_ends(unit) is Ending.NEWER_ROSTER
    assert unit.statuses()[-1]["process"] == "stopped"
    assert not unit.senses.open
    unit.start(session=4)
    assert unit.outbox.newest == made


def test_a_unit_that_the_newer_roster_puts_out_signs_nothing_more_and_says_so(tmp_path: Path) -> None:
    standing = room.roster()
    others = tuple(row for row in standing.lines[room.LINE] if row.unit != UNIT)
    ours = next(row for row in standing.lines[room.LINE] if row.unit == UNIT)
    rosters = {
        "revoked": replace(standing, revoked=frozenset({UNIT})),
        "gone": replace(standing, lines={room.LINE: others}),
        "replaced": replace(standing, lines={room.LINE: (*others, replace(ours, key=b"another box's key".ljust(32)))}),
    }
    for why, roster in rosters.items():
        unit = Unit(tmp_path / why)
        unit.trust.answers[b"newer"] = change_to(roster)
        unit.run(2.0)
        unit.room.broker.deliver(TRUST, b"newer")
        sent = [topic for topic, _ in unit.room.broker.published].count(LINK)
        assert run_until_it_ends(unit) is Ending.NEWER_ROSTER
        assert [topic for topic, _ in unit.room.broker.published].count(LINK) == sent
        assert unit.statuses()[-1]["process"] == "revoked", why
        assert not (unit.folder / "outbox.spill").exists()


@pytest.mark.parametrize(
    "refusal",
    [
        RemoteMessageError(Verdict.STALE_EPOCH, "A trust bundle of epoch 1."),
        ConfigError("The law forbids it.", next_step="Ask."),
        StorageError("The disk is full.", next_step="Free space."),
    ],
)
def test_a_bundle_that_is_refused_is_told_and_the_unit_goes_on(
    unit: Unit, refusal: MoodlineError, caplog: pytest.LogCaptureFixture
) -> None:
    unit.run(2.0)
    unit.trust.answers[b"bad"] = refusal
    unit.room.broker.deliver(TRUST, b"bad")
    unit.room.broker.deliver(TRUST, b"nothing new")
    before = len(stored(unit))
    assert run_until_it_ends(unit) is Ending.STOPPED
    assert len(stored(unit)) > before
    assert refusal.what in caplog.text


def test_a_bundle_that_the_disk_did_not_take_is_tried_again_and_told_once(
    unit: Unit, caplog: pytest.LogCaptureFixture
) -> None:
    unit.run(1.0)
    unit.trust.answers[b"newer"] = StorageError("The disk is full.", next_step="Free space.")
    unit.room.broker.deliver(TRUST, b"newer")
    assert run_until_it_ends(unit, 2 * BUNDLE_AGAIN_S + 1) is Ending.STOPPED
    assert caplog.text.count("The disk is full.") == 1
    unit.start(session=4)
    unit.room.broker.deliver(TRUST, b"newer")
    unit.run(1.0)
    unit.trust.answers[b"newer"] = change_to(room.roster())
    assert run_until_it_ends(unit, 2 * BUNDLE_AGAIN_S) is Ending.NEWER_ROSTER


# --- the time ---------------------------------------------------------------------------------------------------------


def test_a_grants_time_beyond_the_bounds_is_not_taken_over(tmp_path: Path) -> None:
    unit = Unit(tmp_path)
    unit.clock.source = TimeSource.UNSET
    unit.time = TrustedTime(tmp_path / "other.json", unit.clock, known_ms=unit.clock.wall_ms() - 500 * DAY_MS)
    unit.service._time = unit.time
    unit.run(3.0)
    assert unit.labels()[-1]["time_source"] == "unset"


def test_the_last_known_time_is_written_after_a_day_and_comes_from_a_clock_that_ntp_set(tmp_path: Path) -> None:
    unit = Unit(tmp_path)
    unit.run(2.0)
    assert not (tmp_path / TIME_FILE).exists()
    unit.clock.step_wall(2 * DAY_MS)
    unit.run(2.0)
    kept = json.loads((tmp_path / TIME_FILE).read_text())["floor_ms"]
    assert abs(unit.clock.wall_ms() - kept) < 3_000
