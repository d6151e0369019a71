"""What the two connections tell an exchange: all that they know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sidekey.core.response import ResponseHead
from sidekey.errors import Problem


class CallerEvents(ABC):
    """What answers a request, as the connection of its caller sees it: an exchange, or the opening of a tunnel.

    An abstract class rather than a `typing.Protocol`: compiled, a call through it costs a tenth.
    """

    __slots__ = ()

    @abstractmethod
    def begin(self) -> None:
        """Admit the request and send it on, or answer it. The whole read that completed its head has been parsed."""

    @abstractmethod
    def upload(self) -> None:
        """More of the body has arrived, or its end."""

    @abstractmethod
    def refuse(self, problem: Problem) -> None:
        """The request cannot be read to its end: end with this response, or cut one that has begun."""

    @abstractmethod
    def caller_lost(self) -> None:
        """The caller has left: nothing more is done for them."""

    @abstractmethod
    def caller_full(self) -> None:
        """The caller takes no more of the response for now."""

    @abstractmethod
    def caller_drained(self) -> None:
        """The caller takes more."""


class ExchangeEvents(CallerEvents):
    """An exchange, as the connections of its caller and its upstream see it."""

    __slots__ = ()

    @abstractmethod
    def interim(self) -> None:
        """The upstream asks for the body (100)."""

    @abstractmethod
    def respond(self, head: ResponseHead | None, body: list[bytes], *, whole: bool) -> None:
        """Part of the response has come: its head where it is new, pieces of its body, and whether that is all."""

    @abstractmethod
    def upstream_lost(self, problem: Problem, *, stale: bool) -> None:
        """No (further) response comes. `stale`: a reused connection ended before a byte of it."""

    @abstractmethod
    def upstream_full(self) -> None:
        """The upstream takes no more of the body for now."""

    @abstractmethod
    def upstream_drained(self) -> None:
        """The upstream takes more."""
