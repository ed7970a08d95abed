"""The adversarial autoencoder: its code approaches its prior, and knows strangers from those it learned from."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tools.evaluate.made_up import corpus
from tools.evaluate.checks import assert_blind_to_test, check_outcome
from tools.evaluate.splits import leave_one_speaker_out
from tools.evaluate.system import Material
from tools.evaluate.systems import codes
from tools.evaluate.systems.codes import Encoder, ood_scores, system
from tools.evaluate.systems.tuning import macro_recall
from tools.training.speech_windows import Windows
from tools.training.splits import Split


@pytest.fixture(scope="module")
def given() -> Material:
    return corpus(separation=4.0)


@pytest.fixture(scope="module")
def split(given: Material) -> Split:
    return leave_one_speaker_out(given.clips, 0)[0]


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "EPOCHS", 30)


def skewed() -> NDArray[np.float64]:
    """384 rows of 20 numbers made of four exponentially distributed ones: nothing like a normal distribution."""
    generator = np.random.default_rng(0)
    features = generator.exponential(1, (384, 4)) @ generator.standard_normal((4, 20))
    return np.asarray((features - features.mean(axis=0)) / features.std(axis=0), np.float64)


def test_the_adversarial_code_has_the_moments_of_its_prior_and_both_kinds_rebuild() -> None:
    features = skewed()
    met, free = (Encoder(adversarial=adversarial, code=2, epochs=60).fit(features) for adversarial in (True, False))
    code = met.transform(features)
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=0.25)
    np.testing.assert_allclose(np.cov(code.T), np.eye(2), atol=0.35)
    assert np.abs(np.cov(free.transform(features).T) - np.eye(2)).max() > 1
    assert max(one.reconstruction_error(features).mean() for one in (met, free)) < 0.6


def test_a_seed_reproduces_its_code_and_labels_play_no_part() -> None:
    features = skewed()[:64]
    first, again, other = (
        Encoder(adversarial=True, code=4, epochs=3, seed=seed).fit(features, labels).transform(features)
        for seed, labels in ((1, None), (1, np.arange(64)), (2, None))
    )
    np.testing.assert_allclose(first, again, atol=1e-6)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("name", ["ae64", "aae64"])
def test_a_linear_probe_on_the_code_answers_every_test_item(given: Material, split: Split, name: str) -> None:
    outcome = system(name).run(given, split, 0)
    check_outcome(outcome, given.labels[split.test], 7)
    assert macro_recall(outcome.log_probabilities.argmax(axis=1), given.labels[split.test]) > 0.6


def test_answers_are_blind_to_the_test_side(given: Material, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "EPOCHS", 6)
    assert_blind_to_test(system("aae64"), given, split)


@pytest.mark.usefixtures("briefly")
def test_noise_is_stranger_than_test_clips_and_strangers_change_nothing(given: Material, split: Split) -> None:
    generator = np.random.default_rng(0)
    noise = Windows(
        generator.normal(0, 20, (30, 1, *given.clean.frames.shape[2:])).astype(np.float16),
        generator.normal(0, 20, (30, 1, 14)).astype(np.float32),
    )
    found = ood_scores(given, split, 0, noise)
    assert found.inside.shape == (len(split.test), 3) and found.outside.shape == (30, 3)
    assert found.area == found.areas[2] and found.areas[0] > 0.95 and found.area > 0.9
    np.testing.assert_allclose(found.inside[:, 2], found.inside[:, 0] + found.inside[:, 1])
    fewer = ood_scores(given, split, 0, Windows(noise.frames[:5], noise.contours[:5]))
    np.testing.assert_allclose(fewer.inside, found.inside, atol=1e-3)


@pytest.mark.usefixtures("briefly")
def test_test_clips_are_no_stranger_than_themselves(given: Material, split: Split) -> None:
    same = Windows(given.clean.frames[split.test], given.clean.contours[split.test])
    assert ood_scores(given, split, 0, same).areas == pytest.approx((0.5, 0.5, 0.5), abs=1e-6)
