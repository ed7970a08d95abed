"""Both stages of the speech branch: what teaches them, what they learn, and that they ship as taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.contract import CHANNELS, CONTOUR_FEATURES, SPEECH_CLASSES, WINDOW_FRAMES
from models.labels import Emotion
from models.networks import speech as network_of
from tests.tools.training.made_up import RECIPE, SHAPE, corpus, fewer_steps, windows
from tools.training import speech
from tools.training.speech import Pooled, Pooler, fit_constants, of_rows, representative, teach_readout, teach_sequence
from tools.training.speech_windows import Windows

EMOTIONS = (Emotion.ANGER, Emotion.NEUTRAL, Emotion.SADNESS, Emotion.SURPRISE)
WIDTHS = {"mean": 34, "contours": 14, "sequence_mean": 8}


def toy(seed: int, count: int = 40, copies: int = 2) -> Pooled:
    """Pooled numbers of which number k is high where k is the label."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % len(SPEECH_CLASSES)
    level = 6.0 * np.eye(sum(WIDTHS.values()))[labels]
    clean, training = (
        (level[:, np.newaxis] + generator.standard_normal((count, n, sum(WIDTHS.values())))).astype(np.float32)
        for n in (2, copies)
    )
    return Pooled(clean, training, labels)


def test_normalisation_comes_from_the_training_rows_alone() -> None:
    some = windows([0, 1, 2, 3], 2)
    before = fit_constants([of_rows(some, np.array([0, 1]))])
    some.frames[2:] = 1000
    some.contours[2:] = -1000
    assert fit_constants([of_rows(some, np.array([0, 1]))]) == before
    assert max(np.abs(before.channel_mean)) < 4


def test_every_corpus_counts_the_same_in_the_normalisation() -> None:
    def level(clips: int, value: float) -> Windows:
        frames = np.full((clips, 1, WINDOW_FRAMES, len(CHANNELS)), value, np.float16)
        return Windows(frames, np.full((clips, 1, len(CONTOUR_FEATURES)), value, np.float32))

    constants = fit_constants([level(9, 0.0), level(1, 10.0)])
    np.testing.assert_allclose(constants.channel_mean, 5)
    np.testing.assert_allclose(constants.channel_scale, 5, rtol=1e-5)
    np.testing.assert_allclose(constants.contour_mean, 5)
    np.testing.assert_allclose(constants.prior, 1 / len(SPEECH_CLASSES))


def test_channel_that_never_changes_can_still_be_divided_by() -> None:
    some = windows([0, 1], 2)
    some.frames[..., 3] = 7
    assert fit_constants([some]).channel_scale[3] > 0


def test_standardised_numbers_are_deviations_and_cut() -> None:
    numbers = np.array([[1.0, 5.0, -1e6]], np.float32)
    mean, deviation = np.array([1.0, 1.0, 1.0], np.float32), np.array([2.0, 2.0, 2.0], np.float32)
    limit = network_of.LIMIT
    np.testing.assert_array_equal(speech.standardised(numbers, mean, deviation), [[0.0, min(2.0, limit), -limit]])


def test_the_readout_learns_what_can_be_told_apart_and_is_the_same_for_a_seed() -> None:
    parts = {"emodb": toy(0), "ravdess": toy(1)}
    rows = {key: np.arange(40) for key in parts}
    first, second = (teach_readout(parts, rows, RECIPE, WIDTHS, 3) for _ in range(2))
    unseen = toy(2)
    scores = first.log_scores(unseen.clean)
    assert (scores.argmax(axis=1) == unseen.labels).mean() > 0.9
    np.testing.assert_allclose(scores, second.log_scores(unseen.clean), atol=1e-4)
    other = teach_readout(parts, rows, RECIPE, WIDTHS, 4)
    assert np.abs(other.log_scores(unseen.clean) - scores).max() > 1e-2


def test_the_readout_is_blind_to_other_rows_clean_windows_and_corpora_without_a_share() -> None:
    parts = {"emodb": toy(0), "ravdess": toy(1), "nemo": toy(5)}
    rows = {"emodb": np.arange(20), "ravdess": np.arange(40), "nemo": np.arange(40)}
    changed = {key: Pooled(part.clean + 9, part.training.copy(), part.labels.copy()) for key, part in parts.items()}
    changed["emodb"].training[20:] = 1e4
    changed["emodb"].labels[20:] = 0
    changed["nemo"].training[:] = 1e4
    recipe = fewer_steps(5)
    first, second = (teach_readout(some, rows, recipe, WIDTHS, 0) for some in (parts, changed))
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.deviation, second.deviation)
    np.testing.assert_allclose(first.log_scores(toy(2).clean), second.log_scores(toy(2).clean), atol=1e-4)


def test_every_corpus_counts_the_same_in_the_standardisation() -> None:
    few, many = toy(0, count=8), toy(1, count=40)
    few.training[:], many.training[:] = 10, 0
    rows = {"emodb": np.arange(8), "ravdess": np.arange(40)}
    readout = teach_readout({"emodb": few, "ravdess": many}, rows, fewer_steps(1), WIDTHS, 0)
    np.testing.assert_allclose(readout.mean, 5)
    np.testing.assert_allclose(readout.deviation, 5 * (1 + speech.DEVIATION_FLOOR))


def test_teachers_opinions_count_as_much_as_the_labels() -> None:
    parts = {"emodb": toy(0)}
    rows = {"emodb": np.arange(40)}
    other = (parts["emodb"].labels + 1) % len(SPEECH_CLASSES)
    said = np.repeat(np.eye(len(SPEECH_CLASSES), dtype=np.float32)[other][:, np.newaxis], 2, axis=1)
    readout = teach_readout(parts, rows, RECIPE, WIDTHS, 0, {"emodb": said})
    unseen = toy(2)
    answers = tf.nn.softmax(readout.log_scores(unseen.clean)).numpy()
    places = np.arange(len(unseen.labels))
    label, opinion = (answers[places, (unseen.labels + k) % len(SPEECH_CLASSES)].mean() for k in (0, 1))
    others = (1 - label - opinion) / (len(SPEECH_CLASSES) - 2)
    assert label == pytest.approx(opinion, rel=0.2)
    assert min(label, opinion) > 2 * others


def test_both_stages_ship_as_one_network_that_answers_as_they_do(tmp_path: Path) -> None:
    corpora = {
        "emodb": corpus("emodb", ("03", "08"), EMOTIONS, 3, takes=2),
        "ravdess": corpus("ravdess", ("R02", "R03"), EMOTIONS, 2, takes=2),
    }
    rows = {key: np.arange(len(one.clips)) for key, one in corpora.items()}
    sequence = teach_sequence([corpora["ravdess"]], rows, RECIPE, 0, tmp_path)
    pooler = Pooler(sequence, RECIPE, tmp_path)
    parts = {key: pooler.of_corpus(one) for key, one in corpora.items()}
    readout = teach_readout(parts, rows, RECIPE, pooler.widths, 0)
    shipped = speech.assembled(sequence, readout, RECIPE)
    clean = corpora["emodb"].clean
    _, logits = shipped(list(speech.normalised(clean, sequence.constants)))
    count = len(clean.contours)
    expected = readout.log_scores(parts["emodb"].clean)
    np.testing.assert_allclose(logits.numpy().reshape(count, 2, -1).mean(axis=1), expected, atol=1e-4)
    assert (expected.argmax(axis=1) == corpora["emodb"].labels).mean() > 0.9


def test_pooled_numbers_are_kept_and_found_again(tmp_path: Path) -> None:
    one = corpus("ravdess", ("R02", "R03"), EMOTIONS, 2)
    sequence = teach_sequence([one], {"ravdess": np.arange(len(one.clips))}, fewer_steps(1), 0, tmp_path)
    pooler = Pooler(sequence, RECIPE, tmp_path)
    first = pooler.of_corpus(one)
    np.testing.assert_array_equal(first.training, pooler.of(one.training))
    assert first.clean.shape == (len(one.clips), 2, sum(pooler.widths.values()))
    (file,) = tmp_path.glob("pooled-*.npz")
    np.savez(file, clean=first.clean + 1, training=first.training)
    np.testing.assert_array_equal(pooler.of_corpus(one).clean, first.clean + 1)
    assert not list(tmp_path.glob("unfinished-*"))


def test_a_taught_sequence_network_is_kept_and_not_taught_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = corpus("ravdess", ("R02", "R03"), EMOTIONS, 2)
    rows = {"ravdess": np.arange(4)}
    taught = teach_sequence([one], rows, fewer_steps(2), 0, tmp_path)
    monkeypatch.setattr(speech, "_optimizer", None)
    again = teach_sequence([one], rows, fewer_steps(2), 0, tmp_path)
    assert again.digest == taught.digest and again.constants == taught.constants
    for first, second in zip(taught.classifier.get_weights(), again.classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(TypeError):
        teach_sequence([one], {"ravdess": np.arange(5)}, fewer_steps(2), 0, tmp_path)


def test_the_sequence_network_is_blind_to_rows_that_it_was_not_given(tmp_path: Path) -> None:
    one = corpus("ravdess", ("R02", "R03"), EMOTIONS, 2)
    rows = {"ravdess": np.arange(4)}
    before = teach_sequence([one], rows, fewer_steps(2), 0, tmp_path / "before")
    one.training.frames[4:] = 1000
    after = teach_sequence([one], rows, fewer_steps(2), 0, tmp_path / "after")
    assert before.constants == after.constants
    for first, second in zip(before.classifier.get_weights(), after.classifier.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_ranges_for_int8_come_from_every_corpus_alike() -> None:
    few, many = windows([0, 1], 2), windows([0, 1, 2, 3, 4, 5], 3)
    few.frames[:], many.frames[:] = 1, 0
    constants = fit_constants([few, many])
    batches = representative([few, many], constants, 0, 20)
    assert len(batches) == 20
    assert all(batch["frames"].shape == (1, WINDOW_FRAMES, len(CHANNELS)) for batch in batches)
    assert all(batch["contours"].shape == (1, len(CONTOUR_FEATURES)) for batch in batches)
    assert sum(float(batch["frames"].mean()) > 0 for batch in batches) == 10


def test_members_answer_from_their_own_columns() -> None:
    """A readout that is given the groups' widths gathers the columns that the assembled network puts together."""
    widths = {name: int(group.shape[-1]) for name, group in network_of.pooling(SHAPE).output.items()}
    names = np.concatenate([np.full(width, name) for name, width in widths.items()])
    seen = names[network_of.columns_of(SHAPE, widths, "statistics")]
    assert list(dict.fromkeys(seen)) == [name for name in widths if network_of.sees(SHAPE, "statistics", name)]
    assert len(network_of.columns_of(SHAPE, widths, "both")) == sum(widths.values())
