"""The fused head starts as the pool, and converts to int8 without losing its mind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from device.config import RuntimeName
from device.inference.tflite import TFLiteRuntime
from models.contract import FUSION
from models.networks import fusion
from models.networks.macs import multiply_accumulates
from tools.training.convert import Batch, to_int8


def episodes(count: int, seed: int = 0) -> list[Batch]:
    generator = np.random.default_rng(seed)
    return [{t.name: generator.uniform(0, 1, t.shape).astype(np.float32) for t in FUSION.inputs} for _ in range(count)]


def outputs(network: tf.keras.Model, batch: Batch) -> tf.Tensor:
    return network([batch[tensor.name] for tensor in FUSION.inputs])


@pytest.fixture(scope="module")
def trained() -> tf.keras.Model:
    """A head with random last weights, as if it had been trained."""
    tf.keras.utils.set_random_seed(1)
    network = fusion.build()
    last = network.get_layer("logits")
    last.kernel.assign(tf.random.normal(last.kernel.shape))
    return network


def test_untrained_head_is_the_pool_itself() -> None:
    (batch,) = episodes(1)
    np.testing.assert_array_equal(outputs(fusion.build(), batch), 0.0)


def test_cost_stays_under_the_cap(trained: tf.keras.Model) -> None:
    assert multiply_accumulates(trained) <= 2_000_000


def test_order_of_the_tokens_matters(trained: tf.keras.Model) -> None:
    (batch,) = episodes(1)
    reversed_batch = {name: values[:, ::-1] for name, values in batch.items()}
    assert np.abs(outputs(trained, batch) - outputs(trained, reversed_batch)).max() > 1e-3


@pytest.mark.parametrize("runtime", ["tflite-runtime", "litert"])
def test_int8_agrees_with_float_and_keeps_no_state(
    trained: tf.keras.Model, tmp_path: Path, runtime: RuntimeName
) -> None:
    file = tmp_path / FUSION.file
    file.write_bytes(to_int8(trained, FUSION, episodes(60)))
    network = TFLiteRuntime(runtime).load(file, FUSION)
    batches = episodes(12, seed=1)
    answers = np.concatenate([network.run(batch)["logits"] for batch in batches])
    expected = np.concatenate([outputs(trained, batch) for batch in batches])
    assert np.abs(answers - expected).max() < 0.15 * expected.std()
    backwards = np.concatenate([network.run(batch)["logits"] for batch in reversed(batches)])[::-1]
    np.testing.assert_array_equal(answers, backwards)
