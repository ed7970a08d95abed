"""The registrar's side of enrolment: a machine without socket, file or clock. Requests in, answers out.

A claim is what a box without a seed file makes in the claim window:

| state     | event                               | next      | what happens                                           |
| --------- | ----------------------------------- | --------- | ------------------------------------------------------ |
| none      | ANNOUNCE (while the window is open) | ANNOUNCED | our nonce goes out                                     |
| ANNOUNCED | REVEAL (what it had committed to)   | REVEALED  | the code is fixed; `Wait` for the operator             |
| REVEALED  | REVEAL                              | REVEALED  | the same answer again                                  |
| REVEALED  | ACCEPT                              | ACCEPTED  | a seat is bound to the box's key, and decides from now |
| ACCEPTED  | REVEAL, ACCEPT (for the same seat)  | ACCEPTED  | what the seat says                                     |
| REVEALED  | REJECT                              | REJECTED  | every later request is refused                         |
| ACCEPTED  | RELEASE (of its seat)               | REJECTED  | as above                                               |
| REJECTED  | REJECT                              | REJECTED  | nothing                                                |
| ANNOUNCED | its time is over                    | expired   | refused; forgotten after `ClaimLimits.remembered_s`    |
| REVEALED  | its time is over                    | expired   | as above                                               |

A seat is a place in the room, with or without a token:

| state    | event                             | next     | what happens                                              |
| -------- | --------------------------------- | -------- | --------------------------------------------------------- |
| UNUSED   | BIND (by its token, or by ACCEPT) | BOUND    | the first key that shows the token has it for good        |
| UNUSED   | its time is over                  | expired  | the token is refused                                      |
| BOUND    | BIND (the same key)               | BOUND    | `Admit` again: whatever was cut off is done again         |
| BOUND    | RELEASE (by an operator)          | none     | the seat goes, and its token with it                      |
| BOUND    | ADMIT                             | ADMITTED | `Answer`                                                  |
| ADMITTED | BIND, ADMIT (the same key)        | ADMITTED | `Answer` again                                            |
| ADMITTED | REKEY (the box rotated its key)   | ADMITTED | the new key has the seat                                  |
| any      | the roster revokes its unit       | revoked  | every request is refused                                  |

Rules for editing: a new state or event gets its row here and in `_NEXT`; nothing else changes a state. Expired and
revoked are no states on disk, because time and roster say so. Whoever calls makes the book durable before it acts on an
answer or sends it, so every step must give the same answer when it is made again on the book that it left. A refusal
leaves the book as it was.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from device.errors import ConfigError
from device.messages.envelope import is_identifier
from device.messages.roster import Roster, RosteredUnit
from device.messages.topics import RESERVED_LINES
from provisioning.enrolment_messages import ClaimOpened, EnrolmentRequest, check_request, commitment, short_code
from provisioning.refusals import Refusal, RefusalError


class ClaimLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound of the registrar's door. Times in seconds, rates in requests per second, bursts in requests.

    A clock that is put back by more than `clock_step_s` ends the window and open claims.
    """

    longest_window_s: int = 28_800
    claim_s: int = 900
    remembered_s: int = 86_400
    clock_step_s: int = 60
    open_claims: int = 64
    open_claims_per_address: int = 8
    seats: int = 400
    address_rate: float = 2.0
    address_burst: int = 60
    total_rate: float = 20.0
    total_burst: int = 400
    addresses: int = 1_024
    connections: int = 400
    connections_per_address: int = 64
    connection_s: float = 30.0
    challenge_s: float = 60.0
    challenges: int = 2_048


class ClaimState(StrEnum):
    """Where a claim stands."""

    ANNOUNCED = "announced"
    REVEALED = "revealed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class SeatState(StrEnum):
    """Where a seat stands."""

    UNUSED = "unused"
    BOUND = "bound"
    ADMITTED = "admitted"


class _Event(StrEnum):
    REVEAL = "reveal"
    ACCEPT = "accept"
    REJECT = "reject"
    BIND = "bind"
    ADMIT = "admit"
    REKEY = "rekey"
    RELEASE = "release"


_NEXT: Final[dict[tuple[ClaimState, _Event], ClaimState]] = {
    (ClaimState.ANNOUNCED, _Event.REVEAL): ClaimState.REVEALED,
    (ClaimState.REVEALED, _Event.REVEAL): ClaimState.REVEALED,
    (ClaimState.REVEALED, _Event.ACCEPT): ClaimState.ACCEPTED,
    (ClaimState.REVEALED, _Event.REJECT): ClaimState.REJECTED,
    (ClaimState.ACCEPTED, _Event.REVEAL): ClaimState.ACCEPTED,
    (ClaimState.ACCEPTED, _Event.ACCEPT): ClaimState.ACCEPTED,
    (ClaimState.ACCEPTED, _Event.RELEASE): ClaimState.REJECTED,
    (ClaimState.REJECTED, _Event.REJECT): ClaimState.REJECTED,
}

_NEXT_SEAT: Final[dict[tuple[SeatState, _Event], SeatState]] = {
    (SeatState.UNUSED, _Event.BIND): SeatState.BOUND,
    (SeatState.BOUND, _Event.BIND): SeatState.BOUND,
    (SeatState.BOUND, _Event.ADMIT): SeatState.ADMITTED,
    (SeatState.ADMITTED, _Event.BIND): SeatState.ADMITTED,
    (SeatState.ADMITTED, _Event.ADMIT): SeatState.ADMITTED,
    (SeatState.ADMITTED, _Event.REKEY): SeatState.ADMITTED,
}


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One claim. Key, nonces and commitment are octets; `unit` is set with ACCEPTED. The address is for its limit."""

    claim: str
    commitment: bytes
    nonce: bytes
    address: str
    opened_ms: int
    state: ClaimState = ClaimState.ANNOUNCED
    key: bytes = b""
    box_nonce: bytes = b""
    serial: str = ""
    model: str = ""
    code: str = ""
    unit: str = ""


class Seat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One place. `token_sha256` is None for a place that a claim made; `replaces` is the unit that leaves it.

    `key` is set with BOUND, `certificate` (PEM) with ADMITTED. A box whose key the roster knows and the book does not
    is answered with a seat that has no certificate yet.
    """

    unit: str
    line: str
    desk: str
    token_sha256: bytes | None
    expires_ms: int
    state: SeatState = SeatState.UNUSED
    key: bytes | None = None
    serial: str = ""
    certificate: str = ""
    replaces: str | None = None


class ClaimsBook(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What the registrar remembers. The claim window is open from `window_from_ms` to before `window_until_ms`."""

    window_from_ms: int = 0
    window_until_ms: int = 0
    claims: list[Claim] = []
    seats: list[Seat] = []


@dataclass(frozen=True)
class Wait:
    """Tell the box to ask again; an operator must accept the code."""

    code: str


@dataclass(frozen=True)
class Admit:
    """Have the room authority admit the seat's key, then call `admitted`; without it, tell the box to ask again."""

    seat: Seat
    code: str


@dataclass(frozen=True)
class Answer:
    """Give the box all that it needs."""

    seat: Seat
    code: str


Step = Wait | Admit | Answer


class Claims:
    """The machine over one book, which it changes. `registrar` is the digest of the registrar's key (32 bytes).

    `wall_ms` is this machine's time. Requests raise RefusalError; what an operator does wrong raises ConfigError.
    """

    def __init__(self, book: ClaimsBook, *, registrar: bytes, roster: Roster, limits: ClaimLimits) -> None:
        self.book = book
        self._registrar = registrar
        self._roster = roster
        self._limits = limits

    # --- what boxes ask ------------------------------------------------------------------------------------------

    def announce(self, box_commitment: bytes, *, claim: str, nonce: bytes, address: str, wall_ms: int) -> ClaimOpened:
        """A box without a seed begins. `claim` and `nonce` (16 bytes) are fresh and random.

        Raises RefusalError: WINDOW_CLOSED, TOO_MANY.
        """
        self._forget(wall_ms)
        if not self.window_open(wall_ms):
            raise RefusalError(Refusal.WINDOW_CLOSED)
        waiting = [known for known in self.book.claims if self._is_open(known, wall_ms)]
        for known in waiting:
            if known.commitment == box_commitment and known.address == address:
                return ClaimOpened(claim=known.claim, nonce=known.nonce)
        from_there = sum(known.address == address for known in waiting)
        if len(waiting) >= self._limits.open_claims or from_there >= self._limits.open_claims_per_address:
            raise RefusalError(Refusal.TOO_MANY)
        self.book.claims.append(
            Claim(claim=claim, commitment=box_commitment, nonce=nonce, address=address, opened_ms=wall_ms)
        )
        return ClaimOpened(claim=claim, nonce=nonce)

    def reveal(self, claim: str, request: EnrolmentRequest, *, wall_ms: int) -> Step:
        """The box shows the key to which it had committed, or asks how its claim stands.

        Raises RefusalError: BAD_SIGNATURE, OTHER_CHANNEL, OTHER_ROOM, NO_SUCH_CLAIM, CLAIM_EXPIRED, CLAIM_REJECTED,
        WRONG_COMMITMENT, REVOKED.
        """
        self._check(request)
        known = next((each for each in self.book.claims if each.claim == claim), None)
        if known is None:
            raise RefusalError(Refusal.NO_SUCH_CLAIM)
        if not hmac.compare_digest(commitment(request.key, request.nonce), known.commitment):
            raise RefusalError(Refusal.WRONG_COMMITMENT)
        if known.state is ClaimState.REJECTED:
            raise RefusalError(Refusal.CLAIM_REJECTED)
        if known.state is not ClaimState.ACCEPTED and not self._is_open(known, wall_ms):
            raise RefusalError(Refusal.CLAIM_EXPIRED)
        self._check_not_revoked(request.key)
        if known.state is ClaimState.ACCEPTED:
            return self._of(self._seat(known.unit), known.code)
        code = short_code(request.key, self._registrar, request.nonce, known.nonce)
        self._move(
            known,
            _Event.REVEAL,
            key=request.key,
            box_nonce=request.nonce,
            serial=request.serial,
            model=request.model,
            code=code,
        )
        return Wait(code)

    def enrol(self, request: EnrolmentRequest, *, wall_ms: int) -> Step:
        """A box shows its token, or asks anew by its key alone, which the roster may know when the book was lost.

        Raises RefusalError: BAD_SIGNATURE, OTHER_CHANNEL, OTHER_ROOM, TOKEN_UNKNOWN, TOKEN_USED, TOKEN_EXPIRED,
        KEY_IN_USE, SEAT_TAKEN, NOT_ENROLLED, REVOKED.
        """
        self._check(request)
        seat = self._by_key(request.key) if request.token is None else self._by_token(request.token)
        if seat is None:
            self._check_not_revoked(request.key)
            unit = rostered(self._roster, request.key)
            if unit is not None:
                return Answer(self._seat_of(unit), "")
            raise RefusalError(Refusal.NOT_ENROLLED if request.token is None else Refusal.TOKEN_UNKNOWN)
        if seat.unit in self._roster.revoked and seat.key in (None, request.key):
            raise RefusalError(Refusal.REVOKED)
        if seat.key not in (None, request.key):
            raise RefusalError(Refusal.TOKEN_USED)
        if seat.state is SeatState.UNUSED:
            if wall_ms >= seat.expires_ms:
                raise RefusalError(Refusal.TOKEN_EXPIRED)
            self._check_not_revoked(request.key)
            if self._owner(request.key) not in (None, seat.unit):
                raise RefusalError(Refusal.KEY_IN_USE)
            if self._is_taken(seat.unit, request.key):
                raise RefusalError(Refusal.SEAT_TAKEN)
        return self._of(self._bind(seat, request.key, request.serial), "")

    def admitted(self, unit: str, key: bytes, certificate: str) -> Seat:
        """The room authority has admitted the seat's key; `certificate` is PEM. The same again changes nothing."""
        seat = self._seat(unit)
        assert seat.key == key
        if seat.state is SeatState.ADMITTED:
            return seat
        return self._put(
            msgspec.structs.replace(seat, state=_NEXT_SEAT[seat.state, _Event.ADMIT], certificate=certificate)
        )

    def rekeyed(self, unit: str, key: bytes, certificate: str) -> None:
        """A unit's key gave way to another; `certificate` is PEM. A unit without a seat is the authority's alone."""
        for seat in self.book.seats:
            if seat.unit == unit:
                state = _NEXT_SEAT[seat.state, _Event.REKEY]
                self._put(msgspec.structs.replace(seat, state=state, key=key, certificate=certificate))
                return

    # --- what operators do ---------------------------------------------------------------------------------------

    def window_open(self, wall_ms: int) -> bool:
        """Whether boxes without a seed may come now."""
        return self._has_begun(self.book.window_from_ms, wall_ms) and wall_ms < self.book.window_until_ms

    def open_window(self, seconds: int, *, wall_ms: int) -> None:
        """Let boxes without a seed come for so long, from now on. Raises ConfigError."""
        if not 0 < seconds <= self._limits.longest_window_s:
            raise ConfigError(
                f"A claim window of {seconds} s.", next_step=f"Give 1 to {self._limits.longest_window_s // 60} minutes."
            )
        self.book.window_from_ms, self.book.window_until_ms = wall_ms, wall_ms + seconds * 1_000

    def close_window(self) -> None:
        """Let no new boxes come without a seed. Claims that stand can still be accepted."""
        self.book.window_from_ms = self.book.window_until_ms = 0

    def waiting(self, wall_ms: int) -> list[Claim]:
        """Claims whose code can be accepted now."""
        return [
            claim for claim in self.book.claims if claim.state is ClaimState.REVEALED and self._is_open(claim, wall_ms)
        ]

    def add_seat(self, seat: Seat) -> None:
        """Make a place for a box that will come with a token; a token that nobody used gives way to a newer one.

        Raises ConfigError when a box has the seat already, the token is another seat's, or there are too many.
        """
        _check_place(seat.unit, seat.line)
        standing = next((each for each in self.book.seats if each.unit == seat.unit), None)
        if standing is not None and standing.state is not SeatState.UNUSED:
            if standing.token_sha256 == seat.token_sha256:
                return
            raise ConfigError(
                f"{seat.unit}: has a box already, or is being enrolled.",
                next_step="Replace the box, or make no seed for it.",
            )
        if any(each.token_sha256 == seat.token_sha256 for each in self.book.seats if each.unit != seat.unit):
            raise ConfigError(f"{seat.unit}: its token is another seat's.", next_step="Make a fresh token.")
        if standing is None and len(self.book.seats) >= self._limits.seats:
            raise ConfigError(f"More than {self._limits.seats} seats.", next_step="Found a second room.")
        self._put(seat)

    def accept(
        self,
        code: str,
        *,
        unit: str,
        line: str | None = None,
        desk: str | None = None,
        replaces: str | None = None,
        wall_ms: int,
    ) -> Seat:
        """An operator has compared the code and says which seat the box has. The same again changes nothing.

        A seat that stands in the book keeps its line and desk; for a new one both must be given. Raises ConfigError
        when no box shows that code, several do, or the seat or the key is taken.
        """
        claim = self._by_code(code, {ClaimState.REVEALED, ClaimState.ACCEPTED}, wall_ms)
        if claim.state is ClaimState.ACCEPTED and claim.unit != unit:
            raise ConfigError(f"{claim.code}: was accepted for {claim.unit}.", next_step="Nothing to do.")
        owner = self._owner(claim.key)
        if owner not in (None, unit):
            raise ConfigError(
                f"{claim.code}: the box's key already belongs to {owner}: its storage was copied.",
                next_step="Wipe this box (moodline-box wipe), so that it makes a key of its own.",
            )
        seat = next((each for each in self.book.seats if each.unit == unit), None)
        if seat is None:
            _check_place(unit, line)
            seat = Seat(
                unit=unit, line=line or "", desk=desk or unit, token_sha256=None, expires_ms=0, replaces=replaces
            )
        if seat.key not in (None, claim.key) or self._is_taken(unit, claim.key):
            raise ConfigError(
                f"{unit}: another box has, or had, this name.",
                next_step=f"Give the new box a name of its own, and say --replaces {unit}.",
            )
        bound = self._bind(seat, claim.key, claim.serial)
        self._move(claim, _Event.ACCEPT, unit=unit)
        return bound

    def reject(self, code: str, *, wall_ms: int) -> Claim:
        """An operator says no. The same again changes nothing. Raises ConfigError."""
        claim = self._by_code(code, {ClaimState.REVEALED, ClaimState.REJECTED}, wall_ms)
        return self._move(claim, _Event.REJECT)

    def release(self, unit: str) -> Seat:
        """An operator takes a seat back from a box that was not admitted yet; the box's claim is rejected.

        Raises ConfigError when no box has the seat, or one was admitted.
        """
        seat = next((each for each in self.book.seats if each.unit == unit), None)
        if seat is None or seat.state is not SeatState.BOUND:
            raise ConfigError(
                f"{unit}: is no seat that waits for the room authority.",
                next_step="See `moodline-provision claims`; an enrolled box is revoked instead.",
            )
        self.book.seats.remove(seat)
        for claim in [each for each in self.book.claims if each.state is ClaimState.ACCEPTED and each.unit == unit]:
            self._move(claim, _Event.RELEASE)
        return seat

    # --- inside --------------------------------------------------------------------------------------------------

    def _check(self, request: EnrolmentRequest) -> None:
        check_request(request, self._registrar)
        if request.room not in ("", self._roster.room):
            raise RefusalError(Refusal.OTHER_ROOM)

    def _check_not_revoked(self, key: bytes) -> None:
        unit = rostered(self._roster, key)
        if unit is not None and unit.unit in self._roster.revoked:
            raise RefusalError(Refusal.REVOKED)

    def _owner(self, key: bytes) -> str | None:
        """The unit to which a key belongs, by the book or by the roster."""
        seat, unit = self._by_key(key), rostered(self._roster, key)
        return seat.unit if seat is not None else unit.unit if unit is not None else None

    def _is_taken(self, unit: str, key: bytes) -> bool:
        """Whether the roster knows the unit with another key, or revoked."""
        known = (each for units in self._roster.lines.values() for each in units if each.unit == unit)
        return unit in self._roster.revoked or any(each.key != key for each in known)

    def _by_key(self, key: bytes) -> Seat | None:
        return next((seat for seat in self.book.seats if seat.key == key), None)

    def _by_token(self, token: str) -> Seat | None:
        """Every seat is looked at, whichever fits, so that the time taken says nothing about the tokens."""
        wanted = token_digest(token)
        found = [seat for seat in self.book.seats if hmac.compare_digest(seat.token_sha256 or bytes(32), wanted)]
        return found[0] if found else None

    def _by_code(self, code: str, states: Collection[ClaimState], wall_ms: int) -> Claim:
        wanted = readable_code(code)
        found = [
            claim
            for claim in self.book.claims
            if claim.code == wanted
            and claim.state in states
            and (claim.state is not ClaimState.REVEALED or self._is_open(claim, wall_ms))
        ]
        if len(found) != 1:
            count = "Several boxes show" if found else "No box shows"
            raise ConfigError(
                f"{count} the code {wanted}.", next_step="See `moodline-provision claims`; a code lives some minutes."
            )
        return found[0]

    def _seat(self, unit: str) -> Seat:
        seat = next((each for each in self.book.seats if each.unit == unit), None)
        if seat is None:
            raise RefusalError(Refusal.NOT_ENROLLED, f"The seat of {unit} was taken back.")
        return seat

    def _seat_of(self, unit: RosteredUnit) -> Seat:
        """What would stand in the book; it has no certificate, and the desk's name is not known."""
        return Seat(
            unit=unit.unit,
            line=self._roster.line_of(unit.unit) or "",
            desk=unit.unit,
            token_sha256=None,
            expires_ms=0,
            state=SeatState.ADMITTED,
            key=unit.key,
        )

    def _of(self, seat: Seat, code: str) -> Step:
        if seat.unit in self._roster.revoked:
            raise RefusalError(Refusal.REVOKED)
        return Answer(seat, code) if seat.state is SeatState.ADMITTED else Admit(seat, code)

    def _bind(self, seat: Seat, key: bytes, serial: str) -> Seat:
        state = _NEXT_SEAT[seat.state, _Event.BIND]
        if seat.state is not SeatState.UNUSED:
            return seat
        return self._put(msgspec.structs.replace(seat, state=state, key=key, serial=serial))

    def _put(self, seat: Seat) -> Seat:
        for at, standing in enumerate(self.book.seats):
            if standing.unit == seat.unit:
                self.book.seats[at] = seat
                return seat
        self.book.seats.append(seat)
        return seat

    def _move(self, claim: Claim, event: _Event, **changed: str | bytes) -> Claim:
        moved = msgspec.structs.replace(claim, state=_NEXT[claim.state, event], **changed)
        self.book.claims[self.book.claims.index(claim)] = moved
        return moved

    def _is_open(self, claim: Claim, wall_ms: int) -> bool:
        is_waiting = claim.state in (ClaimState.ANNOUNCED, ClaimState.REVEALED)
        ends_ms = claim.opened_ms + self._limits.claim_s * 1_000
        return is_waiting and self._has_begun(claim.opened_ms, wall_ms) and wall_ms < ends_ms

    def _has_begun(self, begins_ms: int, wall_ms: int) -> bool:
        return begins_ms - self._limits.clock_step_s * 1_000 <= wall_ms

    def _forget(self, wall_ms: int) -> None:
        """Claims that have ended are remembered for a while, so that the box hears why. A seat is never forgotten."""
        since = wall_ms - self._limits.remembered_s * 1_000
        kept = [
            claim for claim in self.book.claims if since < claim.opened_ms and self._has_begun(claim.opened_ms, wall_ms)
        ]
        self.book.claims = kept[-self._remembered_claims :]

    @property
    def _remembered_claims(self) -> int:
        return 4 * self._limits.open_claims


def token_digest(token: str) -> bytes:
    """SHA-256 of a claim token, 32 bytes: the only form in which the registrar keeps it."""
    return hashlib.sha256(token.encode()).digest()


def readable_code(typed: str) -> str:
    """A code as a person typed it, with the letters that Crockford's base 32 takes for others."""
    plain = "".join(letter for letter in typed.upper() if letter.isalnum())
    return plain.translate(str.maketrans("ILO", "110"))


def rostered(roster: Roster, key: bytes) -> RosteredUnit | None:
    """The unit with that key, revoked or not."""
    everybody: Iterable[RosteredUnit] = (unit for units in roster.lines.values() for unit in units)
    return next((unit for unit in everybody if unit.key == key), None)


def _check_place(unit: str, line: str | None) -> None:
    if not is_identifier(unit) or line is None or not is_identifier(line) or line in RESERVED_LINES:
        raise ConfigError(
            f"{unit!r} on line {line!r}: no proper place.",
            next_step="Give --unit and --line; small letters, digits and dashes, at most 32.",
        )
