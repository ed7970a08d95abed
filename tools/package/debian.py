"""Build a Debian package of one role: its files, the program's source, its locks, and the scripts that dpkg runs.

The same commit and SOURCE_DATE_EPOCH give the same bytes. The source comes from the commit, not from the working
folder: a key or a recording that lies about there cannot get in. The Python environment is made on the machine itself,
from the locks, because it differs from processor to processor; so the package is of every architecture.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from device.errors import ConfigError
from provisioning.installation import EXECUTABLE, LIBRARY, PROGRAM_ROOT, ROLES, InstalledFile, Role, files
from provisioning.services import SETTINGS_ROOT

REPOSITORY: Final = Path(__file__).resolve().parents[2]
SCRIPTS: Final = Path(__file__).resolve().parent / "scripts"
SOURCES: Final = ("device", "models", "provisioning")
OTHER_SOURCES: Final = ("requirements", "LICENSE", "docs/installation.md")
#: What a box never runs: how the networks are trained, and how an image is made.
LEFT_OUT: Final = ("models/networks/", "models/teachers/", "provisioning/image/")
BUNDLE: Final = "models/bundle/"
FOLDER_MODE: Final = 0o755
BUILD_TIMEOUT_S: Final = 120
MAINTAINER: Final = "Moodline <moodline@example.invalid>"
#: picamera2 and libcamera's Python binding come from Debian, not from a lock.
VENV_OPTIONS: Final = {"unit": "--system-site-packages", "gateway": ""}
DESCRIPTION: Final = {
    "unit": "box of one desk that decides on the box which emotion is expressed\n"
    " Only the label leaves, sealed and signed. What a room's boxes may do stands in\n"
    " the room's signed deployment policy; without a valid one nothing is inferred.",
    "gateway": "classroom gateway with the room's broker and registrar\n"
    " Verifies, opens and stores the labels of a room's boxes, hands them on, enrols\n"
    " boxes and renews their certificates.",
}


@dataclass(frozen=True)
class Build:
    """What a package is built from. `epoch` is the time of every file, in seconds since 1970; `commit` is git's."""

    role: Role
    version: str
    epoch: int
    commit: str = "HEAD"

    @property
    def package(self) -> str:
        """The package's name."""
        return f"moodline-{self.role.name}"

    @property
    def file_name(self) -> str:
        """NAME_VERSION_ARCHITECTURE.deb"""
        return f"{self.package}_{self.version}_all.deb"


def version() -> str:
    """The version in setup.cfg."""
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    return setup["metadata"]["version"]


def epoch() -> int:
    """SOURCE_DATE_EPOCH, or the time of the last commit. Raises ConfigError when there is neither."""
    given = os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct").decode().strip()
    if not given.isdecimal():
        raise ConfigError(f"SOURCE_DATE_EPOCH is {given!r}.", next_step="Give whole seconds since 1970.")
    return int(given)


def build(made: Build, folder: Path) -> Path:
    """Write the package into `folder` and return its path; its unpacked tree stays beside it.

    Raises ConfigError when dpkg-deb is missing or finds fault.
    """
    if shutil.which("dpkg-deb") is None:
        raise ConfigError("dpkg-deb is not installed.", next_step="Run: apt install dpkg")
    tree = folder / f"{made.package}-tree"
    shutil.rmtree(tree, ignore_errors=True)
    contents = tree_files(made)
    for each in (*contents, *control_files(made, contents)):
        _write(tree, each)
    _settle(tree, made.epoch)
    package = folder / made.file_name
    command = ["dpkg-deb", "--build", "--root-owner-group", "-Zxz", "--threads-max=1", str(tree), str(package)]
    ran = subprocess.run(
        command,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(made.epoch)},
        capture_output=True,
        check=False,
        text=True,
        timeout=BUILD_TIMEOUT_S,
    )
    if ran.returncode != 0:
        raise ConfigError(f"dpkg-deb: {ran.stderr.strip()}", next_step="Mend what it says.")
    return package


def tree_files(made: Build) -> list[InstalledFile]:
    """What the package puts on a machine, in order of the paths."""
    role, doc = made.role, f"/usr/share/doc/{made.package}"
    source = committed(made.commit)
    found = [
        *files(role),
        *(InstalledFile(f"{LIBRARY}/{name}", source[name]) for name in source_names(role, source)),
        *(InstalledFile(f"{PROGRAM_ROOT}/locks/{name}", source[f"requirements/{name}"]) for name in role.locks),
        InstalledFile(f"{doc}/copyright", source["LICENSE"]),
        InstalledFile(f"{doc}/installation.md", source["docs/installation.md"]),
        InstalledFile(f"{PROGRAM_ROOT}/make-environment", _script("make-environment", made), EXECUTABLE),
    ]
    return sorted(found, key=lambda each: each.path)


@cache
def committed(commit: str) -> Mapping[str, bytes]:
    """The files of a commit that a package may need, by name. Raises ConfigError when git does not know the commit."""
    packed = _git("archive", "--format=tar", commit, "--", *SOURCES, *OTHER_SOURCES)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = [member for member in archive if member.isfile()]
        return {member.name: opened.read() for member in members if (opened := archive.extractfile(member))}


def source_names(role: Role, names: Iterable[str]) -> list[str]:
    """Those of the names that are the program's source, as far as the role's machine runs it."""
    left_out = (*LEFT_OUT, BUNDLE) if role.name == "gateway" else LEFT_OUT
    sources = tuple(f"{folder}/" for folder in SOURCES)
    return sorted(name for name in names if name.startswith(sources) and not name.startswith(left_out))


def control_files(made: Build, contents: Iterable[InstalledFile]) -> list[InstalledFile]:
    """DEBIAN/: the control file, the list of configuration files, and the scripts."""
    listed = list(contents)
    settings = "".join(f"{each.path}\n" for each in listed if each.path.startswith("/etc/"))
    scripts = [
        InstalledFile(f"/DEBIAN/{name}", _script(name, made), EXECUTABLE) for name in ("postinst", "prerm", "postrm")
    ]
    described = InstalledFile("/DEBIAN/control", control(made, listed).encode())
    return [described, *([InstalledFile("/DEBIAN/conffiles", settings.encode())] if settings else []), *scripts]


def control(made: Build, contents: Iterable[InstalledFile]) -> str:
    """The control file (deb-control(5)). Installed-Size is in KiB, each file rounded up."""
    role = made.role
    others = ", ".join(f"moodline-{name}" for name in sorted(ROLES) if name != role.name)
    fields = {
        "Package": made.package,
        "Version": made.version,
        "Section": "misc",
        "Priority": "optional",
        "Architecture": "all",
        "Maintainer": MAINTAINER,
        "Installed-Size": str(sum(-(-len(each.content) // 1024) for each in contents)),
        "Depends": ", ".join(role.packages),
        "Recommends": ", ".join(role.recommended),
        "Conflicts": others,
        "Description": DESCRIPTION[role.name],
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def _script(name: str, made: Build) -> bytes:
    text = (SCRIPTS / name).read_text()
    replaced = {
        "@PACKAGE@": made.package,
        "@SERVICES@": " ".join(made.role.enabled),
        "@STATE@": " ".join(folder.path for folder in made.role.folders if folder.state),
        "@VENV_OPTIONS@ ": f"{VENV_OPTIONS[made.role.name]} ".lstrip(),
    }
    for placeholder, value in replaced.items():
        text = text.replace(placeholder, value)
    return text.encode()


def _write(tree: Path, each: InstalledFile) -> None:
    path = tree / each.path[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(each.content)
    path.chmod(each.mode)


def _settle(tree: Path, epoch_s: int) -> None:
    """One time and one mode for all folders, whatever the umask; SETTINGS_ROOT is an empty one."""
    (tree / SETTINGS_ROOT[1:]).mkdir(parents=True, exist_ok=True)
    for path in sorted(tree.rglob("*"), reverse=True):
        if path.is_dir():
            path.chmod(FOLDER_MODE)
        os.utime(path, (epoch_s, epoch_s))
    tree.chmod(FOLDER_MODE)
    os.utime(tree, (epoch_s, epoch_s))


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=REPOSITORY, check=True, capture_output=True, timeout=BUILD_TIMEOUT_S
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"git {arguments[0]} failed ({error}).", next_step="A package is built from a clone of the repository."
        ) from error
