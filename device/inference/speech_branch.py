"""Speech branch: one feature window to an embedding and calibrated log-probabilities."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.inference.constants import SpeechConstants
from device.inference.ports import BranchOutput, Network
from models.contract import CHANNELS, CONTOUR_FEATURES, WINDOW_FRAMES

_FRAMES_SHAPE: Final = (WINDOW_FRAMES, len(CHANNELS))
_CONTOURS_SHAPE: Final = (len(CONTOUR_FEATURES),)


def normalise_frames(frames: NDArray[np.float32], constants: SpeechConstants) -> NDArray[np.float32]:
    """(x - mean) / scale per channel by the training set's numbers, cut to ±limit; any shape (..., 34)."""
    return _normalise(frames, constants.channel_mean, constants.channel_scale, constants.limit)


def normalise_contours(contours: NDArray[np.float32], constants: SpeechConstants) -> NDArray[np.float32]:
    """As `normalise_frames`, for contour features of any shape (..., 14)."""
    return _normalise(contours, constants.contour_mean, constants.contour_scale, constants.limit)


def _normalise(
    values: NDArray[np.float32], mean: tuple[float, ...], scale: tuple[float, ...], limit: float
) -> NDArray[np.float32]:
    scaled = (values - np.asarray(mean, np.float32)) / np.asarray(scale, np.float32)
    return np.asarray(np.clip(scaled, -limit, limit), np.float32)


def log_softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Natural logarithms of the softmax of logits / temperature over the last axis, in float64 inside."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True)), np.float32)


class SpeechBranch:
    """Runs the speech network on raw feature windows."""

    def __init__(self, network: Network, constants: SpeechConstants) -> None:
        self._network = network
        self._constants = constants

    def run(self, frames: NDArray[np.float32], contours: NDArray[np.float32]) -> BranchOutput:
        """`frames` (512, 34) and `contours` (14,) as `device.features` gives them, not normalised."""
        assert frames.shape == _FRAMES_SHAPE and contours.shape == _CONTOURS_SHAPE, (frames.shape, contours.shape)
        outputs = self._network.run(
            {
                "frames": normalise_frames(frames, self._constants)[np.newaxis],
                "contours": normalise_contours(contours, self._constants)[np.newaxis],
            }
        )
        return BranchOutput(
            embedding=outputs["embedding"][0],
            log_probabilities=log_softmax(outputs["logits"][0], self._constants.temperature),
        )
