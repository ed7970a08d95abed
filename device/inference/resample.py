"""Cuts a rectangle out of a picture and brings it to another size, without aliasing; pure numpy.

Triangle filter, widened by the reduction factor (Pillow's BILINEAR; Heckbert 1989, "Fundamentals of Texture Mapping and
Image Warping", section 3.5): enlarging is ordinary bilinear interpolation, reducing averages all pixels that it covers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def weights(pixels: int, start: float, stop: float, outputs: int) -> NDArray[np.float32]:
    """Matrix (outputs, pixels) that samples the interval [start, stop) of a line of pixels at `outputs` places.

    Edges are in pixels, pixel i covers [i, i + 1); what lies outside the line repeats its first or last pixel.
    """
    step = (stop - start) / outputs
    radius = max(step, 1.0)
    centres = start + (np.arange(outputs) + 0.5) * step
    first = np.floor(centres - radius).astype(np.int64)
    taps = first[:, None] + np.arange(int(2 * radius) + 3)[None, :]
    triangle = np.maximum(0.0, 1.0 - np.abs(taps + 0.5 - centres[:, None]) / radius)
    triangle /= triangle.sum(axis=1, keepdims=True)
    matrix = np.zeros((outputs, pixels))
    np.add.at(matrix, (np.arange(outputs)[:, None], np.clip(taps, 0, pixels - 1)), triangle)
    return matrix.astype(np.float32)


def resample(
    picture: NDArray[np.float32], left: float, top: float, right: float, bottom: float, height: int, width: int
) -> NDArray[np.float32]:
    """The rectangle of `picture` (h, w) or (h, w, channels) as (height, width) or (height, width, channels)."""
    rows = weights(picture.shape[0], top, bottom, height)
    columns = weights(picture.shape[1], left, right, width)
    narrowed = np.tensordot(rows, picture, axes=(1, 0))
    across = np.tensordot(columns, narrowed, axes=(1, 1))
    return np.ascontiguousarray(np.swapaxes(across, 0, 1), dtype=np.float32)
