"""Dialling real sockets: connections, errors, and the absence of leaks."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from operator import methodcaller

import pytest

from sidekey.errors import ProblemError
from sidekey.network.dial import Dialer
from sidekey.network.guard import OwnListener
from sidekey.network.resolve import HostsFile, Resolver
from sidekey.policy.addresses import Address, NetworkOverride
from sidekey.policy.urls import Origin
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import NetworkRules, Snapshot, Trust
from support.blackhole import Blackhole
from support.dialling import HOSTS, LOOPBACK, RULES, LoopbackDialer, RecordingProtocol, summary, upstream
from support.leak_check import assert_no_leaks
from support.ports import free_port
from support.private_ca import Authority
from support.raw_connection import DEADLINE


@pytest.fixture
def silent() -> Iterator[int]:
    """Yield the port of a listener that accepts connections and never sends a byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_http_origin_is_connected_without_nagle(dial: LoopbackDialer, silent: int) -> None:
    """To the address that was checked."""
    async with assert_no_leaks():
        connection = await dial.connect("http://up.test", silent)
        assert connection.transport.get_extra_info("peername") == ("127.0.0.1", silent)
        assert connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.transport.abort()


@pytest.mark.parametrize("host", ["up.test", "127.0.0.1", "0x7f.1", "2130706433"])
async def test_https_origin_is_verified_by_its_name_or_address(dial: LoopbackDialer, ca: Authority, host: str) -> None:
    """Any spelling of a literal means its address."""
    async with upstream(ca.server_context("up.test", "127.0.0.1")) as port:
        connection = await dial.connect(f"https://{host}", port)
        tls = connection.transport.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.3"
        assert tls.selected_alpn_protocol() == "http/1.1"
        connection.transport.abort()


async def test_certificate_for_another_host_is_refused(dial: LoopbackDialer, ca: Authority) -> None:
    async with upstream(ca.server_context("other.test")) as port:
        problem = await dial.failure("https://up.test", port)
        assert summary(problem) == ("upstream_tls_failed", 502, "tls_certificate_error")
        assert "another host name" in problem.detail
        by_address = await dial.failure("https://127.0.0.1", port)
        assert "another IP address" in by_address.detail


async def test_refused_connection_is_unreachable(dial: LoopbackDialer) -> None:
    """A closed port is 502 connection_refused."""
    problem = await dial.failure("http://up.test", free_port())
    assert summary(problem) == ("upstream_unreachable", 502, "connection_refused")


@pytest.mark.parametrize("url", ["http://up.test", "https://up.test"])
async def test_dropped_packets_time_out(dial: LoopbackDialer, url: str) -> None:
    """A SYN without a reply is 504 at the connect timeout."""
    with Blackhole("127.0.0.1") as hole:
        problem = await dial.failure(url, hole.port, 0.1)
    assert summary(problem) == ("upstream_timeout", 504, "connection_timeout")


async def test_unknown_name_is_unreachable(ca: Authority) -> None:
    """NXDOMAIN is 502 dns_error, and neither TCP nor TLS starts."""

    def absent(name: str) -> tuple[()]:
        raise socket.gaierror(socket.EAI_NONAME, "secret text")

    names = Resolver(RULES, hosts_file=HostsFile(), lookup=absent)
    problem = await LoopbackDialer(ca, resolver=names).failure("https://absent.test", 443)
    assert summary(problem) == ("upstream_unreachable", 502, "dns_error")


async def test_hanging_lookup_uses_the_connect_timeout(ca: Authority, release: threading.Event) -> None:
    """DNS without a response is 504 dns_timeout within the connect timeout."""

    def hang(name: str) -> tuple[()]:
        release.wait(DEADLINE)
        return ()

    names = Resolver(RULES, hosts_file=HostsFile(), lookup=hang)
    # The lookup goes on after the dial, for whoever asks next: it must have ended before nothing is left.
    asyncio.get_running_loop().call_later(2, release.set)
    problem = await LoopbackDialer(ca, resolver=names).failure("https://slow.test", 443, 0.1)
    assert summary(problem) == ("upstream_unreachable", 504, "dns_timeout")


async def test_second_address_is_used_if_the_first_refuses(dial: LoopbackDialer, silent: int) -> None:
    async with assert_no_leaks():
        connection = await dial.connect("http://dead-first.test", silent)
        assert connection.transport.get_extra_info("peername")[0] == "127.0.0.1"
        connection.transport.abort()


async def test_stalled_handshake_times_out(dial: LoopbackDialer, silent: int) -> None:
    """Silence after the ClientHello is 504 at the connect timeout."""
    problem = await dial.failure("https://up.test", silent, 0.1)
    assert summary(problem) == ("upstream_timeout", 504, "connection_timeout")


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"220 mail ESMTP\r\n"])
async def test_upstream_without_tls_is_a_protocol_error(dial: LoopbackDialer, greeting: bytes) -> None:
    """An https origin on a port without TLS is 502 tls_protocol_error."""
    async with upstream(greeting=greeting) as port:
        problem = await dial.failure("https://up.test", port)
    assert summary(problem) == ("upstream_tls_failed", 502, "tls_protocol_error")
    assert "does not speak TLS" in problem.detail


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_closed_handshake_is_a_protocol_error(dial: LoopbackDialer, end: str) -> None:
    """A FIN or a reset instead of a ServerHello is 502 tls_protocol_error."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: RecordingProtocol(methodcaller(end)), "127.0.0.1", 0)
    async with server:
        problem = await dial.failure("https://up.test", server.sockets[0].getsockname()[1])
    assert summary(problem) == ("upstream_tls_failed", 502, "tls_protocol_error")


async def test_forbidden_addresses_of_a_name_are_skipped(dial: LoopbackDialer, silent: int) -> None:
    """Only the permitted address is dialled."""
    connection = await dial.connect("http://mixed.test", silent)
    assert connection.transport.get_extra_info("peername")[0] == "127.0.0.1"
    connection.transport.abort()


@pytest.mark.parametrize(
    "url", ["https://private.test", "http://10.0.0.1", "http://0xa.1", "http://::1", "http://::ffff:a00:1"]
)
async def test_forbidden_destination_is_denied(dial: LoopbackDialer, url: str) -> None:
    """With 403, for names and for literals in every spelling."""
    problem = await dial.failure(url, 80)
    assert summary(problem) == ("destination_denied", 403, "destination_ip_prohibited")


@pytest.mark.parametrize(
    ("host", "reason"), [("private.test", "may not be dialled"), ("up.test", ""), ("nowhere.invalid", "")]
)
async def test_denial_is_found_without_a_connection(dial: LoopbackDialer, host: str, reason: str) -> None:
    """A name without an address is not denied."""
    denial = await dial.dialer.find_denial(Origin("http", host, 80), Egress())
    assert (reason in denial, bool(denial)) == (True, bool(reason))


async def test_allow_private_of_an_integration_adds_to_the_configs(ca: Authority, silent: int) -> None:
    """Metadata addresses stay forbidden."""
    everything = (ip_network("0.0.0.0/0"),)
    dial = LoopbackDialer(ca, NetworkRules(hosts=HOSTS))
    assert summary(await dial.failure("http://up.test", silent)) == (
        "destination_denied",
        403,
        "destination_ip_prohibited",
    )
    connection = await dial.connect("http://up.test", silent, allow_private=everything)
    connection.transport.abort()
    with pytest.raises(ProblemError, match="destination_denied"):
        await dial.connect("http://metadata.test", 80, allow_private=everything)


async def test_own_listener_is_never_dialled(dial: LoopbackDialer) -> None:
    """Whatever the rules allow."""
    with socket.create_server(("127.0.0.1", 0)) as own:
        dial.dialer.own_listeners = (OwnListener(ip_address("127.0.0.1"), own.getsockname()[1]),)
        problem = await dial.failure("http://up.test", own.getsockname()[1])
    assert summary(problem) == ("destination_denied", 403, "destination_ip_prohibited")


async def test_proxy_variables_of_the_environment_are_ignored(
    dial: LoopbackDialer, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in between would see the credential."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{free_port()}")
    connection = await dial.connect("http://up.test", silent)
    assert connection.transport.get_extra_info("peername") == ("127.0.0.1", silent)
    connection.transport.abort()


async def test_unusable_ca_file_fails_https_only(dial: LoopbackDialer, silent: int, ca: Authority) -> None:
    dial.trust = Trust("file", str(ca.bundle.with_name("absent.pem")))
    problem = await dial.failure("https://up.test", silent)
    assert summary(problem) == ("credential_unavailable", 502, "proxy_configuration_error")
    (await dial.connect("http://up.test", silent)).transport.abort()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_failing_factory_leaves_no_socket_open(dial: LoopbackDialer, silent: int, scheme: str) -> None:
    def fail() -> RecordingProtocol:
        raise ZeroDivisionError

    async with assert_no_leaks():
        with pytest.raises(ZeroDivisionError):
            await dial.dialer.connect(
                fail,
                Origin(scheme, "up.test", silent),
                Egress(dial.trust),
                timeout=DEADLINE,
            )


@pytest.mark.parametrize(
    "url", ["http://up.test", "https://up.test", "http://dead-first.test", "https://dead-first.test"]
)
async def test_dial_cancelled_at_any_point_leaves_no_socket_or_task(
    dial: LoopbackDialer, ca: Authority, url: str
) -> None:
    """In lookup, TCP or TLS."""
    context = ca.server_context("up.test", "dead-first.test") if url.startswith("https") else None
    async with upstream(context) as port:
        for turns in range(40):
            async with assert_no_leaks():
                task = asyncio.create_task(dial.connect(url, port))
                for _ in range(turns):
                    await asyncio.sleep(0)
                if not task.cancel():
                    (await task).transport.abort()
                    continue
                with pytest.raises(asyncio.CancelledError):
                    await task


async def test_parallel_dials_do_not_disturb_each_other(dial: LoopbackDialer, ca: Authority) -> None:
    async with (
        upstream(ca.server_context("up.test")) as good,
        upstream(ca.server_context("other.test")) as bad,
        assert_no_leaks(),
    ):
        dials = [dial.connect("https://up.test", good if number % 2 else bad) for number in range(60)]
        ended = await asyncio.gather(*dials, return_exceptions=True)
        for number, result in enumerate(ended):
            if number % 2:
                assert isinstance(result, RecordingProtocol)
                result.transport.abort()
            else:
                assert isinstance(result, ProblemError)
                assert result.problem.error == "tls_certificate_error"


def test_checked_address_is_the_dialled_one() -> None:
    """An IPv4-mapped address is checked as IPv4."""
    rules = NetworkRules(hosts={"mapped.test": ("::ffff:127.0.0.1",)}, allow_private=LOOPBACK)

    async def peer(port: int) -> str:
        connection = await Dialer(rules).connect(
            RecordingProtocol,
            Origin("http", "mapped.test", port),
            Egress(),
            timeout=DEADLINE,
        )
        result = str(connection.transport.get_extra_info("peername")[0])
        connection.transport.abort()
        return result

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert ip_address(asyncio.run(peer(listener.getsockname()[1]))) == ip_address("::ffff:127.0.0.1")


def adopt(dial: LoopbackDialer, rules: NetworkRules) -> None:
    """Apply these rules."""
    dial.dialer.prepare(Snapshot(integrations={}, network=rules))()


async def test_new_rules_apply_to_the_next_dial(dial: LoopbackDialer, silent: int) -> None:
    (await dial.connect("http://up.test", silent)).transport.abort()
    adopt(dial, NetworkRules(hosts=HOSTS))
    assert summary(await dial.failure("http://up.test", silent))[0] == "destination_denied"
    adopt(dial, NetworkRules(hosts={"else.test": ("127.0.0.1",)}, allow_private=LOOPBACK))
    (await dial.connect("http://else.test", silent)).transport.abort()


async def test_dial_under_way_keeps_its_rules(ca: Authority, silent: int, release: threading.Event) -> None:
    """They check the result of its lookup."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def slow(name: str) -> tuple[Address, ...]:
        loop.call_soon_threadsafe(asked.set)
        release.wait(DEADLINE)
        return (ip_address("127.0.0.1"),)

    dial = LoopbackDialer(ca, resolver=Resolver(RULES, hosts_file=HostsFile(), lookup=slow))
    connecting = asyncio.create_task(dial.connect("http://slow.test", silent))
    await asked.wait()
    adopt(dial, NetworkRules())
    release.set()
    (await connecting).transport.abort()
    assert summary(await dial.failure("http://slow.test", silent))[0] == "destination_denied"


async def test_equal_rules_keep_a_lookup_under_way(ca: Authority, silent: int, release: threading.Event) -> None:
    """The next request for the name waits for it."""
    asked: list[str] = []

    def slow(name: str) -> tuple[Address, ...]:
        asked.append(name)
        release.wait(DEADLINE)
        return (ip_address("127.0.0.1"),)

    dial = LoopbackDialer(ca, resolver=Resolver(RULES, hosts_file=HostsFile(), lookup=slow))
    first = asyncio.create_task(dial.connect("http://slow.test", silent))
    while not asked:
        await asyncio.sleep(0)
    adopt(dial, NetworkRules(hosts=dict(HOSTS), allow_private=LOOPBACK))
    second = asyncio.create_task(dial.connect("http://slow.test", silent))
    await asyncio.sleep(0)
    release.set()
    for connecting in (first, second):
        (await connecting).transport.abort()
    assert asked == ["slow.test."]


async def test_network_override_replaces_the_rules_of_the_config(ca: Authority, silent: int) -> None:
    """A stored integration must not reach what the operator allowed for files."""
    loopback = (ip_network("127.0.0.0/8"),)
    dial = LoopbackDialer(ca, NetworkRules(hosts=HOSTS, allow_private=loopback))
    connection = await dial.connect("http://up.test", silent)
    connection.transport.abort()
    with pytest.raises(ProblemError, match="destination_denied"):
        await dial.connect("http://up.test", silent, allow_private=NetworkOverride())
    connection = await dial.connect("http://up.test", silent, allow_private=NetworkOverride(loopback))
    connection.transport.abort()
