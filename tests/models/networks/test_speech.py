"""The speech network keeps to its contract and budget, and each part of it sees what it should."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from models.contract import CHANNELS, CONTOUR_FEATURES, EMBEDDING, SPEECH, SPEECH_CLASSES, WINDOW_FRAMES
from models.networks import speech
from models.networks.macs import multiply_accumulates
from models.networks.speech import SpeechShape

SHAPE: Final = SpeechShape()
TINY: Final = SpeechShape(blocks=((8, 5, 16), (8, 3, 2)), members=(("statistics", 8), ("both", 8)))
VOICED: Final = ("voiced_mean", "voiced_spread", "voiced_share")


def windows(count: int = 2) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [
        generator.standard_normal((count, WINDOW_FRAMES, len(CHANNELS))).astype(np.float32),
        generator.standard_normal((count, len(CONTOUR_FEATURES))).astype(np.float32),
    ]


def widths_of(shape: SpeechShape) -> dict[str, int]:
    return {name: int(group.shape[-1]) for name, group in speech.pooling(shape).output.items()}


@pytest.fixture(scope="module")
def network() -> tf.keras.Model:
    tf.keras.utils.set_random_seed(0)
    widths = widths_of(SHAPE)
    total = sum(widths.values())
    heads = speech.readout(SHAPE, widths)
    plain = np.zeros(total, np.float32), np.ones(total, np.float32)
    return speech.assemble(SHAPE, speech.sequence_classifier(SHAPE), heads, *plain)


@pytest.fixture(scope="module")
def pooling() -> tf.keras.Model:
    tf.keras.utils.set_random_seed(0)
    return speech.pooling(TINY)


def test_tensors_are_those_of_the_contract(network: tf.keras.Model) -> None:
    assert network.input_names == [tensor.name for tensor in SPEECH.inputs]
    assert [tuple(t.shape[1:]) for t in network.inputs] == [tensor.shape[1:] for tensor in SPEECH.inputs]
    assert [tuple(t.shape[1:]) for t in network.outputs] == [tensor.shape[1:] for tensor in SPEECH.outputs]


def test_cost_stays_under_the_cap(network: tf.keras.Model) -> None:
    assert multiply_accumulates(network) <= 60_000_000
    assert network.count_params() <= 310_000


def test_the_embedding_is_never_below_zero(network: tf.keras.Model) -> None:
    embedding, _ = network(windows())
    assert embedding.numpy().min() >= 0 and embedding.numpy().max() > 0


def test_statistics_do_not_depend_on_where_the_window_starts(pooling: tf.keras.Model) -> None:
    """The clip goes round in its window: turning it leaves the statistics alone (but for one step at the seam)."""
    frames, contours = windows()
    here, there = (pooling([one, contours]) for one in (frames, np.roll(frames, 100, axis=1)))
    for name in ("mean", "spread", "steps", "above_0", "above_1", "above_2", *VOICED):
        np.testing.assert_allclose(here[name], there[name], atol=0.02, err_msg=name)


def test_statistics_are_what_their_names_say(pooling: tf.keras.Model) -> None:
    frames, contours = windows()
    groups = pooling([frames, contours])
    np.testing.assert_allclose(groups["mean"], frames.mean(axis=1), atol=1e-5)
    deviation = np.abs(frames - frames.mean(axis=1, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(groups["spread"], deviation, atol=1e-5)
    np.testing.assert_array_equal(groups["contours"], contours)


def test_voiced_statistics_are_blind_to_unvoiced_frames(pooling: tf.keras.Model) -> None:
    frames, contours = windows()
    unvoiced = frames[:, :, speech.VOICING] < 0
    changed = frames.copy()
    others = np.arange(len(CHANNELS)) != speech.VOICING
    changed[unvoiced] += 50 * others
    here, there = pooling([frames, contours]), pooling([changed, contours])
    assert np.abs(here["mean"] - there["mean"]).max() > 10
    for name in VOICED:
        np.testing.assert_allclose(here[name], there[name], atol=1e-4, err_msg=name)
    assert 0.3 < np.mean(here["voiced_share"]) < 0.6


def test_every_member_sees_its_columns() -> None:
    widths = widths_of(SHAPE)
    names = np.concatenate([np.full(width, name) for name, width in widths.items()])
    statistics = speech.columns_of(SHAPE, widths, "statistics")
    assert not any(name.startswith("sequence") for name in names[statistics])
    assert {"mean", "voiced_mean", "contours"} <= set(names[statistics])
    sequence = speech.columns_of(SHAPE, widths, "sequence")
    assert all(name.startswith("sequence") for name in names[sequence])
    np.testing.assert_array_equal(np.sort(np.concatenate([statistics, sequence])), np.arange(len(names)))
    np.testing.assert_array_equal(speech.columns_of(SHAPE, widths, "both"), np.arange(len(names)))


def test_a_member_on_statistics_answers_nothing_of_the_sequence_network() -> None:
    widths = widths_of(TINY)
    heads = speech.readout(TINY, widths)
    pooled = np.random.default_rng(0).standard_normal((3, sum(widths.values()))).astype(np.float32)
    changed = pooled.copy()
    changed[:, speech.columns_of(TINY, widths, "sequence")] += 3
    (alone, both), (alone_after, both_after) = heads(pooled), heads(changed)
    np.testing.assert_array_equal(alone, alone_after)
    assert np.abs(both - both_after).max() > 1e-3


def test_ablations_take_their_part_away() -> None:
    without_attention = replace(TINY, attention=False)
    assert "sequence_gated" in widths_of(TINY) and "sequence_gated" not in widths_of(without_attention)
    without_nonlinear = replace(TINY, nonlinear=False)
    widths = widths_of(without_nonlinear)
    for kind in ("statistics", "both"):
        less = speech.columns_of(without_nonlinear, widths, kind)
        assert len(speech.columns_of(TINY, widths, kind)) - len(less) == len(CONTOUR_FEATURES)


def test_the_taught_sequence_network_is_adopted_whole() -> None:
    tf.keras.utils.set_random_seed(0)
    taught, pooling = speech.sequence_classifier(TINY), speech.pooling(TINY)
    for layer in taught.layers:
        layer.set_weights([np.full_like(one, 0.01 * (1 + place)) for place, one in enumerate(layer.get_weights())])
    speech.adopt_sequence(pooling, taught)
    learned = [layer for layer in pooling.layers if layer.get_weights()]
    assert {layer.name for layer in learned} == {"convolution_0", "norm_0", "convolution_1", "norm_1", "gate"}
    for layer in learned:
        for one, other in zip(layer.get_weights(), taught.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_each_member_has_logits_of_its_own_in_training() -> None:
    heads = speech.readout(SHAPE, widths_of(SHAPE))
    assert [tuple(output.shape) for output in heads.outputs] == [(None, len(SPEECH_CLASSES))] * len(SHAPE.members)
    assert heads.get_layer("embedding_0").units * len(SHAPE.members) == EMBEDDING


def test_mask_erases_in_training_only() -> None:
    tf.keras.utils.set_random_seed(0)
    ones = tf.ones((8, WINDOW_FRAMES, len(CHANNELS)))
    mask = speech.Mask()
    np.testing.assert_array_equal(mask(ones, training=False), ones)
    masked = mask(ones, training=True).numpy()
    assert set(np.unique(masked)) == {0.0, 1.0}
    assert 0.5 < masked.mean() < 0.95
    assert not (masked[0] == masked[1]).all()
