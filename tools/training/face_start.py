"""Gives a new face network the weights of a released int8 file, so that training goes on from where that one ended.

The released file has batch normalisation folded into its convolutions. Each normalisation gets the mean and variance
that its convolution has on training pictures, and a scale and shift that undo both and add the folded bias: the network
computes what the file computes, and normalises by the batch when it is trained again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def start_from(network: tf.keras.Model, file: Path, pictures: NDArray[np.float32]) -> None:
    """Set the weights of `network` (models/networks/face.py) from `file`; normalisations are fitted on `pictures`,
    normalised crops (n, 64, 64, 1). Raises ValueError when the file's layers are others than the network's."""
    kernels = _layers(file)
    layers = [one for one in network.layers if isinstance(one, tf.keras.layers.Conv2D | tf.keras.layers.Dense)]
    if len(layers) != len(kernels):
        raise ValueError(f"{file}: {len(kernels)} layers with weights, the network has {len(layers)}")
    for layer, (kernel, bias) in zip(layers, kernels, strict=True):
        shaped = kernel.transpose(1, 2, 3, 0) if kernel.ndim == 4 else kernel.T
        if shaped.shape != tuple(layer.kernel.shape):
            raise ValueError(f"{file}: a kernel of {shaped.shape}, the network's {layer.name} has {layer.kernel.shape}")
        layer.set_weights([shaped, bias] if layer.use_bias else [shaped])
        if not layer.use_bias:
            _undone(network, layer, bias, pictures)


def _undone(
    network: tf.keras.Model,
    convolution: tf.keras.layers.Layer,
    bias: NDArray[np.float32],
    pictures: NDArray[np.float32],
) -> None:
    (normalisation,) = [node.layer for node in convolution.outbound_nodes]
    answers = tf.keras.Model(network.input, convolution.output).predict(pictures, batch_size=128, verbose=0)
    mean, variance = answers.mean(axis=(0, 1, 2)), answers.var(axis=(0, 1, 2))
    scale = np.sqrt(variance + normalisation.epsilon)
    normalisation.set_weights([scale, mean + bias, mean, variance])


def _layers(file: Path) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Kernel and bias of each convolution and dense layer of a file, in the order of their use."""
    interpreter = tf.lite.Interpreter(str(file), experimental_op_resolver_type=_PLAIN)
    interpreter.allocate_tensors()
    found = []
    for operation in interpreter._get_ops_details():
        if operation["op_name"] in ("CONV_2D", "FULLY_CONNECTED"):
            _, kernel, bias = operation["inputs"]
            found.append((_real(interpreter, kernel), _real(interpreter, bias)))
    return found


_PLAIN = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def _real(interpreter: tf.lite.Interpreter, index: int) -> NDArray[np.float32]:
    """A constant tensor in real numbers; scales run along the first axis."""
    stored = interpreter.get_tensor(index).astype(np.float32)
    (details,) = [one for one in interpreter.get_tensor_details() if one["index"] == index]
    scales = details["quantization_parameters"]["scales"]
    return np.asarray(stored * scales.reshape(-1, *[1] * (stored.ndim - 1)), np.float32)
