"""Only a class writes its own state: others call a method, or use what one returns."""

from __future__ import annotations

from pathlib import Path

import pytest

import sidekey
from support.ownership import foreign_writes, sources_of

PACKAGE = Path(sidekey.__file__).parent

OWNERS = ("Exchange", "CallerConnection", "UpstreamConnection", "Pool")
"""The classes of the hot path that hold state, each with its bases and subclasses: the readers of both connections."""

SAMPLE = """
class Reader:
    __slots__ = ("fed",)
class Connection(Reader, asyncio.Protocol):
    __slots__ = ("exchange", "state")
    def __init__(self, exchange: Exchange) -> None:
        self.exchange: Exchange | None = exchange
        self.state = 0
        self.fed = 1
class Exchange:
    __slots__ = ("body", "state")
    waiting: deque[Connection]
    def open(self) -> Connection: ...
class Seen(Protocol):
    body: bytes
class Other:
    def __init__(self) -> None:
        self.state = 0
"""


def test_only_a_class_assigns_its_own_attributes() -> None:
    """Neither another class nor a function sets or deletes one, by whatever spelling."""
    found = foreign_writes(sources_of(PACKAGE), OWNERS)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("def f(e: Exchange): e.state = 1", "Exchange.state"),
        ("def f(e: 'Exchange | None'): del e.state", "Exchange.state"),
        ("def f(c: Connection): c.exchange.state += 1", "Exchange.state"),
        ("def f(c: Connection): c.exchange.open().fed, x = 1, 2", "Connection.fed"),
        ("def f(e: Exchange):\n    for c in e.waiting: c.state = 1", "Connection.state"),
        ("def f(e: Exchange):\n    c = e.waiting.popleft()\n    c.state = 1", "Connection.state"),
        ("def f(e): e.body = 1", "Exchange.body"),
        ("def f(e: Seen): e.body = 1", "Exchange.body"),
        ("def f(e: Exchange): setattr(e, 'state', 1)", "Exchange.state"),
        ("class More(Other):\n    def f(self, e: Exchange): e.state = 1", "Exchange.state"),
        ("def f(e): e.state = 1", None),  # the name is Other's as well, and nothing tells the class
        ("def f(o: Other): o.state = 1", None),
        ("class More(Exchange):\n    def f(self): self.body = 1", None),
        ("class More(Exchange):\n    def f(self, e: Exchange): e.state = 1", None),
    ],
)
def test_a_write_from_outside_is_found(code: str, written: str | None) -> None:
    """Else the test above would say nothing."""
    found = foreign_writes({"a.py": SAMPLE, "b.py": code}, ("Exchange", "Connection"))
    assert [line.split()[1] for line in found] == ([] if written is None else [written])
