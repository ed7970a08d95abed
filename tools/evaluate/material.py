"""What all systems learn from and answer: EMO-DB's windows, and what single protocols make of them beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from tools.dataset.clips import Clip
from tools.dataset.corpora import emodb
from tools.evaluate.system import Material
from tools.training.speech_windows import Windows, clean_windows, training_windows

#: Training windows of a clip: one clean, the others augmented.
COPIES: Final = 12
#: Augmented copies of a clip that the leaky protocol makes before it splits.
LEAKY_COPIES: Final = 2
_LIMIT: Final = 30.0
_CONSTANT: Final = 1e-6

Value = TypeVar("Value", np.float16, np.float32)


def material(data: Path, cache: Path, *, of_each: int | None = None, copies: int = COPIES) -> Material:
    """EMO-DB of `data`, windows kept in `cache`; with `of_each`, that many clips of each speaker and emotion."""
    found = emodb.load(data)
    clips = [clip for i, clip in enumerate(found) if of_each is None or _rank(found, i) < of_each]
    spoken: Any = clips  # windows need a clip's name, path and digest, whatever else it is
    return Material(
        clips=clips,
        clean=clean_windows(spoken, cache),
        training=training_windows(spoken, cache, copies),
        labels=np.array([clip.label for clip in clips], np.int64),
        parents=np.arange(len(clips)),
    )


def _rank(clips: Sequence[Clip], i: int) -> int:
    """How many earlier clips have this clip's speaker and emotion."""
    same = (clips[i].speaker, clips[i].emotion)
    return sum((clip.speaker, clip.emotion) == same for clip in clips[:i])


def unchanged(given: Material, seed: int) -> Material:
    """The items are the clips."""
    return given


def with_copies(given: Material, seed: int) -> Material:
    """The leaky protocol's items: every clip, and each of two augmented copies as an item of its own.

    Item 0 of a clip is tested on the clip's clean windows, item j on the clip's augmented window j. The clip's training
    windows are dealt out to its items in turn, so that an item's first one is the item itself.
    """
    items = 1 + LEAKY_COPIES
    if given.training.frames.shape[1] < items:
        raise ValueError(f"the leaky protocol needs {items} training windows of every clip")
    return Material(
        clips=[
            replace(clip, name=f"{clip.name}#{j}" if j else clip.name) for j in range(items) for clip in given.clips
        ],
        clean=Windows(
            _clean_items(given.clean.frames, given.training.frames),
            _clean_items(given.clean.contours, given.training.contours),
        ),
        training=Windows(_dealt(given.training.frames), _dealt(given.training.contours)),
        labels=np.tile(given.labels, items),
        parents=np.tile(given.parents, items),
    )


def _clean_items(clean: NDArray[Value], training: NDArray[Value]) -> NDArray[Value]:
    parts: list[NDArray[Value]] = [clean]
    for j in range(1, 1 + LEAKY_COPIES):
        parts.append(np.repeat(training[:, j : j + 1], clean.shape[1], axis=1))
    return np.concatenate(parts)


def _dealt(training: NDArray[Value]) -> NDArray[Value]:
    items = 1 + LEAKY_COPIES
    each = training.shape[1] // items
    return np.concatenate([training[:, j::items][:, :each] for j in range(items)])


def enrolled(given: Material, seed: int) -> Material:
    """Every speaker's windows less the mean and over the deviation of that speaker's own clean windows, by channel.

    The test speaker's clips are used too, without their labels: transductive, and declared so.
    """
    clean = Windows(given.clean.frames.copy(), given.clean.contours.copy())
    training = Windows(given.training.frames.copy(), given.training.contours.copy())
    speakers = np.array([clip.speaker for clip in given.clips])
    for speaker in np.unique(speakers):
        rows = speakers == speaker
        for own, others in ((clean.frames, training.frames), (clean.contours, training.contours)):
            values = own[rows].astype(np.float32).reshape(-1, own.shape[-1])
            mean, scale = values.mean(axis=0), values.std(axis=0)
            scale[scale < _CONSTANT] = 1.0
            for array in (own, others):
                array[rows] = np.clip((array[rows].astype(np.float32) - mean) / scale, -_LIMIT, _LIMIT)
    return replace(given, clean=clean, training=training)


def shuffled_labels(given: Material, seed: int) -> Material:
    """The same items with labels that belong to others: whatever is learned of them is worth nothing."""
    return replace(given, labels=np.random.default_rng(seed).permutation(given.labels))
