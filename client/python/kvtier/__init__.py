"""kvtier: stores and fetches KV cache blocks of LLM inference through a kvtierd on this machine.

    import kvtier

    with kvtier.connect() as client:
        model = client.register_model(kvtier.ModelGeometry(
            name="my-model", chunk_tokens=16, planes=[kvtier.Plane("kv", bytes_per_chunk=65536)]))
        keys = model.prefix_keys(tokens)  # one for each chunk of 16 tokens
        with client.lookup(model, keys) as lease:
            lease.get([(chunk, 0, kv[chunk]) for chunk in range(lease.chunks)]).raise_if_failed()

Every error is a kvtier.Error, and none of them means that inference must stop: recompute, and go on.
"""

from ._kvtier import __version__
from .client import Client, Model, connect, default_socket_path
from .errors import (AbortedError, AlreadyExistsError, CancelledError, DataLossError, DeadlineExceededError, Error,
                     FailedPreconditionError, InternalError, InvalidArgumentError, NotFoundError, OutOfRangeError,
                     PermissionDeniedError, ResourceExhaustedError, StatusCode, UnauthenticatedError, UnavailableError,
                     UnimplementedError, UnknownError)
from .lease import Lease
from .reservation import Reservation
from .section import ReadSection
from .tickets import Completion, Ticket
from .types import (Block, BlockResult, Buffer, ChunkCommit, CommitResult, EventKind, GetResult, Key, ModelGeometry,
                    Plane, PlaneType, Priority, ReadReport, RecomputeTime, Transport, Verify, WatchEvent)
from .watch import Watch

__all__ = [
    "AbortedError", "AlreadyExistsError", "Block", "BlockResult", "Buffer", "CancelledError", "ChunkCommit", "Client",
    "CommitResult", "Completion", "DataLossError", "DeadlineExceededError", "Error", "EventKind",
    "FailedPreconditionError", "GetResult", "InternalError", "InvalidArgumentError", "Key", "Lease", "Model",
    "ModelGeometry", "NotFoundError", "OutOfRangeError", "PermissionDeniedError", "Plane", "PlaneType", "Priority",
    "ReadReport", "ReadSection", "RecomputeTime", "Reservation", "ResourceExhaustedError", "StatusCode", "Ticket", "Transport",
    "UnauthenticatedError", "UnavailableError", "UnimplementedError", "UnknownError", "Verify", "Watch", "WatchEvent", "__version__",
    "connect", "default_socket_path",
]
