"""Each fault of a recording is found by its check, and a clean database passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.inference.face_detector import BlazeFace
from device.inference.tflite import TFLiteRuntime
from models.contract import SAMPLE_RATE_HZ
from tests.fakes.capture import tone
from tests.fakes.inference import FakeDetector
from tests.tools.dataset.made_up import database, picture, sound, take
from tests.tools.dataset.test_corpora import packed
from tools.dataset.checks import CHECKS, Report, as_text, check_all
from tools.dataset.corpora import emodb, ferplus, nemo, ravdess
from tools.dataset.importing import from_paths, import_all, import_ferplus
from tools.dataset.manifest import Manifest

TAKES = Path(__file__).parents[3] / "tools" / "takes"


def report_on(folder: Path, *paths: Path, faces: int = 1) -> Report:
    found = from_paths(paths, "own", {"terms": "CC0-1.0", "person": "anna"})
    return check_all(import_all(Manifest(folder), found), FakeDetector(None if faces else []))


def faults(report: Report) -> dict[str, list[str]]:
    return {check: [name for name, _ in wrong] for check, wrong in report.wrong.items() if wrong}


def test_a_clean_database_passes(tmp_path: Path) -> None:
    report = report_on(tmp_path, take(tmp_path / "t"), sound(tmp_path / "a.wav"), picture(tmp_path / "p.png", seed=9))
    assert report.is_clean
    assert (report.items, report.looked_at["rate"], report.looked_at["face"], report.looked_at["same file"]) == (
        3,
        2,
        2,
        3,
    )


def test_the_takes_of_the_demo_pass_with_the_real_detector(tmp_path: Path) -> None:
    shutil.copytree(TAKES / "sadness", tmp_path / "sadness")
    found = from_paths([tmp_path / "sadness"], "own", {"terms": "CC BY-NC-SA 4.0"})
    report = check_all(import_all(Manifest(tmp_path), found), BlazeFace(TFLiteRuntime("tflite-runtime")))
    assert report.is_clean and report.looked_at["face"] == 1


@pytest.mark.parametrize(
    ("check", "make"),
    [
        ("rate", lambda path: sound(path, rate=44_100)),
        ("rate", lambda path: sound(path, channels=2)),
        ("length", lambda path: sound(path, seconds=0.3)),
        ("length", lambda path: sound(path, seconds=61)),
        ("clipping", lambda path: soundfile.write(path, np.clip(tone(1.0) * 4.0, -1e4, 1e4) / 1e4, SAMPLE_RATE_HZ)),
        ("silence", lambda path: soundfile.write(path, tone(1.0, amplitude=0.0005), SAMPLE_RATE_HZ)),
    ],
)
def test_a_fault_of_the_sound_is_found(check: str, make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "a.wav")
    assert faults(report_on(tmp_path, tmp_path / "a.wav")) == {check: ["own/a"]}


def test_equal_sound_is_found_whatever_the_file(tmp_path: Path) -> None:
    paths = [sound(tmp_path / name) for name in ("a.wav", "b.wav", "c.flac")]
    assert faults(report_on(tmp_path, *paths)) == {"same file": ["own/b"], "same samples": ["own/b", "own/c"]}


def test_equal_pictures_are_found_whatever_the_file(tmp_path: Path) -> None:
    first, second = take(tmp_path / "s"), take(tmp_path / "t", seed=2)
    soundfile.write(second / "audio.wav", tone(1.5, hertz=300), SAMPLE_RATE_HZ)
    assert faults(report_on(tmp_path, first, second)) == {"same pixels": ["own/t"]}


def test_a_picture_without_a_face_is_found(tmp_path: Path) -> None:
    report = report_on(tmp_path, take(tmp_path / "t"), sound(tmp_path / "a.wav"), faces=0)
    assert faults(report) == {"face": ["own/t"]}
    assert report.wrong["face"] == [("own/t", "no face in 3 of 3")]


def test_a_file_that_changed_or_is_gone_is_found(tmp_path: Path) -> None:
    manifest = database(tmp_path, {"anna": ""}, each=2)
    sound(manifest.file_of(manifest.items[0]), hertz=700)
    manifest.file_of(manifest.items[1]).unlink()
    assert faults(check_all(manifest, None)) == {"unchanged": ["own/anna0", "own/anna1"]}


def test_a_file_that_no_longer_decodes_is_found(tmp_path: Path) -> None:
    manifest = database(tmp_path, {"anna": ""}, each=1)
    manifest.file_of(manifest.items[0]).write_bytes(b"RIFF")
    assert faults(check_all(manifest, None)) == {"unchanged": ["own/anna0"], "readable": ["own/anna0"]}


def test_packed_pictures_are_checked_too(tmp_path: Path) -> None:
    pixels = np.zeros((3, 48, 48), np.uint8)
    report = check_all(import_ferplus(Manifest(tmp_path), packed(tmp_path, pixels=pixels)), FakeDetector())
    assert faults(report) == {"same file": ["ferplus/000001"], "same pixels": ["ferplus/000001"]}


def test_a_packed_file_with_fewer_pictures_is_found(tmp_path: Path) -> None:
    manifest = import_ferplus(Manifest(tmp_path), packed(tmp_path))
    np.savez(tmp_path / "ferplus" / "ferplus.npz", pixels=np.zeros((0, 48, 48), np.uint8))
    assert faults(check_all(manifest, None)) == {"readable": ["ferplus/000000", "ferplus/000001"]}


def test_the_table_has_a_row_a_check_and_names_the_first_faults(tmp_path: Path) -> None:
    text = as_text(report_on(tmp_path, sound(tmp_path / "a.wav", seconds=0.3)))
    assert all(f"\n{check}" in text for check in CHECKS)
    assert "- own/a: 0.30 s" in text


def test_the_page_for_strangers_has_every_check_and_every_corpus() -> None:
    page = (TAKES.parents[1] / "docs" / "datasets.md").read_text()
    assert [name for name, asked in CHECKS.items() if f"| {name} | {asked} |" not in page] == []
    for corpus in (emodb, ravdess, nemo, ferplus):
        assert f"| `{corpus.KEY}` | {corpus.NAME} | {corpus.SOURCE} | {corpus.TERMS} |" in page
