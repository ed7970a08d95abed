"""A manifest is read back as it was written, says the line that is wrong, and gives training its clips."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from device.errors import ConfigError, StorageError
from models.labels import Emotion
from tests.tools.dataset.made_up import database, picture, sound, take
from tools.dataset.clips import file_digest, read_samples
from tools.dataset.importing import Found, import_all
from tools.dataset.manifest import FILE, Item, Manifest, Split, clips, merged, read_manifest, write_manifest

PERSONS = {"anna": "female", "bert": "male"}


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    manifest = database(tmp_path, PERSONS).with_head(motivation="A test.", sources={"own": "made up"})
    write_manifest(manifest)
    assert read_manifest(tmp_path) == manifest
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_folder_without_a_manifest_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=FILE):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("line", "change", "message"),
    [
        (0, {"format": 2}, "line 1"),
        (0, {"splits": {"s": {"parts": {"a": ["anna"], "b": ["anna"]}}}}, "line 1.*two parts"),
        (1, {"emotion": "angry"}, "line 2.*emotion"),
        (1, {"colour": "red"}, "line 2.*colour"),
        (1, {"name": "own/../../etc"}, "line 2.*name"),
        (1, {"name": "own"}, "line 2.*name"),
        (1, {"terms": ""}, "line 2.*terms"),
        (1, {"consent": 0}, "line 2.*consent is not in the head"),
        (2, {"name": "own/anna0"}, "line 3.*second item"),
    ],
)
def test_a_wrong_line_is_named(line: int, change: dict[str, object], message: str, tmp_path: Path) -> None:
    write_manifest(database(tmp_path, PERSONS))
    lines = (tmp_path / FILE).read_bytes().splitlines()
    lines[line] = msgspec.json.encode(msgspec.json.decode(lines[line]) | change)
    (tmp_path / FILE).write_bytes(b"\n".join(lines))
    with pytest.raises(ConfigError, match=message):
        read_manifest(tmp_path)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"{}\n\xff\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_manifest(tmp_path)


def test_training_gets_the_clips_that_have_sound_a_label_and_a_person(tmp_path: Path) -> None:
    said = {"person": "carl", "terms": "CC0-1.0"}
    others = [
        Found(take(tmp_path / "t"), "own/t", said, "here"),
        Found(picture(tmp_path / "p.png"), "own/p", said | {"emotion": Emotion.FEAR}, "here"),
        Found(sound(tmp_path / "u.wav", hertz=333), "own/u", said, "here"),
        Found(sound(tmp_path / "n.wav", hertz=444), "own/n", {"terms": "x", "emotion": Emotion.FEAR}, "here"),
    ]
    found = clips(import_all(database(tmp_path, {"anna": "female"}), others))
    assert [clip.name for clip in found] == ["anna0", "anna1", "t"]
    assert (found[0].corpus, found[0].speaker, found[0].emotion, found[0].sex) == (
        "own",
        "anna",
        Emotion.ANGER,
        "female",
    )
    assert found[2].emotion is Emotion.FEAR
    assert found[2].digest == file_digest(tmp_path / "t" / "audio.wav")
    assert len(read_samples(found[2])) == 24_000


def test_a_clip_that_changed_since_it_was_imported_is_refused(tmp_path: Path) -> None:
    manifest = database(tmp_path, PERSONS)
    sound(manifest.file_of(manifest.items[0]), hertz=500)
    with pytest.raises(ConfigError, match="has changed"):
        clips(manifest)
    manifest.file_of(manifest.items[0]).unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        clips(manifest)


def test_a_take_that_lost_its_sound_is_refused(tmp_path: Path) -> None:
    folder = take(tmp_path / "t")
    said = {"person": "carl", "terms": "CC0-1.0"}
    manifest = import_all(Manifest(tmp_path), [Found(folder, "own/t", said, "here")])
    (folder / "audio.wav").unlink()
    with pytest.raises(ConfigError, match="no sound file"):
        clips(manifest)


def test_one_name_for_two_contents_is_refused(tmp_path: Path) -> None:
    manifest = database(tmp_path, PERSONS)
    other = msgspec.structs.replace(manifest.items[0], digest="0" * 64)
    with pytest.raises(ConfigError, match="--name"):
        merged(manifest, [other])
    assert merged(manifest, manifest.items) == manifest


def test_too_many_items_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.dataset.manifest.ITEMS_MAX", 3)
    with pytest.raises(ConfigError, match="more than 3 items"):
        database(tmp_path, PERSONS)


def test_a_text_over_its_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="length"):
        Manifest(tmp_path).with_head(motivation="x" * 3_000)


def test_a_split_with_a_person_in_two_parts_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="two parts"):
        Split(parts={"train": ("anna",), "test": ("anna", "bert")})


def test_an_item_knows_its_corpus() -> None:
    assert Item(name="emodb/x/y", kind="sound", path="x", digest="0" * 64, terms="t").corpus == "emodb"
