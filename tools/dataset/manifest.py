"""The manifest of a database: who expresses what in which file, on what terms, and with whose consent.

`manifest.jsonl` lies in the database's folder. Its first line is the head, every other line one item. The file is
readable by its owner alone, as it says things about people.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from device.capture.recordings import SOUND_SUFFIXES
from device.errors import ConfigError
from device.system.storage import read, write_durably
from models.labels import Emotion
from tools.dataset.clips import Clip, file_digest

FILE: Final = "manifest.jsonl"
#: Limits of one database.
ITEMS_MAX: Final = 200_000
BYTES_MAX: Final = 256_000_000
#: Votes of one item by raters who are named.
RATERS_MAX: Final = 100

Text = Annotated[str, msgspec.Meta(max_length=2_000)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
Terms = Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
#: "corpus/name", where the name may have slashes. No part begins with a dot, so it can be a path below a folder.
Name = Annotated[
    str, msgspec.Meta(max_length=300, pattern=r"^[^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*(/[^/.][^/\x00-\x1f\x7f]*)+$")
]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Date = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Sex = Literal["female", "male", ""]
Kind = Literal["sound", "faces", "sound and faces"]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of all parts of the manifest."""


class Consent(Record, frozen=True, kw_only=True):
    """Who agreed to be recorded, on what day, for what use."""

    person: Word
    given_on: Date
    purpose: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]


class Split(Record, frozen=True, kw_only=True):
    """Persons by part. With `folds`, each part is the test side once and all others its training side.

    Raises ValueError when a person stands in two parts.
    """

    parts: dict[Word, tuple[Word, ...]]
    folds: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        persons = [person for part in self.parts.values() for person in part]
        if len(persons) != len(set(persons)):
            raise ValueError("a person of the split stands in two parts")


class Head(Record, frozen=True, kw_only=True):
    """What holds for the whole database. The free texts are printed in the datasheet."""

    format: Literal[1] = 1
    motivation: Text = ""
    collection: Text = ""
    uses: Text = ""
    contact: Text = ""
    sources: dict[Word, Text] = {}
    consents: tuple[Consent, ...] = ()
    splits: dict[Word, Split] = {}


class Item(Record, frozen=True, kw_only=True):
    """One recording: a sound file, a picture, or a take folder with either or both.

    `path` counts from the database's folder. `index` is the picture's place in a packed file, `digest` the SHA-256 of
    the file's bytes, of a packed picture's pixels, or of the digests of a folder's files. `person` is "" when nobody
    knows; one name is one person, in whatever corpus, which can never put a person on both sides of a split. `votes`
    counts raters by what they named; `raters` has them by name. `part` is where the corpus itself puts the item.
    `consent` is a place in `Head.consents`.
    """

    name: Name
    kind: Kind
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
    digest: Digest
    terms: Terms
    person: Annotated[str, msgspec.Meta(max_length=100)] = ""
    emotion: Emotion | None = None
    index: Count | None = None
    votes: dict[Word, Count] = {}
    raters: dict[Word, Emotion] = {}
    sentence: Text = ""
    sex: Sex = ""
    language: Annotated[str, msgspec.Meta(max_length=35)] = ""
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    pictures: Count = 0
    part: Annotated[str, msgspec.Meta(max_length=100)] = ""
    consent: Count | None = None

    @property
    def corpus(self) -> str:
        """The name's first part."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Manifest:
    """A database: its folder, head and items, by name."""

    folder: Path
    head: Head = field(default_factory=Head)
    items: tuple[Item, ...] = ()

    def file_of(self, item: Item) -> Path:
        """Where the item lies."""
        return self.folder / item.path

    def with_items(self, items: Iterable[Item]) -> Manifest:
        """The manifest with these items instead, by name. Raises ConfigError above the limit."""
        ordered = tuple(sorted(items, key=lambda item: item.name))
        if len(ordered) > ITEMS_MAX:
            raise ConfigError(f"{self.folder}: more than {ITEMS_MAX} items.", next_step="Divide it into two databases.")
        return replace(self, items=ordered)

    def with_head(self, **changes: Any) -> Manifest:
        """The manifest with some of its head replaced. Raises ConfigError for a text over its limit."""
        return replace(self, head=checked(msgspec.structs.replace(self.head, **changes), "The manifest's head"))


def read_manifest(folder: Path) -> Manifest:
    """Read `folder`/manifest.jsonl. Raises ConfigError naming the line, or StorageError when there is no such file."""
    path = folder / FILE
    lines = read(path, limit=BYTES_MAX).splitlines() or [b""]
    head = _decoded(path, 1, lines[0], Head)
    items = [_decoded(path, number, line, Item) for number, line in enumerate(lines[1:], start=2)]
    names: set[str] = set()
    for number, item in enumerate(items, start=2):
        if item.name in names or (item.consent is not None and item.consent >= len(head.consents)):
            wrong = "a second item of this name" if item.name in names else "its consent is not in the head"
            raise ConfigError(f"{path}: line {number}: {item.name}: {wrong}.", next_step="Correct or delete the line.")
        names.add(item.name)
    return Manifest(folder, head).with_items(items)


def read_or_new(folder: Path) -> Manifest:
    """The manifest of a folder, or an empty one for a folder without."""
    return read_manifest(folder) if (folder / FILE).exists() else Manifest(folder)


def write_manifest(manifest: Manifest) -> None:
    """Replace the folder's manifest, durably. Raises StorageError."""
    manifest.folder.mkdir(parents=True, exist_ok=True)
    lines = [msgspec.json.encode(record) for record in (manifest.head, *manifest.items)]
    write_durably(manifest.folder / FILE, b"\n".join(lines) + b"\n")


def checked(record: Record, where: str) -> Any:
    """The record, if it keeps the limits of its fields. Raises ConfigError that begins with `where`."""
    try:
        return msgspec.convert(msgspec.to_builtins(record), type(record))
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}.", next_step="Correct that entry.") from error


def path_from(folder: Path, path: Path) -> str:
    """`path` as the manifest writes it: below the database's folder relative to it, else absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (a link stays a link)
    base = Path(os.path.abspath(folder))  # noqa: PTH100
    return str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)


def sound_file(manifest: Manifest, item: Item) -> Path | None:
    """The item's sound file; None for faces alone."""
    path = manifest.file_of(item)
    if item.kind == "faces":
        return None
    return sound_of_take(path) if path.is_dir() else path


def sound_of_take(folder: Path) -> Path | None:
    """audio.wav, audio.flac or audio.ogg of a take folder."""
    return next((path for suffix in SOUND_SUFFIXES if (path := folder / f"audio{suffix}").is_file()), None)


def take_digest(folder: Path) -> str:
    """SHA-256, in hexadecimal, of the names and digests of a take's sound and pictures. Raises ConfigError."""
    files = [path for path in (sound_of_take(folder), *(folder / "frames").glob("[!.]*")) if path is not None]
    lines = (f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def clips(manifest: Manifest, *, wanted: Callable[[Item], bool] = lambda _: True) -> list[Clip]:
    """The items with sound, a label and a known person as clips, by name; what has not all three is left out.

    Raises ConfigError when a sound file is missing or has changed since it was imported.
    """
    found = []
    for item in manifest.items:
        path = sound_file(manifest, item)
        if item.kind == "faces" or item.emotion is None or not item.person or not wanted(item):
            continue
        if path is None:
            raise ConfigError(f"{manifest.file_of(item)}: has no sound file.", next_step="Import the item again.")
        digest = file_digest(path)
        if path == manifest.file_of(item) and digest != item.digest:
            raise ConfigError(
                f"{path}: has changed since it was imported.", next_step="Import it again, or restore it."
            )
        name = item.name.partition("/")[2]
        found.append(Clip(name, path, item.corpus, item.person, item.sentence, item.emotion, item.sex, digest))
    return found


def merged(manifest: Manifest, fresh: Sequence[Item]) -> Manifest:
    """The manifest with new items. One that is there already, unchanged, is kept as it is, with its labels.

    Raises ConfigError when a name stands for another content.
    """
    items = {item.name: item for item in manifest.items}
    for item in fresh:
        if items.setdefault(item.name, item).digest != item.digest:
            files = f"{manifest.file_of(item)} and {manifest.file_of(items[item.name])}"
            raise ConfigError(
                f"{item.name}: {files} differ and have one name.",
                next_step="Rename one of them, or import it under another --name.",
            )
    return manifest.with_items(items.values())


def _decoded(path: Path, number: int, line: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: line {number}: {error}.", next_step="Correct the line, or import the recordings anew."
        ) from error
