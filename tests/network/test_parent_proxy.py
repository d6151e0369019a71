"""Connections through a parent proxy: what the proxy receives, its responses, and which targets do not use it."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Literal

import pytest

from sidekey.errors import Problem, ProblemError
from sidekey.network.dial import Dialer
from sidekey.network.guard import OwnListener
from sidekey.network.parent_proxy import MAX_HEAD_SIZE
from sidekey.network.resolve import HostsFile, Resolver
from sidekey.policy.addresses import Address, Network, NetworkOverride
from sidekey.policy.parent_proxy import NoProxy
from sidekey.policy.urls import Authority, Origin
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.snapshot import NetworkRules, Snapshot
from support.blackhole import Blackhole
from support.dialling import LOOPBACK, summary
from support.dialling import upstream as plain_server
from support.leak_check import assert_no_leaks
from support.parent_proxy import BASIC, ESTABLISHED, USER, ScriptedProxy, answer, establish
from support.ports import free_port
from support.private_ca import Authority as CertificateAuthority
from support.raw_connection import DEADLINE, RawConnection
from support.upstream import OK, RawUpstream

HOSTS = {
    "up.test": ("93.184.215.14",),
    "dual.test": ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", "93.184.215.14", "93.184.215.15"),
    "near.test": ("10.0.0.9", "93.184.215.14"),
    "self.test": ("127.0.0.1", "93.184.215.14"),
    "private.test": ("10.0.0.1",),
    "proxy.test": ("127.0.0.1",),
    "private-proxy.test": ("10.0.0.1",),
}
"""No test connects to these public addresses: the scripted proxy connects to an upstream of the test."""


REMEDY = "is `url` of `proxy` an HTTP proxy, and is its scheme right?"


def parent(port: int, scheme: str = "http", host: str = "proxy.test", **more: object) -> ParentProxy:
    return replace(ParentProxy(Origin(scheme, host, port)), **more)  # type: ignore[arg-type]


class Setup:
    """A dialer with a parent proxy, which may connect to loopback."""

    def __init__(self, ca: CertificateAuthority, proxy: ParentProxy | None, **rules: object) -> None:
        proxies = frozenset() if proxy is None else frozenset({Authority(proxy.origin.host, proxy.origin.port)})
        defaults = {"hosts": HOSTS, "allow_private": LOOPBACK, "proxy": proxy, "proxies": proxies}
        self.rules = NetworkRules(**(defaults | rules))  # type: ignore[arg-type]
        self.dialer = Dialer(self.rules)
        self._trust = ca.trust

    async def connect(
        self,
        url: str,
        port: int = 443,
        *,
        timeout: float = DEADLINE,
        proxy: ParentProxy | Literal["none"] | None = None,
        resolve_locally: bool = False,
        allow_private: tuple[Network, ...] | NetworkOverride = (),
        loopback_only: bool = False,
    ) -> RawConnection:
        scheme, _, host = url.partition("://")
        return await self.dialer.connect(
            RawConnection,
            Origin(scheme, host, port),
            Egress(self._trust, allow_private, None, proxy, resolve_locally),
            timeout=timeout,
            loopback_only=loopback_only,
        )

    async def failure(self, url: str = "https://up.test", port: int = 443, *, timeout: float = DEADLINE) -> Problem:
        """Return the problem of a connection that must fail without leaving anything open."""
        async with assert_no_leaks():
            with pytest.raises(ProblemError) as failed:
                await self.connect(url, port, timeout=timeout)
        problem = failed.value.problem
        assert problem.sent == "no"
        assert "127.0.0" not in problem.detail
        assert failed.value.__cause__ is None
        return problem


def tls_of(ca: CertificateAuthority, scheme: str, *names: str) -> object:
    return ca.server_context(*names) if scheme == "https" else None


@pytest.mark.parametrize("upstream_scheme", ["http", "https"])
@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
async def test_upstream_receives_the_request_and_the_proxy_the_connect_alone(
    ca: CertificateAuthority, proxy_scheme: str, upstream_scheme: str
) -> None:
    """TLS goes inside, also inside the TLS of the proxy. The proxy's credential goes to nobody else."""
    tls, proxy_tls = tls_of(ca, upstream_scheme, "up.test"), tls_of(ca, proxy_scheme, "proxy.test")
    async with (
        assert_no_leaks(),
        RawUpstream(ssl_context=tls) as upstream,  # type: ignore[arg-type]
        ScriptedProxy(upstream.port, ssl_context=proxy_tls) as proxy,  # type: ignore[arg-type]
    ):
        setup = Setup(ca, parent(proxy.port, proxy_scheme, authorization=BASIC, trust=ca.trust))
        connection = await setup.connect(f"{upstream_scheme}://up.test", 8443)
        request = b"GET / HTTP/1.1\r\nHost: up.test\r\nAuthorization: Basic secret\r\n\r\n"
        await connection.send(request)
        assert (await connection.response()).status == 200
        assert upstream.received == [request]
        head = (
            f"CONNECT 93.184.215.14:8443 HTTP/1.1\r\nHost: 93.184.215.14:8443\r\nProxy-Authorization: {BASIC}\r\n\r\n"
        )
        assert proxy.heads == [head.encode()]
        assert (b"secret" in proxy.sent[0]) is (upstream_scheme == "http")
        assert setup.dialer.proxy_connects == {"ok": 1}
        connection.transport.abort()
        await connection.until_lost()


async def test_long_bodies_pass_through_tls_in_tls_both_ways(ca: CertificateAuthority) -> None:
    """Backpressure of each layer reaches the next one, and close_notify ends the stream."""
    size = 3 << 20

    async def echo(connection: RawConnection) -> None:
        await connection.until_received(size)
        await connection.send(bytes(connection.received))
        connection.close()

    async with (
        assert_no_leaks(),
        RawUpstream(echo, ssl_context=ca.server_context("up.test")) as upstream,
        ScriptedProxy(upstream.port, ssl_context=ca.server_context("proxy.test")) as proxy,
    ):
        connection = await Setup(ca, parent(proxy.port, "https", trust=ca.trust)).connect("https://up.test")
        body = bytes(range(256)) * (size // 256)
        await connection.send(body)
        assert await connection.until_ended() == body
        assert (connection.ended, connection.error) == (True, None)
        await connection.until_lost()


@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
async def test_tunnel_that_the_proxy_cuts_does_not_look_complete(ca: CertificateAuthority, proxy_scheme: str) -> None:
    async def close(connection: RawConnection) -> None:
        await connection.request()
        connection.transport.abort()

    async with (
        assert_no_leaks(),
        RawUpstream(close, ssl_context=ca.server_context("up.test")) as upstream,
        ScriptedProxy(upstream.port, ssl_context=tls_of(ca, proxy_scheme, "proxy.test")) as proxy,  # type: ignore[arg-type]
    ):
        connection = await Setup(ca, parent(proxy.port, proxy_scheme, trust=ca.trust)).connect("https://up.test")
        await connection.send(b"GET / HTTP/1.1\r\nHost: up.test\r\n\r\n")
        await connection.until_lost()
        assert not connection.ended


@pytest.mark.parametrize(
    ("response", "expected", "words"),
    [
        (b"HTTP/1.1 407 No\r\n\r\n", ("parent_proxy_failed", 502, "proxy_configuration_error"), "requires a user"),
        (b"HTTP/1.0 403 \r\n\r\n", ("parent_proxy_failed", 502, "http_request_denied"), "resolve: proxy"),
        (b"HTTP/1.1 502 Bad\r\n\r\n", ("upstream_unreachable", 502, "destination_unavailable"), "(502)"),
        (b"HTTP/1.1 503\r\nA: b\r\n\r\n", ("upstream_unreachable", 502, "destination_unavailable"), "(503)"),
        (b"HTTP/1.1 504 \r\n\r\n", ("upstream_unreachable", 502, "destination_unavailable"), "(504)"),
        (b"HTTP/1.1 500 secret\r\n\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "responded 500"),
        (b"HTTP/1.1 302 F\r\nLocation: /\r\n\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "302"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "100"),
        (b"HTTP/1.1 101 S\r\n\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "101"),
        (b"HTTP/2 200\r\n\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "valid HTTP/1.1"),
        (b"HTTP/1.1 200OK\r\n\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "valid HTTP/1.1"),
        (b"HTTP/1.1  200 OK\r\n\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "valid HTTP/1.1"),
        (b"HTTP/1.1 2000\r\n\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "valid HTTP/1.1"),
        (b"HTTP/1.1 200 a\rb\r\n\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "valid HTTP/1.1"),
        (b"\x16\x03\x01\x00\x05hello", ("parent_proxy_failed", 502, "http_protocol_error"), "valid HTTP/1.1"),
        (b"SSH-2.0-x\r\n", ("parent_proxy_failed", 502, "http_protocol_error"), "valid HTTP/1.1"),
        (
            b"HTTP/1.1 200 OK\r\nA: " + b"a" * MAX_HEAD_SIZE,
            ("parent_proxy_failed", 502, "http_protocol_error"),
            "valid",
        ),
    ],
)
async def test_response_without_a_tunnel_is_a_problem(
    ca: CertificateAuthority, response: bytes, expected: tuple[str, int, str], words: str
) -> None:
    """With a code of its own, unless the proxy says that it cannot reach the upstream."""
    async with ScriptedProxy(respond=answer(response)) as proxy:
        setup = Setup(ca, parent(proxy.port))
        problem = await setup.failure()
    assert summary(problem) == expected
    assert words in problem.detail
    assert "secret" not in problem.detail
    outcome = expected[0] if expected[0] == "upstream_unreachable" else expected[2]
    assert setup.dialer.proxy_connects == {outcome: 1}


async def test_rejected_password_and_denied_port_are_named(ca: CertificateAuthority) -> None:
    async with ScriptedProxy(respond=answer(b"HTTP/1.1 407 No\r\n\r\n")) as proxy:
        problem = await Setup(ca, parent(proxy.port, authorization=BASIC)).failure()
    assert "rejected the `username` and `password`" in problem.detail
    assert USER[1] not in problem.detail
    async with ScriptedProxy(respond=answer(b"HTTP/1.1 403 No\r\n\r\n")) as proxy:
        assert (
            "port 80 there, in squid with SSL_ports"
            in (await Setup(ca, parent(proxy.port)).failure("http://up.test", 80)).detail
        )
        assert "SSL_ports" not in (await Setup(ca, parent(proxy.port)).failure()).detail


@pytest.mark.parametrize("pieces", [1, 7, len(ESTABLISHED) + 3])
@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
async def test_bytes_after_the_head_belong_to_the_upstream(
    ca: CertificateAuthority, pieces: int, proxy_scheme: str
) -> None:
    """However the response is cut, no byte is lost and none is doubled."""
    stream = ESTABLISHED + b"SSH-2.0-upstream\r\n"

    async def respond(head: bytes, writer: asyncio.StreamWriter) -> bool:
        for start in range(0, len(stream), pieces):
            writer.write(stream[start : start + pieces])
            await writer.drain()
            await asyncio.sleep(0)
        return False

    async with (
        assert_no_leaks(),
        ScriptedProxy(respond=respond, ssl_context=tls_of(ca, proxy_scheme, "proxy.test")) as proxy,  # type: ignore[arg-type]
    ):
        connection = await Setup(ca, parent(proxy.port, proxy_scheme, trust=ca.trust)).connect("http://up.test", 22)
        assert await connection.until_received(18) == b"SSH-2.0-upstream\r\n"
        connection.transport.abort()
        await connection.until_lost()


async def test_bytes_that_the_proxy_adds_before_tls_are_no_upstream(ca: CertificateAuthority) -> None:
    """Injected plain bytes break the handshake."""
    async with ScriptedProxy(respond=answer(ESTABLISHED + OK)) as proxy:
        assert summary(await Setup(ca, parent(proxy.port)).failure()) == (
            "upstream_tls_failed",
            502,
            "tls_protocol_error",
        )


async def test_proxy_that_poses_as_the_upstream_is_refused(ca: CertificateAuthority) -> None:
    """The certificate is verified for the host, not for the authority of the CONNECT."""
    async with (
        RawUpstream(ssl_context=ca.server_context("93.184.215.14", "proxy.test")) as upstream,
        ScriptedProxy(upstream.port) as proxy,
    ):
        problem = await Setup(ca, parent(proxy.port)).failure()
    assert summary(problem) == ("upstream_tls_failed", 502, "tls_certificate_error")


async def test_https_proxy_is_verified(ca: CertificateAuthority) -> None:
    async with ScriptedProxy(ssl_context=ca.server_context("other.test")) as proxy:
        setup = Setup(ca, parent(proxy.port, "https", trust=ca.trust, authorization=BASIC))
        problem = await setup.failure()
        assert proxy.heads == []
    assert summary(problem) == ("parent_proxy_failed", 502, "tls_certificate_error")
    assert problem.detail == "the parent proxy's certificate is refused: it is for another host name"
    async with ScriptedProxy(ssl_context=ca.server_context("proxy.test")) as proxy:
        problem = await Setup(ca, parent(proxy.port, "https")).failure()
    assert problem.detail.endswith(": its issuer is not trusted; set `trusted_ca` of `proxy` to the CA that signed it")
    async with plain_server(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        problem = await Setup(ca, parent(port, "https", trust=ca.trust)).failure()
    assert summary(problem) == ("parent_proxy_failed", 502, "tls_protocol_error")
    assert problem.detail == f"the parent proxy does not speak TLS on this port: {REMEDY}"


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_proxy_that_closes_is_a_problem(ca: CertificateAuthority, end: str) -> None:
    async def respond(head: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 ")
        getattr(writer.transport, end)()
        return False

    async with ScriptedProxy(respond=respond) as proxy:
        problem = await Setup(ca, parent(proxy.port)).failure()
    assert summary(problem) == ("parent_proxy_failed", 502, "connection_terminated")
    assert problem.detail.endswith(REMEDY)


async def test_unreachable_proxy_is_a_problem_of_its_own(ca: CertificateAuthority) -> None:
    refused = await Setup(ca, parent(free_port())).failure()
    assert summary(refused) == ("parent_proxy_failed", 502, "connection_refused")
    assert refused.detail == "the parent proxy refused the connection"
    with Blackhole("127.0.0.1") as hole:
        setup = Setup(ca, parent(hole.port))
        assert summary(await setup.failure(timeout=0.1)) == ("parent_proxy_failed", 504, "connection_timeout")
    assert setup.dialer.proxy_connects == {"connection_timeout": 1}


async def test_unknown_name_of_the_proxy_is_a_problem_of_its_own(ca: CertificateAuthority) -> None:
    def absent(name: str) -> tuple[()]:
        raise socket.gaierror(socket.EAI_NONAME, "secret text")

    setup = Setup(ca, parent(3128, host="absent.test"))
    setup.dialer = Dialer(setup.rules, resolver=Resolver(setup.rules, hosts_file=HostsFile(), lookup=absent))
    problem = await setup.failure()
    assert summary(problem) == ("parent_proxy_failed", 502, "dns_error")
    assert problem.detail == "the parent proxy's host name has no address in DNS"
    problem = await setup.failure("https://other.test")
    assert summary(problem) == ("upstream_unreachable", 502, "dns_error")
    assert "set `resolve: proxy`" in problem.detail


@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
async def test_silence_after_connect_does_not_blame_the_proxy(ca: CertificateAuthority, proxy_scheme: str) -> None:
    """squid waits for an upstream for a minute."""
    async with ScriptedProxy(respond=answer(b""), ssl_context=tls_of(ca, proxy_scheme, "proxy.test")) as proxy:  # type: ignore[arg-type]
        setup = Setup(ca, parent(proxy.port, proxy_scheme, trust=ca.trust))
        problem = await setup.failure(timeout=0.3)
    assert summary(problem) == ("upstream_timeout", 504, "connection_timeout")
    assert setup.dialer.proxy_connects == {"upstream_timeout": 1}


async def test_upstream_that_stalls_in_tls_is_an_upstream_timeout(ca: CertificateAuthority) -> None:
    async with ScriptedProxy(respond=answer(ESTABLISHED)) as proxy:
        setup = Setup(ca, parent(proxy.port))
        assert summary(await setup.failure(timeout=0.2)) == ("upstream_timeout", 504, "connection_timeout")
    assert setup.dialer.proxy_connects == {"ok": 1}


async def test_cancelled_connection_leaves_nothing_open(ca: CertificateAuthority) -> None:
    async with ScriptedProxy(respond=answer(b"")) as proxy:
        setup = Setup(ca, parent(proxy.port))
        async with assert_no_leaks():
            task = asyncio.create_task(setup.connect("https://up.test"))
            while not proxy.heads:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_second_address_is_tried_if_the_proxy_cannot_reach_the_first(ca: CertificateAuthority) -> None:
    """One of each family, and no more."""

    async def without_ipv6(head: bytes, writer: asyncio.StreamWriter) -> bool:
        if b"[" in head:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
            return False
        return await establish(head, writer)

    async with assert_no_leaks(), RawUpstream() as upstream, ScriptedProxy(upstream.port, without_ipv6) as proxy:
        setup = Setup(ca, parent(proxy.port))
        connection = await setup.connect("http://dual.test", 80)
        assert [head.split()[1] for head in proxy.heads] == [
            b"[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:80",
            b"93.184.215.14:80",
        ]
        assert setup.dialer.proxy_connects == {"ok": 1}
        connection.transport.abort()
        await connection.until_lost()
    async with ScriptedProxy(respond=answer(b"HTTP/1.1 503 \r\n\r\n")) as proxy:
        await Setup(ca, parent(proxy.port)).failure("http://dual.test", 80)
        assert len(proxy.heads) == 2


async def exchange(setup: Setup, url: str, port: int, **more: object) -> None:
    """Send a request and read the response."""
    connection = await setup.connect(url, port, **more)  # type: ignore[arg-type]
    await connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await connection.response()
    connection.transport.abort()
    await connection.until_lost()


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("http://localhost", NoProxy()),
        ("http://127.0.0.1", NoProxy()),
        ("http://0x7f.1", NoProxy()),
        ("http://::ffff:127.0.0.1", NoProxy()),
        ("http://self.test", NoProxy()),
        ("http://proxy.test", NoProxy(hosts=frozenset({"proxy.test"}))),
        ("http://proxy.test.", NoProxy(hosts=frozenset({"proxy.test"}))),
        ("http://proxy.test", NoProxy(suffixes=(".test",))),
        ("http://self.test", NoProxy(networks=(ip_network("127.0.0.0/8"),))),
    ],
)
@pytest.mark.parametrize("resolves", [False, True])
async def test_target_is_dialled_directly(
    ca: CertificateAuthority, url: str, no_proxy: NoProxy, resolves: bool
) -> None:
    """Those of this machine always are: at the proxy, they would be the proxy's own services."""
    hosts = {**HOSTS, "proxy.test.": ("127.0.0.1",)}
    async with assert_no_leaks(), RawUpstream() as upstream, ScriptedProxy() as proxy:
        setup = Setup(ca, parent(proxy.port, no_proxy=no_proxy, resolves=resolves), hosts=hosts)
        await exchange(setup, url, upstream.port)
        assert len(upstream.requests) == 1
        assert proxy.heads == []
        assert setup.dialer.proxy_connects == {}


async def test_call_in_the_clear_stays_on_this_machine(ca: CertificateAuthority) -> None:
    """Calls for tokens with http:// may only reach loopback addresses, proxy or not."""
    async with ScriptedProxy() as proxy:
        setup = Setup(ca, parent(proxy.port, resolves=True))
        with pytest.raises(ProblemError, match="destination_denied"):
            await setup.connect("http://up.test", 80, loopback_only=True)
        assert proxy.heads == []


async def test_network_of_no_proxy_matches_each_address(ca: CertificateAuthority) -> None:
    """A name with a direct and another address is dialled at the direct one only."""
    async with ScriptedProxy() as proxy:
        no_proxy = NoProxy(networks=(ip_network("127.0.0.0/8"),))
        setup = Setup(ca, parent(proxy.port, no_proxy=no_proxy))
        problem = await setup.failure("http://self.test", free_port())
        assert summary(problem) == ("upstream_unreachable", 502, "connection_refused")
        assert proxy.heads == []


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://api.example.com", b"api.example.com:443"),
        ("https://up.test", b"93.184.215.14:443"),
        ("https://0x5db8d70e", b"93.184.215.14:443"),
        ("https://2606:2800:21f:cb07:6820:80da:af6b:8b2c", b"[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443"),
        ("https://::ffff:5db8:d70e", b"93.184.215.14:443"),
        ("https://64:ff9b::5db8:d70e", b"93.184.215.14:443"),
    ],
)
async def test_proxy_that_resolves_receives_names_but_checked_literals(
    ca: CertificateAuthority, url: str, authority: bytes
) -> None:
    """A name with addresses in the config is no name for the proxy."""
    async with ScriptedProxy(respond=answer(b"HTTP/1.1 403 \r\n\r\n")) as proxy:
        await Setup(ca, parent(proxy.port, resolves=True)).failure(url)
        assert [head.split()[1] for head in proxy.heads] == [authority]


@pytest.mark.parametrize(
    "host",
    [
        "intranet",
        "metadata.google.internal",
        "metadata.google.internal.",
        "printer.local",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1.",
        "169.254.169.254.",
        "1.2.3.4.5",
        "x.0x7f000001",
    ],
)
async def test_local_name_is_not_left_to_the_proxy(ca: CertificateAuthority, host: str) -> None:
    async with ScriptedProxy() as proxy:
        problem = await Setup(ca, parent(proxy.port, resolves=True)).failure(f"https://{host}")
        assert (problem.code, problem.denial) == ("destination_denied", "local_name")
        assert problem.detail.endswith("write the full name, or add the host to `network.hosts` or `no_proxy`")
        assert proxy.heads == []


@pytest.mark.parametrize(
    "url", ["https://169.254.169.254", "https://10.0.0.1", "https://::ffff:a00:1", "https://private.test"]
)
@pytest.mark.parametrize("resolves", [False, True])
async def test_forbidden_address_is_denied_before_the_proxy(ca: CertificateAuthority, url: str, resolves: bool) -> None:
    async with ScriptedProxy() as proxy:
        problem = await Setup(ca, parent(proxy.port, resolves=resolves)).failure(url)
        assert problem.code == "destination_denied"
        assert proxy.heads == []


async def test_names_that_others_choose_are_checked(ca: CertificateAuthority) -> None:
    """The proxy does not resolve the targets of stored integrations and of callers."""

    def lookup(name: str) -> tuple[object, ...]:
        return (ip_address("10.0.0.5"),)

    async with ScriptedProxy() as proxy:
        setup = Setup(ca, parent(proxy.port, resolves=True))
        resolver = Resolver(setup.rules, hosts_file=HostsFile(), lookup=lookup)  # type: ignore[arg-type]
        setup.dialer = Dialer(setup.rules, resolver=resolver)
        with pytest.raises(ProblemError, match="destination_denied"):
            await setup.connect("https://10-0-0-5.example.com", resolve_locally=True)
        assert proxy.heads == []


async def test_address_of_the_proxy_must_be_allowed(ca: CertificateAuthority) -> None:
    problem = await Setup(ca, parent(3128, host="private-proxy.test")).failure()
    assert summary(problem) == ("parent_proxy_failed", 502, "proxy_configuration_error")
    assert problem.detail == "the parent proxy's host has only addresses that may not be dialled (private)"


async def test_networks_of_an_integration_allow_its_own_proxy_only(ca: CertificateAuthority) -> None:
    async with RawUpstream() as upstream, ScriptedProxy(upstream.port) as proxy:
        own = parent(proxy.port)
        setup = Setup(ca, own, allow_private=())
        with pytest.raises(ProblemError, match="parent_proxy_failed"):
            await setup.connect("http://up.test", 80, allow_private=LOOPBACK)
        setup = Setup(ca, None, allow_private=())
        await exchange(setup, "http://up.test", 80, allow_private=LOOPBACK, proxy=own)
        assert len(proxy.heads) == 1


async def test_stored_integrations_reach_a_private_proxy(ca: CertificateAuthority) -> None:
    """The network's `allow_private` is for the proxy, the store's for their targets."""
    async with RawUpstream() as upstream, ScriptedProxy(upstream.port) as proxy:
        setup = Setup(ca, parent(proxy.port))
        await exchange(setup, "http://up.test", 80, allow_private=NetworkOverride(), resolve_locally=True)
        assert len(proxy.heads) == 1


async def test_own_listener_is_no_proxy(ca: CertificateAuthority) -> None:
    async with ScriptedProxy() as proxy:
        setup = Setup(ca, parent(proxy.port))
        setup.dialer.own_listeners = (OwnListener(ip_address("127.0.0.1"), proxy.port),)
        problem = await setup.failure()
        assert summary(problem) == ("parent_proxy_failed", 502, "proxy_configuration_error")
        assert proxy.heads == []


@pytest.mark.parametrize("host", ["proxy.test", "127.0.0.1", "localhost"])
@pytest.mark.parametrize("choice", [None, "none"])
async def test_proxy_is_no_target(ca: CertificateAuthority, host: str, choice: Literal["none"] | None) -> None:
    """A caller could make requests as Sidekey, through an address that is allowed for the proxy alone."""
    async with ScriptedProxy() as proxy:
        setup = Setup(ca, parent(proxy.port))
        with pytest.raises(ProblemError) as failed:
            await setup.connect(f"http://{host}", proxy.port, proxy=choice)
        assert failed.value.problem.denial == "parent_proxy"
        assert proxy.heads == []


@pytest.mark.parametrize("hangs", [False, True])
async def test_unresolvable_proxy_does_not_stop_targets_at_its_port(ca: CertificateAuthority, *, hangs: bool) -> None:
    """It may be the proxy of another integration. Once Sidekey has resolved it, its last addresses are no target."""
    release = threading.Event()
    addresses = {name: (ip_address("127.0.0.1"),) for name in ("up.example.", "proxy.example.")}

    def lookup(name: str) -> tuple[Address, ...]:
        if name not in addresses:
            if hangs:
                release.wait(DEADLINE)
            raise socket.gaierror(socket.EAI_NONAME, "secret text")
        return addresses[name]

    async with RawUpstream() as upstream:
        rules = {"hosts": {}, "proxies": frozenset({Authority("proxy.example", upstream.port)})}
        known, unknown = Setup(ca, None, **rules), Setup(ca, None, **rules)
        for setup in (known, unknown):
            resolver = Resolver(setup.rules, hosts_file=HostsFile(), lookup=lookup)
            setup.dialer = Dialer(setup.rules, resolver=resolver)
        try:
            with pytest.raises(ProblemError, match="destination_denied"):
                await known.connect("http://up.example", upstream.port)
            del addresses["proxy.example."]
            await exchange(unknown, "http://up.example", upstream.port)
            for host in ("up.example", "proxy.example", "127.0.0.1"):
                with pytest.raises(ProblemError) as failed:
                    await known.connect(f"http://{host}", upstream.port)
                assert failed.value.problem.denial == "parent_proxy"
        finally:
            release.set()
            for thread in threading.enumerate():
                if thread.name == "sidekey-dns":
                    await asyncio.to_thread(thread.join)


async def test_integration_connects_directly_or_through_its_own_proxy(ca: CertificateAuthority) -> None:
    async with assert_no_leaks(), RawUpstream() as upstream, ScriptedProxy(upstream.port) as proxy:
        unused = parent(free_port())
        hosts = {**HOSTS, "up.test": ("127.0.0.1",)}
        setup = Setup(ca, unused, hosts=hosts)
        await exchange(setup, "http://up.test", upstream.port, proxy="none")
        assert proxy.heads == []
        setup = Setup(ca, unused)
        await exchange(setup, "http://up.test", 80, proxy=parent(proxy.port))
        assert len(proxy.heads) == 1


async def test_unreadable_password_makes_no_direct_connection(ca: CertificateAuthority) -> None:
    async with ScriptedProxy() as proxy:
        problem = await Setup(ca, parent(proxy.port, problem="proxy.password: secret.txt does not exist")).failure()
        assert summary(problem) == ("credential_unavailable", 502, "proxy_configuration_error")
        assert problem.detail == "proxy.password: secret.txt does not exist"
        assert proxy.heads == []


async def test_connect_has_via_so_that_a_loop_ends(ca: CertificateAuthority) -> None:
    """A service address that leads back to Sidekey is no listener of this machine."""
    async with ScriptedProxy(respond=answer(b"HTTP/1.1 403 \r\n\r\n")) as proxy:
        setup = Setup(ca, parent(proxy.port))
        setup.dialer.instance = "abcd"
        setup.dialer.prepare(Snapshot({}, network=setup.rules))()
        await setup.failure()
        setup.dialer.prepare(Snapshot({}, network=setup.rules, via=False))()
        await setup.failure()
        assert [b"\r\nVia: 1.1 sidekey (abcd)\r\n" in head for head in proxy.heads] == [True, False]


async def test_source_address_is_that_of_the_connection_to_the_proxy(ca: CertificateAuthority) -> None:
    peers: list[str] = []

    async def respond(head: bytes, writer: asyncio.StreamWriter) -> bool:
        peers.append(writer.get_extra_info("peername")[0])
        return await establish(head, writer)

    async with RawUpstream() as upstream, ScriptedProxy(upstream.port, respond) as proxy:
        setup = Setup(ca, parent(proxy.port), source_address=ip_address("127.0.0.9"))
        # An upstream of the other family is the proxy's to reach.
        await exchange(setup, "http://2606:2800:21f:cb07:6820:80da:af6b:8b2c", 80)
    assert peers == ["127.0.0.9"]


def test_credential_is_in_no_repr() -> None:
    proxy = parent(1, authorization=BASIC)
    assert BASIC not in repr(NetworkRules(proxy=proxy))
    with pytest.raises(TypeError):
        proxy.__reduce__()
