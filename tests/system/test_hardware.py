"""Serial number and model come from the device tree or the DMI tables, cleaned, and "unknown" where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.system.hardware import Hardware, read_hardware

TREE = "proc/device-tree"
DMI = "sys/class/dmi/id"


def machine(root: Path, files: dict[str, bytes]) -> Hardware:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return read_hardware(root)


def test_device_tree_of_a_board_ends_in_a_zero_byte_that_is_left_out(tmp_path: Path) -> None:
    found = machine(
        tmp_path,
        {f"{TREE}/serial-number": b"10000000abcdef01\0", f"{TREE}/model": b"Raspberry Pi 5 Model B Rev 1.0\0"},
    )
    assert found == Hardware("10000000abcdef01", "Raspberry Pi 5 Model B Rev 1.0")


def test_pc_is_read_from_its_dmi_tables(tmp_path: Path) -> None:
    found = machine(tmp_path, {f"{DMI}/product_serial": b"PF3X0001\n", f"{DMI}/product_name": b"NUC11TNKi5\n"})
    assert found == Hardware("PF3X0001", "NUC11TNKi5")


@pytest.mark.parametrize("content", [b"", b"\0", b"Default string\n", b"To Be Filled By O.E.M.\n", b" \n"])
def test_what_says_nothing_is_unknown(tmp_path: Path, content: bytes) -> None:
    assert machine(tmp_path, {f"{DMI}/product_serial": content}) == Hardware("unknown", "unknown")


def test_control_characters_and_length_are_cut_to_what_a_request_may_hold(tmp_path: Path) -> None:
    found = machine(tmp_path, {f"{TREE}/serial-number": b"a\x1b[31m\nb" + 300 * b"c", f"{TREE}/model": b"\xff\xfe"})
    assert found.serial.startswith("a[31mbc")
    assert len(found.serial) == 64
    assert found.model == "��"


def test_this_machine_says_something_that_a_request_may_hold() -> None:
    found = read_hardware()
    assert 0 < len(found.serial) <= 64
    assert 0 < len(found.model) <= 64
