"""Puts a bundle together and loads it by the box's own code before it replaces the old one."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from device.config import RuntimeName
from device.inference.bundle import CLASSES, load_bundle
from device.inference.constants import FaceConstants
from device.inference.manifest import (
    Manifest,
    Metric,
    NetworkFacts,
    Origin,
    TrainingSet,
    golden_file,
)
from device.inference.tflite import TFLiteRuntime
from models.contract import FACE, FUSION, NETWORKS, SPEECH, contract_digest, feature_set_digest
from models.networks.macs import multiply_accumulates
from tools.dataset.clips import set_digest
from tools.dataset.corpora import emodb, nemo, ravdess
from tools.training import golden
from tools.training.fusion_release import FusionRelease
from tools.training.sealing import seal
from tools.training.speech_release import SpeechRelease

VERSION: Final = "0.2.0"
BUNDLE_BYTES_MAX: Final = 2_000_000
#: What one inference may cost on a box, in multiply-accumulates.
CAPS: Final = {"speech": 60_000_000, "face": 30_000_000, "fusion": 2_000_000}
RUNTIMES: Final[tuple[RuntimeName, ...]] = ("tflite-runtime", "litert")


@dataclass(frozen=True, eq=False)
class FaceRelease:
    """What the face training leaves: the int8 file, its Keras network and `result.json`."""

    tflite: bytes
    network: tf.keras.Model
    constants: FaceConstants
    result: dict[str, Any]


def face_release(folder: Path) -> FaceRelease:
    """Read the outcome of `tools.training.face_release` in `folder`."""
    result = json.loads((folder / "result.json").read_text())
    prior = result["prior"]
    return FaceRelease(
        tflite=(folder / result["int8"]).read_bytes(),
        network=tf.keras.models.load_model(folder / result["weights"], compile=False),
        constants=FaceConstants(
            mean=result["mean"],
            scale=result["scale"],
            temperature=result["temperature"],
            prior=tuple(share / sum(prior) for share in prior),
        ),
        result=result,
    )


def write_bundle(
    target: Path, speech: SpeechRelease, face: FaceRelease, fusion: FusionRelease, origin: Origin
) -> Manifest:
    """Write the bundle beside `target`, load it in every runtime that is installed, and only then replace `target`."""
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "golden").mkdir(parents=True)
    contents = {SPEECH.file: speech.tflite, FACE.file: face.tflite, FUSION.file: fusion.tflite}
    for name, content in contents.items():
        (fresh / name).write_bytes(content)
    facts = _facts(fresh, speech, face, fusion, origin.seed)
    manifest = Manifest(
        format=1,
        version=VERSION,
        contract_digest=contract_digest(),
        feature_set_digest=feature_set_digest(),
        files={},
        classes={name: tuple(map(str, classes)) for name, classes in CLASSES.items()},
        networks=facts,
        speech=speech.constants,
        face=face.constants,
        fusion=fusion.constants,
        decision=fusion.decision,
        trained_on=_training_sets(speech, face),
        metrics=(*speech.metrics, *_face_metrics(face.result), *fusion.metrics),
        origin=origin,
    )
    manifest = seal(fresh, manifest)
    _check(fresh, manifest)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return manifest


def _check(folder: Path, manifest: Manifest) -> None:
    for runtime in RUNTIMES:
        load_bundle(folder, TFLiteRuntime(runtime))
    for name, facts in manifest.networks.items():
        if facts.multiply_accumulates > CAPS[name]:
            raise ValueError(
                f"{name}: {facts.multiply_accumulates} multiply-accumulates, at most {CAPS[name]} may ship"
            )
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > BUNDLE_BYTES_MAX:
        raise ValueError(f"{folder}: {size} bytes, at most {BUNDLE_BYTES_MAX} may ship")


def _facts(
    folder: Path,
    speech: SpeechRelease,
    face: FaceRelease,
    fusion: FusionRelease,
    seed: int,
) -> dict[str, NetworkFacts]:
    """Cost and tolerance of each network; its golden file is written beside it."""
    inputs = {
        "speech": golden.speech_cases(speech),
        "face": golden.face_cases(seed),
        "fusion": golden.fusion_cases(fusion.golden),
    }
    networks = {"speech": speech.network, "face": face.network, "fusion": fusion.network}
    facts = {}
    for name, contract in NETWORKS.items():
        content, tolerance = golden.vectors(folder / contract.file, contract, inputs[name])
        (folder / golden_file(name)).write_bytes(content)
        facts[name] = NetworkFacts(
            multiply_accumulates=multiply_accumulates(networks[name]),
            parameters=int(networks[name].count_params()),
            tolerance=tolerance,
        )
    return facts


def _training_sets(speech: SpeechRelease, face: FaceRelease) -> tuple[TrainingSet, ...]:
    spoken = tuple(
        TrainingSet(
            name=module.NAME,
            used_for="speech branch, fused head, thresholds",
            items=len(speech.voices.corpora[module.KEY].clips),
            digest=set_digest(speech.voices.corpora[module.KEY].clips),
            terms=module.TERMS,
            source=module.SOURCE,
        )
        for module in (emodb, ravdess, nemo)
    )
    return (
        *spoken,
        TrainingSet(
            name="FER2013 pictures with FER+ votes, train part",
            used_for="face branch; a held-out twentieth for its temperature, the fused head and thresholds",
            items=face.result["pictures"]["training"] + face.result["pictures"]["held_out"],
            digest=face.result["data_sha256"],
            terms="votes MIT; pictures from web search, for research use, not to be redistributed",
            source="Goodfellow et al. 2013; Barsoum et al. 2016, https://github.com/microsoft/FERPlus",
        ),
    )


def _face_metrics(result: dict[str, Any]) -> tuple[Metric, ...]:
    rows = []
    for kind in ("int8", "float32"):
        measured = result["test"][f"majority_{kind}"]
        for key, name in (("accuracy", "accuracy"), ("macro_recall", "macro recall")):
            rows.append(_face_metric(f"face, {kind}: {name}", measured[key], measured["of"], result))
    same = result["test"]["same_label_int8_float32"]
    rows.append(_face_metric("face: int8 and float32 name one class", same, result["pictures"]["test"], result))
    return tuple(rows)


def _face_metric(name: str, figure: dict[str, float], items: int, result: dict[str, Any]) -> Metric:
    low, value, high = (round(figure[key], 5) for key in ("low", "value", "high"))
    seeds = (result["plan"]["seed"],)
    return Metric(name=name, value=value, low=low, high=high, items=items, protocol=result["protocol"], seeds=seeds)


def origin(command: str, seed: int) -> Origin:
    """How this bundle is made, with the versions of the tools that matter."""
    tools = ("tensorflow-cpu", "numpy", "scikit-learn", "scipy", "tflite-runtime")
    return Origin(command=command, seed=seed, tools={name: version_of(name) for name in tools})
