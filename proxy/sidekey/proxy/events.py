"""The events that connections report to an exchange: its caller's connection, and the one to its upstream."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sidekey.errors import Problem
from sidekey.policy.messages import ResponseHead


class CallerEvents(ABC):
    """Events of a caller's connection. An exchange handles them, or the negotiation of a tunnel.

    It is an abstract class, not a `typing.Protocol`: a compiled call through it takes a tenth of the time.
    """

    __slots__ = ()

    @abstractmethod
    def begin(self) -> None:
        """Start the request. The read that completed its head is parsed to its end."""

    @abstractmethod
    def body_received(self) -> None:
        """Handle more of the body, or its end."""

    @abstractmethod
    def request_unreadable(self, problem: Problem) -> None:
        """End with this problem, or cut a response that has begun: the rest of the request cannot be read."""

    @abstractmethod
    def caller_lost(self) -> None:
        """Stop: the caller has left."""

    @abstractmethod
    def caller_full(self) -> None:
        """Pause the response, because the write buffer to the caller is full."""

    @abstractmethod
    def caller_drained(self) -> None:
        """Continue the response, because the write buffer to the caller has drained."""


class ExchangeEvents(CallerEvents):
    """Events of both connections."""

    __slots__ = ()

    @abstractmethod
    def continue_received(self) -> None:
        """Handle 100 Continue from the upstream."""

    @abstractmethod
    def response_received(self, head: ResponseHead | None, body: list[bytes], *, whole: bool) -> None:
        """Handle a part of the response: its head, unless that came earlier, and pieces of its body.

        `whole` is True for the last part.
        """

    @abstractmethod
    def upgrade_received(self, head: ResponseHead, data: bytes) -> None:
        """Handle the head of a 101 response, and the bytes of the upstream that follow it."""

    @abstractmethod
    def upstream_lost(self, problem: Problem, *, stale: bool) -> None:
        """Handle the loss of the connection before the end of the response.

        `stale` is True if the connection was reused and brought no byte of the response.
        """

    @abstractmethod
    def upstream_full(self) -> None:
        """Pause the request body, because the write buffer to the upstream is full."""

    @abstractmethod
    def upstream_drained(self) -> None:
        """Continue the request body, because the write buffer to the upstream has drained."""
