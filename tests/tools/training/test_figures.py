"""The bundle's figures are the report's: read from it, and nothing else of the bundle changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from device.errors import ConfigError
from device.inference.bundle import CLASSES, read_manifest
from device.inference.decision import DecisionParameters
from device.inference.manifest import (
    BUNDLE_FILES,
    CARD_FILE,
    MANIFEST_FILE,
    Manifest,
    NetworkFacts,
    Origin,
    TrainingSet,
)
from models.contract import NETWORKS, contract_digest, feature_set_digest
from tests.fakes.inference import FACE_CONSTANTS, FUSION_CONSTANTS, SPEECH_CONSTANTS
from tools.evaluate.goals import Goal, goals
from tools.evaluate.results import Evidence
from tools.training.card import card
from tools.training.figures import FROM_GOALS, REPEATED, main, read_metrics
from tools.training.sealing import seal

LOSO_TITLE: Final = "leave one speaker out (LOSO)"


def figure(value: float) -> dict[str, Any]:
    low, high = round(value - 0.03, 6), round(value + 0.02, 6)
    return {"value": value, "low": low, "high": high, "by": "speakers", "intervals": {}, "seeds": 2}


def summary(system: str, protocol: str, accuracy: float, uar: float, *, is_result: bool = True) -> dict[str, Any]:
    return {
        "system": system,
        "protocol": protocol,
        "title": LOSO_TITLE if protocol == "loso" else protocol,
        "is_result": is_result,
        "accuracy": figure(accuracy),
        "uar": figure(uar),
    }


def run(system: str, protocol: str, seed: int, n: int, uar: float = 0.5, **more: Any) -> dict[str, Any]:
    return {"system": system, "protocol": protocol, "seed": seed, "fold": "pooled", "n": n, "uar": uar, **more}


def goal(metric: str, value: float | None) -> Goal:
    row = Goal(metric=metric, protocol="all test items", sense="at least", goal=99.0, stretch=None)
    if value is None:
        return row
    return msgspec.structs.replace(row, value=value, low=value - 1, high=value + 0.5, seeds=1, note="A note.")


RESULTS: Final = {
    "summaries": [
        summary("ours", "loso", 0.81, 0.80),
        summary("ours_int8", "loso", 0.805, 0.795),
        summary("ours", "random-5-fold", 0.91, 0.90),
        summary("ours_int8", "leaky", 0.99, 0.99, is_result=False),
        summary("svm", "loso", 0.7, 0.69),
    ],
    "speakers": {"ours_int8": [{"speaker": "08", "n": 58, "uar": figure(0.61)}, {"speaker": "03", "n": 49}]},
    "runs": [
        *(run("ours_int8", "loso", seed, 535) for seed in (3, 1)),
        run("ours_int8", "loso", 3, 58) | {"fold": "08"},
        run("ours", "loso", 0, 535),
        run("ours", "random-5-fold", 0, 535),
        run("face", "int8", 0, 3186, condition=""),
        run("ours", "cross-corpus", 0, 900, 0.7, condition="ravdess"),
        run("ours", "cross-corpus", 0, 400, 0.4, condition="emodb"),
    ],
}
GOALS: Final = [
    goal("int8 and float32 give the same label: face", 99.31),
    goal("int8 and float32 give the same label: speech", None),
    goal("EMO-DB LOSO UAR, speech alone", 79.5),
    goal("ECE, LOSO", 4.25),
    goal("cross-corpus UAR, 4 shared classes: the worst target", 40.0),
]


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "results.json").write_bytes(msgspec.json.encode(RESULTS))
    (folder / "goals.json").write_bytes(msgspec.json.encode(GOALS))
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle as far as its files' digests go: no network in it can be loaded."""
    folder = tmp_path / "bundle"
    (folder / "golden").mkdir(parents=True)
    for name in BUNDLE_FILES - {CARD_FILE}:
        (folder / name).write_bytes(name.encode())
    facts = {
        name: NetworkFacts(
            multiply_accumulates=1, parameters=1, tolerance={tensor.name: 0.1 for tensor in contract.outputs}
        )
        for name, contract in NETWORKS.items()
    }
    terms = TrainingSet(name="a set", used_for="all", items=7, digest="0" * 64, terms="CC0-1.0", source="here")
    seal(
        folder,
        Manifest(
            format=1,
            version="9.9.9",
            contract_digest=contract_digest(),
            feature_set_digest=feature_set_digest(),
            files={},
            classes={name: tuple(map(str, classes)) for name, classes in CLASSES.items()},
            networks=facts,
            speech=SPEECH_CONSTANTS,
            face=FACE_CONSTANTS,
            fusion=FUSION_CONSTANTS,
            decision=DecisionParameters(),
            trained_on=(terms,),
            metrics=(),
            origin=Origin(command="made up", seed=0, tools={}),
        ),
    )
    return folder


def test_figures_are_those_of_the_shipped_system_by_every_honest_protocol(evaluation: Path) -> None:
    found = {metric.name: metric for metric in read_metrics(evaluation)}
    strangers = found["speech, loso: macro recall (UAR)"]
    assert (strangers.value, strangers.low, strangers.high) == (0.795, 0.765, 0.815)
    assert (strangers.items, strangers.seeds) == (535, (1, 3))
    assert strangers.protocol.endswith("interval by speakers; results.json: summaries, ours_int8, loso, uar")
    assert found["speech, random-5-fold: accuracy (WA)"].value == 0.91
    assert not any("leaky" in name for name in found)
    worst = found["speech, loso: macro recall (UAR), worst speaker (08)"]
    assert (worst.value, worst.items) == (0.61, 58)


def test_goals_give_what_results_do_not_hold(evaluation: Path) -> None:
    found = {metric.name: metric for metric in read_metrics(evaluation)}
    same = found["int8 and float32 give the same label: face"]
    assert (same.value, same.low, same.high, same.items) == (0.9931, 0.9831, 0.9981, 3186)
    assert "A note; goals.json: int8 and" in same.protocol
    assert "int8 and float32 give the same label: speech" not in found
    assert "EMO-DB LOSO UAR, speech alone" not in found
    assert (found["ECE, LOSO"].items, found["ECE, LOSO"].seeds) == (535, (1, 3))
    assert found["cross-corpus UAR, 4 shared classes: the worst target"].items == 400


def test_every_goal_is_kept_or_known_to_be_a_repetition(tmp_path: Path) -> None:
    assert {row.metric for row in goals(Evidence({}, []), tmp_path)} == set(FROM_GOALS) | REPEATED
    assert not set(FROM_GOALS) & REPEATED


def test_figures_go_into_manifest_and_card_and_nothing_else_changes(evaluation: Path, bundle: Path) -> None:
    before = {name: (bundle / name).read_bytes() for name in BUNDLE_FILES}
    old = read_manifest(bundle)
    assert main(["--bundle", str(bundle), "--evaluation", str(evaluation)]) == 0
    new = read_manifest(bundle)
    assert new.metrics == read_metrics(evaluation)
    assert msgspec.structs.replace(new, metrics=(), files=old.files) == old
    text = (bundle / CARD_FILE).read_text()
    assert text == card(new)
    assert all(metric.name in text and metric.protocol in text for metric in new.metrics)
    for name in BUNDLE_FILES - {CARD_FILE}:
        assert (bundle / name).read_bytes() == before[name]
        assert new.files[name] == old.files[name]
    assert new.files[CARD_FILE] != old.files[CARD_FILE]


def test_a_second_time_changes_no_byte(evaluation: Path, bundle: Path) -> None:
    arguments = ["--bundle", str(bundle), "--evaluation", str(evaluation)]
    main(arguments)
    first = (bundle / MANIFEST_FILE).read_bytes()
    main(arguments)
    assert (bundle / MANIFEST_FILE).read_bytes() == first


def spoil_network(evaluation: Path, bundle: Path) -> None:
    (bundle / "speech.tflite").write_bytes(b"another")


def spoil_goals(evaluation: Path, bundle: Path) -> None:
    (evaluation / "goals.json").unlink()


def spoil_results(evaluation: Path, bundle: Path) -> None:
    (evaluation / "results.json").write_text('{"summaries": [{}]}')


def add_goal(evaluation: Path, bundle: Path) -> None:
    (evaluation / "goals.json").write_bytes(msgspec.json.encode([goal("a new goal", 1.0)]))


def forget_run(evaluation: Path, bundle: Path) -> None:
    (evaluation / "results.json").write_bytes(msgspec.json.encode(RESULTS | {"runs": []}))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (spoil_network, "speech.tflite"),
        (spoil_goals, "goals.json"),
        (spoil_results, "results.json"),
        (add_goal, "a new goal"),
        (forget_run, "no run of ours_int8"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(
    spoil: Callable[[Path, Path], None],
    named: str,
    evaluation: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(evaluation, bundle)
    before = (bundle / MANIFEST_FILE).read_bytes()
    assert main(["--bundle", str(bundle), "--evaluation", str(evaluation)]) == 2
    assert named in capsys.readouterr().err
    assert (bundle / MANIFEST_FILE).read_bytes() == before


def test_an_evaluation_without_the_shipped_system_is_refused(evaluation: Path) -> None:
    (evaluation / "results.json").write_bytes(msgspec.json.encode({"summaries": [], "speakers": {}, "runs": []}))
    (evaluation / "goals.json").write_bytes(b"[]")
    with pytest.raises(ConfigError, match="nothing of the shipped system"):
        read_metrics(evaluation)
