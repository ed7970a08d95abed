from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from models.contract import NetworkContract, Tensor
from tools.training.convert import to_int8

CONTRACT = NetworkContract(
    "small.tflite",
    inputs=(Tensor("sequence", (1, 6, 3)), Tensor("extra", (1, 4))),
    outputs=(Tensor("score", (1, 2)),),
)
INPUTS = {tensor.name: np.ones(tensor.shape, np.float32) for tensor in CONTRACT.inputs}


def _network(order: tuple[str, ...] = ("sequence", "extra"), outputs: int = 2) -> tf.keras.Model:
    layers = tf.keras.layers
    inputs = {t.name: tf.keras.Input(t.shape[1:], name=t.name) for t in CONTRACT.inputs}
    x = layers.Concatenate()([layers.LSTM(4)(inputs["sequence"]), inputs["extra"]])
    return tf.keras.Model([inputs[name] for name in order], layers.Dense(outputs)(x))


def test_an_lstm_that_shares_a_concatenations_scale_is_refused() -> None:
    """The converter makes such a file without a word, and it predicts nonsense in both runtimes."""
    random = np.random.default_rng(0)
    inputs = [{t.name: random.normal(size=t.shape).astype(np.float32) * 5 for t in CONTRACT.inputs} for _ in range(10)]
    with pytest.raises(ValueError, match="LSTM shares a concatenation's scale"):
        to_int8(_network(), CONTRACT, inputs)


def test_inputs_in_another_order_than_the_contracts_are_refused() -> None:
    with pytest.raises(ValueError, match="the contract has"):
        to_int8(_network(order=("extra", "sequence")), CONTRACT, [INPUTS])


def test_outputs_of_another_shape_than_the_contracts_are_refused() -> None:
    with pytest.raises(ValueError, match="outputs"):
        to_int8(_network(outputs=3), CONTRACT, [INPUTS])


def test_without_representative_inputs_nothing_is_converted() -> None:
    with pytest.raises(ValueError, match="at least one"):
        to_int8(_network(), CONTRACT, [])


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"sequence": INPUTS["sequence"]}, "has"),
        (INPUTS | {"extra": np.ones((4,), np.float32)}, "representative extra"),
    ],
    ids=["one missing", "one of another shape"],
)
def test_representative_inputs_must_be_the_contracts(inputs: dict[str, NDArray[np.float32]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        to_int8(_network(), CONTRACT, [inputs])
