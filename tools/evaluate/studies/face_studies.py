"""The face branch on FER+ valid: as it is, int8 beside float32, and disturbed."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.inference.speech_branch import log_softmax
from device.inference.tflite import TFLiteRuntime
from models.contract import FACE, FACE_CLASSES
from tools.evaluate.predictions import Row
from tools.evaluate.studies import disturbances
from tools.evaluate.studies.disturbances import FACES, disturbed_faces
from tools.evaluate.studies.pieces import Made, Piece, Study, file_mark, names
from tools.evaluate.studies.shelf import FACE_FIRST, RESULT, Shelf
from tools.training import face_pictures, face_release, ferplus

NOTE: Final = "Temperature fitted on a held-out twentieth of the training part."


def rows_of(
    int8: NDArray[np.float32], float32: NDArray[np.float32], votes: NDArray[np.uint8], temperature: float, seed: int
) -> list[Row]:
    """Both rows of the int8 network's logits (n, 7): against the majority of the votes, and beside float32."""
    labels = ferplus.majority(votes)
    known = labels >= 0
    scores, other = log_softmax(int8[known], temperature), log_softmax(float32[known], temperature)
    return [
        Row(
            name="face branch",
            system="face",
            protocol=protocol,
            classes=names(FACE_CLASSES),
            scores=scores,
            labels=labels[known],
            seed=seed,
            note=note,
            other=other,
        )
        for protocol, note in (("ferplus-valid", NOTE), ("int8", "FER+ valid, majority rule."))
    ]


def face(given: Shelf) -> Study:
    """What the face training left."""

    def make() -> Made:
        with np.load(given.face_folder / "predictions.npz") as stored:
            arrays = {name: stored[name] for name in stored.files}
        sight = given.face
        temperature, seed = sight.constants.temperature, int(sight.result["plan"]["seed"])
        return Made(rows_of(arrays["int8"], arrays["float32"], arrays["votes"], temperature, seed))

    piece = Piece("as it is", make, 0.2, file_mark(given.face_folder / RESULT, FACE_FIRST))
    return Study("face", [piece], (__file__,))


def robustness(given: Shelf) -> Study:
    """The shipped int8 file on disturbed pictures; the training seed is the only one."""

    def make(condition: str) -> Made:
        sight = given.face
        network = TFLiteRuntime("tflite-runtime").load(given.face_folder / FACE.file, FACE)
        labels = ferplus.majority(given.pictures.test.votes)
        known = labels >= 0
        pictures = disturbed_faces(given.pictures.test.pixels[known], condition, 0)
        row = Row(
            name="face branch",
            system="face",
            protocol="robustness-face",
            classes=names(FACE_CLASSES),
            scores=log_softmax(face_release.logits_of(network, pictures), sight.constants.temperature),
            labels=labels[known],
            condition=condition,
            seed=int(sight.result["plan"]["seed"]),
            note="FER+ valid, majority rule, int8; disturbed at 48 pixels, before enlarging.",
        )
        return Made([row])

    mark = file_mark(given.face_folder / RESULT, FACE_FIRST)
    pieces = [Piece(condition.replace("/", " of "), partial(make, condition), 0.2, mark) for condition in FACES]
    files = (__file__, disturbances.__file__, face_pictures.__file__)
    return Study("robustness-face", pieces, files)
