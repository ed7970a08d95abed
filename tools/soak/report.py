"""What a soak run found: checks that hold or not, and figures; a table for people and JSON for machines."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.table import Table


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One promise. `found` is what was seen, `wanted` what was promised, both for people."""

    name: str
    found: str
    wanted: str
    passed: bool


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A measured number about which nothing is promised."""

    name: str
    value: float
    unit: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `seconds` is the wall time of the part in which programs were killed."""

    run: str
    seed: int
    seconds: float
    checks: list[Check]
    figures: list[Figure]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(check.passed for check in self.checks)


def count(name: str, wrong: object, *, wanted: int = 0) -> Check:
    """A check that a number, or the length of a collection of offenders, is what it should be; a few are shown."""
    if isinstance(wrong, int):
        return Check(name=name, found=str(wrong), wanted=str(wanted), passed=wrong == wanted)
    offenders = sorted(wrong)  # type: ignore[call-overload]
    few = "" if not offenders else ": " + ", ".join(map(str, offenders[:4])) + (" …" if len(offenders) > 4 else "")
    return Check(name=name, found=f"{len(offenders)}{few}", wanted=str(wanted), passed=len(offenders) == wanted)


def at_most(name: str, value: float, limit: float, unit: str) -> Check:
    """A check against an upper limit."""
    return Check(name=name, found=f"{value:.4g} {unit}", wanted=f"at most {limit:.4g} {unit}", passed=value <= limit)


def show(report: Report, console: Console) -> None:
    """The tables for people."""
    table = Table(title=f"{report.run}: {report.seconds:.0f} s, seed {report.seed}")
    for name in ("promise", "found", "wanted", "kept"):
        table.add_column(name, overflow="fold")
    for check in report.checks:
        table.add_row(check.name, check.found, check.wanted, "[green]yes[/green]" if check.passed else "[red]no[/red]")
    console.print(table)
    figures = Table()
    figures.add_column("figure", overflow="fold")
    figures.add_column("value")
    for figure in report.figures:
        figures.add_row(figure.name, f"{figure.value:.4g} {figure.unit}")
    console.print(figures)
