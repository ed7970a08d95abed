"""One spoken recording of any corpus, as training and evaluation use it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from device.errors import ConfigError
from models.contract import SAMPLE_RATE_HZ
from models.labels import Emotion


@dataclass(frozen=True)
class Clip:
    """One recording. `name` is unique within its corpus; `sex` is "female", "male" or "" when unknown; `digest` is the
    SHA-256 of the file's bytes in hexadecimal."""

    name: str
    path: Path
    corpus: str
    speaker: str
    sentence: str
    emotion: Emotion
    sex: str
    digest: str

    @property
    def label(self) -> int:
        """Position of the emotion in the vocabulary."""
        return self.emotion.code


def read_samples(clip: Clip) -> NDArray[np.int16]:
    """The clip's sound, int16, shape (n,). Raises ConfigError when it is not 16 kHz mono."""
    samples, rate = soundfile.read(clip.path, dtype="int16")
    if rate != SAMPLE_RATE_HZ or samples.ndim != 1:
        raise ConfigError(
            f"{clip.path}: {rate} Hz, shape {samples.shape}.",
            next_step="Convert it to 16 kHz mono, or import it with `python -m tools.dataset import`, which converts.",
        )
    return np.asarray(samples, np.int16)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises ConfigError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}).", next_step="Check the file and its permissions."
        ) from error


def set_digest(clips: Sequence[Clip]) -> str:
    """SHA-256, in hexadecimal, of the names and digests of all clips: names a training set in a manifest."""
    lines = "".join(f"{clip.digest}  {clip.name}\n" for clip in sorted(clips, key=lambda clip: clip.name))
    return hashlib.sha256(lines.encode()).hexdigest()
