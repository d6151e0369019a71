"""What the two connections know of an exchange: these calls, and nothing else."""

from __future__ import annotations

import pytest

from sidekey.core.build import build
from sidekey.dataplane.events import CallerEvents, ExchangeEvents
from sidekey.dataplane.exchange.exchange import Exchange
from sidekey.dataplane.tunnel.negotiation import Negotiation


def events_of(kind: type) -> set[str]:
    """The events that an abstract class, and those it is made of, leave open."""
    return {
        name
        for each in kind.__mro__
        if each.__module__ == CallerEvents.__module__
        for name in vars(each)
        if not name.startswith("_")
    }


def test_the_opening_of_a_tunnel_hears_what_a_caller_can_tell() -> None:
    """And has no upstream."""
    events = events_of(CallerEvents)
    assert events == {"begin", "upload", "refuse", "caller_lost", "caller_full", "caller_drained"}
    assert issubclass(Negotiation, CallerEvents)
    assert ExchangeEvents not in Negotiation.__mro__
    assert all(getattr(Negotiation, name) is not getattr(CallerEvents, name) for name in events)


def test_an_exchange_hears_every_event() -> None:
    """The exchange leaves nothing of the abstract class open."""
    events = events_of(ExchangeEvents)
    assert events == {
        "begin",
        "upload",
        "refuse",
        "caller_lost",
        "caller_full",
        "caller_drained",
        "interim",
        "respond",
        "upstream_lost",
        "upstream_full",
        "upstream_drained",
    }
    assert issubclass(Exchange, ExchangeEvents)
    assert all(getattr(Exchange, name) is not getattr(ExchangeEvents, name) for name in events)


@pytest.mark.skipif(build() == "compiled", reason="a compiled class does not say which of its methods are abstract")
def test_an_exchange_must_hear_every_event() -> None:
    """One that left an event out could not be made."""
    assert ExchangeEvents.__abstractmethods__ == events_of(ExchangeEvents)
