"""Trains the face branch on FER+ vote shares: `python -m tools.training.face --data FOLDER`.

A fixed number of epochs, set before the run; nothing is chosen on the test part, nor on the held-out pictures, which
are for watching and for the temperature. An interrupted run continues from its last epoch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm.keras import TqdmCallback

from models.contract import FACE, FACE_CLASSES
from models.networks import face
from tools.training import face_start, face_teacher, ferplus
from tools.training.face_pictures import augment, normalised, upscaled
from tools.training.recipes import read

BUILD: Final = Path("build/training/face")
#: The released network that the recipe starts from and learns from.
TEACHER: Final = Path("models/teachers/face-0.1.0")


@dataclass(frozen=True)
class Plan:
    """Everything that was chosen before training."""

    epochs: int = 14
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    average: float = 0.999
    #: A picture weighs (share of its class in the training set) ** -balance, at most `heaviest`; mean 1.
    balance: float = 0.25
    heaviest: float = 3.0
    seed: int = 1
    threads: int = 2
    #: Share of the earlier network's opinion in each target, beside the votes; 0 without a teacher.
    teacher_share: float = 0.0
    #: Multiply in bfloat16 (weights and sums stay float32): half the time on processors that have it.
    half: bool = False


def picture_weights(shares: NDArray[np.float32], plan: Plan) -> NDArray[np.float32]:
    """Loss weight per picture, (n,), from vote shares (n, 7): rare classes count somewhat more."""
    commonness = np.maximum(shares.mean(axis=0) * shares.shape[1], 1e-6)
    rarity = np.minimum(commonness**-plan.balance, plan.heaviest)
    weights = shares @ rarity
    return np.asarray(weights / weights.mean(), dtype=np.float32)


def _training_batches(
    pictures: ferplus.Pictures, plan: Plan, opinions: NDArray[np.float32] | None = None
) -> tf.data.Dataset:
    shares, kept = ferplus.targets(pictures.votes)
    weights = picture_weights(shares[kept], plan)
    targets = shares[kept]
    if opinions is not None:
        targets = (1 - plan.teacher_share) * targets + plan.teacher_share * opinions[kept]
    batches = tf.data.Dataset.from_tensor_slices((pictures.pixels[kept][..., None], targets, weights))
    batches = batches.shuffle(int(kept.sum()), seed=plan.seed).batch(
        min(plan.batch, int(kept.sum())), drop_remainder=True
    )
    return batches.map(
        lambda pixels, share, weight: (normalised(augment(tf.cast(pixels, tf.float32))), share, weight),
        num_parallel_calls=1,
    ).prefetch(2)


def _watched(pictures: ferplus.Pictures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    labels = ferplus.majority(pictures.votes)
    known = labels >= 0
    return (
        normalised(upscaled(pictures.pixels[known])),
        np.eye(len(FACE_CLASSES), dtype=np.float32)[labels[known]],
    )


class _Journal(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """One JSON line an epoch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Append the epoch's figures."""
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"epoch": epoch + 1, **{k: float(v) for k, v in (logs or {}).items()}}) + "\n")


def _compiled(network: tf.keras.Model, plan: Plan, steps: int) -> tf.keras.Model:
    rate = tf.keras.optimizers.schedules.CosineDecay(
        0.0, plan.epochs * steps, warmup_target=plan.learning_rate, warmup_steps=steps
    )
    optimizer = tf.keras.optimizers.AdamW(rate, weight_decay=plan.weight_decay, use_ema=True, ema_momentum=plan.average)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    logits = tf.keras.layers.Activation("linear", dtype="float32")(network.get_layer("logits").output)
    trained = tf.keras.Model(network.input, logits)
    trained.compile(
        optimizer,
        loss=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
        weighted_metrics=[],
        metrics=["accuracy"],
    )
    optimizer.build(trained.trainable_variables)
    return trained


def _settle_normalisation(network: tf.keras.Model, batches: tf.data.Dataset, steps: int) -> None:
    """Batch normalisation's means and variances belong to the raw weights: measure them again for the averaged ones."""
    for pictures, _, _ in batches.take(steps):
        network(pictures, training=True)


def _built(shape: face.FaceShape | None, *, half: bool) -> tf.keras.Model:
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16" if half else "float32")
    try:
        return face.build(shape)
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def train(
    pictures: ferplus.FerPlus,
    plan: Plan,
    folder: Path,
    *,
    opinions: NDArray[np.float32] | None = None,
    start: Path | None = None,
    shape: face.FaceShape | None = None,
    quiet: bool = False,
) -> tf.keras.Model:
    """Train, or continue in `folder`, and leave the averaged network there as final.keras, in float32.

    `opinions` are a teacher's probabilities of all training pictures (`face_teacher`); `start` is a released int8 file
    to go on from. Also left: plan.json, journal.jsonl (one line an epoch) and the checkpoint of the last epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(asdict(plan), indent=1))
    tf.keras.utils.set_random_seed(plan.seed)
    network = _built(shape, half=plan.half)
    batches = _training_batches(pictures.training, plan, opinions)
    if start is not None:
        seen = np.concatenate([crops for crops, _, _ in batches.take(8).as_numpy_iterator()])
        plain = _built(shape, half=False)
        face_start.start_from(plain, start, seen)
        network.set_weights(plain.get_weights())
    trained = _compiled(network, plan, len(batches))
    watching: list[tf.keras.callbacks.Callback] = [
        tf.keras.callbacks.BackupAndRestore(str(folder / "checkpoint"), delete_checkpoint=False),
        _Journal(folder / "journal.jsonl"),
    ]
    if not quiet:
        watching.append(TqdmCallback(epochs=plan.epochs, verbose=0))
    trained.fit(batches, epochs=plan.epochs, validation_data=_watched(pictures.held_out), callbacks=watching, verbose=0)
    if plan.half:
        averaged = network.get_weights()
        network = _built(shape, half=False)
        network.set_weights(averaged)
    _settle_normalisation(network, batches, 200)
    network.save(folder / "final.keras")
    return network


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.training.face", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ferplus/ferplus.npz")
    parser.add_argument("--build", type=Path, default=BUILD, help="where checkpoints and the network go")
    recipe = read("face", Plan)
    parser.add_argument("--epochs", type=int, default=recipe.epochs)
    parser.add_argument("--learning-rate", type=float, default=recipe.learning_rate)
    parser.add_argument("--start", type=Path, default=TEACHER / FACE.file, help="a released face.tflite to go on from")
    parser.add_argument("--threads", type=int, default=recipe.threads)
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--teacher", type=Path, default=TEACHER, help="whose opinion counts beside the votes")
    parser.add_argument("--from-nothing", action="store_true", help="neither a start nor a teacher")
    parser.add_argument(
        "--teacher-share", type=float, default=0.5, help="how much that opinion counts beside the votes"
    )
    chosen = parser.parse_args(arguments)
    pictures = ferplus.load(chosen.data)
    tf.config.threading.set_intra_op_parallelism_threads(chosen.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    plan = replace(
        recipe,
        epochs=chosen.epochs,
        learning_rate=chosen.learning_rate,
        threads=chosen.threads,
        seed=chosen.seed,
        teacher_share=0.0 if chosen.from_nothing else recipe.teacher_share,
    )
    if chosen.from_nothing:
        train(pictures, plan, chosen.build)
    else:
        opinions = face_teacher.opinions(chosen.teacher, pictures.training.pixels, chosen.build / "teacher.npy")
        train(pictures, plan, chosen.build, opinions=opinions, start=chosen.start)


if __name__ == "__main__":
    main()
