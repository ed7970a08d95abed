"""Writing receipts and proofs from what was verified."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from device.config import LineLimits
from device.errors import ConfigError, RemoteMessageError
from device.line.actions import ClosedRound
from device.line.evidence import Proved, prove
from device.line.log import MissingRosterError
from device.line.verify import step_2_grant, step_2_link
from device.messages.envelope import digest
from device.messages.receipt import ROSTERS, ReceiptHeader, ReceiptKind, encode_receipt
from device.messages.roster import Roster
from tools.verify.rosters import Rosters
from tools.verify.sources import OpenGrant, ReceiptSource, StoreSource
from tools.verify.summary import LineSummary


def export_span(
    source: StoreSource | ReceiptSource, summary: LineSummary, rosters: Rosters, first: int, last: int, path: Path
) -> int:
    """Write rounds `first` to `last` of a line that was verified, with the grant that follows them, as a receipt.

    Returns the number of objects. Raises ConfigError when the file does not hold these rounds, or cannot be written.
    """
    if not summary.first_round <= first <= last <= summary.last_round:
        raise ConfigError(
            f"Rounds {first} to {last} of line {summary.line} are not all there (it holds {summary.first_round} to"
            f" {summary.last_round}).",
            next_step="Give --from and --to within what it holds; deleted rounds cannot be exported.",
        )
    count, epochs = 0, set[int]()
    for _, epoch in _span(source, summary.line, first, last):
        count += 1
        epochs.add(epoch)
    if len(epochs) > ROSTERS:
        raise ConfigError(
            f"These rounds span {len(epochs)} epochs; a receipt holds {ROSTERS}.", next_step="Export shorter spans."
        )
    header = ReceiptHeader(
        kind=ReceiptKind.SPAN,
        room=rosters.room,
        line=summary.line,
        rosters=tuple(rosters.raw[epoch] for epoch in sorted(epochs)),
        first=first,
        last=last,
        objects=count,
    )
    write_pieces(path, encode_receipt(header, (raw for raw, _ in _span(source, summary.line, first, last))))
    return count


def _span(source: StoreSource | ReceiptSource, line: str, first: int, last: int) -> Iterator[tuple[bytes, int]]:
    """The objects of a span, with the epochs of their rounds, and the grant that follows."""
    for name, part in source.parts():
        if name != line or not isinstance(part, ClosedRound | OpenGrant):
            continue
        grant = part.grant if isinstance(part, ClosedRound) else part.raw
        links = part.links if isinstance(part, ClosedRound) else ()
        body, _ = step_2_grant(grant)
        if body.round > last + 1:
            return
        if body.round >= first:
            for raw in (grant, *(links if body.round <= last else ())):
                yield raw, body.epoch


def proof_pieces(proof: tuple[bytes, bytes], rosters: Rosters, line: str) -> Iterable[bytes]:
    """A proof as a file, with the rosters of its epochs. The objects are only looked at, not verified."""
    bodies = [_body(raw) for raw in proof]
    rounds = sorted(number for number, _ in bodies)
    header = ReceiptHeader(
        kind=ReceiptKind.PROOF,
        room=rosters.room,
        line=line,
        rosters=tuple(rosters.raw[epoch] for epoch in sorted({epoch for _, epoch in bodies}) if epoch in rosters.raw),
        first=rounds[0],
        last=rounds[1],
        objects=2,
    )
    return encode_receipt(header, proof)


def _body(raw: bytes) -> tuple[int, int]:
    try:
        link, _ = step_2_link(raw)
        return link.round, link.epoch
    except RemoteMessageError:
        grant, _ = step_2_grant(raw)
        return grant.round, grant.epoch


def export_proofs(
    proofs: Iterable[tuple[str, tuple[bytes, ...]]], rosters: Rosters, limits: LineLimits, folder: Path
) -> tuple[list[tuple[Path, Proved]], list[str]]:
    """Write each proof that holds as a file; returns these, and why others were left out."""
    written: list[tuple[Path, Proved]] = []
    left_out: list[str] = []
    for number, (line, objects) in enumerate(proofs, start=1):
        if len(objects) != 2:
            left_out.append(f"Stored proof {number} holds {len(objects)} objects, not two.")
            continue
        pair = (objects[0], objects[1])
        try:
            proved = prove(pair, rosters=rosters.by_epoch, line=line, limits=limits)
        except (RemoteMessageError, MissingRosterError) as error:
            left_out.append(f"Stored proof {number} was left out: {error.what}")
            continue
        path = folder / proof_name(line, proved, pair)
        write_pieces(path, proof_pieces(pair, rosters, line))
        written.append((path, proved))
    return written, left_out


def proof_name(line: str, proved: Proved, proof: tuple[bytes, bytes]) -> str:
    """The file's name: verified names, the verdict, and something of the content, so that no two are the same."""
    return f"{line}-{proved.signer}-{proved.verdict.value.replace('_', '-')}-{digest(b''.join(proof)).hex()[:8]}.proof"


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file whole or not at all. Raises ConfigError naming it."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream:
            stream.writelines(pieces)
        unfinished.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}).", next_step="Give another path.") from error


def judge_proof(
    proof: tuple[bytes, bytes], rosters: Mapping[int, Roster], line: str, limits: LineLimits
) -> Proved | RemoteMessageError:
    """What a proof proves, or why it proves nothing. Raises MissingRosterError."""
    try:
        return prove(proof, rosters=rosters, line=line, limits=limits)
    except RemoteMessageError as error:
        return error
