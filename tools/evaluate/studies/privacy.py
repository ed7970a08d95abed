"""What a box's answers say about who speaks, and how strange other sounds are to the autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from device.features.nonlinear import contour_features
from device.features.stream import frames_of
from device.features.window import repeat_padded
from device.inference.speech_branch import log_softmax
from models.contract import SAMPLE_RATE_HZ
from models.networks import autoencoder
from tools.dataset.corpora import emodb, nemo, ravdess
from tools.evaluate.studies.findings import Finding, percent
from tools.evaluate.studies.pieces import Made, Piece, Study
from tools.evaluate.studies.shelf import Shelf
from tools.evaluate.systems import codes
from tools.evaluate.systems.codes import ood_scores
from tools.training import scores, speech
from tools.training.augment import coloured_noise
from tools.training.speech_windows import Windows
from tools.training.splits import leave_one_speaker_out

PROBE_FOLDS: Final = 5
PAPER: Final = "paper: leakage at most 15 %, of messages on its line; docs/evaluation/line.json has ours"
STRANGE_FOLDS: Final = 3
NOISES: Final = 150
NOISE_S: Final = 6
NOISE_LEVEL: Final = 1000.0


def probe(
    features: NDArray[np.float32], speakers: NDArray[np.str_], sentences: NDArray[np.str_], folds: int = PROBE_FOLDS
) -> NDArray[np.str_]:
    """Speakers (n,) that a linear probe names; clips of a sentence are never on both sides."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return np.asarray(cross_val_predict(model, features.astype(np.float64), speakers, groups=sentences, cv=split))


def speaker_findings(
    features: dict[str, NDArray[np.float32]], speakers: NDArray[np.str_], sentences: NDArray[np.str_]
) -> list[Finding]:
    """Share of clips whose speaker a probe names, from each kind of features."""
    known, numbers = np.unique(speakers, return_inverse=True)
    chance = np.bincount(numbers).max() / len(speakers)
    found = []
    for what, values in features.items():
        named = np.searchsorted(known, probe(values, speakers, sentences)).astype(np.int64)
        figure = scores.accuracy(named, numbers.astype(np.int64))
        beside = f"most frequent speaker {100 * chance:.1f} %; {PAPER}"
        note = f"Linear probe, {len(known)} speakers of EMO-DB, other sentences; the shipped network has heard them."
        found.append(percent("leakage", f"speaker named from {what}", figure, len(speakers), beside=beside, note=note))
    return found


def leakage(given: Shelf) -> Study:
    """What leaves the box, beside what stays inside."""

    def make() -> Made:
        voice, corpus = given.speech, given.corpora[emodb.KEY]
        first = Windows(corpus.clean.frames[:, :1], corpus.clean.contours[:, :1])
        inputs = list(speech.normalised(first, voice.constants))
        embeddings, logits = voice.network.predict(inputs, batch_size=64, verbose=0)
        spread = np.exp(log_softmax(logits, voice.constants.temperature))
        features = {
            "the label alone, which leaves the box": np.eye(spread.shape[1], dtype=np.float32)[spread.argmax(axis=1)],
            "all probabilities, of which the largest leaves the box": spread,
            "the embedding, which stays in the box": embeddings,
        }
        sentences = np.array([clip.sentence for clip in corpus.clips])
        return Made(findings=speaker_findings(features, corpus.speakers, sentences))

    return Study("leakage", [Piece("probes", make, 3.0)], (__file__, speech.__file__), given.recipe_mark)


def noise_windows(count: int, seed: int) -> Windows:
    """White, pink and brown noise in turn, as test windows (count, 1, 512, 34)."""
    generator = np.random.default_rng(seed)
    frames, contours = [], []
    for number in range(count):
        level = NOISE_LEVEL * float(10 ** generator.uniform(-0.5, 0.5))
        samples = level * coloured_noise(NOISE_S * SAMPLE_RATE_HZ, number % 3, generator)
        window = repeat_padded(frames_of(np.clip(np.rint(samples), -32768, 32767).astype(np.int16), SAMPLE_RATE_HZ))
        frames.append(window[np.newaxis])
        contours.append(contour_features(window)[np.newaxis])
    return Windows(np.array(frames, np.float16), np.array(contours, np.float32))


def strangeness(given: Shelf, seeds: Sequence[int]) -> Study:
    """The adversarial autoencoder as a judge of what is unlike its training clips, over three LOSO folds."""

    def make(outside: Callable[[], Windows], what: str, seed: int) -> Made:
        splits = leave_one_speaker_out(given.material.clips)[:STRANGE_FOLDS]
        windows = outside()
        judged = [ood_scores(given.material, split, seed, windows) for split in splits]
        areas = np.array([one.areas for one in judged])
        n = len(windows.frames) + sum(len(split.test) for split in splits)
        return Made(findings=area_findings(areas, what, n, [split.name for split in splits], seed))

    others: dict[str, Callable[[], Windows]] = {
        "RAVDESS": lambda: given.corpora[ravdess.KEY].clean,
        "nEMO": lambda: given.corpora[nemo.KEY].clean,
        "noise": lambda: noise_windows(NOISES, 0),
    }
    pieces = [
        Piece(f"{what} {seed}", partial(make, outside, what, seed), 0.5)
        for seed in seeds
        for what, outside in others.items()
    ]
    return Study("strangeness", pieces, (__file__, codes.__file__, autoencoder.__file__))


def area_findings(areas: NDArray[np.float64], what: str, n: int, folds: Sequence[str], seed: int) -> list[Finding]:
    """Mean over folds of areas (folds, 3), lowest and highest fold as ends."""
    kinds = ("reconstruction", "discriminator", "both together")
    return [
        Finding(
            study="strangeness",
            what=f"{what} told from EMO-DB's strange speakers, by {kind}",
            value=round(float(column.mean()), 4),
            low=round(float(column.min()), 4),
            high=round(float(column.max()), 4),
            unit="",
            n=n,
            beside="area under the ROC curve, 0.5 is chance",
            note=f"Adversarial autoencoder of the training speakers; LOSO folds {', '.join(folds)}, "
            f"lowest and highest fold; seed {seed}. Corpora differ in microphone and room too, which is easy to tell.",
        )
        for kind, column in zip(kinds, areas.T, strict=True)
    ]
