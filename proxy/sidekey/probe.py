"""Sends requests of our own through a data plane of this process, with no listener and no caller's token."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, NamedTuple

from sidekey.core.parameters import JSON
from sidekey.dataplane.downstream.local_reply import PHRASES
from sidekey.dataplane.plane import DataPlane
from sidekey.runtime.snapshot import Preset, TestRequest

NOT_REQUESTED = "the server did not request a client certificate, so the integration's was not sent"
REAL = "this was a real request: the upstream may have acted on it"
_LARGEST_PROBLEM = 64 << 10
_OK = range(200, 201)
_SUCCESSFUL = range(200, 300)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the test request. `status` is 0 without a response; `note` is what else should be known.

    `code` and `reason` are Sidekey's own; of an upstream's response only the status is repeated. `maybe_sent` says
    whether the upstream may have seen the request, `good` which of its statuses are success.
    """

    request: str
    status: int
    code: str | None
    reason: str
    note: str | None = None
    maybe_sent: bool = True
    good: range = _OK

    @property
    def ok(self) -> bool:
        """Whether the upstream returned a status of success."""
        return self.status in self.good and self.code is None

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
    outcome = await _ask(plane, _Asked(test.method, f"/i/{name}{test.path}"))
    if asking is not None and outcome.code is None and _not_requested(plane, name, asking):
        return replace(outcome, note=NOT_REQUESTED)
    return outcome


async def probe_preset(plane: DataPlane, preset: Preset, data: bytes) -> Outcome:
    """Send a preset with what a caller would send."""
    content_type = JSON if preset.rules.has_body else preset.content_type
    outcome = await _ask(plane, _Asked("POST", f"/p/{preset.id}", data, content_type))
    return replace(outcome, note=REAL if outcome.maybe_sent else None, good=_SUCCESSFUL)


class _Asked(NamedTuple):
    """A request of our own."""

    method: str
    target: str
    body: bytes | None = None
    content_type: str = ""


async def _ask(plane: DataPlane, asked: _Asked) -> Outcome:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours:
        await asyncio.get_running_loop().connect_accepted_socket(plane.own_connection, theirs)
        return await asyncio.to_thread(_request, ours, asked)


def _not_requested(plane: DataPlane, name: str, asking: set[str]) -> bool:
    """Whether the integration has a client certificate that no upstream requested."""
    compiled = plane.index.find(name.encode())
    if compiled is None or compiled.certificate is None:
        return False
    return asking.isdisjoint(route.origin.host for route in compiled.routes)


def _request(sock: socket.socket, asked: _Asked) -> Outcome:
    """Send the request and read the response head. Blocks; the data plane's own time limits end it."""
    connection = HTTPConnection("localhost")
    connection.sock = sock
    request = f"{asked.method} {asked.target}"
    headers = {"Content-Type": asked.content_type} if asked.content_type else {}
    try:
        connection.request(asked.method, asked.target, asked.body, headers)
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
    reasons = [said["detail"], *(f"{each['pointer']}: {each['detail']}" for each in said.get("errors", ()))]
    return Outcome(request, response.status, said["code"], "; ".join(reasons), maybe_sent=said["sent"] != "no")


def _phrase(status: int) -> str:
    """The phrase of RFC 9110; the upstream's own may repeat anything."""
    return PHRASES.get(status, b"a status without a name").decode()
