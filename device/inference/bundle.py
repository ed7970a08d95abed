"""Loads a model bundle, or refuses it: nothing runs before every check of `load_bundle` has passed.

1. the manifest is read, without unknown keys;
2. contract digest, feature-set digest and classes are those of this program;
3. exactly the expected files are listed, and each has the listed SHA-256;
4. every network loads in the chosen runtime and has the contract's tensors;
5. every golden vector gives the stated outputs within the stated tolerance.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import InferenceError
from device.inference.face_branch import FaceBranch
from device.inference.fusion_head import FusionHead
from device.inference.manifest import BUNDLE_FILES, MANIFEST_FILE, Manifest, NetworkFacts, golden_file
from device.inference.ports import Network, Runtime
from device.inference.speech_branch import SpeechBranch
from models.contract import (
    FACE_CLASSES,
    NETWORKS,
    SPEECH_CLASSES,
    NetworkContract,
    contract_digest,
    feature_set_digest,
)
from models.labels import EMOTIONS

FILE_BYTES_MAX: Final = 2 * 1024 * 1024
GOLDEN_CASES_MAX: Final = 16
CLASSES: Final = {"speech": SPEECH_CLASSES, "face": FACE_CLASSES, "fusion": EMOTIONS}
_NEXT: Final = "Install a released bundle for this version of the program, or rebuild it with `make train`."


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checked bundle, ready to run."""

    speech: SpeechBranch
    face: FaceBranch
    fusion: FusionHead
    manifest: Manifest


def load_bundle(path: Path, runtime: Runtime) -> Bundle:
    """The bundle in folder `path`. Raises InferenceError, naming the file, on any mismatch."""
    manifest = read_manifest(path)
    files = {name: _checked_bytes(path, name, digest) for name, digest in manifest.files.items()}
    networks = {name: runtime.load(path / contract.file, contract) for name, contract in NETWORKS.items()}
    for name, network in networks.items():
        golden = read_golden(files[golden_file(name)], path / golden_file(name), NETWORKS[name])
        _check_golden(network, golden, manifest.networks[name], path / golden_file(name), runtime.name)
    return Bundle(
        speech=SpeechBranch(networks["speech"], manifest.speech),
        face=FaceBranch(networks["face"], manifest.face),
        fusion=FusionHead(networks["fusion"], manifest.fusion, manifest.speech, manifest.face),
        manifest=manifest,
    )


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle in folder `path`, checked against this program (steps 1 to 3, without the digests)."""
    file = path / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(_read(file), type=Manifest)
    except msgspec.MsgspecError as error:
        raise InferenceError(f"{file}: {error}.", next_step=_NEXT) from error
    for what, found, expected in (
        ("contract_digest", manifest.contract_digest, contract_digest()),
        ("feature_set_digest", manifest.feature_set_digest, feature_set_digest()),
        ("classes", manifest.classes, CLASSES),
        ("files", set(manifest.files), BUNDLE_FILES),
        ("networks", set(manifest.networks), set(NETWORKS)),
    ):
        if found != expected:
            raise InferenceError(f"{file}: {what} is {found}, this program needs {expected}.", next_step=_NEXT)
    for name, facts in manifest.networks.items():
        outputs = {tensor.name for tensor in NETWORKS[name].outputs}
        if set(facts.tolerance) != outputs:
            raise InferenceError(f"{file}: networks.{name}.tolerance must name {outputs}.", next_step=_NEXT)
    return manifest


def read_golden(content: bytes, file: Path, contract: NetworkContract) -> dict[str, NDArray[np.float32]]:
    """Golden vectors by tensor name, each with a leading axis of cases; float32 and finite."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            golden = {name: np.asarray(archive[name], np.float32) for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InferenceError(f"{file}: not readable as golden vectors: {error}.", next_step=_NEXT) from error
    tensors = {tensor.name: tensor.shape[1:] for tensor in (*contract.inputs, *contract.outputs)}
    cases = {len(values) for values in golden.values() if values.ndim}
    if set(golden) != set(tensors) or len(cases) != 1 or not 1 <= max(cases) <= GOLDEN_CASES_MAX:
        raise InferenceError(f"{file}: tensors {sorted(golden)} with {sorted(cases)} cases.", next_step=_NEXT)
    for name, values in golden.items():
        if values.shape[1:] != tensors[name] or not np.isfinite(values).all():
            raise InferenceError(f"{file}: {name} has shape {values.shape} or is not finite.", next_step=_NEXT)
    return golden


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise InferenceError(f"{file}: larger than {FILE_BYTES_MAX} bytes.", next_step=_NEXT)
        return file.read_bytes()
    except OSError as error:
        raise InferenceError(f"{file}: cannot be read: {error.strerror}.", next_step=_NEXT) from error


def _checked_bytes(path: Path, name: str, digest: str) -> bytes:
    content = _read(path / name)
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise InferenceError(f"{path / name}: SHA-256 is {found}, the manifest says {digest}.", next_step=_NEXT)
    return content


def _check_golden(
    network: Network, golden: dict[str, NDArray[np.float32]], facts: NetworkFacts, file: Path, runtime: str
) -> None:
    inputs = [name for name in golden if name not in facts.tolerance]
    for case in range(len(golden[inputs[0]])):
        outputs = network.run({name: golden[name][case : case + 1] for name in inputs})
        for name, tolerance in facts.tolerance.items():
            distance = float(np.max(np.abs(outputs[name][0] - golden[name][case])))
            if not distance <= tolerance:
                raise InferenceError(
                    f"{file}: case {case} of {name} is {distance:.4g} off in {runtime}, {tolerance:.4g} is allowed.",
                    next_step=_NEXT,
                )
