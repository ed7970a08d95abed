"""Systems on functionals: linear SVM, SVM-RBF, extreme learning machine, and linear probes on raw values and on codes.

Functionals are of 5.12 s, so a clip has those of its first and of its last window. Machines learn from the first ones
of clean clips and answer the mean score over both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from device.inference.speech_branch import log_softmax
from models.contract import CONTOUR_FEATURES
from tools.evaluate.system import CLASSES, Material, Outcome
from tools.evaluate.systems.tuning import SHARE_OF_EPOCHS, choose, code_digest
from tools.training import baseline
from tools.training.baseline import functionals
from tools.training.speech_windows import Windows
from tools.training.splits import Split

Features = NDArray[np.float64]

CODE: Final = 64
HIDDEN: Final = 1000
#: Score of a class that the training side lacks, below the lowest of its item's others.
_ABSENT: Final = 10.0


class RandomLayer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The hidden layer of an extreme learning machine (Huang et al. 2006): sigmoids of random sums, never trained."""

    def __init__(self, width: int = HIDDEN, seed: int = 0) -> None:
        self.width = width
        self.seed = seed

    def fit(self, features: Features, labels: object = None) -> RandomLayer:
        """Draw the weights for features (n, d): nothing but d and the seed matters."""
        generator = np.random.default_rng(self.seed)
        self.weights_ = generator.standard_normal((features.shape[1], self.width)) / np.sqrt(features.shape[1])
        self.bias_ = generator.standard_normal(self.width)
        return self

    def transform(self, features: Features) -> Features:
        """(n, d) to (n, width), 0..1; the sigmoid is written as a tanh, which cannot overflow."""
        return np.asarray(0.5 + 0.5 * np.tanh((features @ self.weights_ + self.bias_) / 2), np.float64)


@dataclass(frozen=True)
class Setting:
    """What a machine is made for: the value of the grid, the seed, the number of training items, and the share of the
    epochs if it has any."""

    value: float
    seed: int
    items: int
    share: float = 1.0


#: To an untrained machine with `fit` and `decision_function`.
Make = Callable[[Setting], Any]


@dataclass
class FeatureSystem:
    """A machine on the functionals' 286 numbers (272 without the contours' nonlinear features).

    `grid` are the three values of `parameter` that the inner split chooses from.
    """

    name: str
    make: Make
    parameter: str
    grid: tuple[float, float, float]
    nonlinear: bool = True
    #: Multiplies the scores. Those of a ridge regression are about ±1: too close for the search of a temperature.
    gain: float = 1.0
    #: Further files whose code the answers depend on.
    files: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Short hash of code and configuration."""
        description = f"{self.name} {self.parameter} {self.grid} {self.nonlinear} {self.gain}"
        return code_digest(description, __file__, baseline.__file__, *self.files)

    @property
    def configurations(self) -> tuple[str, ...]:
        """What the values of the grid are called."""
        return tuple(f"{self.parameter}={value:g}" for value in self.grid)

    def run(self, material: Material, split: Split, seed: int) -> Outcome:
        """Choose on an inner split, learn `split.train`, answer `split.test`. The times include the functionals'."""
        choice = choose(self, material, split)
        features, each_s = clip_functionals(material)
        started = time.perf_counter()
        machine = self._fitted(material, split.train, Setting(self.grid[choice.number], seed, len(split.train)))
        trained = time.perf_counter()
        scores = self._scores(machine, features[split.test])
        return Outcome(
            log_probabilities=log_softmax(scores, choice.temperature),
            training_s=trained - started + each_s * len(split.train),
            test_s=time.perf_counter() - trained + each_s * len(split.test),
            chosen=self.configurations[choice.number],
        )

    def tried(self, material: Material, inner: Split, number: int, seed: int) -> NDArray[np.float32]:
        """Scores of the inner test side by one configuration."""
        setting = Setting(self.grid[number], seed, len(inner.train), SHARE_OF_EPOCHS)
        machine = self._fitted(material, inner.train, setting)
        return self._scores(machine, clip_functionals(material)[0][inner.test])

    def _fitted(self, material: Material, rows: NDArray[np.int64], setting: Setting) -> Any:
        features = self._kept(clip_functionals(material)[0][rows, 0])
        return self.make(setting).fit(features, material.labels[rows])

    def _scores(self, machine: Any, features: Features) -> NDArray[np.float32]:
        """Mean over the windows of (n, windows, 286), (n, 7); a class that was never learned comes out last."""
        assert len(machine.classes_) > 2, "two classes have one score"
        kept = self._kept(features)
        count, windows, width = kept.shape
        answers = self.gain * machine.decision_function(kept.reshape(-1, width))
        known = answers.reshape(count, windows, -1).mean(axis=1)
        scores = np.repeat(known.min(axis=1, keepdims=True) - _ABSENT, len(CLASSES), axis=1)
        scores[:, machine.classes_] = known
        return scores.astype(np.float32)

    def _kept(self, features: Features) -> Features:
        return features if self.nonlinear else features[..., : -len(CONTOUR_FEATURES)]


_FUNCTIONALS: WeakKeyDictionary[Material, tuple[Features, float]] = WeakKeyDictionary()


def clip_functionals(material: Material) -> tuple[Features, float]:
    """Functionals of each item's two clean windows, (n, 2, 286), and the seconds that an item's take.

    An item's functionals depend on that item alone, so they are computed once for all systems and splits.
    """
    if material not in _FUNCTIONALS:
        started = time.perf_counter()
        found = windows_functionals(material.clean)
        _FUNCTIONALS[material] = found, (time.perf_counter() - started) / len(found)
    return _FUNCTIONALS[material]


def windows_functionals(windows: Windows) -> Features:
    """Functionals of every window, (n, windows, 286)."""
    count = windows.frames.shape[1]
    each = [functionals(Windows(windows.frames[:, i : i + 1], windows.contours[:, i : i + 1])) for i in range(count)]
    return np.stack(each, axis=1)


def _svm(setting: Setting) -> Any:
    return make_pipeline(StandardScaler(), SVC(kernel="linear", C=setting.value, class_weight="balanced"))


def _svm_rbf(setting: Setting) -> Any:
    return make_pipeline(StandardScaler(), SVC(kernel="rbf", C=setting.value, class_weight="balanced"))


def _elm(setting: Setting) -> Any:
    output = RidgeClassifier(alpha=setting.value, class_weight="balanced")
    return make_pipeline(StandardScaler(), RandomLayer(HIDDEN, setting.seed), output)


def probe(cost: float) -> LogisticRegression:
    """The linear probe of every code, and of the raw functionals."""
    return LogisticRegression(C=cost, class_weight="balanced", max_iter=1000)


def _raw(setting: Setting) -> Any:
    return make_pipeline(StandardScaler(), probe(setting.value))


def _pca(setting: Setting) -> Any:
    """64 components, or as many as there are training items, if those are fewer."""
    components = PCA(min(CODE, setting.items), svd_solver="full")
    return make_pipeline(StandardScaler(), components, probe(setting.value))


COSTS: Final = (0.001, 0.01, 0.1)
_SVM: Final = FeatureSystem("svm", _svm, "C", COSTS)
_RAW: Final = FeatureSystem("raw", _raw, "C", COSTS)
_ALL: Final = (
    _SVM,
    replace(_SVM, name="svm_no_nonlinear", nonlinear=False),
    FeatureSystem("svm_rbf", _svm_rbf, "C", (1.0, 3.0, 10.0)),
    FeatureSystem("elm", _elm, "ridge", (1.0, 10.0, 100.0), gain=5.0),
    _RAW,
    replace(_RAW, name="raw_no_nonlinear", nonlinear=False),
    FeatureSystem("pca64", _pca, "C", COSTS),
)


def system(name: str) -> FeatureSystem:
    """The system of that name; KeyError when there is none."""
    return replace({one.name: one for one in _ALL}[name])
