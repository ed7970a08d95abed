"""One sense's source, kept open: a failure is a state with a reason, and it is tried again with a back-off."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final, Generic, Protocol, TypeVar

from device.errors import CaptureError
from device.frames import AudioBlock, VideoFrame

LOG: Final = logging.getLogger(__name__)
#: Seconds before the first and, after doubling, between later attempts to open a failed source again.
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 30.0

Content = TypeVar("Content", AudioBlock, VideoFrame)


class Source(Protocol[Content]):
    """What AudioSource and VideoSource have in common."""

    def start(self) -> None:
        """Open. Raises CaptureError."""
        ...

    def read(self) -> list[Content]:
        """Everything since the last call. Raises CaptureError."""
        ...

    def stop(self) -> None:
        """Close; may be called twice."""
        ...


class Sense(Generic[Content]):
    """Reads one source; it never raises, it has a state."""

    def __init__(self, name: str, source: Source[Content] | None) -> None:
        self.name = name
        self._source: Source[Content] | None = source
        self._retry_s = FIRST_RETRY_S
        self._retry_at = 0.0
        self.failure: CaptureError | None = None
        self.last_content_at: float | None = None

    @property
    def is_off(self) -> bool:
        """No source is configured."""
        return self._source is None

    @property
    def state(self) -> str:
        """`off`, `ok`, or the CaptureReason of the failure."""
        if self.is_off:
            return "off"
        return "ok" if self.failure is None else self.failure.reason.value

    def open(self, now: float) -> None:
        """Try to open the source; a failure is kept in `failure`."""
        if self._source is None:
            return
        try:
            self._source.start()
        except CaptureError as error:
            self._fail(error, now)
        else:
            if self.failure is not None:
                LOG.warning("%s: works again.", self.name)
            self.failure = None

    def read(self, now: float) -> list[Content]:
        """What arrived since the last call; a failed source is opened again when its time has come."""
        if self._source is None:
            return []
        if self.failure is not None:
            if now >= self._retry_at:
                self.open(now)
            return []
        try:
            content = self._source.read()
        except CaptureError as error:
            self._source.stop()
            self._fail(error, now)
            return []
        if content:
            self._retry_s = FIRST_RETRY_S
            self.last_content_at = content[-1].captured_at
        return content

    def close(self) -> None:
        """Close the source; a failure stays known."""
        if self._source is not None:
            self._source.stop()
        self.last_content_at = None

    def _fail(self, error: CaptureError, now: float) -> None:
        if self.failure is None or self.failure.reason is not error.reason:
            LOG.error("%s: %s", self.name, error)
        self.failure = error
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)


def open_all(senses: Iterable[Sense[Any]], now: float) -> None:
    """Open the sources that are configured. Raises CaptureError when there are some and none can be opened."""
    wanted = [sense for sense in senses if not sense.is_off]
    for sense in wanted:
        sense.open(now)
    failures = [sense.failure for sense in wanted if sense.failure is not None]
    if wanted and len(failures) == len(wanted):
        raise failures[0]
