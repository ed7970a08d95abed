"""The released bundle at work: the pipeline and moodline-classify on real recordings, in the real runtime.

These recordings are too few, and partly training material, to say anything about accuracy: the card does that.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from device.capture.recordings import load_recording
from device.capture.replay import Replay
from device.config import RuntimeName
from device.inference.bundle import Bundle, load_bundle
from device.inference.decision import Decider, Decision, Evidence
from device.inference.face_detector import BlazeFace
from device.inference.tflite import TFLiteRuntime
from device.messages.label import SenseState
from device.unit.pipeline import Pipeline
from models.contract import FACE_CLASSES, SPEECH_CLASSES
from models.labels import EMOTIONS
from tests.fakes.clock import FakeClock
from tools import classify

REPOSITORY = Path(__file__).resolve().parents[2]
TAKES = sorted(path for path in (REPOSITORY / "tools" / "takes").iterdir() if path.is_dir())
CLIPS = sorted((REPOSITORY / "tests" / "clips").glob("*.wav"))


@pytest.fixture(scope="module")
def runtime() -> TFLiteRuntime:
    return TFLiteRuntime("tflite-runtime")


@pytest.fixture(scope="module")
def bundle(runtime: TFLiteRuntime) -> Bundle:
    return load_bundle(classify.RELEASED_BUNDLE, runtime)


def played(take: Path, bundle: Bundle, runtime: TFLiteRuntime) -> list[tuple[Decision, Evidence]]:
    """A take through the whole pipeline, at real time by the clock."""
    clock = FakeClock()
    replay = Replay(take, clock, loop=False)
    decider = Decider(bundle.manifest.decision)
    pipeline = Pipeline(clock, replay.audio, replay.video, bundle, BlazeFace(runtime), decider)
    pipeline.start()
    answers = []
    while not replay.finished:
        now = clock.advance(0.5)
        pipeline.pump()
        decision = pipeline.tick(now)
        assert pipeline.evidence is not None
        answers.append((decision, pipeline.evidence))
    pipeline.stop()
    return answers


@pytest.mark.parametrize("take", TAKES, ids=lambda path: path.name)
def test_a_take_is_heard_and_seen_to_its_end(take: Path, bundle: Bundle, runtime: TFLiteRuntime) -> None:
    answers = played(take, bundle, runtime)
    last, evidence = answers[-1]
    assert (last.speech, last.face) == (SenseState.PRESENT, SenseState.PRESENT)
    assert evidence.fused is not None
    for decision, _ in answers:
        assert (decision.label is None) != (decision.reason is None)
        assert decision.probabilities.sum() == pytest.approx(1.0, abs=1e-5) or not decision.probabilities.any()


@pytest.mark.parametrize("take", TAKES[:2], ids=lambda path: path.name)
def test_the_command_hears_what_the_box_hears_bit_for_bit(take: Path, bundle: Bundle, runtime: TFLiteRuntime) -> None:
    _, on_the_box = played(take, bundle, runtime)[-1]
    classifier = classify.Classifier(bundle, BlazeFace(runtime))
    _, by_command = classifier.classify(load_recording(take))
    assert on_the_box.speech.output is not None and by_command.speech.output is not None
    np.testing.assert_array_equal(
        on_the_box.speech.output.log_probabilities, by_command.speech.output.log_probabilities
    )


def test_the_command_gives_every_probability_of_every_branch(capsys: pytest.CaptureFixture[str]) -> None:
    assert classify.main(["--json", *map(str, CLIPS), *map(str, TAKES)]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(results) == len(CLIPS) + len(TAKES)
    for number, result in enumerate(results):
        spreads = result["probabilities"]
        assert list(spreads["speech"]) == [emotion.value for emotion in SPEECH_CLASSES]
        assert list(spreads["fused"]) == [emotion.value for emotion in EMOTIONS]
        assert (spreads["face"] is not None) == (number >= len(CLIPS))
        if spreads["face"] is not None:
            assert list(spreads["face"]) == [emotion.value for emotion in FACE_CLASSES]
        for spread in filter(None, spreads.values()):
            assert sum(spread.values()) == pytest.approx(1.0, abs=1e-4)
            assert result["leading"] == max(spreads["fused"], key=spreads["fused"].get)
        assert (result["label"] is None) != (result["abstain"] is None)


def test_the_answers_on_different_voices_and_faces_differ(bundle: Bundle, runtime: TFLiteRuntime) -> None:
    """A network that answers the same to everything passes every other test of shape."""
    classifier = classify.Classifier(bundle, BlazeFace(runtime))
    leading = set()
    for branch, paths in (("speech", CLIPS), ("face", TAKES)):
        spreads = [classifier.classify(classify.read_input(path), branch)[0].probabilities for path in paths]  # type: ignore[arg-type]
        leading.add(len({int(spread.argmax()) for spread in spreads}))
        assert np.ptp(np.stack(spreads), axis=0).max() > 0.2
    assert min(leading) >= 3


@pytest.mark.parametrize("name", ["tflite-runtime", "litert"])
def test_both_runtimes_run_the_command(name: RuntimeName, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify.main(["--json", "--runtime", name, str(TAKES[0])]) == 0
    assert json.loads(capsys.readouterr().out)["probabilities"]["fused"] is not None
