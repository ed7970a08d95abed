"""The list of systems is cheap to read, and every name on it is a system."""

from __future__ import annotations

import subprocess
import sys

from tools.evaluate.runs import digest_of
from tools.evaluate.systems import SYSTEMS


def test_reading_the_list_does_not_load_tensorflow() -> None:
    code = (
        "import sys; from tools.evaluate.systems import SYSTEMS; SYSTEMS['svm']();"
        "print(' '.join(m for m in sys.modules if '.' not in m))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "sklearn" in loaded and not loaded & {"tensorflow", "keras"}


def test_every_name_makes_the_system_of_that_name() -> None:
    made = {name: make() for name, make in SYSTEMS.items()}
    assert {name: system.name for name, system in made.items()} == {name: name for name in SYSTEMS}
    assert len({digest_of(system) for system in made.values()}) == len(made)


def test_the_papers_systems_are_all_there() -> None:
    assert {"svm", "svm_rbf", "elm", "cnn", "bilstm", "cnn_bilstm_attention", "aae64", "pca64"} <= set(SYSTEMS)
