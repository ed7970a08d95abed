"""From a found face to what its expression says: crop, sharpness, network, log-probabilities."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.frames import VideoFrame
from device.inference.constants import FaceConstants
from device.inference.ports import BranchOutput, FaceBox, Network
from device.inference.resample import resample, weights
from device.inference.speech_branch import log_softmax
from models.contract import FACE, FACE_SIDE_PIXELS

#: The network learned from pictures of 48 pixels a side; a crop is brought to that detail before it is enlarged.
DETAIL_PIXELS: Final = 48
#: FER+ frames a face wider than BlazeFace does: side of the crop in sides of the box, and how far the crop's middle
#: stands above the box's, in the same unit. Medians over 1,000 of FER+'s training pictures.
MARGIN: Final = 1.16
RISE: Final = 0.086
#: Variance of the Laplacian of FER+'s median training picture, in squared grey levels.
SHARPNESS_MEDIAN: Final = 400.0
#: Weights of red, green and blue (ITU-R BT.601).
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def crop_of(frame: VideoFrame, box: FaceBox) -> NDArray[np.float32]:
    """The face as the network wants it: grey 0..255, float32 (64, 64), framed as FER+ frames faces.

    Beyond the picture's edge its last pixels repeat.
    """
    side = MARGIN * max(box.right - box.left, box.bottom - box.top)
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2 - RISE * side / MARGIN
    return _square(frame, x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def crop_of_whole(frame: VideoFrame) -> NDArray[np.float32]:
    """As `crop_of`, for a picture that is a face crop already, such as FER's 48 × 48."""
    height, width = frame.pixels.shape[:2]
    return _square(frame, 0, 0, width, height)


def _square(frame: VideoFrame, left: float, top: float, right: float, bottom: float) -> NDArray[np.float32]:
    pixels = frame.pixels.astype(np.float32)
    small = resample(pixels, left, top, right, bottom, DETAIL_PIXELS, DETAIL_PIXELS)
    grey = small @ _LUMA if small.ndim == 3 else small
    enlarge = weights(DETAIL_PIXELS, 0, DETAIL_PIXELS, FACE_SIDE_PIXELS)
    return np.asarray(enlarge @ grey @ enlarge.T, dtype=np.float32)


def sharpness(crop: NDArray[np.float32]) -> float:
    """How sharp a crop is, 0..1: v / (v + median), so that FER+'s median training picture has 0.5.

    v is the variance of the Laplacian (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy").
    """
    laplacian = crop[:-2, 1:-1] + crop[2:, 1:-1] + crop[1:-1, :-2] + crop[1:-1, 2:] - 4.0 * crop[1:-1, 1:-1]
    variance = float(laplacian.var())
    return variance / (variance + SHARPNESS_MEDIAN)


class FaceBranch:
    """The face network with its constants."""

    def __init__(self, network: Network, constants: FaceConstants) -> None:
        self._network = network
        self._constants = constants

    def run(self, crop: NDArray[np.float32]) -> BranchOutput:
        """Evidence of one crop, grey 0..255, (64, 64). Raises InferenceError for values that are not finite."""
        constants = self._constants
        (tensor,) = FACE.inputs
        outputs = self._network.run({tensor.name: ((crop - constants.mean) / constants.scale).reshape(tensor.shape)})
        return BranchOutput(
            embedding=outputs["embedding"][0],
            log_probabilities=log_softmax(outputs["logits"][0], constants.temperature),
        )
