"""Both runtimes, each on small networks made here by the product's own conversion."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from device.config import RuntimeName
from device.errors import InferenceError
from device.inference.tflite import TFLiteRuntime
from models.contract import NetworkContract, Tensor
from tools.training import convert

#: Names that stand in another order by the alphabet than by the contract, as an order that is guessed would show.
SMALL = NetworkContract(
    "small.tflite",
    inputs=(Tensor("sequence", (1, 6, 3)), Tensor("extra", (1, 4))),
    outputs=(Tensor("score", (1, 2)), Tensor("again", (1, 5))),
)
RUNTIMES: tuple[RuntimeName, ...] = get_args(RuntimeName)
Inputs = dict[str, NDArray[np.float32]]


def _network() -> tf.keras.Model:
    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    sequence = tf.keras.Input((6, 3), name="sequence")
    extra = tf.keras.Input((4,), name="extra")
    x = layers.Add()([layers.Dense(8)(layers.LSTM(16)(sequence)), layers.Dense(8, activation="relu")(extra)])
    return tf.keras.Model([sequence, extra], [layers.Dense(2, name="score")(x), layers.Dense(5, name="again")(x)])


def _some(count: int, seed: int) -> list[Inputs]:
    random = np.random.default_rng(seed)
    return [{t.name: random.normal(size=t.shape).astype(np.float32) for t in SMALL.inputs} for _ in range(count)]


@pytest.fixture(scope="module")
def network() -> tf.keras.Model:
    return _network()


@pytest.fixture(scope="module")
def folder(network: tf.keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    (folder / "int8.tflite").write_bytes(convert.to_int8(network, SMALL, _some(60, 0)))
    (folder / "float32.tflite").write_bytes(convert.to_float32(network, SMALL))
    return folder


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> TFLiteRuntime:
    return TFLiteRuntime(request.param)


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-5), ("int8", 0.1)])
def test_both_runtimes_answer_as_keras_does(
    runtime: TFLiteRuntime, network: tf.keras.Model, folder: Path, kind: str, tolerance: float
) -> None:
    loaded = runtime.load(folder / f"{kind}.tflite", SMALL)
    for inputs in _some(10, 1):
        outputs = loaded.run(inputs)
        expected = network([inputs["sequence"], inputs["extra"]])
        for tensor, value in zip(SMALL.outputs, expected, strict=True):
            assert outputs[tensor.name].dtype == np.float32
            assert np.abs(outputs[tensor.name] - value.numpy()).max() < tolerance


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_no_state_leaks_from_one_run_to_the_next(runtime: TFLiteRuntime, folder: Path, kind: str) -> None:
    loaded = runtime.load(folder / f"{kind}.tflite", SMALL)
    first, other = _some(2, 2)
    alone = loaded.run(first)
    loaded.run({name: 3 * value for name, value in other.items()})
    after = loaded.run(first)
    for name, value in alone.items():
        assert np.array_equal(value, after[name])


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_the_lstm_does_leak_when_it_is_not_reset(runtime: TFLiteRuntime, folder: Path, kind: str) -> None:
    """Shows that the test above can fail: it is the reset that keeps runs apart."""
    loaded = runtime.load(folder / f"{kind}.tflite", SMALL)
    first, other = _some(2, 2)
    alone = loaded.run(first)
    loaded._interpreter.reset_all_variables = lambda: None
    loaded.run({name: 3 * value for name, value in other.items()})
    assert not np.array_equal(alone["score"], loaded.run(first)["score"])


def test_values_beyond_the_quantised_range_saturate_instead_of_wrapping(runtime: TFLiteRuntime, folder: Path) -> None:
    loaded = runtime.load(folder / "int8.tflite", SMALL)
    (inputs,) = _some(1, 3)
    far, farther = ({name: np.full_like(v, scale) for name, v in inputs.items()} for scale in (1e3, 1e30))
    assert np.array_equal(loaded.run(far)["score"], loaded.run(farther)["score"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(runtime: TFLiteRuntime, folder: Path, value: float) -> None:
    loaded = runtime.load(folder / "int8.tflite", SMALL)
    (inputs,) = _some(1, 4)
    before = loaded.run(inputs)
    with pytest.raises(InferenceError, match="extra holds values that are not finite"):
        loaded.run(inputs | {"extra": np.full((1, 4), value, np.float32)})
    assert np.array_equal(loaded.run(inputs)["again"], before["again"])


def test_tensors_that_are_not_the_contracts_are_the_callers_fault(runtime: TFLiteRuntime, folder: Path) -> None:
    loaded = runtime.load(folder / "int8.tflite", SMALL)
    (inputs,) = _some(1, 5)
    with pytest.raises(ValueError, match="wants"):
        loaded.run({"extra": inputs["extra"]})
    with pytest.raises(ValueError, match=r"\(4,\), not \(1, 4\)"):
        loaded.run(inputs | {"extra": inputs["extra"][0]})


def _contract(*outputs: Tensor) -> NetworkContract:
    return NetworkContract(SMALL.file, SMALL.inputs, outputs)


@pytest.mark.parametrize(
    ("contract", "complaint"),
    [
        (_contract(Tensor("score", (1, 2))), "has tensors"),
        (_contract(Tensor("score", (1, 2)), Tensor("another", (1, 5))), "another"),
        (_contract(Tensor("score", (1, 3)), Tensor("again", (1, 5))), r"score is \(1, 2\), the contract has \(1, 3\)"),
    ],
    ids=["a tensor too many", "a tensor of another name", "a tensor of another shape"],
)
def test_a_file_of_another_contract_is_refused(
    runtime: TFLiteRuntime, folder: Path, contract: NetworkContract, complaint: str
) -> None:
    with pytest.raises(InferenceError, match=complaint) as refused:
        runtime.load(folder / "int8.tflite", contract)
    assert str(folder / "int8.tflite") in str(refused.value)
    assert refused.value.next_step


@pytest.mark.parametrize("content", [None, b"", b"not a network at all", b"\x1c\0\0\0TFL3" + bytes(200)])
def test_a_missing_or_foreign_file_is_refused_by_name(
    runtime: TFLiteRuntime, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "face.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InferenceError, match=r"face\.tflite"):
        runtime.load(path, SMALL)


@pytest.mark.parametrize(
    ("name", "module"), [("tflite-runtime", "tflite_runtime.interpreter"), ("litert", "ai_edge_litert.interpreter")]
)
def test_a_runtime_that_is_not_installed_is_said_and_not_replaced(
    monkeypatch: pytest.MonkeyPatch, name: RuntimeName, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InferenceError, match=f"Runtime {name} cannot be imported") as refused:
        TFLiteRuntime(name)
    assert "inference.runtime" in refused.value.next_step


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(InferenceError, match="'torch' is unknown"):
        TFLiteRuntime("torch")  # type: ignore[arg-type]
