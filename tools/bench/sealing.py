"""Sealing suites: what the hybrid one costs beside X25519. `python -m tools.bench.sealing` prints it."""

from __future__ import annotations

import time
from statistics import median

from device.messages.sealing import HYBRID, X25519, Opener, Place, Sealer, sealed_bytes
from tools.bench.measurement import Measurement
from tools.vectors import hybrid, room
from tools.vectors.cases import given

_CALLS = 500
_PLACE = Place(room.ROOM, room.LINE, "desk-1", 3, 11)


def measure() -> list[Measurement]:
    """Bytes of a sealed label, and milliseconds of processor time to seal and to open one (median of 500)."""
    found = []
    for name, opener, suite in (("suite 1", room.opener(), X25519), ("suite 2", hybrid.opener(), HYBRID)):
        seal_ms, open_ms = _milliseconds(opener, Sealer(opener.public_key, suite))
        found += [
            Measurement(name=f"sealed label, {name}", value=sealed_bytes(suite), unit="bytes"),
            Measurement(name=f"sealing a label, {name}", value=seal_ms, unit="ms"),
            Measurement(name=f"opening a label, {name}", value=open_ms, unit="ms"),
        ]
    return found


def _milliseconds(opener: Opener, sealer: Sealer) -> tuple[float, float]:
    sealing, opening = [], []
    for _ in range(_CALLS):
        start = time.thread_time()
        sealed = sealer.seal(given(), _PLACE)
        middle = time.thread_time()
        opener.open(sealed, _PLACE)
        sealing.append(middle - start)
        opening.append(time.thread_time() - middle)
    return median(sealing) * 1e3, median(opening) * 1e3


def main() -> None:
    """Print the measurements."""
    for measurement in measure():
        print(f"{measurement.name:28} {measurement.value:8.3f} {measurement.unit}")


if __name__ == "__main__":
    main()
