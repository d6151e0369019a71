"""One blocking request with the standard library's client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection

from support.raw_connection import DEADLINE


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """Status, header fields (names in any case) and body, as text."""

    status: int
    headers: Message
    body: str


def get(port: int, target: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """GET a target, or an absolute URL, from 127.0.0.1 on a connection of its own."""
    return _request(port, "GET", target, headers, None)


def post(port: int, target: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
    """POST a body to a target from 127.0.0.1 on a connection of its own."""
    return _request(port, "POST", target, headers, body)


def _request(
    port: int, method: str, target: str, headers: Mapping[str, str] | None, body: bytes | None
) -> HttpResponse:
    with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
        connection.request(method, target, body, headers=dict(headers or {}))
        response = connection.getresponse()
        return HttpResponse(response.status, response.headers, response.read().decode())


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition on another process is true."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the condition stayed false")
        time.sleep(0.02)
