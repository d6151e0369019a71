"""What the two connections know of an exchange: these calls, and nothing else."""

from __future__ import annotations

import pytest

from sidekey.core.build import build
from sidekey.dataplane.events import ExchangeEvents
from sidekey.dataplane.exchange.exchange import Exchange


def test_an_exchange_hears_every_event() -> None:
    """The exchange leaves nothing of the abstract class open."""
    events = {name for name in vars(ExchangeEvents) if not name.startswith("_")}
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
    assert ExchangeEvents.__abstractmethods__ == {name for name in vars(ExchangeEvents) if not name.startswith("_")}
