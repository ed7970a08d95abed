"""How fast `moodline-verify` is, and that its memory does not grow: `python -m tools.verify.bench --links 10000`.

For each size a log is made and then verified in a process of its own, whose peak memory the kernel reports; the same
process then measures the library's bare Ed25519 rate over links of that log. Both rates that make the share are by the
processor's time, so that a busy machine disturbs it less.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from device.config import LineLimits
from device.line.actions import ClosedRound
from device.messages.envelope import ContentType, external_aad, open_envelope, sig_structure, signature_holds
from device.messages.roster import sign_roster
from tools.vectors import room
from tools.verify.check import Checker
from tools.verify.rosters import Rosters
from tools.verify.sources import StoreSource, open_source
from tools.verify.synthetic import SyntheticLine, write_store

UNITS = 8
_BATCH = 500
_BATCHES = 20


def make(path: Path, links: int, units: int) -> float:
    """Write a log of about that many links; returns seconds."""
    line = SyntheticLine(units)
    start = time.perf_counter()
    write_store(path, room.LINE, line.rounds(max(1, links // units)), line)
    return time.perf_counter() - start


def measure(path: Path, units: int) -> dict[str, float]:
    """Verify a log in this process. `peak_mib` is the process's greatest resident memory so far."""
    limits = LineLimits()
    rosters = Rosters()
    rosters.add(sign_roster(room.roster(units), room.signer(room.AUTHORITY)), "the bench's own roster")
    with open_source(path, limits) as source:
        assert isinstance(source, StoreSource)
        start, processor = time.perf_counter(), time.process_time()
        found = Checker(source, rosters.by_epoch, limits).run()
        seconds, processor = time.perf_counter() - start, time.process_time() - processor
        peak = _peak_mib()
        if found.failure is not None:
            raise found.failure
        bare = bare_rate(source)
    line = found.lines[room.LINE]
    signatures = line.links + line.rounds + 1
    return {
        "links": line.links,
        "signatures": signatures,
        "seconds": seconds,
        "links_per_s": line.links / seconds,
        "signatures_per_s": signatures / seconds,
        "bare_per_s": bare,
        "share": signatures / processor / bare,
        "peak_mib": peak,
    }


def bare_rate(source: StoreSource) -> float:
    """Ed25519 verifications in a second of the processor, by the library alone, over links of that log: the best of
    some batches."""
    links = (link for _, part in source.parts() if isinstance(part, ClosedRound) for link in part.links)
    checks = []
    for raw in islice(links, _BATCH):
        envelope = open_envelope(raw, wanted=ContentType.LINK)
        message = sig_structure(envelope.protected, external_aad(room.ROOM, room.LINE), envelope.payload)
        checks.append((room.signer(envelope.key_id).public_key, envelope.signature, message))
    best = float("inf")
    for _ in range(_BATCHES):
        start = time.process_time()
        good = all(signature_holds(*check) for check in checks)
        best = min(best, (time.process_time() - start) / len(checks))
        assert good
    return 1 / best


def _peak_mib() -> float:
    """Greatest resident memory of this program (proc(5), VmHWM); `ru_maxrss` counts who started it, too."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1_024


def main(arguments: list[str] | None = None) -> int:
    """Make and measure logs; prints a table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m tools.verify.bench", description=__doc__)
    parser.add_argument("--links", type=int, nargs="+", default=[10_000, 100_000], metavar="N")
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--folder", type=Path, help="where the logs are made (about 600 bytes a link)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.units)))
        return 0
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for links in options.links:
            path = Path(folder) / f"{links}.sqlite"
            print(f"making {links:,} links", file=sys.stderr)
            made_s = make(path, links, options.units)
            command = [
                sys.executable,
                "-m",
                "tools.verify.bench",
                "--units",
                str(options.units),
                "--measure",
                str(path),
            ]
            print("verifying", file=sys.stderr)
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found.append({**json.loads(printed), "made_s": made_s, "log_mib": path.stat().st_size / (1 << 20)})
            path.unlink()
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print("     links   log MiB   seconds   links/s   signatures/s   bare Ed25519/s   share   peak MiB")
    for row in found:
        print(
            f"{row['links']:>10,.0f} {row['log_mib']:>9.1f} {row['seconds']:>9.2f} {row['links_per_s']:>9,.0f}"
            f" {row['signatures_per_s']:>14,.0f} {row['bare_per_s']:>16,.0f} {row['share']:>7.2f}"
            f" {row['peak_mib']:>10.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
