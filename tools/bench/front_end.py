"""The feature front end against libraries doing the comparable work on the same sound in one run.

Each peer is timed beside the part of ours that does its work. librosa can compute nearly all of our channels, so it
meets the whole window; python_speech_features has cepstra, energy and slopes, so it meets our code for those;
openSMILE's eGeMAPS (per frame) is another set of about the same wealth and meets the whole window.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import librosa.feature
import numpy as np
import numpy.typing as npt
import opensmile
import python_speech_features
import soundfile
from librosa.onset import onset_strength

from device.features import mel, prosody
from device.features.frame import frame_count, windowed
from device.features.nonlinear import contour_features
from device.features.stream import FeatureStream, frames_of
from device.features.window import repeat_padded
from models.contract import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE_HZ, TICKS_PER_SECOND
from tools.bench.measurement import Measurement, faster_than

TAKE: Final = Path(__file__).resolve().parents[1] / "takes" / "anger" / "audio.wav"
WINDOW_SAMPLES: Final = 81_920  # 5.12 s
ROUNDS: Final = 15
HOPS: Final = 2_000
#: A hop may take this share of one core, contours included.
HOP_SHARE: Final = 0.02

Samples = npt.NDArray[np.int16]


def window() -> Samples:
    """5.12 s of speech, 16 kHz int16: a take, repeated to fill the window."""
    samples, rate = soundfile.read(TAKE, dtype="int16")
    assert rate == SAMPLE_RATE_HZ
    return np.resize(samples, WINDOW_SAMPLES)


def librosa_channels(sound: npt.NDArray[np.float32]) -> list[Any]:
    """What librosa has of our 34 channels: MFCC with slopes, level, crossings, F0 by YIN (no voicing), onset flux."""
    framing = {"hop_length": HOP_SAMPLES, "center": False}
    bands = librosa.feature.melspectrogram(
        y=sound, sr=SAMPLE_RATE_HZ, n_fft=512, win_length=FRAME_SAMPLES, window="hamming", n_mels=40, **framing
    )
    decibels = librosa.power_to_db(bands)
    cepstra = librosa.feature.mfcc(S=decibels, n_mfcc=20)
    return [
        cepstra,
        librosa.feature.delta(cepstra[1:7], width=5),
        librosa.feature.rms(y=sound, frame_length=FRAME_SAMPLES, **framing),
        librosa.feature.zero_crossing_rate(sound, frame_length=FRAME_SAMPLES, **framing),
        onset_strength(S=decibels, sr=SAMPLE_RATE_HZ),
        librosa.yin(sound, fmin=60, fmax=500, sr=SAMPLE_RATE_HZ, frame_length=1024, **framing),
    ]


def speech_features_channels(samples: Samples) -> list[Any]:
    """What python_speech_features has of our 34 channels: MFCC, energy in place of C0, slopes."""
    cepstra = python_speech_features.mfcc(
        samples, SAMPLE_RATE_HZ, numcep=20, nfilt=40, nfft=512, preemph=0, winfunc=np.hamming
    )
    return [cepstra, python_speech_features.delta(cepstra, 2)]


def our_cepstra(samples: Samples) -> list[Any]:
    """Our code for what `speech_features_channels` gives: MFCC, energy and their slopes."""
    line = samples.astype(np.float64)
    count = frame_count(len(line))
    padded = np.concatenate((np.zeros(mel.PADDING), line))
    cepstra = mel.cepstrum(mel.band_energies(windowed(padded, mel.FFT_SIZE, HOP_SAMPLES, count)))
    energy = prosody.log_energy(line[: (count - 1) * HOP_SAMPLES + FRAME_SAMPLES], count)
    return [prosody.slopes(cepstra), energy, prosody.slopes(energy)]


def interleaved_seconds(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, each just warmed up, in turns: a busy machine slows all alike."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            run()
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def hop_seconds(samples: Samples) -> float:
    """Median seconds to push 10 ms and get its frame, the stream warm."""
    stream, taken = FeatureStream(), []
    hops = samples[: len(samples) // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
    for number in range(HOPS):
        start = time.perf_counter()
        stream.push(hops[number % len(hops)])
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure() -> list[Measurement]:
    """One 5.12 s window against three peers, then the cost of a hop and of the contour features."""
    samples = window()
    sound = samples.astype(np.float32) / np.float32(32768)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    frames = repeat_padded(frames_of(samples, SAMPLE_RATE_HZ))
    seconds = interleaved_seconds(
        {
            "ours": lambda: frames_of(samples, SAMPLE_RATE_HZ),
            "librosa": lambda: librosa_channels(sound),
            "openSMILE": lambda: smile.process_signal(sound, SAMPLE_RATE_HZ),
            "our cepstra": lambda: our_cepstra(samples),
            "python_speech_features": lambda: speech_features_channels(samples),
            "contours": lambda: contour_features(frames),
        }
    )
    hop = hop_seconds(samples)
    ours, contours = seconds["ours"], seconds["contours"]
    share = (hop + contours * TICKS_PER_SECOND * HOP_SAMPLES / SAMPLE_RATE_HZ) / (HOP_SAMPLES / SAMPLE_RATE_HZ)
    return [
        faster_than(
            "front end, 34 channels of 5.12 s", ours, seconds["librosa"], peer="librosa, its share of them", goal=3
        ),
        faster_than(
            "front end, 34 channels of 5.12 s", ours, seconds["openSMILE"], peer="openSMILE, eGeMAPS per frame", goal=50
        ),
        faster_than(
            "front end, MFCC, energy and slopes of 5.12 s",
            seconds["our cepstra"],
            seconds["python_speech_features"],
            peer="python_speech_features, the same",
            goal=10,
        ),
        Measurement(name="contour features of a window", value=contours * 1e3, unit="ms"),
        Measurement(name="one 10 ms hop, F0 included", value=hop * 1e6, unit="µs"),
        Measurement(
            name="features, share of one core in real time, contours included",
            value=share,
            unit="of a core",
            peer="limit",
            peer_value=HOP_SHARE,
            ratio=share / HOP_SHARE,
            goal=f"at most {HOP_SHARE:g} of a core",
            met=share <= HOP_SHARE,
        ),
    ]
