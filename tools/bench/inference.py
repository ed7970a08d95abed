"""Networks of the bundle: int8 as shipped against the same network in float32, and the share of the int8 roofline.

The roofline is this machine's, in this run: the best rate of a few large int8 convolutions in the same runtime. The
float32 twins are built from the same network definitions with fresh weights, since speed does not depend on them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.inference.ports import Network, Runtime
from device.inference.tflite import TFLiteRuntime
from models.contract import NETWORKS, NetworkContract, Tensor
from models.networks import face, fusion, speech
from models.networks.macs import multiply_accumulates
from tools.bench.measurement import Measurement, median_seconds

BUNDLE: Final = Path(__file__).resolve().parents[2] / "models" / "bundle"
#: Side, channels and kernel of the convolutions that stand for the peak; small enough for the caches.
PEAKS: Final = ((48, 256, 1), (24, 256, 1), (16, 128, 3), (16, 256, 3), (32, 64, 3))


def fresh_speech() -> object:
    """The speech network with fresh weights."""
    shape = speech.SpeechShape()
    widths = {name: int(group.shape[-1]) for name, group in speech.pooling(shape).output.items()}
    plain = np.zeros(sum(widths.values()), np.float32), np.ones(sum(widths.values()), np.float32)
    return speech.assemble(shape, speech.sequence_classifier(shape), speech.readout(shape, widths), *plain)


BUILDERS: Final[dict[str, Callable[[], object]]] = {"speech": fresh_speech, "face": face.build, "fusion": fusion.build}


def random_inputs(contract: NetworkContract) -> dict[str, NDArray[np.float32]]:
    """Standard normal inputs of the contract's shapes, the same at each call."""
    draw = np.random.default_rng(0)
    return {tensor.name: draw.standard_normal(tensor.shape).astype(np.float32) for tensor in contract.inputs}


def peak_rate(runtime: Runtime, folder: Path) -> float:
    """Best multiply-accumulates a second of the large int8 convolutions in `PEAKS`, on one thread."""
    return max(_convolution_rate(runtime, folder, *peak) for peak in PEAKS)


def _convolution_rate(runtime: Runtime, folder: Path, side: int, channels: int, kernel: int) -> float:
    import tensorflow as tf

    from tools.training.convert import to_int8

    shape = (1, side, side, channels)
    contract = NetworkContract(f"peak-{side}-{channels}-{kernel}.tflite", (Tensor("x", shape),), (Tensor("y", shape),))
    path = folder / contract.file
    if not path.exists():
        inputs = tf.keras.Input(shape[1:], name="x")
        convolution = tf.keras.layers.Conv2D(channels, kernel, padding="same", name="y")
        path.write_bytes(to_int8(tf.keras.Model(inputs, convolution(inputs)), contract, [random_inputs(contract)] * 4))
    seconds = invoke_seconds(runtime.load(path, contract), contract)
    return (side * channels * kernel) ** 2 / seconds


def invoke_seconds(network: Network, contract: NetworkContract) -> float:
    """Median seconds of one run on the runtime's threads, quantisation of inputs and outputs included."""
    inputs = random_inputs(contract)
    return median_seconds(lambda: network.run(inputs), repetitions=60, warm_up=5)


def measure() -> list[Measurement]:
    """Each network in the runtime that ships, one thread."""
    from tools.training.convert import to_float32

    results: list[Measurement] = []
    runtimes = [TFLiteRuntime("tflite-runtime", threads=1), TFLiteRuntime("litert", threads=1)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        twins = {}
        for key, contract in NETWORKS.items():
            network = BUILDERS[key]()
            twins[key] = (folder / contract.file, multiply_accumulates(network))
            twins[key][0].write_bytes(to_float32(network, contract))
        for runtime in runtimes:
            peak = peak_rate(runtime, folder)
            results.append(
                Measurement(name=f"int8 peak, {runtime.name}", value=peak / 1e9, unit="GMAC/s", peer="roofline")
            )
            for key, contract in NETWORKS.items():
                path, macs = twins[key]
                int8_s = invoke_seconds(runtime.load(BUNDLE / contract.file, contract), contract)
                float_s = invoke_seconds(runtime.load(path, contract), contract)
                results += _rows(f"{key}, {runtime.name}", int8_s, float_s, macs / int8_s / peak)
    return results


def _rows(name: str, int8_s: float, float_s: float, share: float) -> list[Measurement]:
    return [
        Measurement(
            name=f"{name}: int8",
            value=int8_s * 1e3,
            unit="ms",
            peer="float32 twin",
            peer_value=float_s * 1e3,
            ratio=float_s / int8_s,
            goal="int8 not slower (ratio at least 1)",
            met=float_s >= int8_s,
        ),
        Measurement(
            name=f"{name}: share of the int8 roofline",
            value=share * 100,
            unit="%",
            peer="best large int8 convolution",
            peer_value=100.0,
            ratio=share,
            goal="at least 25 %",
            met=share >= 0.25,
        ),
    ]
