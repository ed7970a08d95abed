"""`moodline-gateway`: the classroom program. Exit codes: 0 stopped, 1 failed by what may pass, 2 refused to start.

SIGHUP lets it look for a newer roster and policy at once; it does so by itself every few seconds.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from device.config import load_gateway
from device.errors import MoodlineError, StorageError, TransportError
from device.gateway.service import Ending
from device.gateway.wiring import build
from device.system.systemd import log_handler

FAILED, REFUSED = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the room's gateway until SIGTERM or SIGINT. Under a newer roster it builds itself anew, in a new session."""
    parser = argparse.ArgumentParser(
        prog="moodline-gateway",
        description="Runs the classroom gateway: verifies, opens and stores labels, hands them on, serves the page.",
        epilog="Exit codes: 0 stopped on request, 1 failed by what may pass, 2 refused to start. SIGHUP: look for a"
        " newer roster at once.",
    )
    parser.add_argument("--config", type=Path, default=Path("/etc/moodline/gateway.toml"), help="default: %(default)s")
    parser.add_argument("--verbose", action="store_true", help="log more")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, handlers=[log_handler("moodline-gateway")]
    )
    stop, look = threading.Event(), threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: look.set())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        ending = Ending.NEWER_ROSTER
        while ending is Ending.NEWER_ROSTER and not stop.is_set():
            service = build(load_gateway(options.config))
            print(f"The page is at {service.address}", flush=True)
            ending = service.run(stop, look)
    except (StorageError, TransportError) as error:
        # What may pass by itself, such as a full disk. The service manager starts us again.
        print(f"moodline-gateway: {error}", file=sys.stderr)
        return FAILED
    except MoodlineError as error:
        print(f"moodline-gateway: {error}", file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
