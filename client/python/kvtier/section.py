"""Blocks read where they lie: no copy, and no question to the daemon."""

import os
import weakref
from typing import TYPE_CHECKING, Any, Iterable, List, Optional, Tuple

from . import _kvtier

if TYPE_CHECKING:
    from .lease import Lease


class Views:
    """Memory of blocks that Python objects see, until release()."""

    _alive: "weakref.WeakSet[Views]" = weakref.WeakSet()

    def __init__(self) -> None:
        self._views: List[memoryview] = []
        Views._alive.add(self)

    def add(self, memory: "_kvtier.BlockMemory") -> memoryview:
        """A view of the memory; using it after release() is a ValueError."""
        view = memoryview(memory)  # type: ignore[arg-type]
        self._views.append(view)
        return view

    def release(self) -> None:
        """Ends the views, but for those that something else was made of: these last as long as that."""
        views, self._views = self._views, []
        for view in views:
            try:
                view.release()
            except BufferError:
                pass

    @classmethod
    def release_all(cls) -> None:
        """Shared memory is not there in a forked child."""
        for views in list(cls._alive):
            views.release()


os.register_at_fork(after_in_child=Views.release_all)


def as_array(memory: Any, dtype: Any) -> Any:
    """A numpy array over the memory, which stays alive with it."""
    import numpy

    return numpy.frombuffer(memory, dtype=dtype)


class ReadSection:
    """While it is open, what was found in it stays where it is. Made by Client.read_section().

        with client.read_section() as section:
            keys = section.array(lease, chunk, plane, "float16")   # no copy
            scores = keys @ query

    Keep it short, a step of a decode: the daemon refuses new leases to a client with a section that is open too long.
    At its end views are over, and using one is a ValueError. An array cannot be taken back: where arrays (or slices of
    views) are still alive, nothing they show changes, but the section lasts until they are gone, see `open`. So drop
    arrays, or copy what you need of them.
    """

    def __init__(self, raw: "_kvtier.Section") -> None:
        self._raw = raw
        self._views = Views()

    def view(self, lease: "Lease", chunk: int, plane: int) -> memoryview:
        """The bytes of a block of the lease, read-only.

        NotFoundError: there is no copy that can be read in place; DataLossError: none with its checksum. Lease.get()
        still reads what is not lost.
        """
        return self._views.add(self._memory(lease, chunk, plane))

    def array(self, lease: "Lease", chunk: int, plane: int, dtype: Any = "u1") -> Any:
        """The same as a numpy array, one-dimensional and read-only."""
        return as_array(self._memory(lease, chunk, plane), dtype)

    def views(self, lease: "Lease", blocks: Iterable[Tuple[int, int]]) -> List[Optional[memoryview]]:
        """The same for many blocks, (chunk, plane) each; None for those that cannot be read in place."""
        wanted = list(blocks)
        found = self._raw.resolve(lease.handle, wanted) if wanted else []
        return [None if memory is None else self._views.add(memory) for memory, _, _ in found]

    def leave(self) -> None:
        """Ends the section, and its views."""
        self._raw.leave()
        self._views.release()

    @property
    def open(self) -> bool:
        """Whether the daemon still keeps things in place: until leave(), then while arrays are alive."""
        return self._raw.open

    def _memory(self, lease: "Lease", chunk: int, plane: int) -> "_kvtier.BlockMemory":
        ((memory, error, _),) = self._raw.resolve(lease.handle, [(chunk, plane)])
        if error is not None:
            raise error
        assert memory is not None
        return memory

    def __enter__(self) -> "ReadSection":
        return self

    def __exit__(self, *_error: object) -> None:
        self.leave()
