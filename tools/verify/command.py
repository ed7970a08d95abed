"""The command line of `moodline-verify`. Exit codes: 0 verified, 1 a finding, 2 cannot run."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from device.config import LineLimits, load_gateway
from device.errors import ConfigError, MoodlineError
from device.line.log import LogError, LogFinding
from device.messages.envelope import DIGEST_BYTES
from device.messages.receipt import ReceiptKind
from tools.verify.check import Checker, Findings, Seen, authentic_grant, kept_span
from tools.verify.receipts import export_proofs, export_span, judge_proof, proof_name, proof_pieces, write_pieces
from tools.verify.report import Document, as_json, as_text, log_document, proof_document
from tools.verify.rosters import Rosters, load_rosters, read_file
from tools.verify.sources import ReceiptSource, StoreSource, open_source, proof_in

VERIFIED, FINDING, CANNOT_RUN = 0, 1, 2
#: From so many rounds on, a terminal sees a progress bar.
PROGRESS_FROM: Final = 2_000
_HEX_DIGEST: Final = re.compile(rf"[0-9a-fA-F]{{{2 * DIGEST_BYTES}}}")

_DESCRIPTION: Final = """\
Check off line, with nothing but the room's roster, that a gateway's log is what was signed when it was made: nothing
altered, dropped, reordered or put in. FILE is gateway.sqlite from the gateway's state folder (also while the gateway
runs, also a copy), or a receipt or proof that this command wrote. FILE is not changed.
"""
_EPILOG: Final = """\
Exit codes: 0 verified (a proof: it proves what is printed), 1 a finding (the first object that does not hold is named),
2 cannot run (a file is missing, a roster is not by the given authority or its epoch is missing, ...).
docs/offline-verification.md explains every code, the files' formats, and what no verifier can know.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moodline-verify",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    judging = parser.add_argument_group("by what to judge")
    judging.add_argument(
        "--roster",
        type=Path,
        action="append",
        default=[],
        metavar="ROSTER",
        help="signed roster (roster.cose); once for each epoch that the log spans",
    )
    judging.add_argument(
        "--authority", metavar="KEY", help="the room authority's public key: PEM file or 64 hexadecimal digits"
    )
    judging.add_argument(
        "--trust",
        type=Path,
        metavar="BUNDLE",
        help="trust bundle (trust.cbor) of an authority that has changed its key: with it, any one of its keys will do",
    )
    judging.add_argument(
        "--config", type=Path, metavar="GATEWAY.toml", help="take the line's limits from there, if they were changed"
    )
    judging.add_argument("--line", help="only this line (default: all lines of FILE)")
    judging.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="HEX",
        help="digest of an object that somebody saw: the log must hold it",
    )
    judging.add_argument(
        "--grant",
        type=Path,
        action="append",
        default=[],
        metavar="GRANT",
        help="a grant that a unit holds: the log must hold it or lead up to it",
    )
    judging.add_argument(
        "--deleted", type=Path, metavar="RECEIPT", help="a receipt that must be of exactly the rounds that were deleted"
    )
    writing = parser.add_argument_group("what to write, once FILE is verified")
    writing.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    writing.add_argument("--export", type=Path, metavar="RECEIPT", help="write rounds --from to --to as a receipt")
    writing.add_argument("--from", type=int, dest="first", metavar="ROUND")
    writing.add_argument("--to", type=int, dest="last", metavar="ROUND")
    writing.add_argument(
        "--proofs",
        type=Path,
        metavar="FOLDER",
        help="write the proofs stored with the gateway's alerts, and one of a contradiction with --grant, as files",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.export is None) != (options.first is None) or (options.first is None) != (options.last is None):
        parser.error("--export, --from and --to come together")
    try:
        document = _run(options)
    except MoodlineError as error:
        print(f"moodline-verify: {error}", file=sys.stderr)
        return CANNOT_RUN
    print(as_json(document) if options.json else as_text(document))
    return VERIFIED if document.verified else FINDING


def _run(options: argparse.Namespace) -> Document:
    limits = LineLimits() if options.config is None else load_gateway(options.config).limits
    rosters = load_rosters(options.roster, options.authority, options.trust)
    try:
        with open_source(options.file, limits) as source:
            if isinstance(source, ReceiptSource):
                rosters.add_embedded(source.header.rosters, str(options.file))
            if not rosters.by_epoch:
                raise ConfigError("No roster was given.", next_step="Give the room's roster.cose with --roster.")
            if isinstance(source, ReceiptSource) and source.header.kind is ReceiptKind.PROOF:
                return _judge(options.file, source, rosters, limits)
            return _check(options, source, rosters, limits)
    except LogError as error:
        return log_document(options.file, "log", rosters, Findings(failure=error))


def _judge(path: Path, source: ReceiptSource, rosters: Rosters, limits: LineLimits) -> Document:
    line = source.header.line
    try:
        outcome = judge_proof(proof_in(source), rosters.by_epoch, line, limits)
    except LogError as error:
        outcome = error
    return proof_document(path, rosters, line, outcome)


def _check(
    options: argparse.Namespace, source: StoreSource | ReceiptSource, rosters: Rosters, limits: LineLimits
) -> Document:
    seen = Seen(
        heads=frozenset(_digest(each) for each in options.head),
        grants=tuple(
            authentic_grant(read_file(path, limits.message_bytes + 1), path, rosters.by_epoch, limits)
            for path in options.grant
        ),
    )
    with _progress(source.size()) as progress:
        checker = Checker(source, rosters.by_epoch, limits, options.line, seen, progress)
        found = checker.run()
    if found.failure is None and options.deleted is not None:
        _compare_deleted(options.deleted, checker, found)
    if found.failure is None and options.export is not None:
        _export(options, source, rosters, found)
    elif options.export is not None:
        found.notes.append(f"{options.export}: not written, because of this finding.")
    if options.proofs is not None:
        _write_proofs(options.proofs, source, rosters, limits, found)
    return log_document(options.file, "receipt" if isinstance(source, ReceiptSource) else "log", rosters, found)


def _digest(given: str) -> bytes:
    if not _HEX_DIGEST.fullmatch(given):
        raise ConfigError(f"--head {given}: is no digest.", next_step=f"Give {2 * DIGEST_BYTES} hexadecimal digits.")
    return bytes.fromhex(given)


def _compare_deleted(path: Path, checker: Checker, found: Findings) -> None:
    """Hold a kept receipt against the stub of its line."""
    with open_source(path, checker.limits) as receipt:
        if not isinstance(receipt, ReceiptSource):
            raise ConfigError(f"{path}: is no receipt.", next_step="Give a file that --export wrote.")
        line = receipt.header.line
        summary = found.lines.get(line)
        try:
            stub = kept_span(receipt, checker)
        except LogError as error:
            raise ConfigError(f"{path}: does not hold itself ({error.what})", next_step="Check it alone.") from error
    if summary is None or summary.stub != stub:
        what = f"{path} is not of exactly the rounds that were deleted of line {line}."
        found.failure = LogError(LogFinding.STUB_MISMATCH, what, line=line, round_number=0, place=None)
    else:
        found.notes.append(f"{path}: holds exactly the rounds that were deleted of line {line}.")


def _export(
    options: argparse.Namespace, source: StoreSource | ReceiptSource, rosters: Rosters, found: Findings
) -> None:
    if len(found.lines) != 1:
        raise ConfigError(
            f"{options.file}: holds the lines {', '.join(found.lines)}.",
            next_step="Give the one to export with --line.",
        )
    (summary,) = found.lines.values()
    count = export_span(source, summary, rosters, options.first, options.last, options.export)
    found.notes.append(f"{options.export}: rounds {options.first} to {options.last}, {count:,} signed objects.")


def _write_proofs(
    folder: Path, source: StoreSource | ReceiptSource, rosters: Rosters, limits: LineLimits, found: Findings
) -> None:
    if isinstance(source, StoreSource):
        written, left_out = export_proofs(source.proofs(), rosters, limits, folder)
        found.notes += [f"{path}: {proved.sentence}." for path, proved in written] + left_out
        if not written and not left_out and found.contradiction is None:
            found.notes.append("The store holds no proof.")
    if found.contradiction is not None and found.failure is not None:
        line = found.failure.line
        proved = judge_proof(found.contradiction, rosters.by_epoch, line, limits)
        if isinstance(proved, MoodlineError):
            return
        path = folder / proof_name(line, proved, found.contradiction)
        write_pieces(path, proof_pieces(found.contradiction, rosters, line))
        found.notes.append(f"{path}: {proved.sentence}.")


@contextmanager
def _progress(rounds: int) -> Iterator[Callable[[], object]]:
    """A bar on a terminal, where tqdm is installed and there is enough to do."""
    if rounds < PROGRESS_FROM or not sys.stderr.isatty():
        yield lambda: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda: None
        return
    with tqdm(total=rounds, unit="round", unit_scale=True) as bar:
        yield bar.update
