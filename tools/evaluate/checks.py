"""Checks of a system: it answers from the last epoch, is blind to the test side, and learns nothing of nonsense."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.evaluate.material import shuffled_labels
from tools.evaluate.splits import SplitError, leave_one_speaker_out
from tools.evaluate.system import Material, Outcome, System
from tools.training import scores
from tools.training.speech_windows import Windows
from tools.training.splits import Split

#: Log-probabilities of one item may differ by this much between two trainings on the same rows.
TOLERANCE: Final = 1e-3
_HUGE: Final = 3e4


def check_outcome(outcome: Outcome, labels: NDArray[np.int64], classes: int) -> None:
    """Raise SplitError when answers are no log-probabilities (n, classes), or not those of the last epoch.

    Epochs are recorded by an observer. The score of record is the last one's: an answer that is as good as an earlier
    epoch and not as good as the last was chosen on the test side.
    """
    answers = outcome.log_probabilities
    if answers.shape != (len(labels), classes) or not np.isfinite(answers).all():
        raise SplitError(
            f"answers of shape {answers.shape} for {len(labels)} items and {classes} classes, or not finite"
        )
    if not np.allclose(np.exp(answers.astype(np.float64)).sum(axis=1), 1.0, atol=1e-3):
        raise SplitError("answers are not natural log-probabilities")
    if not outcome.epochs:
        return
    right = float((answers.argmax(axis=1) == labels).sum())
    last = outcome.epochs[-1].test_accuracy * len(labels)
    if abs(right - last) > 0.5:
        raise SplitError(f"{right:.0f} right answers of record, but {last:.0f} after the last epoch")


def assert_blind_to_test(system: System, given: Material, split: Split, seed: int = 0) -> None:
    """Raise SplitError when the answer for one test item depends on anything but its own clean windows.

    Trains twice. The second time every other test item's windows are huge noise, all test items' training windows too
    (the one's among them), and all test labels are wrong.
    """
    one, others = split.test[0], split.test[1:]
    generator = np.random.default_rng(seed)
    labels = given.labels.copy()
    labels[split.test] = (labels[split.test] + 1 + generator.integers(5)) % 7
    poisoned = replace(
        given,
        clean=_with_noise(given.clean, others, generator),
        training=_with_noise(given.training, split.test, generator),
        labels=labels,
    )
    first = system.run(given, split, seed).log_probabilities[0]
    second = system.run(poisoned, split, seed).log_probabilities[0]
    apart = float(np.abs(first - second).max())
    if not apart <= TOLERANCE:
        raise SplitError(
            f"{system.name}: the answer for {given.clips[one].name} changes by {apart:.3g} with the other test items"
        )


def _with_noise(windows: Windows, rows: NDArray[np.int64], generator: np.random.Generator) -> Windows:
    frames, contours = windows.frames.copy(), windows.contours.copy()
    frames[rows] = generator.uniform(-_HUGE, _HUGE, frames[rows].shape)
    contours[rows] = generator.uniform(-_HUGE, _HUGE, contours[rows].shape)
    return Windows(frames, contours)


def recall_of_nonsense(system: System, given: Material, seed: int = 0) -> scores.Figure:
    """Macro recall after learning shuffled labels, one speaker left out at a time: near chance, or something leaks."""
    items = shuffled_labels(given, seed)
    splits = leave_one_speaker_out(items.clips, seed)
    answers = [system.run(items, split, seed).log_probabilities.argmax(axis=1) for split in splits]
    rows = np.concatenate([split.test for split in splits])
    return scores.macro_recall(np.concatenate(answers), items.labels[rows])
