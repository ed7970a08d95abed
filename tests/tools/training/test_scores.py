"""Figures against values worked out by hand or published."""

from __future__ import annotations

import numpy as np
import pytest

from tools.training import scores


def test_wilson_interval_of_a_published_example() -> None:
    """455 of 535: 85.0 % [81.8, 87.8]."""
    labels = np.zeros(535, np.int64)
    predicted = np.where(np.arange(535) < 455, 0, 1)
    figure = scores.accuracy(predicted, labels)
    np.testing.assert_allclose([figure.value, figure.low, figure.high], [0.850, 0.818, 0.878], atol=6e-4)


def test_macro_recall_counts_classes_not_items() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    figure = scores.macro_recall(np.zeros(100, np.int64), labels)
    assert figure.value == pytest.approx(0.5)
    assert figure.low == figure.high == pytest.approx(0.5)


def test_confusion_has_true_classes_as_rows() -> None:
    table = scores.confusion(np.array([1, 1, 0]), np.array([0, 1, 0]), 2)
    np.testing.assert_array_equal(table, [[1, 1], [0, 1]])


def test_temperature_of_overconfident_logits_is_found() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=4000)
    honest = np.log(generator.dirichlet([1, 1, 1], 4000))
    labels = np.array([generator.choice(3, p=np.exp(row)) for row in honest])
    temperature = scores.fit_temperature((3 * honest).astype(np.float32), labels)
    assert temperature == pytest.approx(3.0, rel=0.1)
    sharp = scores.calibration_error((3 * honest).astype(np.float32), labels)
    assert scores.calibration_error((3 * honest).astype(np.float32), labels, temperature) < sharp / 2
