"""Ours: the speech branch that ships, by the recipe that makes the bundle, and what it is worth without its parts.

RAVDESS and nEMO teach on every fold's training side; they hold no clip and no speaker of EMO-DB. `ours_int8` answers by
the int8 file in the runtime of the box; the variants, which are compared with each other and with `ours`, in float32.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.speech_branch import log_softmax
from models.contract import SPEECH
from models.networks import speech as network_of
from tools.dataset.corpora import emodb
from tools.evaluate.system import CLASSES, Material, Outcome
from tools.training import speech
from tools.training.recipes import SpeechRecipe, digest_of, read
from tools.training.speech import Pooled, Pooler, Readout, SequenceNetwork
from tools.training.speech_windows import Windows
from tools.training.splits import Split
from tools.training.voices import Corpus, load_corpora

#: Windows that tell the converter the ranges, in a fold.
REPRESENTATIVE: Final = 120


@dataclass(frozen=True)
class Variant:
    """What a variant leaves out or adds."""

    int8: bool = False
    other_corpora: bool = True
    augmented: bool = True
    distilled: bool = False
    attention: bool = True
    nonlinear: bool = True
    sequence: bool = True


VARIANTS: Final[dict[str, Variant]] = {
    "ours": Variant(),
    "ours_int8": Variant(int8=True),
    "ours_without_nonlinear": Variant(nonlinear=False),
    "ours_without_attention": Variant(attention=False),
    "ours_without_sequence": Variant(sequence=False),
    "ours_without_augmentation": Variant(augmented=False),
    "ours_without_other_corpora": Variant(other_corpora=False),
    "ours_distilled": Variant(distilled=True),
}
TEACHERS: Final = 3


class Ours:
    """The released recipe as a system. `prepare` must be called before `run`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._variant = VARIANTS[name]
        recipe = read("speech", SpeechRecipe)
        members = recipe.shape.members
        if not self._variant.sequence:
            members = tuple(("statistics", width) for _, width in members)
        shape = replace(
            recipe.shape, members=members, attention=self._variant.attention, nonlinear=self._variant.nonlinear
        )
        self._recipe = msgspec.structs.replace(recipe, shape=shape)
        self.digest = digest_of([self._recipe, name], speech.__file__, network_of.__file__, __file__)
        self._others: dict[str, Corpus] = {}
        self._folder = Path()
        self._latest: tuple[int, Material, _Known] | None = None

    def prepare(self, data: Path, build: Path, of_each: int | None = None) -> None:
        """Read the other corpora, which lie beside EMO-DB in `data`; keep what is computed in `build`."""
        self._folder = build
        copies = {key: count for key, count in self._recipe.copies.items() if key != emodb.KEY}
        self._others = load_corpora(data, copies, build, of_each=of_each)

    def run(self, material: Material, split: Split, seed: int) -> Outcome:
        """Learn from `split.train` and the other corpora, answer `split.test`."""
        known = self._of(material, seed)
        started = time.perf_counter()
        readout = self._taught(known, split, seed, material.standardised)
        trained = time.perf_counter()
        if self._variant.int8:
            logits = self._by_int8(known, readout, material, split, seed)
        else:
            logits = readout.log_scores(known.parts[emodb.KEY].clean[split.test])
        tf.keras.backend.clear_session()
        return Outcome(
            log_probabilities=log_softmax(logits[:, : len(CLASSES)]),
            training_s=trained - started,
            test_s=time.perf_counter() - trained,
        )

    def _of(self, material: Material, seed: int) -> _Known:
        """The sequence network of a seed and the pooled numbers of everything; the latest ones are kept."""
        if self._latest is not None and self._latest[0] == seed and self._latest[1] is material:
            return self._latest[2]
        rows = {key: np.arange(len(one.clips)) for key, one in self._others.items()}
        sequence = speech.teach_sequence(list(self._others.values()), rows, self._recipe, seed, self._folder)
        pooler = Pooler(sequence, self._recipe, self._folder)
        parts = {key: pooler.of_corpus(one) for key, one in self._others.items()}
        parts[emodb.KEY] = self._pooled(pooler, sequence, material)
        self._latest = (seed, material, _Known(sequence, pooler, parts))
        return self._latest[2]

    def _pooled(self, pooler: Pooler, sequence: SequenceNetwork, material: Material) -> Pooled:
        windows = [material.clean, material.training]
        if material.standardised:
            windows = [_unscaled(one, sequence) for one in windows]
        marks = "".join(hashlib.sha256(one.frames.tobytes()).hexdigest() for one in windows)
        file = self._folder / f"pooled-{digest_of([marks, sequence.digest, self._recipe.shape])}.npz"
        if not file.exists():
            clean, training = (pooler.of(one) for one in windows)
            unfinished = file.with_name(f"unfinished-{file.name}")
            np.savez(unfinished, clean=clean, training=training)
            unfinished.rename(file)
        with np.load(file) as stored:
            return Pooled(stored["clean"], stored["training"], material.labels)

    def _taught(self, known: _Known, split: Split, seed: int, standardised: bool) -> Readout:
        """`standardised`: EMO-DB's windows are in deviations of each speaker, the other corpora's are not."""
        parts = dict(known.parts)
        if standardised or not self._variant.other_corpora:
            parts = {emodb.KEY: parts[emodb.KEY]}
        if not self._variant.augmented:
            parts = {key: Pooled(p.clean, p.training[:, :1], p.labels) for key, p in parts.items()}
        rows = {key: np.arange(len(part.labels)) for key, part in parts.items()} | {emodb.KEY: split.train}
        if not self._variant.distilled:
            return speech.teach_readout(parts, rows, self._recipe, known.pooler.widths, seed)
        teachers = [
            speech.teach_readout(parts, rows, self._recipe, known.pooler.widths, 1000 + 10 * seed + k)
            for k in range(TEACHERS)
        ]
        opinions = {key: _opinions(teachers, part.training[rows[key]]) for key, part in parts.items()}
        return speech.teach_readout(parts, rows, self._recipe, known.pooler.widths, seed, opinions)

    def _by_int8(
        self, known: _Known, readout: Readout, material: Material, split: Split, seed: int
    ) -> NDArray[np.float32]:
        network = speech.assembled(known.sequence, readout, self._recipe)
        clean, training = material.clean, material.training
        if material.standardised:
            clean, training = _unscaled(clean, known.sequence), _unscaled(training, known.sequence)
        taught = [Windows(training.frames[split.train], training.contours[split.train])]
        if not material.standardised:
            taught += [one.training for one in self._others.values()]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / SPEECH.file
            file.write_bytes(speech.to_int8(network, taught, known.sequence.constants, seed, REPRESENTATIVE))
            tested = Windows(clean.frames[split.test], clean.contours[split.test])
            return speech.predict_int8(file, tested, known.sequence.constants)


@dataclass(frozen=True, eq=False)
class _Known:
    sequence: SequenceNetwork
    pooler: Pooler
    parts: Mapping[str, Pooled]


def _unscaled(windows: Windows, sequence: SequenceNetwork) -> Windows:
    """Windows in deviations, such that the network's own normalisation gives those deviations again."""
    constants = sequence.constants
    frames = windows.frames * np.array(constants.channel_scale) + np.array(constants.channel_mean)
    contours = windows.contours * np.array(constants.contour_scale) + np.array(constants.contour_mean)
    return Windows(frames.astype(np.float16), contours.astype(np.float32))


def _opinions(teachers: list[Readout], pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean probabilities (clips, windows, 8) of several readouts."""
    answers = [np.exp(log_softmax(teacher.log_scores(pooled.reshape(-1, 1, pooled.shape[-1])))) for teacher in teachers]
    return np.asarray(np.mean(answers, axis=0).reshape(*pooled.shape[:2], -1), np.float32)


def system(name: str) -> Ours:
    """One of VARIANTS."""
    return Ours(name)
