"""Durable files under failing calls and power cuts; the session counter never goes back."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import ConfigError, StorageError
from device.system.storage import SessionCounter, append_durably, read, read_record, write_durably, write_record
from tests.fakes.storage import FailingDisk, PowerCutDisk, PowerCutError

OLD, NEW = b"old content", b"new content, which takes several writes"


def calls_of_one_write(tmp_path: Path) -> list[str]:
    disk = FailingDisk()
    write_durably(tmp_path / "counted", NEW, disk=disk)
    return disk.calls


def test_file_is_synced_before_it_is_renamed_and_the_folder_after(tmp_path: Path) -> None:
    calls = calls_of_one_write(tmp_path)
    assert [call for call in calls if call != "write"] == ["create", "fsync", "rename", "fsync_folder"]
    assert calls.index("fsync") > len(calls) - 1 - calls[::-1].index("write")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_nth_call_fails_and_the_file_is_whole(tmp_path: Path, error: int) -> None:
    target = tmp_path / "file"
    for number, call in enumerate(calls_of_one_write(tmp_path)):
        write_durably(target, OLD)
        with pytest.raises(StorageError, match="file: cannot be written durably"):
            write_durably(target, NEW, disk=FailingDisk(number, error=error))
        assert target.read_bytes() == (NEW if call == "fsync_folder" else OLD)
        write_durably(target, NEW)
        assert target.read_bytes() == NEW
        assert sorted(path.name for path in tmp_path.iterdir()) == ["counted", "file"]


def test_power_cut_at_any_call_leaves_the_old_or_the_new_content(tmp_path: Path) -> None:
    target = tmp_path / "file"
    for number in range(len(calls_of_one_write(tmp_path))):
        write_durably(target, OLD)
        with pytest.raises(PowerCutError):
            write_durably(target, NEW, disk=PowerCutDisk(number))
        assert target.read_bytes() in (OLD, NEW)
        write_durably(target, NEW)
        assert target.read_bytes() == NEW


def test_written_file_is_its_owners_alone(tmp_path: Path) -> None:
    write_durably(tmp_path / "secret", b"x")
    write_durably(tmp_path / "public", b"x", mode=0o644)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("secret", "public")] == [0o600, 0o644]


def test_temporary_file_that_others_can_read_is_not_kept_open_for_them(tmp_path: Path) -> None:
    left_over = tmp_path / "secret.new"
    left_over.write_bytes(b"left by a power cut")
    left_over.chmod(0o666)
    write_durably(tmp_path / "secret", b"x")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert not left_over.exists()


def test_link_in_the_temporary_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "file.new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        write_durably(tmp_path / "file", b"x")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_missing_and_oversized_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="absent: cannot be read"):
        read(tmp_path / "absent", limit=10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(StorageError, match="large: is larger than 10 bytes"):
        read(tmp_path / "large", limit=10)


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int


@given(damage=st.binary(max_size=40))
@settings(max_examples=100)
def test_damaged_record_is_refused_whatever_the_bytes(damage: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("record") / "record.json"
    path.write_bytes(damage)
    try:
        assert isinstance(read_record(path, Record), Record)
    except StorageError as error:
        assert "record.json: is damaged" in error.what


def test_record_comes_back(tmp_path: Path) -> None:
    write_record(tmp_path / "record.json", Record(7))
    assert read_record(tmp_path / "record.json", Record) == Record(7)


def counter(tmp_path: Path) -> SessionCounter:
    made = SessionCounter(tmp_path / "session.json")
    made.create()
    return made


def test_session_rises_by_one_at_each_start(tmp_path: Path) -> None:
    counter(tmp_path)
    assert [SessionCounter(tmp_path / "session.json").raise_() for _ in range(3)] == [1, 2, 3]


def test_provisioning_again_does_not_set_the_session_back(tmp_path: Path) -> None:
    counter(tmp_path).raise_()
    assert counter(tmp_path).raise_() == 2


def test_missing_session_is_not_counted_from_zero(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"session.json.*Enrol this unit anew"):
        SessionCounter(tmp_path / "session.json").raise_()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 64,
        b"7",
        b'{"session": 7}',
        b'{"session": -1, "sha256": ""}',
        b'{"session": "7", "sha256": ""}',
        b'{"session": 1, "sha256": "of another number"}',
    ],
)
def test_damaged_session_is_refused_and_kept_for_inspection(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "session.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="Enrol this unit anew"):
        SessionCounter(path).raise_()
    assert path.read_bytes() == content


def test_flipped_digit_is_found(tmp_path: Path) -> None:
    made = counter(tmp_path)
    for _ in range(12):
        made.raise_()
    path = tmp_path / "session.json"
    path.write_bytes(path.read_bytes().replace(b": 12", b": 2"))
    with pytest.raises(ConfigError, match="number and digest disagree"):
        made.raise_()


def test_no_session_number_is_given_out_that_is_not_durable(tmp_path: Path) -> None:
    made = counter(tmp_path)
    given_out = [made.raise_()]
    for number in range(20):
        try:
            given_out.append(SessionCounter(tmp_path / "session.json", disk=FailingDisk(number)).raise_())
        except StorageError:
            continue
    given_out.append(made.raise_())
    assert given_out == sorted(set(given_out))


def test_power_cut_while_the_session_is_raised_never_gives_a_number_twice(tmp_path: Path) -> None:
    made = counter(tmp_path)
    given_out = []
    for number in range(30):
        try:
            given_out.append(SessionCounter(tmp_path / "session.json", disk=PowerCutDisk(number)).raise_())
        except PowerCutError:
            given_out.append(made.raise_())
    assert given_out == sorted(set(given_out))


def test_appended_content_is_synced_and_a_new_files_name_too(tmp_path: Path) -> None:
    disk = FailingDisk(bytes_per_write=100)
    append_durably(tmp_path / "file", OLD, at=0, disk=disk)
    assert disk.calls == ["open", "cut", "write", "fsync", "fsync_folder"]
    disk.calls.clear()
    append_durably(tmp_path / "file", NEW, at=len(OLD), disk=disk)
    assert disk.calls == ["open", "cut", "write", "fsync"]
    assert (tmp_path / "file").read_bytes() == OLD + NEW
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    append_durably(tmp_path / "file", b"", at=0)
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_nth_call_of_an_append_fails_and_the_same_append_mends_it(tmp_path: Path, error: int) -> None:
    target = tmp_path / "file"
    append_durably(target, OLD, at=0)
    for number in range(9):
        with pytest.raises(StorageError, match="file: cannot be written durably"):
            append_durably(target, NEW, at=len(OLD), disk=FailingDisk(number, error=error))
        assert target.read_bytes().startswith(OLD)
        append_durably(target, NEW, at=len(OLD))
        assert target.read_bytes() == OLD + NEW
        append_durably(target, b"", at=len(OLD))


def test_power_cut_while_appending_leaves_the_old_content_and_some_of_the_new(tmp_path: Path) -> None:
    target = tmp_path / "file"
    append_durably(target, OLD, at=0)
    for number in range(9):
        with pytest.raises(PowerCutError):
            append_durably(target, NEW, at=len(OLD), disk=PowerCutDisk(number))
        content = target.read_bytes()
        assert content.startswith(OLD) and NEW.startswith(content[len(OLD) :])
        append_durably(target, b"", at=len(OLD))


def test_append_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        append_durably(tmp_path / "file", b"x", at=0)
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
