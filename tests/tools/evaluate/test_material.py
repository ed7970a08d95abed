"""What single protocols make of the items beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tools.evaluate.made_up import corpus
from tools.evaluate.material import enrolled, shuffled_labels, with_copies


def test_the_leaky_protocol_tests_augmented_copies_as_items_of_their_own() -> None:
    given = corpus(copies=6)
    items = with_copies(given, 0)
    assert len(items.clips) == len(items.labels) == len(items.parents) == 3 * 140
    assert items.training.frames.shape[1] == 2
    assert [items.clips[row].name for row in (0, 140, 280)] == [given.clips[0].name + end for end in ("", "#1", "#2")]
    np.testing.assert_array_equal(items.clean.frames[0], given.clean.frames[0])
    np.testing.assert_array_equal(items.clean.frames[141, 0], given.training.frames[1, 1])
    np.testing.assert_array_equal(items.clean.frames[141, 1], given.training.frames[1, 1])
    np.testing.assert_array_equal(items.training.frames[141, 0], given.training.frames[1, 1])
    np.testing.assert_array_equal(items.training.contours[281, 1], given.training.contours[1, 5])


def test_too_few_windows_for_the_leaky_protocol_are_said() -> None:
    with pytest.raises(ValueError, match="3 training windows"):
        with_copies(corpus(copies=2), 0)


def test_enrolment_uses_the_speakers_own_clean_windows_and_no_label() -> None:
    given = corpus()
    items = enrolled(given, 0)
    for speaker in {clip.speaker for clip in given.clips}:
        rows = [row for row, clip in enumerate(given.clips) if clip.speaker == speaker]
        values = items.clean.frames[rows].astype(np.float64).reshape(-1, 34)
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.01)
        np.testing.assert_allclose(values.std(axis=0), 1, atol=0.01)
    np.testing.assert_array_equal(items.labels, given.labels)
    assert not np.array_equal(items.training.frames, given.training.frames)


def test_enrolment_leaves_a_constant_channel_finite_and_the_given_windows_alone() -> None:
    given = corpus()
    given.clean.frames[..., 3] = 2.0
    before = given.clean.frames.copy()
    items = enrolled(given, 0)
    assert np.isfinite(items.clean.frames).all()
    assert not items.clean.frames[..., 3].any()
    np.testing.assert_array_equal(given.clean.frames, before)


def test_shuffled_labels_are_the_same_labels_at_other_items() -> None:
    given = corpus()
    items = shuffled_labels(given, 0)
    assert np.bincount(items.labels).tolist() == np.bincount(given.labels).tolist()
    assert (items.labels == given.labels).mean() < 0.3
