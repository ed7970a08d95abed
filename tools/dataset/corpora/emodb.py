"""EMO-DB, the Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005).

A file is named `ssTTTEv.wav`: speaker (2 digits), sentence (letter, 2 digits), emotion (letter of the German word),
version. Copies cut to two seconds or resampled are in circulation, so the number of clips is checked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from device.errors import ConfigError
from models.labels import Emotion
from tools.dataset.clips import Clip, file_digest
from tools.dataset.corpora.files import check_count, sound_files

KEY: Final = "emodb"
NAME: Final = "EMO-DB (Berlin Database of Emotional Speech)"
TERMS: Final = "CC0-1.0"
SOURCE: Final = "Burkhardt et al. 2005; https://doi.org/10.5281/zenodo.7447302"
LANGUAGE: Final = "de"
CLIPS: Final = 535
WHERE_TO_GET: Final = (
    "Get EMO-DB (CC0-1.0) from http://emodb.bilderbar.info or https://doi.org/10.5281/zenodo.7447302, "
    "as 535 wav files of 16 kHz in DATA/emodb/wav."
)
EMOTION_OF: Final[dict[str, Emotion]] = {
    "W": Emotion.ANGER,
    "L": Emotion.BOREDOM,
    "E": Emotion.DISGUST,
    "A": Emotion.FEAR,
    "F": Emotion.HAPPINESS,
    "N": Emotion.NEUTRAL,
    "T": Emotion.SADNESS,
}
MEN: Final = ("03", "10", "11", "12", "15")
WOMEN: Final = ("08", "09", "13", "14", "16")
_NAME: Final = re.compile(r"^(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[WLEAFNT])(?P<version>[a-z])$")


def load(data: Path, *, complete: bool = True) -> list[Clip]:
    """All clips of `data`/emodb/wav by name. Raises ConfigError when the set is absent or not the original one."""
    place = data / KEY / "wav"
    files = sound_files(place, "*.wav", WHERE_TO_GET)
    if complete:
        check_count(place, len(files), CLIPS, WHERE_TO_GET)
    return [_clip(path) for path in files]


def _clip(path: Path) -> Clip:
    match = _NAME.match(path.stem)
    if match is None or match["speaker"] not in MEN + WOMEN:
        raise ConfigError(f"{path}: the name is not of the form ssTTTEv.wav.", next_step=WHERE_TO_GET)
    return Clip(
        name=path.stem,
        path=path,
        corpus=KEY,
        speaker=match["speaker"],
        sentence=match["sentence"],
        emotion=EMOTION_OF[match["emotion"]],
        sex="male" if match["speaker"] in MEN else "female",
        digest=file_digest(path),
    )
