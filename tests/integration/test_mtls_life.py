"""Client certificates over time at a real nginx: separate connections, and rotated files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sidekey.network.tls_sessions import RESUMES
from support.client_files import ClientAuthority, ClientFiles
from support.files import replace
from support.nginx import ECHO, Nginx
from support.private_ca import Authority
from support.serving import RunningApp, serving
from support.wire import Message

FAILURES = 'sidekey_credential_reload_failures_total{integration="it",credential="certificate"}'


def nginx_with_client_ca(clients: ClientAuthority) -> str:
    """Run an nginx that requires a certificate of `clients`, and echoes."""
    return f"ssl_client_certificate {clients.bundle}; ssl_verify_client on; {ECHO}"


def mtls_integration(port: int, client: ClientFiles, name: str = "it") -> str:
    """Build an integration of kind `mtls`."""
    prefix = f"endpoint_prefix: 'https://127.0.0.1:{port}/api/{name}'"
    return f"  {name}: {{{prefix}, auth: {{type: mtls, {client.keys()}}}}}\n"


@asynccontextmanager
async def callers(sidekey: RunningApp, count: int = 4) -> AsyncIterator[list[Message]]:
    """Run this many callers that send requests during the block. Yield their responses so far."""
    responses: list[Message] = []
    leave = asyncio.Event()

    async def call() -> None:
        while not leave.is_set():
            responses.append(await sidekey.reverse("/orders"))
            # For the machine's sake: what they wait for is a change of files.
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(call())
        try:
            yield responses
        finally:
            leave.set()


def certificates(nginx: Nginx) -> list[str]:
    """Return the certificate of each request in the log of nginx, in order."""
    return [line["certificate"] for line in nginx.requests(1)]


async def until_seen(nginx: Nginx, client: ClientFiles, count: int = 1) -> None:
    """Wait until this many requests had this certificate."""
    while certificates(nginx).count(client.sha1) < count:
        await asyncio.sleep(0.01)


async def until_answered(responses: list[Message], count: int) -> None:
    """Wait for this many responses."""
    while len(responses) < count:
        await asyncio.sleep(0.01)


async def test_two_certificates_use_separate_connections(ca: Authority, tmp_path: Path) -> None:
    """With two integrations of one host. No request uses the connection or TLS session of the other integration."""
    clients = ClientAuthority(tmp_path)
    ours = {name: clients.client(name) for name in ("ann", "bob")}
    with Nginx(tmp_path, nginx_with_client_ca(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        text = "".join(mtls_integration(nginx.tls_port, client, name) for name, client in ours.items())
        async with serving(text, tmp_path, ca) as sidekey:
            for _ in range(4):
                for name in ours:
                    assert (await sidekey.reverse("/orders", name=name)).status == 200
        received = nginx.requests(8)
    seen = {(line["target"], line["certificate"]) for line in received}
    assert seen == {(f"/api/{name}/orders", client.sha1) for name, client in ours.items()}
    assert len({line["connection"] for line in received}) == 2


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
async def test_new_connections_resume_only_sessions_of_their_certificate(
    protocol: str, ca: Authority, tmp_path: Path
) -> None:
    """Each request has a new connection. In a resumed one, nginx sees the certificate of the session."""
    clients = ClientAuthority(tmp_path)
    ours = {name: clients.client(name) for name in ("ann", "bob")}
    snippet = f"keepalive_timeout 0; ssl_protocols {protocol}; {nginx_with_client_ca(clients)}"
    with Nginx(tmp_path, snippet, leaf=ca.leaf("127.0.0.1")) as nginx:
        text = "".join(mtls_integration(nginx.tls_port, client, name) for name, client in ours.items())
        async with serving(text, tmp_path, ca) as sidekey:
            for _ in range(5):
                for name in ours:
                    assert (await sidekey.reverse("/orders", name=name)).status == 200
        received = nginx.requests(10)
    assert [line["certificate"] for line in received] == [client.sha1 for client in ours.values()] * 5
    assert [line["resumed"] for line in received] == ["."] * 2 + ["r" if RESUMES else "."] * 8
    assert len({line["connection"] for line in received}) == 10


async def test_rotated_pair_is_loaded_under_load(ca: Authority, tmp_path: Path) -> None:
    """First the certificate, then the key: they do not match in between, and no request fails."""
    clients = ClientAuthority(tmp_path)
    old = clients.client("ann")
    with Nginx(tmp_path, nginx_with_client_ca(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(mtls_integration(nginx.tls_port, old), tmp_path, ca) as sidekey:
            async with callers(sidekey) as responses:
                await until_answered(responses, 20)
                new = clients.client("ann")
                await until_seen(nginx, new, 20)
            assert {response.status for response in responses} == {200}
            logged = await sidekey.logged("a client certificate was loaded")
        seen = certificates(nginx)
    assert logged["integration"] == "it"
    assert set(seen) == {old.sha1, new.sha1}
    assert seen[-1] == new.sha1


async def test_swap_of_mounted_files_is_loaded(ca: Authority, tmp_path: Path) -> None:
    """As in Kubernetes: an update replaces the link `..data`, which contains the files."""
    clients = ClientAuthority(tmp_path)
    pairs = [clients.client(name) for name in ("first", "second")]
    for client in pairs:
        folder = tmp_path / f"..{client.certificate.stem}"
        folder.mkdir()
        (folder / "tls.crt").write_bytes(client.certificate.read_bytes())
        (folder / "tls.key").write_bytes(client.key.read_bytes())
    (tmp_path / "..data").symlink_to("..first")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    mounted = ClientFiles(tmp_path / "tls.crt", tmp_path / "tls.key", pairs[0].issued)
    with Nginx(tmp_path, nginx_with_client_ca(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(mtls_integration(nginx.tls_port, mounted), tmp_path, ca) as sidekey:
            async with callers(sidekey) as responses:
                await until_answered(responses, 10)
                (tmp_path / "..tmp").symlink_to("..second")
                (tmp_path / "..tmp").replace(tmp_path / "..data")
                await until_seen(nginx, pairs[1])
            assert {response.status for response in responses} == {200}
            assert await sidekey.metric(FAILURES) == 0
        assert set(certificates(nginx)) == {client.sha1 for client in pairs}


async def test_mismatched_pair_is_not_loaded(ca: Authority, tmp_path: Path) -> None:
    """Sidekey keeps the previous pair, and logs and counts the error. With its key, it uses the new certificate."""
    clients = ClientAuthority(tmp_path)
    old = clients.client("ann")
    issued = clients.issue("ann")
    with Nginx(tmp_path, nginx_with_client_ca(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(mtls_integration(nginx.tls_port, old), tmp_path, ca) as sidekey:
            async with callers(sidekey) as responses:
                await until_answered(responses, 10)
                replace(old.certificate, issued.pem)
                logged = await sidekey.logged("a client certificate could not be loaded")
                await until_answered(responses, len(responses) + 10)
                assert set(certificates(nginx)) == {old.sha1}
                assert await sidekey.metric(FAILURES) == 1
                replace(old.key, issued.key_pem)
                new = ClientFiles(old.certificate, old.key, issued)
                await until_seen(nginx, new)
            assert {response.status for response in responses} == {200}
        assert set(certificates(nginx)) == {old.sha1, new.sha1}
    assert (logged["integration"], logged["old_in_use"]) == ("it", True)
    assert "auth.private_key" in logged["reason"]
