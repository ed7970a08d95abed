"""What several studies need, read or made once: corpora, taught speech stages, what the training stages left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.errors import ConfigError
from tools.dataset.corpora import emodb, ravdess
from tools.evaluate.system import Material
from tools.training import ferplus, fusion, fusion_release, speech, speech_release
from tools.training.bundle import FaceRelease
from tools.training.bundle import face_release as read_face
from tools.training.effort import FULL
from tools.training.fusion_release import FusionRelease
from tools.training.recipes import SpeechRecipe, digest_of
from tools.training.speech import Pooled, Pooler, Readout, SequenceNetwork
from tools.training.speech_folds import Fold, Voices, out_of_fold, run_folds
from tools.training.speech_release import SpeechRelease
from tools.training.splits import Split, speaker_folds
from tools.training.stages import recipe_of
from tools.training.voices import Corpus, load_corpora

RESULT: Final = "result.json"
FACE_FIRST: Final = "Train the face branch first: python -m tools.training --data DIR"


@dataclass(frozen=True, eq=False)
class Ears:
    """A sequence network, its pooling, and what was pooled so far."""

    sequence: SequenceNetwork
    pooler: Pooler
    pooled: dict[str, Pooled] = field(default_factory=dict)


class Shelf:
    """`training` and `evaluate` are the build folders of tools.training and tools.evaluate, `own` the studies'."""

    def __init__(self, data: Path, training: Path, evaluate: Path, own: Path, of_each: int | None = None) -> None:
        self.data = data
        self.training = training
        self.windows = evaluate / "windows"
        self.own = own
        self._of_each = of_each
        self._ears: dict[tuple[int, tuple[str, ...]], Ears] = {}

    @cached_property
    def recipe(self) -> SpeechRecipe:
        """The speech branch's, as it ships."""
        return recipe_of(FULL)

    @property
    def recipe_mark(self) -> str:
        """Names the recipe."""
        return digest_of(self.recipe)

    @cached_property
    def corpora(self) -> dict[str, Corpus]:
        """All spoken corpora."""
        return load_corpora(self.data, self.recipe.copies, self.windows, of_each=self._of_each)

    @cached_property
    def material(self) -> Material:
        """EMO-DB as the systems get it."""
        one = self.corpora[emodb.KEY]
        return Material(one.clips, one.clean, one.training, one.labels, np.arange(len(one.clips)))

    def ears(self, seed: int, corpora: Sequence[str] | None = None) -> Ears:
        """The sequence network taught on some corpora, all but EMO-DB by default: then it is that of `ours`."""
        keys = tuple(corpora or self.recipe.sequence.batch)
        if (seed, keys) not in self._ears:
            taught = [self.corpora[key] for key in keys]
            rows = {one.key: np.arange(len(one.clips)) for one in taught}
            sequence = speech.teach_sequence(taught, rows, self.recipe, seed, self.windows)
            self._ears[seed, keys] = Ears(sequence, Pooler(sequence, self.recipe, self.windows))
        return self._ears[seed, keys]

    def pooled(self, ears: Ears, keys: Sequence[str]) -> dict[str, Pooled]:
        """Both kinds of windows of some corpora."""
        for key in keys:
            if key not in ears.pooled:
                ears.pooled[key] = ears.pooler.of_corpus(self.corpora[key])
        return {key: ears.pooled[key] for key in keys}

    def readout(self, seed: int, train: NDArray[np.int64], recipe: SpeechRecipe | None = None) -> Readout:
        """The readout of `ours` taught on these clips of EMO-DB and on all of the other corpora."""
        ears = self.ears(seed)
        parts = self.pooled(ears, list(self.corpora))
        rows = {key: np.arange(len(part.labels)) for key, part in parts.items()} | {emodb.KEY: train}
        return speech.teach_readout(parts, rows, recipe or self.recipe, ears.pooler.widths, seed)

    @cached_property
    def voices(self) -> Voices:
        """All corpora with their streams, as the training stages have them."""
        return speech_release.gather(self.corpora, FULL.stream_every, self.training / "speech")

    @cached_property
    def splits(self) -> list[Split]:
        """The training stages' speaker folds."""
        return speaker_folds(self.voices.clips, FULL.speaker_folds)

    @cached_property
    def folds(self) -> list[Fold]:
        """What the training stages' speaker folds answered; a fold that is missing is trained."""
        return run_folds(self.voices, self.splits, self.recipe, self.training / "speech")

    def strangers(self, key: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Of one corpus's clips: logits (n, 8) by the folds that never heard their speakers, and numbers of the folds
        (n,)."""
        logits = out_of_fold(self.folds, len(self.voices.clips))
        of_clip = np.empty(len(logits), np.int64)
        for number, fold in enumerate(self.folds):
            of_clip[fold.test] = number
        own = np.array([clip.corpus == key for clip in self.voices.clips])
        return logits[own], of_clip[own]

    @cached_property
    def speech(self) -> SpeechRelease:
        """The speech branch that ships."""
        return speech_release.release(self.voices, self.recipe, FULL.speaker_folds, self.training / "speech")

    @property
    def face_folder(self) -> Path:
        """Where the face training left its outcome. Raises ConfigError when it has not finished."""
        folder = self.training / "face"
        if not (folder / RESULT).exists():
            raise ConfigError(f"{folder / RESULT}: not there yet.", next_step=FACE_FIRST)
        return folder

    @cached_property
    def face(self) -> FaceRelease:
        """The face branch that ships."""
        return read_face(self.face_folder)

    @cached_property
    def pictures(self) -> ferplus.FerPlus:
        """FER+."""
        return ferplus.load(self.data)

    @cached_property
    def fusion(self) -> FusionRelease:
        """The fused head that ships, made again by the same call: the float32 network is not in the bundle."""
        recipe = fusion.Recipe(rounds=FULL.fusion_rounds, seed=self.recipe.seed)
        sight = self.face
        return fusion_release.release(
            self.speech, sight.network, sight.constants, self.pictures, recipe, self.own / "head"
        )

    @property
    def taken(self) -> list[str]:
        """Names of RAVDESS's clips in their order."""
        return [clip.name for clip in self.corpora[ravdess.KEY].clips]


def use_threads(threads: int) -> None:
    """TensorFlow's threads, before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
