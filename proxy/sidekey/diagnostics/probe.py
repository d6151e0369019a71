"""Sends requests of operators through a data plane of this process, without a listener or a caller's token."""

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

NOT_REQUESTED = "the server did not request a client certificate, so the integration's was not sent"
REAL = "this was a real request: the upstream may have acted on it"
_FIRST_FINAL = 200
_MORE = 64 << 10
_MAX_BODY_SIZE = 16 << 20
"""Bytes of a response body that are read before the connection is closed."""
_BODY_SECONDS = 10.0
"""Seconds for reading these: an event stream never ends."""
_HEAD_SECONDS = 60.0
_MAX_RETRY_AFTER = 3600
"""Seconds that a `Retry-After` counts for at most."""
_OK = range(200, 201)
_SUCCESSFUL = range(200, 300)
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests have a body, so that an empty one must be said (RFC 9110 8.6)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the test request. `status` is 0 without a response; `note` is what else should be known.

    `code` and `reason` are Sidekey's own; of an upstream's response only the status is repeated. `maybe_sent` says
    whether the upstream may have seen the request, `good` which of its statuses are success. `retry_after` is the
    whole number of seconds that the response asks to wait, at most an hour.
    """

    request: str
    status: int
    code: str | None
    reason: str
    note: str | None = None
    maybe_sent: bool = True
    good: range = _OK
    request_id: str = ""
    retry_after: int | None = None

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

    `asking` are the names of servers that request a client certificate, where they are noted. However many of them wait
    for their upstreams, no thread does: there are few, which others need.
    """
    outcome = await _ask(plane, _Asked(test.method, target_of(name, test)))
    if asking is not None and outcome.code is None and _not_requested(plane, name, asking):
        return replace(outcome, note=NOT_REQUESTED)
    return outcome


async def probe_preset(
    plane: DataPlane, preset: Preset, data: bytes, content_type: str = "", *, draft: bool = False, who: str = ""
) -> Outcome:
    """Send a preset with what a caller would send, which has this Content-Type, by default the one it asks for.

    A `draft` is sent as it is, also if no preset, or another one, has its ID: its integration is the one that is
    served. The head of the response must come within a minute. `who` is the operator who sends it.
    """
    asked = _Asked("POST", path_of(preset), data, content_type or preset.accepts)
    if draft:
        asked = asked._replace(operator=Operator(who, preset.rules), seconds=_HEAD_SECONDS)
    outcome = await _ask(plane, asked)
    return replace(outcome, note=REAL if outcome.maybe_sent else None, good=_SUCCESSFUL)


def path_of(preset: Preset) -> str:
    """Return the path of a request to a preset; one that is not saved has the ID UNKNOWN."""
    return "/p/draft" if preset.id == UNKNOWN else f"/p/{preset.id}"


class _Asked(NamedTuple):
    """A request of an operator.

    The head of the response must come within so many `seconds`; None: the time limits of the config suffice.
    """

    method: str
    target: str
    body: bytes = b""
    content_type: str = ""
    operator: Operator = Operator()
    seconds: float | None = None


async def _ask(plane: DataPlane, asked: _Asked) -> Outcome:
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        reason = f"no connection could be opened: {os.strerror(error.errno or 0)}"
        return Outcome(f"{asked.method} {asked.target}", 503, "overloaded", reason, maybe_sent=False)
    theirs.setblocking(False)
    try:
        await asyncio.get_running_loop().connect_accepted_socket(partial(plane.connection, asked.operator), theirs)
        # A line is part of a head that the data plane let pass; what it wrote itself is in it as well.
        longest = _MORE + plane.worker.rules.limits.response_head
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=longest)
    except BaseException:
        ours.close()
        raise
    try:
        return await _request(reader, writer, asked)
    finally:
        writer.close()


def target_of(name: str, test: TestRequest) -> str:
    """Where the test request of an integration goes, at the reverse proxy."""
    return f"/i/{name}{test.path}"


def _not_requested(plane: DataPlane, name: str, asking: set[str]) -> bool:
    """Whether the integration has a client certificate that no upstream requested."""
    compiled = plane.index.find(name.encode())
    if compiled is None or compiled.certificate is None:
        return False
    return asking.isdisjoint(route.origin.host for route in compiled.routes)


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: _Asked) -> Outcome:
    """Send the request and read the response. The data plane's own time limits end the wait for its head."""
    request = f"{asked.method} {asked.target}"
    lines = [f"{request} HTTP/1.1", "Host: localhost", "Connection: close", "Accept-Encoding: identity"]
    lines += [f"Content-Type: {asked.content_type}"] if asked.content_type else []
    lines += [f"Content-Length: {len(asked.body)}"] if asked.body or asked.method in _WITH_BODY else []
    try:
        writer.write("\r\n".join((*lines, "", "")).encode("ascii") + asked.body)
        async with asyncio.timeout(asked.seconds):
            status, fields = await _head(reader)
            while status < _FIRST_FINAL:
                status, fields = await _head(reader)
        seconds = retry_after(fields)
        outcome = Outcome(
            request,
            status,
            None,
            f"{_phrase(status)}, from the upstream",
            request_id=fields["sidekey-request-id"],
            retry_after=None if seconds is None else min(ceil(seconds), _MAX_RETRY_AFTER),
        )
        if "proxy-status" not in fields:
            await _discard_body(reader)
            return outcome
        # A response of Sidekey's own, the only ones that have this field. To HEAD it has no body.
        if asked.method == "HEAD":
            return replace(outcome, code="sidekey", reason=fields["proxy-status"])
        said = json.loads(await reader.readexactly(int(fields["content-length"])))
    except TimeoutError:
        # Before OSError, of which it is a subclass.
        return Outcome(request, 0, None, f"no response within {asked.seconds:g} seconds")
    except (OSError, asyncio.IncompleteReadError):
        return Outcome(request, 0, None, "the connection ended without a response")
    reasons = [said["detail"], *(f"{each['pointer']}: {each['detail']}" for each in said.get("errors", ()))]
    return replace(outcome, code=said["code"], reason="; ".join(reasons), maybe_sent=said["sent"] != "no")


async def _discard_body(reader: asyncio.StreamReader) -> None:
    """Read to the end of the connection, so that the data plane does not record a caller who left."""
    left = _MAX_BODY_SIZE
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(_BODY_SECONDS):
            while left > 0 and (piece := await reader.read(_MORE)):
                left -= len(piece)


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """The status and the fields of the next head, as the data plane writes it. Raises IncompleteReadError at its end.

    Where a field is repeated, it is the last one: of those that are read here there is one.
    """
    lines = []
    while (line := await reader.readline()) not in (b"\r\n", b""):
        lines.append(line.decode("latin-1"))
    if not line:
        raise asyncio.IncompleteReadError(b"", None)
    pairs = (each.partition(":") for each in lines[1:])
    return int(lines[0].split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


def _phrase(status: int) -> str:
    """The phrase of RFC 9110; the upstream's own may repeat anything."""
    return PHRASES.get(status, b"a status without a name").decode()
