"""api/server.py: connections, limits and TLS of the admin and metrics listeners."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidekey.api import server as module
from sidekey.api.listeners import Health, build_admin
from sidekey.api.server import AdminTls, Server, serve
from sidekey.network.listen import AddressInUse
from sidekey.observe.metrics import Metrics
from sidekey.observe.prometheus import Exposition
from sidekey.snapshot.admin import AdminRules, ServerCertificate
from sidekey.snapshot.snapshot import Address, Snapshot
from support import raw_connection
from support.captured_logs import capture_logging
from support.private_ca import Authority, Leaf


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/", hello)
    return app


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = await serve(application(), Address(), "listen.admin")
    yield server
    await server.close()


async def connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(server.addresses[0].host, server.addresses[0].port)


async def exchange(server: Server, request: bytes) -> bytes:
    reader, writer = await connect(server)
    writer.write(request)
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    return response


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"404"),
        (b"no http at all\r\n\r\n", b"400"),
    ],
)
async def test_response_does_not_name_the_library(server: Server, request_: bytes, status: bytes) -> None:
    response = await exchange(server, request_)
    assert response.split(b" ")[1] == status
    assert b"aiohttp" not in response
    assert b"Python" not in response
    assert b"\r\nServer: sidekey\r\n" in response


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        (HEAD + b"X: " + b"s3cret" * 900, "the request line or a header field is too long"),
        (b"GET /" + b"s3cret" * 2000 + b" HTTP/1.1", "the request line or a header field is too long"),
        (HEAD + b"\r\n".join(b"X-%d: s3cret" % number for number in range(100)), "the head has too many header fields"),
        (HEAD + b"Content-Type: s3cret\r\nContent-Type: b", "the header Content-Type must not be repeated"),
        (HEAD + b"host: s3cret", "the header Host must not be repeated"),
        (b"GET / HTTP/1.1\r\nX: s3cret", "the header Host is missing"),
        (HEAD + b"s3cret", "a header field must be `Name: value`, without control characters, and end with CRLF"),
        (HEAD + b"X: s3cret\0", "a header field must be `Name: value`, without control characters, and end with CRLF"),
        (
            HEAD + b"Content-Length: s3cret",
            "Content-Length must be a number, and must be neither repeated nor beside Transfer-Encoding",
        ),
        (HEAD + b"Transfer-Encoding: s3cret", "Transfer-Encoding must be chunked alone"),
        (b"s3cret at all", "the request line must be `METHOD TARGET HTTP/1.1`, with a valid target"),
        (b"GET http://[s3cret HTTP/1.1", "the request line must be `METHOD TARGET HTTP/1.1`, with a valid target"),
        (b"\x16\x03\x01s3cret", "TLS arrived at a listener without TLS: use http://, or set `tls` of the listener"),
    ],
)
async def test_malformed_request_is_refused_with_the_reason(server: Server, request_: bytes, detail: str) -> None:
    """The response repeats nothing of the request."""
    response = await exchange(server, request_ + b"\r\n\r\n")
    assert response.split(b" ")[1] == b"400"
    assert b"\r\nContent-Type: application/problem+json" in response
    problem = json.loads(response.partition(b"\r\n\r\n")[2])
    assert (problem["code"], problem["detail"]) == ("malformed", detail)
    assert b"s3cret" not in response


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"no http\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
    ],
)
async def test_requests_are_not_logged(server: Server, request_: bytes) -> None:
    """aiohttp's access log would contain every path. Malformed requests must not fill the log."""
    with capture_logging(logging.INFO) as log:
        await exchange(server, request_)
    assert [record for record in log.records if record.name.startswith(("aiohttp", "sidekey"))] == []


async def test_connection_without_a_head_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise idle connections would use up the descriptors of callers."""
    monkeypatch.setattr(module, "HEAD_TIMEOUT", 0.01)
    server = await serve(application(), Address(), "listen.admin")
    silent, halfway = await connect(server), await connect(server)
    halfway[1].write(b"GET / HTTP/1.1\r\nHost: loc")
    assert await silent[0].read() == b""
    assert await halfway[0].read() == b""
    for _, writer in (silent, halfway):
        writer.close()
        await writer.wait_closed()
    await server.close()


async def test_connection_with_a_head_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scraper keeps its connection beyond the timeout of the first head."""
    monkeypatch.setattr(module, "HEAD_TIMEOUT", 1.0)
    server = await serve(application(), Address(), "listen.admin")
    witness = await connect(server)
    reader, writer = await connect(server)
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    writer.write(request)
    assert await reader.readuntil(b"hello")
    assert await witness[0].read() == b""
    writer.write(request)
    assert await reader.readuntil(b"hello")
    for end in (writer, witness[1]):
        end.close()
        await end.wait_closed()
    await server.close()


async def test_closing_ends_idle_connections_and_frees_the_address(server: Server) -> None:
    """Another server can use the address at once."""
    first = await serve(application(), Address(), "listen.admin")
    reader, writer = await connect(first)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"hello")
    await first.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    second = await serve(application(), first.addresses[0], "listen.admin")
    await second.close()
    assert second.addresses == first.addresses


async def test_close_waits_for_a_response_in_progress() -> None:
    """A scrape completes while the process drains."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        entered.set()
        await leave.wait()
        return web.Response(text="whole")

    app = web.Application()
    app.router.add_get("/", slow)
    server = await serve(app, Address(), "listen.admin")
    response = asyncio.create_task(exchange(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    await entered.wait()
    closing = asyncio.create_task(server.close())
    await asyncio.sleep(0)
    leave.set()
    await closing
    assert (await response).endswith(b"whole")


async def test_excess_connection_closes_the_oldest_idle_one() -> None:
    """If all are active, the server closes the oldest one: a slow reader must not keep others out."""
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response(text="slow")

    app = application()
    app.router.add_get("/slow", slow)
    server = await serve(app, Address(), "listen.admin", 2)
    port = server.addresses[0].port
    async with raw_connection.connect(port) as connection, raw_connection.connect(port) as idle:
        await connection.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"hello" in await exchange(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await idle.until_ended()
        assert not connection.ended
        async with raw_connection.connect(port) as another:
            await another.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            release.set()
            assert (await connection.response()).body == (await another.response()).body == b"slow"
    await server.close()


async def test_excess_connection_closes_one_whose_client_does_not_read() -> None:
    """Otherwise that connection would never finish closing."""

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(32 << 20))

    app = application()
    app.router.add_get("/large", large)
    server = await serve(app, Address(), "listen.admin", 1)
    port = server.addresses[0].port
    async with raw_connection.connect(port) as slow:
        await slow.send(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await slow.until_received(1)
        slow.transport.pause_reading()
        assert b"hello" in await exchange(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        slow.transport.resume_reading()
        await slow.until_ended()
        assert len(slow.received) < 32 << 20
    await server.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_peer_at_its_limit_loses_its_own_connections(loop: str) -> None:
    """Behind a proxy, the limit does not apply: the proxy is the only peer."""
    make = pytest.importorskip(loop).new_event_loop

    async def open_of(count: int, **options: Any) -> list[bool]:
        server = await serve(application(), Address(), "listen.admin", 8, **options)
        port = server.addresses[0].port
        async with AsyncExitStack() as stack:
            other = await stack.enter_async_context(raw_connection.connect(port, source="127.0.0.2"))
            connections = [await stack.enter_async_context(raw_connection.connect(port)) for _ in range(count)]
            for connection in (*connections[-3:], other):
                await connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await connection.response()).body == b"hello"
            selected = [not connection.ended for connection in connections]
        await server.close()
        return selected

    with asyncio.Runner(loop_factory=make) as runner:
        assert runner.run(open_of(6, max_per_peer=3)) == [False] * 3 + [True] * 3
        assert runner.run(open_of(7, max_per_peer=3, is_behind_proxy=lambda: True)) == [True] * 7


async def test_excess_connection_closes_one_of_the_peer_with_most() -> None:
    """The new connection counts, too."""
    server = await serve(application(), Address(), "listen.admin", 5, max_per_peer=4)
    port = server.addresses[0].port
    async with AsyncExitStack() as stack:

        async def enter(source: str) -> raw_connection.RawConnection:
            connection = await stack.enter_async_context(raw_connection.connect(port, source=source))
            await connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await connection.response()).body == b"hello"
            return connection

        few = [await enter("127.0.0.2") for _ in range(2)]
        many = [await enter("127.0.0.1") for _ in range(3)]
        few.append(await enter("127.0.0.2"))
        await many[0].until_ended()
        another = await enter("127.0.0.3")
        await few[0].until_ended()
        assert not any(connection.ended for connection in (*few[1:], *many[1:], another))
        few.append(await enter("127.0.0.2"))
        await few[1].until_ended()
        assert not any(connection.ended for connection in (*few[2:], *many[1:], another))
    await server.close()


def test_hosts_of_an_ipv6_network_are_one_peer() -> None:
    """A host can use any of the 2**64 addresses of its network."""

    class Connected(asyncio.Transport):
        def __init__(self, host: str) -> None:
            super().__init__({"peername": (host, 1, 0, 0)})

    peers = [module._peer(Connected(f"2001:db8:0:{network}")) for network in ("1::1", "1:2:3:4:5", "2::1")]
    assert peers[0] == peers[1] != peers[2]


@pytest.mark.parametrize("expected", [b"", b"Expect: 100-continue\r\n"])
async def test_connection_closes_after_an_unread_body(server: Server, expected: bytes) -> None:
    """Sidekey must not parse the rest of the body as a request."""
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: 40\r\n\r\n" % expected
    async with raw_connection.connect(server.addresses[0].port) as caller:
        await caller.send(head)
        response = await caller.response()
        while response.status == 100:
            response = await caller.response()
        assert (response.status, response.values(b"connection")) == (405, [b"close"])


async def test_defect_is_logged() -> None:
    """The response is 500 without the text of the exception."""

    async def broken(_: web.Request) -> web.Response:
        raise KeyError

    app = web.Application()
    app.router.add_get("/", broken)
    with capture_logging() as log:
        server = await serve(app, Address(), "listen.admin")
        response = await exchange(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await server.close()
    assert response.startswith(b"HTTP/1.1 500 ")
    assert b"KeyError" not in response
    assert [record.name for record in log.records] == ["sidekey.admin"]


async def test_unix_socket_has_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = await serve(application(), Address(path=str(path), mode=0o660), "listen.admin")
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client,
        client.get("http://localhost/") as response,
    ):
        assert await response.text() == "hello"
    assert path.stat().st_mode & 0o777 == 0o660
    await server.close()
    assert not path.exists()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_either_loop_serves_either_kind_of_address(loop: str, kind: str, tmp_path: Path) -> None:
    """uvloop is optional: asyncio has the same responses, errors and shutdown."""
    make = pytest.importorskip(loop).new_event_loop

    async def everything() -> tuple[str, str]:
        server = await serve(
            application(), Address(path=str(tmp_path / "s") if kind == "unix" else None), "listen.admin"
        )
        address = server.addresses[0]
        with pytest.raises(AddressInUse) as raised:
            await serve(application(), address, "listen.metrics")
        connector = aiohttp.UnixConnector(address.path) if address.path else aiohttp.TCPConnector()
        url = f"http://{address}/" if address.path is None else "http://localhost/"
        async with aiohttp.ClientSession(connector=connector) as client, client.get(url) as response:
            text = await response.text()
        await server.close()
        return text, str(raised.value)

    with asyncio.Runner(loop_factory=make) as runner:
        text, error = runner.run(everything())
    assert text == "hello"
    assert error.startswith("listen.metrics: ")
    assert list(tmp_path.iterdir()) == []


def certificate(leaf: Leaf) -> ServerCertificate:
    return ServerCertificate(leaf.certificate.read_bytes(), leaf.key.read_bytes())


def snapshot(server_certificate: ServerCertificate | None) -> Snapshot:
    return Snapshot({}, admin=AdminRules(certificate=server_certificate))


async def test_prepared_certificate_is_used_once_committed(ca: Authority) -> None:
    """A snapshot without a certificate keeps the current one."""
    first, second = ca.leaf("one.test"), ca.leaf("two.test")
    tls = AdminTls(certificate(first))
    server = await serve(build_admin(Health(), Exposition(Metrics())), Address(), "listen.admin", tls=tls.context)
    context = ca.client_context()
    context.check_hostname = False

    async def names(server_hostname: str = "") -> set[str]:
        where = server.addresses[0]
        _, writer = await asyncio.open_connection(where.host, where.port, ssl=context, server_hostname=server_hostname)
        names = writer.get_extra_info("peercert")["subjectAltName"]
        writer.close()
        await writer.wait_closed()
        return {name for _, name in names}

    try:
        assert await names() == await names("whatever.test") == {"one.test"}
        commit = tls.prepare(snapshot(certificate(second)))
        assert await names() == {"one.test"}
        commit()
        assert await names() == {"two.test"}
        tls.prepare(snapshot(None))()
        assert await names("one.test") == {"two.test"}
        assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    finally:
        await server.close()


async def test_hanging_handshakes_count_and_time_out(ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """One peer cannot use up the connections of others with handshakes."""
    tls = AdminTls(certificate(ca.leaf("one.test")))
    server = await serve(build_admin(Health(), Exposition(Metrics())), Address(), "listen.admin", 4, tls=tls.context)
    port = server.addresses[0].port
    context = ca.client_context()
    context.check_hostname = False
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(raw_connection.connect(port)) for _ in range(9)]
        for connection in silent[:5]:
            await connection.until_ended()
        async with raw_connection.connect(port, ssl_context=context) as connection:
            await connection.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await connection.response()).body == b"ok\n"
            await silent[5].until_ended()
            assert not any(connection.ended for connection in silent[6:])
            # Plain HTTP closes the connection.
            await silent[8].send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await silent[8].until_ended()
            monkeypatch.setattr(module, "HEAD_TIMEOUT", 0.01)
            late = await stack.enter_async_context(raw_connection.connect(port))
            await late.until_ended()
            assert not connection.ended
        await server.close()
        await silent[7].until_ended()


def test_invalid_certificate_is_refused_in_prepare(ca: Authority) -> None:
    tls = AdminTls(certificate(ca.leaf("one.test")))
    with pytest.raises((OSError, ValueError)):
        tls.prepare(snapshot(ServerCertificate(b"x", b"y")))
