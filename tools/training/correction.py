"""Bias correction: takes the mean error of quantised logits out of the last biases.

Rounding of constants shifts each logit by nearly the same amount for every input; the shift is measured on the
representative inputs and subtracted before converting once more (Nagel et al. 2019, "Data-free quantization through
weight equalization and bias correction", ICCV, section 4.2, here with data).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.tflite import TFLiteRuntime
from models.contract import NetworkContract
from tools.training.convert import Batch, to_int8


def to_int8_corrected(
    network: tf.keras.Model, contract: NetworkContract, representative: Sequence[Batch], layer: str
) -> bytes:
    """As `convert.to_int8`; `layer` is the Dense layer whose biases enter the logits with weight 1.

    `network`'s last output must be the logits. Its weights are the same afterwards.
    """
    first = to_int8(network, contract, representative)
    bias = network.get_layer(layer).bias
    before = bias.numpy()
    bias.assign(before - _mean_error(network, first, contract, representative))
    corrected = to_int8(network, contract, representative)
    bias.assign(before)
    return corrected


def _mean_error(
    network: tf.keras.Model, content: bytes, contract: NetworkContract, representative: Sequence[Batch]
) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / contract.file
        file.write_bytes(content)
        quantised = TFLiteRuntime("tflite-runtime").load(file, contract)
    answers = np.concatenate([quantised.run(batch)["logits"] for batch in representative])
    inputs = [np.concatenate([batch[tensor.name] for batch in representative]) for tensor in contract.inputs]
    expected = network.predict(inputs, batch_size=64, verbose=0)[-1]
    return np.asarray((answers - expected).mean(axis=0), np.float32)
