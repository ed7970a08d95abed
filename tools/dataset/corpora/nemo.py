"""nEMO (Christop, LREC-COLING 2024): Polish acted sentences, seven of the nine speakers.

`data.tsv` has a row a clip. The other two speakers are no training data: a strange voice of this corpus must stay
strange. They are left out when they are there.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from device.errors import ConfigError
from models.labels import Emotion
from tools.dataset.clips import Clip, file_digest
from tools.dataset.corpora.files import check_count, sound_files

KEY: Final = "nemo"
NAME: Final = "nEMO, seven speakers"
TERMS: Final = "CC BY-NC-SA 4.0"
SOURCE: Final = "Christop 2024; https://github.com/amu-cai/nEMO"
LANGUAGE: Final = "pl"
SPEAKERS: Final = ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "TP0")
CLIPS: Final = 3404
WHERE_TO_GET: Final = (
    "Get nEMO (CC BY-NC-SA 4.0) from https://github.com/amu-cai/nEMO, and keep data.tsv in DATA/nemo and the sound "
    "files in a folder of it; for training, convert them to 16 kHz mono."
)
EMOTION_OF: Final[dict[str, Emotion]] = {
    "anger": Emotion.ANGER,
    "fear": Emotion.FEAR,
    "happiness": Emotion.HAPPINESS,
    "neutral": Emotion.NEUTRAL,
    "sadness": Emotion.SADNESS,
    "surprised": Emotion.SURPRISE,
}
_COLUMNS: Final = {"file_id", "emotion", "normalized_text", "speaker_id", "gender"}


def load(data: Path, *, complete: bool = True) -> list[Clip]:
    """Clips of the seven speakers by name. Raises ConfigError when the set is absent, not whole, or table and files
    disagree."""
    place = data / KEY
    files = {path.stem: path for path in sound_files(place, "*/*", WHERE_TO_GET)}
    clips = []
    for number, row in _rows(place / "data.tsv"):
        if row["speaker_id"] not in SPEAKERS:
            continue
        name = Path(row["file_id"]).stem
        if name not in files or row["emotion"] not in EMOTION_OF or row["gender"] not in ("female", "male"):
            raise ConfigError(
                f"{place / 'data.tsv'}: line {number} ({name}): no such sound file, emotion or gender.",
                next_step=WHERE_TO_GET,
            )
        clips.append(_clip(name, files[name], row))
    if complete:
        check_count(place, len(clips), CLIPS, WHERE_TO_GET)
    return sorted(clips, key=lambda clip: clip.name)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
            rows = list(enumerate(reader, start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).", next_step=WHERE_TO_GET) from error
    if not _COLUMNS.issubset(reader.fieldnames or ()):
        raise ConfigError(f"{path}: a column of {sorted(_COLUMNS)} is missing.", next_step=WHERE_TO_GET)
    return rows


def _clip(name: str, path: Path, row: dict[str, str]) -> Clip:
    return Clip(
        name=name,
        path=path,
        corpus=KEY,
        speaker=row["speaker_id"],
        sentence=row["normalized_text"],
        emotion=EMOTION_OF[row["emotion"]],
        sex=row["gender"],
        digest=file_digest(path),
    )
