"""What is measured and is no prediction: an area under a curve, a rate. Read by the report, without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from device.errors import ConfigError
from tools.training.scores import Figure

FINDINGS: Final = "findings.json"


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One measured number. `unit` is "%" or "" (a plain number); `low` and `high` are the ends of its 95 % interval;
    `beside` is what to hold it against, chance or the paper's claim."""

    study: str
    what: str
    value: float
    unit: str
    n: int
    low: float | None = None
    high: float | None = None
    beside: str = ""
    note: str = ""


def read_findings(out: Path) -> list[Finding]:
    """All findings of the report's folder. Raises ConfigError when the file is of another form."""
    path = out / FINDINGS
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Finding]) if path.exists() else []
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{path}: not a file of findings ({error}).", next_step="Make it anew: python -m tools.evaluate.studies"
        ) from error


def percent(study: str, what: str, figure: Figure, n: int, *, beside: str = "", note: str = "") -> Finding:
    """A share with its interval as a finding in percent."""
    low, value, high = (round(100 * end, 2) for end in (figure.low, figure.value, figure.high))
    return Finding(study=study, what=what, value=value, low=low, high=high, unit="%", n=n, beside=beside, note=note)
