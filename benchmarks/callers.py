"""Cost of an exchange for a caller with a token, through both proxies, compared with one without callers."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable

from benchmarks.core import REQUEST, exchange_once, in_turn
from sidekey.policy.callers import Caller

ROUNDS = 120
EXCHANGES = 300

_TOKEN = b"a-token-of-a-caller-0123456789"
_CALLERS = {hashlib.sha256(_TOKEN).digest(): Caller("caller", frozenset({"bench"}))}
_USER = b64encode(b"bench:" + _TOKEN)

REVERSE = REQUEST.replace(b"User-Agent", b"Sidekey-Token: " + _TOKEN + b"\r\nUser-Agent", 1)
FORWARD = REQUEST.replace(b"/i/bench", b"http://upstream.test:8081/api", 1).replace(
    b"127.0.0.1:8080\r\n", b"upstream.test:8081\r\nProxy-Authorization: Basic " + _USER + b"\r\n", 1
)
"""The same request as a client with HTTP_PROXY sends it."""

EXCHANGED = {"none": (REQUEST, None), "reverse": (REVERSE, _CALLERS), "forward": (FORWARD, _CALLERS)}
"""Requests, and the callers of the data plane that serves them."""


def warm(which: str) -> Callable[[], None]:
    """Return a function that runs one of these exchanges, after two checked ones."""
    request, callers = EXCHANGED[which]
    once, caller, upstream = exchange_once(request=request, callers=callers)
    for _ in range(2):
        once()
        head = upstream.written.partition(b"\r\n\r\n")[0]
        if not head.startswith(b"POST /api/v1/hook HTTP/1.1\r\n") or b"Authorization: Basic YmVuY2" not in head:
            raise RuntimeError("the exchange did not go through")
        if _TOKEN in head or _USER in head or not caller.written.endswith(b"y" * 200):
            raise RuntimeError("the exchange did not go through")
    return once


def run() -> dict[str, float]:
    """Return microseconds of CPU for one exchange, and their shares of one without callers."""
    rounds = in_turn({which: warm(which) for which in EXCHANGED}, ROUNDS, EXCHANGES, time.process_time)
    best = {which: min(times) for which, times in rounds.items()}
    return {
        "reverse_us": best["reverse"],
        "forward_us": best["forward"],
        "reverse_share": best["reverse"] / best["none"],
        "forward_share": best["forward"] / best["none"],
    }
