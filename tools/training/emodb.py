"""EMO-DB, the Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005): clips, digests, splits.

A file is named `ssTTTEv.wav`: speaker (2 digits), sentence (letter, 2 digits), emotion (letter of the German word),
version. Copies cut to two seconds or resampled are in circulation, so the number of clips is checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from device.errors import ConfigError
from models.contract import SAMPLE_RATE_HZ, SPEECH_CLASSES
from models.labels import Emotion

FOLDER: Final = "emodb"
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
_NAME = re.compile(r"^(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[WLEAFNT])(?P<version>[a-z])$")

#: The speaker split of audEERING's audformat release of EMO-DB (version 1.2.0 and later).
FIXED_TRAIN: Final = ("03", "08", "09", "10", "11", "13")
FIXED_TEST: Final = ("12", "14", "15", "16")


@dataclass(frozen=True)
class Clip:
    """One recording. `digest` is the SHA-256 of the file's bytes in hexadecimal."""

    name: str
    path: Path
    speaker: str
    sentence: str
    emotion: Emotion
    digest: str

    @property
    def label(self) -> int:
        """Position of the emotion in SPEECH_CLASSES."""
        return SPEECH_CLASSES.index(self.emotion)


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the training and of the test clips."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def load_clips(folder: Path, *, expected: int | None = CLIPS) -> list[Clip]:
    """All clips of `folder`/emodb/wav by name. Raises ConfigError when the set is absent or not the original one."""
    place = folder / FOLDER / "wav"
    wavs = sorted(place.glob("*.wav"))
    if not wavs:
        raise ConfigError(f"{place}: there are no wav files.", next_step=WHERE_TO_GET)
    if expected is not None and len(wavs) != expected:
        raise ConfigError(
            f"{place}: {len(wavs)} wav files, the original set has {expected}.",
            next_step=WHERE_TO_GET,
        )
    return [_clip(path) for path in wavs]


def _clip(path: Path) -> Clip:
    match = _NAME.match(path.stem)
    if match is None:
        raise ConfigError(f"{path}: the name is not of the form ssTTTEv.wav.", next_step=WHERE_TO_GET)
    return Clip(
        name=path.stem,
        path=path,
        speaker=match["speaker"],
        sentence=match["sentence"],
        emotion=EMOTION_OF[match["emotion"]],
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def read_samples(clip: Clip) -> NDArray[np.int16]:
    """The clip's sound, int16, shape (n,). Raises ConfigError when it is not 16 kHz mono."""
    samples, rate = soundfile.read(clip.path, dtype="int16")
    if rate != SAMPLE_RATE_HZ or samples.ndim != 1:
        raise ConfigError(f"{clip.path}: {rate} Hz, shape {samples.shape}.", next_step=WHERE_TO_GET)
    return np.asarray(samples, np.int16)


def set_digest(clips: Sequence[Clip]) -> str:
    """SHA-256, in hexadecimal, of the names and digests of all clips: names the training data in the manifest."""
    lines = "".join(f"{clip.digest}  {clip.name}\n" for clip in sorted(clips, key=lambda clip: clip.name))
    return hashlib.sha256(lines.encode()).hexdigest()


def speaker_split(clips: Sequence[Clip], test_speakers: Sequence[str], name: str) -> Split:
    """The named speakers are the test side, all others the training side."""
    is_test = np.array([clip.speaker in test_speakers for clip in clips])
    return Split(name, np.flatnonzero(~is_test), np.flatnonzero(is_test))


def leave_one_speaker_out(clips: Sequence[Clip]) -> list[Split]:
    """One split a speaker."""
    return [speaker_split(clips, [speaker], speaker) for speaker in sorted({clip.speaker for clip in clips})]


def fixed_split(clips: Sequence[Clip]) -> Split:
    """audEERING's: speakers 03 08 09 10 11 13 against 12 14 15 16."""
    return speaker_split(clips, FIXED_TEST, "fixed")


def random_folds(clips: Sequence[Clip], *, folds: int = 5, seed: int = 0) -> list[Split]:
    """Stratified random folds: speakers are on both sides, so the figure is not one for strangers."""
    generator = np.random.default_rng(seed)
    fold_of = np.empty(len(clips), np.int64)
    labels = np.array([clip.label for clip in clips])
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        fold_of[members] = np.arange(len(members)) % folds
    return [Split(f"random-{k}", np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(folds)]


def shared_speakers(clips: Sequence[Clip], split: Split) -> set[str]:
    """Speakers that stand on both sides of a split; empty for a speaker-independent one."""
    return {clips[i].speaker for i in split.train} & {clips[i].speaker for i in split.test}
