"""`sidekey test`: one request through the data plane of this very process, with no listener and no caller's token."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from sidekey.app import App, run_logged
from sidekey.dataplane.downstream.local_reply import PHRASES
from sidekey.dataplane.plane import DataPlane
from sidekey.observe.writer import LineWriter
from sidekey.runtime.snapshot import Snapshot, TestRequest

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


def send_test(snapshot: Snapshot, integration: str, test: TestRequest) -> Outcome:
    """Send the integration's test request with an empty body through the reverse proxy."""
    quiet = replace(snapshot, callers=None, log=replace(snapshot.log, access="off"))
    return run_logged("error", partial(_send, quiet, integration, test))


async def _send(snapshot: Snapshot, name: str, test: TestRequest, writer: LineWriter) -> Outcome:
    loop = asyncio.get_running_loop()
    app = App(snapshot, writer)
    plane = app.plane
    plane.worker.deadlines.start(loop)
    asking = app.note_certificate_requests()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours:
        await loop.connect_accepted_socket(plane.connection, theirs)
        try:
            outcome = await asyncio.to_thread(_request, ours, test.method, f"/i/{name}{test.path}")
            if outcome.code is None and _not_requested(plane, name, asking):
                return replace(outcome, note=NOT_REQUESTED)
            return outcome
        finally:
            await app.close()


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
