"""Clients such as curl and Go verify certificates of the local CA with the files of the trust folder."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from sidekey.ca.authorities import LocalAuthority
from sidekey.ca.certificates import LeafSigner, create_key
from sidekey.ca.maintain import ensure_authorities
from sidekey.network.tls_server import server_context
from support import programs
from support.compiled import go_program, java_programs
from support.local_cas import rules_in

NODE = """
const [host, port] = process.argv.slice(1), tls = require('tls');
require('https').get({host: '127.0.0.1', port, servername: /^[0-9.]+$/.test(host) ? '' : host, headers: {host},
  checkServerIdentity: (_, certificate) => tls.checkServerIdentity(host, certificate)},
  response => console.log(response.statusCode)).on('error', error => { console.log(error.message); process.exit(1) })
"""
PROGRAMS = Path(__file__).parent / "programs"
HOSTS = ("localhost", "127.0.0.1")
"""Hosts that every client resolves without help: a name and an address."""


class Site:
    """A CA for `HOSTS`, its trust folder, and servers with its certificates. `compiled` is the folder of programs."""

    def __init__(self, folder: Path, compiled: Path) -> None:
        result = ensure_authorities(rules_in(folder, *(f"https://{host}" for host in HOSTS)), time.time())
        self.authority: LocalAuthority = result.created[0]
        self.trust = folder / "trust"
        self.compiled = compiled
        self._signer = LeafSigner(self.authority, create_key())
        self._servers: list[asyncio.Server] = []

    async def serve(self, host: str) -> str:
        """Run a server with a certificate for this host, even outside the constraints. Return its port."""
        pem, _ = self._signer.issue(host, time.time())
        server = await asyncio.start_server(_respond, "127.0.0.1", 0, ssl=server_context(host, pem.encode()))
        self._servers.append(server)
        return str(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        for server in self._servers:
            server.close()


async def _respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n200\n")
        await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        return  # a client that trusts nothing leaves
    finally:
        writer.close()


@pytest.fixture
async def site(tmp_path: Path, compiled: Path) -> AsyncIterator[Site]:
    result = Site(tmp_path, compiled)
    yield result
    result.close()


async def run(*command: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return exit status and output."""

    def call() -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, **(environment or {})}
        return subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    done = await asyncio.to_thread(call)
    return done.returncode, done.stdout


async def curl(site: Site, host: str, port: str) -> tuple[int, str]:
    variables = {"CURL_CA_BUNDLE": str(site.trust / "bundle.pem")}
    where = ("--resolve", f"{host}:{port}:127.0.0.1")
    return await run(programs.require("curl"), "-sS", *where, f"https://{host}:{port}/", environment=variables)


async def wget(site: Site, host: str, port: str) -> tuple[int, str]:
    variables = {"WGETRC": str(site.trust / "wgetrc")}
    return await run(programs.require("wget"), "-q", "-O", "-", f"https://{host}:{port}/", environment=variables)


async def node(site: Site, host: str, port: str) -> tuple[int, str]:
    variables = {"NODE_EXTRA_CA_CERTS": str(site.trust / "ca.pem")}
    return await run(programs.require("node"), "-e", NODE, host, port, environment=variables)


async def java(site: Site, host: str, port: str) -> tuple[int, str]:
    command = await asyncio.to_thread(java_programs, site.compiled)
    store = (f"-Djavax.net.ssl.trustStore={site.trust / 'truststore.p12'}", "-Djavax.net.ssl.trustStoreType=PKCS12")
    return await run(*command, *store, "Get", host, port)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("client", [curl, wget, node, java], ids=lambda client: client.__name__)
async def test_clients_trust_a_leaf_with_their_file_of_the_trust_folder(client: object, host: str, site: Site) -> None:
    """Curl with OpenSSL, Debian's wget with GnuTLS, Node, Java."""
    assert await client(site, host, await site.serve(host)) == (0, "200\n")  # type: ignore[operator]


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.2"])
@pytest.mark.parametrize("client", [curl, node], ids=lambda client: client.__name__)
async def test_clients_refuse_hosts_outside_the_constraints(client: object, host: str, site: Site) -> None:
    """A stolen key cannot impersonate such a host. Only Java ignores the constraints."""
    status, text = await client(site, host, await site.serve(host))  # type: ignore[operator]
    assert status != 0
    assert "permitted subtree violation" in text


async def test_gnutls_refuses_hosts_outside_the_constraints(site: Site) -> None:
    """Wget gives no reason. It can reach the other loopback address."""
    status, text = await wget(site, "127.0.0.2", await site.serve("127.0.0.2"))
    assert (status, text) != (0, "200\n")


async def test_go_verifies_the_constraints(site: Site) -> None:
    binary = await asyncio.to_thread(go_program, site.compiled, PROGRAMS / "get.go")
    bundle = str(site.trust / "bundle.pem")
    for host in HOSTS:
        assert await run(binary, bundle, host, await site.serve(host)) == (0, "200\n")
    for host, reason in (("evil.test", "not permitted by any constraint"), ("::1", "is excluded by constraint")):
        status, text = await run(binary, bundle, host, await site.serve(host))
        assert status == 1
        assert reason in text
