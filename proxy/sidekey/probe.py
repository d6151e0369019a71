"""Sends an integration's test request through a data plane of this process, with no listener and no caller's token."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from sidekey.dataplane.downstream.local_reply import PHRASES
from sidekey.dataplane.plane import DataPlane
from sidekey.runtime.snapshot import TestRequest

NOT_REQUESTED = "the server did not request a client certificate, so the integration's was not sent"
_LARGEST_PROBLEM = 64 << 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the test request. `status` is 0 without a response; `note` is what else should be known.

    `code` and `reason` are Sidekey's own; of an upstream's response only the status is repeated.
    """

    request: str
    status: int
    code: str | None
    reason: str
    note: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the upstream returned 200; nothing else is success."""
        return self.status == HTTPStatus.OK and self.code is None

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        status = self.status or None
        return {
            "ok": self.ok,
            "request": self.request,
            "status": status,
            "code": self.code,
            "reason": self.reason,
            "note": self.note,
        }

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "failed"
        said = f"{self.status} {self.code}: " if self.code else f"{self.status} " if self.status else ""
        note = "" if self.note is None else f"\nnote: {self.note}"
        return f"{verdict}: {self.request}: {said}{self.reason}{note}"


async def probe(plane: DataPlane, name: str, test: TestRequest, asking: set[str] | None = None) -> Outcome:
    """Send the test request of an integration with an empty body, as at the reverse proxy.

    `asking` are the names of servers that request a client certificate, where they are noted.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours:
        await asyncio.get_running_loop().connect_accepted_socket(plane.own_connection, theirs)
        outcome = await asyncio.to_thread(_request, ours, test.method, target_of(name, test))
    if asking is not None and outcome.code is None and _not_requested(plane, name, asking):
        return replace(outcome, note=NOT_REQUESTED)
    return outcome


def target_of(name: str, test: TestRequest) -> str:
    """Where the test request of an integration goes, at the reverse proxy."""
    return f"/i/{name}{test.path}"


def _not_requested(plane: DataPlane, name: str, asking: set[str]) -> bool:
    """Whether the integration has a client certificate that no upstream requested."""
    compiled = plane.index.find(name.encode())
    if compiled is None or compiled.certificate is None:
        return False
    return asking.isdisjoint(route.origin.host for route in compiled.routes)


def _request(sock: socket.socket, method: str, target: str) -> Outcome:
    """Send the request and read the response head. Blocks; the data plane's own time limits end it."""
    connection = HTTPConnection("localhost")
    connection.sock = sock
    request = f"{method} {target}"
    try:
        connection.request(method, target)
        response = connection.getresponse()
        if response.headers["Proxy-Status"] is not None:
            return _own_response(request, response)
    except (OSError, HTTPException):
        return Outcome(request, 0, None, "the connection ended without a response")
    return Outcome(request, response.status, None, f"{_phrase(response.status)}, from the upstream")


def _own_response(request: str, response: HTTPResponse) -> Outcome:
    """Read a response of Sidekey's own, the only ones that carry Proxy-Status. To HEAD it has no body."""
    body = response.read(_LARGEST_PROBLEM)
    if not body:
        return Outcome(request, response.status, "sidekey", response.headers["Proxy-Status"])
    said = json.loads(body)
    return Outcome(request, response.status, said["code"], said["detail"])


def _phrase(status: int) -> str:
    """The phrase of RFC 9110; the upstream's own may repeat anything."""
    return PHRASES.get(status, b"a status without a name").decode()
