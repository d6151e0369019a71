"""Sidekey's own calls over real sockets: requests, responses and errors."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from sidekey.credentials.base import Call, CallError, Pairs, Reply
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.network.guard import OwnListener
from sidekey.network.resolve import HostsFile, Resolver
from sidekey.policy.addresses import Address, Network
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import NetworkRules, Trust
from support.blackhole import Blackhole
from support.dialling import HOSTS, LOOPBACK, RULES
from support.leak_check import assert_no_leaks
from support.ports import free_port
from support.private_ca import Authority
from support.raw_connection import DEADLINE, RawConnection
from support.upstream import OK, RawUpstream, Script, respond_with

LARGEST = 4 << 10


class Calls:
    """A fetcher with the usual arguments of these tests."""

    def __init__(self, ca: Authority, rules: NetworkRules = RULES, resolver: Resolver | None = None) -> None:
        self.dialer = Dialer(rules, resolver=resolver)
        self.fetcher = Fetcher(self.dialer, 16)
        self.trust = ca.trust
        self.unspent = False
        """Of the last failure."""

    async def fetch(
        self,
        url: str,
        *,
        method: str = "POST",
        headers: Pairs = (),
        body: bytes = b"",
        timeout: float = DEADLINE,
        allow_private: tuple[Network, ...] = (),
        source_address: Address | None = None,
    ) -> Reply:
        """Make a call with the step "token endpoint"."""
        return await self.fetcher.fetch(
            Call("token endpoint", method, url, headers, body),
            Egress(self.trust, allow_private, source_address),
            timeout=timeout,
            max_size=LARGEST,
        )

    async def failure(
        self, url: str, timeout: float = DEADLINE, *, then: Callable[[], None] = lambda: None
    ) -> tuple[str, str, bool]:
        """Return outcome, reason and `settings` of a call that must fail without leaks. `then` releases the server."""
        async with assert_no_leaks():
            with pytest.raises(CallError) as failed:
                await self.fetch(url, timeout=timeout)
            then()
        error = failed.value
        assert error.__cause__ is None
        assert error.__context__ is None or error.__suppress_context__
        assert error.reason.startswith("token endpoint")
        assert not any(foreign in error.reason for foreign in ("127.0.0", "up.test", "upstream", "target", "https:"))
        self.unspent = error.unspent
        return error.outcome, error.reason, error.needs_config_change


@pytest.fixture
def calls(ca: Authority) -> Calls:
    """Build calls to the hosts of `support.dialling`, which may go to loopback."""
    return Calls(ca)


@pytest.fixture
def tls(ca: Authority) -> ssl.SSLContext:
    """Return the context of a server for up.test and this machine."""
    return ca.server_context("up.test", "dead-first.test", "127.0.0.1")


async def test_call_is_sent_with_its_headers_and_few_defaults(calls: Calls, tls: ssl.SSLContext) -> None:
    """With its URL, its headers in order and its length, and without the name of a library."""
    async with RawUpstream(respond_with(OK), ssl_context=tls) as upstream:
        url = f"https://up.test:{upstream.port}/a%2Fb/token?x=%7e+1"
        headers = (("Authorization", "Basic eDp5"), ("Content-Type", "application/json"))
        async with assert_no_leaks():
            reply = await calls.fetch(url, headers=headers, body=b'{"a": 1}')
    assert (reply.status, reply.body) == (200, b"ok")
    (request,) = upstream.requests
    assert request.start == b"POST /a%2Fb/token?x=%7e+1 HTTP/1.1"
    assert request.body == b'{"a": 1}'
    assert sorted(request.headers) == [
        (b"accept-encoding", b"identity"),
        (b"authorization", b"Basic eDp5"),
        (b"connection", b"close"),
        (b"content-length", b"8"),
        (b"content-type", b"application/json"),
        (b"host", b"up.test:%d" % upstream.port),
        (b"user-agent", b"sidekey"),
    ]


async def test_call_may_replace_the_default_headers(calls: Calls, tls: ssl.SSLContext) -> None:
    """User-Agent and Accept-Encoding."""
    async with RawUpstream(respond_with(OK), ssl_context=tls) as upstream:
        headers = (("user-agent", "kind"), ("ACCEPT-ENCODING", "identity;q=1"), ("Accept", "application/json"))
        await calls.fetch(f"https://up.test:{upstream.port}", method="GET", headers=headers)
    (request,) = upstream.requests
    assert request.start == b"GET / HTTP/1.1"
    fields = dict(request.headers)
    assert len(fields) == len(request.headers)
    assert (fields[b"user-agent"], fields[b"accept-encoding"]) == (b"kind", b"identity;q=1")
    assert fields[b"accept"] == b"application/json"
    assert b"content-length" not in fields


async def test_proxy_variables_and_netrc_are_ignored(
    calls: Calls, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine up.test login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with RawUpstream(respond_with(OK), ssl_context=tls) as upstream:
        assert (await calls.fetch(f"https://up.test:{upstream.port}/")).status == 200
    assert b"authorization" not in upstream.received[0].lower()


async def test_cookies_are_not_kept_between_calls(calls: Calls, tls: ssl.SSLContext) -> None:
    response = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with RawUpstream(respond_with(response), ssl_context=tls) as upstream:
        for _ in range(2):
            await calls.fetch(f"https://up.test:{upstream.port}/")
    assert len(upstream.requests) == 2
    assert b"cookie" not in b"".join(upstream.received).lower()


async def test_post_without_a_body_has_a_length_of_0(calls: Calls, tls: ssl.SSLContext) -> None:
    """RFC 9110 8.6."""
    async with RawUpstream(respond_with(OK), ssl_context=tls) as upstream:
        await calls.fetch(f"https://up.test:{upstream.port}/")
    (request,) = upstream.requests
    assert dict(request.headers)[b"content-length"] == b"0"


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0b"])
async def test_header_with_a_line_break_raises(calls: Calls, value: str) -> None:
    """Before the connection, and the error does not repeat it."""
    with pytest.raises(ValueError, match="control characters") as failed:
        await calls.fetch("https://up.test/", headers=(("X-Any", value),))
    assert value not in str(failed.value)


@pytest.mark.parametrize("status", [301, 307, 401, 503])
async def test_response_of_any_status_is_returned(calls: Calls, tls: ssl.SSLContext, status: int) -> None:
    """Redirects are not followed."""
    response = b"HTTP/1.1 %d X\r\nLocation: https://up.test/\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n" % status
    async with RawUpstream(respond_with(response), ssl_context=tls) as upstream:
        reply = await calls.fetch(f"https://up.test:{upstream.port}/")
        assert len(upstream.connections) == 1
    assert reply.status == status
    assert reply.headers["retry-after"] == "7"


async def test_repeated_header_is_one_list(calls: Calls, tls: ssl.SSLContext) -> None:
    """RFC 9110 5.3."""
    response = b"HTTP/1.1 401 X\r\nWWW-Authenticate: Basic\r\nwww-authenticate: Bearer\r\nContent-Length: 0\r\n\r\n"
    async with RawUpstream(respond_with(response), ssl_context=tls) as upstream:
        reply = await calls.fetch(f"https://up.test:{upstream.port}/")
    assert reply.headers["www-authenticate"] == "Basic, Bearer"


async def test_second_address_is_used_if_the_first_refuses(calls: Calls, tls: ssl.SSLContext) -> None:
    async with RawUpstream(respond_with(OK), ssl_context=tls) as upstream:
        assert (await calls.fetch(f"https://dead-first.test:{upstream.port}/")).status == 200


async def test_forbidden_addresses_of_a_name_are_skipped(ca: Authority) -> None:
    async with RawUpstream(respond_with(OK), ssl_context=ca.server_context("mixed.test")) as upstream:
        assert (await Calls(ca).fetch(f"https://mixed.test:{upstream.port}/")).status == 200


async def test_allow_private_of_the_integration_applies(ca: Authority, tls: ssl.SSLContext) -> None:
    calls = Calls(ca, NetworkRules(hosts=HOSTS))
    async with RawUpstream(respond_with(OK), ssl_context=tls) as upstream:
        url = f"https://up.test:{upstream.port}/"
        assert await calls.failure(url) == (
            "unreachable",
            "token endpoint: its host has only addresses that may not be dialled (loopback)",
            True,
        )
        assert upstream.connections == []
        assert (await calls.fetch(url, allow_private=LOOPBACK)).status == 200


@pytest.mark.parametrize("host", ["10.0.0.1", "[::1]", "169.254.169.254"])
async def test_address_literal_is_checked(calls: Calls, host: str) -> None:
    outcome, reason, settings = await calls.failure(f"https://{host}/token")
    assert (outcome, settings) == ("unreachable", True)
    assert "may not be dialled" in reason


async def test_permitted_literal_is_verified_by_its_address(calls: Calls, tls: ssl.SSLContext) -> None:
    async with RawUpstream(respond_with(OK), ssl_context=tls) as upstream:
        assert (await calls.fetch(f"https://127.0.0.1:{upstream.port}/")).status == 200


async def test_own_listener_is_not_called(calls: Calls) -> None:
    """Even if loopback is allowed."""
    calls.dialer.own_listeners = (OwnListener(ip_address("127.0.0.1"), 8080),)
    assert (await calls.failure("https://up.test:8080/"))[1].endswith("(a listener of Sidekey itself)")


async def test_call_without_tls_reaches_loopback_only(ca: Authority) -> None:
    """RFC 6749 3.2: with any DNS response and any rules, the secret stays on this machine."""
    hosts = {"localhost": ("10.0.0.1", "127.0.0.1"), "private.test": ("10.0.0.1",)}
    rules = NetworkRules(hosts=hosts, allow_private=(*RULES.allow_private, ip_network("10.0.0.0/8")))
    calls = Calls(ca, rules)
    async with RawUpstream(respond_with(OK)) as upstream:
        assert (await calls.fetch(f"http://localhost:{upstream.port}/token")).body == b"ok"
    assert len(upstream.requests) == 1
    outcome, reason, settings = await calls.failure("http://private.test/token")
    assert (outcome, settings) == ("unreachable", True)
    assert reason == "token endpoint: its URL is http, and its host has no loopback address: use https"


def absent(name: str) -> tuple[()]:
    raise socket.gaierror(socket.EAI_NONAME, "secret text")


def broken(name: str) -> tuple[()]:
    raise socket.gaierror(socket.EAI_AGAIN, "secret text")


@pytest.mark.parametrize(
    ("lookup", "words"),
    [(absent, "its host name has no address in DNS"), (broken, "the lookup of its host name failed")],
)
async def test_unknown_name_is_unreachable(ca: Authority, lookup: object, words: str) -> None:
    """NXDOMAIN and a failing resolver have different reasons."""
    calls = Calls(ca, resolver=Resolver(RULES, hosts_file=HostsFile(), lookup=lookup))
    assert await calls.failure("https://absent.test/") == ("unreachable", f"token endpoint: {words}", False)


async def test_hanging_lookup_is_a_timeout(ca: Authority, release: threading.Event) -> None:
    def hang(name: str) -> tuple[()]:
        release.wait(DEADLINE)
        return ()

    calls = Calls(ca, resolver=Resolver(RULES, hosts_file=HostsFile(), lookup=hang))
    outcome, reason, _ = await calls.failure("https://slow.test/", 0.1, then=release.set)
    assert (outcome, reason) == ("timeout", "token endpoint: the lookup of its host name took too long")


async def test_closed_port_is_unreachable(calls: Calls) -> None:
    url = f"https://up.test:{free_port()}/"
    assert await calls.failure(url) == ("unreachable", "token endpoint: it refused the connection", False)
    assert calls.unspent


async def test_dropped_packets_are_a_timeout(calls: Calls) -> None:
    with Blackhole("127.0.0.1") as hole:
        outcome, reason, _ = await calls.failure(f"https://up.test:{hole.port}/", 0.1)
    assert (outcome, reason, calls.unspent) == ("timeout", "token endpoint: the connection to it took too long", True)


async def silent(connection: RawConnection) -> None:
    """Read the request and send nothing."""


async def slow(connection: RawConnection) -> None:
    """Start a response and never end it."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")


@pytest.mark.parametrize("script", [silent, slow])
async def test_incomplete_response_is_a_timeout(calls: Calls, tls: ssl.SSLContext, script: Script) -> None:
    """The timeout covers head and body."""
    async with RawUpstream(script, ssl_context=tls) as upstream:
        outcome, reason, _ = await calls.failure(f"https://up.test:{upstream.port}/", 2)
    assert not calls.unspent
    assert (outcome, reason) == ("timeout", "token endpoint did not respond in time")


class StoppedDialer(Dialer):
    """Stops the process right after the connection, for longer than the timeout."""

    async def connect(self, *arguments: Any, **named: Any) -> Any:
        connection = await super().connect(*arguments, **named)
        time.sleep(0.4)
        return connection


async def test_request_is_not_sent_without_time_for_its_response(ca: Authority, tls: ssl.SSLContext) -> None:
    """It could use up a refresh token."""
    calls = Calls(ca)
    calls.fetcher = Fetcher(StoppedDialer(RULES), 16)
    async with RawUpstream(ssl_context=tls) as upstream:
        outcome, reason, _ = await calls.failure(f"https://up.test:{upstream.port}/", 0.4)
    assert b"".join(upstream.received) == b""
    assert (outcome, reason, calls.unspent) == ("timeout", "token endpoint: the connection to it took too long", True)


async def test_call_without_a_free_slot_is_a_timeout(ca: Authority) -> None:
    """It was not sent. Once another call ends, the next one starts."""
    calls = Calls(ca)
    calls.fetcher = Fetcher(calls.dialer, 1)
    async with RawUpstream(respond_with(), ssl_context=ca.server_context("up.test")) as upstream:
        url = f"https://up.test:{upstream.port}/token"
        hanging = asyncio.ensure_future(calls.fetch(url))
        await upstream.connection()
        outcome = await calls.failure(url, 0.05)
        assert outcome == ("timeout", "token endpoint skipped: limit of 1 calls to it at a time reached", False)
        assert len(upstream.connections) == 1
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        following = asyncio.ensure_future(calls.fetch(url))
        await upstream.connection(1)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        assert len(upstream.connections) == 2


async def test_untrusted_certificate_is_reported(ca: Authority, tls: ssl.SSLContext) -> None:
    calls = Calls(ca)
    calls.trust = Trust()
    async with RawUpstream(ssl_context=tls) as upstream:
        outcome, reason, settings = await calls.failure(f"https://up.test:{upstream.port}/")
    assert (outcome, settings) == ("unreachable", False)
    assert reason == "token endpoint: its certificate is refused: its issuer is not trusted"


async def test_certificate_for_another_host_is_refused(calls: Calls, ca: Authority) -> None:
    async with RawUpstream(ssl_context=ca.server_context("other.test")) as upstream:
        _, reason, _ = await calls.failure(f"https://up.test:{upstream.port}/")
    assert reason == "token endpoint: its certificate is refused: it is for another host name"


async def test_unusable_ca_file_needs_a_config_change(calls: Calls) -> None:
    """The reason names `trusted_ca`, not its path."""
    calls.trust = Trust("file", "/nonexistent/ca.pem")
    _, reason, settings = await calls.failure("https://up.test/")
    assert reason == "token endpoint: trusted_ca must name a file that can be read and holds a PEM certificate"
    assert settings


async def test_endpoint_without_tls_is_reported(calls: Calls) -> None:
    async def plain(connection: RawConnection) -> None:
        await connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        connection.transport.close()

    async with RawUpstream(plain) as upstream:
        outcome, reason, _ = await calls.failure(f"https://up.test:{upstream.port}/")
    assert (outcome, reason) == ("unreachable", "token endpoint: it does not speak TLS on this port")


async def test_closed_handshake_is_reported(calls: Calls) -> None:
    """A load balancer without a backend closes after the ClientHello."""

    async def leave(connection: RawConnection) -> None:
        connection.transport.close()

    async with RawUpstream(leave) as upstream:
        outcome, reason, _ = await calls.failure(f"https://up.test:{upstream.port}/")
    assert (outcome, reason) == ("unreachable", "token endpoint: it closed the connection during TLS")
    assert calls.unspent


@pytest.mark.parametrize(
    ("response", "outcome", "words"),
    [
        (b"", "unreachable", "closed the connection before it responded"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome", "invalid", "in the middle of its response"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "invalid", "did not return a valid HTTP/1.1 response"),
        (b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * 66_000), "invalid", "a header field of more than 64 KiB"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok",
            "invalid",
            "returned a content coding other than gzip, which was not requested",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4097\r\n\r\n" + bytes(4097), "invalid", "returned more than 4 KiB"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1001\r\n%b\r\n" % bytes(4097),
            "invalid",
            "returned more than 4 KiB",
        ),
    ],
    ids=["nothing", "cut", "no HTTP", "a long field", "coded", "too large", "endless"],
)
async def test_unusable_response_has_an_outcome_and_a_reason(
    calls: Calls, tls: ssl.SSLContext, response: bytes, outcome: str, words: str
) -> None:
    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(response)
        connection.transport.close()

    async with RawUpstream(script, ssl_context=tls) as upstream:
        result, reason, _ = await calls.failure(f"https://up.test:{upstream.port}/")
    assert (result, calls.unspent) == (outcome, False)
    assert reason.startswith("token endpoint ")
    assert reason.endswith(words)


async def test_response_of_exactly_the_maximum_size_is_read(calls: Calls, tls: ssl.SSLContext) -> None:
    """With a header field of 60 KiB: some platforms send long policies."""
    head = b"HTTP/1.1 200 %b\r\nX: %b\r\nContent-Length: %d\r\n\r\n" % (b"O" * 60_000, b"x" * 60_000, LARGEST)
    async with RawUpstream(respond_with(head + bytes(LARGEST)), ssl_context=tls) as upstream:
        reply = await calls.fetch(f"https://up.test:{upstream.port}/")
        assert (len(reply.body), len(reply.headers["x"])) == (LARGEST, 60_000)


async def test_cancelled_call_leaves_no_socket_or_task(calls: Calls, tls: ssl.SSLContext) -> None:
    async with RawUpstream(silent, ssl_context=tls) as upstream, assert_no_leaks():
        task = asyncio.create_task(calls.fetch(f"https://up.test:{upstream.port}/"))
        connection = await upstream.connection()
        await connection.request()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await connection.until_lost()
