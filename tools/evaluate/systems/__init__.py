"""The systems that are compared, by name. A system's module, and TensorFlow with it, is loaded when it is made."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from tools.evaluate.system import System

#: Module of this package and the names that its function `system(name)` answers to. Further modules are added here.
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "classical": ("svm", "svm_no_nonlinear", "svm_rbf", "elm", "raw", "raw_no_nonlinear", "pca64"),
    "codes": ("ae64", "aae64"),
    "networks": (
        "cnn",
        "cnn_paper",
        "bilstm",
        "bilstm_paper",
        "cnn_bilstm",
        "cnn_bilstm_paper",
        "cnn_bilstm_attention",
        "cnn_bilstm_attention_paper",
    ),
    "ours": (
        "ours",
        "ours_int8",
        "ours_without_nonlinear",
        "ours_without_attention",
        "ours_without_sequence",
        "ours_without_augmentation",
        "ours_without_other_corpora",
        "ours_distilled",
    ),
}


def _made(module: str, name: str) -> System:
    return cast(System, importlib.import_module(f"{__name__}.{module}").system(name))


SYSTEMS: Final[dict[str, Callable[[], System]]] = {
    name: partial(_made, module, name) for module, names in MODULES.items() for name in names
}
