"""How a newer roster comes to the room: the gateway finds it on its disk, verifies it, and hands it to the units.

An operator copies the authority's files into the gateway's folder while it runs. Copying takes a moment and has no
order, so files count once they have stood still from one look to the next, or at once when told to look (SIGHUP).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

from device.clock import Clock
from device.config import Trust
from device.errors import ConfigError, MoodlineError, StorageError
from device.messages.policy import POLICY_BYTES
from device.messages.roster import ROSTER_BYTES, Roster
from device.messages.trust_bundle import BUNDLE_BYTES, TrustBundle, decode_bundle, encode_bundle, verify_bundle
from device.system.storage import read
from device.trust import PROVISION_AGAIN, Trusted, load_trusted

LOG: Final = logging.getLogger(__name__)

#: Beside the roster, if it is there: the authority's own bundle, which says how its key was succeeded.
BUNDLE_FILE: Final = "trust.cbor"
LOOK_S: Final = 2.0
#: What was refused is judged again after so long: a policy may come into force.
JUDGE_AGAIN_S: Final = 60.0

_Look = tuple[tuple[int, int, int] | None, ...]


def bundle_for_units(trust: Trust, trusted: Trusted) -> bytes:
    """What the gateway hands to its units: the roster and policy that it serves itself, with the successions that its
    authority's bundle has. A bundle that does not lead to this authority is left out, and told."""
    path = trust.roster.with_name(BUNDLE_FILE)
    plain = encode_bundle(TrustBundle((), trusted.roster_raw, trusted.policy_raw))
    if not path.exists():
        return plain
    try:
        found = decode_bundle(read(path, limit=BUNDLE_BYTES))
        bundle = TrustBundle(found.successions, trusted.roster_raw, trusted.policy_raw)
        verify_bundle(bundle, trusted.authority_key, trusted.roster.room)
        return encode_bundle(bundle)
    except (MoodlineError, ValueError) as error:
        LOG.error("%s: left out; boxes that believe an older authority key learn nothing. %s", path, error)
        return plain


class RosterWatch:
    """Looks at the files of trust. `check` raises ConfigError when this gateway cannot serve under what was found."""

    def __init__(
        self, trust: Trust, standing: Trusted, bundle: bytes, clock: Clock, check: Callable[[Trusted], None]
    ) -> None:
        self._trust = trust
        self._standing = standing
        self._bundle = bundle
        self._clock = clock
        self._check = check
        self._look_at = -math.inf
        self._seen: _Look = ()
        self._judged: _Look = ()
        self._again_at = math.inf
        self._told = ""

    def poll(self, *, at_once: bool = False) -> Trusted | None:
        """What to serve under from now on; None as long as nothing newer was found. Call it often.

        Raises ConfigError, once for each finding, when the files hold something that does not count: it is not the
        authority's, is older, or this gateway cannot serve under it. What stood stands.
        """
        now = self._clock.monotonic()
        if now < self._look_at and not at_once:
            return None
        self._look_at = now + LOOK_S
        seen, before = self._look(), self._seen
        self._seen = seen
        if not at_once and (seen != before or (seen == self._judged and now < self._again_at)):
            return None
        self._judged, self._again_at = seen, math.inf
        try:
            found = self._judge()
        except ConfigError as error:
            self._again_at = now + JUDGE_AGAIN_S
            if error.what == self._told:
                return None
            self._told = error.what
            raise
        self._told = ""
        return found

    def _look(self) -> _Look:
        """Time of change, size and number of each file; None for one that is not there."""
        paths = (self._trust.roster, self._trust.policy, self._trust.room_authority_key)
        return tuple(map(_signs_of, (*paths, self._trust.roster.with_name(BUNDLE_FILE))))

    def _judge(self) -> Trusted | None:
        if self._stands_unchanged():
            return None
        found = load_trusted(self._trust, self._standing.roster.room, self._clock)
        if found == self._standing and bundle_for_units(self._trust, found) == self._bundle:
            return None
        ours, theirs = self._standing.roster.epoch, found.roster.epoch
        if theirs < ours or (theirs == ours and found.roster_raw != self._standing.roster_raw):
            which = "is older than" if theirs < ours else "is not the same as"
            raise ConfigError(
                f"{self._trust.roster}: epoch {theirs} {which} the roster of epoch {ours} that this gateway serves.",
                next_step="Copy the room authority's newest file here, or publish a newer roster (moodline-provision).",
            )
        self._check(found)
        return found

    def _stands_unchanged(self) -> bool:
        """Whether the files still say what is served, however they were touched: its time may be over meanwhile."""
        standing = self._standing
        try:
            same = read(self._trust.roster, limit=ROSTER_BYTES) == standing.roster_raw
            same = same and read(self._trust.policy, limit=POLICY_BYTES) == standing.policy_raw
        except StorageError as error:
            raise ConfigError(error.what, next_step=PROVISION_AGAIN) from error
        return same and bundle_for_units(self._trust, standing) == self._bundle


def left_places(before: Roster, after: Roster) -> set[tuple[str, str]]:
    """(line, unit) of everybody that spoke under one roster and does not at the same place under the other."""
    return _places(before) - _places(after)


def _places(roster: Roster) -> set[tuple[str, str]]:
    return {(line, unit.unit) for line in roster.lines for unit in roster.units_of(line)}


def _signs_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
