"""A small database of made-up recordings, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from models.labels import Emotion
from tests.fakes.capture import tone
from tools.dataset.importing import Found, import_all
from tools.dataset.manifest import Manifest


def sound(path: Path, *, seconds: float = 1.0, hertz: float = 140.0, rate: int = 16_000, channels: int = 1) -> Path:
    """A sound file with a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = tone(seconds, hertz=hertz, rate=rate)
    soundfile.write(path, np.stack([samples] * channels, axis=1) if channels > 1 else samples, rate)
    return path


def picture(path: Path, seed: int = 0) -> Path:
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 48), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def take(folder: Path, *, frames: int = 3, rate: int = 16_000, seed: int = 0, emotion: str = "fear") -> Path:
    """A take of a second and a half, with two pictures a second."""
    sound(folder / "audio.wav", seconds=1.5, rate=rate)
    for number in range(frames):
        picture(folder / "frames" / f"{number}.png", seed + number)
    (folder / "take.toml").write_text(f'emotion = "{emotion}"\nframes_per_second = 2.0\n')
    return folder


def table(path: Path, *lines: str) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def database(folder: Path, persons: dict[str, str], *, each: int = 2) -> Manifest:
    """A database with `each` clips of every person, given with their sex; every clip sounds differently."""
    found = [
        Found(
            sound(folder / "sounds" / f"{person}{k}.wav", hertz=100.0 + 10.0 * k + 31.0 * place),
            f"own/{person}{k}",
            {"person": person, "sex": sex, "emotion": list(Emotion)[k], "terms": "CC0-1.0"},
            "made up",
        )
        for place, (person, sex) in enumerate(persons.items())
        for k in range(each)
    ]
    return import_all(Manifest(folder), found)
