from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.contract import FACE
from models.networks import face
from models.networks.macs import multiply_accumulates


@pytest.fixture(scope="module")
def network() -> tf.keras.Model:
    return face.build()


def test_stays_within_its_budget(network: tf.keras.Model) -> None:
    assert multiply_accumulates(network) <= 30_000_000
    assert network.count_params() <= 500_000


def test_has_the_contracts_tensors(network: tf.keras.Model) -> None:
    assert network.input_names == [tensor.name for tensor in FACE.inputs]
    assert network.output_names == [tensor.name for tensor in FACE.outputs]
    assert [shape[1:] for shape in network.output_shape] == [tensor.shape[1:] for tensor in FACE.outputs]


def test_the_embedding_stays_in_the_range_that_int8_is_given(network: tf.keras.Model) -> None:
    crops = np.random.default_rng(0).normal(0, 20, (4, 64, 64, 1)).astype(np.float32)
    embedding, _ = network(crops)
    assert float(tf.reduce_min(embedding)) >= 0 and float(tf.reduce_max(embedding)) <= 6
