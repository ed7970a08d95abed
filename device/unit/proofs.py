"""Proofs that this box holds against a party of its line, as files for `moodline-verify`: the log may not show them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from device.errors import RemoteMessageError, StorageError
from device.line.verify import step_2_grant, step_2_link
from device.messages.envelope import digest
from device.messages.receipt import ReceiptHeader, ReceiptKind, encode_receipt
from device.system.storage import DISK, Disk, write_durably

LOG: Final = logging.getLogger(__name__)
FOLDER: Final = "proofs"
#: So many are kept; further ones are told in the log alone.
PROOFS: Final = 32


class ProofFolder:
    """Keeps each proof once, durably."""

    def __init__(self, folder: Path, *, room: str, line: str, roster: bytes, disk: Disk = DISK) -> None:
        self._folder = folder
        self._room = room
        self._line = line
        self._roster = roster
        self._disk = disk

    def keep(self, proof: tuple[bytes, ...]) -> Path | None:
        """The file of a proof of two objects; None when it is none, or could not be kept, which is logged."""
        if len(proof) != 2:
            return None
        path = self._folder / f"{self._line}-{digest(b''.join(proof)).hex()[:16]}.proof"
        try:
            self._folder.mkdir(exist_ok=True)
            if path.exists():
                return path
            if sum(1 for _ in self._folder.glob("*.proof")) >= PROOFS:
                LOG.warning("%s holds %d proofs already; this one is not kept.", self._folder, PROOFS)
                return None
            write_durably(path, self._file(proof), disk=self._disk)
        except (OSError, StorageError) as error:
            LOG.warning("A proof could not be kept: %s", error)
            return None
        return path

    def _file(self, proof: tuple[bytes, ...]) -> bytes:
        rounds = sorted(_round(raw) for raw in proof)
        header = ReceiptHeader(
            kind=ReceiptKind.PROOF,
            room=self._room,
            line=self._line,
            rosters=(self._roster,),
            first=rounds[0],
            last=rounds[-1],
            objects=len(proof),
        )
        return b"".join(encode_receipt(header, proof))


def _round(raw: bytes) -> int:
    try:
        return step_2_link(raw)[0].round
    except RemoteMessageError:
        return step_2_grant(raw)[0].round
