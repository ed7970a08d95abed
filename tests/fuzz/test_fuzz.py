"""Fuzzing finds nothing in what ships, and finds a defect that was planted; random messages are counted exactly."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import device.messages.link
import tools.fuzz.__main__ as program
from device.messages import cbor
from device.messages.link import Entry
from tools.fuzz import second_encoder
from tools.fuzz.random_messages import Tally, bring, inputs
from tools.fuzz.seeds import seeds
from tools.fuzz.targets import NUMBERS, TARGETS, Broken, encoded, framed, run, same, unframed

#: Random messages on every test run; `python -m tools.fuzz --random 1000000` brings them all.
MESSAGES = 50_000


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where inputs are kept in place of build/fuzz."""
    monkeypatch.setattr(program, "OUT", tmp_path)
    return tmp_path


def require_atheris() -> None:
    """Skip without Atheris, or fail where everything must run; on other processors there is none."""
    if find_spec("atheris") is not None:
        return
    if os.environ.get("MOODLINE_REQUIRE_REAL") and platform.machine() == "x86_64":
        pytest.fail("Atheris is not installed and MOODLINE_REQUIRE_REAL is set", pytrace=False)
    pytest.skip("Atheris is not installed (x86-64 only)")


def test_fifty_thousand_random_messages_bring_only_the_documented_errors() -> None:
    tally = Tally()
    for kind, data in islice(inputs(seed=2), MESSAGES):
        bring(kind, data, tally)
    assert tally.total == MESSAGES
    assert set(tally.sent) == set(NUMBERS)
    assert [name for name in NUMBERS if not tally.taken[name]] == []


def test_a_few_seconds_of_guided_fuzzing_find_nothing(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_atheris()
    assert program.guided(5, out / "corpus", seed=1) == 0
    assert "nothing but the documented errors. Edges covered: " in capsys.readouterr().out
    assert len(list((out / "corpus").iterdir())) > len(TARGETS)


def test_a_planted_defect_is_found_kept_and_replayed(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_atheris()
    assert program.guided(60, out / "corpus", seed=1, program="tests.fuzz.planted") == 1
    assert "python -m tools.fuzz --replay " in capsys.readouterr().out
    (kept,) = out.glob("crash-*")
    assert program.main(["--replay", str(kept)]) == 0
    monkeypatch.setattr(device.messages.link, "_entry", lambda row: Entry(*row))
    assert program.main(["--replay", str(kept)]) == 1
    assert "Error" in capsys.readouterr().out


def test_what_random_messages_find_is_kept_and_replayed(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.messages.link, "_entry", lambda row: Entry(*row))
    assert program.main(["--random", "20000", "--seed", "3"]) == 1
    said = capsys.readouterr().out
    (kept,) = out.glob("crash-*")
    assert f"python -m tools.fuzz --replay {kept}" in said
    assert program.main(["--replay", str(kept)]) == 1
    monkeypatch.undo()
    assert program.main(["--replay", str(kept)]) == 0


def test_the_same_seed_makes_the_same_messages() -> None:
    assert list(islice(inputs(5), 300)) == list(islice(inputs(5), 300))
    assert list(islice(inputs(5), 300)) != list(islice(inputs(6), 300))


def test_every_target_has_an_input_that_it_takes() -> None:
    taken = {TARGETS[data[0]].name for data in seeds() if run(data)}
    assert taken == set(NUMBERS)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=12))
def test_framed_messages_come_back(messages: list[tuple[int, bytes]]) -> None:
    assert unframed(framed(messages)) == messages


def test_something_that_encodes_otherwise_is_told() -> None:
    with pytest.raises(Broken, match="encodes to other bytes"):
        same(b"\x00", b"\x18\x00", "A number")
    assert not run(encoded("cbor", b"\x18\x00"))


ITEMS = st.recursive(
    st.one_of(st.integers(-(2**63), 2**64 - 1), st.binary(max_size=300), st.text(max_size=300)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=30),
        st.dictionaries(st.integers(0, 2**64 - 1), inner, max_size=30),
        st.dictionaries(st.text(max_size=300), inner, max_size=30),
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(ITEMS)
def test_two_encoders_agree_on_all_that_is_spoken(item: object) -> None:
    assert second_encoder.speaks(item)
    assert second_encoder.encode(item) == cbor.encode(item)


def test_the_two_orders_of_keys_differ_only_where_the_protocol_speaks_no_map() -> None:
    mixed = {24: 0, -1: 0}
    assert not second_encoder.speaks(mixed)
    assert cbor.encode(mixed) != second_encoder.encode(mixed)


def test_without_atheris_it_says_what_to_do(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "find_spec", lambda name: None)
    assert program.main(["--seconds", "1"]) == 2
    assert "make development-environment" in capsys.readouterr().err


def test_a_file_that_is_not_there_cannot_be_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--replay", "nowhere"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_help_names_the_exit_codes() -> None:
    ran = subprocess.run([sys.executable, "-m", "tools.fuzz", "--help"], capture_output=True, text=True, check=True)
    assert "Exit codes: 0 nothing found, 1 found" in " ".join(ran.stdout.split())
