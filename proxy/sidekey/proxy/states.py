"""The states of an exchange as two tables (its request, its response), and those of a tunnel as a third.

Each phase is one bit, and a table gives the phases that may follow as a mask, so that a transition is checked by one
`&`. A transition that is not in its table is a defect of ours: it is reported, never passed over (h11's `_state.py` is
the model).

The request:

    NEW          the head was read, nothing is decided
    PREPARING    something is awaited: a secret, the body, the grant, a certificate, a signature or a connection
    SENDING      the head is written, the body is still coming
    SENT         the whole request is written; to renew the grant or to send it again it goes back to PREPARING
    OVER         nothing more is done about the request

The response, towards the caller:

    NONE         no response has come, or it was discarded to send the request again
    HELD         kept back: its status may refuse the grant
    JUDGED       kept back while the grant is renewed; to send the request again it goes back to NONE
    PASSING      the head is delivered, the body follows
    COMPLETE     the caller has all of it
    CUT          the caller left, or sees that something is missing

The tunnel, from its CONNECT on:

    NEGOTIATING  the certificate is not there yet, or the connection that bytes will pass to
    WAITING      CONNECT was answered 200; the first byte will tell what is in the tunnel
    HANDSHAKE    TLS has begun
    OPEN         requests are read from it
    FORWARDING   bytes pass untouched
    ENDED        it is closed, or was never opened
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _as_list(table: Mapping[int, int]) -> list[int]:
    """A table as the warm path reads it, since a list is read quicker: each mask is at the number of its phase."""
    return [table.get(number, 0) for number in range(max(table) + 1)]


NEW: Final = 1
PREPARING: Final = 2
SENDING: Final = 4
SENT: Final = 8
OVER: Final = 16

NONE: Final = 1
HELD: Final = 2
JUDGED: Final = 4
PASSING: Final = 8
COMPLETE: Final = 16
CUT: Final = 32

REQUEST_NAMES: Final[Mapping[int, str]] = {
    NEW: "NEW",
    PREPARING: "PREPARING",
    SENDING: "SENDING",
    SENT: "SENT",
    OVER: "OVER",
}
RESPONSE_NAMES: Final[Mapping[int, str]] = {
    NONE: "NONE",
    HELD: "HELD",
    JUDGED: "JUDGED",
    PASSING: "PASSING",
    COMPLETE: "COMPLETE",
    CUT: "CUT",
}

AFTER_REQUEST: Final[dict[int, int]] = {
    NEW: PREPARING | SENDING | SENT | OVER,
    PREPARING: SENDING | SENT | OVER,
    SENDING: SENT | OVER,
    SENT: PREPARING | OVER,
    OVER: 0,
}
REQUEST_FOLLOWERS: Final = _as_list(AFTER_REQUEST)
AFTER_RESPONSE: Final[dict[int, int]] = {
    NONE: HELD | PASSING | COMPLETE | CUT,
    HELD: JUDGED | COMPLETE | CUT,
    JUDGED: NONE | PASSING | COMPLETE | CUT,
    PASSING: COMPLETE | CUT,
    COMPLETE: 0,
    CUT: 0,
}
RESPONSE_FOLLOWERS: Final = _as_list(AFTER_RESPONSE)


NEGOTIATING: Final = 1
WAITING: Final = 2
HANDSHAKE: Final = 4
OPEN: Final = 8
FORWARDING: Final = 16
ENDED: Final = 32

TUNNEL_NAMES: Final[Mapping[int, str]] = {
    NEGOTIATING: "NEGOTIATING",
    WAITING: "WAITING",
    HANDSHAKE: "HANDSHAKE",
    OPEN: "OPEN",
    FORWARDING: "FORWARDING",
    ENDED: "ENDED",
}
AFTER_TUNNEL: Final[dict[int, int]] = {
    NEGOTIATING: WAITING | FORWARDING | ENDED,
    WAITING: HANDSHAKE | OPEN | ENDED,
    HANDSHAKE: OPEN | ENDED,
    OPEN: ENDED,
    FORWARDING: ENDED,
    ENDED: 0,
}


class IllegalTransition(Exception):
    """An exchange, or a tunnel, was to enter a phase that cannot follow its own: a defect of ours."""


def illegal(names: Mapping[int, str], former: int, phase: int) -> IllegalTransition:
    """The defect of going from one phase to another."""
    return IllegalTransition(f"{names[former]} cannot be followed by {names[phase]}")
