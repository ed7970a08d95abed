"""Pieces are computed once, by the code and inputs at hand, and released whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device.errors import ConfigError
from models.labels import Emotion
from tools.evaluate.predictions import Row, read_rows
from tools.evaluate.report import html
from tools.evaluate.results import read_evidence, results
from tools.evaluate.studies import __main__ as program
from tools.evaluate.studies.findings import FINDINGS, Finding, percent, read_findings
from tools.evaluate.studies.pieces import Keeper, Made, Piece, Study, among, file_mark, release
from tools.training.scores import Figure


def row(condition: str) -> Row:
    scores = np.log(np.full((3, 2), 0.5, np.float32))
    return Row("name", "ours", "robustness-speech", ("anger", "fear"), scores, np.array([0, 1, 0]), condition)


def finding(study: str, what: str) -> Finding:
    return Finding(study=study, what=what, value=12.5, unit="%", n=3, beside="chance <10 %")


def counted(made: Made) -> tuple[Callable[[], Made], list[int]]:
    calls: list[int] = []

    def make() -> Made:
        calls.append(1)
        return made

    return make, calls


def test_a_finished_piece_is_read_and_not_made_again(tmp_path: Path) -> None:
    make, calls = counted(Made([row("clean")], [finding("one", "rate")]))
    piece = Piece("clean", make, 1.0, "input 1")
    study, keeper = Study("one", [piece], (__file__,)), Keeper(tmp_path)
    assert not keeper.has(study, piece)
    first, second = keeper.made(study, piece), keeper.made(study, piece)
    assert keeper.has(study, piece)
    assert len(calls) == 1
    assert first.findings == second.findings == [finding("one", "rate")]
    assert [one.facts() for one in second.rows] == [row("clean").facts()]


def test_pieces_whose_names_differ_after_a_dot_are_kept_apart(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for seconds in (4, 8):
        make, calls = counted(Made(findings=[finding("one", f"reverberation 0.{seconds} s")]))
        piece = Piece(f"reverberation 0.{seconds} s", make, 1.0)
        made = keeper.made(Study("one", [piece], (__file__,)), piece)
        assert len(calls) == 1
        assert made.findings == [finding("one", f"reverberation 0.{seconds} s")]


def test_another_input_or_other_code_makes_the_piece_anew(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("a = 1")
    make, calls = counted(Made(findings=[finding("one", "rate")]))
    keeper = Keeper(tmp_path / "kept")
    for inputs, text in (("input 1", "a = 1"), ("input 2", "a = 1"), ("input 2", "a = 2")):
        code.write_text(text)
        keeper.made(Study("one", [], (str(code),)), Piece("clean", make, 1.0, inputs))
    assert len(calls) == 3


def test_a_study_is_released_beside_the_others_and_takes_its_own_place_again(tmp_path: Path) -> None:
    for study, what in (("two", "old"), ("one", "rate"), ("two", "new")):
        release(Study(study, [], ()), [Made([row("clean")], [finding(study, what)]), Made([row("far")])], tmp_path)
    assert [(one.study, one.what) for one in read_findings(tmp_path)] == [("one", "rate"), ("two", "new")]
    assert [one.condition for one in read_rows(tmp_path / "predictions" / "two.npz")] == ["clean", "far"]


def test_the_report_prints_the_findings(tmp_path: Path) -> None:
    release(Study("leakage", [], ()), [Made(findings=[finding("leakage", "speaker <named>")])], tmp_path)
    evidence = read_evidence(tmp_path / "predictions")
    text = html(evidence, {**results(evidence), "ladder": []}, [], {}, None, read_findings(tmp_path))
    assert "speaker &lt;named&gt;" in text
    assert "12.5 %" in text
    assert "chance &lt;10 %" in text


def test_findings_of_another_form_are_named(tmp_path: Path) -> None:
    (tmp_path / FINDINGS).write_text(json.dumps([{"study": "one"}]))
    with pytest.raises(ConfigError, match=r"findings\.json"):
        read_findings(tmp_path)


def test_a_study_without_its_input_is_left_out_and_the_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> Made:
        raise ConfigError("face: not there yet.", next_step="Train it.")

    studies = [
        Study("face", [Piece("as it is", missing, 1.0)], ()),
        Study("leakage", [Piece("probes", lambda: Made(findings=[finding("leakage", "rate")]), 30.0)], ()),
    ]
    assert program.run(studies, Keeper(tmp_path / "kept"), tmp_path / "out") is True
    assert [one.study for one in read_findings(tmp_path / "out")] == ["leakage"]
    output = capsys.readouterr()
    assert "2 pieces, 0 finished; about 0.5 h" in output.out
    assert "face: left out: face: not there yet." in output.err
    assert program.run(studies[1:], Keeper(tmp_path / "kept"), tmp_path / "out") is False
    assert "1 pieces, 1 finished; about 0.0 h" in capsys.readouterr().out


def test_an_unknown_study_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--data", "nowhere", "--only", "everything"]) == 2
    assert "everything: not known" in capsys.readouterr().err


def test_answers_among_some_classes_are_those_of_the_logits_that_remain() -> None:
    logits = np.array([[9.0, 2.0, 1.0, 0.0, 0.0, 0.0, 3.0, 0.0]], np.float32)
    scores, labels = among(logits, np.array([6]), (Emotion.BOREDOM, Emotion.DISGUST, Emotion.SADNESS))
    expected = np.exp([2.0, 1.0, 3.0])
    np.testing.assert_allclose(np.exp(scores[0]), expected / expected.sum(), rtol=1e-5)
    assert labels.tolist() == [2]


def test_percent_and_marks(tmp_path: Path) -> None:
    one = percent("leakage", "rate", Figure(0.25, 0.2, 0.31), 40)
    assert (one.value, one.low, one.high, one.unit) == (25.0, 20.0, 31.0, "%")
    with pytest.raises(ConfigError, match="Train it"):
        file_mark(tmp_path / "absent", "Train it.")
