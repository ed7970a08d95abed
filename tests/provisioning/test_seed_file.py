"""Seed files: what is written comes back, what is wrong is named with its entry, and what was used is gone."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest

from device.errors import ConfigError
from provisioning.seed_file import SEED_BYTES, SPENT, Seed, read_seed, spend_seed, write_seed
from tests.fakes.storage import PowerCutDisk, PowerCutError

SEED = Seed(
    room="room-2",
    gateway=("gateway.local", "192.168.7.2"),
    port=8_884,
    registrar_digest=bytes(range(32)),
    token="abcdefghijklmnopqrstuvwxyz",
    unit="b14",
    expires=datetime(2026, 9, 1, 12, 30, tzinfo=UTC),
)


def test_seed_comes_back_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "moodline-seed.toml"
    write_seed(path, SEED)
    assert read_seed(path) == SEED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_time_of_another_zone_is_the_same_moment(tmp_path: Path) -> None:
    path = tmp_path / "moodline-seed.toml"
    east = timezone(timedelta(hours=2))
    write_seed(path, msgspec.structs.replace(SEED, expires=datetime(2026, 9, 1, 14, 30, tzinfo=east)))
    assert read_seed(path) == SEED


def test_no_file_is_no_seed(tmp_path: Path) -> None:
    assert read_seed(tmp_path / "absent.toml") is None


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('room = "room-2"', 'room = "Room 2"', r"\$\.room"),
        ('room = "room-2"\n', "", "room"),
        ("8884", "0", r"\$\.port"),
        ('["gateway.local", "192.168.7.2"]', "[]", r"\$\.gateway"),
        ("0001020304", "00010203", r"\$\.registrar_digest"),
        ("abcdefghij", "abcdefghi1", r"\$\.token"),
        ("2026-09-01T12:30:00Z", "2026-09-01T12:30:00", r"\$\.expires"),
        ("unit =", "desk = 14\nunit =", "desk"),
        ("room =", "room", "line 2"),
    ],
)
def test_wrong_entry_is_named_with_its_file_and_the_next_step(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "moodline-seed.toml"
    write_seed(path, SEED)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=rf"moodline-seed\.toml: .*{named}.*moodline-provision seeds"):
        read_seed(path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * (SEED_BYTES + 1)])
def test_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "moodline-seed.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"moodline-seed\.toml"):
        read_seed(path)


def test_spent_seed_holds_no_token_and_is_no_seed(tmp_path: Path) -> None:
    path = tmp_path / "moodline-seed.toml"
    spend_seed(path)
    assert not path.exists()
    write_seed(path, SEED)
    for _ in range(2):
        spend_seed(path)
        assert path.read_text() == SPENT
        assert read_seed(path) is None


def test_power_cut_while_spending_leaves_the_seed_or_none(tmp_path: Path) -> None:
    path = tmp_path / "moodline-seed.toml"
    for cuts in range(40):
        write_seed(path, SEED)
        try:
            spend_seed(path, disk=PowerCutDisk(cuts, bytes_per_write=64))
        except PowerCutError:
            assert SEED.token not in path.read_text() or read_seed(path) == SEED
            spend_seed(path)
            assert path.read_text() == SPENT
        else:
            break
    assert 4 < cuts < 39
