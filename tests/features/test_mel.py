from __future__ import annotations

from pathlib import Path

import librosa.feature
import numpy as np
import pytest
import python_speech_features
from librosa.filters import mel as librosa_filterbank

from device.features import mel
from device.features.stream import frames_of
from models.contract import CHANNELS
from tests.features.signals import CLIPS, clip, noise, tone


def test_mel_scale_has_its_fixed_point_and_an_inverse() -> None:
    assert float(mel.mel_of(1000.0)) == pytest.approx(1000.0, abs=0.1)
    hertz = np.linspace(0.0, 8000.0, 99)
    assert np.allclose(mel.hertz_of(mel.mel_of(hertz)), hertz, atol=1e-9)


def test_filterbank_is_librosas() -> None:
    theirs = librosa_filterbank(
        sr=16_000, n_fft=512, n_mels=40, fmin=80.0, fmax=7600.0, htk=True, norm=None, dtype=np.float64
    )
    assert np.abs(mel.filterbank() - theirs).max() < 1e-12


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_mfcc_agree_with_librosa_on_speech(path: Path) -> None:
    samples = clip(path)
    # librosa puts a window of 400 in the middle of its 512 samples: 56 zeros in front make its frames start with ours.
    sound = np.concatenate((np.zeros(56), samples / 32768.0, np.zeros(56)))
    bands = librosa.feature.melspectrogram(
        y=sound,
        sr=16_000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        window=np.hamming(400),
        center=False,
        power=2.0,
        n_mels=40,
        fmin=80.0,
        fmax=7600.0,
        htk=True,
        norm=None,
    )
    theirs = librosa.feature.mfcc(S=np.log(np.maximum(bands, mel.BAND_FLOOR)), n_mfcc=20, dct_type=2, norm="ortho").T
    ours = frames_of(samples, 16_000)[:, :20]
    assert theirs.shape == ours.shape
    assert np.abs(ours - theirs).max() < 1e-3


def test_mfcc_follow_python_speech_features_whose_filters_snap_to_bins() -> None:
    samples = clip(CLIPS[0])
    theirs = python_speech_features.mfcc(
        samples / 32768.0,
        16_000,
        numcep=20,
        nfilt=40,
        nfft=512,
        lowfreq=80,
        highfreq=7600,
        preemph=0,
        ceplifter=0,
        appendEnergy=False,
        winfunc=np.hamming,
    )
    ours = frames_of(samples, 16_000)[:, :20]
    likeness = [np.corrcoef(ours[:, i], theirs[: len(ours), i])[0, 1] for i in range(12)]
    assert min(likeness) > 0.95


@pytest.mark.parametrize("hertz", [150.0, 440.0, 1000.0, 3000.0, 7000.0])
def test_a_tone_is_loudest_in_the_band_around_it(hertz: float) -> None:
    piece = tone(hertz, 1.0)[:512].astype(np.float64)[None]
    centres = mel.hertz_of(np.linspace(mel.mel_of(80.0), mel.mel_of(7600.0), 42))[1:-1]
    assert np.argmax(mel.band_energies(piece)[0]) == np.argmin(np.abs(mel.mel_of(centres) - mel.mel_of(hertz)))


def test_a_frame_does_not_depend_on_the_frames_beside_it() -> None:
    pieces = np.random.default_rng(0).integers(-32768, 32768, (300, 512)).astype(np.float64)
    bands = mel.band_energies(pieces)
    cepstra = mel.cepstrum(bands)
    for row in (0, 31, 32, 299):
        alone = mel.band_energies(pieces[row : row + 1])
        assert alone.tobytes() == bands[row].tobytes()
        assert mel.cepstrum(alone).tobytes() == cepstra[row].tobytes()


def test_samples_before_a_frame_are_silenced() -> None:
    pieces = np.repeat(noise(0.1)[:512].astype(np.float64)[None], 2, axis=0)
    pieces[1, : mel.PADDING] = 30_000.0
    bands = mel.band_energies(pieces)
    assert np.array_equal(bands[0], bands[1])


def test_the_matrix_product_of_the_cepstrum_is_exact() -> None:
    bands = np.geomspace(mel.BAND_FLOOR, 1e4, 40 * 8).reshape(8, 40)
    logarithms = np.rint(np.log(bands) * 2**20).astype(object)
    weights = np.rint(mel.cosines() * 2**22).astype(object)
    exact = np.array([[int((row * column).sum()) for column in weights.T] for row in logarithms.astype(object)])
    assert np.array_equal(mel.cepstrum(bands), exact.astype(np.float64) / 2.0**42)


def test_mfcc_stand_first_in_the_contract() -> None:
    assert CHANNELS[: mel.CEPSTRA] == tuple(f"mfcc_{i}" for i in range(20))
