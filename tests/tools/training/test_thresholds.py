"""The two rules that choose the decision's thresholds."""

from __future__ import annotations

import numpy as np

from tests.tools.training.test_episodes import face_tokens, speech_tokens
from tools.training.thresholds import choose, confidence_min, conflict_confidence


def test_answers_below_the_threshold_are_more_often_wrong() -> None:
    confidence = np.linspace(0.3, 1.0, 7001)
    right = np.random.default_rng(0).random(7001) < np.where(confidence < 0.6, 0.2, 0.9)
    assert 0.55 <= confidence_min(confidence, right) <= 0.61


def test_answers_that_are_never_right_leave_the_highest_threshold() -> None:
    confidence = np.linspace(0.3, 1.0, 100)
    assert confidence_min(confidence, np.zeros(100, bool)) >= 0.9


def test_matching_senses_are_seldom_called_in_conflict() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random(10_000), generator.random(10_000)
    differ = generator.random(10_000) < 0.5
    threshold = conflict_confidence(first, second, differ)
    assert (differ & (first >= threshold) & (second >= threshold)).mean() <= 0.05
    looser = threshold - 0.02
    assert (differ & (first >= looser) & (second >= looser)).mean() > 0.05


def test_senses_that_never_differ_need_no_conflict_threshold() -> None:
    """Boredom is paired with neutral faces, and no face names boredom: that is no conflict."""
    parameters = choose(speech_tokens(), face_tokens(), np.random.default_rng(0))
    assert parameters.conflict_confidence == 0.3
