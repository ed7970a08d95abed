"""Adapter of the TFLite runtimes, and the only importer of either: tflite-runtime, or LiteRT where it has no wheel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device.config import RuntimeName
from device.errors import InferenceError
from device.inference.outline import check_outline
from models.contract import NetworkContract, Tensor

_NEW_BUNDLE: Final = "Install the bundle again, or rebuild it with make train."


def _interpreter_class(name: str) -> Any:
    try:
        if name == "tflite-runtime":
            from tflite_runtime.interpreter import Interpreter
        elif name == "litert":
            from ai_edge_litert.interpreter import Interpreter
        else:
            raise InferenceError(f"Runtime {name!r} is unknown.", next_step="Choose tflite-runtime or litert.")
    except ImportError as error:
        raise InferenceError(
            f"Runtime {name} cannot be imported ({error}).",
            next_step="Install it (extra unit: tflite-runtime, extra unit-litert: LiteRT), or set inference.runtime "
            "in device.toml to the one that is installed.",
        ) from error
    return Interpreter


class TFLiteRuntime:
    """A `device.inference.ports.Runtime`. `threads` counts per network."""

    def __init__(self, name: RuntimeName = "tflite-runtime", threads: int = 1) -> None:
        """Raises InferenceError when that runtime is not installed; never takes the other one instead."""
        self._interpreter = _interpreter_class(name)
        self._name = name
        self._threads = threads

    @property
    def name(self) -> str:
        """`tflite-runtime` or `litert`."""
        return self._name

    def load(self, path: Path, contract: NetworkContract) -> TFLiteNetwork:
        """Load a float32 or int8 file. Tensors are found by the name of the file's signature, or else by their own.

        Raises InferenceError naming the file when it is missing, damaged, not loadable by this runtime, or when a
        tensor's name, shape or type differs from the contract.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InferenceError(f"{path}: cannot be read ({error.strerror}).", next_step=_NEW_BUNDLE) from error
        try:
            check_outline(content)
            interpreter = self._interpreter(model_content=content, num_threads=self._threads)
            interpreter.allocate_tensors()
            inputs, outputs = _named_tensors(interpreter)
        except (ValueError, TypeError, RuntimeError, ImportError) as error:  # TypeError: a damaged tensor number
            raise InferenceError(f"{path}: {self._name} cannot load it ({error}).", next_step=_NEW_BUNDLE) from error
        return TFLiteNetwork(
            interpreter, path, _matched(path, contract.inputs, inputs), _matched(path, contract.outputs, outputs)
        )


@dataclass(frozen=True)
class _Slot:
    """Where a contract's tensor lives in the interpreter; `scale` 0 means float32."""

    tensor: Tensor
    index: int
    scale: float
    zero_point: int

    def quantised(self, value: NDArray[np.float32]) -> NDArray[Any]:
        """Affine quantisation, q = round(x / scale) + zero point (Jacob et al. 2018, CVPR, equation 1)."""
        if self.scale == 0.0:
            return value
        steps = np.rint(value / self.scale) + self.zero_point
        return np.asarray(np.clip(steps, -128, 127), dtype=np.int8)

    def dequantised(self, value: NDArray[Any]) -> NDArray[np.float32]:
        if self.scale == 0.0:
            return np.asarray(value, dtype=np.float32)
        return np.asarray((value.astype(np.float32) - self.zero_point) * np.float32(self.scale), dtype=np.float32)


class TFLiteNetwork:
    """A `device.inference.ports.Network`; not to be shared between threads."""

    def __init__(self, interpreter: Any, path: Path, inputs: Sequence[_Slot], outputs: Sequence[_Slot]) -> None:
        self._interpreter = interpreter
        self._path = path
        self._inputs = inputs
        self._outputs = outputs

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Float tensors by contract name in and out.

        Raises ValueError for tensors that are not the contract's, InferenceError for values that are not finite or
        when the runtime fails.
        """
        if set(inputs) != {slot.tensor.name for slot in self._inputs}:
            raise ValueError(f"{self._path.name}: got {sorted(inputs)}, wants {[s.tensor.name for s in self._inputs]}")
        # The fused LSTM operation keeps its state from one invoke to the next, in both runtimes.
        self._interpreter.reset_all_variables()
        for slot in self._inputs:
            value = np.asarray(inputs[slot.tensor.name], dtype=np.float32)
            if value.shape != slot.tensor.shape:
                raise ValueError(f"{self._path.name}: {slot.tensor.name} is {value.shape}, not {slot.tensor.shape}")
            if not np.isfinite(value).all():
                raise InferenceError(
                    f"{self._path.name}: input {slot.tensor.name} holds values that are not finite.",
                    next_step="Check the recording or the sensor that it came from.",
                )
            self._interpreter.set_tensor(slot.index, slot.quantised(value))
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise InferenceError(f"{self._path}: running it failed ({error}).", next_step=_NEW_BUNDLE) from error
        return {slot.tensor.name: slot.dequantised(self._interpreter.get_tensor(slot.index)) for slot in self._outputs}


def _named_tensors(interpreter: Any) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    if interpreter.get_signature_list():
        signature = interpreter.get_signature_runner()
        return signature.get_input_details(), signature.get_output_details()
    return (
        {details["name"]: details for details in interpreter.get_input_details()},
        {details["name"]: details for details in interpreter.get_output_details()},
    )


def _matched(path: Path, tensors: Sequence[Tensor], found: Mapping[str, dict[str, Any]]) -> tuple[_Slot, ...]:
    if set(found) != {tensor.name for tensor in tensors}:
        raise InferenceError(
            f"{path}: has tensors {sorted(found)}, the contract has {sorted(t.name for t in tensors)}.",
            next_step=_NEW_BUNDLE,
        )
    return tuple(_slot(path, tensor, found[tensor.name]) for tensor in tensors)


def _slot(path: Path, tensor: Tensor, details: Mapping[str, Any]) -> _Slot:
    shape = tuple(int(side) for side in details["shape"])
    if shape != tensor.shape:
        raise InferenceError(
            f"{path}: tensor {tensor.name} is {shape}, the contract has {tensor.shape}.", next_step=_NEW_BUNDLE
        )
    scale, zero_point = details["quantization"]
    kind = np.dtype(details["dtype"])
    if kind == np.float32:
        return _Slot(tensor, int(details["index"]), 0.0, 0)
    if kind != np.int8 or not scale > 0.0:
        raise InferenceError(
            f"{path}: tensor {tensor.name} is {kind} with scale {scale}, neither float32 nor quantised int8.",
            next_step=_NEW_BUNDLE,
        )
    return _Slot(tensor, int(details["index"]), float(scale), int(zero_point))
