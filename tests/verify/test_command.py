"""`moodline-verify` as its users meet it: alone, beside a running gateway, on a copy, in words and in bounds."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from device.config import LineLimits
from device.gateway.store import MIGRATIONS, Store
from device.line.actions import Persist
from device.line.log import FINDINGS
from device.messages.grant import Accepted
from device.messages.receipt import ReceiptHeader, ReceiptKind, encode_receipt
from provisioning import demo_room, keys
from provisioning.demo_room import DemoPlan
from provisioning.mosquitto import free_port
from tests.verify.files import AUTHORITY, UNITS, roster_file, some_rounds, store_file, verify
from tools.attacks import forge_link
from tools.vectors import room
from tools.verify import bench
from tools.verify.command import main
from tools.verify.report import Document, Failure
from tools.verify.sources import SCHEMA
from tools.verify.synthetic import SyntheticLine, write_store

REPOSITORY = Path(__file__).resolve().parents[2]
TAKE = REPOSITORY / "tools" / "takes" / "neutral"

ALONE = """
import sys
class Refuse:
    allowed = {"device.config", "device.errors", "device.clock", "device.line", "device.messages", "models.labels"}
    ours = ("device.", "models.", "provisioning")
    foreign = {"numpy", "paho", "starlette", "uvicorn", "tensorflow", "tflite_runtime", "systemd", "tqdm", "PIL"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.foreign:
            raise ImportError(name)
        if name.startswith(self.ours) and ".".join(name.split(".")[:2]) not in self.allowed:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from tools.verify import main
sys.exit(main(sys.argv[1:]))
"""


def test_it_runs_without_the_rest_of_the_product(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    path, roster = store_file(tmp_path, rounds, line), roster_file(tmp_path)
    command = [sys.executable, "-c", ALONE, str(path), "--roster", str(roster)]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"{path}: verified\n")


def test_the_page_for_people_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds, line = some_rounds()
    path = store_file(tmp_path, rounds, line)
    assert main([str(path), "--roster", str(roster_file(tmp_path))]) == 0
    told = capsys.readouterr().out
    assert "taken on trust, because no --authority was given" in told
    assert "Line row-1: rounds 1 to 8, 24 links, 24 labels (sealed entries), epoch 1" in told
    assert "from 2027-01-15 08:00:00 UTC to 2027-01-15 08:00:04 UTC by the gateway's clock" in told
    assert "desk-2: 8 links, 8 labels (session 1: 1 to 8)" in told
    with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
        intruder.execute("DROP TRIGGER links_are_never_changed")
        forged = forge_link(rounds[4].links[1])
        intruder.execute("UPDATE links SET signed_link = ? WHERE position = 5 AND place = 1", (forged,))
    assert main([str(path), "--roster", str(roster_file(tmp_path))]) == 1
    told = capsys.readouterr().out
    assert f"{path}: NOT VERIFIED" in told
    assert "Line row-1, round 5, link 2, signed in the name of desk-2: bad_signature (step 5)" in told
    assert "rounds 1 to 4, 12 links" in told


def test_sessions_and_gaps_of_each_unit_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = SyntheticLine(UNITS)
    rounds = list(line.rounds(2))
    for sequence in (4, 6):
        line.skip_to = {"desk-2": (2, sequence)}
        rounds += line.rounds(1)
    assert main([str(store_file(tmp_path, rounds, line)), "--roster", str(roster_file(tmp_path))]) == 0
    told = capsys.readouterr().out
    assert "desk-2: 4 links, 4 labels (session 1: 1 to 2; session 2: 4 to 6); 4 never came: 2/1-3, 2/5\n" in told
    assert "desk-1: 4 links, 4 labels (session 1: 1 to 4)\n" in told


def test_a_forged_acknowledgement_in_the_open_grant_is_found(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    line.accepted["desk-2"] = Accepted(1, 1, 99)
    ran = verify(store_file(tmp_path, rounds, line), "--roster", roster_file(tmp_path))
    assert ran.finding == ("acknowledgement_withdrawn", 9, 0)


def test_a_running_gateway_is_not_disturbed_and_nothing_is_written(tmp_path: Path) -> None:
    rounds, _ = some_rounds()
    path, roster = tmp_path / "gateway.sqlite", roster_file(tmp_path)
    with closing(Store(path)) as store:
        for number, closed in enumerate(rounds[:5]):
            store.persist(Persist(room.LINE, closed, rounds[number + 1].grant), 1_000, [], [])
        names = sorted(each.name for each in tmp_path.iterdir())
        ran = verify(path, "--roster", roster)
        assert (ran.code, ran.document["lines"][0]["rounds"]) == (0, 5)
        assert sorted(each.name for each in tmp_path.iterdir()) == names
        store.persist(Persist(room.LINE, rounds[5], rounds[6].grant), 1_000, [], [])
        assert verify(path, "--roster", roster).document["lines"][0]["rounds"] == 6


def test_a_copy_is_verified_where_nothing_may_be_written(tmp_path: Path) -> None:
    rounds, line = some_rounds()
    path, roster = store_file(tmp_path, rounds, line), roster_file(tmp_path)
    folder = tmp_path / "evidence"
    folder.mkdir()
    copy = folder / "gateway.sqlite"
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o400)
    folder.chmod(0o500)
    assert verify(copy, "--roster", roster).code == 0
    assert list(folder.iterdir()) == [copy]


def test_a_store_after_a_kill_is_read_with_its_write_ahead_log(tmp_path: Path) -> None:
    rounds, _ = some_rounds()
    path, roster = tmp_path / "gateway.sqlite", roster_file(tmp_path)
    folder = tmp_path / "after"
    folder.mkdir()
    with closing(Store(path)) as store:
        for number, closed in enumerate(rounds[:5]):
            store.persist(Persist(room.LINE, closed, rounds[number + 1].grant), 1_000, [], [])
        for each in ("gateway.sqlite", "gateway.sqlite-wal"):
            (folder / each).write_bytes((tmp_path / each).read_bytes())
    assert verify(folder / "gateway.sqlite", "--roster", roster).document["lines"][0]["rounds"] == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.sqlite", "--roster", "ROSTER"], "missing.sqlite: cannot be read"),
        (["STORE"], "No roster was given"),
        (["STORE", "--roster", "missing.cose"], "missing.cose: cannot be read"),
        (["STORE", "--roster", "STORE"], "is no roster"),
        (["ROSTER", "--roster", "ROSTER"], "is neither a gateway's store nor a receipt"),
        (["STORE", "--roster", "ROSTER", "--authority", "ROSTER"], "is no public key"),
        (["STORE", "--roster", "ROSTER", "--head", "abc"], "is no digest"),
        (["STORE", "--roster", "ROSTER", "--grant", "ROSTER"], "is no grant of this room's gateway"),
        (["STORE", "--roster", "ROSTER", "--line", "row-9"], "holds no line row-9 (it holds: row-1)"),
        (["STORE", "--roster", "ROSTER", "--config", "missing.toml"], "missing.toml: cannot be read"),
        (["STORE", "--roster", "ROSTER", "--deleted", "STORE"], "is no receipt"),
        (["OTHER", "--roster", "ROSTER"], "is no gateway's store"),
        (["NEWER", "--roster", "ROSTER"], "was written by a newer Moodline"),
    ],
)
def test_what_cannot_run_ends_with_2_and_one_sentence_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rounds, line = some_rounds(2)
    files = {"STORE": store_file(tmp_path, rounds, line), "ROSTER": roster_file(tmp_path)}
    for name, statement in (("OTHER", "CREATE TABLE a (b)"), ("NEWER", "PRAGMA user_version = 99")):
        files[name] = tmp_path / name
        with closing(sqlite3.connect(files[name])) as db:
            db.execute("CREATE TABLE c (d)")
            db.execute(statement)
    ran = verify(*(files.get(each, each) for each in arguments))
    assert (ran.code, ran.document) == (2, {})
    assert says in ran.error and len(ran.error.splitlines()) == 1


def test_the_authoritys_key_may_be_its_pem_file_and_limits_may_come_from_the_gateways_file(tmp_path: Path) -> None:
    rounds, line = some_rounds(2)
    path, roster = store_file(tmp_path, rounds, line), roster_file(tmp_path)
    pem = tmp_path / "room-authority.pem"
    keys.write_verifying_key(pem, AUTHORITY.private_key.public_key())
    assert verify(path, "--roster", roster, "--authority", pem).code == 0
    plan = DemoPlan(takes=[TAKE], units=2, port=free_port(), web_port=free_port(), limits=LineLimits(units_per_line=2))
    config = demo_room.build(tmp_path / "room", plan).gateway_config
    ran = verify(path, "--roster", roster, "--config", config)
    assert ran.code == 2
    assert "units_per_line" in ran.error


def test_only_one_line_can_be_asked_for(tmp_path: Path) -> None:
    rounds, line = some_rounds(2)
    path, roster = store_file(tmp_path, rounds, line), roster_file(tmp_path)
    write_store(path, room.OTHER_LINE, rounds, line)
    assert verify(path, "--roster", roster).code == 1
    ran = verify(path, "--roster", roster, "--line", room.LINE)
    assert (ran.code, [each["line"] for each in ran.document["lines"]]) == (0, [room.LINE])


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ("UPDATE rounds SET line = 'no name!' WHERE position = 2", 1, "whose name is no name"),
        (
            "DROP TABLE links; CREATE VIEW links AS SELECT 1 AS position, 0 AS place, 5 AS signed_link",
            2,
            "is no gateway's store",
        ),
        (
            "DROP TABLE rounds; CREATE TABLE rounds (position INTEGER PRIMARY KEY, line, round, epoch, signed_grant);"
            "INSERT INTO rounds VALUES (1, 'row-1', 1, 1, 1000000000000)",
            1,
            "something else than bytes",
        ),
        ("UPDATE links SET signed_link = zeroblob(3000000) WHERE position = 2 AND place = 0", 1, "too big"),
        ("INSERT INTO links VALUES (9, 0, x'00')", 1, "Links stand in the file without their round"),
    ],
    ids=["line no name", "links a view", "grant a number", "huge link", "links of no round"],
)
def test_a_hostile_file_is_found_and_breaks_nothing(tmp_path: Path, change: str, code: int, says: str) -> None:
    rounds, line = some_rounds(3)
    path = store_file(tmp_path, rounds, line)
    with closing(sqlite3.connect(path)) as intruder:
        intruder.executescript("DROP TRIGGER rounds_are_never_changed; DROP TRIGGER links_are_never_changed")
        intruder.executescript(change)
    ran = verify(path, "--roster", roster_file(tmp_path))
    assert ran.code == code
    assert says in (ran.error or ran.document["failure"]["detail"])
    assert code == 2 or ran.finding[0] == "damaged_file"


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    peaks = []
    for rounds in (60, 1_200):
        path = tmp_path / f"{rounds}.sqlite"
        line = SyntheticLine(UNITS)
        write_store(path, room.LINE, line.rounds(rounds), line)
        tracemalloc.start()
        ran = verify(path, "--roster", roster_file(tmp_path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (ran.code, ran.document["lines"][0]["links"]) == (0, rounds * UNITS)
    assert peaks[1] < peaks[0] + 200_000


def test_the_bench_measures_a_verified_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--links", "64", "--units", "4", "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)
    assert (measured["links"], measured["signatures"]) == (64, 64 + 16 + 1)
    assert 0.05 < measured["share"] < 1.5
    assert 10 < measured["peak_mib"] < 200


def test_the_page_says_what_the_code_says() -> None:
    page = (REPOSITORY / "docs" / "offline-verification.md").read_text()
    for code, row in FINDINGS.items():
        step = "" if row.step is None else str(row.step)
        assert f"| `{code}` | {step} | {row.sentence} | {row.next_step} |" in page
    for struct in (Document, Failure):
        assert [name for name in struct.__struct_fields__ if f"`{name}`" not in page] == []
    assert len(MIGRATIONS) == SCHEMA
    assert f"its schema, 1 or {SCHEMA}." in page
    header = ReceiptHeader(ReceiptKind.SPAN, room.ROOM, room.LINE, (), 3, 9, 22)
    (encoded,) = encode_receipt(header, ())
    assert encoded.hex() in page.replace("\n", "")
