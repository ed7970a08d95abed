"""`moodline-unit`: the desk program.

Exit codes: 0 stopped; 1 failed by what may pass, so that the service manager tries again; 2 refused to start, or to go
on under a newer roster. The message says why.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from device.config import load_unit
from device.errors import CaptureError, MoodlineError, StorageError, TransportError
from device.system.systemd import log_handler
from device.unit.service import Ending
from device.unit.wiring import build

FAILED, REFUSED = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run one unit until SIGTERM or SIGINT. Under a newer roster it builds itself anew, in a new session."""
    parser = argparse.ArgumentParser(
        prog="moodline-unit",
        description="Runs the box of one desk: senses, decides on the box, and sends sealed, signed labels.",
        epilog="Exit codes: 0 stopped on request, 1 failed by what may pass, 2 refused to start.",
    )
    parser.add_argument("--config", type=Path, default=Path("/etc/moodline/device.toml"), help="default: %(default)s")
    parser.add_argument(
        "--list-devices", action="store_true", help="print the names of microphones and cameras, then end"
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, handlers=[log_handler("moodline-unit")]
    )
    try:
        if options.list_devices:
            return list_devices()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while build(load_unit(options.config)).run(stop) is Ending.NEWER_ROSTER and not stop.is_set():
            pass
    except (CaptureError, StorageError, TransportError) as error:
        # What may pass by itself: a microphone that comes late, a full disk. The service manager starts us again.
        print(f"moodline-unit: {error}", file=sys.stderr)
        return FAILED
    except MoodlineError as error:
        print(f"moodline-unit: {error}", file=sys.stderr)
        return REFUSED
    return 0


def list_devices() -> int:
    """Print the stable names to put into device.toml; a sense that cannot be listed says why."""
    from device.capture import camera, microphone

    listing: dict[str, Callable[[], list[str]]] = {
        "microphone": lambda: [device.name for device in microphone.list_devices()],
        "camera": camera.list_cameras,
    }
    for sense, names in listing.items():
        try:
            found = names()
        except CaptureError as error:
            print(f"{sense}: {error}", file=sys.stderr)
            continue
        for name in found:
            print(f"{sense}: {name}")
        if not found:
            print(f"{sense}: none found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
