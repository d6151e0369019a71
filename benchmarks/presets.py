"""Cost of an exchange with a preset without sockets, compared with the reverse proxy, in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from benchmarks.core import BODY, REQUEST, exchange_once, in_turn
from sidekey.config.build.presets import parse_preset
from sidekey.snapshot.snapshot import Preset

ROUNDS = 120
EXCHANGES = 300

URL = "http://upstream.test:8081/api/v1/hook"
PAYLOAD = REQUEST.replace(b"/i/bench/v1/hook", b"/p/payload")
_NAMES = tuple(f"parameter{number}" for number in range(10))
_PARAMETERS = json.dumps({name: f"the value of {name}" for name in _NAMES}).encode()
FILLED = (
    b"POST /p/filled HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_PARAMETERS) + _PARAMETERS
)
SENT = json.dumps({name: f"the value of {name}" for name in _NAMES}, separators=(",", ":")).encode()


def presets() -> tuple[Preset, ...]:
    """Build a preset that passes a payload on, and one that is filled with ten parameters."""
    common: dict[str, object] = {"integration": "bench", "url": URL}
    parameters = {name: {"type": "text", "max_length": 64} for name in _NAMES}
    body = {"json": {name: f"{{{{{name}}}}}" for name in _NAMES}}
    documents: dict[str, dict[str, object]] = {
        "payload": {**common, "content_type": "application/json"},
        "filled": {**common, "parameters": parameters, "body": body},
    }
    made = []
    for name, document in documents.items():
        built = parse_preset(name, document)
        if built.preset is None:
            raise RuntimeError(f"the preset is not valid: {built.errors}")
        made.append(built.preset)
    return tuple(made)


EXCHANGED = {"reverse": (REQUEST, BODY), "payload": (PAYLOAD, BODY), "filled": (FILLED, SENT)}
"""Requests, and the bodies that the upstream receives for them."""


def warm(which: str) -> Callable[[], None]:
    """Return a function that runs one of these exchanges, after two checked ones."""
    request, body = EXCHANGED[which]
    once, caller, upstream = exchange_once(request=request, presets=presets())
    for _ in range(2):
        once()
        head, _, sent = upstream.written.partition(b"\r\n\r\n")
        is_complete = (
            head.startswith(b"POST /api/v1/hook HTTP/1.1\r\n") and b"Authorization: Basic " in head and sent == body
        )
        if not is_complete or not caller.written.endswith(b"y" * 200):
            raise RuntimeError("the exchange did not go through")
    return once


def run() -> dict[str, float]:
    """Microseconds of CPU for one exchange; `payload_share` is of the reverse proxy's, `filled_more_us` beyond it."""
    rounds = in_turn({which: warm(which) for which in EXCHANGED}, ROUNDS, EXCHANGES, time.process_time)
    best = {which: min(times) for which, times in rounds.items()}
    return {
        "payload_us": best["payload"],
        "filled_us": best["filled"],
        "payload_share": best["payload"] / best["reverse"],
        "filled_more_us": best["filled"] - best["reverse"],
    }
