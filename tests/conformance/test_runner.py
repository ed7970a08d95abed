"""The kit finds nothing in our own implementation, and what is wrong in a broken one: both behind the same door."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device.errors import ConfigError
from tests.conformance.broken import DEFECTS
from tools.conformance import checks
from tools.conformance.__main__ import VECTORS, load_all, main, run
from tools.conformance.cases import Row
from tools.conformance.door import Door, Question
from tools.conformance.line import answer

OURS = [sys.executable, "-m", "tools.conformance.line"]


def broken(defect: str) -> Door:
    return Door([sys.executable, "-m", "tests.conformance.broken", defect])


def different(rows: list[Row]) -> set[str]:
    return {row.name for row in rows if not row.same}


def test_our_own_implementation_passes_as_a_program_of_its_own() -> None:
    rows = run(Door(OURS))
    assert different(rows) == set()
    asked = {(row.group, row.name) for row in rows}
    files = [path for name in ("line", "hybrid") for path in (VECTORS / name).rglob("*.json")]
    named = {
        (f"{'play' if path.parent.name == 'sequences' else 'verify'} {path.parent.relative_to(VECTORS)}", path.stem)
        for path in files
        if path.stem not in ("room", "sealed", "limits")
    }
    assert named <= asked
    assert len(asked) == len(rows)


FINDS = {
    "skip_step_7": {"wrong_prev", "lost_race", "having heard wrong_prev"},
    "malleable_signature": {"malleable_signature", "having heard malleable_signature"},
    "encode_again": {"indefinite_length", "non_canonical_integer", "unsorted_keys"},
    "wrong_step": {"unknown_key", "revoked_unit", "unit_of_another_line"},
    "continue_the_grant": {"good_link", "good_link_without_entries", "fullest_link"},
    "one_place_for_all": {"five labels, two of them equal, sealed by it"},
    "same_ciphertext": {"five labels, two of them equal, sealed by it"},
    "numbers_begin_anew": {"in the next round: five labels, two of them equal, sealed by it"},
    "flag_never_set": {"more backlog waits", "in the next round: five labels, two of them equal, sealed by it"},
    "exit_code_always_0": {"wrong_prev", "no JSON", "a member missing"},
    "dies_of_deep_nesting": {"deep_nesting", "good_link"},
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_broken_implementation_is_caught(defect: str) -> None:
    vectors, door = load_all(), broken(defect)
    found = set[str]()
    for asked in (checks.alone,) if defect == "exit_code_always_0" else (checks.stored, checks.unit):
        if not found >= FINDS[defect]:
            found |= different(list(asked(vectors, door)))
    assert found >= FINDS[defect]


def test_what_a_broken_implementation_said_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    command = shlex.join([sys.executable, "-m", "tests.conformance.broken", "skip_step_7"])
    assert main(["--implementation", command, "--quiet"]) == 1
    told = capsys.readouterr().out
    assert "wanted 1 wrong_previous (step 7); found 0 good" in told
    assert "ok " not in told
    assert " 0 not run" in told.splitlines()[-1]


def test_a_vector_of_an_unknown_kind_is_never_silently_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("line", "hybrid"):
        shutil.copytree(VECTORS / name, tmp_path / name)
    strange = json.loads((tmp_path / "line" / "good_link.json").read_text())
    (tmp_path / "line" / "strange.json").write_text(json.dumps({**strange, "kind": "dance"}))
    assert main(["--vectors", str(tmp_path), "--quiet"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [row.split("strange", 1)[1].strip() for row in told if row.startswith("NOT RUN")] == [
        "the kit does not know the kind 'dance'"
    ]
    assert told[-1].endswith(", 1 not run")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--implementation", "no-such-program"], "no-such-program: cannot be started"),
        (["--vectors", "nowhere"], "its vectors cannot be read"),
    ],
)
def test_what_cannot_be_run_exits_with_2(options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options) == 2
    assert says in capsys.readouterr().err


def test_a_program_that_hangs_or_talks_nonsense() -> None:
    question = Question("dump", {"object": ""})
    with pytest.raises(ConfigError, match="gave no answer within"):
        Door([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.5).ask([question])
    nonsense = Door([sys.executable, "-c", "print('hello'); print('[1]'); print('{\"exit\": true, \"answer\": {}}')"])
    assert [reply.exit for reply in nonsense.ask([question] * 4)] == [None] * 4
    assert nonsense.ask([question] * 4)[3].trouble == "no answer; the program ended with 0: nothing on standard error"
    assert nonsense.ask_alone("dump", "{}").trouble == "the output is no JSON"


@pytest.mark.parametrize("module", ["tools.conformance", "tools.conformance.line"])
def test_help_says_what_it_is(module: str) -> None:
    ran = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert "usage: " in ran.stdout


def test_the_requests_can_be_seen_and_are_answered_as_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--requests"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) > 100
    for asked in lines:
        code, found = answer(asked["command"], asked["request"])
        assert (code, {name: found.get(name) for name in asked["answer"]}) == (asked["exit"], asked["answer"])
