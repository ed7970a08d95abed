"""The outbox's file: what comes back after power cuts, damage, copies and failing disks."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.messages.grant import Accepted
from device.messages.link import Entry
from device.publish.spill import BODY_BYTES, MAGIC, Spill, decode_records, encode_record, place_digest
from device.system.storage import DISK, Disk
from tests.fakes.storage import FailingDisk, PowerCutDisk, PowerCutError
from tools.vectors import room

PLACE = place_digest(room.roster(), room.LINE, "desk-1")
SEALED = bytes(range(112))


def entry(session: int, sequence: int) -> Entry:
    return Entry(session, sequence, SEALED[:-2] + bytes((session, sequence % 256)))


def records(*numbers: tuple[int, int]) -> list[bytes]:
    return [encode_record(entry(*number), PLACE) for number in numbers]


def opened(folder: Path, session: int, *, disk: Disk = DISK, capacity: int = 100, place: bytes = PLACE) -> Spill:
    """A unit's outbox at its start in that session."""
    return Spill(folder / "spill", place, session=session, capacity=capacity, spill_after_s=5.0, disk=disk)


def kept(spill: Spill) -> list[tuple[int, int]]:
    return [(entry.session, entry.sequence) for entry in spill.outbox.pending(1_000)]


def filled(folder: Path, session: int, labels: int, *, disk: Disk = DISK) -> Spill:
    """A unit whose labels waited for the gateway until they went to the disk."""
    spill = opened(folder, session, disk=disk)
    for sequence in range(1, labels + 1):
        spill.outbox.push(entry(session, sequence))
    spill.turn(0.0)
    spill.turn(5.0)
    return spill


def test_what_waited_comes_back_in_the_next_session_before_its_own_entries(tmp_path: Path) -> None:
    filled(tmp_path, 1, 3)
    again = opened(tmp_path, 2)
    again.outbox.push(entry(2, 1))
    assert again.outbox.pending(10) == (entry(1, 1), entry(1, 2), entry(1, 3), entry(2, 1))


def test_entries_of_several_sessions_come_back_in_order(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2)
    filled(tmp_path, 2, 2)
    filled(tmp_path, 4, 1)
    assert kept(opened(tmp_path, 5)) == [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)]


def test_a_batch_is_one_append_with_one_sync_and_emptying_is_one(tmp_path: Path) -> None:
    disk = FailingDisk(bytes_per_write=1 << 20)
    spill = filled(tmp_path, 1, 10, disk=disk)
    assert disk.calls == ["open", "cut", "write", "fsync", "fsync_folder"]
    disk.calls.clear()
    for sequence in range(11, 21):
        spill.outbox.push(entry(1, sequence))
    spill.turn(6.0)
    assert disk.calls == []
    spill.turn(11.0)
    assert disk.calls == ["open", "cut", "write", "fsync"]
    disk.calls.clear()
    for sequence in range(1, 21):
        spill.outbox.acknowledge(Accepted(1, 1, sequence))
        spill.turn(11.0 + sequence)
    assert disk.calls == ["open", "cut", "fsync"]
    assert (tmp_path / "spill").read_bytes() == b""


def test_a_unit_that_never_waited_touches_no_disk(tmp_path: Path) -> None:
    disk = FailingDisk()
    spill = opened(tmp_path, 1, disk=disk)
    for sequence in range(1, 1_000):
        spill.outbox.push(entry(1, sequence))
        spill.turn(sequence / 2)
        spill.outbox.acknowledge(Accepted(1, 1, sequence - 1))
    assert disk.calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lost", range(1, len(records((1, 3))[0]) + 1, 13))
def test_a_torn_last_record_is_cut_off_and_all_before_it_comes_back(
    tmp_path: Path, lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spill"
    whole = records((1, 1), (1, 2), (1, 3))
    path.write_bytes(b"".join(whole)[:-lost])
    assert kept(opened(tmp_path, 2)) == [(1, 1), (1, 2)]
    assert path.read_bytes() == b"".join(whole[:2])
    assert [record.levelno for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_damaged_middle_is_told_with_the_next_step_and_everything_readable_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = records(*((1, number) for number in range(1, 7)))
    whole[2] = whole[2][:60] + b"\xff" + whole[2][61:]
    whole[4] = whole[4][:30]
    path = tmp_path / "spill"
    path.write_bytes(b"\x00" * 50 + b"".join(whole))
    assert kept(opened(tmp_path, 2)) == [(1, 1), (1, 2), (1, 4), (1, 6)]
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1 and "replace the card" in told[0]
    caplog.clear()
    assert kept(opened(tmp_path, 3)) == [(1, 1), (1, 2), (1, 4), (1, 6)]
    assert [record for record in caplog.records if record.levelno == logging.ERROR] == []


@given(st.binary(max_size=400))
def test_no_bytes_make_the_reader_raise_or_invent(noise: bytes) -> None:
    assert decode_records(noise, PLACE).entries == ()
    found = decode_records(noise + encode_record(entry(1, 1), PLACE) + MAGIC + noise, PLACE)
    assert found.entries == (entry(1, 1),)
    assert found.damaged == len(noise) and found.torn == len(noise) + len(MAGIC)


def test_a_record_that_claims_more_than_any_has_is_not_believed() -> None:
    huge = bytearray(encode_record(Entry(1, 1, bytes(BODY_BYTES)), PLACE))
    assert decode_records(bytes(huge), PLACE).entries == ()


@pytest.mark.parametrize("other", ["unit", "gateway"])
def test_the_file_of_another_box_or_gateway_brings_nothing_back_and_is_told(
    tmp_path: Path, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = place_digest(room.roster(), room.LINE, "desk-2") if other == "unit" else bytes(32)
    (tmp_path / "spill").write_bytes(encode_record(entry(1, 1), theirs) * 3)
    spill = opened(tmp_path, 7)
    assert kept(spill) == []
    assert "another box, line or gateway key" in caplog.text
    assert (tmp_path / "spill").read_bytes() == b""


def test_entries_of_this_or_a_later_session_stay_out_so_that_the_link_is_not_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spill").write_bytes(b"".join(records((6, 1), (7, 1), (9, 1))))
    spill = opened(tmp_path, 7)
    assert kept(spill) == [(6, 1)]
    assert "put together from copies" in caplog.text.replace("\n", " ")
    spill.outbox.push(entry(7, 1))


def test_numbers_that_came_twice_or_backwards_come_back_once(tmp_path: Path) -> None:
    (tmp_path / "spill").write_bytes(b"".join(records((1, 1), (1, 2), (1, 1), (1, 2), (1, 3))))
    assert kept(opened(tmp_path, 2)) == [(1, 1), (1, 2), (1, 3)]


def test_more_than_the_outbox_holds_brings_back_the_newest(tmp_path: Path) -> None:
    (tmp_path / "spill").write_bytes(b"".join(records(*((1, number) for number in range(1, 31)))))
    assert kept(opened(tmp_path, 2, capacity=20)) == [(1, number) for number in range(11, 31)]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_at_any_call_loses_nothing_in_memory_and_is_told_once(
    tmp_path: Path, error: int, caplog: pytest.LogCaptureFixture
) -> None:
    calls = ("open", "cut", "write", "fsync", "fsync_folder")
    for number in range(len(calls)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        caplog.clear()
        spill = filled(folder, 1, 4, disk=FailingDisk(number, error=error, bytes_per_write=1 << 20))
        failing = [spill.failing]
        spill.outbox.push(entry(1, 5))
        spill.turn(6.0)
        spill.turn(9.0)
        assert caplog.text.count("stay in memory only") == 1
        assert kept(spill) == [(1, number) for number in range(1, 6)]
        spill.turn(10.0)
        failing.append(spill.failing)
        assert failing == [True, False]
        assert kept(opened(folder, 2)) == [(1, number) for number in range(1, 6)]


def test_a_disk_that_stays_read_only_is_told_once_in_an_hour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class ReadOnly(Disk):
        def open(self, path: Path, mode: int) -> int:
            raise OSError(errno.EROFS, "Read-only file system")

    spill = opened(tmp_path, 1, disk=ReadOnly())
    for sequence in range(1, 101):
        spill.outbox.push(entry(1, sequence))
        spill.turn(sequence * 36.0)
    assert caplog.text.count("stay in memory only") == 1
    assert len(kept(spill)) == 100


def test_power_cut_at_any_call_brings_back_all_of_the_batch_before(tmp_path: Path) -> None:
    for number in range(60):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        filled(folder, 1, 3)
        second = opened(folder, 2, disk=PowerCutDisk(number, bytes_per_write=50))
        for sequence in range(1, 5):
            second.outbox.push(entry(2, sequence))
        second.turn(0.0)
        try:
            second.turn(5.0)
        except PowerCutError:
            back = kept(opened(folder, 3))
            whole = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (2, 4)]
            assert len(back) >= 3 and back == whole[: len(back)]
        else:
            assert number > 10
            return
    raise AssertionError("the power was cut at every call")


def test_power_cut_while_emptying_brings_back_only_what_grants_have_covered(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        filled(folder, 1, 3)
        again = opened(folder, 2, disk=PowerCutDisk(number))
        again.outbox.acknowledge(Accepted(1, 1, 3))
        with pytest.raises(PowerCutError):
            again.turn(1.0)
        third = opened(folder, 3)
        assert set(kept(third)) <= {(1, 1), (1, 2), (1, 3)}
        third.outbox.acknowledge(Accepted(2, 1, 3))
        assert kept(third) == []


def test_before_a_stop_everything_that_waits_is_written(tmp_path: Path) -> None:
    spill = filled(tmp_path, 1, 2)
    spill.outbox.acknowledge(Accepted(1, 1, 2))
    spill.outbox.push(entry(1, 3))
    spill.flush(5.1)
    assert kept(opened(tmp_path, 2)) == [(1, 3)]
