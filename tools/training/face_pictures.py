"""What happens to a face picture before the network sees it: enlarging, normalising, and distortion in training.

The distortions stand for what differs between FER+'s pictures and a box's crops: how tightly the face is framed, tilt,
light, the camera's noise, and blur.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from device.inference.resample import weights
from models.contract import FACE_SIDE_PIXELS as SIDE
from tools.training.ferplus import SIDE as STORED_SIDE

#: Grey levels 0..255 enter the network as (grey - MEAN) / SCALE: about -2..2, one int8 step per grey level.
MEAN: Final = 128.0
SCALE: Final = 64.0

TILT: Final = math.radians(15)
ZOOM: Final = 0.2
STRETCH: Final = 0.08
SHIFT: Final = 0.08


def upscaled(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey (n, 48, 48) to grey float (n, 64, 64, 1), by the box's own resampling."""
    matrix = weights(STORED_SIDE, 0, STORED_SIDE, SIDE)
    return np.asarray(matrix @ pictures.astype(np.float32) @ matrix.T)[..., None]


def normalised(grey: tf.Tensor) -> tf.Tensor:
    """(grey - MEAN) / SCALE."""
    return (grey - MEAN) / SCALE


def augment(grey: tf.Tensor) -> tf.Tensor:
    """Distort a batch: float grey 0..255 (n, 48, 48, 1) to (n, 64, 64, 1), each picture in its own way."""
    grey = _moved(grey)
    grey = _sometimes(0.3, _blurred(grey), grey)
    grey = _lit(grey)
    grey = _sometimes(0.3, grey + tf.random.normal(tf.shape(grey)) * _each(grey, 0.0, 10.0), grey)
    grey = _sometimes(0.5, _covered(grey), grey)
    return tf.clip_by_value(grey, 0.0, 255.0)


def _each(grey: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """One uniform number for each picture, (n, 1, 1, 1)."""
    return tf.random.uniform((tf.shape(grey)[0], 1, 1, 1), low, high)


def _sometimes(share: float, changed: tf.Tensor, grey: tf.Tensor) -> tf.Tensor:
    return tf.where(_each(grey, 0.0, 1.0) < share, changed, grey)


def _moved(grey: tf.Tensor) -> tf.Tensor:
    """Mirror, tilt, zoom, stretch, shift and enlarge in one interpolation; edges repeat."""
    count = tf.shape(grey)[0]

    def uniform(low: float, high: float) -> tf.Tensor:
        return tf.random.uniform((count,), low, high)

    tilt, zoom, stretch = uniform(-TILT, TILT), uniform(-ZOOM, ZOOM), uniform(-STRETCH, STRETCH)
    mirror = tf.sign(uniform(-1.0, 1.0))
    ratio = STORED_SIDE / SIDE
    across, down = tf.exp(zoom + stretch) * ratio, tf.exp(zoom - stretch) * ratio
    a, b = across * tf.cos(tilt) * mirror, -across * tf.sin(tilt)
    c, d = down * tf.sin(tilt) * mirror, down * tf.cos(tilt)
    middle, centre = (SIDE - 1) / 2, (STORED_SIDE - 1) / 2
    x = centre + STORED_SIDE * uniform(-SHIFT, SHIFT) - (a + b) * middle
    y = centre + STORED_SIDE * uniform(-SHIFT, SHIFT) - (c + d) * middle
    zero = tf.zeros((count,))
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=grey,
        transforms=tf.stack([a, b, x, c, d, y, zero, zero], axis=1),
        output_shape=tf.constant([SIDE, SIDE]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _blurred(grey: tf.Tensor) -> tf.Tensor:
    """As if the face had been 16 to 40 pixels wide."""
    side = tf.random.uniform((), 16, 41, dtype=tf.int32)
    small = tf.image.resize(grey, tf.stack([side, side]), antialias=True)
    return tf.image.resize(small, (SIDE, SIDE))


def _lit(grey: tf.Tensor) -> tf.Tensor:
    """Contrast, brightness, gamma, and light from one side."""
    gamma = tf.exp(_each(grey, -0.4, 0.4))
    grey = 255.0 * tf.pow(tf.clip_by_value(grey, 0.0, 255.0) / 255.0, gamma)
    grey = (grey - MEAN) * _each(grey, 0.6, 1.4) + MEAN + _each(grey, -40.0, 40.0)
    ramp = tf.linspace(-1.0, 1.0, SIDE)
    sideways = ramp[None, None, :, None] * _each(grey, -40.0, 40.0)
    upright = ramp[None, :, None, None] * _each(grey, -40.0, 40.0)
    return _sometimes(0.3, grey + sideways + upright, grey)


def _covered(grey: tf.Tensor) -> tf.Tensor:
    """A grey square of 8 to 22 pixels hides a part (DeVries and Taylor 2017, "Cutout")."""
    place = tf.range(SIDE, dtype=tf.float32)
    half = _each(grey, 4.0, 11.0)
    row, column = _each(grey, 0.0, float(SIDE)), _each(grey, 0.0, float(SIDE))
    inside = (tf.abs(place[None, :, None, None] - row) < half) & (tf.abs(place[None, None, :, None] - column) < half)
    return tf.where(inside, _each(grey, 0.0, 255.0), grey)
