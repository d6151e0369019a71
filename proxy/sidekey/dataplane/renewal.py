"""The one replay after an upstream refused the grant: hold the answer, weigh it, renew, send the request again.

An answer of a watched status is kept back until its body is whole or over `MOST`. Then its integration's grant source
says whether the answer refuses the grant. It goes to the caller unchanged in all cases but one: a newer grant is to be
had, and the request can be written a second time from the first byte to the last.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sidekey.core.headers import is_plain
from sidekey.dataplane.granting import run, take
from sidekey.dataplane.resend import begin_again

if TYPE_CHECKING:
    from sidekey.dataplane.exchange import Exchange

MOST = 64 << 10
"""Bytes of an answer's body that are kept back; a longer one is told by its status alone."""


class Held:
    """An answer that is kept back: its head as it goes to the caller, and what has come of its body."""

    __slots__ = ("body", "chunked", "head", "readable", "size", "weighed")

    def __init__(self, head: list[bytes], *, chunked: bool, readable: bool) -> None:
        self.head = head
        self.body: list[bytes] = []
        self.size = 0
        self.chunked = chunked
        self.readable = readable
        self.weighed = False

    def add(self, pieces: list[bytes]) -> None:
        """Take in more of the body."""
        self.body += pieces
        self.size += sum(map(len, pieces))

    @property
    def is_full(self) -> bool:
        """Whether the body is longer than what is kept back."""
        return self.size > MOST

    def content(self, *, whole: bool) -> bytes | None:
        """The body, or None where it is cut or coded."""
        return b"".join(self.body) if whole and self.readable and not self.is_full else None

    def wire(self, *, whole: bool) -> bytes:
        """What goes to the caller."""
        if not self.chunked:
            return b"".join([*self.head, *self.body])
        body = [b"%x\r\n" % self.size, *self.body, b"\r\n"] if self.size else []
        return b"".join([*self.head, *body, b"0\r\n\r\n" if whole else b""])


def hold(exchange: Exchange, lines: list[bytes], head: list[bytes]) -> None:
    """Keep back the answer whose head this is; `lines` are its fields. Its body comes unframed from now on."""
    exchange.held = Held(head, chunked=exchange.chunked_out, readable=is_plain(lines))
    exchange.chunked_out = False


def keep_back(exchange: Exchange, held: Held, pieces: list[bytes]) -> None:
    """Keep back a piece of the body; an answer that turns out too long is decided on now."""
    held.add(pieces)
    if held.is_full and not (held.weighed or exchange.answer_complete):
        _weigh(exchange, held)


def stays_back(exchange: Exchange, held: Held) -> bool:
    """Whether an answer that has come whole stays back for now: a newer grant is being fetched."""
    if held.weighed:
        exchange.upstream = None
        return True
    return _weigh(exchange, held)


def _weigh(exchange: Exchange, held: Held) -> bool:
    """Decide on a held answer: whether it stays back while a newer grant is fetched. If not, it has gone on."""
    held.weighed = True
    whole = exchange.answer_complete
    newer = exchange.lane.source.report_rejection(exchange.grant, exchange.status, held.content(whole=whole))
    if not newer or exchange.kept is None or exchange.replayed or not exchange.complete:
        pass_on(exchange, held)
        return False
    exchange.replayed = True
    if whole:
        exchange.upstream = None
    elif exchange.upstream is not None:
        exchange.upstream.hold()
    run(exchange, partial(_replay, exchange, held))
    return True


def pass_on(exchange: Exchange, held: Held) -> None:
    """Give a held answer to the caller; more of its body may follow."""
    exchange.held = None
    exchange.chunked_out = held.chunked
    exchange.deliver(held.wire(whole=exchange.answer_complete))


async def _replay(exchange: Exchange, held: Held) -> None:
    grant = await exchange.lane.source.refreshed_after(exchange.grant)
    if exchange.finished:
        return
    if grant is None:
        _go_on(exchange, held)
    else:
        begin_again(exchange)
        take(exchange, grant, judged=False)


def _go_on(exchange: Exchange, held: Held) -> None:
    """There is no newer grant after all: the answer goes to the caller, with what is still to come of it."""
    pass_on(exchange, held)
    if exchange.answer_complete:
        exchange.finish()
    elif exchange.upstream is not None and not exchange.caller_blocked:
        exchange.upstream.resume()
