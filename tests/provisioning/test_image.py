"""The image recipe: well formed, names only packages that exist, holds no secret, and asks nobody anything.

rpi-image-gen itself is not run here: it needs a Raspberry Pi's architecture and an hour. Its layer format is described
in its documentation (layers, hooks, overlays).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from provisioning.installation import UNIT_ROLE

IMAGE = Path(__file__).resolve().parents[2] / "provisioning" / "image"
CONFIGS = sorted((IMAGE / "config").glob("*.yaml"))
LAYERS = sorted((IMAGE / "layer").glob("*.yaml"))
HOOKS = sorted((IMAGE / "bdebstrap").iterdir())
PHASES = ("setup", "extract", "essential", "customize", "cleanup")
UNWANTED = re.compile(r"ssh|sudo|userconf|piwiz|desktop|dphys-swapfile|raspi-config")
SECRET = re.compile(
    r"PRIVATE KEY|passw(or)?d\s*[:=]\s*\S|user1pass|pubkey_user1|token\s*[:=]|psk\s*=|\b[0-9a-f]{64}\b", re.I
)


def layer(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def metadata(path: Path) -> dict[str, str]:
    """The X-Env fields between METABEGIN and METAEND; a line that begins with two blanks goes on from the one above."""
    block = path.read_text().split("# METABEGIN\n")[1].split("# METAEND\n")[0]
    lines = [line[2:] for line in block.replace("\n#  ", " ").splitlines() if line != "#"]
    return dict(re.split(r":\s*", line, maxsplit=1) for line in lines)


def named_packages() -> set[str]:
    return {name for path in LAYERS for name in layer(path)["mmdebstrap"].get("packages", [])}


def known_packages() -> dict[str, str]:
    lines = (IMAGE / "packages.txt").read_text().splitlines()
    return dict(line.split() for line in lines if not line.startswith("#"))


def test_there_is_a_recipe() -> None:
    assert [path.name for path in CONFIGS] == ["moodline-unit.yaml"]
    assert [path.name for path in LAYERS] == ["moodline-base.yaml", "moodline-unit.yaml"]
    assert len(HOOKS) == 2


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.name)
def test_a_layer_says_what_it_is(path: Path) -> None:
    fields = metadata(path)
    assert fields["X-Env-Layer-Name"] == path.stem
    assert fields["X-Env-Layer-Desc"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["X-Env-Layer-Version"])
    assert set(layer(path)) == {"mmdebstrap"}
    assert set(layer(path)["mmdebstrap"]) <= {"packages", *(f"{phase}-hooks" for phase in PHASES)}


def test_a_configuration_names_our_layers_and_no_user() -> None:
    for path in CONFIGS:
        config = layer(path)
        assert set(config) == {"device", "image", "layer"}
        assert set(config["layer"].values()) == {each.stem for each in LAYERS}
        assert set(config["device"]) == {"layer", "hostname"}


def test_every_package_exists() -> None:
    needed = {re.split(r"[ |]", package)[0] for package in UNIT_ROLE.packages}
    assert named_packages() | needed <= set(known_packages())


def test_the_image_has_what_the_package_needs() -> None:
    """Images are built without recommended packages, so what a unit recommends must be named."""
    from_other_layers = {"systemd", "ca-certificates"}
    needed = {re.split(r"[ |]", package)[0] for package in (*UNIT_ROLE.packages, "python3-picamera2")}
    assert needed - from_other_layers <= named_packages()


@pytest.mark.skipif(shutil.which("apt-cache") is None, reason="not a Debian system")
def test_debian_has_its_packages() -> None:
    names = sorted(name for name, archive in known_packages().items() if archive == "debian")
    shown = subprocess.run(["apt-cache", "show", "--no-all-versions", *names], capture_output=True, check=False)
    found = set(re.findall(r"^Package: (\S+)$", shown.stdout.decode(), re.M))
    if "libportaudio2" not in found:
        pytest.skip("this machine has no package lists (apt-get update)")
    assert set(names) <= found


def test_nothing_unwanted_is_installed() -> None:
    requires = " ".join(metadata(path)["X-Env-Layer-Requires"] for path in LAYERS)
    assert "moodline-base" in requires
    assert UNWANTED.search(requires) is None
    assert [name for name in named_packages() if UNWANTED.search(name)] == []


def test_no_secret_is_in_the_recipe() -> None:
    for path in IMAGE.rglob("*"):
        if path.is_file() and path.name != "checklist.md":
            assert SECRET.search(path.read_text()) is None, path


def test_nobody_can_log_in() -> None:
    hooks = layer(IMAGE / "layer" / "moodline-base.yaml")["mmdebstrap"]["customize-hooks"]
    assert 'chroot "$1" passwd --lock root' in hooks
    assert 'chroot "$1" systemctl mask getty.target serial-getty@.service' in hooks


@pytest.mark.parametrize("path", HOOKS, ids=lambda path: path.name)
def test_hooks_are_well_formed_and_run_by_name(path: Path) -> None:
    assert path.name.startswith(PHASES)
    assert re.fullmatch(r"[a-zA-Z0-9-]+", path.name)
    assert os.access(path, os.X_OK)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/sh"
    assert "set -eu" in lines
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--shell=sh", str(path)], check=True)


def test_overlays_change_only_systemds_own_settings() -> None:
    [overlay] = (IMAGE / "layer").glob("*.rootfs-overlay")
    assert overlay.name == "moodline-unit.rootfs-overlay"
    names = sorted(path.relative_to(overlay).as_posix() for path in overlay.rglob("*") if path.is_file())
    assert names == ["etc/systemd/journald.conf.d/10-moodline.conf", "etc/systemd/system.conf.d/10-moodline.conf"]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """What the last hook finds in an image that is as it should be."""
    for folder in ("etc/ssh", "etc/systemd/system/multi-user.target.wants", "var/lib/moodline", "boot/firmware"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "etc/shadow").write_text("root:!*:20000::::::\nmoodline-unit:!*:20000::::::\ndaemon:*:20000::::::\n")
    (tmp_path / "etc/fstab").write_text("LABEL=ROOT / ext4 defaults 0 1\n")
    for service in ("moodline-box.service", "moodline-unit.service"):
        (tmp_path / "etc/systemd/system/multi-user.target.wants" / service).symlink_to("/nowhere")
    python = tmp_path / "opt/moodline/venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    python.chmod(0o755)
    yield tmp_path


def check(root: Path) -> subprocess.CompletedProcess[str]:
    hook = IMAGE / "bdebstrap" / "cleanup90-check"
    return subprocess.run([str(hook), str(root)], capture_output=True, text=True, check=False, timeout=30)


def test_a_good_image_passes_and_its_cards_begin_unlike(root: Path) -> None:
    checked = check(root)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert (root / "etc/machine-id").read_text() == ""


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("var/lib/moodline/key.pem", "a key", "a key in an image would be every box's key"),
        ("boot/firmware/moodline-seed.toml", "token", "a seed file is in the image"),
        ("etc/ssh/ssh_host_ed25519_key", "", "an ssh server is in the image"),
        ("etc/shadow", "root:!*:1::::::\npi:$y$hash:1::::::\n", "these accounts have a password, or need none: pi"),
        ("etc/shadow", "pi::1::::::\n", "these accounts have a password, or need none: pi"),
        ("lib/systemd/system/userconfig.service", "", "waits for a keyboard"),
        ("etc/fstab", "/dev/mmcblk0p3 none swap sw 0 0\n", "swap is on"),
    ],
)
def test_a_bad_image_is_refused(path: str, content: str, says: str, root: Path) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)
    checked = check(root)
    assert checked.returncode != 0
    assert says in checked.stderr


@pytest.mark.parametrize(
    "missing", ["opt/moodline/venv/bin/python", "etc/systemd/system/multi-user.target.wants/moodline-box.service"]
)
def test_an_image_without_the_program_is_refused(missing: str, root: Path) -> None:
    (root / missing).unlink()
    assert check(root).returncode != 0
