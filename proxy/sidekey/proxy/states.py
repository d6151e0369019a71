"""The phases of an exchange in two tables, one for its request and one for its response, and those of a tunnel.

Each phase is one bit. A table maps a phase to the mask of the phases that may follow, so one `&` checks a transition. A
transition that is not in its table is a defect in Sidekey: `IllegalTransition`. The model is h11's `_state.py`.

The request:

    NEW          the head is read, and nothing is decided
    PREPARING    the request waits for a secret, the body, the grant, a certificate, a signature or a connection
    SENDING      the head is written, and the rest of the body is to come
    SENT         the whole request is written; a renewal of the grant or a retry returns to PREPARING
    OVER         the exchange has ended

The response, towards the caller:

    NONE         no response has arrived, or Sidekey discarded it to send the request again
    HELD         Sidekey holds the response, because its status may reject the grant
    CHECKED      Sidekey has checked the response for a rejection, and holds it if it renews the grant; a replay returns
                 to NONE
    PASSING      the head is delivered, and the body follows
    COMPLETE     the whole response is delivered
    CUT          the caller has left, or sees an incomplete response

The tunnel, from its CONNECT:

    NEGOTIATING  Sidekey obtains a certificate, or connects to the target of a passthrough tunnel
    WAITING      Sidekey has answered 200; the first byte decides between TLS and plain HTTP
    HANDSHAKE    the TLS handshake has begun
    OPEN         Sidekey reads requests from the tunnel
    FORWARDING   Sidekey forwards bytes unchanged
    ENDED        the tunnel is closed, or was refused
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NEW: Final = 1
PREPARING: Final = 2
SENDING: Final = 4
SENT: Final = 8
OVER: Final = 16

NONE: Final = 1
HELD: Final = 2
CHECKED: Final = 4
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
    CHECKED: "CHECKED",
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
AFTER_RESPONSE: Final[dict[int, int]] = {
    NONE: HELD | PASSING | COMPLETE | CUT,
    HELD: CHECKED | COMPLETE | CUT,
    CHECKED: NONE | PASSING | COMPLETE | CUT,
    PASSING: COMPLETE | CUT,
    COMPLETE: 0,
    CUT: 0,
}


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
    """An exchange or a tunnel must not enter this phase now: a defect in Sidekey."""


def illegal(names: Mapping[int, str], previous: int, phase: int) -> IllegalTransition:
    """Build the error for a transition that is not in its table."""
    return IllegalTransition(f"{names[previous]} cannot be followed by {names[phase]}")
