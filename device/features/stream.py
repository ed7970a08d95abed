"""Samples in, feature frames out: 34 channels every 10 ms, the same bits for training and for the box."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from device.errors import CaptureError, CaptureReason
from device.features import mel, prosody
from device.features.frame import Floats, frame_count, windowed
from device.features.resample import Doubler
from models.contract import CHANNELS, FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE_HZ

#: Sample rates that can be pushed; anything else is the source's to convert.
ACCEPTED_RATES_HZ: Final = (8_000, SAMPLE_RATE_HZ)
#: Channels whose slopes are channels too; F0, the last, by a rule of its own.
_SLOPED: Final = [CHANNELS.index(name.removeprefix("delta_")) for name in CHANNELS if name.startswith("delta_")]
#: 16 kHz samples kept from before a frame, for its pitch.
_HISTORY: Final = prosody.PITCH_REACH - FRAME_SAMPLES
#: Frames computed at once. More, and sums over a block could leave the whole numbers that float64 holds exactly.
_BLOCK_FRAMES: Final = 256


class FeatureStream:
    """Turns a row of samples into feature frames, whatever the size of the pieces it comes in.

    Frame k covers samples 160·k to 160·k + 399 at 16 kHz and is given out as soon as the last of them is in. Nothing
    looks ahead and nothing is normalised by what was heard before: the level of a voice stays visible.
    """

    def __init__(self, sample_rate_hz: int = SAMPLE_RATE_HZ) -> None:
        """Raise `CaptureError` (wrong format) for a rate that is not in `ACCEPTED_RATES_HZ`."""
        if sample_rate_hz not in ACCEPTED_RATES_HZ:
            raise CaptureError(
                CaptureReason.WRONG_FORMAT,
                f"Sound at {sample_rate_hz} Hz cannot be analysed.",
                next_step="Give mono 16-bit sound at 16000 or 8000 Hz.",
            )
        self._sample_rate_hz = sample_rate_hz
        self.reset()

    def reset(self) -> None:
        """Forget all sound: the next push starts a new recording."""
        self._doubler = Doubler() if self._sample_rate_hz != SAMPLE_RATE_HZ else None
        self._samples = np.zeros(_HISTORY, np.int16)
        self._shape: Floats | None = None
        self._sloped: Floats | None = None

    def push(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
        """Take samples (n,) int16, mono, n ≥ 0; return the frames that they complete, float32 (k, 34), k ≥ 0.

        Channels stand in the order of `models.contract.CHANNELS`; formulas in docs/features.md. Raise `CaptureError`
        (wrong format) for anything but a one-dimensional int16 array.
        """
        samples = _checked(samples)
        if self._doubler is not None:
            samples = self._doubler.push(samples)
        self._samples = np.concatenate((self._samples, samples))
        count = frame_count(len(self._samples) - _HISTORY)
        frames = np.empty((count, len(CHANNELS)), np.float32)
        for first in range(0, count, _BLOCK_FRAMES):
            size = min(_BLOCK_FRAMES, count - first)
            start = first * HOP_SAMPLES
            end = start + _HISTORY + (size - 1) * HOP_SAMPLES + FRAME_SAMPLES
            frames[first : first + size] = self._block(self._samples[start:end].astype(np.float64), size)
        if count:
            self._samples = self._samples[count * HOP_SAMPLES :].copy()
        return frames

    def _block(self, samples: Floats, count: int) -> Floats:
        """Compute `count` frames from the history before the first and the samples up to the end of the last."""
        bands = mel.band_energies(windowed(samples[_HISTORY - mel.PADDING :], mel.FFT_SIZE, HOP_SAMPLES, count))
        columns = np.empty((count, len(CHANNELS)))
        columns[:, : mel.CEPSTRA] = mel.cepstrum(bands)
        at = mel.CEPSTRA
        now = samples[_HISTORY:]
        columns[:, at] = prosody.log_energy(now, count)
        columns[:, at + 1] = prosody.zero_crossing_rate(now, count)
        columns[:, at + 2] = prosody.waveform_peak(now, count)
        columns[:, at + 3], columns[:, at + 4] = prosody.pitch(samples, count)
        columns[:, at + 5] = self._flux(bands)
        columns[:, at + 6 : -1], columns[:, -1] = self._slopes(columns)
        return columns

    def _flux(self, bands: Floats) -> Floats:
        shapes = prosody.spectral_shape(bands)
        before = shapes[:1] if self._shape is None else self._shape
        self._shape = shapes[-1:].copy()
        return prosody.spectral_flux(np.concatenate((before, shapes)))

    def _slopes(self, columns: Floats) -> tuple[Floats, Floats]:
        sloped = np.take(columns, _SLOPED, axis=1)
        if self._sloped is None:
            self._sloped = np.repeat(sloped[:1], prosody.SLOPE_FRAMES - 1, axis=0)
        line = np.concatenate((self._sloped, sloped))
        self._sloped = line[-(prosody.SLOPE_FRAMES - 1) :].copy()
        return prosody.slopes(line[:, :-1]), prosody.voiced_slopes(line[:, -1])


def frames_of(samples: npt.NDArray[np.int16], sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Feature frames, float32 (k, 34), of a whole recording (n,) int16: one push into a fresh `FeatureStream`.

    The same errors as `FeatureStream`; a recording shorter than one frame (25 ms) gives no frames.
    """
    return FeatureStream(sample_rate_hz).push(samples)


def _checked(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    if isinstance(samples, np.ndarray) and samples.dtype == np.int16 and samples.ndim == 1:
        return samples
    kind = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
    raise CaptureError(
        CaptureReason.WRONG_FORMAT,
        f"Samples must be a one-dimensional int16 array, not {kind}.",
        next_step="Convert the sound to mono 16-bit PCM before it is analysed.",
    )
