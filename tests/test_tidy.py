"""Budgets and habits that a machine can hold: sizes, names, one module per hardware library, nothing left over."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FUNCTION_LINES, FUNCTION_LINES_P95, FILE_LINES = 70, 45, 700
ONE_MODULE = {
    "pyaudio": {"device/capture/microphone.py"},
    "picamera2": {"device/capture/camera.py"},
    "tflite_runtime": {"device/inference/tflite.py"},
    "ai_edge_litert": {"device/inference/tflite.py"},
    "systemd": {"device/system/systemd.py"},
    "paho": {"device/publish/mqtt.py"},
}
VAGUE = {"manager", "helper", "helpers", "data", "info", "process", "utils", "misc", "common"}
LEFT_OVER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError|MagicMock")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home/\w+|root)/")


def tracked(*suffixes: str) -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
    paths = [REPOSITORY / name for name in names.split("\0") if name]
    return [path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes)]


def python_files() -> list[Path]:
    return tracked(".py")


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (f"{name_of(path)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    ]


def test_functions_and_files_stay_within_their_budget() -> None:
    lengths = [entry for path in python_files() for entry in functions(path)]
    assert [entry for entry in lengths if entry[1] > FUNCTION_LINES] == []
    assert sorted(length for _, length in lengths)[int(0.95 * len(lengths))] <= FUNCTION_LINES_P95
    assert [name_of(p) for p in python_files() if p.read_text().count("\n") > FILE_LINES] == []


def test_hardware_libraries_are_imported_in_one_module_each() -> None:
    found: dict[str, set[str]] = {}
    for path in python_files():
        if name_of(path).split("/")[0] not in {"device", "models", "provisioning", "tools"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for library in {name.split(".")[0] for name in names} & set(ONE_MODULE):
                found.setdefault(library, set()).add(name_of(path))
    strays = {library: files - ONE_MODULE[library] for library, files in found.items() if files - ONE_MODULE[library]}
    strays = {lib: {f for f in files if not f.startswith("tools/")} for lib, files in strays.items()}
    assert {library: files for library, files in strays.items() if files} == {}


def test_no_vague_names() -> None:
    vague = [name_of(p) for p in python_files() if set(p.stem.split("_")) & VAGUE]
    assert vague == []


def test_nothing_is_left_over() -> None:
    here = Path(__file__).resolve()
    lines = [
        f"{name_of(path)}:{number}"
        for path in python_files()
        if path != here
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if LEFT_OVER.search(line)
    ]
    assert lines == []


def test_no_path_of_one_machine() -> None:
    here = Path(__file__).resolve()
    hits = []
    for path in tracked(".py", ".md", ".cfg", ".toml", ".sh", ".txt", ".in", ".json"):
        lines = path.read_text().splitlines() if path != here else []
        hits += [f"{name_of(path)}:{number}" for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert hits == []


def test_the_repository_stays_small() -> None:
    sizes = {name_of(path): path.stat().st_size for path in tracked()}
    assert sum(sizes.values()) < 60e6
    assert sum(size for name, size in sizes.items() if name.startswith("models/bundle/")) <= 2e6


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("device.gateway.__main__", {"pyaudio", "picamera2", "tflite_runtime", "ai_edge_litert", "tensorflow"}),
        ("device.unit.__main__", {"starlette", "uvicorn", "tensorflow", "sklearn", "scipy"}),
    ],
)
def test_importing_a_program_loads_only_its_own_libraries(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(' '.join(m for m in sys.modules if '.' not in m))"
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) & forbidden == set()
