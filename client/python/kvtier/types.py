"""Plain types: what models look like, and what calls take and return."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from .errors import Error, NamedIntEnum

Key = bytes
"""Names a chunk: 16 bytes. From Model.prefix_keys() and the like."""

Buffer = Any
"""An object with the buffer protocol, contiguous: bytes, bytearray, memoryview, numpy arrays. Types that the protocol
does not know (bfloat16) go as their bytes: `array.view(numpy.uint8)`."""

Block = Tuple[int, int, Union[Buffer, Sequence[Buffer]]]
"""(chunk, plane, memory): one chunk in one plane. `chunk` counts within the lease or reservation, `plane` within the
model. The memory is a buffer, or a list of buffers that make up the block in order (an engine's scattered pages);
together they have the plane's bytes_per_chunk bytes."""


class PlaneType(NamedIntEnum):
    """Which chunks of a prefix a plane needs for going on from it."""

    ATTENTION = 1  # every one
    WINDOW = 2  # those that hold the last window_tokens tokens
    STATE = 3  # the last one
    INDEX = 4  # none


@dataclass(frozen=True)
class Plane:
    """One separately placed part of a model's cache: a layer's keys and values, a latent, a recurrent state."""

    name: str  # unique within the model: "layer.3.k"
    bytes_per_chunk: int
    layer: int = 0
    type: PlaneType = PlaneType.ATTENTION
    rank: int = -1  # tensor-parallel rank; -1: the same for all, stored once
    required: bool = True  # a chunk is visible once all of its required planes are committed
    window_tokens: int = 0  # of PlaneType.WINDOW


@dataclass(frozen=True)
class RecomputeTime:
    """What it costs to compute a chunk again behind a context of this length."""

    context_tokens: int
    seconds: float


@dataclass(frozen=True)
class ModelGeometry:
    """What a model's cache looks like, and what it must never be mixed with: other revisions, data types, layouts."""

    name: str
    chunk_tokens: int
    planes: Sequence[Plane]
    revision: str = ""
    data_type: str = ""
    layout_version: str = ""
    salt: str = ""
    recompute: Sequence[RecomputeTime] = field(default_factory=tuple)

    def _flat(self) -> tuple:
        return (self.name, self.revision, self.data_type, self.layout_version, self.salt, self.chunk_tokens,
                [(p.name, p.layer, int(p.type), p.rank, p.bytes_per_chunk, p.required, p.window_tokens)
                 for p in self.planes],
                [(r.context_tokens, r.seconds) for r in self.recompute])


class Priority(NamedIntEnum):
    """How much a writer minds that a chunk is dropped."""

    NORMAL = 0
    LOW = 1
    HIGH = 2


class Transport(NamedIntEnum):
    """How bytes come and go. Control calls are gRPC either way."""

    AUTO = 0  # shared memory where it can be had, else streams
    STREAM = 1  # copies through the daemon
    SHARED_MEMORY = 2  # connect() fails where there is none


class Verify(NamedIntEnum):
    """Which copies a read section hashes before they are read in place."""

    FIRST_READ = 0  # each copy once
    ALWAYS = 1
    OFF = 2


class ChunkCommit(NamedTuple):
    """Publishes one chunk of a reservation."""

    chunk: int  # within the reservation; commit in order
    key: Key
    token_count: int  # 1 .. chunk_tokens
    planes: Sequence[int] = ()  # empty: all that were reserved


class CommitResult(NamedIntEnum):
    """What became of a chunk."""

    COMMITTED = 0  # visible
    PARTIAL = 1  # other required planes are still missing
    ALREADY_EXISTS = 2  # somebody else was first; equally good


class BlockResult(NamedTuple):
    """What became of one block of a get. The bytes of a block with an error are undefined."""

    error: Optional[Error]
    pool: str  # where the bytes came from


class GetResult(NamedTuple):
    """`blocks` in the order of the request."""

    blocks: List[BlockResult]
    bytes_by_pool: Dict[str, int]
    all_ok: bool

    def raise_if_failed(self) -> "GetResult":
        """Raises the error of the first block that has one; returns itself otherwise."""
        for block in self.blocks:
            if block.error is not None:
                raise block.error
        return self


class ReadReport(NamedTuple):
    """What was read of one plane since the last report."""

    plane: int
    steps: int
    mass: Sequence[float]  # per chunk of the lease: mean attention mass per step, 0 to 1


class EventKind(NamedIntEnum):
    """What happened to a chunk."""

    COMMITTED = 1
    DROPPED = 2
    FORGOTTEN = 3
    MOVED = 4
    LOST = 5
    GAP = 6  # events are missing here


class WatchEvent(NamedTuple):
    """`sequence` grows; a later watch resumes after it."""

    sequence: int
    kind: EventKind
    key: Key
    plane: int
    pool: str
