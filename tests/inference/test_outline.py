"""Files that kill tflite-runtime 2.14 by a segmentation fault unless their outline is checked first."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from device.inference.face_detector import packaged_file
from device.inference.outline import check_outline

#: Loads many damaged copies in one process; a native crash would end it with a signal.
LOAD_DAMAGED = """
import sys
import numpy as np
from pathlib import Path
from device.errors import InferenceError
from device.inference.face_detector import BLAZEFACE, packaged_file
from device.inference.tflite import TFLiteRuntime

whole, scratch = packaged_file().read_bytes(), Path(sys.argv[1])
runtime, refused = TFLiteRuntime(sys.argv[2]), 0
for seed in range(60):
    random = np.random.default_rng(seed)
    content = bytearray(whole)
    if seed % 3 == 0:
        del content[int(random.integers(8, len(whole))) :]
    elif seed % 3 == 1:
        content[8:] = random.bytes(4_000)
    else:
        for place in random.integers(0, 600, 4):
            content[place] ^= int(random.integers(1, 256))
    scratch.write_bytes(content)
    try:
        runtime.load(scratch, BLAZEFACE)
    except InferenceError as error:
        assert str(scratch) in str(error)
        refused += 1
print(refused)
"""


@pytest.fixture(scope="module")
def content() -> bytes:
    return packaged_file().read_bytes()


def test_a_whole_file_passes(content: bytes) -> None:
    check_outline(content)


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_cut_off_file_is_refused(content: bytes, share: float) -> None:
    with pytest.raises(ValueError, match="cut off or damaged"):
        check_outline(content[: int(8 + share * (len(content) - 8))])


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\0\0\0XYZ3" + bytes(99)], ids=["empty", "short", "other"])
def test_another_kind_of_file_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="TFL3"):
        check_outline(content)


def test_random_bytes_behind_the_identifier_never_escape_as_another_error() -> None:
    random = np.random.default_rng(0)
    for length in range(0, 3_000, 7):
        with pytest.raises(ValueError, match="damaged"):
            check_outline(b"\x10\0\0\0TFL3" + random.bytes(length))


def test_a_table_that_points_at_itself_a_million_times_ends(content: bytes) -> None:
    count = 2_000_000
    vector = count.to_bytes(4, "little") + b"".join((8 * 4 + 4 * (count - i)).to_bytes(4, "little") for i in range(2))
    with pytest.raises(ValueError, match="damaged"):
        check_outline(content[:8] + vector)


@pytest.mark.parametrize("runtime", ["tflite-runtime", "litert"])
def test_no_damaged_file_kills_the_process(tmp_path: object, runtime: str) -> None:
    command = [sys.executable, "-c", LOAD_DAMAGED, f"{tmp_path}/damaged.tflite", runtime]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) >= 40
