"""A bundle is refused for each defect that it can have; the released one loads in both runtimes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from device.config import RuntimeName
from device.errors import InferenceError
from device.inference.bundle import CLASSES, load_bundle, read_golden, read_manifest
from device.inference.manifest import BUNDLE_FILES, golden_file
from device.inference.tflite import TFLiteRuntime
from models.contract import NETWORKS, contract_digest, feature_set_digest

RELEASED: Final = Path(__file__).parents[2] / "models" / "bundle"
MACS_MAX: Final = {"speech": 60_000_000, "face": 30_000_000, "fusion": 2_000_000}
SPEECH_BYTES_MAX: Final = 500_000


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the released bundle, to be damaged."""
    return Path(shutil.copytree(RELEASED, tmp_path / "bundle"))


def change_manifest(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = bundle / "manifest.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def refusal(bundle: Path) -> str:
    with pytest.raises(InferenceError) as caught:
        load_bundle(bundle, TFLiteRuntime("tflite-runtime"))
    assert caught.value.next_step
    return str(caught.value)


def sign_again(bundle: Path, name: str) -> None:
    """Give a changed file the digest that the manifest asks for, so that only the later checks can find it."""
    digest = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    change_manifest(bundle, lambda manifest: manifest["files"].update({name: digest}))


@pytest.mark.parametrize("runtime", ["tflite-runtime", "litert"])
def test_released_bundle_loads_with_its_golden_vectors_in(runtime: RuntimeName) -> None:
    bundle = load_bundle(RELEASED, TFLiteRuntime(runtime))
    assert bundle.manifest.contract_digest == contract_digest()
    assert bundle.manifest.feature_set_digest == feature_set_digest()


def test_released_networks_stay_under_their_caps() -> None:
    manifest = read_manifest(RELEASED)
    for name, cap in MACS_MAX.items():
        assert 0 < manifest.networks[name].multiply_accumulates <= cap
    assert (RELEASED / NETWORKS["speech"].file).stat().st_size <= SPEECH_BYTES_MAX
    assert sum(file.stat().st_size for file in RELEASED.rglob("*") if file.is_file()) <= 2_000_000


def test_released_card_tells_every_figure_of_the_manifest() -> None:
    card = (RELEASED / "card.md").read_text()
    manifest = read_manifest(RELEASED)
    assert manifest.metrics
    for metric in manifest.metrics:
        assert metric.name in card
        assert metric.protocol in card
    assert "not felt emotion" in card


@pytest.mark.parametrize("key", ["contract_digest", "feature_set_digest"])
def test_digest_of_another_program_is_refused(copy: Path, key: str) -> None:
    change_manifest(copy, lambda manifest: manifest.update({key: "0" * 64}))
    assert key in refusal(copy)


def test_other_class_order_is_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest["classes"]["speech"].reverse())
    assert "classes" in refusal(copy)


def test_unknown_manifest_key_is_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest.update({"colour": "red"}))
    assert "colour" in refusal(copy)


def test_unknown_key_in_the_decision_is_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest["decision"].update({"confidence_mim": 0.5}))
    assert "confidence_mim" in refusal(copy)


def test_missing_manifest_key_is_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest.pop("speech"))
    assert "speech" in refusal(copy)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_impossible_scale_is_refused(copy: Path, value: float) -> None:
    change_manifest(copy, lambda manifest: manifest["speech"]["channel_scale"].__setitem__(3, value))
    assert "channel_scale" in refusal(copy)


def test_too_few_channel_means_are_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest["speech"]["channel_mean"].pop())
    assert "34 numbers" in refusal(copy)


def test_prior_that_is_no_share_is_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest["face"]["prior"].__setitem__(0, 0.9))
    assert "add up to 1" in refusal(copy)


def test_nan_in_the_manifest_is_refused(copy: Path) -> None:
    file = copy / "manifest.json"
    change_manifest(copy, lambda manifest: manifest["speech"]["channel_mean"].__setitem__(0, float("nan")))
    assert "NaN" in file.read_text()
    assert "manifest.json" in refusal(copy)


def test_manifest_that_is_not_json_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_bytes(b"\xff\xfe not json")
    assert "manifest.json" in refusal(copy)


@pytest.mark.parametrize("name", sorted(BUNDLE_FILES))
def test_missing_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert name in refusal(copy)


@pytest.mark.parametrize("name", sorted(BUNDLE_FILES))
def test_one_flipped_bit_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    message = refusal(copy)
    assert name in message
    assert "SHA-256" in message


def test_file_outside_the_bundle_is_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest["files"].update({"../other.tflite": "0" * 64}))
    assert "files" in refusal(copy)


def test_unlisted_file_is_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest["files"].pop("card.md"))
    assert "files" in refusal(copy)


def test_corrupted_network_with_a_matching_digest_is_refused(copy: Path) -> None:
    content = (copy / "speech.tflite").read_bytes()
    (copy / "speech.tflite").write_bytes(content[: len(content) // 2])
    sign_again(copy, "speech.tflite")
    assert "speech.tflite" in refusal(copy)


def test_networks_in_each_others_place_are_refused(copy: Path) -> None:
    shutil.copy(copy / "face.tflite", copy / "speech.tflite")
    sign_again(copy, "speech.tflite")
    assert "speech.tflite" in refusal(copy)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_network_that_answers_otherwise_than_its_golden_vectors_is_refused(copy: Path, network: str) -> None:
    file = copy / golden_file(network)
    golden = dict(np.load(file))
    tolerance = json.loads((copy / "manifest.json").read_text())["networks"][network]["tolerance"]["logits"]
    golden["logits"][0, 0] += 1.5 * tolerance
    np.savez(file, **golden)
    sign_again(copy, golden_file(network))
    assert golden_file(network) in refusal(copy)


def test_golden_vectors_that_are_not_finite_are_refused() -> None:
    contract = NETWORKS["fusion"]
    content = (RELEASED / golden_file("fusion")).read_bytes()
    good = read_golden(content, Path("golden/fusion.npz"), contract)
    good["logits"][0, 0] = np.nan
    file = Path("golden/fusion.npz")
    with pytest.raises(InferenceError, match="not finite"):
        read_golden(_npz(good), file, contract)


def test_golden_vectors_without_a_tensor_are_refused() -> None:
    contract = NETWORKS["fusion"]
    good = read_golden((RELEASED / golden_file("fusion")).read_bytes(), Path("golden/fusion.npz"), contract)
    del good["evidence"]
    with pytest.raises(InferenceError, match="tensors"):
        read_golden(_npz(good), Path("golden/fusion.npz"), contract)


def test_golden_file_that_is_no_archive_is_refused() -> None:
    with pytest.raises(InferenceError, match="not readable"):
        read_golden(b"PK\x03\x04 rubbish", Path("golden/fusion.npz"), NETWORKS["fusion"])


def test_pickled_golden_vectors_are_refused() -> None:
    hostile = {"logits": np.array([{"a": 1}], dtype=object)}
    with pytest.raises(InferenceError, match="not readable"):
        read_golden(_npz(hostile), Path("golden/fusion.npz"), NETWORKS["fusion"])


def test_golden_outputs_for_each_contract_tensor_are_stored() -> None:
    for name, contract in NETWORKS.items():
        golden = read_golden((RELEASED / golden_file(name)).read_bytes(), Path(golden_file(name)), contract)
        assert set(golden) == {tensor.name for tensor in (*contract.inputs, *contract.outputs)}
        assert np.ptp(golden["logits"], axis=0).max() > 0


def test_classes_of_the_program_are_those_of_the_contract() -> None:
    assert set(CLASSES) == set(NETWORKS)
    for name, contract in NETWORKS.items():
        logits = next(tensor for tensor in contract.outputs if tensor.name == "logits")
        assert logits.shape[-1] == len(CLASSES[name])


def _npz(arrays: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()
