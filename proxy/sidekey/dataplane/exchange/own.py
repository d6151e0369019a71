"""A request that this process itself makes, such as an operator's test: nobody is asked whose it is."""

from __future__ import annotations

from sidekey.core.decide import decide
from sidekey.dataplane.exchange.exchange import Exchange
from sidekey.errors import Problem


class OwnExchange(Exchange):
    """One request of our own and its response. It is judged as any other, but for the caller's token."""

    __slots__ = ()

    def _admit(self) -> Problem | None:
        return self._settle(decide(self._request.head, None, self._index))
