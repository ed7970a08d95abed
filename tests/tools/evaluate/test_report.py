"""From runs to the page, end to end on a made-up corpus, and what the page owes its reader."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.errors import ConfigError
from tests.tools.evaluate.made_up import Memory, NearestMean, corpus, honest
from tools.evaluate.__main__ import main, run_named
from tools.evaluate.predictions import Row, write_rows
from tools.evaluate.released import read_manifests, read_released
from tools.evaluate.splits import PROTOCOLS, recomputed_digest
from tools.evaluate.system import System

SYSTEMS: dict[str, Callable[[], System]] = {
    "ours": lambda: honest("ours"),
    "svm": lambda: Memory("svm"),
    "cnn": lambda: NearestMean("cnn", earlier=(0.1, 0.99)),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report over three systems, all protocols, two seeds, and some faces."""
    folder = tmp_path_factory.mktemp("evaluate")
    out = folder / "out"
    run_named(corpus(), SYSTEMS, "all", "all", "0-1", folder)
    generator = np.random.default_rng(0)
    faces = generator.dirichlet([0.3] * 7, 200)
    write_rows(
        out / "predictions" / "face.npz",
        [
            Row(
                name="face branch",
                system="face",
                protocol="ferplus-valid",
                classes=("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
                scores=np.log(faces),
                labels=faces.argmax(axis=1) if seed else generator.integers(7, size=200),
                seed=seed,
                other=np.log(faces),
                note="a <note> & more",
            )
            for seed in range(2)
        ],
    )
    assert main(["collect", "--build", str(folder), "--out", str(out)]) == 0
    assert main(["report", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def results(built: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((built / "results.json").read_text())
    return found


def test_every_run_has_all_its_figures(results: dict[str, Any]) -> None:
    runs = [run for run in results["runs"] if "split_digest" in run and run["system"] != "face"]
    wanted = {"system", "protocol", "seed", "fold", "n", "accuracy", "uar", "macro_precision", "macro_recall"}
    wanted |= {"macro_f1", "ece", "confusion", "training_s", "test_s", "split_digest", "chosen"}
    assert all(wanted <= run.keys() for run in runs)
    folds = [run for run in runs if run["fold"] != "pooled"]
    assert len(folds) == 3 * 2 * (1 + 1 + 5 + 5 + 4 + 20 + 4 + 4)
    assert len(runs) - len(folds) == 3 * 2 * len(PROTOCOLS)


def test_a_pooled_figure_is_that_of_all_folds_answers_together(results: dict[str, Any]) -> None:
    mine = [run for run in results["runs"] if (run["system"], run["protocol"], run["seed"]) == ("svm", "loso", 0)]
    folds = np.sum([run["confusion"] for run in mine if run["fold"] != "pooled"], axis=0)
    pooled = next(run for run in mine if run["fold"] == "pooled")
    assert pooled["confusion"] == folds.tolist()
    assert pooled["uar"] == pytest.approx(np.mean(np.diag(folds) / folds.sum(axis=1)), abs=1e-6)


def test_every_run_names_the_manifest_of_its_split(built: Path, results: dict[str, Any]) -> None:
    for name in PROTOCOLS:
        manifests = read_manifests(built / "splits" / f"{name}.json")
        assert all(recomputed_digest(manifests, one) == one.digest for one in manifests.splits)
        known = {(seed, one.fold): one.digest for one in manifests.splits for seed in one.seeds}
        for run in results["runs"]:
            if run["protocol"] == name and run["fold"] != "pooled":
                assert run["split_digest"] == known[run["seed"], run["fold"]]


def test_the_score_of_record_is_the_last_epochs_though_an_earlier_one_was_better(
    built: Path, results: dict[str, Any]
) -> None:
    epochs = read_released(built / "predictions" / "emodb" / "cnn.npz").epochs["loso", 0]
    pooled = next(
        run
        for run in results["runs"]
        if (run["system"], run["protocol"], run["seed"], run["fold"]) == ("cnn", "loso", 0, "pooled")
    )
    assert pooled["accuracy"] == pytest.approx(epochs[-1, 4], abs=1e-4)
    assert epochs[1, 4] == pytest.approx(0.99)


def test_the_ladder_shows_what_leaking_copies_is_worth(results: dict[str, Any]) -> None:
    rungs = {rung["protocol"]: rung for rung in results["ladder"]}
    assert list(rungs) == list(PROTOCOLS)
    leaky, honest_one = (rungs[name]["systems"]["svm"]["uar"]["value"] for name in ("leaky", "random-5-fold"))
    assert leaky > honest_one + 0.3
    assert rungs["leaky"]["is_result"] is False
    assert rungs["loso-shuffled"]["systems"]["ours"]["uar"]["value"] < 0.25


def test_the_released_answers_are_the_runs_answers(built: Path) -> None:
    released = read_released(built / "predictions" / "emodb" / "ours.npz")
    given = corpus()
    split = PROTOCOLS["loso"].splits(given.clips, 0)[2]
    fold = next(
        fold for fold in released.folds if (fold.facts.protocol, fold.facts.seed, fold.facts.fold) == ("loso", 0, "09")
    )
    assert fold.names.tolist() == [given.clips[row].name for row in split.test]
    np.testing.assert_array_equal(fold.labels, given.labels[split.test])
    expected = honest().run(given, split, 0).log_probabilities
    np.testing.assert_allclose(fold.log_probabilities, expected, atol=0.02)


def test_goals_are_computed_or_not_measured(built: Path) -> None:
    goals = json.loads((built / "goals.json").read_text())
    fields = {"metric", "protocol", "sense", "goal", "stretch", "value", "low", "high", "seeds", "met", "note"}
    assert all(set(goal) == fields for goal in goals)
    by_metric = {goal["metric"]: goal for goal in goals}
    loso = by_metric["EMO-DB LOSO UAR, speech alone"]
    assert loso["low"] <= loso["value"] <= loso["high"]
    assert (loso["seeds"], loso["met"]) == (2, loso["value"] >= 84)
    absent = [goal for goal in goals if goal["value"] is None]
    assert absent
    assert all(goal["met"] is None and goal["note"].startswith("not measured") for goal in absent)
    assert by_metric["FER+ valid accuracy lost by int8"]["value"] == 0.0


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name == "src" or (tag == "link" and name == "href")]


def test_the_page_stands_alone_and_starts_with_the_law(built: Path) -> None:
    text = (built / "index.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.loads == []
    assert "url(http" not in text and "@import" not in text
    assert len(text) < 3_000_000
    body = text[text.index("<body>") :]
    order = [body.index(words) for words in ("The law, first.", "Acted expression", "class=headline", "The ladder")]
    assert order == sorted(order)
    assert text.count("<svg") == len(list((built / "figures").glob("*.svg")))


def test_the_page_prints_the_headline_of_results_and_says_missed_goals(built: Path, results: dict[str, Any]) -> None:
    text = (built / "index.html").read_text()
    mine = next(one for one in results["summaries"] if (one["system"], one["protocol"]) == ("ours", "loso"))
    headline = re.search(r"class=headline>.*?</p>", text, re.DOTALL)
    assert headline is not None
    assert f"{100 * mine['uar']['value']:.1f} %" in headline[0]
    goals = json.loads((built / "goals.json").read_text())
    missed = sum(goal["met"] is False for goal in goals)
    assert missed > 0
    assert f"<b>{missed} missed</b>" in text


def test_texts_of_predictions_are_escaped(built: Path) -> None:
    text = (built / "index.html").read_text()
    assert "<note>" not in text
    assert "a &lt;note&gt; &amp; more" in text


def test_rebuilding_from_the_predictions_alone_gives_the_same_bytes_without_tensorflow(
    built: Path, tmp_path: Path
) -> None:
    other = tmp_path / "out"
    for path in (built / "predictions").rglob("*.npz"):
        copy = other / path.relative_to(built)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    code = (
        "import sys; from pathlib import Path; from tools.evaluate.__main__ import main; "
        f"main(['report', '--out', {str(other)!r}]); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    for name in ("results.json", "goals.json", "index.html"):
        assert (other / name).read_bytes() == (built / name).read_bytes(), name


def test_a_report_without_any_prediction_says_so(tmp_path: Path) -> None:
    assert main(["report", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "index.html").read_text()
    assert "has not been measured" in text
    goals = json.loads((tmp_path / "goals.json").read_text())
    assert all(goal["value"] is None and goal["met"] is None for goal in goals)


def test_a_seed_with_a_fold_missing_is_not_released(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_named(corpus(), {"ours": SYSTEMS["ours"]}, "ours", "loso", "0-1", tmp_path)
    (tmp_path / "runs" / "ours" / "loso" / "seed-1" / "09.npz").unlink()
    main(["collect", "--build", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "seed 1: 3 of 4 folds, left out" in capsys.readouterr().out
    released = read_released(tmp_path / "out" / "predictions" / "emodb" / "ours.npz")
    assert {fold.facts.seed for fold in released.folds} == {0}


def test_a_system_under_an_observer_is_drawn_and_not_compared(tmp_path: Path) -> None:
    class Network(NearestMean):
        def recording(self) -> NearestMean:
            return honest(f"{self.name}_epochs")

    registry: dict[str, Callable[[], System]] = {"cnn": lambda: Network("cnn", earlier=()), "svm": SYSTEMS["svm"]}
    run_named(corpus(), registry, "cnn,cnn_epochs", "loso", "0", tmp_path)
    out = tmp_path / "out"
    main(["collect", "--build", str(tmp_path), "--out", str(out)])
    main(["report", "--out", str(out)])
    found = json.loads((out / "results.json").read_text())
    assert [one["system"] for one in found["summaries"]] == ["cnn"]
    assert {run["system"] for run in found["runs"]} == {"cnn", "cnn_epochs"}
    assert ">cnn<" in (out / "figures" / "scores-over-epochs.svg").read_text()
    with pytest.raises(ConfigError, match="no epochs"):
        run_named(corpus(), registry, "svm_epochs", "loso", "0", tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["run", "--data", "nowhere"]],
    ids=["no data named", "no data there"],
)
def test_what_is_missing_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "evaluate:" in capsys.readouterr().err


def test_an_unknown_system_or_protocol_is_said_with_the_known_ones(tmp_path: Path) -> None:
    for systems, protocols in (("theirs", "all"), ("ours", "theirs")):
        with pytest.raises(Exception, match=r"theirs: not known.*ours|theirs: not known.*leaky"):
            run_named(corpus(), {"ours": SYSTEMS["ours"]}, systems, protocols, "0", tmp_path)
