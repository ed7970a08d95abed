"""The command: exit codes, a failing seed printed with the command that replays it, and exact replays."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.simulate.broken import BROKEN, ForgetsItsGrant
from tools.simulate import __main__ as command
from tools.simulate import seeds
from tools.simulate.line import Machines
from tools.simulate.seeds import Outcome, run_seed

SMALL = ["--units", "2-3", "--seconds", "4"]


def replay(hash_seed: str) -> str:
    """What a process of its own prints of one seed, step by step."""
    words = [sys.executable, "-m", "tools.simulate", "--seed", "41", "--verbose", *SMALL]
    done = subprocess.run(words, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, check=True)
    return done.stdout.decode()


def test_two_processes_replay_one_seed_step_by_step_alike() -> None:
    first, second = replay("1"), replay("2")
    assert first == second
    assert len(re.findall(r"^ +\d+\.\d{6} ", first, flags=re.MULTILINE)) > 100


def test_another_seed_is_another_trace() -> None:
    assert run_seed(1, units=(3, 3), seconds=3.0).trace != run_seed(2, units=(3, 3), seconds=3.0).trace


def first_that_fails() -> Outcome:
    """The first seed that a gateway without memory fails."""
    machines = Machines(gateway=ForgetsItsGrant)
    outcomes = (run_seed(seed, units=(2, 4), seconds=8.0, machines=machines) for seed in range(60))
    return next(outcome for outcome in outcomes if outcome.broken)


def test_a_failing_seed_replays_exactly_too() -> None:
    assert first_that_fails() == first_that_fails()


def test_seeds_that_hold_end_with_0_and_the_rate_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seeds", "3", "--jobs", "1", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"3 runs, \d+ rounds in [\d.]+ s on 1 processes: \d+ rounds/s", printed)
    assert "every guarantee held" in printed


def test_a_seed_that_fails_ends_with_1_and_says_how_to_replay_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(seed: int, **settings: object) -> Outcome:
        return Outcome(seed, 5, "G6" if seed == 8 else "", "G6: lost" if seed == 8 else "", "")

    monkeypatch.setattr(command, "run_seed", failing)
    assert command.main(["--seeds", "3", "--first", "7", "--jobs", "1", *SMALL]) == 1
    printed = capsys.readouterr().out
    assert "seed 8: G6: lost" in printed
    assert "python -m tools.simulate --seed 8 --units 2-3 --seconds 4 --verbose" in printed
    assert printed.count("--seed ") == 1


def test_a_crash_of_a_machine_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*arguments: object) -> None:
        raise KeyError("of its own accord")

    monkeypatch.setattr(seeds, "happen", dies)
    plans = (seeds.run_seed(seed, units=(2, 2), seconds=4.0) for seed in range(10))
    crashed = next(outcome for outcome in plans if outcome.broken)
    assert crashed.broken == "crash"
    assert "of its own accord" in crashed.text


@pytest.mark.parametrize("words", [["--units", "0-5"], ["--units", "2-41"], ["--seeds", "0"], ["--seconds", "x"]])
def test_wrong_arguments_end_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert words[1] in capsys.readouterr().err


def test_every_guarantee_has_a_machine_that_breaks_it() -> None:
    assert set().union(*(names for _, names in BROKEN.values())) == {f"G{number}" for number in range(1, 9)}
