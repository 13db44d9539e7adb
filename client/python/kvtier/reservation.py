"""Reservations: room for chunks that are being written."""

import warnings
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Sequence, Union

from .errors import NotFoundError
from .section import Views, as_array
from .tickets import Ticket
from .types import Block, ChunkCommit, CommitResult, Key

if TYPE_CHECKING:
    from . import _kvtier
    from .client import Client, Model


def commit_results(raw: Iterable[int]) -> List[CommitResult]:
    return [CommitResult(result) for result in raw]


class Reservation:
    """Room for `chunks` chunks after their parent, invisible until committed. Made by Client.reserve().

        with client.reserve(model, parent=keys[0], chunks=1) as reservation:
            reservation.put([(0, 0, kv)])
            reservation.commit([(0, keys[1], model.chunk_tokens)])

    What is not committed at the end of the `with` is aborted, and its room is free again.
    """

    def __init__(self, client: "Client", model: "Model", chunks: int, handle: int) -> None:
        self.model = model
        self.chunks = chunks
        self.handle = handle
        """The daemon's name for it; 0 once it ended."""
        self._client = client
        self._section: Optional["_kvtier.Section"] = None  # keeps mapped what is being written
        self._written: Dict[int, Views] = {}  # by chunk

    def buffer(self, chunk: int, plane: int) -> memoryview:
        """Where a block is to be written in place, instead of put(): the memory that readers will see.

        Write all of it before the commit, which takes its checksum; the view ends then. FailedPreconditionError where
        the reservation is not in place (no shared memory, or no room for it): use put(), which works always.
        """
        return self._written.setdefault(chunk, Views()).add(self._memory(chunk, plane))

    def array(self, chunk: int, plane: int, dtype: Any = "u1") -> Any:
        """The same as a one-dimensional numpy array. An array cannot be ended: do not write to it after the commit, for
        readers would find the block damaged."""
        return as_array(self._memory(chunk, plane), dtype)

    def _memory(self, chunk: int, plane: int) -> "_kvtier.BlockMemory":
        if self._section is None:
            self._section = self._client._raw.enter_section()
        return self._section.reserved(self.handle, chunk, plane)

    def _end_writing(self, chunks: Iterable[int]) -> None:
        for chunk in chunks:
            views = self._written.pop(chunk, None)
            if views is not None:
                views.release()
        if not self._written and self._section is not None:
            section, self._section = self._section, None
            section.leave()

    def put(self, blocks: Iterable[Block]) -> None:
        """Copies blocks to the daemon. One call for many blocks is quicker than a call for each."""
        self._client._raw.put(self.model._raw, self.handle, blocks)

    def submit_put(self, blocks: Iterable[Block]) -> "Ticket[None]":
        """put() as a ticket. The memory must stay as it is until the completion; wait for it before submitting the
        commit, since tickets in flight run in any order."""
        raw = self._client._raw
        return self._client._submit(lambda: raw.submit_put(self.model._raw, self.handle, blocks), lambda _: None)

    def commit(self, chunks: Iterable[Union[ChunkCommit, tuple]]) -> List[CommitResult]:
        """Publishes chunks, in order: ChunkCommit or (chunk, key, token_count[, planes]) each.

        The first chunk that fails ends the call with its error. Planes may be committed by several calls, and by
        several processes; a chunk is visible once all of its required planes are there.
        """
        wanted = [ChunkCommit(*chunk) for chunk in chunks]
        results = commit_results(self._client._raw.commit(self.model._raw, self.handle, wanted))
        self._end_writing([chunk.chunk for chunk in wanted])
        return results

    def submit_commit(self, chunks: Iterable[Union[ChunkCommit, tuple]]) -> "Ticket[List[CommitResult]]":
        """commit() as a ticket."""
        raw, wanted = self._client._raw, [ChunkCommit(*chunk) for chunk in chunks]
        return self._client._submit(lambda: raw.submit_commit(self.model._raw, self.handle, wanted), commit_results)

    def commit_keys(self, keys: Sequence[Key], last_token_count: Optional[int] = None) -> List[CommitResult]:
        """Publishes chunks 0 and up under these keys, with all of their planes.

        They are full chunks; the last one has `last_token_count` tokens, where that is given.
        """
        full = self.model.geometry.chunk_tokens
        chunks = [ChunkCommit(number, key, full) for number, key in enumerate(keys)]
        if chunks and last_token_count is not None:
            chunks[-1] = chunks[-1]._replace(token_count=last_token_count)
        return self.commit(chunks)

    def abort(self) -> None:
        """Gives back what is not committed. A reservation that ended already is fine."""
        handle, self.handle = self.handle, 0
        self._end_writing(list(self._written))
        if handle == 0:
            return
        try:
            self._client._raw.abort(handle)
        except NotFoundError:  # all of it is committed, or it is of a daemon that is gone
            pass

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, error_type: Optional[type], *_error: object) -> None:
        self._client._end(self.abort, error_type)

    def __del__(self) -> None:
        handle = getattr(self, "handle", 0)
        if handle != 0 and self._client._note_lost_reservation(handle):
            warnings.warn(f"reservation {handle} of {self.chunks} chunks was neither aborted nor left by a with block",
                          ResourceWarning, source=self)

    def __repr__(self) -> str:
        return f"<kvtier.Reservation {self.handle}: {self.chunks} chunks of {self.model.geometry.name}>"
