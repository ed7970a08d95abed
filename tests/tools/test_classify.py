"""moodline-classify: every kind of input, aggregation over ticks, bad input by name, exact probabilities."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from device.capture.recordings import Picture, Recording, Sound, load_recording
from device.errors import InferenceError
from device.inference.decision import DecisionParameters
from device.messages.label import SenseState
from models.contract import FACE_CLASSES, SPEECH_CLASSES
from models.labels import EMOTIONS, AbstainReason, Emotion
from tests.fakes.capture import tone
from tests.fakes.inference import FakeBundle, FakeDetector, FakeNetwork, sure_of
from tools import classify
from tools.classify import Classifier

REPOSITORY = Path(__file__).resolve().parents[2]
TAKES = REPOSITORY / "tools" / "takes"
CLIPS = REPOSITORY / "tests" / "clips"


class Changing(FakeNetwork):
    """A network whose answer changes with every call."""

    def __init__(self, answers: list[Emotion], classes: tuple[Emotion, ...]) -> None:
        super().__init__(sure_of(answers[0], classes))
        self.answers = [sure_of(answer, classes, 2.0) for answer in answers]

    def run(self, inputs: Any) -> dict[str, Any]:
        self.logits = self.answers[min(len(self.seen), len(self.answers) - 1)]
        return super().run(inputs)


def spoken(seconds: float) -> Recording:
    return Recording(Path("spoken.wav"), None, Sound(tone(seconds), 16_000), [], seconds)


def shown(*greys: int, every: float = 0.5) -> Recording:
    pictures = [Picture(i * every, np.full((48, 48), grey, np.uint8)) for i, grey in enumerate(greys)]
    return Recording(Path("shown"), None, None, pictures, every * len(greys))


# --- one recording ----------------------------------------------------------------------------------------------------


def test_a_short_clip_is_one_window_and_one_answer() -> None:
    networks = FakeBundle(speech=Emotion.FEAR)
    decision, evidence = Classifier(networks.bundle, FakeDetector()).classify(spoken(3.3))
    assert (decision.label, evidence.face.state) == (Emotion.FEAR, SenseState.OFF)
    assert len(networks.speech.seen) == 1


def test_a_long_clip_counts_by_the_mean_of_its_full_windows() -> None:
    networks = FakeBundle()
    answers = [Emotion.FEAR, Emotion.FEAR, Emotion.ANGER]
    networks.speech.run = (changing := Changing(answers, SPEECH_CLASSES)).run  # type: ignore[method-assign]
    _, evidence = Classifier(networks.bundle, FakeDetector()).classify(spoken(6.5))
    assert len(changing.seen) == 3
    assert evidence.speech.output is not None
    by_hand = np.mean([a - np.log(np.exp(a).sum()) for a in changing.answers], axis=0)
    np.testing.assert_allclose(evidence.speech.output.log_probabilities, by_hand, atol=1e-5)


def test_what_is_said_before_a_long_silence_counts() -> None:
    networks = FakeBundle(speech=Emotion.FEAR)
    sound = np.concatenate([tone(2.0), np.zeros(60_000, np.int16)])
    recording = Recording(Path("pause.wav"), None, Sound(sound, 16_000), [], len(sound) / 16_000)
    decision, _ = Classifier(networks.bundle, FakeDetector()).classify(recording)
    assert decision.label is Emotion.FEAR


def test_silence_abstains_and_has_no_probabilities() -> None:
    silence = Recording(Path("still.wav"), None, Sound(np.zeros(48_000, np.int16), 16_000), [], 3.0)
    decision, evidence = Classifier(FakeBundle().bundle, FakeDetector()).classify(silence)
    assert decision.reason is AbstainReason.SILENCE
    result = classify.answer("still.wav", decision, evidence)
    assert result["probabilities"] == {"speech": None, "face": None, "fused": None}
    assert result["leading"] is None


def test_faces_count_by_the_mean_over_the_pictures() -> None:
    networks = FakeBundle()
    changing = Changing([Emotion.SURPRISE, Emotion.SURPRISE, Emotion.ANGER], FACE_CLASSES)
    networks.face.run = changing.run  # type: ignore[method-assign]
    decision, evidence = Classifier(networks.bundle, FakeDetector()).classify(shown(10, 20, 30))
    assert len(changing.seen) == 3
    assert evidence.face.output is not None
    assert EMOTIONS[int(decision.probabilities.argmax())] is Emotion.SURPRISE


def test_a_crop_is_not_searched_for_a_face() -> None:
    networks, detector = FakeBundle(face=Emotion.DISGUST), FakeDetector([])
    assert Classifier(networks.bundle, detector).classify(shown(90))[0].reason is AbstainReason.NO_FACE
    decision, _ = Classifier(networks.bundle, detector, crop=True).classify(shown(90))
    assert decision.label is Emotion.DISGUST
    assert detector.pictures == 1


def test_both_senses_go_through_the_fused_head_with_the_history_of_the_take() -> None:
    networks = FakeBundle(speech=Emotion.SADNESS, face=Emotion.SADNESS)
    take = load_recording(TAKES / "sadness")
    decision, evidence = Classifier(networks.bundle, FakeDetector()).classify(take)
    assert decision.label is Emotion.SADNESS
    assert evidence.fused is not None
    masks = networks.fusion.seen[-1]["evidence"][0][:, -2:]
    assert masks[:, 1].sum() == 8, "a token every begun half second of 3.5 s"


@pytest.mark.parametrize(("branch", "label"), [("speech", Emotion.SADNESS), ("face", Emotion.HAPPINESS)])
def test_one_branch_alone_on_request(branch: classify.Branch, label: Emotion) -> None:
    networks = FakeBundle(speech=Emotion.SADNESS, face=Emotion.HAPPINESS)
    take = load_recording(TAKES / "sadness")
    decision, _ = Classifier(networks.bundle, FakeDetector()).classify(take, branch)
    assert decision.label is label
    assert networks.fusion.seen == []


def test_a_branch_without_its_sense_says_what_is_missing() -> None:
    classifier = Classifier(FakeBundle().bundle, FakeDetector())
    assert classifier.classify(spoken(2.0), "face")[0].reason is AbstainReason.NO_FACE
    assert classifier.classify(shown(9), "speech")[0].reason is AbstainReason.SILENCE


def test_a_sense_that_is_usable_only_when_the_other_is_not_is_fused_all_the_same() -> None:
    networks = FakeBundle(parameters=DecisionParameters(silence_after_ms=500))
    sound = np.concatenate([np.zeros(48_000, np.int16), tone(1.0)])
    pictures = [Picture(0.0, np.full((48, 48), 9, np.uint8))]
    recording = Recording(Path("apart"), None, Sound(sound, 16_000), pictures, 4.0)
    decision, evidence = Classifier(networks.bundle, FakeDetector()).classify(recording)
    assert evidence.fused is not None
    assert decision.label is Emotion.ANGER


def test_inputs_do_not_influence_each_other() -> None:
    networks = FakeBundle()
    classifier = Classifier(networks.bundle, FakeDetector())
    alone = classifier.classify(spoken(2.0))[0].probabilities
    classifier.classify(load_recording(TAKES / "anger"))
    classifier.classify(shown(3))
    np.testing.assert_array_equal(classifier.classify(spoken(2.0))[0].probabilities, alone)


def test_the_printed_probabilities_are_the_branches_own() -> None:
    networks = FakeBundle(speech=Emotion.SADNESS, face=Emotion.HAPPINESS)
    decision, evidence = Classifier(networks.bundle, FakeDetector()).classify(load_recording(TAKES / "sadness"))
    result = classify.answer("sadness", decision, evidence)
    for branch, classes, logits in (
        ("speech", SPEECH_CLASSES, networks.speech.logits),
        ("face", FACE_CLASSES, networks.face.logits),
    ):
        spread = result["probabilities"][branch]
        assert list(spread) == [emotion.value for emotion in classes]
        expected = np.exp(logits) / np.exp(logits).sum()
        assert list(spread.values()) == pytest.approx(expected.tolist(), abs=1e-6)
    assert list(result["probabilities"]["fused"]) == [emotion.value for emotion in EMOTIONS]
    assert (result["label"], result["abstain"]) == (None, "conflict")
    assert result["leading"] in ("sadness", "happiness")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> FakeBundle:
    fake = FakeBundle(speech=Emotion.FEAR, face=Emotion.FEAR)
    monkeypatch.setattr(classify, "load_bundle", lambda path, runtime: fake.bundle)
    return fake


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], str]:
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


def test_one_object_a_line_for_every_kind_of_input(
    networks: FakeBundle, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.new("L", (48, 48), 120).save(tmp_path / "crop.png")
    inputs = [str(CLIPS / "*.wav"), str(tmp_path / "crop.png"), str(TAKES / "anger"), str(TAKES)]
    assert classify.main(["--json", "--crop", *inputs]) == 0
    results, errors = lines(capsys)
    assert errors == ""
    assert [Path(r["input"]).name for r in results] == [
        *sorted(p.name for p in CLIPS.glob("*.wav")),
        "crop.png",
        "anger",
        *sorted(p.name for p in TAKES.iterdir() if p.is_dir()),
    ]
    assert {r["label"] for r in results} == {"fear"}
    assert set(results[0]) == {"input", "label", "confidence", "abstain", "leading", "probabilities"}


def test_unreadable_input_is_named_and_the_rest_goes_on(
    networks: FakeBundle, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = {
        "corrupt.wav": b"RIFF....WAVEfmt broken",
        "empty.flac": b"",
        "picture.png": b"\x89PNG no picture",
        "film.mp4": b"no film",
        "letter.txt": b"words",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    soundfile.write(tmp_path / "nan.wav", np.array([np.nan, 0.0]), 16_000, subtype="FLOAT")
    take = Path(shutil.copytree(TAKES / "sadness", tmp_path / "take"))
    (take / "frames" / "009.jpg").write_bytes((take / "frames" / "009.jpg").read_bytes()[:999])
    names = [*broken, "nan.wav", "take", "nowhere.wav", "no*match.wav"]
    good = str(CLIPS / "03a02Ta.wav")
    assert classify.main(["--json", *(str(tmp_path / name) for name in names), good]) == 2
    results, errors = lines(capsys)
    assert [("error" in r) for r in results] == [True] * len(names) + [False]
    for name, result in zip(names, results, strict=False):
        assert result["input"] == str(tmp_path / name)
        assert name in result["error"] and name in errors
    assert "009.jpg" in errors


def test_sound_of_another_rate_is_resampled(
    networks: FakeBundle, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "cd.wav", tone(2.0, rate=44_100), 44_100, subtype="PCM_16")
    assert classify.main(["--json", str(tmp_path / "cd.wav")]) == 0
    assert lines(capsys)[0][0]["label"] == "fear"


def test_a_folder_of_files_and_a_list_in_a_file(
    networks: FakeBundle, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("\n".join(str(p) for p in sorted(CLIPS.glob("*.wav"))))
    assert classify.main(["--json", str(CLIPS), f"@{tmp_path / 'list.txt'}"]) == 0
    results, _ = lines(capsys)
    assert len(results) == 14
    assert [r["input"] for r in results[:7]] == [r["input"] for r in results[7:]]


def test_people_get_a_line_with_the_label_and_the_likeliest_classes(
    networks: FakeBundle, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "still.wav", np.zeros(32_000, np.int16), 16_000, subtype="PCM_16")
    assert classify.main([str(CLIPS / "03a02Ta.wav"), str(tmp_path / "still.wav")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("fear ") and "03a02Ta.wav" in first and "[fear 0." in first
    assert second.startswith("- (silence)")


def test_a_refused_bundle_is_told_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert classify.main(["--bundle", str(tmp_path / "nothing"), str(CLIPS)]) == 1
    assert str(tmp_path / "nothing") in capsys.readouterr().err

    def refuse(path: Path, runtime: object) -> None:
        raise InferenceError(f"{path}: golden vector off.", next_step="Rebuild it.")

    monkeypatch.setattr(classify, "load_bundle", refuse)
    assert classify.main([str(CLIPS)]) == 1
    assert "golden vector off. Rebuild it." in capsys.readouterr().err


def test_a_reader_that_has_enough_ends_the_command_quietly() -> None:
    program = (
        "import sys; from tools import classify; from tests.fakes.inference import FakeBundle; "
        "classify.load_bundle = lambda path, runtime: FakeBundle().bundle; "
        f"sys.exit(classify.main(['--json', *([{str(CLIPS)!r}] * 40)]))"
    )
    command = f'"{sys.executable}" -c "$PROGRAM" | head -n 1; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", command],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PROGRAM": program},
    )
    answer, code = done.stdout.splitlines()
    assert json.loads(answer)["label"] == "anger"
    assert code == "0" and "Traceback" not in done.stderr


def test_help_says_what_is_taken_and_how_a_long_clip_counts() -> None:
    shown_help = classify.arguments().format_help()
    for word in ("--json", "--bundle", "--branch", "--crop", "mean of the log-probabilities", "Exit code"):
        assert word in shown_help


def test_it_runs_as_a_module_and_loads_no_microphone_camera_or_network_library() -> None:
    program = (
        "import sys, tools.classify; "
        "print([name for name in ('pyaudio', 'picamera2', 'paho', 'tensorflow', 'starlette') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout.strip() == "[]"
