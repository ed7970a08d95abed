"""From the trained face network to what the bundle needs: `python -m tools.training.face_release --data FOLDER`.

Converts final.keras to int8 with pictures of the training part, fits the temperature on the held-out part, and measures
float32 and int8 once on the test part (FER+'s own `valid`). The int8 figures come from the runtime that ships.
Leaves face.tflite, face_float32.tflite, predictions.npz and result.json beside final.keras.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from device.inference.ports import Network
from device.inference.tflite import TFLiteRuntime
from models.contract import FACE, FACE_CLASSES
from models.networks.macs import multiply_accumulates
from tools.training import convert, ferplus, scores
from tools.training.face import BUILD, Plan, picture_weights
from tools.training.face_pictures import MEAN, SCALE, normalised, upscaled

REPRESENTATIVE: Final = 500
PROTOCOL: Final = (
    "FER2013 with FER+ votes; goes on from the face branch of bundle 0.1.0, learns from the vote shares of the train "
    "part and that branch's opinion, without duplicates of evaluation pictures, for a fixed number of epochs; "
    "temperature fitted on a held-out twentieth of it; tested once on FER+'s valid part, with contempt, unknown and "
    "not-a-face left out; nothing chosen on the test part"
)


def _inputs(pixels: NDArray[np.uint8]) -> Iterator[dict[str, NDArray[np.float32]]]:
    for picture in pixels:
        yield {FACE.inputs[0].name: normalised(upscaled(picture[None]))}


def logits_of(network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (n, 7) of FER pictures (n, 48, 48)."""
    return np.concatenate([network.run(inputs)["logits"] for inputs in tqdm(_inputs(pixels), total=len(pixels))])


def measured(logits: Mapping[str, NDArray[np.float32]], votes: NDArray[np.uint8], temperature: float) -> dict[str, Any]:
    """Figures on the test part, for each of the networks `float32` and `int8`, by majority and by plurality."""
    report: dict[str, Any] = {}
    for rule, labels in (("majority", ferplus.majority(votes)), ("plurality", ferplus.plurality(votes))):
        known = labels >= 0
        for name, values in logits.items():
            report[f"{rule}_{name}"] = _against(values[known], labels[known], temperature)
    predicted = {name: values.argmax(axis=1) for name, values in logits.items()}
    report["same_label_int8_float32"] = asdict(scores.accuracy(predicted["int8"], predicted["float32"]))
    return report


def _against(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> dict[str, Any]:
    predicted = logits.argmax(axis=1)
    return {
        "of": len(labels),
        "accuracy": asdict(scores.accuracy(predicted, labels)),
        "macro_recall": asdict(scores.macro_recall(predicted, labels)),
        "recall": {
            str(emotion): asdict(scores.accuracy(predicted[labels == i], labels[labels == i]))
            for i, emotion in enumerate(FACE_CLASSES)
            if (labels == i).any()
        },
        "confusion": scores.confusion(predicted, labels, len(FACE_CLASSES)).tolist(),
        "calibration_error": scores.calibration_error(logits, labels, temperature),
    }


def _converted(network: tf.keras.Model, pixels: NDArray[np.uint8], folder: Path) -> dict[str, Path]:
    chosen = np.random.default_rng(0).choice(len(pixels), min(REPRESENTATIVE, len(pixels)), replace=False)
    files = {"int8": folder / FACE.file, "float32": folder / "face_float32.tflite"}
    files["int8"].write_bytes(convert.to_int8(network, FACE, _inputs(pixels[chosen])))
    files["float32"].write_bytes(convert.to_float32(network, FACE))
    return files


def release(data: Path, folder: Path) -> dict[str, Any]:
    """Convert, calibrate, measure; returns what stands in result.json."""
    pictures = ferplus.load(data)
    plan = Plan(**json.loads((folder / "plan.json").read_text()))
    network = tf.keras.models.load_model(folder / "final.keras", compile=False)
    shares, kept = ferplus.targets(pictures.training.votes)
    files = _converted(network, pictures.training.pixels[kept], folder)
    networks = {name: TFLiteRuntime().load(path, FACE) for name, path in files.items()}

    labels = ferplus.majority(pictures.held_out.votes)
    known = labels >= 0
    watched = logits_of(networks["int8"], pictures.held_out.pixels[known])
    temperature = scores.fit_temperature(watched, labels[known])
    logits = {name: logits_of(runnable, pictures.test.pixels) for name, runnable in networks.items()}
    np.savez(folder / "predictions.npz", votes=pictures.test.votes, **logits)
    result = {
        "weights": "final.keras",
        "int8": FACE.file,
        "int8_sha256": hashlib.sha256(files["int8"].read_bytes()).hexdigest(),
        "bytes": {name: path.stat().st_size for name, path in files.items()},
        "mean": MEAN,
        "scale": SCALE,
        "temperature": temperature,
        "prior": np.average(shares[kept], axis=0, weights=picture_weights(shares[kept], plan)).tolist(),
        "multiply_accumulates": multiply_accumulates(network),
        "parameters": int(network.count_params()),
        "data_sha256": pictures.digest,
        "pictures": {"training": int(kept.sum()), "held_out": len(labels), "test": len(pictures.test)},
        "protocol": PROTOCOL,
        "plan": asdict(plan),
        "held_out": _against(watched, labels[known], temperature),
        "test": measured(logits, pictures.test.votes, temperature),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.training.face_release", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ferplus/ferplus.npz")
    parser.add_argument("--build", type=Path, default=BUILD, help="where final.keras stands")
    chosen = parser.parse_args(arguments)
    test = release(chosen.data, chosen.build)["test"]
    for name in ("majority_float32", "majority_int8", "plurality_float32", "plurality_int8"):
        print(f"{name}: {scores.Figure(**test[name]['accuracy'])} of {test[name]['of']}")
    print(f"same label, int8 and float32: {scores.Figure(**test['same_label_int8_float32'])}")


if __name__ == "__main__":
    main()
