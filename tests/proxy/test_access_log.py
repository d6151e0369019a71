"""The access log: fields of each request, paths with `log.path`, and no secrets."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.diagnostics.probe import probe
from sidekey.observe.access import AccessLog
from sidekey.observe.writer import LineWriter
from sidekey.proxy.connection import PARSER_BYPASS
from sidekey.snapshot.snapshot import TestRequest as Request
from support import plane, wire
from support.memory import MemoryUpstream, running
from support.plane import GRANT, UPSTREAM, RenewedSource, base_url, denied, get, integration, request
from support.scripted import GatedGrantSource, RecordingTransport, ScriptedPlane, settle
from support.tunnels import connect_request
from support.upstream import OK, RawUpstream


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the path of the access log."""
    return tmp_path / "log"


@pytest.fixture
def access(log: Path) -> Iterator[AccessLog]:
    """Build an access log of all requests with paths."""
    writer = LineWriter(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600))
    yield AccessLog(writer, "all", path=True)
    writer.close()


def forward(target: str, *fields: str, method: str = "GET") -> bytes:
    """Build a request through the forward proxy for integration `h`."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "X-Integration-Id: h", *fields, "", ""]
    return "\r\n".join(lines).encode()


async def test_valid_target_is_logged_unchanged(access: AccessLog, log: Path) -> None:
    """Forwarded or denied by the policy."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        sidekey.plane.worker.access = access
        allowed, denied = base_url(upstream.port, "/api/a?b=c"), base_url(upstream.port, "/elsewhere")
        assert (await sidekey.send(get("/a?b=c"))).status == 200
        assert (await sidekey.send(forward(allowed))).status == 200
        assert (await sidekey.send(forward(denied))).status == 403
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["target"] for line in lines] == ["/i/h/a?b=c", allowed, denied]
    assert [line["code"] for line in lines] == [None, None, "target_denied"]


@pytest.mark.parametrize(
    ("raw", "reply", "expected"),
    [
        (request("POST", body=b"four"), OK, ("POST", "up.test", 200, None, 4)),
        (get(), b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ("GET", "up.test", 404, None, 0)),
        (get(), b"RTSP/1.0 200 OK\r\n\r\n", ("GET", "up.test", 502, "upstream_protocol_error", 0)),
        (get("/../x"), b"", ("GET", "up.test", 400, "request_invalid", 0)),
        (request("OPTIONS", "/a", "Max-Forwards: 0", body=b"12"), b"", ("OPTIONS", "up.test", 204, None, 2)),
    ],
    ids=["forwarded", "404", "no response", "denied", "last hop"],
)
async def test_line_has_status_and_size(
    raw: bytes, reply: bytes, expected: tuple[str, str, int, str | None, int], access: AccessLog, log: Path
) -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)), access=access)
    caller = sidekey.caller()
    caller.feed(raw)
    if reply:
        (await sidekey.upstream()).feed(reply)
    method, host, status, code, received = expected
    sent = caller.read()
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


async def test_line_of_a_caller_that_left_has_no_status(access: AccessLog, log: Path) -> None:
    """Unless the response had started."""
    sidekey = ScriptedPlane(integration("h", base_url(1)), access=access)
    early, late = sidekey.caller(), sidekey.caller()
    early.feed(get())
    upstream = await sidekey.upstream()
    early.fail(ConnectionResetError())
    await settle()
    late.feed(get())
    upstream = await sidekey.upstream(1)
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    late.fail(ConnectionResetError())
    await settle()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["status"], line["code"]) for line in lines] == [(0, "caller_gone"), (200, "caller_gone")]
    assert [line["bytes_out"] for line in lines] == [0, len(late.read())]


async def test_line_of_a_caller_that_left_during_a_replay_has_no_status(access: AccessLog, log: Path) -> None:
    """Sidekey held the first response."""
    source = RenewedSource(GRANT, Grant(headers=(("Authorization", "Bearer new"),)))
    traits = CredentialTraits(InjectionPoints(headers=("Authorization",)), watched=frozenset({401}))
    sidekey = ScriptedPlane(integration("h", base_url(1), traits=traits), sources={"h": source}, access=access)
    caller = sidekey.caller()
    caller.feed(get())
    (await sidekey.upstream()).feed(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    assert (await sidekey.upstream(1)).read().startswith(b"GET ")
    caller.fail(ConnectionResetError())
    await settle()
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["status"], line["code"]) == (0, "caller_gone")


@pytest.mark.parametrize(
    ("before", "raw", "method"),
    [
        (b"", b"hidden\r\n\r\n", ""),
        (request("POST", body=b"four"), b"hidden\r\n\r\n", ""),
        (request("POST", body=b"x" * (3 * PARSER_BYPASS)), b"hidden\r\n\r\n", ""),
        (request("POST", body=b"four"), get("/a", "Upgrade: websocket"), "GET"),
    ],
    ids=["nothing", "behind a request", "behind a long body", "a whole head"],
)
async def test_line_of_an_unreadable_request_has_only_its_own_data(
    before: bytes, raw: bytes, method: str, access: AccessLog, log: Path
) -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)), access=access)
    caller = sidekey.caller()
    if before:
        caller.feed(*filter(None, (before[:100], before[100:200], before[200:])))
        (await sidekey.upstream()).feed(OK)
    caller.feed(raw)
    line = json.loads(log.read_text().splitlines()[-1])
    assert (line["method"], line["bytes_in"], line["integration"]) == (method, 0, "unknown")
    assert line["status"] >= 400


async def test_error_response_to_head_has_no_body(access: AccessLog) -> None:
    """The error response to the malformed bytes behind it has one."""
    sidekey = ScriptedPlane(integration("h", base_url(1)), access=access)
    caller = sidekey.caller()
    caller.feed(request("HEAD", "/a", "Upgrade: websocket"))
    assert caller.read().endswith(b"\r\n\r\n")
    caller = sidekey.caller()
    caller.feed(request("HEAD", "/a"))
    (await sidekey.upstream()).feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    caller.read()
    caller.feed(b"hidden\r\n\r\n")
    assert caller.read().endswith(b"}")


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
    """Its host may be a password."""
    async with running(integration("h", base_url(1))) as sidekey:
        sidekey.plane.worker.access = access
        assert (await sidekey.send(forward(target))).status == 400
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["code"], "target" in line) == ("request_invalid", False)
    assert "hidden" not in log.read_text()


@pytest.mark.parametrize(
    ("method", "via", "code"),
    [("POST", "1.0 other", "method_denied"), ("GET", ", ".join(["1.1 sidekey (x)"] * 6), "loop_detected")],
)
async def test_unparsed_malformed_target_is_not_logged(
    method: str, via: str, code: str, access: AccessLog, log: Path
) -> None:
    """Sidekey refused the request for its method or Via first."""
    async with running(integration("h", base_url(1), methods=["GET"])) as sidekey:
        sidekey.plane.worker.access = access
        await sidekey.send(forward("http://user:hidden@up.test/a", f"Via: {via}", method=method))
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
    """Nor its target. The line has the reason of the error."""
    async with running(integration("h", base_url(1))) as sidekey:
        sidekey.plane.worker.access = access
        await sidekey.send(raw)
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line["integration"] == "unknown"
    assert line["status"] >= 400
    assert "target" not in line
    assert "hidden" not in log.read_text()


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Parse the access log."""
    return [json.loads(line) for line in log.read_text().splitlines()]


async def send(caller: RecordingTransport) -> wire.Message:
    """Send a request, and return the response."""
    await settle()
    message = wire.first_response(caller.read())
    assert message is not None
    return message


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"
TOKENS = {"all": None, "h-alone": frozenset({"h"})}


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (get("/a", "Sidekey-Token: all"), ("h", "caller0", "up.test", 1, None)),
        (get("/../x", "Sidekey-Token: all"), ("h", "caller0", "up.test", 1, "request_invalid")),
        (get("/a", "Sidekey-Token: h-alone", name="o"), ("o", "caller1", "other.test", 8443, "integration_denied")),
        (get("/a", "Sidekey-Token: h-alone", name="no"), ("unknown", "caller1", None, None, "integration_denied")),
        (get("/a", "Sidekey-Token: wrong"), ("h", None, "up.test", 1, "caller_denied")),
        (get("/a"), ("h", None, "up.test", 1, "caller_denied")),
        (request("TRACE"), ("h", None, "up.test", 1, "method_denied")),
        (
            forward("http://169.254.169.254:8000/latest", "Sidekey-Token: all"),
            ("h", "caller0", "169.254.169.254", 8000, "target_denied"),
        ),
        (
            forward("http://[fd00:ec2::254]/latest", "Sidekey-Token: wrong"),
            ("h", None, "fd00:ec2::254", 80, "caller_denied"),
        ),
        (
            b"GET http://up.test/ HTTP/1.1\r\nHost: x\r\nSidekey-Token: all\r\n\r\n",
            ("unknown", "caller0", "up.test", 80, "integration_required"),
        ),
        (forward("http://up.test:hidden/", "Sidekey-Token: all"), ("h", "caller0", None, None, "request_invalid")),
        (
            forward("http://up.test/", "Sidekey-Token: all", "X-Integration-Id: o"),
            ("unknown", None, None, None, "request_invalid"),
        ),
        (
            connect_request("up.test:8443", user="h:all"),
            ("h", "caller0", "up.test", 8443, "target_denied"),
        ),
        (connect_request("up.test:1", user="o:h-alone"), ("o", "caller1", "up.test", 1, "integration_denied")),
        (connect_request("up.test:1", user="h:wrong"), ("h", None, "up.test", 1, "caller_denied")),
        (connect_request("hidden", user="h:all"), ("h", None, None, None, "request_invalid")),
    ],
)
async def test_line_of_a_denied_request_has_id_caller_and_target(
    raw: bytes, named: tuple[str, str | None, str | None, int | None, str | None], access: AccessLog, log: Path
) -> None:
    """If they are known."""
    served = (integration("h", base_url(1)), integration("o", "https://other.test:8443/api"))
    sidekey = ScriptedPlane(*served, access=access, tokens=TOKENS)
    caller = sidekey.caller()
    caller.feed(raw)
    if named[-1] is None:
        (await sidekey.upstream()).feed(OK)
    response = await send(caller)
    (line,) = lines_of(log)
    assert tuple(line[key] for key in ("integration", "caller", "host", "port", "code")) == named
    if named[-1] is None:
        assert (line["reason"], line["error"]) == (None, None)
    else:
        problem = json.loads(response.body)
        assert (line["reason"], line["request_id"]) == (problem["detail"], problem["instance"])
        assert response.values(b"proxy-status") == [f"sidekey; error={line['error']}".encode()]
    assert response.values(b"sidekey-request-id") == [line["request_id"].encode()]
    assert "hidden" not in log.read_text()


async def test_response_and_line_share_a_request_id(access: AccessLog, log: Path) -> None:
    """For responses of Sidekey and of upstreams. Sidekey forwards no other ID in either direction."""
    own = b"HTTP/1.1 200 OK\r\nSidekey-Request-Id: theirs\r\nsidekey_request_id: theirs\r\nContent-Length: 0\r\n\r\n"
    sidekey = ScriptedPlane(integration("h", base_url(1)), access=access)
    caller = sidekey.caller()
    result = []
    for raw, reply in (
        (get("/a", "Sidekey-Request-Id: mine", "sidekey_request_id: mine"), own),
        (get("/a"), b"HTTP/1.1 100 Continue\r\n\r\n" + own),
        (request("HEAD"), OK[:-2]),
        (request("OPTIONS", "/a", "Max-Forwards: 0"), b""),
        (denied(), b""),
        (denied(method="HEAD"), b""),
        (b"hidden\r\n\r\n", b""),
    ):
        caller.feed(raw)
        if reply:
            upstream = await sidekey.upstream()
            sent = upstream.read().lower()
            assert b"mine" not in sent
            assert b"request-id" not in sent
            upstream.feed(reply)
        written = caller.read()
        assert b"theirs" not in written
        response = wire.first_response(written, to_head=raw.startswith(b"HEAD"))
        assert response is not None
        result += response.values(b"sidekey-request-id")
    assert [line["request_id"].encode() for line in lines_of(log)] == result
    assert [item.partition(b"-") for item in result] == [
        (sidekey.plane.worker.instance, b"-", b"%d" % number) for number in range(1, 8)
    ]


async def test_interim_responses_have_no_request_id(access: AccessLog) -> None:
    """Most clients do not show them."""
    sidekey = ScriptedPlane(integration("h", base_url(1)), access=access)
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", "Expect: 100-continue", "Content-Length: 4"))
    (await sidekey.upstream()).feed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert caller.read() == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_line_has_addresses_and_trace_id(tmp_path: Path) -> None:
    """Without an upstream address if none was reached."""
    async with (
        RawUpstream() as upstream,
        plane.running(integration("h", base_url(upstream.port)), log=tmp_path / "log") as sidekey,
    ):
        async with sidekey.connect() as caller:
            peer = caller.transport.get_extra_info("sockname")
            for path in ("/a", "/../x"):
                await caller.send(get(path, PARENT))
                await caller.response()
        first, second = lines_of(tmp_path / "log")
    assert first["peer"] == second["peer"] == f"127.0.0.1:{peer[1]}"
    assert (first["upstream"], second["upstream"]) == (f"127.0.0.1:{upstream.port}", None)
    assert (first["trace_id"], second["trace_id"]) == (TRACE, TRACE)


async def test_line_has_the_reason_of_a_tls_failure(tmp_path: Path) -> None:
    """The same as in the response: host, port, error type and reason."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(UPSTREAM).configure_cert(context)
    async with (
        RawUpstream(ssl_context=context) as upstream,
        plane.running(integration("h", base_url(upstream.port, scheme="https")), log=tmp_path / "log") as sidekey,
    ):
        problem = plane.problem(await sidekey.send(get()))
        (line,) = lines_of(tmp_path / "log")
    assert (line["code"], line["host"], line["port"]) == ("upstream_tls_failed", "up.test", upstream.port)
    assert (line["reason"], line["error"]) == (problem["detail"], "tls_certificate_error")
    assert (line["upstream"], line["first_byte"]) == (None, None)
    assert line["connect"] > 0


async def test_a_defect_is_logged_under_the_id_of_its_request(access: AccessLog, log: Path) -> None:
    """So that operators find line, response and event."""
    source = GatedGrantSource()
    source.error = LookupError("hidden")
    source.go.set()
    sidekey = ScriptedPlane(integration("h", base_url(1)), access=access, sources={"h": source})
    caller = sidekey.caller()
    caller.feed(get())
    problem = json.loads((await send(caller)).body)
    (line,) = lines_of(log)
    assert line["request_id"] == problem["instance"] == f"{sidekey.plane.worker.instance.decode()}-1"
    assert line["reason"] == problem["detail"] == f"a defect of Sidekey, logged as {line['request_id']}"
    assert "hidden" not in log.read_text()


async def test_internal_request_has_an_id_and_no_peer(tmp_path: Path) -> None:
    """Tests by operators and previews of presets."""
    async with (
        RawUpstream() as upstream,
        plane.running(integration("h", base_url(upstream.port)), log=tmp_path / "log", tokens={"t": None}) as sidekey,
    ):
        assert (await probe(sidekey.plane, "h", Request("GET", "/a"))).ok
        (line,) = lines_of(tmp_path / "log")
    assert (line["peer"], line["caller"], line["integration"]) == (None, None, "h")
    assert line["request_id"].startswith(sidekey.plane.worker.instance.decode())
