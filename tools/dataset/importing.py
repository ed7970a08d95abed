"""Recordings into a database: known corpora, a stranger's table, and files by themselves go through the same door.

Files are referenced where they lie, with their digest; with `copy` they are converted into the database's folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, Final

import soundfile
from tqdm import tqdm

from device.capture.recordings import (
    PICTURE_SUFFIXES,
    SOUND_SECONDS_MAX,
    SOUND_SUFFIXES,
    VIDEO_SUFFIXES,
    load_recording,
    read_picture,
    unreadable,
)
from device.errors import ConfigError
from tools.dataset.clips import file_digest
from tools.dataset.conversion import converted
from tools.dataset.corpora import emodb, ferplus, nemo, ravdess
from tools.dataset.manifest import Item, Manifest, checked, merged, path_from, sound_of_take, take_digest
from tools.dataset.tables import Row, rows
from tools.training.ferplus import FILE

SPOKEN: Final[dict[str, ModuleType]] = {module.KEY: module for module in (emodb, ravdess, nemo)}
#: Known corpora, with where they come from.
SOURCES: Final[dict[str, str]] = {module.KEY: module.SOURCE for module in (*SPOKEN.values(), ferplus)}
COPIES: Final = "items"
PICTURES_MAX: Final = 10_000
_SUFFIXES: Final = (*SOUND_SUFFIXES, *PICTURE_SUFFIXES, *VIDEO_SUFFIXES)
_REQUIRED: Final = ("path", "person", "emotion")
_OPTIONAL: Final = ("sentence", "sex", "language", "terms")


@dataclass(frozen=True)
class Found:
    """A recording to import; `said` are the fields of its item that somebody stated, `where` is the place of that."""

    path: Path
    name: str
    said: dict[str, Any]
    where: str


def from_corpus(key: str, data: Path, *, complete: bool = True) -> list[Found]:
    """The clips of a spoken corpus. Raises ConfigError, saying where to get it."""
    corpus = SPOKEN[key]
    facts = {"terms": corpus.TERMS, "language": corpus.LANGUAGE}
    return [
        Found(
            clip.path,
            f"{key}/{clip.name}",
            facts | {"person": clip.speaker, "emotion": clip.emotion, "sentence": clip.sentence, "sex": clip.sex},
            str(clip.path),
        )
        for clip in corpus.load(data, complete=complete)
    ]


def from_table(table: Path, corpus: str, terms: str = "") -> list[Found]:
    """The recordings of a CSV table: columns path, person, emotion and, at will, sentence, sex, language, terms.

    Paths count from the table's folder; an empty emotion is one to be labelled later. Raises ConfigError naming row and
    column.
    """
    found = []
    for row in rows(table, required=_REQUIRED, may_be_empty=("emotion",), optional=_OPTIONAL):
        said: dict[str, Any] = {column: row[column] for column in ("person", *_OPTIONAL)}
        said |= {"emotion": row.emotion(), "terms": row["terms"] or terms}
        if said["sex"] not in ("female", "male", ""):
            raise row.wrong("sex", f'"{said["sex"]}" is neither female nor male nor empty')
        if not said["terms"]:
            raise row.wrong("terms", "is empty", "State on what terms the recording may be used, there or by --terms.")
        found += [_in_table(row, path, corpus, said) for path in _recordings_of(row)]
    return found


def _recordings_of(row: Row) -> list[Path]:
    try:
        return recordings_at(row.table.parent / row["path"])
    except ConfigError as error:
        raise row.wrong("path", error.what.removesuffix("."), error.next_step) from error


def _in_table(row: Row, path: Path, corpus: str, said: dict[str, Any]) -> Found:
    base = row.table.parent.resolve()
    below = path.resolve().relative_to(base) if path.resolve().is_relative_to(base) else Path(path.name)
    below = below if path.is_dir() else below.with_suffix("")
    return Found(path, f"{corpus}/{below.as_posix()}", said, f"{row.table}: row {row.number}")


def from_paths(paths: Iterable[Path], corpus: str, said: dict[str, Any]) -> list[Found]:
    """Recordings by themselves, all with the same facts. Raises ConfigError."""
    if not said.get("terms"):
        raise ConfigError("The terms are missing.", next_step="State on what terms the files may be used: --terms.")
    return [
        Found(each, f"{corpus}/{each.name if each.is_dir() else each.stem}", said, str(each))
        for path in paths
        for each in recordings_at(path)
    ]


def recordings_at(path: Path) -> list[Path]:
    """The file or take, or what a folder holds of takes, sound, video and pictures. Raises ConfigError for none."""
    if (path.is_file() and path.suffix.lower() in _SUFFIXES) or _is_take(path):
        return [path]
    if not path.is_dir():
        why = "is not a kind of file that is known" if path.exists() else "no such file"
        raise ConfigError(f"{path}: {why}.", next_step=f"Give a take folder, or one of {', '.join(_SUFFIXES)}.")
    found = sorted(each for each in path.iterdir() if each.suffix.lower() in _SUFFIXES or _is_take(each))
    if not found:
        raise ConfigError(
            f"{path}: holds no recording.",
            next_step="A take is a folder with audio.wav or audio.flac, frames/, or both.",
        )
    return found


def import_all(manifest: Manifest, found: Sequence[Found], *, copy: bool = False) -> Manifest:
    """The manifest with the recordings as items; what it names already is kept as it is.

    Raises ConfigError for two files of one name, for a fact over its limit, and for a video that is not copied;
    CaptureError for a file that cannot be read.
    """
    _check_names(found)
    there = {item.name for item in manifest.items}
    items = []
    for each in tqdm(found, desc="importing", unit="item", disable=None):
        if copy and each.name in there:
            continue
        _item(manifest, each, each.path, {"kind": "sound", "digest": "0" * 64})  # before a name becomes a path
        path = converted(each.path, manifest.folder / COPIES / each.name) if copy else each.path
        items.append(_item(manifest, each, path, measured(path)))
    return merged(manifest, items)


def _check_names(found: Sequence[Found]) -> None:
    """Raises ConfigError when two recordings have one name, or one lies inside another, as in a take."""
    first: dict[str, Found] = {}
    for each in found:
        if first.setdefault(each.name, each) is not each:
            raise ConfigError(
                f"{each.where}: {each.path} and {first[each.name].path} would both be named {each.name}.",
                next_step="Rename one of the files, or import them one after the other with another --name.",
            )
    for each in found:
        if outer := next((str(above) for above in PurePosixPath(each.name).parents if str(above) in first), None):
            raise ConfigError(f"{each.where}: {each.path} is a part of {outer}.", next_step="Import the whole alone.")


def import_ferplus(manifest: Manifest, data: Path) -> Manifest:
    """The manifest with the pictures of FER+, which are never copied. Raises ConfigError."""
    return merged(manifest, ferplus.load_items(data, path_from(manifest.folder, data / FILE)))


def _item(manifest: Manifest, each: Found, path: Path, facts: dict[str, Any]) -> Item:
    """What somebody stated goes before what the file itself says."""
    fields = facts | {field: value for field, value in each.said.items() if value}
    item: Item = checked(Item(name=each.name, path=path_from(manifest.folder, path), **fields), each.where)
    return item


def measured(path: Path) -> dict[str, Any]:
    """Fields of an item that the recording itself gives: kind, digest, seconds, pictures, and the emotion of a take.

    Raises CaptureError for a file that cannot be read, and ConfigError for a video.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return _measured_take(path)
    if suffix in PICTURE_SUFFIXES:
        read_picture(path)
        return {"kind": "faces", "digest": file_digest(path), "pictures": 1}
    if suffix in VIDEO_SUFFIXES:
        raise ConfigError(f"{path}: a video is not referenced.", next_step="Import it with --copy, which makes a take.")
    try:
        header = soundfile.info(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise unreadable(path, error) from error
    if not 0 < header.duration <= SOUND_SECONDS_MAX:
        raise unreadable(path, f"{header.duration:.0f} s of sound", "Cut it into shorter recordings.")
    return {"kind": "sound", "digest": file_digest(path), "seconds": round(header.duration, 3)}


def _measured_take(folder: Path) -> dict[str, Any]:
    recording = load_recording(folder)
    if len(recording.pictures) > PICTURES_MAX:
        raise unreadable(folder, f"{len(recording.pictures)} pictures", f"Give at most {PICTURES_MAX} a take.")
    kind = "sound and faces" if recording.sound and recording.pictures else "sound" if recording.sound else "faces"
    return {
        "kind": kind,
        "digest": take_digest(folder),
        "seconds": round(recording.seconds, 3),
        "pictures": len(recording.pictures),
        "emotion": recording.emotion,
    }


def _is_take(path: Path) -> bool:
    return path.is_dir() and (sound_of_take(path) is not None or (path / "frames").is_dir())
