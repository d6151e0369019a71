"""Limit how many of the requests in flight go to one origin, or to one integration with a limit of its own.

An origin gets at most half: the largest share that leaves one for the others, and few upstreams hang at the same time.
Waiting requests count too, and belong to the origin: a server that hangs does so for every integration that calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from weakref import WeakValueDictionary

from sidekey.core.urls import Origin
from sidekey.dataplane.worker import Worker
from sidekey.errors import Problem

RETRY_AFTER: Final = ("Retry-After", "1")


class Share:
    """Counts the requests in flight of one origin, or of one integration.

    Those of an integration with a limit of its own count against that, those of all others against their origin's. A
    request that counts here may be older than the config in use, and so may exceed a limit that was lowered.
    """

    __slots__ = ("_own", "_worker", "in_flight")

    def __init__(self, worker: Worker, own: int) -> None:
        self._worker: Final = worker
        self._own = own
        self.in_flight = 0

    def limit_to(self, own: int) -> None:
        """Go by an integration's limit; 0 stands for that of an origin."""
        self._own = own

    def enter(self) -> bool:
        """Count a request in; False where there is no room for it."""
        if self.in_flight >= (self._own or self._worker.origin_limit):
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        """Count a request out."""
        self.in_flight -= 1

    @property
    def fullness(self) -> float:
        """The requests in flight as a part of the limit, which the process's may lie below."""
        worker = self._worker
        return self.in_flight / min(self._own or worker.origin_limit, worker.in_flight_limit)

    @property
    def problem(self) -> Problem:
        """The response to a request that there is no room for; it names the limit, and not the origin."""
        if self._own:
            detail = "the integration's own limits.in_flight is reached"
        elif self._worker.is_divided:
            detail = "one origin has half of limits.in_flight in flight, which is the most that one may have"
        else:
            detail = "limits.in_flight is reached"
        return Problem("overloaded", detail, headers=(RETRY_AFTER,))


Hold = frozenset[Share]
"""A share, held: it is the same one for all who ask for it while anybody holds it.

A set of one, since nothing can refer weakly to an object of a compiled class.
"""


class Shares:
    """Shares by what they count, while they are held: a caller may name any number of origins.

    They outlive the integrations of one config, whose requests may be in flight when the next one counts. Who holds
    none has nothing in flight.
    """

    __slots__ = ("_holds", "_worker")

    def __init__(self, worker: Worker) -> None:
        self._worker: Final = worker
        self._holds: WeakValueDictionary[Origin | str, Hold] = WeakValueDictionary()

    def of_origin(self, origin: Origin) -> Hold:
        """The share of an origin."""
        return self._find(origin)

    def of_integration(self, name: str, own: int) -> Hold:
        """The share of an integration by its ID: with its own limit, or (0) until its origin is known."""
        hold = self._find(name)
        for share in hold:
            share.limit_to(own)
        return hold

    def _find(self, key: Origin | str) -> Hold:
        hold = self._holds.get(key)
        if hold is None:
            hold = self._holds[key] = frozenset((Share(self._worker, 0),))
        return hold

    def fullness(self) -> Iterator[float]:
        """How full each of them is, one at a time."""
        for reference in self._holds.valuerefs():
            hold = reference()
            if hold is not None:
                for share in hold:
                    yield share.fullness
