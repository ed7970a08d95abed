"""Finding the sound files of a corpus, and refusing a folder that is not the whole set."""

from __future__ import annotations

from pathlib import Path

from device.capture.recordings import SOUND_SUFFIXES
from device.errors import ConfigError


def sound_files(place: Path, pattern: str, where: str) -> list[Path]:
    """Sound files below `place` that match, by name. Raises ConfigError, with `where` to get the set, for none."""
    found = sorted(place.glob(pattern), key=lambda path: path.name)
    files = [path for path in found if path.suffix.lower() in SOUND_SUFFIXES]
    if not files:
        kinds = ", ".join(suffix.removeprefix(".") for suffix in SOUND_SUFFIXES)
        raise ConfigError(f"{place}: there are no {kinds} files.", next_step=where)
    return files


def check_count(place: Path, found: int, expected: int, where: str) -> None:
    """Raises ConfigError when the set is not whole."""
    if found != expected:
        raise ConfigError(f"{place}: {found} clips, the whole set has {expected}.", next_step=where)
