"""Made-up spoken corpora with windows that are easy to tell apart, and a recipe that takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.contract import CHANNELS, CONTOUR_FEATURES, WINDOW_FRAMES
from models.labels import Emotion
from models.networks.speech import SpeechShape
from tools.dataset.clips import Clip
from tools.training.recipes import SpeechRecipe, Steps
from tools.training.speech_windows import Windows
from tools.training.voices import Corpus

SHAPE: Final = SpeechShape(blocks=((8, 5, 16), (8, 3, 2)), members=(("statistics", 16), ("both", 16)))
RECIPE: Final = SpeechRecipe(
    seed=0,
    copies={"emodb": 3, "ravdess": 2},
    sequence=Steps(steps=3, batch={"ravdess": 8}, learning_rate=1e-3, l2=1e-4, weight_average=0.9),
    readout=Steps(
        steps=150,
        batch={"emodb": 12, "ravdess": 8},
        learning_rate=1e-2,
        l2=1e-4,
        weight_average=0.9,
    ),
    shape=SHAPE,
)


def fewer_steps(count: int) -> SpeechRecipe:
    """The recipe with so many steps in both stages."""
    return msgspec.structs.replace(
        RECIPE,
        sequence=msgspec.structs.replace(RECIPE.sequence, steps=count),
        readout=msgspec.structs.replace(RECIPE.readout, steps=count),
    )


def clips_of(speakers: Sequence[str], emotions: Sequence[Emotion], takes: int = 1, corpus: str = "emodb") -> list[Clip]:
    """Clips without sounds, each with a digest of its own."""
    names = [
        (f"{speaker}{emotion}{take}", speaker, emotion)
        for speaker, emotion, take in product(speakers, emotions, range(takes))
    ]
    return [
        Clip(name, Path("nowhere"), corpus, speaker, "a01", emotion, "", f"{place:064x}")
        for place, (name, speaker, emotion) in enumerate(names)
    ]


def windows(labels: Sequence[int], count: int, seed: int = 0) -> Windows:
    """Windows of clips, whose channel k is higher where k is the clip's label; (clips, count, 512, 34)."""
    generator = np.random.default_rng(seed)
    frames = generator.standard_normal((len(labels), count, WINDOW_FRAMES, len(CHANNELS)))
    frames += 2 * generator.standard_normal((len(labels), count, 1, len(CHANNELS))) / 4
    contours = generator.standard_normal((len(labels), count, len(CONTOUR_FEATURES)))
    for row, label in enumerate(labels):
        frames[row, :, :, label] += 3
    return Windows(frames.astype(np.float16), contours.astype(np.float32))


def corpus(key: str, speakers: Sequence[str], emotions: Sequence[Emotion], copies: int, takes: int = 1) -> Corpus:
    """A corpus of which an expression can be told by the level of a channel."""
    clips = clips_of(speakers, emotions, takes, key)
    labels = [clip.label for clip in clips]
    return Corpus(key, clips, windows(labels, 2, seed=1), windows(labels, copies, seed=2))
