"""Requests, tunnels and calls for tokens through squid, mitmproxy and a scripted proxy."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from sidekey.config.addresses import describe_route
from sidekey.policy.urls import Origin
from sidekey.snapshot.egress import Egress
from sidekey.store.audit import AuditEntry
from sidekey.store.state import Put
from support import programs
from support.blackhole import Blackhole
from support.files import replace
from support.parent_proxy import USER, ScriptedProxy, Squid, own_address
from support.plane import eventually
from support.ports import free_port
from support.private_ca import Authority
from support.raw_connection import DEADLINE, RawConnection, connect
from support.serving import problem, serving
from support.sidekey_process import run_cli
from support.stored import saved
from support.upstream import OK, RawUpstream

TOKEN: Final = json.dumps({"access_token": "t", "token_type": "Bearer", "expires_in": 3600}).encode()
SECRETS: Final = {"SECRET": "upstream-secret", "PROXY_PASSWORD": USER[1]}
PUBLIC: Final = "93.184.215.14"
"""An address to which no test connects."""


def head(proxy: str, *, own: str = "127.0.0.2", ports: str = "443", connect: str = "45s", more: str = "") -> str:
    """Build the beginning of a config for `serving`. `proxy` is a mapping in YAML."""
    text = f"""\
version: 1
listen: {{proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}}
network:
  allow_private: [127.0.0.1/32, {own}/32]
  trusted_ca: {{file: <bundle>}}
  hosts: <hosts>
  proxy: {proxy}
forward: {{unmatched: pass, pass_ports: [{ports}]}}
log: {{level: debug, access: all}}
timeouts: {{connect: {connect}, request_head: 45s, response: 45s}}
{more}integrations:
"""
    escaped = text.replace("{", "{{").replace("}", "}}")
    return escaped.replace("<bundle>", "{bundle}").replace("<hosts>", "{hosts}")


def basic(name: str, url: str, *more: str) -> str:
    """Build an integration with HTTP Basic."""
    keys = (f"endpoint_prefix: '{url}'", *more, "auth: {type: basic, username: u, password: {env: SECRET}}")
    return f"  {name}: {{{', '.join(keys)}}}\n"


def oauth(name: str, url: str) -> str:
    """Build an integration that calls for a token."""
    auth = f"type: oauth2, token_endpoint: '{url}/token', client_id: c, client_secret: {{env: SECRET}}"
    return f"  {name}: {{endpoint_prefix: '{url}/api', auth: {{{auth}}}}}\n"


async def serve_tokens(connection: RawConnection) -> None:
    """Respond to /token with a token, and to all else with OK."""
    while True:
        if (await connection.request()).target == b"/token":
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(TOKEN), TOKEN))
        else:
            await connection.send(OK)


async def test_squid_carries_requests_calls_and_tunnels(ca: Authority, tmp_path: Path) -> None:
    """To the address that Sidekey has checked, at any port that squid allows."""
    own = own_address()
    tls = ca.server_context("up.test")
    async with (
        RawUpstream(serve_tokens, ssl_context=tls, host=own) as upstream,
        RawUpstream(host=own) as plain,
    ):
        with Squid(upstream.port, plain.port) as squid:
            text = basic("it", f"https://up.test:{upstream.port}") + basic("plain", f"http://up.test:{plain.port}")
            text += oauth("oauth", f"https://up.test:{upstream.port}")
            start = head(f'{{url: "http://127.0.0.1:{squid.port}"}}', own=own, ports=str(plain.port))
            hosts = {"up.test": [own], "other.test": [own]}
            async with serving(text, tmp_path, ca, hosts=hosts, environ=SECRETS, head=start) as sidekey:
                for name in ("it", "it", "plain", "oauth"):
                    assert (await sidekey.reverse("/x", name=name)).status == 200
                async with connect(sidekey.port) as caller:
                    authority = f"other.test:{plain.port}"
                    await caller.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
                    await caller.until_contains(b"\r\n\r\n")
                    await caller.send(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
                    await caller.until_contains(b"ok")
                # The first, the second and the last request share a connection.
                series = 'sidekey_parent_proxy_connects_total{outcome="ok"}'
                assert await sidekey.metric(series) == 4
            authorities = {(result, target) for result, _, target in squid.requests(4)}
        credential = b"Basic " + b64encode(b"u:upstream-secret")
        assert [request.values(b"authorization") for request in plain.requests] == [[credential], []]
    assert authorities == {("TCP_TUNNEL/200", f"{own}:{port}") for port in (upstream.port, plain.port)}


async def test_squid_requires_the_password_that_a_reload_rotates(ca: Authority, tmp_path: Path) -> None:
    """The old password fails with a code of its own, and neither is in a log or a response."""
    password = tmp_path / "password"
    password.write_text("old-password\n")
    async with RawUpstream(ssl_context=ca.server_context("up.test")) as upstream:
        with Squid(upstream.port, user=USER, hosts={"up.example.com": "127.0.0.1"}) as squid:
            url = f"http://127.0.0.1:{squid.port}"
            proxy = f'{{url: "{url}", username: {USER[0]}, password: {{file: password}}, resolve: proxy}}'
            text = basic("it", f"https://up.example.com:{upstream.port}")
            async with serving(text, tmp_path, ca, environ=SECRETS, head=head(proxy)) as sidekey:
                failed = await sidekey.reverse("/")
                assert (failed.status, problem(failed)["code"]) == (502, "parent_proxy_failed")
                assert "rejected the `username` and `password`" in problem(failed)["detail"]
                assert failed.values(b"proxy-status") == [b"sidekey; error=proxy_configuration_error"]
                assert failed.values(b"proxy-authenticate") == []
                replace(password, USER[1])
                sidekey.hang_up()
                await sidekey.logged("config changed")
                refused = await sidekey.reverse("/")
                # The certificate is for another name: TLS with the upstream has begun.
                assert problem(refused)["code"] == "upstream_tls_failed"
                counts = [
                    await sidekey.metric(f'sidekey_parent_proxy_connects_total{{outcome="{outcome}"}}')
                    for outcome in ("proxy_configuration_error", "ok")
                ]
                assert counts == [1, 1]
                [change] = [line for line in sidekey.lines() if line["event"] == "config changed"]
                assert change["changed_keys"] == ["network.proxy"]
                password.unlink()
                sidekey.hang_up()
                await sidekey.logged("new secret or CA file cannot be used; the previous one stays in use")
                assert problem(await sidekey.reverse("/"))["code"] == "upstream_tls_failed"
                logged = sidekey.log.read_text()
            assert [target for _, _, target in squid.requests(3)] == [f"up.example.com:{upstream.port}"] * 3
    for secret in ("old-password", USER[1], b64encode(b"sidekey:old-password").decode()):
        assert secret not in logged
        assert secret.encode() not in failed.body


async def test_tls_goes_through_the_tls_of_squid(ca: Authority, tmp_path: Path) -> None:
    """The name of the upstream is verified inside, that of the proxy outside."""
    async with RawUpstream(serve_tokens, ssl_context=ca.server_context("up.example.com")) as upstream:
        leaf = ca.leaf("proxy.test")
        with Squid(upstream.port, user=USER, hosts={"up.example.com": "127.0.0.1"}, leaf=leaf) as squid:
            url = f"https://proxy.test:{squid.port}"
            proxy = f'{{url: "{url}", username: {USER[0]}, password: {{env: PROXY_PASSWORD}}, resolve: proxy}}'
            text = oauth("it", f"https://up.example.com:{upstream.port}")
            hosts = {"proxy.test": ["127.0.0.1"]}
            async with serving(text, tmp_path, ca, hosts=hosts, environ=SECRETS, head=head(proxy)) as sidekey:
                for _ in range(2):
                    assert (await sidekey.reverse("/x", method="POST", body=b"x" * 300_000)).status == 200
            assert {result for result, _, _ in squid.requests(2)} == {"TCP_TUNNEL/200"}
        assert [request.target for request in upstream.requests] == [b"/token", b"/api/x", b"/api/x"]


async def test_denial_of_squid_names_the_remedy(ca: Authority, tmp_path: Path) -> None:
    """A port outside SSL_ports, and rules for host names that no address can match."""
    async with RawUpstream(ssl_context=ca.server_context("up.example.com")) as upstream:
        rules = "acl named dstdomain .example.com\nhttp_access deny !named"
        with Squid(upstream.port, hosts={"up.example.com": "127.0.0.1"}, rules=rules) as squid:
            proxy = f"http://127.0.0.1:{squid.port}"
            own = f'proxy: {{url: "{proxy}", resolve: proxy}}'
            text = basic("it", f"https://up.example.com:{upstream.port}", own)
            text += basic("address", f"https://up.test:{upstream.port}") + basic("port", "http://up.example.com", own)
            start, hosts = head(f'{{url: "{proxy}"}}'), {"up.test": [PUBLIC]}
            async with serving(text, tmp_path, ca, hosts=hosts, environ=SECRETS, head=start) as sidekey:
                assert (await sidekey.reverse("/")).status == 200
                by_address = problem(await sidekey.reverse("/", name="address"))
                by_port = problem(await sidekey.reverse("/", name="port"))
    assert by_address["code"] == by_port["code"] == "parent_proxy_failed"
    assert "if it allows host names only, set `resolve: proxy` of `proxy`" in by_address["detail"]
    assert "allow CONNECT to port 80 there, in squid with SSL_ports" in by_port["detail"]


async def test_upstream_that_squid_cannot_reach_does_not_blame_squid(ca: Authority, tmp_path: Path) -> None:
    """Whether it is refused at once, or squid waits for longer than Sidekey."""
    closed = free_port()
    with (
        Blackhole("127.0.0.1") as hole,
        Squid(closed, hole.port, hosts={"up.example.com": "127.0.0.1"}) as squid,
    ):
        text = basic("closed", f"https://up.example.com:{closed}")
        text += basic("hole", f"https://up.example.com:{hole.port}")
        start = head(f'{{url: "http://127.0.0.1:{squid.port}", resolve: proxy}}', connect="2s")
        async with serving(text, tmp_path, ca, environ=SECRETS, head=start) as sidekey:
            codes = [problem(await sidekey.reverse("/", name=name))["code"] for name in ("closed", "hole")]
            page = [
                await sidekey.metric(f'sidekey_parent_proxy_connects_total{{outcome="{outcome}"}}')
                for outcome in ("upstream_unreachable", "upstream_timeout")
            ]
    assert codes == ["upstream_unreachable", "upstream_timeout"]
    assert page == [1, 1]


@contextmanager
def mitmproxy(folder: Path, *options: str) -> Iterator[int]:
    """Run mitmproxy, which intercepts TLS, and return its port. Its CA is in `folder`."""
    port = free_port()
    command = [programs.require("mitmdump"), "--listen-host", "127.0.0.1", "-p", str(port), "-q"]
    command += ["--set", f"confdir={folder}", "--ssl-insecure", "--set", "connection_strategy=lazy", *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + DEADLINE
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("mitmdump does not start")
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_intercepts_tls_is_refused_unless_its_ca_is_trusted(
    scheme: str, ca: Authority, tmp_path: Path
) -> None:
    """Its own TLS may use the same CA, without a right to the upstream's name."""
    own, folder = own_address(), tmp_path / "mitm"
    async with RawUpstream(ssl_context=ca.server_context("up.test"), host=own) as upstream:
        with mitmproxy(folder, "--proxyauth", "mitm:password") as port:
            trust = f"{{file: {folder}/mitmproxy-ca-cert.pem}}"
            own_ca = f", trusted_ca: {trust}" if scheme == "https" else ""
            login = "username: mitm, password: {insecure_value: password}"
            proxy = f'{{url: "{scheme}://proxy.test:{port}", {login}{own_ca}}}'
            text = basic("it", f"https://up.test:{upstream.port}")
            text += basic("trusting", f"https://up.test:{upstream.port}", f"trusted_ca: {trust}")
            hosts = {"up.test": [own], "proxy.test": ["127.0.0.1"]}
            async with serving(text, tmp_path, ca, hosts=hosts, environ=SECRETS, head=head(proxy, own=own)) as sidekey:
                refused = problem(await sidekey.reverse("/"))
                assert (refused["code"], upstream.received) == ("upstream_tls_failed", [])
                assert (await sidekey.reverse("/", name="trusting")).status == 200
                assert await sidekey.metric('sidekey_parent_proxy_connects_total{outcome="ok"}') == 2
        assert b"proxy-authorization" not in upstream.received[0].lower()


async def test_integrations_with_different_proxies_share_no_connection(ca: Authority, tmp_path: Path) -> None:
    """Nor do a proxy and none. A reload closes the connections through the previous proxy."""
    async with (
        RawUpstream() as upstream,
        ScriptedProxy(upstream.port) as first,
        ScriptedProxy(upstream.port) as second,
    ):
        url = "http://up.test"
        text = basic("a", url) + basic("b", url, f'proxy: {{url: "http://127.0.0.1:{second.port}"}}')
        text += basic("c", f"http://direct.test:{upstream.port}", "proxy: none")
        start = head(f'{{url: "http://127.0.0.1:{first.port}"}}')
        hosts = {"up.test": [PUBLIC], "direct.test": ["127.0.0.1"]}
        async with serving(text, tmp_path, ca, hosts=hosts, environ=SECRETS, head=start) as sidekey:
            for name in ("a", "b", "c", "a", "b", "c"):
                assert (await sidekey.reverse("/", name=name)).status == 200
            assert (len(first.heads), len(second.heads)) == (1, 1)
            assert len(upstream.connections) == 3
            config = tmp_path / "sidekey.yaml"
            replace(config, config.read_text().replace(f":{first.port}", f":{second.port}", 1))
            sidekey.hang_up()
            await sidekey.logged("config changed")
            assert (await sidekey.reverse("/", name="a")).status == 200
            assert (len(first.heads), len(second.heads)) == (1, 2)
            await eventually(lambda: upstream.connections[0].ended)


async def test_passed_tunnel_loses_no_byte_that_came_with_the_response(ca: Authority, tmp_path: Path) -> None:
    """An upstream that speaks first may be read together with the proxy's response."""

    async def respond(request: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-upstream\r\n")
        return False

    async with ScriptedProxy(respond=respond) as proxy:
        start = head(f'{{url: "http://127.0.0.1:{proxy.port}"}}', ports="22")
        async with serving("  {}\n", tmp_path, ca, hosts={"up.test": [PUBLIC]}, head=start) as sidekey:
            for _ in range(5):
                async with connect(sidekey.port) as caller:
                    await caller.send(b"CONNECT up.test:22 HTTP/1.1\r\nHost: up.test:22\r\n\r\n")
                    received = await caller.until_contains(b"SSH-2.0-upstream\r\n")
                    assert received.endswith(b"\r\n\r\nSSH-2.0-upstream\r\n")


async def test_end_of_a_caller_ends_its_tunnel_through_tls(ca: Authority, tmp_path: Path) -> None:
    """TLS to the proxy cannot be closed in one direction. All bytes of the caller arrive first."""
    async with (
        RawUpstream(lambda connection: connection.until_lost()) as upstream,
        ScriptedProxy(upstream.port, ssl_context=ca.server_context("proxy.test")) as proxy,
    ):
        start = head(f'{{url: "https://proxy.test:{proxy.port}"}}', ports="22")
        hosts = {"up.test": [PUBLIC], "proxy.test": ["127.0.0.1"]}
        async with serving("  {}\n", tmp_path, ca, hosts=hosts, head=start) as sidekey:
            async with connect(sidekey.port) as caller:
                await caller.send(b"CONNECT up.test:22 HTTP/1.1\r\nHost: up.test:22\r\n\r\n")
                await caller.until_contains(b"\r\n\r\n")
                body = b"x" * 300_000
                await caller.send(body)
                caller.transport.write_eof()
                await caller.until_ended()
            assert await (await upstream.connection()).until_ended() == body
            series = 'sidekey_open_tunnels{mode="passed"}'
            assert await sidekey.metric(series) == 0


async def test_stored_integration_goes_through_the_proxy(ca: Authority, tmp_path: Path) -> None:
    """`network.allow_private` is for the proxy, `store.allow_private` for its targets."""
    (tmp_path / "k1").write_text(b64encode(b"1" * 32).decode())
    more = "store: {path: store.db, keys: [{id: k1, key: {file: k1}}]}\n"
    more += 'callers: {billing: {token: {env: TOKEN}, integrations: "*"}}\n'
    async with RawUpstream() as upstream, ScriptedProxy(upstream.port) as proxy:
        start = head(f'{{url: "http://127.0.0.1:{proxy.port}", resolve: proxy}}', more=more)
        environ = {"TOKEN": "token-of-billing"}
        hosts = {"up.test": [PUBLIC], "private.test": ["127.0.0.1"]}
        async with serving("  {}\n", tmp_path, ca, hosts=hosts, environ=environ, head=start) as sidekey:
            manager = sidekey.app.manager
            assert manager is not None
            headers = {"X-Key": {"secret": {"value": "stored-secret"}}}
            for name in ("up", "private"):
                document = {"endpoint_prefix": f"http://{name}.test", "auth": {"type": "headers", "headers": headers}}
                row = saved(manager.sealing_keys, name, document, None)
                await manager.commit([Put(row, None)], AuditEntry(who="ann", action="create"))
            token = "Sidekey-Token: token-of-billing"
            assert (await sidekey.reverse("/", token, name="up")).status == 200
            assert problem(await sidekey.reverse("/", token, name="private"))["code"] == "destination_denied"
        assert [request.split()[1] for request in proxy.heads] == [f"{PUBLIC}:80".encode()]
        assert upstream.requests[0].values(b"x-key") == [b"stored-secret"]


async def test_bytes_before_a_request_are_no_response(ca: Authority, tmp_path: Path) -> None:
    """A proxy or an http upstream that sends a response with the 200 cannot make it the answer to a request."""

    async def respond(request: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + OK)
        return False

    async with ScriptedProxy(respond=respond) as proxy:
        start = head(f'{{url: "http://127.0.0.1:{proxy.port}"}}')
        text = basic("it", "http://up.test")
        async with serving(text, tmp_path, ca, hosts={"up.test": [PUBLIC]}, environ=SECRETS, head=start) as sidekey:
            response = await sidekey.reverse("/")
            assert (response.status, problem(response)["code"]) == (502, "upstream_protocol_error")


async def test_target_of_a_caller_is_not_left_to_the_proxy(ca: Authority, tmp_path: Path) -> None:
    """With `resolve: proxy`, Sidekey still checks the addresses of hosts that pass."""
    async with ScriptedProxy() as proxy:
        start = head(f'{{url: "http://127.0.0.1:{proxy.port}", resolve: proxy}}', ports="80")
        hosts = {"private.example.com": ["10.0.0.5"]}
        text = basic("it", "https://up.example.com")
        async with serving(text, tmp_path, ca, hosts=hosts, environ=SECRETS, head=start) as sidekey:
            for host in ("private.example.com", f"127.0.0.1:{proxy.port}", "169.254.169.254"):
                request = f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"
                assert problem(await sidekey.send(request.encode()))["code"] == "destination_denied"
            network, passthrough = sidekey.app.snapshot.network, sidekey.app.snapshot.passthrough
            assert passthrough is not None
            origin = Origin("https", "api.example.com", 443)
            names = [describe_route(origin, egress, network) for egress in (Egress(), passthrough.integration.egress)]
        assert proxy.heads == []
    assert [name.rpartition(" ")[2] for name in names if name] == ["api.example.com:443", "ADDRESS:443"]


@pytest.mark.parametrize("own", [False, True])
async def test_host_that_a_caller_chooses_under_a_wildcard_is_not_left_to_the_proxy(
    own: bool, ca: Authority, tmp_path: Path
) -> None:
    """With `resolve: proxy`, of the network or of the integration, the proxy resolves only names of the config."""
    named = ["up.invalid", "named.up.invalid"]
    tls = ca.server_context(*named)
    async with RawUpstream(serve_tokens, ssl_context=tls) as upstream, ScriptedProxy(upstream.port) as proxy:
        setting = f'{{url: "http://127.0.0.1:{proxy.port}", resolve: proxy}}'
        domains = json.dumps(["https://*.up.invalid", *(f"https://{host}" for host in named)])
        keys = f"allow_other_domains: true, allowed_domains: {domains}{f', proxy: {setting}' if own else ''}"
        auth = "type: oauth2, token_endpoint: 'https://up.invalid/token', client_id: c, client_secret: {env: SECRET}"
        text = f"  it: {{{keys}, auth: {{{auth}}}}}\n"
        start = head('{url: "http://127.0.0.1:9"}' if own else setting)
        async with serving(text, tmp_path, ca, environ=SECRETS, head=start) as sidekey:
            for host in named:
                assert (await sidekey.forward(f"https://{host}/")).status == 200
            # RFC 6761 6.4: nothing under `invalid` has an address.
            failed = problem(await sidekey.forward("https://10-0-0-5.up.invalid/"))
            assert failed["code"] == "upstream_unreachable"
            assert "set `resolve: proxy` of `proxy` in a config file, and name the host there" in failed["detail"]
        assert {request.split()[1] for request in proxy.heads} == {f"{host}:443".encode() for host in named}
    command = "explain", "--config", str(tmp_path / "sidekey.yaml"), "--json", "it"
    for host, sent in (("named.up.invalid", "named.up.invalid:443"), ("other.up.invalid", "ADDRESS:443")):
        explained = await asyncio.to_thread(run_cli, *command, f"https://{host}/", environment=SECRETS)
        assert json.loads(explained.stdout)["note"].rpartition(" ")[2] == sent


def test_commands_show_the_way_through_the_proxy(ca: Authority, tmp_path: Path) -> None:
    config = tmp_path / "sidekey.yaml"
    text = f"""\
version: 1
network:
  hosts: {{up.example.com: [{PUBLIC}], intranet.example.com: [{PUBLIC}]}}
  trusted_ca: {{file: {ca.bundle}}}
  proxy:
    url: http://10.0.0.1:3128
    username: a
    password: {{env: SECRET}}
    no_proxy: [intranet.example.com, 10.0.0.0/8]
integrations:
"""
    own = 'proxy: {url: "https://10.0.0.1:3129", resolve: proxy, no_proxy: [192.0.2.0/24]}'
    text += basic("a", "https://up.example.com", "test: {path: /}") + basic("b", "https://intranet.example.com")
    text += basic("c", "https://other.example.com", own) + basic("d", "https://up.example.com/d", "proxy: none")
    config.write_text(text)
    notes = {}
    for name in "abcd":
        explained = run_cli("explain", "--config", str(config), "--json", name, "/", environment=SECRETS)
        assert explained.returncode == 0, explained.stdout
        notes[name] = json.loads(explained.stdout)["note"]
    through = "Sidekey connects through the parent proxy"
    fails = "this fails, because 10.0.0.1 is not a global address (private): add 10.0.0.1/32 to"
    assert notes == {
        "a": f"{through} http://10.0.0.1:3128: CONNECT {PUBLIC}:443; {fails} network.allow_private",
        "b": "Sidekey connects directly: the host is in `no_proxy`",
        "c": f"{through} https://10.0.0.1:3129, which resolves the name: CONNECT other.example.com:443; "
        f"{fails} allow_private of the integration",
        "d": "Sidekey connects directly: `proxy` of the integration is none",
    }
    checked = run_cli("check", "--config", str(config), environment=SECRETS).stdout
    place = f"warning: {config}:"
    lines = [line.removeprefix(place).partition(": ")[2] for line in checked.splitlines()]
    not_global = "10.0.0.1 is not a global address (private): add 10.0.0.1/32 to"
    assert lines[:-1] == [
        f"network.proxy.url: {not_global} network.allow_private",
        "network.proxy.url: the password for the proxy travels in the clear: use https:// if the proxy supports it",
        f"integrations.c.proxy.url: {not_global} allow_private of the integration",
        "integrations.c.proxy.resolve: the proxy resolves names, so it alone prevents connections to private addresses "
        "(DNS rebinding)",
        "integrations.c.proxy.no_proxy[0]: does not apply to host names, whose address only the proxy knows",
    ]
    tested = run_cli("test", "--config", str(config), "a", environment=SECRETS).stdout
    assert "the parent proxy's host has only addresses that may not be dialled (private)" in tested
    assert f"note: {notes['a']}" in tested


def test_test_names_the_way_of_its_request(tmp_path: Path) -> None:
    """The way past the proxy too, and no parent proxy is a target by its address."""
    port, other = free_port(), free_port()
    text = f"""\
version: 1
network:
  allow_private: [127.0.0.1/32, 10.0.0.1/32]
  hosts: {{proxy.example.com: [10.0.0.1], same.example.com: [10.0.0.1]}}
  proxy: {{url: "http://proxy.example.com:{other}"}}
integrations:
"""
    text += basic("loopback", f"http://127.0.0.1:{port}", "test: {path: /}")
    text += basic("same", f"http://same.example.com:{other}", "test: {path: /}")
    config = tmp_path / "sidekey.yaml"
    config.write_text(text)
    tested = run_cli("test", "--config", str(config), "loopback", environment=SECRETS).stdout
    assert "note: Sidekey connects directly: 127.0.0.1 is in `no_proxy`, or this machine" in tested
    is_proxy = (
        "the target is a parent proxy, which receives requests of Sidekey itself only: use the URL of the service"
    )
    explained = run_cli("explain", "--config", str(config), "same", "/", environment=SECRETS)
    assert explained.returncode == 1
    assert is_proxy in explained.stdout
    assert is_proxy in run_cli("check", "--config", str(config), environment=SECRETS).stdout
    tested = run_cli("test", "--config", str(config), "same", environment=SECRETS).stdout
    assert "(a parent proxy: use the URL of the service itself)" in tested
