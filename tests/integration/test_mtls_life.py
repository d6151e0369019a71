"""Client certificates over time at a real nginx: connections with two certificates, and rotated files."""

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
from support.serving import Serving, serving
from support.wire import Message

FAILURES = 'sidekey_credential_reload_failures_total{integration="it",credential="certificate"}'


def asking(clients: ClientAuthority) -> str:
    """An nginx that demands a certificate of `clients`, and echoes."""
    return f"ssl_client_certificate {clients.bundle}; ssl_verify_client on; {ECHO}"


def shows(port: int, client: ClientFiles, name: str = "it") -> str:
    """An integration of kind `mtls`."""
    prefix = f"endpoint_prefix: 'https://127.0.0.1:{port}/api/{name}'"
    return f"  {name}: {{{prefix}, auth: {{type: mtls, {client.keys()}}}}}\n"


@asynccontextmanager
async def callers(sidekey: Serving, count: int = 4) -> AsyncIterator[list[Message]]:
    """So many callers who ask again and again while the block runs; what they were answered so far."""
    answers: list[Message] = []
    leave = asyncio.Event()

    async def call() -> None:
        while not leave.is_set():
            answers.append(await sidekey.reverse("/orders"))
            # For the machine's sake: what they wait for is a change of files.
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(call())
        try:
            yield answers
        finally:
            leave.set()


def certificates(nginx: Nginx) -> list[str]:
    """The certificate of each request that nginx has logged, in order."""
    return [line["certificate"] for line in nginx.requests(1)]


async def until_seen(nginx: Nginx, client: ClientFiles, count: int = 1) -> None:
    """Wait until so many requests came with this certificate."""
    while certificates(nginx).count(client.sha1) < count:
        await asyncio.sleep(0.01)


async def until_answered(answers: list[Message], count: int) -> None:
    """Wait until so many answers are there."""
    while len(answers) < count:
        await asyncio.sleep(0.01)


async def test_two_certificates_use_separate_connections(ca: Authority, tmp_path: Path) -> None:
    """One host, two integrations: no request uses the other's connection or TLS session."""
    clients = ClientAuthority(tmp_path)
    ours = {name: clients.client(name) for name in ("ann", "bob")}
    with Nginx(tmp_path, asking(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        text = "".join(shows(nginx.tls_port, client, name) for name, client in ours.items())
        async with serving(text, tmp_path, ca) as sidekey:
            for _ in range(4):
                for name in ours:
                    assert (await sidekey.reverse("/orders", name=name)).status == 200
        arrived = nginx.requests(8)
    seen = {(line["target"], line["certificate"]) for line in arrived}
    assert seen == {(f"/api/{name}/orders", client.sha1) for name, client in ours.items()}
    assert len({line["connection"] for line in arrived}) == 2


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
async def test_new_connections_resume_only_sessions_of_their_certificate(
    protocol: str, ca: Authority, tmp_path: Path
) -> None:
    """Each request has a new connection. In a resumed one, nginx sees the certificate of the session."""
    clients = ClientAuthority(tmp_path)
    ours = {name: clients.client(name) for name in ("ann", "bob")}
    snippet = f"keepalive_timeout 0; ssl_protocols {protocol}; {asking(clients)}"
    with Nginx(tmp_path, snippet, leaf=ca.leaf("127.0.0.1")) as nginx:
        text = "".join(shows(nginx.tls_port, client, name) for name, client in ours.items())
        async with serving(text, tmp_path, ca) as sidekey:
            for _ in range(5):
                for name in ours:
                    assert (await sidekey.reverse("/orders", name=name)).status == 200
        arrived = nginx.requests(10)
    assert [line["certificate"] for line in arrived] == [client.sha1 for client in ours.values()] * 5
    assert [line["resumed"] for line in arrived] == ["."] * 2 + ["r" if RESUMES else "."] * 8
    assert len({line["connection"] for line in arrived}) == 10


async def test_rotated_pair_is_loaded_under_load(ca: Authority, tmp_path: Path) -> None:
    """Certificate first, then the key: in between they do not match, and no request fails."""
    clients = ClientAuthority(tmp_path)
    old = clients.client("ann")
    with Nginx(tmp_path, asking(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(shows(nginx.tls_port, old), tmp_path, ca) as sidekey:
            async with callers(sidekey) as answers:
                await until_answered(answers, 20)
                new = clients.client("ann")
                await until_seen(nginx, new, 20)
            assert {answer.status for answer in answers} == {200}
            logged = await sidekey.logged("a client certificate was loaded")
        seen = certificates(nginx)
    assert logged["integration"] == "it"
    assert set(seen) == {old.sha1, new.sha1}
    assert seen[-1] == new.sha1


async def test_swap_of_mounted_files_is_loaded(ca: Authority, tmp_path: Path) -> None:
    """As in Kubernetes: the files are links into `..data`, a link that is replaced."""
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
    with Nginx(tmp_path, asking(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(shows(nginx.tls_port, mounted), tmp_path, ca) as sidekey:
            async with callers(sidekey) as answers:
                await until_answered(answers, 10)
                (tmp_path / "..tmp").symlink_to("..second")
                (tmp_path / "..tmp").replace(tmp_path / "..data")
                await until_seen(nginx, pairs[1])
            assert {answer.status for answer in answers} == {200}
            assert await sidekey.metric(FAILURES) == 0
        assert set(certificates(nginx)) == {client.sha1 for client in pairs}


async def test_mismatched_pair_is_not_loaded(ca: Authority, tmp_path: Path) -> None:
    """The previous one stays in use, and the error is logged and counted. With its key, the new one is used."""
    clients = ClientAuthority(tmp_path)
    old = clients.client("ann")
    issued = clients.issue("ann")
    with Nginx(tmp_path, asking(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(shows(nginx.tls_port, old), tmp_path, ca) as sidekey:
            async with callers(sidekey) as answers:
                await until_answered(answers, 10)
                replace(old.certificate, issued.pem)
                logged = await sidekey.logged("a client certificate could not be loaded")
                await until_answered(answers, len(answers) + 10)
                assert set(certificates(nginx)) == {old.sha1}
                assert await sidekey.metric(FAILURES) == 1
                replace(old.key, issued.key_pem)
                new = ClientFiles(old.certificate, old.key, issued)
                await until_seen(nginx, new)
            assert {answer.status for answer in answers} == {200}
        assert set(certificates(nginx)) == {old.sha1, new.sha1}
    assert (logged["integration"], logged["old_in_use"]) == ("it", True)
    assert "auth.private_key" in logged["reason"]
