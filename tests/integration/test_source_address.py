"""The source address of connections, as servers see it: requests, token calls, and certificates by URL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from support.certificate_files import valid_now
from support.files import replace
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.serving import HEAD, problem, serving
from support.sidekey_process import SidekeyProcess, run_cli, run_process
from support.upstream import OK, RawUpstream

NETWORK, OWN, OTHER = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ABSENT = "240.0.0.1"
"""Reserved (RFC 1112 4): no machine has it. Networks for documentation are in use on some."""
HOSTS = {"up.test": ["127.0.0.1"]}
TOKEN = b'{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}'
MESSAGE = "must be an address of the machine that Sidekey runs on: this machine does not have it"
Factory = Callable[[], asyncio.AbstractEventLoop]


class Platform:
    """An upstream, a token endpoint and a server of certificates. `seen` has paths and peer addresses."""

    def __init__(self, ca: Authority) -> None:
        issued = valid_now()
        self.seen: set[tuple[str, str]] = set()
        self.upstream = RawUpstream(self._script, ssl_context=ca.server_context("up.test"))
        self._bodies = {b"/token": TOKEN, b"/pem": issued.pem + issued.key_pem}

    async def _script(self, connection: RawConnection) -> None:
        while True:
            target = (await connection.request()).target
            self.seen.add((target.decode(), connection.transport.get_extra_info("peername")[0]))
            body = self._bodies.get(target)
            length = b"" if body is None else b"Content-Length: %d\r\n\r\n" % len(body)
            await connection.send(OK if body is None else b"HTTP/1.1 200 OK\r\n" + length + body)


def keyed(name: str, port: int, *more: str) -> str:
    """Build an integration with a header."""
    keys = (f"endpoint_prefix: 'https://up.test:{port}/{name}'", *more)
    return f"  {name}: {{{', '.join(keys)}, auth: {{type: headers, headers: {{X-Tenant: acme}}}}}}\n"


def calling(name: str, port: int, *more: str) -> str:
    """Build an integration that fetches its token and its certificate."""
    auth = f"type: oauth2, token_endpoint: 'https://up.test:{port}/token', client_id: c, client_secret: {{env: SECRET}}"
    certificate = f"client_certificate: {{pem: {{url: 'https://up.test:{port}/pem'}}, allow_private_ca: true}}"
    keys = (f"endpoint_prefix: 'https://up.test:{port}/{name}'", certificate, *more)
    return f"  {name}: {{{', '.join(keys)}, auth: {{{auth}}}}}\n"


def head(source: str) -> str:
    """Build a config with a source address for the network."""
    return HEAD.replace("hosts: {hosts}", f"hosts: {{hosts}}, source_address: '{source}'")


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_every_connection_uses_the_configured_source_address(loop: Factory, ca: Authority, tmp_path: Path) -> None:
    """That of the integration, else of the network. Different addresses share no connection."""
    platform = Platform(ca)

    async def play() -> None:
        async with platform.upstream as upstream:
            port = upstream.port
            text = keyed("plain", port) + keyed("own", port, f"source_address: {OWN}")
            text += calling("it", port, f"source_address: {OTHER}")
            async with serving(text, tmp_path, ca, hosts=HOSTS, environ={"SECRET": "s"}, head=head(NETWORK)) as sidekey:
                for _ in range(2):
                    for name in ("plain", "own", "it"):
                        assert (await sidekey.reverse("/a", name=name)).status == 200
                # Two of a kind went over one connection; those for a certificate and a token are their own.
                assert len(upstream.connections) == 5

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(play())
    assert platform.seen == {
        ("/plain/a", NETWORK),
        ("/own/a", OWN),
        ("/it/a", OTHER),
        ("/token", OTHER),
        ("/pem", OTHER),
    }


async def test_new_source_address_is_used_after_the_reload(ca: Authority, tmp_path: Path) -> None:
    """Sidekey drops the previous pool. An address of another machine changes nothing."""
    platform = Platform(ca)

    def write(source: str) -> None:
        path = tmp_path / "sidekey.yaml"
        replace(path, path.read_text().replace(NETWORK, source).replace(OWN, source))

    async with platform.upstream as upstream:
        text = keyed("it", upstream.port)
        async with serving(text, tmp_path, ca, hosts=HOSTS, head=head(NETWORK)) as sidekey:
            assert (await sidekey.reverse("/a")).status == 200
            write(OWN)
            await sidekey.logged("config reloaded")
            assert (await sidekey.reverse("/b")).status == 200
            write(ABSENT)
            place = (await sidekey.logged("config error"))["place"]
            assert (await sidekey.reverse("/c")).status == 200
            assert await sidekey.metric("sidekey_config_last_reload_successful") == 0
    assert platform.seen == {("/it/a", NETWORK), ("/it/b", OWN), ("/it/c", OWN)}
    path = tmp_path / "sidekey.yaml"
    assert place.startswith(f"{path}:3:")
    assert place.endswith(f": network.source_address: {MESSAGE}")


async def test_lost_source_address_is_reported_in_the_response(ca: Authority, tmp_path: Path) -> None:
    """Without the address."""
    async with serving(keyed("it", 1), tmp_path, ca, hosts=HOSTS, head=head(ABSENT)) as sidekey:
        error = problem(await sidekey.reverse("/a"))
        await eventually(lambda: sidekey.app.metrics.stats("it").connects == {"destination_unavailable": 1})
    assert (error["code"], error["sent"]) == ("upstream_unreachable", "no")
    assert error["detail"] == "source_address is not an address of this machine"


ELSEWHERE = f"""\
version: 1
listen: {{proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}}
network: {{source_address: {ABSENT}}}
integrations:
  crm:
    endpoint_prefix: https://api.example.com
    source_address: '4000::7'
    auth: {{type: headers, headers: {{X-Tenant: acme}}}}
  bank:
    endpoint_prefix: https://bank.example.com
    auth: {{type: mtls, allow_private_ca: true, pem: {{url: "https://bank.example.com/pem"}}}}
"""
PLACES = [(3, 27, "network.source_address"), (7, 21, "integrations.crm.source_address")]


def test_run_does_not_start_without_its_source_address(tmp_path: Path) -> None:
    """Every missing address is reported with its location."""
    path = tmp_path / "sidekey.yaml"
    path.write_text(ELSEWHERE)
    result = run_process("run", "--config", str(path))
    assert (result.returncode, result.stdout) == (1, "")
    results = [json.loads(line)["place"] for line in result.stderr.splitlines()]
    assert results == [f"{path}:{line}:{column}: {key}: {MESSAGE}" for line, column, key in PLACES]


def test_check_warns_of_a_missing_source_address(tmp_path: Path) -> None:
    """The config may be for another machine. `check` fetches no certificate with that address."""
    path = tmp_path / "sidekey.yaml"
    path.write_text(ELSEWHERE)
    result = run_cli("check", "--config", str(path))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        *(f"warning: {path}:{line}:{column}: {key}: {MESSAGE}" for line, column, key in PLACES),
        "ok: 2 integrations",
    ]
    report = json.loads(run_cli("check", "--json", "--config", str(path)).stdout)
    assert (report["ok"], [warning["path"] for warning in report["warnings"]]) == (True, [key for *_, key in PLACES])


def test_run_starts_with_an_address_of_this_machine(tmp_path: Path) -> None:
    """Every address in 127.0.0.0/8 is one."""
    head = 'version: 1\nlisten: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}\n'
    text = f"network: {{source_address: {NETWORK}}}\nintegrations:\n{keyed('it', 443)}"
    with SidekeyProcess(text, tmp_path, head=head) as child:
        assert child.stop() == 0
