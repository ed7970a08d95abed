"""Copies of recordings in the form that the box takes.

Sound becomes 16 kHz mono FLAC, by a polyphase filter (`scipy.signal.resample_poly`, Kaiser window); sound that is that
already keeps every sample. A video becomes a take with two grey pictures a second, as the camera gives them. Pictures
are copied as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from math import gcd
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import resample_poly

from device.capture.recordings import (
    PICTURE_SUFFIXES,
    SOUND_SECONDS_MAX,
    VIDEO_SUFFIXES,
    Picture,
    load_recording,
    unreadable,
)
from models.contract import SAMPLE_RATE_HZ
from tools.dataset.manifest import sound_of_take

FRAMES_PER_SECOND: Final = 2
_FULL_SCALE: Final = 32_768


def converted(path: Path, target: Path) -> Path:
    """Write a copy of a sound file, picture, video or take to `target`, to which a file's suffix is added.

    Returns where it is. Raises CaptureError when the recording cannot be read.
    """
    suffix = path.suffix.lower()
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        return _converted_take(path, target)
    if suffix in VIDEO_SUFFIXES:
        recording = load_recording(path, frames_per_second=FRAMES_PER_SECOND)
        return write_take(target, None if recording.sound is None else recording.sound.samples, recording.pictures)
    target = target.with_name(target.name + (suffix if suffix in PICTURE_SUFFIXES else ".flac"))
    if suffix in PICTURE_SUFFIXES:
        shutil.copyfile(path, target)
    else:
        _write_sound(target, read_converted(path))
    return target


def write_take(
    folder: Path,
    samples: NDArray[np.int16] | None,
    pictures: Sequence[Picture],
    frames_per_second: float = FRAMES_PER_SECOND,
) -> Path:
    """Write a take folder of 16 kHz sound and of pictures at an even rate; returns the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if samples is not None:
        _write_sound(folder / "audio.flac", samples)
    if pictures:
        (folder / "frames").mkdir()
        (folder / "take.toml").write_text(f"frames_per_second = {float(frames_per_second)}\n")
    for number, picture in enumerate(pictures):
        Image.fromarray(picture.pixels()).save(folder / "frames" / f"{number:05d}.png")
    return folder


def read_converted(path: Path) -> NDArray[np.int16]:
    """A sound file of any rate and number of channels as 16 kHz mono, int16 (n,). Raises CaptureError naming it."""
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames > SOUND_SECONDS_MAX * file.samplerate:
                raise unreadable(path, f"longer than {SOUND_SECONDS_MAX} s", "Cut it into shorter recordings.")
            rate, read = int(file.samplerate), file.read(dtype="float64", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise unreadable(path, error) from error
    mono = read.mean(axis=1)
    if not len(mono) or not np.isfinite(mono).all():
        raise unreadable(path, "no samples, or some that are not numbers")
    shared = gcd(rate, SAMPLE_RATE_HZ)
    if rate != SAMPLE_RATE_HZ:
        mono = resample_poly(mono, SAMPLE_RATE_HZ // shared, rate // shared)
    return np.asarray(np.clip(np.rint(mono * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1), np.int16)


def _converted_take(path: Path, target: Path) -> Path:
    sound = sound_of_take(path)
    write_take(target, None if sound is None else read_converted(sound), ())
    if (path / "frames").is_dir():
        shutil.copytree(path / "frames", target / "frames", ignore=shutil.ignore_patterns(".*"))
    if (path / "take.toml").is_file():
        shutil.copyfile(path / "take.toml", target / "take.toml")
    return target


def _write_sound(path: Path, samples: NDArray[np.int16]) -> None:
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")
