"""Events of the daemon as an iterator."""

import math
from typing import Iterator, Optional

from . import _kvtier
from .types import EventKind, WatchEvent


class Watch(Iterator[WatchEvent]):
    """Yields what happens to the tenant's chunks until it is closed. Made by Client.watch().

    A thread of its own receives the events; some 1,000 wait here, beyond that the daemon holds them back. Ends with
    UnavailableError when the daemon goes: watch again with `after_sequence=watch.last_sequence`.
    """

    def __init__(self, raw: "_kvtier.WatchStream", after_sequence: int) -> None:
        self._raw = raw
        self.last_sequence = after_sequence
        """Of the last event that was taken."""

    def __next__(self) -> WatchEvent:
        event = self.next()
        assert event is not None  # it waits without limit
        return event

    def next(self, timeout: Optional[float] = None) -> Optional[WatchEvent]:
        """The next event; None if there is none within `timeout` seconds. StopIteration once it is closed."""
        found = self._raw.next(math.inf if timeout is None else timeout)
        if found is None:
            return None
        sequence, kind, key, plane, pool = found
        self.last_sequence = sequence
        return WatchEvent(sequence, EventKind(kind), key, plane, pool)

    def close(self) -> None:
        """Ends the watch, also while another thread waits in it."""
        self._raw.close()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
