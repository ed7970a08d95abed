"""The spoken corpora that training uses, as clips and windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.dataset.clips import Clip
from tools.dataset.corpora import emodb, nemo, ravdess
from tools.training.speech_windows import Windows, clean_windows, training_windows

LOADERS: Final[dict[str, Callable[..., list[Clip]]]] = {
    emodb.KEY: emodb.load,
    ravdess.KEY: ravdess.load,
    nemo.KEY: nemo.load,
}


@dataclass(frozen=True, eq=False)
class Corpus:
    """Clips with their windows; row i of all three belongs together."""

    key: str
    clips: Sequence[Clip]
    clean: Windows
    training: Windows

    @property
    def labels(self) -> NDArray[np.int64]:
        """Positions in SPEECH_CLASSES, (clips,)."""
        return np.array([clip.label for clip in self.clips], np.int64)

    @property
    def speakers(self) -> NDArray[np.str_]:
        """(clips,)."""
        return np.array([clip.speaker for clip in self.clips])


def load_corpora(
    data: Path, copies: Mapping[str, int], cache: Path, *, of_each: int | None = None
) -> dict[str, Corpus]:
    """The corpora named in `copies`, with that many training windows a clip; `of_each`: so many clips of each speaker
    and emotion, for a trial. Raises ConfigError, before anything is computed, when a corpus is missing or not whole."""
    clips = {key: some(LOADERS[key](data, complete=of_each is None), of_each) for key in copies}
    return {
        key: Corpus(key, found, clean_windows(found, cache), training_windows(found, cache, copies[key]))
        for key, found in clips.items()
    }


def some(clips: Sequence[Clip], of_each: int | None) -> list[Clip]:
    """At most so many clips of every speaker and emotion."""
    counts: dict[tuple[str, int], int] = {}
    chosen = []
    for clip in clips:
        key = (clip.speaker, clip.label)
        counts[key] = counts.get(key, 0) + 1
        if of_each is None or counts[key] <= of_each:
            chosen.append(clip)
    return chosen
