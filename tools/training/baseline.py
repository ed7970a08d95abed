"""The peer that the speech branch is held against: a linear SVM on functionals of the same channels and contours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tools.training.speech_windows import Windows
from tools.training.splits import Split

PERCENTILES: Final = (5, 25, 50, 75, 95)
#: Not tuned: the middle of the usual grid 0.001, 0.01, 0.1.
COST: Final = 0.01


def functionals(windows: Windows) -> NDArray[np.float64]:
    """Of each clip's first window, (clips, 286): mean, deviation, five percentiles and mean |step| of the 34 channels,
    and the 14 contour features."""
    frames = windows.frames[:, 0].astype(np.float64)
    percentiles = np.percentile(frames, PERCENTILES, axis=1).transpose(1, 0, 2).reshape(len(frames), -1)
    steps = np.abs(np.diff(frames, axis=1)).mean(axis=1)
    kinds = [frames.mean(axis=1), frames.std(axis=1), percentiles, steps, windows.contours[:, 0]]
    return np.concatenate(kinds, axis=1)


def svm_predictions(
    features: NDArray[np.float64], labels: NDArray[np.int64], splits: Sequence[Split]
) -> NDArray[np.int64]:
    """Predicted class of every clip by the fold that tests it; scaler and machine see its training clips only."""
    predicted = np.full(len(labels), -1, np.int64)
    for split in splits:
        machine = make_pipeline(StandardScaler(), SVC(kernel="linear", C=COST, class_weight="balanced"))
        machine.fit(features[split.train], labels[split.train])
        predicted[split.test] = machine.predict(features[split.test])
    return predicted
