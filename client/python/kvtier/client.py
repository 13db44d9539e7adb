"""The client: everything that is asked of a daemon."""

import collections
import math
import threading
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Sequence, Tuple, TypeVar, Union

from . import _kvtier
from .errors import CancelledError, Error, FailedPreconditionError, NotFoundError, UnavailableError
from .lease import Lease
from .reservation import Reservation
from .section import ReadSection
from .tickets import Completion, Ticket
from .types import Key, ModelGeometry, Priority, Transport, Verify
from .watch import Watch

T = TypeVar("T")

Tokens = Union[Sequence[int], Any]
"""Token ids, each 0 to 2**32 - 1: a one-dimensional numpy array or array.array of integers (quickest), or any iterable
of int."""


class Model:
    """A model that a client has registered: its geometry, and the keys of its chunks. Made by Client.register_model().

    Keys depend on the tenant's salt. Where the daemon's configuration does not fix it, a restarted daemon has another
    one, and keys computed before find nothing: compute them again for each request.
    """

    def __init__(self, raw: "_kvtier.Model", geometry: ModelGeometry) -> None:
        self.geometry = geometry
        self._raw = raw

    @property
    def chunk_tokens(self) -> int:
        return self.geometry.chunk_tokens

    def prefix_keys(self, tokens: Tokens, extra: bytes = b"") -> List[Key]:
        """The keys of all chunks of `tokens`, the shorter one at the end included.

        `extra` is what else the bytes depend on: an adapter, images.
        """
        return self._raw.prefix_keys(tokens, extra)

    def chunk_key(self, parent: Optional[Key], tokens: Tokens, extra: bytes = b"") -> Key:
        """The key of the chunk of `tokens` after `parent` (None: the first chunk)."""
        return self._raw.chunk_key(parent, tokens, extra)

    def opaque_key(self, parent: Optional[Key], engine_key: bytes, extra: bytes = b"") -> Key:
        """The key of a chunk that the engine names itself."""
        return self._raw.opaque_key(parent, engine_key, extra)

    def __repr__(self) -> str:
        return f"<kvtier.Model {self.geometry.name}: {len(self.geometry.planes)} planes>"


class Client:
    """Stores and fetches KV cache blocks through a kvtierd on this machine. Made by kvtier.connect().

    Any thread may call anything; calls give up the GIL while they wait, so they run beside each other. Each of them ends
    within `unavailable_after` of a daemon's end with UnavailableError. The client then attaches again by itself: calls
    work again once a daemon is back, models stay registered, and leases and reservations of before are NotFoundError.

    What may take long also exists as submit_...(), which returns a Ticket at once. Completions come by poll(), in any
    order; fileno() is readable while some wait, so that select and asyncio's add_reader take a client as it is.

    A client does not survive a fork: in the child every call raises FailedPreconditionError. Connect after the fork, or
    start processes with multiprocessing's "spawn".
    """

    def __init__(self, raw: "_kvtier.Client") -> None:
        self._raw = raw
        self._lock = threading.RLock()  # tickets are noted before they are looked up
        self._tickets: Dict[int, Ticket] = {}
        self._lost: Deque[Tuple[Callable[[int], None], int]] = collections.deque()

    # --- models and state ---------------------------------------------------------------------------------------------

    def register_model(self, geometry: ModelGeometry) -> Model:
        """Makes a model known; the same geometry again is the same model."""
        return Model(self._raw.register_model(geometry._flat()), geometry)

    @property
    def attached(self) -> bool:
        """Whether there is a daemon now."""
        return self._raw.attached

    @property
    def daemon_epoch(self) -> int:
        """Changes with each restart of the daemon; 0 while not attached."""
        return self._raw.daemon_epoch

    @property
    def tenant(self) -> str:
        """The name under which the daemon knows this user; empty while not attached."""
        return self._raw.tenant

    @property
    def transport(self) -> Transport:
        """How bytes come and go; Transport.AUTO while not attached."""
        return Transport(self._raw.transport)

    @property
    def transport_note(self) -> str:
        """Why bytes go by streams; empty with shared memory."""
        return self._raw.transport_note

    def wait_attached(self, timeout: float) -> None:
        """Waits until there is a daemon; DeadlineExceededError after `timeout` seconds."""
        self._raw.wait_attached(timeout)

    # --- reading ------------------------------------------------------------------------------------------------------

    def lookup(self, model: Model, keys: Sequence[Key], *, lease: bool = True, ttl: float = 0) -> Lease:
        """Finds how many of `keys`, in prefix order, can be used, and leases these chunks.

            with client.lookup(model, keys) as lease:
                lease.get([(chunk, 0, memory[chunk]) for chunk in range(lease.chunks)])

        `lease=False` only asks. `ttl` is how long the lease lasts without being renewed, in seconds; 0: the daemon's
        default.
        """
        self._end_lost()
        return self._lease(model, self._raw.lookup(model._raw, keys, lease, ttl))

    def submit_lookup(self, model: Model, keys: Sequence[Key], *, lease: bool = True,
                      ttl: float = 0) -> "Ticket[Lease]":
        """lookup() as a ticket."""
        return self._submit(lambda: self._raw.submit_lookup(model._raw, keys, lease, ttl),
                            lambda found: self._lease(model, found))

    def read_section(self) -> ReadSection:
        """Opens a section in which leased blocks are read in place.

        UnavailableError where no memory is shared with the daemon (`transport`): use Lease.get(), which works always.
        """
        return ReadSection(self._raw.enter_section())

    def prefetch(self, model: Model, keys: Sequence[Key]) -> int:
        """Says that these chunks will be read soon; returns how many of them the daemon will move ahead."""
        return self._raw.prefetch(model._raw, keys)

    # --- writing ------------------------------------------------------------------------------------------------------

    def reserve(self, model: Model, *, parent: Optional[Key] = None, chunks: int = 1, planes: Sequence[int] = (),
                priority: Priority = Priority.NORMAL, keep: float = 0, do_not_store: bool = False) -> Reservation:
        """Room for `chunks` chunks after `parent` (None: at the start of a prefix), in `planes` (empty: all).

        `priority`, `keep` (seconds) and `do_not_store` are wishes. ResourceExhaustedError where there is no room: keep
        the chunks private and go on.
        """
        self._end_lost()
        handle = self._raw.reserve(model._raw, parent, chunks, planes, priority, keep, do_not_store)
        return Reservation(self, model, chunks, handle)

    def submit_reserve(self, model: Model, *, parent: Optional[Key] = None, chunks: int = 1, planes: Sequence[int] = (),
                       priority: Priority = Priority.NORMAL, keep: float = 0,
                       do_not_store: bool = False) -> "Ticket[Reservation]":
        """reserve() as a ticket."""
        return self._submit(
            lambda: self._raw.submit_reserve(model._raw, parent, chunks, planes, priority, keep, do_not_store),
            lambda handle: Reservation(self, model, chunks, handle))

    def forget(self, model: Model, keys: Sequence[Key]) -> int:
        """Hides these chunks and all that follow them, at once; returns how many that are."""
        return self._raw.forget(model._raw, keys)

    # --- events -------------------------------------------------------------------------------------------------------

    def watch(self, after_sequence: int = 0) -> Watch:
        """What happens to the tenant's chunks after that event; 0: from now on.

            with client.watch() as events:
                for event in events:
                    ...
        """
        return Watch(self._raw.watch(after_sequence), after_sequence)

    # --- tickets ------------------------------------------------------------------------------------------------------

    def poll(self, completions_max: int = 64) -> List[Completion]:
        """Takes completions that are there, without waiting."""
        found = self._raw.poll(completions_max)
        return [self._complete(*one) for one in found]

    def fileno(self) -> int:
        """A descriptor that is readable while completions wait to be polled. It is the client's: do not close it."""
        return self._raw.event_fd

    def _submit(self, submit: Callable[[], int], convert: Callable[[Any], T]) -> "Ticket[T]":
        with self._lock:
            number = submit()
            ticket = self._tickets[number] = Ticket(self, number, convert)
        return ticket

    def _complete(self, number: int, error: Optional[Error], value: Any) -> Completion:
        with self._lock:
            ticket = self._tickets.pop(number)
        return Completion(ticket, error, None if error is not None else ticket._convert(value))

    def _wait(self, ticket: Ticket, timeout: Optional[float]) -> Completion:
        return self._complete(*self._raw.wait(ticket.number, math.inf if timeout is None else timeout))

    # --- the end ------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def close(self) -> None:
        """Detaches. What is in flight on other threads ends with CancelledError, and so does every later call."""
        self._raw.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _lease(self, model: Model, found: Tuple[int, int, float]) -> Lease:
        chunks, handle, ttl = found
        return Lease(self, model, chunks, handle, ttl)

    def _end(self, end: Callable[[], None], error_type: Optional[type]) -> None:
        """The end of a with block. A first error is not hidden; without a daemon there is nothing left to end, and in a
        forked process it is not ours to end."""
        try:
            end()
        except (CancelledError, FailedPreconditionError, UnavailableError):
            pass
        except Error:
            if error_type is None:
                raise

    def _note_lost_lease(self, handle: int) -> bool:
        return self._note_lost(self._raw.release, handle)

    def _note_lost_reservation(self, handle: int) -> bool:
        return self._note_lost(self._raw.abort, handle)

    def _note_lost(self, end: Callable[[int], None], handle: int) -> bool:
        """From a destructor, which may run at any time and must not wait: a later call ends it."""
        if self._raw.closed:
            return False
        self._lost.append((end, handle))
        return True

    def _end_lost(self) -> None:
        while self._lost:
            try:
                end, handle = self._lost.popleft()
            except IndexError:  # another thread was quicker
                return
            try:
                end(handle)
            except (CancelledError, NotFoundError, UnavailableError):
                pass

    def __repr__(self) -> str:
        return f"<kvtier.Client{' (closed)' if self.closed else ''}>"


def default_socket_path() -> str:
    """$KVTIER_SOCKET, else $XDG_RUNTIME_DIR/kvtier/kvtierd.sock, else /run/kvtier/kvtierd.sock."""
    return _kvtier.default_socket_path()


def connect(socket: Optional[str] = None, *, name: str = "python", lazy: bool = False, unavailable_after: float = 2.0,
            call_timeout: float = 30.0, tickets_max: int = 1024, transport: Transport = Transport.AUTO,
            verify: Verify = Verify.FIRST_READ, report_every: int = 8) -> Client:
    """Attaches to the daemon at `socket` (None: default_socket_path()).

    UnavailableError when none answers; with `lazy`, a client without a daemon, which attaches when one appears.
    `name` is for the daemon's logs. A call that gets no answer fails with UnavailableError after `unavailable_after`
    seconds without a sign of life, one that takes longer than `call_timeout` with DeadlineExceededError. At most
    `tickets_max` tickets are submitted and not yet polled. `verify` says which copies a read section hashes before they
    are read in place; one section in `report_every` tells the daemon what was read (0: none).
    """
    return Client(_kvtier.Client(socket or "", name, unavailable_after, call_timeout, tickets_max, lazy,
                                 int(transport), int(verify), report_every))
