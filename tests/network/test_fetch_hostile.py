"""Sidekey's own calls to hostile servers: reachable addresses, a single send, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from sidekey.credentials.base import Call, CallError, Reply
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.network.resolve import HostsFile, Resolver
from sidekey.policy.addresses import Address
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import NetworkRules, Snapshot
from support import wire
from support.dialling import HOSTS, RULES
from support.leak_check import assert_no_leaks
from support.private_ca import Authority
from support.raw_connection import DEADLINE, RawConnection
from support.upstream import OK, RawUpstream, Script, always_ok, respond_with

SECRET = "s3cret-value"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Calls:
    """Calls with a secret in the URL, a header and the body."""

    def __init__(self, ca: Authority, rules: NetworkRules = RULES, *, most: int = 16, **dialer: Any) -> None:
        self.dialer = Dialer(rules, **dialer)
        self.fetcher = Fetcher(self.dialer, most)
        self._trust = ca.trust

    async def fetch(self, url: str, *, method: str = "POST", timeout: float = DEADLINE) -> Reply:
        return await self.fetcher.fetch(
            Call(
                "login",
                method,
                f"{url}?client_secret={SECRET}",
                (("Authorization", f"Bearer {SECRET}"),),
                b"" if method == "GET" else f"client_secret={SECRET}".encode(),
            ),
            Egress(self._trust),
            timeout=timeout,
            max_size=1 << 10,
        )

    async def failure(self, url: str, *, method: str = "POST", timeout: float = DEADLINE) -> CallError:
        """Return the error of a call that must fail without leaks and without showing its secret."""
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        async with assert_no_leaks():
            with pytest.raises(CallError) as failed:
                await self.fetch(url, method=method, timeout=timeout)
        assert reported == []
        assert SECRET not in "".join(traceback.format_exception(failed.value))
        return failed.value


@pytest.fixture
def calls(ca: Authority) -> Calls:
    return Calls(ca)


@pytest.fixture
def tls(ca: Authority) -> ssl.SSLContext:
    return ca.server_context("up.test", "other.test")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "up.test", "localhost"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_private_address_is_not_called_in_any_spelling(ca: Authority, scheme: str, host: str) -> None:
    """A literal bypasses the resolver, and inet_aton accepts many spellings."""
    calls = Calls(ca, NetworkRules(hosts=HOSTS | {"localhost": ("127.0.0.1",)}))
    async with RawUpstream() as upstream:
        error = await calls.failure(f"{scheme}://{host}:{upstream.port}/")
        assert upstream.connections == []
    assert error.reason == "login: its host has only addresses that may not be dialled (loopback)"
    assert error.unspent
    assert error.needs_config_change


@pytest.mark.parametrize("host", ["[::1]", "[::]", "10.0.0.1", "[fe80::1]", "169.254.169.254", "[64:ff9b::a9fe:a9fe]"])
async def test_other_private_literals_are_not_called(ca: Authority, host: str) -> None:
    """Nor metadata addresses, which no rule allows."""
    calls = Calls(ca, NetworkRules(allow_private=(ip_network("169.254.0.0/16"),)))
    for scheme in ("http", "https"):
        assert "may not be dialled" in (await calls.failure(f"{scheme}://{host}/")).reason


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1"])
async def test_permitted_address_is_called_in_any_spelling(calls: Calls, host: str) -> None:
    """`Host` keeps the URL's spelling."""
    async with RawUpstream() as upstream:
        assert (await calls.fetch(f"http://{host}:{upstream.port}/")).status == 200
    assert upstream.requests[0].values(b"host") == [f"{host}:{upstream.port}".encode()]


async def test_ipv6_literal_is_called_and_named_in_brackets(ca: Authority) -> None:
    """RFC 9110 7.2."""
    calls = Calls(ca, NetworkRules(allow_private=(ip_network("::1/128"),)))
    loop = asyncio.get_running_loop()
    upstream = RawUpstream()
    server = await loop.create_server(lambda: RawConnection(upstream._accept), "::1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert (await calls.fetch(f"http://[0:0::1]:{port}/")).status == 200
        assert upstream.requests[0].values(b"host") == [b"[::1]:%d" % port]
        await upstream.reset()


async def test_name_is_resolved_once_for_a_call(ca: Authority) -> None:
    """The checked address is dialled, so DNS rebinding has no effect."""
    responses = iter([(ip_address("127.0.0.2"),), (ip_address("127.0.0.1"),)])

    def lookup(name: str) -> tuple[Address, ...]:
        return next(responses)

    rules = NetworkRules(allow_private=(ip_network("127.0.0.2/32"),))
    calls = Calls(ca, rules, resolver=Resolver(rules, hosts_file=HostsFile(), lookup=lookup))
    async with RawUpstream() as upstream:
        url = f"https://rebinding.test:{upstream.port}/"
        assert (await calls.failure(url)).reason == "login: it refused the connection"
        assert "may not be dialled" in (await calls.failure(url)).reason
        assert upstream.connections == []


async def test_each_call_uses_the_current_rules(calls: Calls, tls: ssl.SSLContext) -> None:
    """No connection of an earlier call is reused."""
    async with RawUpstream(always_ok, ssl_context=tls) as upstream:
        url = f"https://up.test:{upstream.port}/"
        for _ in range(2):
            await calls.fetch(url)
        calls.dialer.prepare(Snapshot(integrations={}, network=NetworkRules(hosts=HOSTS)))()
        assert "may not be dialled" in (await calls.failure(url)).reason
        assert [len(wire.requests(received)) for received in upstream.received] == [1, 1]


@pytest.mark.parametrize("end", [RawConnection.close, RawConnection.reset])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_call_is_sent_once(
    calls: Calls, tls: ssl.SSLContext, method: str, end: Callable[[RawConnection], None]
) -> None:
    """aiohttp would repeat GET and PUT, but a call may use up a refresh token."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        end(connection)

    async with RawUpstream(script, ssl_context=tls) as upstream:
        error = await calls.failure(f"https://up.test:{upstream.port}/", method=method)
        assert (len(upstream.connections), len(upstream.requests)) == (1, 1)
    assert (error.outcome, error.reason) == ("unreachable", "login closed the connection before it responded")
    assert not error.unspent


@pytest.mark.parametrize(
    "target",
    ["/", "/?", "/a?", "/a??", "/a//b/../c;d", "/%7e%2F%41?x=%20+&&y", "/'()*!$,:@"],
)
async def test_target_is_sent_byte_for_byte(ca: Authority, target: str) -> None:
    """A signature may cover it."""
    async with RawUpstream() as upstream:
        call = Call("login", "GET", f"http://127.0.0.1:{upstream.port}{target}")
        await Fetcher(Dialer(RULES), 1).fetch(call, Egress(ca.trust), timeout=DEADLINE, max_size=9)
    assert upstream.requests[0].start == f"GET {target} HTTP/1.1".encode()


async def test_header_values_are_sent_as_their_bytes(ca: Authority) -> None:
    """Each character is one byte of UTF-8."""
    async with RawUpstream() as upstream:
        call = Call("login", "POST", f"http://127.0.0.1:{upstream.port}/", (("X-Name", "\xc3\xa9t\xc3\xa9"),))
        await Fetcher(Dialer(RULES), 1).fetch(call, Egress(ca.trust), timeout=DEADLINE, max_size=9)
    assert upstream.requests[0].values(b"x-name") == ["été".encode()]


@pytest.mark.parametrize("pieces", [[b"\x16\x03\x03\x00"], [b"\x15\x03\x03\x00\x02\x02\x28"], [b"nonsense" * 9], []])
async def test_failed_handshake_is_unspent(calls: Calls, pieces: list[bytes]) -> None:
    """By a cut, an alert, garbage or a reset: no byte of the request was sent."""

    async def script(connection: RawConnection) -> None:
        await connection.until_received(1)
        for piece in pieces:
            await connection.send(piece)
        connection.close() if pieces else connection.reset()

    async with RawUpstream(script) as upstream:
        error = await calls.failure(f"https://up.test:{upstream.port}/")
    assert error.outcome == "unreachable"
    assert error.reason in {
        "login: it closed the connection during TLS",
        "login: it ended TLS with the alert: handshake failure",
        "login: it does not speak TLS on this port",
    }
    assert error.unspent


def dripping(begin: bytes, piece: bytes) -> Script:
    """A server that keeps sending a few bytes."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(begin)
        while True:
            await connection.send(piece)
            await asyncio.sleep(0.01)

    return script


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"O"),
        (HEAD + b"X: ", b"x"),
        (HEAD + b"Content-Length: 1000\r\n\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"0\r\nX: ", b"x"),
    ],
    ids=["interim responses", "status line", "field", "body", "chunks", "trailer"],
)
async def test_slow_bytes_end_at_the_timeout_of_the_call(
    calls: Calls, tls: ssl.SSLContext, begin: bytes, piece: bytes
) -> None:
    """The timeout covers the whole call, not the pause between two bytes."""
    async with RawUpstream(dripping(begin, piece), ssl_context=tls) as upstream:
        error = await calls.failure(f"https://up.test:{upstream.port}/", timeout=0.8)
    assert (error.outcome, error.reason) == ("timeout", "login did not respond in time")
    assert not error.unspent


async def test_response_that_arrived_while_the_process_was_stopped_is_read(calls: Calls, tls: ssl.SSLContext) -> None:
    """It may contain the only valid refresh token."""
    loop = asyncio.get_running_loop()
    answered = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with tls.wrap_socket(connection, server_side=True) as server:
                server.recv(1024)
                loop.call_soon_threadsafe(stop)
                server.sendall(OK)
                answered.set()
                server.recv(1024)

        def stop() -> None:
            # Nothing of this loop runs meanwhile, as after SIGSTOP.
            assert answered.wait(DEADLINE)
            time.sleep(max(0.0, deadline + 0.2 - loop.time()))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        deadline = loop.time() + 1
        assert (await calls.fetch(f"https://up.test:{listener.getsockname()[1]}/", timeout=1)).body == b"ok"
        await asyncio.to_thread(thread.join, DEADLINE)


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
@pytest.mark.parametrize("response", [b"", OK], ids=["silent", "answering at once"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_unread_request_is_dropped_with_its_connection(
    ca: Authority, tls: ssl.SSLContext, scheme: str, response: bytes
) -> None:
    """An orderly close would wait for the server."""
    body = bytes(16 << 20)

    async def script(connection: RawConnection) -> None:
        connection.transport.pause_reading()
        await connection.send(response)

    async def call(port: int) -> Reply:
        return await Fetcher(Dialer(RULES), 1).fetch(
            Call("login", "POST", f"{scheme}://{'up.test' if scheme == 'https' else '127.0.0.1'}:{port}/", (), body),
            Egress(ca.trust),
            timeout=DEADLINE if response else 0.8,
            max_size=9,
        )

    async with RawUpstream(script, ssl_context=tls if scheme == "https" else None) as upstream:
        if response:
            assert (await call(upstream.port)).body == b"ok"
        else:
            with pytest.raises(CallError, match="did not respond in time"):
                await call(upstream.port)
        (connection,) = upstream.connections
        connection.transport.resume_reading()
        # What the kernel had taken arrives, and nothing after that.
        assert len(await connection.until_ended()) < len(body)


FLOODS = {
    "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "login returned too many interim responses"),
    "fields": (HEAD, b"a: b\r\n", "login did not return a valid HTTP/1.1 response"),
    "long fields": (
        HEAD,
        b"a: %b\r\n" % bytes(b"x" * 60_000),
        "login returned more than 257 KiB with its header fields",
    ),
    "field": (HEAD + b"a: ", b"x" * 1000, "login returned a header field of more than 64 KiB"),
    "status line": (b"HTTP/1.1 200 ", b"O" * 1000, "login returned a header field of more than 64 KiB"),
    "empty lines": (b"", b"\r\n", "login returned more than 257 KiB with its header fields"),
    "body": (HEAD + b"\r\n", b"x" * 1000, "login returned more than 1 KiB"),
    "chunk extension": (CHUNKED + b"1;", b"x" * 1000, "login returned more than 257 KiB with its header fields"),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n", "login did not return a valid HTTP/1.1 response"),
}
"""Start of a response, its endless rest, and the reported reason."""


@pytest.mark.parametrize("flood", FLOODS)
async def test_flood_ends_the_call_before_its_timeout(calls: Calls, tls: ssl.SSLContext, flood: str) -> None:
    """At full speed: the loop has other requests to serve."""
    begin, piece, reason = FLOODS[flood]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with tls.wrap_socket(connection, server_side=True) as server, contextlib.suppress(OSError):
                server.recv(1024)
                server.sendall(begin)
                while True:
                    server.sendall(piece * (1 + (256 << 10) // len(piece)))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(CallError) as failed:
            await calls.fetch(f"https://up.test:{listener.getsockname()[1]}/")
        await asyncio.to_thread(thread.join, DEADLINE)
    assert (failed.value.outcome, failed.value.reason) == ("invalid", reason)


async def start_call(calls: Calls, upstream: RawUpstream, host: str, number: int) -> asyncio.Task[Reply]:
    """Start a call that hangs, once it is the server's connection number `number`."""
    task = asyncio.create_task(calls.fetch(f"https://{host}:{upstream.port}/"))
    await (await upstream.connection(number)).request()
    return task


async def test_hanging_endpoint_uses_at_most_half_of_the_slots(ca: Authority, tls: ssl.SSLContext) -> None:
    """Another endpoint is called meanwhile, until all slots are used."""
    calls = Calls(
        ca, NetworkRules(hosts=HOSTS | {"other.test": ("127.0.0.1",)}, allow_private=RULES.allow_private), most=3
    )
    async with RawUpstream(respond_with(), ssl_context=tls) as upstream, assert_no_leaks():
        up, other = (f"https://{host}:{upstream.port}/" for host in ("up.test", "other.test"))
        hanging = [await start_call(calls, upstream, "up.test", number) for number in range(2)]
        error = await calls.failure(up, timeout=0.05)
        assert (error.outcome, error.unspent) == ("timeout", True)
        assert error.reason == "login skipped: limit of 2 calls to it at a time reached"
        hanging.append(await start_call(calls, upstream, "other.test", 2))
        error = await calls.failure(other, timeout=0.05)
        assert error.reason == "login skipped: limit of 3 calls at a time reached, which NOFILE allows"
        assert len(upstream.connections) == 3
        waiting = [asyncio.create_task(calls.fetch(up)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        hanging[0].cancel()
        await (await upstream.connection(3)).request()
        for task in (*hanging, *waiting):
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError)
            for end in await asyncio.gather(*hanging, *waiting, return_exceptions=True)
        )
        await upstream.reset()
