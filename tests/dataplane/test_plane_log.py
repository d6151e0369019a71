"""What `log.path` adds to the access log, and what it never does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidekey.credentials.base import Grant, Places, Traits
from sidekey.dataplane.buffers import BYPASS
from sidekey.observe.access import AccessLog
from sidekey.observe.writer import LineWriter
from support.memory import Upstream, running
from support.plane import GRANT, RenewedSource, base_url, get, integration, request
from support.scripted import Scripted, settle
from support.upstream import OK


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the access log goes."""
    return tmp_path / "log"


@pytest.fixture
def access(log: Path) -> Iterator[AccessLog]:
    """An access log of all requests, with their paths."""
    writer = LineWriter(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600))
    yield AccessLog(writer, "all", path=True)
    writer.close()


def forward(target: str, *fields: str, method: str = "GET") -> bytes:
    """A request by the forward door for integration `h`."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "X-Integration-Id: h", *fields, "", ""]
    return "\r\n".join(lines).encode()


async def test_a_sound_target_is_logged_as_it_came(access: AccessLog, log: Path) -> None:
    """Of a request that was sent on, and of one that the policy denied."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        sidekey.plane.worker.access = access
        allowed, denied = base_url(upstream.port, "/api/a?b=c"), base_url(upstream.port, "/elsewhere")
        assert (await sidekey.ask(get("/a?b=c"))).status == 200
        assert (await sidekey.ask(forward(allowed))).status == 200
        assert (await sidekey.ask(forward(denied))).status == 403
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["target"] for line in lines] == ["/i/h/a?b=c", allowed, denied]
    assert [line["code"] for line in lines] == [None, None, "target_denied"]


@pytest.mark.parametrize(
    ("raw", "reply", "said"),
    [
        (request("POST", body=b"four"), OK, ("POST", "up.test", 200, None, 4)),
        (get(), b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ("GET", "up.test", 404, None, 0)),
        (get(), b"RTSP/1.0 200 OK\r\n\r\n", ("GET", "up.test", 502, "upstream_protocol_error", 0)),
        (get("/../x"), b"", ("GET", "up.test", 403, "target_denied", 0)),
        (request("OPTIONS", "/a", "Max-Forwards: 0", body=b"12"), b"", ("OPTIONS", "up.test", 204, None, 2)),
    ],
    ids=["forwarded", "404", "no response", "denied", "last hop"],
)
async def test_a_line_says_what_became_of_a_request(
    raw: bytes, reply: bytes, said: tuple[str, str, int, str | None, int], access: AccessLog, log: Path
) -> None:
    """The status that the caller got and how many bytes passed, whoever wrote the response."""
    sidekey = Scripted(integration("h", base_url(1)), access=access)
    caller = sidekey.caller()
    caller.feed(raw)
    if reply:
        (await sidekey.upstream()).feed(reply)
    method, host, status, code, received = said
    sent = caller.take()
    assert sent.startswith(b"HTTP/1.1 %d " % status)
    (line,) = map(json.loads, log.read_text().splitlines())
    assert {key: line[key] for key in ("integration", "door", "method", "host", "status", "code")} == {
        "integration": "h",
        "door": "reverse",
        "method": method,
        "host": host or None,
        "status": status,
        "code": code,
    }
    assert (line["bytes_in"], line["bytes_out"]) == (received, len(sent))


async def test_the_line_of_a_caller_who_left_has_no_status(access: AccessLog, log: Path) -> None:
    """Before a response; of one that had begun it is the response's."""
    sidekey = Scripted(integration("h", base_url(1)), access=access)
    early, late = sidekey.caller(), sidekey.caller()
    early.feed(get())
    upstream = await sidekey.upstream()
    early.lose(ConnectionResetError())
    await settle()
    late.feed(get())
    upstream = await sidekey.upstream(1)
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    late.lose(ConnectionResetError())
    await settle()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["status"], line["code"]) for line in lines] == [(0, "caller_gone"), (200, "caller_gone")]
    assert [line["bytes_out"] for line in lines] == [0, len(late.take())]


async def test_the_line_of_a_caller_who_left_forgets_a_response_that_was_held_back(
    access: AccessLog, log: Path
) -> None:
    """Its request was sent once more, and nothing has come of that."""
    source = RenewedSource(GRANT, Grant(headers=(("Authorization", "Bearer new"),)))
    traits = Traits(Places(headers=("Authorization",)), watched=frozenset({401}))
    sidekey = Scripted(integration("h", base_url(1), traits=traits), sources={"h": source}, access=access)
    caller = sidekey.caller()
    caller.feed(get())
    (await sidekey.upstream()).feed(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    assert (await sidekey.upstream(1)).take().startswith(b"GET ")
    caller.lose(ConnectionResetError())
    await settle()
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["status"], line["code"]) == (0, "caller_gone")


@pytest.mark.parametrize(
    ("before", "raw", "method"),
    [
        (b"", b"hidden\r\n\r\n", ""),
        (request("POST", body=b"four"), b"hidden\r\n\r\n", ""),
        (request("POST", body=b"x" * (3 * BYPASS)), b"hidden\r\n\r\n", ""),
        (request("POST", body=b"four"), get("/a", "Upgrade: websocket"), "GET"),
    ],
    ids=["nothing", "behind a request", "behind a long body", "a whole head"],
)
async def test_a_line_of_what_could_not_be_read_tells_nothing_of_another_request(
    before: bytes, raw: bytes, method: str, access: AccessLog, log: Path
) -> None:
    """Method and bytes are those of the request that the error was found in, as far as it was read."""
    sidekey = Scripted(integration("h", base_url(1)), access=access)
    caller = sidekey.caller()
    if before:
        caller.feed(*filter(None, (before[:100], before[100:200], before[200:])))
        (await sidekey.upstream()).feed(OK)
    caller.feed(raw)
    line = json.loads(log.read_text().splitlines()[-1])
    assert (line["method"], line["bytes_in"], line["integration"]) == (method, 0, "unknown")
    assert line["status"] >= 400


async def test_an_error_of_a_head_that_was_read_goes_without_a_body_to_head(access: AccessLog) -> None:
    """What comes behind the HEAD request is none: its response has a body."""
    sidekey = Scripted(integration("h", base_url(1)), access=access)
    caller = sidekey.caller()
    caller.feed(request("HEAD", "/a", "Upgrade: websocket"))
    assert caller.take().endswith(b"\r\n\r\n")
    caller = sidekey.caller()
    caller.feed(request("HEAD", "/a"))
    (await sidekey.upstream()).feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    caller.take()
    caller.feed(b"hidden\r\n\r\n")
    assert caller.take().endswith(b"}")


MALFORMED = [
    "http://user:hidden@up.test/a",
    "http://user:hidden@up.test:1/a%zz",
    "http://up.test:hidden/a",
    "http://up.test/hidden#fragment",
    "ftp://user:hidden@up.test/a",
    "user:hidden@up.test",
]


@pytest.mark.parametrize("target", MALFORMED)
async def test_a_malformed_forward_target_is_not_logged(target: str, access: AccessLog, log: Path) -> None:
    """What stands where a host belongs may be a password."""
    async with running(integration("h", base_url(1))) as sidekey:
        sidekey.plane.worker.access = access
        assert (await sidekey.ask(forward(target))).status == 400
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["code"], "target" in line) == ("request_invalid", False)
    assert "hidden" not in log.read_text()


@pytest.mark.parametrize(
    ("method", "via", "code"),
    [("POST", "1.0 other", "method_denied"), ("GET", ", ".join(["1.1 sidekey (x)"] * 6), "loop_detected")],
)
async def test_a_target_that_was_never_read_is_not_logged(
    method: str, via: str, code: str, access: AccessLog, log: Path
) -> None:
    """The method or Via refused the request first; the target is as malformed as before."""
    async with running(integration("h", base_url(1), methods=["GET"])) as sidekey:
        sidekey.plane.worker.access = access
        await sidekey.ask(forward("http://user:hidden@up.test/a", f"Via: {via}", method=method))
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line["code"] == code
    assert "hidden" not in log.read_text()


@pytest.mark.parametrize(
    "raw",
    [
        get("/hidden", name="hidden"),
        get("/hidden", "X-Integration-Id: other"),
        b"GET http://up.test/hidden HTTP/1.1\r\nHost: x\r\nX-Integration-Id: hidden\r\n\r\n",
        b"GET http://user:hidden@up.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /hidden HTTP/1.1\r\nHost: h.test\r\n\r\n",
        b"hidden\r\n\r\n",
    ],
    ids=["unknown ID", "two IDs", "unknown ID at the forward door", "no ID", "no door", "not a request"],
)
async def test_an_unknown_id_is_not_logged(raw: bytes, access: AccessLog, log: Path) -> None:
    """Nor what came with it: the line says that the integration is unknown and why the request was refused."""
    async with running(integration("h", base_url(1))) as sidekey:
        sidekey.plane.worker.access = access
        await sidekey.ask(raw)
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line["integration"] == "unknown"
    assert line["status"] >= 400
    assert "target" not in line
    assert "hidden" not in log.read_text()
