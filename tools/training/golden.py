"""Golden vectors: inputs with the outputs that the shipped runtime gives, to be run again at every load.

Nobody's face stands in them: the face network's pictures are synthetic. The speech windows are of EMO-DB (CC0-1.0).
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.speech_branch import normalise_contours, normalise_frames
from device.inference.tflite import TFLiteRuntime
from models.contract import FACE_SIDE_PIXELS, NETWORKS, NetworkContract
from tools.dataset.corpora import emodb
from tools.training.episodes import Episodes
from tools.training.speech_release import SpeechRelease

#: Steps of the int8 output by which another kernel of the same operation may be off.
STEPS: Final = 4
CASES: Final = 3

Arrays = dict[str, NDArray[np.float32]]


def speech_cases(speech: SpeechRelease) -> Arrays:
    """Clean windows of the first clip of three speakers of EMO-DB."""
    corpus = speech.voices.corpora[emodb.KEY]
    speakers = corpus.speakers.tolist()
    rows = [speakers.index(name) for name in sorted(set(speakers))[:CASES]]
    frames = corpus.clean.frames[rows, 0].astype(np.float32)
    return {
        "frames": _short(normalise_frames(frames, speech.constants)),
        "contours": _short(normalise_contours(corpus.clean.contours[rows, 0], speech.constants)),
    }


def face_cases(seed: int) -> Arrays:
    """Smooth random pictures, within the range of normalised crops."""
    generator = np.random.default_rng(seed)
    coarse = tf.constant(generator.uniform(-1.8, 1.8, (CASES, 8, 8, 1)).astype(np.float32))
    pictures = tf.image.resize(coarse, (FACE_SIDE_PIXELS, FACE_SIDE_PIXELS), "bicubic").numpy()
    return {"crop": _short(np.clip(pictures, -2, 2))}


def fusion_cases(episodes: Episodes) -> Arrays:
    """Episodes as they are: some with a sense absent."""
    return {
        "speech_embeddings": _short(episodes.speech_embeddings),
        "face_embeddings": _short(episodes.face_embeddings),
        "evidence": _short(episodes.evidence),
    }


def vectors(file: Path, contract: NetworkContract, inputs: Arrays) -> tuple[bytes, dict[str, float]]:
    """The npz of inputs and outputs of the int8 network in `file`, and the tolerance of each output."""
    network = TFLiteRuntime("tflite-runtime").load(file, contract)
    cases = len(next(iter(inputs.values())))
    results = [network.run({name: values[case : case + 1] for name, values in inputs.items()}) for case in range(cases)]
    outputs = {t.name: np.concatenate([result[t.name] for result in results]) for t in contract.outputs}
    content = io.BytesIO()
    stored = {name: values.astype(np.float16) for name, values in inputs.items()} | outputs
    np.savez_compressed(content, **stored)
    return content.getvalue(), {name: _rounded_up(STEPS * step) for name, step in _output_steps(file).items()}


def _rounded_up(tolerance: float) -> float:
    """To six digits, never down: an answer that is off by the allowed steps exactly is allowed."""
    return round(math.ceil(tolerance * 1e6) / 1e6 + 1e-6, 6)


def _output_steps(file: Path) -> dict[str, float]:
    """Size of one int8 step of every output, by the name in the file's signature."""
    interpreter = tf.lite.Interpreter(str(file))
    runner = interpreter.get_signature_runner()
    details = runner.get_output_details()
    assert set(details) <= {t.name for c in NETWORKS.values() for t in c.outputs}
    return {name: float(detail["quantization"][0]) for name, detail in details.items()}


def _short(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to what float16 keeps, which is what is stored."""
    return values.astype(np.float16).astype(np.float32)
