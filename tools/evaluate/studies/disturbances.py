"""What happens to test sounds and test faces in the robustness rows. Deterministic by seed; never used in training.

Sounds are float64 samples in units of int16 at 16 kHz; pictures are uint8 (n, 48, 48), disturbed before they are
enlarged for the network.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from device.features.nonlinear import contour_features
from device.inference.resample import weights
from tools.dataset.clips import Clip, read_samples
from tools.training.augment import Samples, add_babble, change_level, coloured_noise, reverberate
from tools.training.speech_windows import Windows, test_windows

Pictures = NDArray[np.uint8]
SIDE: Final = 48
#: Energy of the diffuse tail over that of the direct sound: equal, and 6 dB more for a microphone across a room.
WET: Final = 1.0
FAR_WET: Final = 2.0
FAR_RT60_S: Final = 0.6
FAR_LEVEL_DB: Final = -18.0
FAR_SNR_DB: Final = 15.0
#: Standard deviation of a camera's read noise, and shot noise at full scale, in grey levels.
READ_NOISE: Final = 3.0
SHOT_NOISE: Final = 8.0


def add_pink(samples: Samples, generator: np.random.Generator, *, snr_db: float) -> Samples:
    """Pink noise at a ratio to the clip's mean power."""
    level = float(np.sqrt(np.mean(samples**2))) * float(10 ** (-snr_db / 20))
    return samples + level * coloured_noise(len(samples), 1.0, generator)


def _babble(samples: Samples, generator: np.random.Generator, *, snr_db: float) -> Samples:
    return add_babble(samples, snr_db, generator)


def _room(samples: Samples, generator: np.random.Generator, *, rt60_s: float) -> Samples:
    return reverberate(samples, rt60_s, WET, generator)


def _far(samples: Samples, generator: np.random.Generator) -> Samples:
    """Reverberation, then -18 dB, then noise of the microphone and the room."""
    heard = change_level(reverberate(samples, FAR_RT60_S, FAR_WET, generator), FAR_LEVEL_DB)
    return add_pink(heard, generator, snr_db=FAR_SNR_DB)


CLEAN: Final = "clean"
SOUNDS: Final[dict[str, Callable[[Samples, np.random.Generator], Samples]]] = {
    **{f"noise {snr} dB": partial(add_pink, snr_db=snr) for snr in (20, 10, 5, 0)},
    "babble 10 dB": partial(_babble, snr_db=10),
    "reverberation 0.4 s": partial(_room, rt60_s=0.4),
    "reverberation 0.8 s": partial(_room, rt60_s=0.8),
    "far microphone": _far,
}
SOUND_NOTES: Final[dict[str, str]] = {
    **{f"noise {snr} dB": "Pink noise." for snr in (20, 10, 5, 0)},
    "babble 10 dB": "Five voices made of the clip itself.",
    "reverberation 0.4 s": "Diffuse tail with the energy of the direct sound.",
    "reverberation 0.8 s": "Diffuse tail with the energy of the direct sound.",
    "far microphone": "Tail of 0.6 s, 6 dB over the direct sound, all 18 dB softer, pink noise 15 dB below.",
}


def disturbed_windows(clip: Clip, condition: str) -> Windows:
    """The two test windows of one clip under one of SOUNDS, without the clips' axis."""
    generator = np.random.default_rng(zlib.crc32(f"{condition} {clip.name}".encode()))
    changed = SOUNDS[condition](read_samples(clip).astype(np.float64), generator)
    windows = test_windows(np.clip(np.rint(changed), -32768, 32767).astype(np.int16))
    return Windows(np.array(windows, np.float16), np.array([contour_features(w) for w in windows], np.float32))


def _low_light(pictures: Pictures, generator: np.random.Generator, *, gain: float) -> Pictures:
    """Less light on the same sensor: the picture darkens, its noise stays."""
    dark = pictures.astype(np.float64) * gain
    deviation = np.sqrt(READ_NOISE**2 + SHOT_NOISE**2 * dark / 255)
    return _grey(dark + deviation * generator.standard_normal(pictures.shape))


def _blurred(pictures: Pictures, generator: np.random.Generator, *, sigma: float) -> Pictures:
    return _grey(ndimage.gaussian_filter(pictures.astype(np.float64), (0, sigma, sigma), mode="nearest"))


def _covered(pictures: Pictures, generator: np.random.Generator, *, first: int, last: int) -> Pictures:
    """Rows `first` to `last` under something of one grey, another one for each picture."""
    changed = pictures.copy()
    changed[:, first:last] = generator.integers(30, 226, (len(pictures), 1, 1), dtype=np.uint8)
    return changed


def _rotated(pictures: Pictures, generator: np.random.Generator, *, degrees: float) -> Pictures:
    """Half of the pictures one way and half the other way, at random; edges repeat."""
    changed = pictures.astype(np.float64)
    left = generator.random(len(pictures)) < 0.5
    for side, angle in ((left, degrees), (~left, -degrees)):
        if side.any():
            changed[side] = ndimage.rotate(changed[side], angle, (2, 1), reshape=False, order=1, mode="nearest")
    return _grey(changed)


def _far_face(pictures: Pictures, generator: np.random.Generator, *, width: int) -> Pictures:
    """As if the face had been so many pixels wide, by the box's own resampling."""
    there, back = weights(SIDE, 0, SIDE, width), weights(width, 0, width, SIDE)
    small = np.rint(there @ pictures.astype(np.float32) @ there.T)
    return _grey(back @ small @ back.T)


def _grey(values: NDArray[np.float64] | NDArray[np.float32]) -> Pictures:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _as_it_is(pictures: Pictures, generator: np.random.Generator) -> Pictures:
    return pictures


FACES: Final[dict[str, Callable[[Pictures, np.random.Generator], Pictures]]] = {
    CLEAN: _as_it_is,
    "low light 1/4": partial(_low_light, gain=1 / 4),
    "low light 1/10": partial(_low_light, gain=1 / 10),
    "blur 1 pixel": partial(_blurred, sigma=1.0),
    "blur 2 pixels": partial(_blurred, sigma=2.0),
    "lower face covered": partial(_covered, first=28, last=SIDE),
    "upper face covered": partial(_covered, first=0, last=22),
    "rotated 15 degrees": partial(_rotated, degrees=15.0),
    "rotated 30 degrees": partial(_rotated, degrees=30.0),
    "24 pixels wide": partial(_far_face, width=24),
    "16 pixels wide": partial(_far_face, width=16),
}


def disturbed_faces(pictures: Pictures, condition: str, seed: int) -> Pictures:
    """Pictures (n, 48, 48) under one of FACES."""
    return FACES[condition](pictures, np.random.default_rng([seed, zlib.crc32(condition.encode())]))
