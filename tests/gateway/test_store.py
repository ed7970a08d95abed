from __future__ import annotations

import hashlib
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from device.errors import StorageError
from device.gateway import store as store_module
from device.gateway.documents import LabelDocument
from device.gateway.store import LabelReader, Store
from device.line.actions import ClosedRound, Persist
from device.line.log import NOTHING_DELETED, Stub
from device.messages.envelope import digest
from models.labels import Emotion
from tests.gateway.scripted import a_label, an_alert
from tools.vectors import room
from tools.vectors.cases import LIMITS, Round, SealedEntries

LINE = "a"
DAY_MS = 86_400_000


def a_round(number: int, *, links: tuple[bytes, ...] = (b"link",)) -> Persist:
    return Persist(LINE, ClosedRound(number, 1, b"grant %d" % number, links), b"grant %d" % (number + 1))


def fill(store: Store, rounds: int, *, start: int = 1, at_ms: int = 1_000) -> None:
    for number in range(start, start + rounds):
        label = a_label("unit-1", sequence=number, accepted_ms=at_ms + number)
        store.persist(a_round(number), at_ms + number, [label], [])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store(path)) as opened:
        yield opened


def labels_in(path: Path, unit: str = "unit-1") -> list[LabelDocument]:
    return LabelReader(path).since(unit, 0)


def test_after_reopening_rounds_labels_and_open_grant_are_as_they_were(path: Path) -> None:
    label = a_label("unit-1", sequence=5)
    with closing(Store(path)) as store:
        store.persist(a_round(1, links=(b"first", b"second")), 1_000, [label], [])
    with closing(Store(path)) as store:
        assert store.rounds(LINE, limit=9) == [ClosedRound(1, 1, b"grant 1", (b"first", b"second"))]
        assert store.open_grant(LINE) == b"grant 2"
        assert store.open_grant("another-line") is None
    assert labels_in(path) == [label]


def test_a_label_that_comes_twice_is_kept_as_it_was(store: Store) -> None:
    first = a_label("unit-1", sequence=1, accepted_ms=10)
    store.persist(a_round(1), 1_000, [first], [])
    store.persist(a_round(2), 1_500, [msgspec.structs.replace(first, accepted_ms=20)], [])
    assert labels_in(store.path) == [first]


def test_news_of_witnesses_reach_a_stored_label_and_an_unknown_one_is_left_out(store: Store) -> None:
    signed = a_label("unit-1", sequence=1, status="signed", witnesses=0)
    witnessed = msgspec.structs.replace(signed, status="witnessed", witnesses=2)
    store.persist(a_round(1), 1_000, [signed], [])
    store.persist(a_round(2), 1_500, [], [witnessed, a_label("unit-9", sequence=1)])
    assert labels_in(store.path) == [witnessed]
    assert labels_in(store.path, "unit-9") == []


def test_a_round_stored_already_is_refused_and_the_first_one_stays(store: Store) -> None:
    store.persist(a_round(1), 1_000, [], [])
    forged = Persist(LINE, ClosedRound(1, 1, b"other", ()), b"other next")
    with pytest.raises(StorageError, match="round 1 of line a is stored already"):
        store.persist(forged, 2_000, [a_label()], [])
    assert store.rounds(LINE, limit=9) == [ClosedRound(1, 1, b"grant 1", (b"link",))]
    assert store.open_grant(LINE) == b"grant 2"
    assert labels_in(store.path) == []


@pytest.mark.parametrize(
    "statement", ["UPDATE rounds SET signed_grant = x'00'", "UPDATE links SET signed_link = x'00'"]
)
def test_a_stored_round_cannot_be_changed_even_by_sql(store: Store, statement: str) -> None:
    fill(store, 1)
    with closing(sqlite3.connect(store.path)) as intruder, pytest.raises(sqlite3.IntegrityError, match="never changed"):
        intruder.execute(statement)
    assert store.rounds(LINE, limit=1) == [ClosedRound(1, 1, b"grant 1", (b"link",))]


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel fails writes beyond that size (EFBIG), which SQLite meets like a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_disk_that_fails_in_the_middle_of_a_round_leaves_all_earlier_rounds(path: Path) -> None:
    with closing(Store(path)) as store:
        fill(store, 3)
        size = path.with_name(path.name + "-wal").stat().st_size
        with files_no_larger_than(size + 2_000), pytest.raises(StorageError) as caught:
            store.persist(a_round(4, links=(bytes(60_000),)), 4_000, [a_label(sequence=4)], [])
        assert str(path) in caught.value.what and caught.value.next_step
        assert [closed.round for closed in store.rounds(LINE, limit=9)] == [1, 2, 3]
        store.persist(a_round(4), 5_000, [], [])
    with closing(Store(path)) as store:
        assert [closed.round for closed in store.rounds(LINE, limit=9)] == [1, 2, 3, 4]
        assert [label.sequence for label in labels_in(path)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (sqlite3.SQLITE_FULL, "Free space"),
        (sqlite3.SQLITE_READONLY, "read-only"),
        (sqlite3.SQLITE_IOERR_FSYNC, "Check the disk"),
        (sqlite3.SQLITE_BUSY, "Another program"),
    ],
)
def test_each_fault_of_the_disk_names_its_own_next_step(store: Store, code: int, advice: str) -> None:
    error = sqlite3.OperationalError("injected")
    error.sqlite_errorcode = code
    with pytest.raises(StorageError) as caught, store_module._told(store.path, "storing"):
        raise error
    assert advice in caught.value.next_step


def test_a_read_only_file_is_refused_with_the_round_not_acknowledged(store: Store) -> None:
    fill(store, 1)
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match="readonly") as caught:
        store.persist(a_round(2), 2_000, [], [])
    assert "writable" in caught.value.next_step
    assert store.open_grant(LINE) == b"grant 2"


def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(Store(path)) as store:
        fill(store, 200)
    content = bytearray(path.read_bytes())
    content[8_192 : 8_192 + 3_000] = b"\xff" * 3_000
    path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        Store(path)
    assert "put back a whole copy" in caught.value.next_step
    assert path.read_bytes() == content


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"notes of a teacher, not a database" * 100)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="not a database"):
        Store(path)
    assert path.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="newer Moodline"):
        Store(path)


def test_a_folder_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing"):
        Store(tmp_path / "missing" / "gateway.sqlite")


def test_a_second_gateway_on_the_same_file_is_refused_until_the_first_ends(path: Path) -> None:
    first = Store(path)
    with pytest.raises(StorageError, match="another gateway"):
        Store(path)
    first.close()
    Store(path).close()


def test_the_file_is_for_its_owner_alone(store: Store) -> None:
    assert store.path.stat().st_mode & 0o077 == 0


KILLED = """
import sys
from pathlib import Path
from device.gateway.store import Store
from tests.gateway.test_store import fill
store = Store(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    fill(store, 1, start=number)
    print(number, flush=True)
"""


def test_after_a_kill_every_round_that_was_acknowledged_is_there(path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= 25:
            break
    writer.kill()
    acknowledged = [int(line) for line in writer.stdout] or [25]
    writer.wait()
    with closing(Store(path)) as store:
        rounds = [closed.round for closed in store.rounds(LINE, limit=1_000)]
        assert store.open_grant(LINE) == b"grant %d" % (rounds[-1] + 1)
    assert rounds == list(range(1, len(rounds) + 1))
    assert len(rounds) >= acknowledged[-1]
    assert [label.sequence for label in labels_in(path)] == rounds


def test_retention_deletes_the_oldest_and_what_stays_is_unbroken(store: Store) -> None:
    fill(store, 5, at_ms=0)
    fill(store, 3, start=6, at_ms=10 * DAY_MS)
    store.alert(an_alert(1, at_ms=1), [b"proof"])
    assert store.forget(DAY_MS) == 5
    assert [closed.round for closed in store.rounds(LINE, limit=99)] == [6, 7, 8]
    assert [label.sequence for label in labels_in(store.path)] == [6, 7, 8]
    assert store.newest_alerts(9) == []
    assert store.open_grant(LINE) == b"grant 9"


def test_retention_never_deletes_from_the_middle_of_the_chain_when_the_clock_stepped_back(store: Store) -> None:
    for number, at_ms in enumerate((1, 2, 50 * DAY_MS, 3, 51 * DAY_MS), start=1):
        store.persist(a_round(number), at_ms, [], [])
    store.forget(DAY_MS)
    assert [closed.round for closed in store.rounds(LINE, limit=99)] == [3, 4, 5]


def test_retention_deletes_the_last_round_too_and_its_head_stays_in_the_stub(store: Store) -> None:
    fill(store, 4, at_ms=0)
    store.forget(100 * DAY_MS)
    assert store.rounds(LINE, limit=99) == []
    assert labels_in(store.path) == []
    stub = store.stub(LINE)
    assert stub is not None
    assert (stub.first, stub.last, stub.links, stub.head) == (1, 4, 4, digest(b"link"))
    assert store.open_grant(LINE) == b"grant 5"


def test_stubs_of_neighbouring_spans_merge_into_the_one_of_the_whole(tmp_path: Path) -> None:
    stubs = []
    for name, steps in (("whole", (7,)), ("parts", (2, 3, 3, 7))):
        with closing(Store(tmp_path / name)) as store:
            for number in range(1, 9):
                links = tuple(b"link %d/%d" % (number, place) for place in range(3))
                store.persist(a_round(number, links=links), number * DAY_MS, [], [])
            for days in steps:
                store.forget(days * DAY_MS)
            stubs.append(store.stub(LINE))
            assert [closed.round for closed in store.rounds(LINE, limit=99)] == [7, 8]
    assert stubs[0] == stubs[1]
    deleted = [
        (b"grant %d" % number, *(b"link %d/%d" % (number, place) for place in range(3))) for number in range(1, 7)
    ]
    running = NOTHING_DELETED
    for raw in (each for objects in deleted for each in objects):
        running = hashlib.sha256(running + hashlib.sha256(raw).digest()).digest()
    assert stubs[0] == Stub(1, 6, 18, bytes(32), digest(b"link 6/2"), running)


def test_nothing_old_leaves_no_stub(store: Store) -> None:
    fill(store, 3, at_ms=DAY_MS)
    assert store.forget(DAY_MS) == 0
    assert store.stub(LINE) is None


def test_no_byte_of_a_deleted_label_or_sealed_entry_stays_in_the_files(path: Path) -> None:
    sealed, young = b"SEALED-ENTRY-THAT-MUST-GO", b"SEALED-ENTRY-THAT-STAYS"
    with closing(Store(path)) as store:
        for number in range(1, 40):
            label = a_label("unit-1", sequence=number, accepted_ms=number, desk="DESK-THAT-MUST-GO")
            store.persist(a_round(number, links=(sealed * 40,)), number, [label], [])
        store.alert(an_alert(1, at_ms=1, detail="ALERT-THAT-MUST-GO"), [sealed, sealed])
        store.persist(a_round(40, links=(young * 40,)), DAY_MS, [], [])
        assert store.forget(DAY_MS) == 39
        assert store.scrub()
        files = [each for each in path.parent.iterdir() if each.name.startswith(path.name)]
        content = b"".join(each.read_bytes() for each in files)
        assert path.with_name(path.name + "-wal") in files
        for gone in (sealed, b"DESK-THAT-MUST-GO", b"ALERT-THAT-MUST-GO"):
            assert gone not in content
        assert young in content
        assert [closed.round for closed in store.rounds(LINE, limit=99)] == [40]


def test_scrubbing_waits_for_a_reader_and_says_so(store: Store) -> None:
    fill(store, 5, at_ms=0)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM rounds").fetchone() == (5,)
        store.forget(DAY_MS)
        assert not store.scrub()
    assert store.scrub()


def test_a_store_of_the_first_schema_is_brought_up_to_date_with_its_rounds(path: Path) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.executescript(store_module.MIGRATIONS[0])
        old.execute("INSERT INTO rounds VALUES (1, 'a', 1, 1, 5, x'01')")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    with closing(Store(path)) as store:
        assert store.rounds(LINE, limit=9) == [ClosedRound(1, 1, b"\x01", ())]
        store.forget(DAY_MS)
        assert store.stub(LINE) is not None


def test_a_round_with_its_links_labels_and_the_next_grant_is_one_transaction(store: Store) -> None:
    told: list[str] = []
    store._db.set_trace_callback(told.append)
    store.persist(a_round(1, links=(b"one", b"two")), 1_000, [a_label()], [])
    store._db.set_trace_callback(None)
    words = [" ".join(statement.split()[:3]).upper() for statement in told]
    assert words[0] == "BEGIN IMMEDIATE" and words[-1] == "COMMIT"
    assert words.count("BEGIN IMMEDIATE") == words.count("COMMIT") == 1
    assert {"INSERT INTO ROUNDS", "INSERT INTO LINKS", "INSERT OR REPLACE"} <= set(words)


def test_alerts_come_back_newest_first_with_the_oldest_gone_beyond_the_limit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "ALERTS_KEPT", 3)
    for number in range(1, 6):
        store.alert(an_alert(number))
    assert [alert.event_id for alert in store.newest_alerts(9)] == ["gateway-1/3/5", "gateway-1/3/4", "gateway-1/3/3"]


def test_a_flood_of_alerts_pushes_no_proof_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "ALERTS_KEPT", 3)
    store.alert(an_alert(1), [b"one", b"other"])
    for number in range(2, 30):
        store.alert(an_alert(number))
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("SELECT count(*) FROM alerts").fetchone() == (4,)
        assert db.execute("SELECT count(*) FROM proofs").fetchone() == (2,)
    store.forget(an_alert(1).at_ms + 1)
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("SELECT count(*) FROM proofs").fetchone() == (0,)


PLAY = Round(SealedEntries({}))
EQUIVOCATION = (PLAY.signed(PLAY.good), PLAY.signed(replace(PLAY.good, prev=bytes(32))))


def test_a_proof_keeps_its_unit_in_quarantine_after_a_restart_until_it_has_another_key(path: Path) -> None:
    with closing(Store(path)) as store:
        store.alert(an_alert(1), EQUIVOCATION)
        store.alert(an_alert(2), [PLAY.grant, PLAY.grant])
        store.alert(an_alert(3), [b"no", b"proof"])
        store.alert(an_alert(4), [PLAY.grant])
        store.alert(an_alert(5), [EQUIVOCATION[0], EQUIVOCATION[0]])
    with closing(Store(path)) as store:
        assert store.quarantined(room.roster(), room.LINE, LIMITS) == {"desk-2"}
        assert store.quarantined(room.roster(), room.OTHER_LINE, LIMITS) == frozenset()
        later = room.roster(epoch=2)
        assert store.quarantined(later, room.LINE, LIMITS) == {"desk-2"}
        first, second, *rest = later.lines[room.LINE]
        anew = replace(second, key=room.signer("desk-2 anew").public_key, since=2)
        enrolled = replace(later, lines={room.LINE: (first, anew, *rest)})
        assert store.quarantined(enrolled, room.LINE, LIMITS) == frozenset()


def test_a_counter_never_gives_a_number_twice(path: Path) -> None:
    given = []
    for _ in range(3):
        with closing(Store(path)) as store:
            given.append(store.raise_counter("sessions"))
    assert given == [1, 2, 3]


def test_the_latest_label_of_each_unit_is_that_of_the_highest_session_then_sequence(store: Store) -> None:
    labels = [
        a_label("unit-1", session=1, sequence=90),
        a_label("unit-1", session=2, sequence=3),
        a_label("unit-1", session=2, sequence=2, label=Emotion.ANGER),
        a_label("unit-2", session=1, sequence=1),
    ]
    store.persist(a_round(1), 1_000, labels, [])
    assert [(label.unit, label.session, label.sequence) for label in LabelReader(store.path).latest()] == [
        ("unit-1", 2, 3),
        ("unit-2", 1, 1),
    ]


def test_a_question_names_one_desk_and_a_moment_and_has_a_limit(store: Store) -> None:
    fill(store, 10, at_ms=0)
    reader = LabelReader(store.path)
    assert [label.sequence for label in reader.since("unit-1", 4, limit=3)] == [4, 5, 6]
    assert reader.since("unit-1' OR 1=1 --", 0) == []


def test_a_reader_without_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="reading labels failed"):
        LabelReader(tmp_path / "none.sqlite").latest()
