"""Errors: one class for each status code of the daemon, all below kvtier.Error.

None of them means that inference must stop. `except kvtier.Error:` around the use of the cache, and recomputing there,
is what a worker needs; the classes are for those who want to know more.
"""

import enum
from typing import Dict, Type


class NamedIntEnum(enum.IntEnum):
    """An IntEnum that prints as its name, whatever the version of Python."""

    def __str__(self) -> str:
        return self.name


class StatusCode(NamedIntEnum):
    """The codes of gRPC and Abseil."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Error(Exception):
    """What every error of kvtier is. `code` says which kind, `message` names the object, the number and the limit."""

    code: StatusCode = StatusCode.UNKNOWN

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class CancelledError(Error):
    """The client was closed, or the interpreter is ending."""

    code = StatusCode.CANCELLED


class UnknownError(Error):
    """An error that says no more than its message."""

    code = StatusCode.UNKNOWN


class InvalidArgumentError(Error, ValueError):
    """The call itself is wrong, whatever the state of the daemon."""

    code = StatusCode.INVALID_ARGUMENT


class DeadlineExceededError(Error):
    """A call took longer than `call_timeout`, or a wait longer than its timeout."""

    code = StatusCode.DEADLINE_EXCEEDED


class NotFoundError(Error):
    """No such chunk, plane, lease, reservation or ticket: it ended, or it is of a daemon that is gone."""

    code = StatusCode.NOT_FOUND


class AlreadyExistsError(Error):
    """It is there already."""

    code = StatusCode.ALREADY_EXISTS


class PermissionDeniedError(Error):
    """The daemon knows no tenant for this user, or the tenant may not do this."""

    code = StatusCode.PERMISSION_DENIED


class ResourceExhaustedError(Error):
    """Something is full: pools, leases, tickets. Keep the chunk private, recompute, and go on."""

    code = StatusCode.RESOURCE_EXHAUSTED


class FailedPreconditionError(Error):
    """Not in this state: another protocol version, a parent that is not committed, a forked process."""

    code = StatusCode.FAILED_PRECONDITION


class AbortedError(Error):
    """Something else happened first."""

    code = StatusCode.ABORTED


class OutOfRangeError(Error):
    """A position beyond the end."""

    code = StatusCode.OUT_OF_RANGE


class UnimplementedError(Error):
    """This daemon cannot do that."""

    code = StatusCode.UNIMPLEMENTED


class InternalError(Error):
    """An invariant is broken: a bug in kvtier."""

    code = StatusCode.INTERNAL


class UnavailableError(Error):
    """No daemon answers. The client attaches again by itself once there is one; until then, recompute."""

    code = StatusCode.UNAVAILABLE


class DataLossError(Error):
    """Bytes do not have their checksum. The daemon has dropped that copy."""

    code = StatusCode.DATA_LOSS


class UnauthenticatedError(Error):
    """The daemon does not know who this is."""

    code = StatusCode.UNAUTHENTICATED


_CLASSES: Dict[int, Type[Error]] = {cls.code: cls for cls in Error.__subclasses__()}


def error_for(code: int, message: str) -> Error:
    """The error for a status code; UnknownError for a code that this version does not know."""
    return _CLASSES.get(code, UnknownError)(message)
