"""`moodline-provision install` and `uninstall`: put a role's files below a root folder, and take them away again."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from device.errors import ConfigError
from provisioning.installation import ROLES, activation, deactivation
from provisioning.installer import Action, Installation

EXIT_OK: Final = 0
EXIT_WOULD_CHANGE: Final = 1
COMMAND_TIMEOUT_S: Final = 120
DONE: Final = {Action.MAKE: "made", Action.REPLACE: "replaced", Action.REMOVE: "removed"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `install` and `uninstall`."""
    install = commands.add_parser(
        "install",
        help="write a role's services, users, folders and settings below a root folder",
        description="Write what a unit or a gateway machine needs besides the program itself. Running it again changes"
        " nothing. The Debian package does the same; use one of the two.",
        epilog="Exit codes: 0 done, or nothing to do; 1 a dry run found something to do; 2 it cannot be done.",
    )
    _add_place(install)
    install.add_argument("--dry-run", action="store_true", help="show the changes as a diff, and change nothing")
    install.add_argument("--force", action="store_true", help="overwrite files that somebody else wrote or changed")
    install.set_defaults(command=_install)

    uninstall = commands.add_parser(
        "uninstall",
        help="remove what install wrote; keys and state stay",
        description="Remove what `install` wrote and nobody changed since.",
        epilog="Exit codes: 0 done, 2 it cannot be done.",
    )
    _add_place(uninstall)
    uninstall.add_argument("--purge", action="store_true", help="remove keys and state, too: the box must enrol anew")
    uninstall.set_defaults(command=_uninstall)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="/ for this machine, or an image's root"
    )
    parser.add_argument(
        "--activate", action="store_true", help="with --root /: run the commands that are otherwise only printed"
    )


def _install(options: argparse.Namespace) -> int:
    role = ROLES[options.role]
    installation = Installation(_root(options, needs_root=not options.dry_run), role)
    if options.dry_run:
        changes = installation.changes()
        for change in changes:
            if change.foreign:
                print(f"Not written by this installer; only --force replaces it: {change.path}")
            print(change.diff(), end="")
        print(f"{len(changes)} files would change." if changes else "Nothing would change.")
        return EXIT_WOULD_CHANGE if changes else EXIT_OK
    changes = installation.install(force=options.force)
    for change in changes:
        print(f"{DONE[change.action]:8} {change.path}")
    print(f"{len(changes)} files changed." if changes else "Nothing changed: everything was installed already.")
    _run_or_print(activation(role), options)
    return EXIT_OK


def _uninstall(options: argparse.Namespace) -> int:
    role = ROLES[options.role]
    installation = Installation(_root(options, needs_root=True), role)
    _run_or_print(deactivation(role), options)
    for kept in installation.uninstall(purge=options.purge):
        print(f"kept     {kept.path}: {kept.why}")
    print(f"The role {role.name} is removed.")
    return EXIT_OK


def _root(options: argparse.Namespace, *, needs_root: bool) -> Path:
    root: Path = options.root.resolve()
    here = root == Path("/")
    if options.activate and not here:
        raise ConfigError(
            f"--activate acts on this machine, not on {root}.", next_step="Leave it out, or give --root /."
        )
    if here and needs_root and os.geteuid() != 0:
        raise ConfigError("Only root can change this machine.", next_step="Run it with sudo.")
    return root


def _run_or_print(commands: Sequence[Sequence[str]], options: argparse.Namespace) -> None:
    """On this machine: run them when asked to, else print them. An image's root has no running system."""
    if options.root.resolve() != Path("/"):
        return
    if not options.activate:
        print("Run as root:")
    for command in commands:
        print(f"  {shlex.join(command)}")
        if options.activate:
            _run(command)


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, timeout=COMMAND_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"{shlex.join(command)}: failed ({error}).", next_step="Mend what it says, and run it again by hand."
        ) from error
