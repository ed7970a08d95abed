"""Is the harness right? A published figure, made anew: openSMILE ComParE_2016 functionals and an SVM on EMO-DB, LOSO.

The anchor is audEERING's notebook (w2v2-how-to): standardised on the training speakers, SVC(gamma="auto"), one speaker
left out at a time: macro recall 77.08 %. A copy of the set that was cut or resampled would go unnoticed without it.
openSMILE is for research and used nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm import tqdm

from tools.dataset.clips import Clip, set_digest
from tools.dataset.corpora import emodb
from tools.evaluate.splits import leave_one_speaker_out
from tools.training import scores

PUBLISHED: Final = 77.08
TOLERANCE: Final = 0.5


def functionals(clips: Sequence[Clip], cache: Path) -> NDArray[np.float32]:
    """ComParE_2016 functionals, (clips, 6373), kept in `cache`."""
    import opensmile

    key = f"{set_digest(clips)} ComParE_2016 {opensmile.__version__}"
    file = cache / f"compare-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if file.exists():
        return np.asarray(np.load(file), np.float32)
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    rows = [smile.process_file(str(clip.path)).to_numpy()[0] for clip in tqdm(clips, desc="openSMILE", unit="clip")]
    features = np.asarray(rows, np.float32)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(file, features)
    return features


def macro_recall(features: NDArray[np.float32], clips: Sequence[Clip]) -> scores.Figure:
    """LOSO; the scaler and the machine see the other speakers only."""
    labels = np.array([clip.label for clip in clips])
    predicted = np.full(len(clips), -1)
    for split in leave_one_speaker_out(clips, 0):
        machine = make_pipeline(StandardScaler(), SVC(gamma="auto"))
        machine.fit(features[split.train], labels[split.train])
        predicted[split.test] = machine.predict(features[split.test])
    return scores.macro_recall(predicted, labels)


def check(data: Path, cache: Path, file: Path) -> bool:
    """Measure, write the finding to `file`, and say whether the published figure was reproduced."""
    import opensmile

    clips = emodb.load(data)
    figure = macro_recall(functionals(clips, cache), clips)
    reproduced = abs(100 * figure.value - PUBLISHED) <= TOLERANCE
    finding: dict[str, Any] = {
        "protocol": "EMO-DB, leave one speaker out, ComParE_2016 functionals, StandardScaler, SVC(gamma=auto)",
        "published": PUBLISHED,
        "uar": round(100 * figure.value, 2),
        "low": round(100 * figure.low, 2),
        "high": round(100 * figure.high, 2),
        "reproduced": reproduced,
        "clips": len(clips),
        "clips_digest": set_digest(clips),
        "opensmile": opensmile.__version__,
        "sklearn": sklearn.__version__,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(finding)) + b"\n")
    print(f"macro recall {figure}, published {PUBLISHED} %: {'reproduced' if reproduced else 'NOT reproduced'}")
    return reproduced
