"""Send an operator's test requests through this process's data plane, without a listener or a caller's token."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any, NamedTuple

from sidekey.credentials.calls import retry_after
from sidekey.observe.metrics import UNKNOWN
from sidekey.proxy.data_plane import DataPlane
from sidekey.proxy.downstream.response_writer import PHRASES
from sidekey.proxy.operators import Operator
from sidekey.snapshot.snapshot import Preset, TestRequest

UNUSED_CERTIFICATE_NOTE = "the server did not request a client certificate, so the integration's was not sent"
REAL_REQUEST_NOTE = "this was a real request: the upstream may have acted on it"
_FIRST_FINAL_STATUS = 200
_CHUNK = 64 << 10
_MAX_BODY_SIZE = 16 << 20
"""Maximum bytes of a response body to read before the connection is closed."""
_BODY_SECONDS = 10.0
"""Maximum seconds to read the body: an event stream never ends."""
_HEAD_SECONDS = 60.0
"""Maximum seconds to wait for the response head of a draft."""
_MAX_RETRY_AFTER = 3600
"""Maximum seconds of `Retry-After`."""
_STATUS_200 = range(200, 201)
_STATUSES_2XX = range(200, 300)
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests need a Content-Length even for an empty body (RFC 9110 8.6)."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a test request. `status` is 0 without a response.

    `code` and `reason` come from Sidekey, because an upstream's response may contain secrets. `maybe_sent` is True if
    the upstream may have received the request. `good` are the statuses that count as success. `retry_after` is the
    response's value in whole seconds, at most an hour.
    """

    request: str
    status: int
    code: str | None
    reason: str
    note: str | None = None
    maybe_sent: bool = True
    good: range = _STATUS_200
    request_id: str = ""
    retry_after: int | None = None

    @property
    def ok(self) -> bool:
        """True if the upstream's status counts as success."""
        return self.status in self.good and self.code is None

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable members."""
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
        status = f"{self.status} {self.code}: " if self.code else f"{self.status} " if self.status else ""
        note = "" if self.note is None else f"\nnote: {self.note}"
        return f"{verdict}: {self.request}: {status}{self.reason}{note}"


async def probe(
    plane: DataPlane, name: str, test: TestRequest, requesting_servers: set[str] | None = None
) -> ProbeResult:
    """Send an integration's test request, without a body, to the reverse proxy.

    `requesting_servers` are the servers that requested a client certificate (`Dialer.collect_certificate_requests`).
    """
    outcome = await _send(plane, _OperatorRequest(test.method, target_of(name, test)))
    if (
        requesting_servers is not None
        and outcome.code is None
        and _is_certificate_unused(plane, name, requesting_servers)
    ):
        return replace(outcome, note=UNUSED_CERTIFICATE_NOTE)
    return outcome


async def probe_preset(
    plane: DataPlane, preset: Preset, data: bytes, content_type: str = "", *, draft: bool = False, who: str = ""
) -> ProbeResult:
    """Send a payload to a preset. `content_type` defaults to the one that the preset requires.

    A `draft` need not be saved: Sidekey uses it in place of any preset with its ID, with the integration that it
    serves now, and waits at most a minute for the response head. `who` is the operator.
    """
    request = _OperatorRequest("POST", path_of(preset), data, content_type or preset.accepts)
    if draft:
        request = request._replace(operator=Operator(who, preset.rules), seconds=_HEAD_SECONDS)
    outcome = await _send(plane, request)
    return replace(outcome, note=REAL_REQUEST_NOTE if outcome.maybe_sent else None, good=_STATUSES_2XX)


def path_of(preset: Preset) -> str:
    """Return the path of a preset. An unsaved preset has the ID UNKNOWN."""
    return "/p/draft" if preset.id == UNKNOWN else f"/p/{preset.id}"


class _OperatorRequest(NamedTuple):
    """A request that an operator sends. `seconds` limits the wait for the response head further than the config."""

    method: str
    target: str
    body: bytes = b""
    content_type: str = ""
    operator: Operator = Operator()
    seconds: float | None = None


async def _send(plane: DataPlane, request: _OperatorRequest) -> ProbeResult:
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        reason = f"no connection could be opened: {os.strerror(error.errno or 0)}"
        return ProbeResult(f"{request.method} {request.target}", 503, "overloaded", reason, maybe_sent=False)
    theirs.setblocking(False)
    try:
        await asyncio.get_running_loop().connect_accepted_socket(partial(plane.connection, request.operator), theirs)
        # The data plane limits the upstream's response head, and adds headers of its own.
        max_head = _CHUNK + plane.worker.rules.limits.response_head
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=max_head)
    except BaseException:
        ours.close()
        raise
    try:
        return await _send_over(reader, writer, request)
    finally:
        writer.close()


def target_of(name: str, test: TestRequest) -> str:
    """Return the reverse-proxy path of an integration's test request."""
    return f"/i/{name}{test.path}"


def _is_certificate_unused(plane: DataPlane, name: str, requesting_servers: set[str]) -> bool:
    """Return True if the integration has a client certificate that no upstream requested."""
    compiled = plane.router.find(name.encode())
    if compiled is None or compiled.certificate is None:
        return False
    return requesting_servers.isdisjoint(route.origin.host for route in compiled.routes)


async def _send_over(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: _OperatorRequest
) -> ProbeResult:
    """Send the request and read the response. The data plane's time limits bound the wait for its head."""
    line = f"{request.method} {request.target}"
    lines = [f"{line} HTTP/1.1", "Host: localhost", "Connection: close", "Accept-Encoding: identity"]
    lines += [f"Content-Type: {request.content_type}"] if request.content_type else []
    lines += [f"Content-Length: {len(request.body)}"] if request.body or request.method in _WITH_BODY else []
    try:
        writer.write("\r\n".join((*lines, "", "")).encode("ascii") + request.body)
        async with asyncio.timeout(request.seconds):
            status, fields = await _read_head(reader)
            while status < _FIRST_FINAL_STATUS:
                status, fields = await _read_head(reader)
        seconds = retry_after(fields)
        outcome = ProbeResult(
            line,
            status,
            None,
            f"{_phrase(status)}, from the upstream",
            request_id=fields["sidekey-request-id"],
            retry_after=None if seconds is None else min(ceil(seconds), _MAX_RETRY_AFTER),
        )
        if "proxy-status" not in fields:
            await _discard_body(reader)
            return outcome
        # Only responses of Sidekey itself have this header. A response to HEAD has no body.
        if request.method == "HEAD":
            return replace(outcome, code="sidekey", reason=fields["proxy-status"])
        problem = json.loads(await reader.readexactly(int(fields["content-length"])))
    except TimeoutError:
        # Before OSError, of which it is a subclass.
        return ProbeResult(line, 0, None, f"no response within {request.seconds:g} seconds")
    except (OSError, asyncio.IncompleteReadError):
        return ProbeResult(line, 0, None, "the connection ended without a response")
    reasons = [problem["detail"], *(f"{error['pointer']}: {error['detail']}" for error in problem.get("errors", ()))]
    return replace(outcome, code=problem["code"], reason="; ".join(reasons), maybe_sent=problem["sent"] != "no")


async def _discard_body(reader: asyncio.StreamReader) -> None:
    """Read to the end of the connection, so that the data plane does not record a caller who disconnected."""
    remaining = _MAX_BODY_SIZE
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(_BODY_SECONDS):
            while remaining > 0 and (piece := await reader.read(_CHUNK)):
                remaining -= len(piece)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read status and headers of the next head from the data plane. Raises IncompleteReadError.

    Return only the last value of a repeated header: this module reads no header that may be repeated.
    """
    lines = []
    while (line := await reader.readline()) not in (b"\r\n", b""):
        lines.append(line.decode("latin-1"))
    if not line:
        raise asyncio.IncompleteReadError(b"", None)
    pairs = (field.partition(":") for field in lines[1:])
    return int(lines[0].split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


def _phrase(status: int) -> str:
    """Return the phrase of RFC 9110, because the upstream's own phrase may repeat a secret."""
    return PHRASES.get(status, b"a status without a name").decode()
