"""`python -m tools.package`: build the Debian packages of both roles into build/, or write the page's tables anew.

Exit codes: 0 done, 2 it cannot be done.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from device.errors import MoodlineError
from provisioning.installation import ROLES, tables
from tools.package.debian import REPOSITORY, Build, build, epoch, version

PAGE: Final = REPOSITORY / "docs" / "installation.md"
EXIT_REFUSED: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, and print what was built with its digest."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.package",
        description="Builds moodline-unit_VERSION_all.deb and moodline-gateway_VERSION_all.deb.",
        epilog="SOURCE_DATE_EPOCH is the time of all files in them; without it, the time of the last commit.",
    )
    parser.add_argument("--out", type=Path, default=Path("build"), help="default: %(default)s")
    parser.add_argument("--role", choices=sorted(ROLES), help="build one of the two only")
    parser.add_argument("--write-docs", action="store_true", help="write the tables of docs/installation.md anew")
    options = parser.parse_args(arguments)
    try:
        if options.write_docs:
            PAGE.write_text(with_tables(PAGE.read_text()))
            return 0
        options.out.mkdir(parents=True, exist_ok=True)
        for name in [options.role] if options.role else sorted(ROLES):
            package = build(Build(ROLES[name], version(), epoch()), options.out)
            print(f"{package}   sha256 {hashlib.sha256(package.read_bytes()).hexdigest()}")
    except MoodlineError as error:
        print(f"package: {error}", file=sys.stderr)
        return EXIT_REFUSED
    return 0


def with_tables(page: str) -> str:
    """The page with the tables of both roles between their marks."""
    for name, role in ROLES.items():
        begin, end = f"<!-- {name}: from provisioning/installation.py -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{tables(role)}\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    sys.exit(main())
