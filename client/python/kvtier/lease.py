"""Leases: chunks that stay readable while somebody needs them."""

import warnings
from typing import TYPE_CHECKING, Any, Iterable, Optional

from .errors import NotFoundError
from .tickets import Ticket
from .types import Block, BlockResult, GetResult, ReadReport

if TYPE_CHECKING:
    from .client import Client, Model


def get_result(raw: Any) -> GetResult:
    blocks, bytes_by_pool, all_ok = raw
    return GetResult([BlockResult(*block) for block in blocks], bytes_by_pool, all_ok)


class Lease:
    """The first `chunks` chunks of the keys that were looked up, readable until it is released. Made by Client.lookup().

    Release it: best by `with client.lookup(...) as lease:`. It also ends by time, where the daemon says so (`ttl`,
    renew()), and with its client. One that is forgotten is released by a later call of the client, with a
    ResourceWarning.
    """

    def __init__(self, client: "Client", model: "Model", chunks: int, handle: int, ttl: float) -> None:
        self.model = model
        self.chunks = chunks
        """How many of the keys can be used, from the first on; 0 is a miss."""
        self.handle = handle
        """The daemon's name for it; 0: nothing is leased, since nothing matched or no lease was asked for."""
        self.ttl = ttl
        """Seconds that it lasts without being renewed."""
        self._client = client

    def get(self, blocks: Iterable[Block]) -> GetResult:
        """Fetches blocks into the caller's memory, and verifies them.

        Blocks fail one by one, see GetResult; the call itself fails when the daemon is gone, the lease ended or the
        request is wrong. Destinations must be writable. Of a miss there is nothing to fetch, and nothing is fine.
        """
        if self.chunks == 0:
            blocks = list(blocks)
            if not blocks:
                return GetResult([], {}, True)
        return get_result(self._client._raw.get(self.model._raw, self.handle, blocks))

    def submit_get(self, blocks: Iterable[Block]) -> "Ticket[GetResult]":
        """get() as a ticket; the memory belongs to the operation until its completion was taken."""
        raw = self._client._raw
        return self._client._submit(lambda: raw.submit_get(self.model._raw, self.handle, blocks), get_result)

    def renew(self, ttl: float = 0) -> float:
        """Makes it last for `ttl` seconds from now (0: the daemon's default); returns what was granted."""
        self.ttl = self._client._raw.renew(self.handle, ttl)
        return self.ttl

    def report(self, reports: Iterable[ReadReport]) -> None:
        """Tells the daemon what was read, so that it places these blocks well."""
        self._client._raw.report(self.handle, reports)

    def release(self) -> None:
        """The chunks may be dropped from now on. A lease that ended already is fine."""
        handle, self.handle = self.handle, 0
        if handle == 0:
            return
        try:
            self._client._raw.release(handle)
        except NotFoundError:
            pass

    def __len__(self) -> int:
        return self.chunks

    def __bool__(self) -> bool:
        """Whether anything matched."""
        return self.chunks > 0

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, error_type: Optional[type], *_error: object) -> None:
        self._client._end(self.release, error_type)

    def __del__(self) -> None:
        handle = getattr(self, "handle", 0)
        if handle != 0 and self._client._note_lost_lease(handle):
            warnings.warn(f"lease {handle} of {self.chunks} chunks was never released", ResourceWarning, source=self)

    def __repr__(self) -> str:
        return f"<kvtier.Lease {self.handle}: {self.chunks} chunks of {self.model.geometry.name}>"
