"""Headers, query parameters and body fields of `add`, as they arrive at an upstream, byte for byte."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from fakes import responsys
from fakes.responsys import Responsys
from fakes.server import ReceivedRequest
from support import authlib_server
from support.api import Api, basic, managed
from support.authlib_server import AuthlibServer
from support.files import replace
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import DEADLINE, connect
from support.recording import recording
from support.serving import HEAD, RunningApp, problem, serving
from support.upstream import RawUpstream, respond_with

BASIC = b64encode(b"svc:hunter2")
PLACES = "headers: {X-Tenant: acme, X-Key: {prefix: 'Key ', secret: {file: key}}}, query: {key: {secret: {file: key}}}"
QUERY = b"key=a%2Bb%20%C3%BC%26c%3Dd"
"""The secret of these tests in a query or form."""


def beside(port: int, add: str, more: str = "") -> str:
    return (
        f"  it: {{endpoint_prefix: 'http://127.0.0.1:{port}/v1', auth: {{type: basic, username: svc, "
        f"password: {{file: password}}}}, add: {{{add}}}{more}}}\n"
    )


@asynccontextmanager
async def added(
    folder: Path, ca: Authority, add: str = PLACES, more: str = ""
) -> AsyncIterator[tuple[RunningApp, RawUpstream]]:
    (folder / "key").write_text("a+b \u00fc&c=d\n")
    (folder / "password").write_text("hunter2\n")
    async with RawUpstream() as upstream:
        head = HEAD.replace("log:", "ca: {{folder: ca}}\nlog:")
        async with serving(beside(upstream.port, add, more), folder, ca, head=head) as sidekey:
            yield sidekey, upstream


def sent(port: int, target: bytes, body: bytes = b"", *fields: bytes, method: bytes = b"GET") -> bytes:
    """Build a request as it must arrive."""
    lines = [
        b"%b %b HTTP/1.1" % (method, target),
        b"Host: 127.0.0.1:%d" % port,
        b"X-Tenant: acme",
        b"X-Key: Key a+b \xc3\xbc&c=d",
        b"Authorization: Basic " + BASIC,
        *fields,
    ]
    return b"\r\n".join([*lines, b"", b""]) + body


def without_via(data: bytes) -> bytes:
    """Remove Via, which contains the name of the process."""
    head, end, body = data.partition(b"\r\n\r\n")
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Via:")) + end + body


@pytest.mark.parametrize(
    ("path", "target"),
    [("/a", b"/v1/a?"), ("/a?x=%20y", b"/v1/a?x=%20y&"), ("/a?", b"/v1/a?"), ("/%61?key2=1&", b"/v1/%61?key2=1&")],
)
async def test_headers_and_query_are_added_with_the_credential(
    path: str, target: bytes, ca: Authority, tmp_path: Path
) -> None:
    """Through the reverse proxy, the forward proxy and a tunnel: the additions first, then the grant."""
    async with added(tmp_path, ca) as (sidekey, upstream):
        port = upstream.port
        assert (await sidekey.reverse(path)).status == 200
        assert (await sidekey.forward(f"http://127.0.0.1:{port}/v1{path}")).status == 200
        async with connect(sidekey.port) as caller:
            opening = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nProxy-Authorization: Basic "
            await caller.send(f"{opening}{b64encode(b'it:').decode()}\r\n\r\n".encode())
            assert (await caller.response(to_head=True)).status == 200
            await caller.send(f"GET /v1{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            assert (await caller.response()).status == 200
        whole = b"".join(upstream.received)
        every = [without_via(request) for request in whole.replace(b"GET ", b"\0GET ").split(b"\0")[1:]]
        assert every == [sent(port, target + QUERY)] * 3


@pytest.mark.parametrize(
    ("kind", "body", "received"),
    [
        ("application/json", b'{"to": 1.0}', b'{"to": 1.0,"key":"a+b \\u00fc&c=d","async":true,"n":5,"t":"x"}'),
        ("application/json", b"{}", b'{"key":"a+b \\u00fc&c=d","async":true,"n":5,"t":"x"}'),
        ("application/x-www-form-urlencoded", b"to=a%20b", b"to=a%20b&" + QUERY + b"&async=true&n=5&t=x"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_fields_are_added_to_a_body(
    kind: str, body: bytes, received: bytes, chunked: bool, ca: Authority, tmp_path: Path
) -> None:
    """The caller's fields stay, the length is updated, and the credential is added."""
    add = "body: {key: {secret: {file: key}}, async: true, n: 5, t: x}, headers: {X-Tenant: acme}"
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    sent_body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    async with added(tmp_path, ca, add) as (sidekey, upstream):
        head = b"POST /i/it/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %b\r\n%b\r\n\r\n"
        assert (await sidekey.send(head % (kind.encode(), framing) + sent_body)).status == 200
        (message,) = upstream.requests
        assert message.body == received
        assert message.values(b"content-length") == [b"%d" % len(received)]
        assert message.values(b"authorization") == [b"Basic " + BASIC]


@pytest.mark.parametrize(
    ("method", "fields", "body", "detail"),
    [
        ("GET", (), b"", "the request has no body, so nothing can be added to it"),
        ("POST", ("Content-Type: text/plain",), b"a", "Content-Type must be application/x-www-form-urlencoded or JSON"),
        ("POST", (), b"a", "nothing can be added to the body: one Content-Type must name a form or JSON"),
    ],
)
async def test_body_that_cannot_take_a_field_is_refused(
    method: str, fields: tuple[str, ...], body: bytes, detail: str, ca: Authority, tmp_path: Path
) -> None:
    """With 415. Nothing is sent."""
    async with added(tmp_path, ca, "body: {key: {secret: {file: key}}}") as (sidekey, upstream):
        response = await sidekey.reverse("/a", *fields, method=method, body=body)
        assert response.status == 415
        assert (problem(response)["code"], problem(response)["detail"]) == ("body_unsupported", detail)
        assert upstream.connections == []


@pytest.mark.parametrize(
    ("path", "field", "body"),
    [
        ("/a?key=x", "Content-Type: application/json", b"{}"),
        ("/a?b=1&k%65y=x", "Content-Type: application/json", b"{}"),
        ("/a?KEY[]=x", "Content-Type: application/json", b"{}"),
        ("/a", "Content-Type: application/json", b'{"Mode": 1}'),
        ("/a", "Content-Type: application/x-www-form-urlencoded", b"m%6fde=1"),
        ("/a?mode=1", "Content-Type: application/json", b"{}"),
    ],
)
async def test_caller_may_not_send_an_added_parameter(
    path: str, field: str, body: bytes, ca: Authority, tmp_path: Path
) -> None:
    """The server would decide which of the two counts."""
    add = "query: {key: {secret: {file: key}}}, body: {mode: live}"
    async with added(tmp_path, ca, add) as (sidekey, upstream):
        response = await sidekey.reverse(path, field, method="POST", body=body)
        assert response.status == 400
        assert problem(response)["code"] == "request_invalid"
        assert upstream.connections == []


async def test_added_header_replaces_the_callers(ca: Authority, tmp_path: Path) -> None:
    """Connection cannot remove an added header, either."""
    async with added(tmp_path, ca) as (sidekey, upstream):
        fields = (
            "x_tenant: evil",
            "X-KEY: evil",
            "Authorization: evil",
            "Connection: X-Tenant, X-Key",
            "X-Other: mine",
        )
        assert (await sidekey.reverse("/a", *fields)).status == 200
        received = without_via(upstream.received[0])
        assert received == sent(upstream.port, b"/v1/a?" + QUERY, b"", b"X-Other: mine")


async def test_preset_request_gets_the_additions(ca: Authority, tmp_path: Path) -> None:
    """In its URL, its headers and its body."""
    more = (
        "\npresets:\n  welcome: {{integration: it, url: 'http://127.0.0.1:{port}/v1/users/{{{{user}}}}?lang=en', "
        "headers: {{X-Source: sidekey}}, parameters: {{user: {{type: text}}}}, "
        "body: {{json: {{name: '{{{{user}}}}'}}}}}}"
    )
    (tmp_path / "key").write_text("a+b \u00fc&c=d\n")
    (tmp_path / "password").write_text("hunter2\n")
    async with RawUpstream() as upstream:
        text = beside(upstream.port, f"{PLACES}, body: {{mode: live}}") + more.format(port=upstream.port)[1:]
        async with serving(text, tmp_path, ca) as sidekey:
            body = b'{"user": "ann"}'
            head = (
                b"POST /p/welcome HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body)
            )
            response = await sidekey.send(head + body)
            assert response.status == 200, response
        written = b'{"name":"ann","mode":"live"}'
        expected = sent(
            upstream.port,
            b"/v1/users/ann?lang=en&" + QUERY,
            written,
            *(b"X-Source: sidekey", b"Content-Type: application/json", b"Content-Length: %d" % len(written)),
            method=b"POST",
        )
        assert without_via(upstream.received[0]) == expected


async def test_added_secret_is_redacted_in_a_redirect(ca: Authority, tmp_path: Path) -> None:
    """Public values stay."""
    (tmp_path / "key").write_text("canary-of-a-query")
    (tmp_path / "password").write_text("hunter2")
    location = b"/v1/b?v=3&key=canary-of-a-query&w=4"
    echo = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nX-Echo: canary-of-a-query\r\nContent-Length: 0\r\n\r\n" % location
    async with RawUpstream(respond_with(echo)) as upstream:
        text = beside(upstream.port, "query: {v: '3', key: {secret: {file: key}}}")
        async with serving(text, tmp_path, ca) as sidekey:
            response = await sidekey.reverse("/a")
            assert response.values(b"location") == [b"/v1/b?v=3&w=4"]
            assert response.values(b"x-echo") == [b"[redacted]"]
            assert "canary-of-a-query" not in sidekey.log.read_text()


OAUTH2 = (
    "  it: {{auth: {{type: oauth2, token_endpoint: '{endpoint}', client_id: basic, client_secret: {{env: SECRET}}}}, "
    "add: {{{add}}}}}\n"
)


def injected_fields(received: ReceivedRequest) -> tuple[Any, ...]:
    """Return the injected fields of a request at the API."""
    return received.values("x-tenant"), received.query, received.values("authorization")


async def test_token_is_kept_when_additions_change(ca: Authority, tmp_path: Path) -> None:
    """After a reload of the config or of a secret's file, the next request has the new values and the same token."""
    key = tmp_path / "key"
    key.write_text("k1")
    async with AuthlibServer(ca) as server:

        def text(add: str) -> str:
            return OAUTH2.format(endpoint=server.token_endpoint, add=add)

        add = "headers: {X-Tenant: one}, query: {key: {secret: {file: key}}}"
        environ = {"SECRET": authlib_server.SECRET}
        async with serving(text(add), tmp_path, ca, environ=environ) as sidekey:
            reloads = 0

            async def reloaded() -> None:
                """Reload, and wait. The file watch may be faster than the signal, whose reload then changes nothing."""
                nonlocal reloads
                reloads += 1
                sidekey.hang_up()
                await eventually(lambda: sum(line.get("changed", 0) for line in sidekey.lines()) >= reloads)

            async def send() -> tuple[Any, ...]:
                assert (await sidekey.reverse("/api/orders?a=b")).status == 200
                return injected_fields(server.received[-1])

            tenant, query, token = await send()
            assert (tenant, query) == (["one"], "a=b&key=k1")
            replace(key, "k2")
            await reloaded()
            assert await send() == (["one"], "a=b&key=k2", token)
            head, _, _ = (tmp_path / "sidekey.yaml").read_text().partition("  it:")
            replace(tmp_path / "sidekey.yaml", head + text("headers: {X-Tenant: two}"))
            await reloaded()
            assert await send() == (["two"], "a=b", token)
            # A refusal is about the token, whatever was added to it.
            server.tokens.revoke()
            tenant, query, renewed = await send()
            assert (tenant, query) == (["two"], "a=b")
            assert renewed != token
        assert [received.path for received in server.received].count("/token") == 2


async def test_additions_go_to_the_base_url_of_the_token(ca: Authority, tmp_path: Path) -> None:
    """Not to the login."""
    auth = (
        "  it: {auth: {type: responsys, login_endpoint: 'https://login2.responsys.net', username: api_user, "
        "password: {env: PASSWORD}}, add: {headers: {X-Tenant: acme}, query: {key: {secret: {env: KEY}}}}}\n"
    )
    environ = {"PASSWORD": responsys.PASSWORD, "KEY": "k1"}
    async with Responsys(ca) as platform:
        async with serving(auth, tmp_path, ca, hosts=platform.hosts, environ=environ) as sidekey:
            assert (await sidekey.reverse("/campaigns?a=b")).status == 200
        (login,), (call,) = platform.login.received, platform.api.received
        assert injected_fields(login)[:2] == ([], "")
        assert injected_fields(call) == (["acme"], "a=b&key=k1", platform.issued)


async def test_unreadable_addition_is_named(ca: Authority, tmp_path: Path) -> None:
    """Nothing is sent until it is readable."""
    async with RawUpstream() as upstream:
        (tmp_path / "password").write_text("hunter2")
        text = beside(upstream.port, "query: {key: {secret: {file: key}}}")
        async with serving(text, tmp_path, ca, whole=False) as sidekey:
            error = problem(await sidekey.reverse("/a"))
            assert error["code"] == "credential_unavailable"
            assert error["detail"].startswith("add.query.key.secret: ")
            assert upstream.connections == []


def test_additions_of_a_stored_integration_are_sealed_and_sent(tmp_path: Path) -> None:
    """The API returns it without secrets. They are required again for another destination."""
    add = {
        "headers": {"X-Tenant": "acme", "X-Key": {"prefix": "Key ", "secret": {"value": "canary-header"}}},
        "query": {"key": {"secret": {"value": "canary-query"}}},
        "body": {"live": True, "field": {"secret": {"value": "canary-body"}}},
    }
    with recording() as upstream, managed(tmp_path) as child:
        api = Api(child.admin_port)
        created = api.create("/integrations", {"id": "it", **basic(upstream.port), "add": add})
        assert "canary" not in json.dumps(created)
        assert created["add"]["headers"]["X-Tenant"] == "acme"
        assert created["add"]["headers"]["X-Key"]["prefix"] == "Key "
        assert created["add"]["body"]["live"] is True
        token = api.create("/callers", {"name": "billing", "integrations": ["it"]})["token"]

        def send() -> None:
            with closing(HTTPConnection("127.0.0.1", child.proxy_port, timeout=DEADLINE)) as connection:
                fields = {"Sidekey-Token": token, "Content-Type": "application/json"}
                connection.request("POST", "/i/it/a?b=c", b'{"d": 1}', fields)
                assert connection.getresponse().status == 200

        send()
        wrong = api.request(
            "POST", "/integrations", {"id": "two", **basic(1), "add": {"headers": {"authorization": "a"}}}
        )
        assert (wrong.status, wrong.pointers) == (422, {"/add/headers/authorization"})
        # Sent back as it reads, it keeps all; what is added differently needs all the secrets.
        own = {key: created[key] for key in ("endpoint_prefix", "auth", "test", "add")}
        kept = api.request("PUT", "/integrations/it", {**own, "description": "edited"}, match='"1"')
        assert kept.status == 200, kept
        moved = api.request("PATCH", "/integrations/it", {"add": {"headers": {"X-Tenant": "evil"}}}, match='"2"')
        assert (moved.status, moved.code) == (422, "reenter")
        assert moved.pointers == {
            "/auth/password",
            "/auth/username",
            "/add/headers/X-Key/secret",
            "/add/query/key/secret",
            "/add/body/field/secret",
        }
        send()
        explained = api.request("POST", "/integrations/it/explain", {"url": "/a"}).json
        assert explained["credential"]["query"] == ["key"]
        assert explained["credential"]["headers"] == ["X-Tenant", "X-Key", "Authorization"]
        first, second = upstream.requests
    assert first == second
    assert first.target == b"/v1/a?b=c&key=canary-query"
    assert first.body == b'{"d": 1,"live":true,"field":"canary-body"}'
    assert first.values(b"x-key") == [b"Key canary-header"]
    assert first.values(b"x-tenant") == [b"acme"]
