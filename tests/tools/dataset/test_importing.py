"""Every kind of recording gets in, copied or referenced, and a stranger's mistake is named by its cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.capture.recordings import load_recording
from device.errors import CaptureError, ConfigError
from models.labels import Emotion
from tests.capture.test_recordings import film
from tests.tools.dataset.made_up import picture, sound, table, take
from tools.dataset.clips import file_digest, read_samples
from tools.dataset.conversion import read_converted
from tools.dataset.importing import from_paths, from_table, import_all
from tools.dataset.manifest import Manifest, clips, read_manifest, write_manifest

TERMS = {"terms": "CC0-1.0", "person": "anna"}
HEADER = "path,person,emotion,sentence,sex,language,terms"


def test_a_sound_file_is_referenced_where_it_lies(tmp_path: Path) -> None:
    path = sound(tmp_path / "sounds" / "a.wav")
    (item,) = import_all(Manifest(tmp_path / "database"), from_paths([path], "own", TERMS)).items
    assert (item.name, item.kind, item.path, item.seconds) == ("own/a", "sound", str(path), 1.0)
    assert item.digest == file_digest(path)
    assert not (tmp_path / "database").exists()


def test_a_file_inside_of_the_database_is_named_relative_to_it(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav")
    (item,) = import_all(Manifest(tmp_path), from_paths([path], "own", TERMS)).items
    assert item.path == "a.wav"


def test_a_folder_gives_its_takes_sounds_and_pictures(tmp_path: Path) -> None:
    take(tmp_path / "all" / "t")
    sound(tmp_path / "all" / "a.wav")
    picture(tmp_path / "all" / "p.png")
    table(tmp_path / "all" / "notes.txt", "not a recording")
    first, face, both = import_all(Manifest(tmp_path), from_paths([tmp_path / "all"], "own", TERMS)).items
    assert (first.kind, first.pictures, first.emotion) == ("sound", 0, None)
    assert (face.kind, face.pictures, face.seconds) == ("faces", 1, 0.0)
    assert (both.kind, both.pictures, both.seconds, both.emotion) == ("sound and faces", 3, 1.5, Emotion.FEAR)


def test_what_somebody_states_goes_before_what_a_take_says(tmp_path: Path) -> None:
    found = from_paths([take(tmp_path / "t")], "own", TERMS | {"emotion": Emotion.ANGER})
    assert import_all(Manifest(tmp_path), found).items[0].emotion is Emotion.ANGER


def test_a_copy_is_16_khz_mono_flac(tmp_path: Path) -> None:
    path = sound(tmp_path / "cd.wav", rate=44_100, channels=2, hertz=440)
    manifest = import_all(Manifest(tmp_path / "d"), from_paths([path], "own", TERMS | {"emotion": "fear"}), copy=True)
    assert manifest.items[0].path == "items/own/cd.flac"
    (clip,) = clips(manifest)
    samples = read_samples(clip)
    assert len(samples) == 16_000
    assert int(np.abs(np.fft.rfft(samples)).argmax()) == 440


def test_sound_that_is_16_khz_mono_already_keeps_every_sample(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32_768, 32_768, 16_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    np.testing.assert_array_equal(read_converted(tmp_path / "a.wav"), samples)


def test_a_take_is_copied_whole(tmp_path: Path) -> None:
    found = from_paths([take(tmp_path / "t", rate=48_000)], "own", TERMS)
    with pytest.raises(CaptureError, match="48000 Hz"):
        import_all(Manifest(tmp_path / "d"), found)
    manifest = import_all(Manifest(tmp_path / "d"), found, copy=True)
    recording = load_recording(manifest.file_of(manifest.items[0]))
    assert recording.sound is not None and recording.sound.sample_rate_hz == 16_000
    assert (len(recording.pictures), recording.emotion) == (3, Emotion.FEAR)


def test_a_video_becomes_a_take_with_two_pictures_a_second(tmp_path: Path) -> None:
    found = from_paths([film(tmp_path / "film.mp4")], "own", TERMS)
    with pytest.raises(ConfigError, match="--copy"):
        import_all(Manifest(tmp_path / "d"), found)
    manifest = import_all(Manifest(tmp_path / "d"), found, copy=True)
    (item,) = manifest.items
    assert (item.kind, item.pictures) == ("sound and faces", 4)
    recording = load_recording(manifest.file_of(item))
    assert [entry.seconds for entry in recording.pictures] == [0.0, 0.5, 1.0, 1.5]
    assert recording.sound is not None and recording.sound.sample_rate_hz == 16_000


def test_pictures_are_copied_as_they_are(tmp_path: Path) -> None:
    path = picture(tmp_path / "p.png")
    manifest = import_all(Manifest(tmp_path / "d"), from_paths([path], "own", TERMS), copy=True)
    assert manifest.file_of(manifest.items[0]).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("copy", [False, True])
def test_importing_again_changes_nothing(copy: bool, tmp_path: Path) -> None:
    found = from_paths([sound(tmp_path / "a.wav"), take(tmp_path / "t")], "own", TERMS)
    manifest = import_all(Manifest(tmp_path / "d"), found, copy=copy)
    write_manifest(manifest)
    assert import_all(read_manifest(tmp_path / "d"), found, copy=copy) == manifest


def test_a_table_gives_each_recording_its_facts(tmp_path: Path) -> None:
    sound(tmp_path / "x" / "a.wav")
    sound(tmp_path / "x" / "b.wav", hertz=200)
    rows = table(
        tmp_path / "t.csv", "\ufeff" + HEADER, "x/a.wav,anna,fear,s1,female,de,CC0-1.0", "x/b.wav,bert,,,,,", ""
    )
    first, second = import_all(Manifest(tmp_path / "d"), from_table(rows, "own", "CC BY 4.0")).items
    assert (first.name, first.person, first.emotion, first.sentence) == ("own/x/a", "anna", Emotion.FEAR, "s1")
    assert (first.sex, first.language, first.terms) == ("female", "de", "CC0-1.0")
    assert (second.person, second.emotion, second.terms) == ("bert", None, "CC BY 4.0")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.wav,anna,angry,,,,CC0", "row 2, column emotion: .angry. is none of anger"),
        ("a.wav,,fear,,,,CC0", "row 2, column person: is empty"),
        (",anna,fear,,,,CC0", "row 2, column path: is empty"),
        ("b.wav,anna,fear,,,,CC0", "row 2, column path: .*no such file"),
        ("t.csv,anna,fear,,,,CC0", "row 2, column path: .*not a kind of file"),
        ("a.wav,anna,fear,,woman,,CC0", "row 2, column sex: .woman."),
        ("a.wav,anna,fear,,,,", "row 2, column terms: is empty"),
        ("a.wav,anna,fear", "row 2: 3 cells for 7 columns"),
    ],
)
def test_a_wrong_cell_is_named_by_row_and_column(row: str, message: str, tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    with pytest.raises(ConfigError, match=message):
        from_table(table(tmp_path / "t.csv", HEADER, row), "own")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,person", "row 1: no column emotion"),
        ("path;person;emotion", "row 1: no column path"),
        ("path,person,emotion,age", 'row 1: column "age" is not known'),
        ("path,person,emotion,person", "row 1: a column stands twice"),
        ("path,person,emotion", "0 rows"),
        ('path,person,"emotion', "cannot be read"),
    ],
)
def test_a_wrong_header_is_named_with_the_right_one(header: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        from_table(table(tmp_path / "t.csv", header), "own")


def test_a_table_that_is_absent_not_text_or_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"t\.csv: cannot be read"):
        from_table(tmp_path / "t.csv", "own")
    (tmp_path / "t.csv").write_bytes(b"path,person,emotion\n\xff\xfe,x,fear\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        from_table(tmp_path / "t.csv", "own")
    monkeypatch.setattr("tools.dataset.tables.BYTES_MAX", 10)
    with pytest.raises(ConfigError, match="larger than 10 bytes"):
        from_table(tmp_path / "t.csv", "own")


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    sound(tmp_path / "x" / "a.wav")
    sound(tmp_path / "y" / "a.wav")
    with pytest.raises(ConfigError, match="would both be named own/a"):
        import_all(Manifest(tmp_path), from_paths([tmp_path / "x", tmp_path / "y"], "own", TERMS))


def test_a_part_of_a_take_beside_the_take_is_refused(tmp_path: Path) -> None:
    take(tmp_path / "t")
    rows = table(tmp_path / "t.csv", "path,person,emotion", "t,anna,fear", "t/audio.wav,anna,fear")
    with pytest.raises(ConfigError, match="is a part of own/t"):
        import_all(Manifest(tmp_path / "d"), from_table(rows, "own", "CC0-1.0"), copy=True)


def test_a_name_that_leads_out_of_the_database_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    found = from_paths([sound(tmp_path / "a.wav")], "../own", TERMS)
    with pytest.raises(ConfigError, match="name"):
        import_all(Manifest(tmp_path / "x" / "d"), found, copy=True)
    assert not (tmp_path / "x").exists()


def test_files_need_terms(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--terms"):
        from_paths([sound(tmp_path / "a.wav")], "own", {"person": "anna", "terms": ""})


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no recording"):
        from_paths([tmp_path], "own", TERMS)


@pytest.mark.parametrize("copy", [False, True])
def test_a_file_that_is_no_sound_is_named(copy: bool, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF, or so it says")
    with pytest.raises(CaptureError, match=r"a\.wav"):
        import_all(Manifest(tmp_path / "d"), from_paths([tmp_path / "a.wav"], "own", TERMS), copy=copy)


@pytest.mark.parametrize("copy", [False, True])
def test_sound_without_samples_or_too_long_is_refused(
    copy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.dataset.importing.SOUND_SECONDS_MAX", 2)
    monkeypatch.setattr("tools.dataset.conversion.SOUND_SECONDS_MAX", 2)
    for seconds in (0.0, 3.0):
        found = from_paths([sound(tmp_path / f"{seconds:.0f}.wav", seconds=seconds)], "own", TERMS)
        with pytest.raises(CaptureError, match=r"\.wav"):
            import_all(Manifest(tmp_path / "d"), found, copy=copy)


def test_a_take_with_too_many_pictures_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.dataset.importing.PICTURES_MAX", 2)
    with pytest.raises(CaptureError, match="3 pictures"):
        import_all(Manifest(tmp_path), from_paths([take(tmp_path / "t")], "own", TERMS))
