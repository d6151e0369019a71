"""Bodies that take a token: gathered whole before anything is sent, checked, and written anew with the token in them.

RFC 6750 2.2: the parameter goes into a form; JSON objects are taken as well. What cannot take it is refused before a
token is fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidekey.core.headers import BODY_DIGESTS, is_plain, line_values, nominated
from sidekey.core.parameters import NamedAlready, Unplaceable, check_body, media_type, placed
from sidekey.dataplane.inbound import without
from sidekey.errors import Problem

if TYPE_CHECKING:
    from sidekey.dataplane.exchange import Exchange


def gather(exchange: Exchange) -> bool:
    """Take stock of the body: True when it is whole and can take the token. Where it cannot, the exchange fails."""
    fault = _refusal(exchange)
    if fault is not None:
        exchange.fail(fault)
        return False
    if exchange.expects_continue:
        # The body is needed here, before the upstream is asked; so the expectation ends here too (RFC 9110 10.1.1).
        exchange.expects_continue = False
        exchange.lines = without(exchange.lines, frozenset({b"expect"}))
        exchange.names.remove(b"expect")
        if not exchange.complete:
            exchange.caller.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not exchange.complete:
        exchange.gathering = True
        return False
    exchange.gathering = False
    kind = _kind(exchange)
    names = exchange.lane.places.body
    try:
        check_body(b"".join(exchange.body), kind, names)
    except NamedAlready:
        exchange.fail(Problem("request_invalid", "the body holds a field that Sidekey adds itself"))
        return False
    except Unplaceable as reason:
        exchange.fail(Problem("credential_unplaceable", str(reason)))
        return False
    return True


def _refusal(exchange: Exchange) -> Problem | None:
    """Why the body cannot take a token, as far as its head and its size tell."""
    if exchange.hop_by_hop and b"content-type" in nominated(exchange.hop_by_hop):
        return Problem("credential_unplaceable", "Connection takes the body's Content-Type away")
    if not BODY_DIGESTS.isdisjoint(exchange.names):
        return Problem("credential_unplaceable", "the body is vouched for by a digest, so nothing can be added to it")
    if max(exchange.length, exchange.received) > exchange.plane.limits.replay_body:
        return Problem("credential_unplaceable", "the body is over limits.replay_body, so the token is not added to it")
    if not is_plain(exchange.lines):
        return Problem("credential_unplaceable", "the body has a content coding, so nothing can be added to it")
    try:
        _kind(exchange)
    except Unplaceable as reason:
        return Problem("credential_unplaceable", str(reason))
    return None


def _kind(exchange: Exchange) -> str:
    types = line_values(exchange.lines, b"content-type")
    if len(types) != 1:
        raise Unplaceable("the body has no place for the token: one Content-Type names a form or JSON")
    return media_type(types[0].decode("latin-1"))


def fill(exchange: Exchange, body: bytes) -> bytes:
    """The gathered body with the grant's fields in it; the framing becomes a length."""
    filled = placed(body, _kind(exchange), exchange.grant.body)
    exchange.length, exchange.length_given = len(filled), True
    return filled
