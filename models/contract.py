"""What a model bundle must satisfy: tensor names, shapes, classes and the digest of the feature set.

The box, the training tools and the release tools all read this file; a bundle whose manifest carries another
contract digest or another feature-set digest is refused at load.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from models.labels import EMOTIONS, Emotion

# --- features: 34 channels every 10 ms (formula and source of each: docs/features.md) -------------------------------

SAMPLE_RATE_HZ: Final = 16_000
FRAME_SAMPLES: Final = 400
HOP_SAMPLES: Final = 160
WINDOW_FRAMES: Final = 512

CHANNELS: Final[tuple[str, ...]] = (
    *(f"mfcc_{i}" for i in range(20)),
    "log_energy",
    "zero_crossing_rate",
    "waveform_peak",
    "f0",
    "voicing",
    "spectral_flux",
    *(f"delta_mfcc_{i}" for i in range(1, 7)),
    "delta_log_energy",
    "delta_f0",
)

CONTOURS: Final[tuple[str, ...]] = ("log_energy", "f0")
NONLINEAR: Final[tuple[str, ...]] = (
    "delay",
    "hurst",
    "dfa",
    "higuchi",
    "permutation_entropy",
    "correlation_dimension",
    "k2_entropy",
)
CONTOUR_FEATURES: Final[tuple[str, ...]] = tuple(f"{contour}_{name}" for contour in CONTOURS for name in NONLINEAR)

#: Raised whenever a formula behind a channel changes, so that old bundles are refused.
FEATURE_SET_VERSION: Final = 2

# --- tensors ---------------------------------------------------------------------------------------------------------

FACE_SIDE_PIXELS: Final = 64
EMBEDDING: Final = 64
TICKS_PER_SECOND: Final = 2
TOKENS: Final = 10

#: Classes that a branch has training data for, in vocabulary order.
SPEECH_CLASSES: Final[tuple[Emotion, ...]] = EMOTIONS
FACE_CLASSES: Final[tuple[Emotion, ...]] = tuple(e for e in EMOTIONS if e is not Emotion.BOREDOM)

#: Scalars in 0..1 that say how far a token's evidence can be trusted.
SPEECH_QUALITY: Final[tuple[str, ...]] = ("voiced_share", "level")
FACE_QUALITY: Final[tuple[str, ...]] = ("detector_score", "sharpness")

#: One fusion evidence row: log-probabilities of both branches, quality scalars, presence masks.
EVIDENCE: Final = len(SPEECH_CLASSES) + len(FACE_CLASSES) + len(SPEECH_QUALITY) + len(FACE_QUALITY) + 2


@dataclass(frozen=True)
class Tensor:
    """A named tensor of a network; the shape includes the batch of one."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class NetworkContract:
    """Inputs and outputs of one network of the bundle, in order."""

    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


SPEECH: Final = NetworkContract(
    "speech.tflite",
    inputs=(
        Tensor("frames", (1, WINDOW_FRAMES, len(CHANNELS))),
        Tensor("contours", (1, len(CONTOUR_FEATURES))),
    ),
    outputs=(Tensor("embedding", (1, EMBEDDING)), Tensor("logits", (1, len(SPEECH_CLASSES)))),
)
FACE: Final = NetworkContract(
    "face.tflite",
    inputs=(Tensor("crop", (1, FACE_SIDE_PIXELS, FACE_SIDE_PIXELS, 1)),),
    outputs=(Tensor("embedding", (1, EMBEDDING)), Tensor("logits", (1, len(FACE_CLASSES)))),
)
FUSION: Final = NetworkContract(
    "fusion.tflite",
    inputs=(
        Tensor("speech_embeddings", (1, TOKENS, EMBEDDING)),
        Tensor("face_embeddings", (1, TOKENS, EMBEDDING)),
        Tensor("evidence", (1, TOKENS, EVIDENCE)),
    ),
    outputs=(Tensor("logits", (1, len(EMOTIONS))),),
)
NETWORKS: Final[dict[str, NetworkContract]] = {"speech": SPEECH, "face": FACE, "fusion": FUSION}


def _digest(description: object) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def feature_set_digest() -> str:
    """SHA-256, in hexadecimal, of everything that fixes the meaning of a feature window."""
    return _digest(
        {
            "version": FEATURE_SET_VERSION,
            "sample_rate_hz": SAMPLE_RATE_HZ,
            "frame_samples": FRAME_SAMPLES,
            "hop_samples": HOP_SAMPLES,
            "window_frames": WINDOW_FRAMES,
            "channels": CHANNELS,
            "contour_features": CONTOUR_FEATURES,
        }
    )


def contract_digest() -> str:
    """SHA-256, in hexadecimal, of the tensors, the classes and the vocabulary."""
    return _digest(
        {
            "vocabulary": EMOTIONS,
            "speech_classes": SPEECH_CLASSES,
            "face_classes": FACE_CLASSES,
            "speech_quality": SPEECH_QUALITY,
            "face_quality": FACE_QUALITY,
            "ticks_per_second": TICKS_PER_SECOND,
            "networks": {
                name: {
                    "file": network.file,
                    "inputs": [(t.name, t.shape) for t in network.inputs],
                    "outputs": [(t.name, t.shape) for t in network.outputs],
                }
                for name, network in NETWORKS.items()
            },
        }
    )
