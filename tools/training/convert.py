"""Keras network to full int8 TFLite: int8 in and out, weights per channel, fixed shapes, a batch of one.

The file's one signature names the tensors as the contract does, so a box needs no guess about their order. Keras 2 and
a SavedModel are needed for the fused LSTM operation (UNIDIRECTIONAL_SEQUENCE_LSTM).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from models.contract import NetworkContract, Tensor

Batch = Mapping[str, NDArray[np.float32]]


def to_int8(network: tf.keras.Model, contract: NetworkContract, representative: Iterable[Batch]) -> bytes:
    """Convert. `representative` gives inputs by contract name, each of the contract's shape (a batch of one).

    Ranges of all tensors are taken from these inputs; a few hundred from the training set are enough. What is
    concatenated shares one scale, so inputs of very different ranges should meet after a Dense layer each.
    Raises ValueError when network, contract and representative inputs do not fit together, and when the result holds
    an LSTM that would answer nonsense (see `_check_lstm_scales`).
    """
    batches = [_checked(batch, contract.inputs) for batch in representative]
    if not batches:
        raise ValueError(f"{contract.file}: at least one representative input is needed")

    def inputs() -> Iterator[dict[str, NDArray[np.float32]]]:
        yield from batches

    content = _convert(network, contract, inputs)
    _check_lstm_scales(contract, content)
    return content


def to_float32(network: tf.keras.Model, contract: NetworkContract) -> bytes:
    """The same file without quantisation: the peer that int8 is measured against."""
    return _convert(network, contract, None)


def _convert(network: tf.keras.Model, contract: NetworkContract, representative: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(network, folder, signatures=_signature(network, contract))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if representative is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def _signature(network: tf.keras.Model, contract: NetworkContract) -> object:
    names = [tensor.name for tensor in contract.inputs]
    outputs = network.outputs
    if list(network.input_names) != names:
        raise ValueError(f"{contract.file}: inputs are {network.input_names}, the contract has {names}")
    if [tuple(output.shape[1:]) for output in outputs] != [tensor.shape[1:] for tensor in contract.outputs]:
        raise ValueError(f"{contract.file}: outputs {[tuple(o.shape) for o in outputs]} are not the contract's")

    def run(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        # The identity gives each output its own tensor, even when one output is computed from another.
        results = tf.nest.flatten(network([tensors[name] for name in names], training=False))
        return {t.name: tf.identity(r, name=t.name) for t, r in zip(contract.outputs, results, strict=True)}

    specifications = {t.name: tf.TensorSpec(t.shape, tf.float32, name=t.name) for t in contract.inputs}
    return tf.function(run).get_concrete_function(**specifications)


def _checked(batch: Batch, tensors: Sequence[Tensor]) -> dict[str, NDArray[np.float32]]:
    if set(batch) != {tensor.name for tensor in tensors}:
        raise ValueError(f"representative input has {sorted(batch)}, the contract {[t.name for t in tensors]}")
    for tensor in tensors:
        if batch[tensor.name].shape != tensor.shape:
            raise ValueError(f"representative {tensor.name}: shape {batch[tensor.name].shape}, not {tensor.shape}")
    return {name: np.asarray(value, dtype=np.float32) for name, value in batch.items()}


def _check_lstm_scales(contract: NetworkContract, content: bytes) -> None:
    """Refuse an LSTM whose output was given another scale than its hidden state.

    The int8 kernel writes both with the state's scale. The converter (seen in TensorFlow 2.15.1) gives all inputs of a
    concatenation one scale, also an LSTM's output, whose values are then read wrongly.
    """
    hidden_state_input = 18
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            code = graph.operatorCodes[operator.opcodeIndex].builtinCode
            if code != schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM:
                continue
            output, state = (subgraph.tensors[i] for i in (operator.outputs[0], operator.inputs[hidden_state_input]))
            if not np.allclose(output.quantization.scale, state.quantization.scale, rtol=1e-5) or not np.array_equal(
                output.quantization.zeroPoint, state.quantization.zeroPoint
            ):
                raise ValueError(
                    f"{contract.file}: the output of an LSTM shares a concatenation's scale and would be read wrongly; "
                    "put a Dense layer between them, or add Dense(forward) and Dense(backward) instead"
                )
