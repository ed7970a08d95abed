"""RAVDESS, speech alone (Livingstone & Russo, PLoS ONE 13(5), 2018): English, actors 02 to 20.

A file is named by seven numbers: modality, channel, emotion, intensity, statement, repetition, actor. Only modality 03
(sound alone) is read: `01-…` and `02-…` are the same takes. Calm counts as neutral. Actor 01 is the demo's, and actors
21 to 24 are no training data: a strange voice of this corpus must stay strange. They are left out when they are there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from device.errors import ConfigError
from models.labels import Emotion
from tools.dataset.clips import Clip, file_digest
from tools.dataset.corpora.files import check_count, sound_files

KEY: Final = "ravdess"
NAME: Final = "RAVDESS speech, actors 02 to 20"
TERMS: Final = "CC BY-NC-SA 4.0"
SOURCE: Final = "Livingstone & Russo 2018; https://doi.org/10.5281/zenodo.1188976"
LANGUAGE: Final = "en"
ACTORS: Final = tuple(f"{actor:02d}" for actor in range(2, 21))
CLIPS: Final = 60 * len(ACTORS)
WHERE_TO_GET: Final = (
    "Get RAVDESS (CC BY-NC-SA 4.0) from https://doi.org/10.5281/zenodo.1188976, file Audio_Speech_Actors_01-24.zip, "
    "and unpack it as DATA/ravdess/Actor_02 and so on; for training, convert the 48 kHz files to 16 kHz mono FLAC."
)
EMOTION_OF: Final[dict[str, Emotion]] = {
    "01": Emotion.NEUTRAL,
    "02": Emotion.NEUTRAL,
    "03": Emotion.HAPPINESS,
    "04": Emotion.SADNESS,
    "05": Emotion.ANGER,
    "06": Emotion.FEAR,
    "07": Emotion.DISGUST,
    "08": Emotion.SURPRISE,
}
_NAME: Final = re.compile(r"^03-01-(?P<emotion>0[1-8])-0[12]-(?P<statement>0[12])-0[12]-(?P<actor>\d\d)$")


def load(data: Path, *, complete: bool = True) -> list[Clip]:
    """Clips of actors 02 to 20 by name. Raises ConfigError when the set is absent, not whole, or has a foreign name."""
    place = data / KEY
    files = [
        path
        for path in sound_files(place, "Actor_*/*", WHERE_TO_GET)
        if path.parent.name.removeprefix("Actor_") in ACTORS
    ]
    if complete:
        check_count(place, len(files), CLIPS, WHERE_TO_GET)
    return [_clip(path) for path in files]


def _clip(path: Path) -> Clip:
    match = _NAME.match(path.stem)
    if match is None or path.parent.name != f"Actor_{match['actor']}":
        raise ConfigError(f"{path}: the name is not RAVDESS's for sound alone.", next_step=WHERE_TO_GET)
    return Clip(
        name=path.stem,
        path=path,
        corpus=KEY,
        speaker=f"R{match['actor']}",
        sentence=match["statement"],
        emotion=EMOTION_OF[match["emotion"]],
        sex="male" if int(match["actor"]) % 2 else "female",
        digest=file_digest(path),
    )
