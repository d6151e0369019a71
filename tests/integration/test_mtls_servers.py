"""Client certificates at real servers that request one: nginx, Caddy and openssl s_server, with TLS 1.2 and 1.3."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from support.caddy import Caddy
from support.child import run_process
from support.client_files import ClientAuthority, ClientFiles
from support.nginx import ECHO, Nginx
from support.openssl_server import OpensslServer, shown
from support.private_ca import Authority
from support.serving import problem, serving

PASSWORD = "s3cret"
BASIC = "Basic " + b64encode(f"svc:{PASSWORD}".encode()).decode()
ENVIRON = {"PASSWORD": PASSWORD, "PASSPHRASE": "open sesame"}
REFUSED = "upstream_tls_failed"
Kind = Callable[[int, ClientFiles], str]


def asking(clients: ClientAuthority, protocol: str = "TLSv1.3", *, mode: str = "on") -> str:
    """An nginx that asks for a certificate of `clients`, and echoes."""
    return f"""
        ssl_client_certificate {clients.bundle};
        ssl_verify_client {mode};
        ssl_verify_depth 2;
        ssl_protocols {protocol};
        {ECHO}
    """


def alone(port: int, client: ClientFiles, *more: str) -> str:
    """An integration of kind `mtls`."""
    return f"  it: {{endpoint_prefix: 'https://127.0.0.1:{port}/api', auth: {{type: mtls, {client.keys(*more)}}}}}\n"


def beside_basic(port: int, client: ClientFiles) -> str:
    """An integration of kind `basic` that shows a certificate as well."""
    return (
        f"  it: {{endpoint_prefix: 'https://127.0.0.1:{port}/api', client_certificate: {{{client.keys()}}}, "
        "auth: {type: basic, username: svc, password: {env: PASSWORD}}}\n"
    )


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("kind", [alone, beside_basic])
async def test_nginx_receives_the_certificate_through_both_proxies(
    kind: Kind, protocol: str, ca: Authority, tmp_path: Path
) -> None:
    """With the credential of the kind, and without one for `mtls`."""
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    with Nginx(tmp_path, asking(clients, protocol), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(kind(nginx.tls_port, client), tmp_path, ca, environ=ENVIRON) as sidekey:
            assert (await sidekey.reverse("/orders?a=b", method="POST", body=b"{}")).status == 200
            assert (await sidekey.forward(f"https://127.0.0.1:{nginx.tls_port}/api/orders")).status == 200
        arrived = nginx.requests(2)
    assert [(line["method"], line["target"]) for line in arrived] == [
        ("POST", "/api/orders?a=b"),
        ("GET", "/api/orders"),
    ]
    assert {line["authorization"] for line in arrived} == {BASIC if kind is beside_basic else ""}
    assert {(line["certificate"], line["verified"]) for line in arrived} == {(client.sha1, "SUCCESS")}
    assert {line["protocol"] for line in arrived} == {protocol}
    assert len({line["connection"] for line in arrived}) == 1


@pytest.mark.parametrize("version", ["tls1.2", "tls1.3"])
@pytest.mark.parametrize("kind", [alone, beside_basic])
async def test_caddy_receives_the_certificate_through_both_proxies(
    kind: Kind, version: str, ca: Authority, tmp_path: Path
) -> None:
    """Go's TLS, in both versions."""
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    credential = BASIC if kind is beside_basic else ""
    with Caddy(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version=version) as caddy:
        async with serving(kind(caddy.port, client), tmp_path, ca, environ=ENVIRON) as sidekey:
            answers = [
                await sidekey.reverse("/orders", method="POST", body=b"{}"),
                await sidekey.forward(f"https://127.0.0.1:{caddy.port}/api/orders"),
            ]
        assert caddy.refusals() == []
    assert [answer.status for answer in answers] == [200, 200]
    assert [answer.body.decode() for answer in answers] == [
        f"{method} /api/orders\nauthorization: {credential}\n" for method in ("POST", "GET")
    ]
    for answer in answers:
        assert answer.values(b"x-client-certificate") == [client.sha256.encode()]
        assert answer.values(b"x-client-subject") == [b"CN=ann"]
        assert answer.values(b"x-tls-version") == [version.encode()]


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
@pytest.mark.parametrize("kind", [alone, beside_basic])
async def test_openssl_receives_the_certificate(kind: Kind, version: str, ca: Authority, tmp_path: Path) -> None:
    """Two requests on two connections, because `-www` closes each."""
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    with OpensslServer(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version=version) as server:
        async with serving(kind(server.port, client), tmp_path, ca, environ=ENVIRON) as sidekey:
            pages = [
                await sidekey.reverse("/orders"),
                await sidekey.forward(f"https://127.0.0.1:{server.port}/api/orders"),
            ]
    assert [page.status for page in pages] == [200, 200]
    assert [shown(page.body) for page in pages] == [client.issued.pem] * 2


async def test_chain_arrives_leaf_first(ca: Authority, tmp_path: Path) -> None:
    """At a server that knows only the root, for any order in the file."""
    clients = ClientAuthority(tmp_path)
    issued = clients.issue("ann", chained=True)
    client = clients.write("ann", issued, chain=clients.intermediate.pem + issued.pem)
    leaf = ca.leaf("127.0.0.1")
    with (
        Nginx(tmp_path, asking(clients), leaf=leaf) as nginx,
        Caddy(tmp_path, leaf, clients=clients.bundle) as caddy,
        OpensslServer(tmp_path, leaf, clients=clients.bundle) as server,
    ):
        text = alone(nginx.tls_port, client)
        text += alone(caddy.port, client).replace("it:", "caddy:")
        text += alone(server.port, client).replace("it:", "openssl:")
        async with serving(text, tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/orders")).status == 200
            assert (await sidekey.reverse("/orders", name="caddy")).values(b"x-client-certificate") == [
                client.sha256.encode()
            ]
            assert shown((await sidekey.reverse("/orders", name="openssl")).body) == issued.pem
        (arrived,) = nginx.requests(1)
    assert (arrived["certificate"], arrived["verified"]) == (client.sha1, "SUCCESS")


async def test_encrypted_key_is_used_with_its_passphrase(ca: Authority, tmp_path: Path) -> None:
    clients = ClientAuthority(tmp_path)
    client = clients.write("ann", clients.issue("ann"), passphrase=ENVIRON["PASSPHRASE"])
    assert b"ENCRYPTED PRIVATE KEY" in client.key.read_bytes()
    with Caddy(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle) as caddy:
        text = alone(caddy.port, client, "key_passphrase: {env: PASSPHRASE}")
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            answer = await sidekey.reverse("/orders")
    assert answer.values(b"x-client-certificate") == [client.sha256.encode()]


async def test_certificate_of_a_ca_that_the_server_did_not_name_is_sent(ca: Authority, tmp_path: Path) -> None:
    """RFC 8446 4.2.4 lets a server name CAs. The server decides about certificates of other CAs."""
    clients, strangers = ClientAuthority(tmp_path), ClientAuthority(tmp_path, "Stranger")
    client = strangers.client("eve")
    with Nginx(tmp_path, asking(clients, mode="optional_no_ca"), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(alone(nginx.tls_port, client), tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/orders")).status == 200
        (arrived,) = nginx.requests(1)
    assert arrived["certificate"] == client.sha1
    assert arrived["verified"].startswith("FAILED:")


async def test_refusal_by_nginx_is_passed_on(ca: Authority, tmp_path: Path) -> None:
    """nginx finishes the handshake and returns 400; SidekeyCredentialRejected needs both metrics."""
    clients, strangers = ClientAuthority(tmp_path), ClientAuthority(tmp_path, "Stranger")
    with Nginx(tmp_path, asking(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(alone(nginx.tls_port, strangers.client("eve")), tmp_path, ca) as sidekey:
            answer = await sidekey.reverse("/orders")
            assert await sidekey.metric('sidekey_requests_total{integration="it",outcome="400"}') == 1
            labels = 'integration="it",credential="certificate"'
            assert await sidekey.metric(f"sidekey_credential_expiry_timestamp_seconds{{{labels}}}") > 0
    assert (answer.status, answer.values(b"proxy-status")) == (400, [])
    assert b"The SSL certificate error" in answer.body


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("version", ["tls1.2", "tls1.3"])
async def test_certificate_that_caddy_refuses_is_sent_once(
    version: str, method: str, ca: Authority, tmp_path: Path
) -> None:
    """With TLS 1.3 the refusal may come after the request was written. Sidekey does not retry."""
    clients, strangers = ClientAuthority(tmp_path), ClientAuthority(tmp_path, "Stranger")
    with Caddy(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version=version) as caddy:
        async with serving(alone(caddy.port, strangers.client("eve")), tmp_path, ca) as sidekey:
            answer = await sidekey.reverse("/orders", method=method, body=b"{}" if method == "POST" else b"")
            said = problem(answer)
            connects = sum(sidekey.app.metrics.stats("it").connects.values())
        refusals = caddy.refusals(1)
    assert (said["code"], said["sent"]) == (REFUSED, "no" if version == "tls1.2" else "maybe")
    assert (connects, len(refusals)) == (1, 1)
    assert "unknown authority" in refusals[0]


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
async def test_certificate_that_openssl_refuses_is_sent_once(version: str, ca: Authority, tmp_path: Path) -> None:
    """The server logs its error once."""
    clients, strangers = ClientAuthority(tmp_path), ClientAuthority(tmp_path, "Stranger")
    with OpensslServer(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version=version) as server:
        async with serving(alone(server.port, strangers.client("eve")), tmp_path, ca) as sidekey:
            said = problem(await sidekey.reverse("/orders"))
            connects = sum(sidekey.app.metrics.stats("it").connects.values())
        failures = server.until_said("certificate verify failed").count("certificate verify failed")
    assert (said["code"], said["sent"]) == (REFUSED, "no" if version == "tls1_2" else "maybe")
    assert (connects, failures) == (1, 1)


UPLOAD = bytes(300_000)


@pytest.mark.parametrize("name", ["caddy", "openssl"])
async def test_missing_certificate_is_reported_during_an_upload(name: str, ca: Authority, tmp_path: Path) -> None:
    """Also if a write of the body meets the reset after the alert first, as in one of ten runs."""
    clients, leaf = ClientAuthority(tmp_path), ca.leaf("127.0.0.1")
    caddy = Caddy(tmp_path, leaf, clients=clients.bundle)
    openssl = OpensslServer(tmp_path, leaf, clients=clients.bundle)
    with caddy if name == "caddy" else openssl as server:
        text = (
            f"  it: {{endpoint_prefix: 'https://127.0.0.1:{server.port}/api', "
            "auth: {type: basic, username: svc, password: {env: PASSWORD}}}\n"
        )
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            answers = [await sidekey.reverse("/a", method="POST", body=UPLOAD) for _ in range(30)]
            connects = sum(sidekey.app.metrics.stats("it").connects.values())
    said = {(each["code"], each["sent"], each["detail"]) for each in map(problem, answers)}
    assert said == {(REFUSED, "maybe", "the upstream ended TLS with the alert: certificate required")}
    assert {bytes(answer.values(b"proxy-status")[0]) for answer in answers} == {b"sidekey; error=tls_alert_received"}
    assert connects == len(answers)


async def sidekey_test(integration: str, ca: Authority, folder: Path) -> CompletedProcess[str]:
    """`sidekey test it` with `GET /orders`."""
    network = f"{{allow_private: ['127.0.0.0/8'], trusted_ca: {{file: '{ca.bundle}'}}}}"
    integration = integration.replace("auth:", "test: {method: GET, path: /orders}, auth:")
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\nnetwork: {network}\nintegrations:\n{integration}")
    return await asyncio.to_thread(run_process, "test", "it", "--config", str(path))


async def test_test_command_reports_that_the_server_requested_no_certificate(ca: Authority, tmp_path: Path) -> None:
    """Such a server responds normally to unknown clients."""
    client = ClientAuthority(tmp_path).client("ann")
    with Nginx(tmp_path, leaf=ca.leaf("127.0.0.1")) as nginx:
        result = await sidekey_test(alone(nginx.tls_port, client), ca, tmp_path)
    assert result.returncode == 0
    assert "the server did not request a client certificate" in result.stdout


async def test_test_command_reports_nothing_if_the_server_requested_the_certificate(
    ca: Authority, tmp_path: Path
) -> None:
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    with Nginx(tmp_path, asking(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        result = await sidekey_test(alone(nginx.tls_port, client), ca, tmp_path)
        (arrived,) = nginx.requests(1)
    assert (result.returncode, arrived["certificate"]) == (0, client.sha1)
    assert "did not request" not in result.stdout + result.stderr
