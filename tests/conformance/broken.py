"""Implementations with one defect each, behind the same door: `python -m tests.conformance.broken DEFECT COMMAND`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

import cbor2

from device.errors import RemoteMessageError, Verdict
from device.line import verify
from device.messages import cbor, envelope
from device.messages.envelope import Envelope
from device.messages.link import LinkFlag
from device.messages.sealing import Place, Sealer
from tools.conformance import line

#: Order of the Ed25519 base point (RFC 8032, section 5.1).
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493


def put(where: object, name: str, what: object) -> None:
    """Put a defect in place."""
    setattr(where, name, what)


def skip_step_7() -> None:
    """Takes a link whatever it continues."""
    put(verify, "step_7_previous", lambda link, view: None)


def malleable_signature() -> None:
    """Takes S + L for S, as careless verifiers do (RFC 8032, section 8.4)."""
    strict = envelope.signature_holds

    def lax(public_key: bytes, signature: bytes, message: bytes) -> bool:
        scalar = int.from_bytes(signature[32:], "little") % _ORDER
        return strict(public_key, signature[:32] + scalar.to_bytes(32, "little"), message)

    put(envelope, "signature_holds", lax)


def encode_again() -> None:
    """Decodes any CBOR and verifies over what it encodes itself, not over what it received."""
    strict = envelope.check_signature

    def decode(encoded: bytes) -> object:
        try:
            return cbor2.loads(encoded)
        except (cbor2.CBORDecodeError, RecursionError) as error:
            raise RemoteMessageError(Verdict.NOT_DECODABLE, str(error)) from error

    def check(found: Envelope, public_key: bytes, **where: Any) -> None:
        payload = cbor.encode(cbor.decode(found.payload))
        again = Envelope(found.raw, found.content_type, found.key_id, found.protected, payload, found.signature)
        strict(again, public_key, **where)

    put(cbor, "decode", decode)
    put(verify, "check_signature", check)


def wrong_step() -> None:
    """Names the right verdict with another step."""
    original = line.answer

    def answer(command: object, request: object) -> line.Answer:
        code, found = original(command, request)
        return code, {**found, "step": 5} if found.get("step") == 4 else found

    put(line, "answer", answer)


def continue_the_grant() -> None:
    """Appends to the grant, not to the newest link."""
    original = verify.OpenRound.extend

    def extend(view: verify.OpenRound, link: verify.SignedLink) -> None:
        head = view.head
        original(view, link)
        view.head = head

    put(verify.OpenRound, "extend", extend)


def one_place_for_all() -> None:
    """Seals every label for the same place."""
    original = Sealer.seal

    def seal(sealer: Sealer, label: Any, place: Place) -> bytes:
        return original(sealer, label, Place(place.room, place.line, place.unit, place.session, 1))

    put(Sealer, "seal", seal)


def same_ciphertext() -> None:
    """Seals equal labels alike."""
    original, known = Sealer.seal, dict[str, bytes]()

    def seal(sealer: Sealer, label: Any, place: Place) -> bytes:
        return known.setdefault(repr(label), original(sealer, label, place))

    put(Sealer, "seal", seal)


def numbers_begin_anew() -> None:
    """Forgets the sequence number between two links."""
    original = line.append

    def append(request: line.AppendRequest) -> dict[str, Any]:
        found = original(request)
        found["state"]["sequence"] = 0
        return found

    put(line, "COMMANDS", {**line.COMMANDS, "append": line._command(line.AppendRequest, append)})


def flag_never_set() -> None:
    """Does not say that the grant knew its session."""
    put(line, "_flags", lambda request, accepted: LinkFlag(request.flags))


def exit_code_always_0() -> None:
    """Says what is wrong, and exits as if all were well."""
    original = line.main
    put(line, "main", lambda arguments: original(arguments) * 0)


def dies_of_deep_nesting() -> None:
    """A hostile message takes the program down."""
    decode = cbor.decode

    def fragile(encoded: bytes) -> object:
        if encoded.startswith(b"\x81" * 1_000):
            os._exit(139)
        return decode(encoded)

    put(cbor, "decode", fragile)


DEFECTS: Final[dict[str, Callable[[], None]]] = {
    defect.__name__: defect
    for defect in (
        *(skip_step_7, malleable_signature, encode_again, wrong_step, continue_the_grant, one_place_for_all),
        *(same_ciphertext, numbers_begin_anew, flag_never_set, exit_code_always_0, dies_of_deep_nesting),
    )
}


if __name__ == "__main__":
    DEFECTS[sys.argv[1]]()
    sys.exit(line.main(sys.argv[2:]))
