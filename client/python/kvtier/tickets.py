"""Operations that were submitted: tickets, and what they end with."""

from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypeVar

from .errors import Error

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")


class Ticket(Generic[T]):
    """A submitted operation. It ends once: either wait() here, or Client.poll() returns its completion.

    The memory of a put or a get belongs to the operation until then, also when the ticket itself is dropped.
    """

    def __init__(self, client: "Client", number: int, convert: Callable[[Any], T]) -> None:
        self.number = number
        """Unique within the client."""
        self._client = client
        self._convert = convert

    def wait(self, timeout: Optional[float] = None) -> T:
        """What the blocking call of the same name returns, or its error.

        DeadlineExceededError after `timeout` seconds: the operation goes on, and can be waited for again.
        NotFoundError: its completion was taken before.
        """
        return self._client._wait(self, timeout).result()

    def __repr__(self) -> str:
        return f"<kvtier.Ticket {self.number}>"


class Completion(Generic[T]):
    """How a ticket's operation ended."""

    def __init__(self, ticket: "Ticket[T]", error: Optional[Error], value: Any) -> None:
        self.ticket = ticket
        self.error = error
        """None: it went well."""
        self._value = value

    def result(self) -> T:
        """What the blocking call of the same name returns; raises `error`, if there is one."""
        if self.error is not None:
            raise self.error
        return self._value

    def __repr__(self) -> str:
        return f"<kvtier.Completion of {self.ticket!r}: {'ok' if self.error is None else repr(self.error)}>"
