"""What stands before the registrar's machine: how often who may ask, and the challenges that renewals sign.

Neither outlives the program: after a restart everybody begins with a full bucket, and an open challenge is asked for
again. `now` is monotonic seconds everywhere.
"""

from __future__ import annotations

from device.messages.roster import Roster
from provisioning.claims import ClaimLimits, rostered
from provisioning.enrolment_messages import RenewalRequest, check_request
from provisioning.refusals import Refusal, RefusalError


class _Bucket:
    """A token bucket: holds up to `burst` requests, and fills with `rate` a second."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._filled = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        self._filled = min(self._burst, self._filled + self._rate * max(0.0, now - self._at))
        self._at = now
        if self._filled < 1.0:
            return False
        self._filled -= 1.0
        return True


class RateGate:
    """Limits requests, for each address and in all."""

    def __init__(self, limits: ClaimLimits, now: float) -> None:
        self._limits = limits
        self._all = _Bucket(limits.total_rate, limits.total_burst, now)
        self._addresses: dict[str, _Bucket] = {}

    def enter(self, address: str, now: float) -> None:
        """Count one request. Raises RefusalError TOO_MANY. Who asks too often takes nothing from the others' share."""
        bucket = self._addresses.pop(address, None) or _Bucket(
            self._limits.address_rate, self._limits.address_burst, now
        )
        self._addresses[address] = bucket
        while len(self._addresses) > self._limits.addresses:
            del self._addresses[next(iter(self._addresses))]
        if not bucket.take(now) or not self._all.take(now):
            raise RefusalError(Refusal.TOO_MANY)


class Challenges:
    """Nonces that were given out and not yet used."""

    def __init__(self, limits: ClaimLimits) -> None:
        self._limits = limits
        self._until: dict[bytes, float] = {}

    def give(self, challenge: bytes, now: float) -> None:
        """Give out a fresh random challenge. Raises RefusalError TOO_MANY when very many are open."""
        for old in [each for each, until in self._until.items() if until <= now]:
            del self._until[old]
        if len(self._until) >= self._limits.challenges:
            raise RefusalError(Refusal.TOO_MANY)
        self._until[challenge] = now + self._limits.challenge_s

    def take(self, challenge: bytes, now: float) -> None:
        """Use it up. Raises RefusalError STALE_REQUEST when it was not given out, was used, or is too old."""
        if self._until.pop(challenge, now) <= now:
            raise RefusalError(Refusal.STALE_REQUEST)


def check_renewal(request: RenewalRequest, *, registrar: bytes, roster: Roster) -> bytes:
    """The key that shall be certified (32 bytes), when the request is by the holder of a rostered key.

    A box whose rotation was cut off after the roster had changed asks with its old key again: it proves that it has the
    new one, which stands on the roster. Raises RefusalError: BAD_SIGNATURE, OTHER_CHANNEL, NOT_ENROLLED, REVOKED. That
    the challenge is fresh is for `Challenges` to say.
    """
    check_request(request, registrar)
    unit = rostered(roster, request.key)
    if unit is None and request.new_key is not None:
        unit = rostered(roster, request.new_key)
    if unit is None or unit.unit != request.unit:
        raise RefusalError(Refusal.NOT_ENROLLED)
    if unit.unit in roster.revoked:
        raise RefusalError(Refusal.REVOKED)
    return request.new_key or request.key
