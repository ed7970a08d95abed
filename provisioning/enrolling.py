"""The box's side of enrolment: a machine without socket, file, thread or clock. Events in, actions out.

| state   | event                             | next     | what happens                                       |
| ------- | --------------------------------- | -------- | -------------------------------------------------- |
| BLANK   | KEY_MADE                          | KEYED    | with a seed: `Send` request and token; else `Find` |
| KEYED   | OPENED (claim window: the answer) | CLAIMED  | `Remember`, `Show` code, `Send` key and nonce      |
| KEYED   | WAITING (for operator, authority) | CLAIMED  | `Show`; the same request again after a while       |
| CLAIMED | WAITING                           | CLAIMED  | as above                                           |
| KEYED   | ADMITTED                          | CLAIMED  | `Store`                                            |
| CLAIMED | ADMITTED                          | CLAIMED  | `Store`                                            |
| CLAIMED | STORED                            | ENROLLED | nothing more to do                                 |
| CLAIMED | CLAIM_LOST (expired, rejected, …) | KEYED    | forgets the claim, `Tell`; begins again later      |
| KEYED   | CLAIM_LOST (window closed)        | KEYED    | as above                                           |
| CLAIMED | NEW_SEED                          | KEYED    | begins again at once, as the seed says             |
| KEYED   | NEW_SEED                          | KEYED    | as above                                           |
| any     | REVOKED (by who enrolled us)      | REVOKED  | `Remember`, `Tell`; asks no more until wiped       |

Whatever else fails leaves the state as it is: the network's faults are tried again with exponential back-off, first at
the known address and then over mDNS; a refusal is told, and a final one is asked again only after `FINAL_S` or with a
new seed.

The two ways in. With a seed the registrar's key is pinned from the first byte, and the token says which seat. In the
claim window the box takes the first registrar that it finds, and from its answer to the commitment on that one key: it
stands in the record, goes into the code and into every signature, and changes no more while the claim lives. A claim
ends when the registrar says so, when somebody is found to stand in between, or after `GIVE_UP_S` without an answer. A
box that was enrolled and lost its files asks that same registrar again with its old key, and needs no token.

Rules for editing: a new state or event gets its row here and in `_NEXT`, nothing else changes `_state`; no request but
the commitment may leave without a pinned key; the code that is shown is computed here and never the registrar's word;
every path that waits goes through `_try_again_at`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from device.messages.envelope import Signer
from device.system.hardware import Hardware
from provisioning.enrolment_messages import (
    CLAIMS_PATH,
    ENROL_PATH,
    ClaimId,
    ClaimOpened,
    Commitment,
    Enrolled,
    EnrolmentAnswer,
    EnrolmentRequest,
    Octets16,
    Octets32,
    commitment,
    short_code,
    sign_request,
)
from provisioning.refusals import Refusal, RefusalError
from provisioning.seed_file import Seed

FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
FINAL_S: Final = 600.0
#: A claim whose registrar has not answered for so long is given up: the registrar has forgotten it, or was none.
GIVE_UP_S: Final = 1_800.0
#: How often a waiting box asks: a person who accepts a code looks at the box; an authority may be closed for days.
POLL_S: Final = {"operator": 3.0, "authority": 15.0, "": 15.0}

_CLAIM_LOST: Final = frozenset(
    {
        Refusal.NO_SUCH_CLAIM,
        Refusal.CLAIM_EXPIRED,
        Refusal.CLAIM_REJECTED,
        Refusal.WRONG_COMMITMENT,
        Refusal.WINDOW_CLOSED,
        Refusal.NOT_ENROLLED,
    }
)


class BoxState(StrEnum):
    """Where the box stands in its life."""

    BLANK = "blank"
    KEYED = "keyed"
    CLAIMED = "claimed"
    ENROLLED = "enrolled"
    REVOKED = "revoked"


class _Event(StrEnum):
    KEY_MADE = "key_made"
    OPENED = "opened"
    WAITING = "waiting"
    ADMITTED = "admitted"
    STORED = "stored"
    CLAIM_LOST = "claim_lost"
    NEW_SEED = "new_seed"
    REVOKED = "revoked"


_NEXT: Final[dict[tuple[BoxState, _Event], BoxState]] = {
    (BoxState.BLANK, _Event.KEY_MADE): BoxState.KEYED,
    (BoxState.KEYED, _Event.OPENED): BoxState.CLAIMED,
    (BoxState.KEYED, _Event.WAITING): BoxState.CLAIMED,
    (BoxState.CLAIMED, _Event.WAITING): BoxState.CLAIMED,
    (BoxState.KEYED, _Event.ADMITTED): BoxState.CLAIMED,
    (BoxState.CLAIMED, _Event.ADMITTED): BoxState.CLAIMED,
    (BoxState.CLAIMED, _Event.STORED): BoxState.ENROLLED,
    (BoxState.CLAIMED, _Event.CLAIM_LOST): BoxState.KEYED,
    (BoxState.KEYED, _Event.CLAIM_LOST): BoxState.KEYED,
    (BoxState.CLAIMED, _Event.NEW_SEED): BoxState.KEYED,
    (BoxState.KEYED, _Event.NEW_SEED): BoxState.KEYED,
    **{(state, _Event.REVOKED): BoxState.REVOKED for state in BoxState},
}


class BoxSigner(Signer, Protocol):
    """Whoever holds the box's private key."""

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        ...


@dataclass(frozen=True, order=True)
class FoundRegistrar:
    """What somebody on the network says of itself. `digest` is of its key, 32 bytes; `addresses` are IP addresses."""

    room: str
    digest: bytes
    port: int
    addresses: tuple[str, ...]


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a registrar is: names or addresses, tried in turn."""

    hosts: tuple[str, ...]
    port: int


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What box and registrar agreed on in the claim window; `nonce` is the box's."""

    name: ClaimId
    nonce: Octets16
    registrar_nonce: Octets16


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a box remembers of its enrolment (enrolment.json). `unit` is set once the registrar has admitted it."""

    registrar: Octets32
    place: Place
    room: str = ""
    claim: Claim | None = None
    unit: str = ""
    revoked: bool = False


@dataclass(frozen=True)
class MakeKey:
    """Make the box's key; then call `keyed`."""


@dataclass(frozen=True)
class Find:
    """Look for registrars, of that room and key where they are given; then call `found`."""

    room: str | None
    digest: bytes | None


@dataclass(frozen=True)
class Send:
    """Ask the registrar, then call `answered`, `refused` or `failed`. `digest` None: take whatever key it shows."""

    path: str
    body: Commitment | EnrolmentRequest
    place: Place
    digest: bytes | None


@dataclass(frozen=True)
class Show:
    """Show the code to a person; `waiting` says for whom the claim waits."""

    code: str
    waiting: str


@dataclass(frozen=True)
class Remember:
    """Make the record durable before the next action; None: forget it."""

    record: Record | None


@dataclass(frozen=True)
class Store:
    """Check and store all that the registrar gave, then call `stored`, or `refused` when it is not right."""

    enrolled: Enrolled
    record: Record


@dataclass(frozen=True)
class Tell:
    """Show a refusal, with its next step."""

    error: RefusalError


Action = MakeKey | Find | Send | Show | Remember | Store | Tell


class _Awaited(StrEnum):
    NOTHING = "nothing"
    KEY = "key"
    FOUND = "found"
    ANSWER = "answer"
    STORED = "stored"


class Enrolling:
    """One box on its way into a room. `now` is monotonic seconds everywhere.

    `nonce` gives 16 fresh random bytes, `jitter` a random number from 0 to 1. With `enrolled` the box already has all
    it needs. At most one action at a time waits for an event.
    """

    def __init__(
        self,
        *,
        hardware: Hardware,
        key: BoxSigner | None,
        record: Record | None,
        seed: Seed | None,
        enrolled: bool,
        nonce: Callable[[], bytes],
        jitter: Callable[[], float],
    ) -> None:
        self._hardware = hardware
        self._key = key
        self._record = record
        self._seed = seed
        self._nonce = nonce
        self._jitter = jitter
        self._state = BoxState.BLANK if key is None else BoxState.KEYED
        if key is not None and self._claim() is not None:
            self._state = BoxState.CLAIMED
        if enrolled:
            self._state = BoxState.ENROLLED
        if record is not None and record.revoked:
            self._state = BoxState.REVOKED
        self._awaited = _Awaited.NOTHING
        self._place: Place | None = None
        self._room = ""
        self._committed = b""
        self._searched = False
        self._failures = 0
        self._turn = 0
        self._due: float | None = None
        self._heard_at = 0.0

    @property
    def state(self) -> BoxState:
        """Where the box stands."""
        return self._state

    def next_deadline(self) -> float | None:
        """When `tick` has something to do, in monotonic seconds; None when only an event can move the box."""
        return self._due

    # --- events --------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """The program has started."""
        self._heard_at = now
        if self._state in (BoxState.ENROLLED, BoxState.REVOKED):
            return []
        claim = self._claim()
        shown = [Show(self._own_code(claim), "operator")] if claim is not None else []
        return [*shown, *self._begin()]

    def keyed(self, key: BoxSigner, now: float) -> list[Action]:
        """The key is made and durable."""
        self._take(_Awaited.KEY)
        self._key = key
        self._step(_Event.KEY_MADE)
        return self._begin()

    def seed_found(self, seed: Seed, now: float) -> list[Action]:
        """A seed lies there that was not there before. The same seed again changes nothing."""
        if seed == self._seed or self._state in (BoxState.ENROLLED, BoxState.REVOKED, BoxState.BLANK):
            return []
        self._seed = seed
        self._step(_Event.NEW_SEED)
        self._place, self._searched, self._failures, self._due = None, False, 0, None
        self._awaited = _Awaited.NOTHING
        return self._begin()

    def found(self, registrars: Sequence[FoundRegistrar], now: float) -> list[Action]:
        """What a search brought; empty when nobody answered."""
        self._take(_Awaited.FOUND)
        pinned = self._pinned()
        fitting = [registrar for registrar in registrars if pinned in (None, registrar.digest)]
        if not fitting:
            return self._not_reached(now)
        chosen = fitting[self._turn % len(fitting)]
        self._place = Place(chosen.addresses, chosen.port)
        self._room = chosen.room
        return self._ask()

    def answered(self, answer: ClaimOpened | EnrolmentAnswer, registrar: bytes, now: float) -> list[Action]:
        """An answer to the last `Send`, from whoever showed the key with the digest `registrar` (32 bytes)."""
        self._take(_Awaited.ANSWER)
        self._searched, self._failures, self._heard_at = False, 0, now
        if isinstance(answer, ClaimOpened):
            return self._opened(answer, registrar)
        try:
            return self._follow(answer, now)
        except RefusalError as error:
            return self._refused(error, now)

    def refused(self, error: RefusalError, now: float) -> list[Action]:
        """The registrar said no; or what it showed or sent is not right."""
        assert self._awaited in (_Awaited.ANSWER, _Awaited.STORED)
        self._awaited = _Awaited.NOTHING
        self._heard_at = now
        return self._refused(error, now)

    def failed(self, now: float) -> list[Action]:
        """The network's fault: nobody answered."""
        self._take(_Awaited.ANSWER)
        if not self._searched:
            self._searched = True
            return self._find()
        return self._not_reached(now)

    def stored(self, now: float) -> list[Action]:
        """All that `Store` brought is durable."""
        self._take(_Awaited.STORED)
        self._step(_Event.STORED)
        return []

    def tick(self, now: float) -> list[Action]:
        """Time went by; call it at `next_deadline` at the latest."""
        if self._due is None or now < self._due:
            return []
        self._due = None
        return self._begin()

    # --- asking --------------------------------------------------------------------------------------------------

    def _begin(self) -> list[Action]:
        if self._key is None:
            self._awaited = _Awaited.KEY
            return [MakeKey()]
        if self._place is None:
            self._place = self._known_place()
        if self._place is None:
            self._searched = True
            return self._find()
        return self._ask()

    def _known_place(self) -> Place | None:
        if self._seed is not None:
            return Place(self._seed.gateway, self._seed.port)
        return self._record.place if self._record is not None else None

    def _pinned(self) -> bytes | None:
        if self._seed is not None:
            return self._seed.registrar_digest
        return self._record.registrar if self._record is not None else None

    def _claim(self) -> Claim | None:
        return self._record.claim if self._record is not None and self._seed is None else None

    def _wanted_room(self) -> str:
        if self._seed is not None:
            return self._seed.room
        return self._record.room if self._record is not None else self._room

    def _find(self) -> list[Action]:
        self._awaited = _Awaited.FOUND
        pinned = self._pinned()
        return [Find(self._wanted_room() or None if pinned is not None else None, pinned)]

    def _ask(self) -> list[Action]:
        assert self._key is not None
        assert self._place is not None
        self._awaited = _Awaited.ANSWER
        pinned = self._pinned()
        if pinned is None:
            self._committed = self._nonce()
            body = Commitment(commitment=commitment(self._key.public_key, self._committed))
            return [Send(CLAIMS_PATH, body, self._place, None)]
        claim = self._claim()
        request = EnrolmentRequest(
            key=self._key.public_key,
            serial=self._hardware.serial,
            model=self._hardware.model,
            nonce=claim.nonce if claim is not None else self._nonce(),
            registrar=pinned,
            room=self._wanted_room(),
            token=self._seed.token if self._seed is not None else None,
        )
        path = f"{CLAIMS_PATH}/{claim.name}" if claim is not None else ENROL_PATH
        return [Send(path, sign_request(request, self._key), self._place, pinned)]

    # --- answers -------------------------------------------------------------------------------------------------

    def _opened(self, opened: ClaimOpened, registrar: bytes) -> list[Action]:
        assert self._place is not None
        claim = Claim(opened.claim, self._committed, opened.nonce)
        self._record = Record(registrar=registrar, place=self._place, room=self._room, claim=claim)
        self._step(_Event.OPENED)
        return [Remember(self._record), Show(self._own_code(claim), "operator"), *self._ask()]

    def _own_code(self, claim: Claim) -> str:
        assert self._key is not None
        assert self._record is not None
        return short_code(self._key.public_key, self._record.registrar, claim.nonce, claim.registrar_nonce)

    def _follow(self, answer: EnrolmentAnswer, now: float) -> list[Action]:
        if (answer.state == "enrolled") != (answer.enrolled is not None):
            raise RefusalError(Refusal.MALFORMED, "The registrar's answer contradicts itself.")
        if answer.enrolled is None:
            self._step(_Event.WAITING)
            claim = self._claim()
            self._try_again_at(now + POLL_S[answer.waiting] * (1 + self._jitter() / 4))
            return [Show(self._own_code(claim) if claim is not None else answer.code, answer.waiting)]
        wanted = self._wanted_room()
        if wanted and answer.enrolled.room != wanted:
            raise RefusalError(Refusal.OTHER_ROOM, f"{answer.enrolled.room} answered, {wanted} was asked.")
        pinned = self._pinned()
        assert pinned is not None
        assert self._place is not None
        self._step(_Event.ADMITTED)
        self._awaited = _Awaited.STORED
        unit, room = answer.enrolled.unit, answer.enrolled.room
        return [Store(answer.enrolled, Record(registrar=pinned, place=self._place, room=room, unit=unit))]

    def _refused(self, error: RefusalError, now: float) -> list[Action]:
        told: list[Action] = [Tell(error)]
        if error.refusal is Refusal.REVOKED and self._was_enrolled_here():
            assert self._record is not None
            self._record = msgspec.structs.replace(self._record, revoked=True)
            self._step(_Event.REVOKED)
            return [Remember(self._record), *told]
        # Whoever answered the claim was not the registrar, or somebody stands between: choose again.
        is_crossed = error.refusal is Refusal.OTHER_CHANNEL and self._claim() is not None
        if (error.refusal in _CLAIM_LOST or is_crossed) and self._seed is None:
            told = [*self._lose_claim(), *told]
        self._try_again_at(now + (FINAL_S if error.row.final else self._back_off()))
        return told

    def _not_reached(self, now: float) -> list[Action]:
        self._turn += 1
        self._searched, self._place = False, None
        given_up = self._claim() is not None and now - self._heard_at > GIVE_UP_S
        lost = self._lose_claim() if given_up else []
        return [*lost, *self._try_again_at(now + self._back_off())]

    def _lose_claim(self) -> list[Action]:
        self._step(_Event.CLAIM_LOST)
        self._record, self._place, self._searched = None, None, False
        self._turn += 1
        return [Remember(None)]

    def _was_enrolled_here(self) -> bool:
        """Whether the registrar that is asked now is the one that once admitted this box."""
        return self._record is not None and bool(self._record.unit) and self._record.registrar == self._pinned()

    def _back_off(self) -> float:
        """Seconds until the next try: doubled with each failure, and half of it random, so that forty boxes that lost
        the same gateway do not come back in step."""
        longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return longest * (1 + self._jitter()) / 2

    def _try_again_at(self, when: float) -> list[Action]:
        self._due = when
        return []

    def _take(self, awaited: _Awaited) -> None:
        assert self._awaited is awaited, f"{awaited} came while {self._awaited} was awaited"
        self._awaited = _Awaited.NOTHING

    def _step(self, event: _Event) -> None:
        self._state = _NEXT[self._state, event]
