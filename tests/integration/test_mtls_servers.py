"""Client certificates at real servers that request one: nginx, Caddy and openssl s_server, with TLS 1.2 and 1.3."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from support.caddy import Caddy
from support.client_files import ClientAuthority, ClientFiles
from support.nginx import ECHO, Nginx
from support.openssl_server import OpensslHttpsServer, client_certificate_on
from support.private_ca import Authority
from support.serving import problem, serving
from support.sidekey_process import run_process

PASSWORD = "s3cret"
BASIC = "Basic " + b64encode(f"svc:{PASSWORD}".encode()).decode()
ENVIRON = {"PASSWORD": PASSWORD, "PASSPHRASE": "open sesame"}
REFUSED = "upstream_tls_failed"
Kind = Callable[[int, ClientFiles], str]


def nginx_with_client_ca(clients: ClientAuthority, protocol: str = "TLSv1.3", *, mode: str = "on") -> str:
    """Run an nginx that requests a certificate of `clients`, and echoes."""
    return f"""
        ssl_client_certificate {clients.bundle};
        ssl_verify_client {mode};
        ssl_verify_depth 2;
        ssl_protocols {protocol};
        {ECHO}
    """


def mtls_integration(port: int, client: ClientFiles, *more: str) -> str:
    """Build an integration of kind `mtls`."""
    return f"  it: {{endpoint_prefix: 'https://127.0.0.1:{port}/api', auth: {{type: mtls, {client.keys(*more)}}}}}\n"


def basic_with_certificate(port: int, client: ClientFiles) -> str:
    """Build an integration of kind `basic` with a client certificate."""
    return (
        f"  it: {{endpoint_prefix: 'https://127.0.0.1:{port}/api', client_certificate: {{{client.keys()}}}, "
        "auth: {type: basic, username: svc, password: {env: PASSWORD}}}\n"
    )


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("kind", [mtls_integration, basic_with_certificate])
async def test_nginx_receives_the_certificate_through_both_proxies(
    kind: Kind, protocol: str, ca: Authority, tmp_path: Path
) -> None:
    """With the credential of the kind. `mtls` has none."""
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    with Nginx(tmp_path, nginx_with_client_ca(clients, protocol), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(kind(nginx.tls_port, client), tmp_path, ca, environ=ENVIRON) as sidekey:
            assert (await sidekey.reverse("/orders?a=b", method="POST", body=b"{}")).status == 200
            assert (await sidekey.forward(f"https://127.0.0.1:{nginx.tls_port}/api/orders")).status == 200
        received = nginx.requests(2)
    assert [(line["method"], line["target"]) for line in received] == [
        ("POST", "/api/orders?a=b"),
        ("GET", "/api/orders"),
    ]
    assert {line["authorization"] for line in received} == {BASIC if kind is basic_with_certificate else ""}
    assert {(line["certificate"], line["verified"]) for line in received} == {(client.sha1, "SUCCESS")}
    assert {line["protocol"] for line in received} == {protocol}
    assert len({line["connection"] for line in received}) == 1


@pytest.mark.parametrize("version", ["tls1.2", "tls1.3"])
@pytest.mark.parametrize("kind", [mtls_integration, basic_with_certificate])
async def test_caddy_receives_the_certificate_through_both_proxies(
    kind: Kind, version: str, ca: Authority, tmp_path: Path
) -> None:
    """With Go's TLS, in both versions."""
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    credential = BASIC if kind is basic_with_certificate else ""
    with Caddy(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version=version) as caddy:
        async with serving(kind(caddy.port, client), tmp_path, ca, environ=ENVIRON) as sidekey:
            responses = [
                await sidekey.reverse("/orders", method="POST", body=b"{}"),
                await sidekey.forward(f"https://127.0.0.1:{caddy.port}/api/orders"),
            ]
        assert caddy.refusals() == []
    assert [response.status for response in responses] == [200, 200]
    assert [response.body.decode() for response in responses] == [
        f"{method} /api/orders\nauthorization: {credential}\n" for method in ("POST", "GET")
    ]
    for response in responses:
        assert response.values(b"x-client-certificate") == [client.sha256.encode()]
        assert response.values(b"x-client-subject") == [b"CN=ann"]
        assert response.values(b"x-tls-version") == [version.encode()]


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
@pytest.mark.parametrize("kind", [mtls_integration, basic_with_certificate])
async def test_openssl_receives_the_certificate(kind: Kind, version: str, ca: Authority, tmp_path: Path) -> None:
    """Two requests on two connections, because `-www` closes each."""
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    with OpensslHttpsServer(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version=version) as server:
        async with serving(kind(server.port, client), tmp_path, ca, environ=ENVIRON) as sidekey:
            pages = [
                await sidekey.reverse("/orders"),
                await sidekey.forward(f"https://127.0.0.1:{server.port}/api/orders"),
            ]
    assert [page.status for page in pages] == [200, 200]
    assert [client_certificate_on(page.body) for page in pages] == [client.issued.pem] * 2


async def test_chain_arrives_leaf_first(ca: Authority, tmp_path: Path) -> None:
    """For any order in the file. The server knows only the root."""
    clients = ClientAuthority(tmp_path)
    issued = clients.issue("ann", chained=True)
    client = clients.write("ann", issued, chain=clients.intermediate.pem + issued.pem)
    leaf = ca.leaf("127.0.0.1")
    with (
        Nginx(tmp_path, nginx_with_client_ca(clients), leaf=leaf) as nginx,
        Caddy(tmp_path, leaf, clients=clients.bundle) as caddy,
        OpensslHttpsServer(tmp_path, leaf, clients=clients.bundle) as server,
    ):
        text = mtls_integration(nginx.tls_port, client)
        text += mtls_integration(caddy.port, client).replace("it:", "caddy:")
        text += mtls_integration(server.port, client).replace("it:", "openssl:")
        async with serving(text, tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/orders")).status == 200
            assert (await sidekey.reverse("/orders", name="caddy")).values(b"x-client-certificate") == [
                client.sha256.encode()
            ]
            assert client_certificate_on((await sidekey.reverse("/orders", name="openssl")).body) == issued.pem
        (received,) = nginx.requests(1)
    assert (received["certificate"], received["verified"]) == (client.sha1, "SUCCESS")


async def test_encrypted_key_is_used_with_its_passphrase(ca: Authority, tmp_path: Path) -> None:
    clients = ClientAuthority(tmp_path)
    client = clients.write("ann", clients.issue("ann"), passphrase=ENVIRON["PASSPHRASE"])
    assert b"ENCRYPTED PRIVATE KEY" in client.key.read_bytes()
    with Caddy(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle) as caddy:
        text = mtls_integration(caddy.port, client, "key_passphrase: {env: PASSPHRASE}")
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            response = await sidekey.reverse("/orders")
    assert response.values(b"x-client-certificate") == [client.sha256.encode()]


async def test_certificate_of_a_ca_that_the_server_did_not_name_is_sent(ca: Authority, tmp_path: Path) -> None:
    """A server may list CAs (RFC 8446 4.2.4), but it decides about certificates of other CAs, too."""
    clients, strangers = ClientAuthority(tmp_path), ClientAuthority(tmp_path, "Stranger")
    client = strangers.client("eve")
    with Nginx(tmp_path, nginx_with_client_ca(clients, mode="optional_no_ca"), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(mtls_integration(nginx.tls_port, client), tmp_path, ca) as sidekey:
            assert (await sidekey.reverse("/orders")).status == 200
        (received,) = nginx.requests(1)
    assert received["certificate"] == client.sha1
    assert received["verified"].startswith("FAILED:")


async def test_refusal_by_nginx_is_forwarded(ca: Authority, tmp_path: Path) -> None:
    """nginx completes the handshake and returns 400. The alert SidekeyCredentialRejected needs both metrics."""
    clients, strangers = ClientAuthority(tmp_path), ClientAuthority(tmp_path, "Stranger")
    with Nginx(tmp_path, nginx_with_client_ca(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        async with serving(mtls_integration(nginx.tls_port, strangers.client("eve")), tmp_path, ca) as sidekey:
            response = await sidekey.reverse("/orders")
            assert await sidekey.metric('sidekey_requests_total{integration="it",outcome="400"}') == 1
            labels = 'integration="it",credential="certificate"'
            assert await sidekey.metric(f"sidekey_credential_expiry_timestamp_seconds{{{labels}}}") > 0
    assert (response.status, response.values(b"proxy-status")) == (400, [])
    assert b"The SSL certificate error" in response.body


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("version", ["tls1.2", "tls1.3"])
async def test_certificate_that_caddy_refuses_is_sent_once(
    version: str, method: str, ca: Authority, tmp_path: Path
) -> None:
    """With TLS 1.3 the refusal may follow the request. Sidekey does not retry."""
    clients, strangers = ClientAuthority(tmp_path), ClientAuthority(tmp_path, "Stranger")
    with Caddy(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version=version) as caddy:
        async with serving(mtls_integration(caddy.port, strangers.client("eve")), tmp_path, ca) as sidekey:
            response = await sidekey.reverse("/orders", method=method, body=b"{}" if method == "POST" else b"")
            error = problem(response)
            connects = sum(sidekey.app.metrics.stats("it").connects.values())
        refusals = caddy.refusals(1)
    assert (error["code"], error["sent"]) == (REFUSED, "no" if version == "tls1.2" else "maybe")
    assert (connects, len(refusals)) == (1, 1)
    assert "unknown authority" in refusals[0]


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
async def test_certificate_that_openssl_refuses_is_sent_once(version: str, ca: Authority, tmp_path: Path) -> None:
    """The server logs its error once."""
    clients, strangers = ClientAuthority(tmp_path), ClientAuthority(tmp_path, "Stranger")
    with OpensslHttpsServer(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version=version) as server:
        async with serving(mtls_integration(server.port, strangers.client("eve")), tmp_path, ca) as sidekey:
            error = problem(await sidekey.reverse("/orders"))
            connects = sum(sidekey.app.metrics.stats("it").connects.values())
        failures = server.wait_for_output("certificate verify failed").count("certificate verify failed")
    assert (error["code"], error["sent"]) == (REFUSED, "no" if version == "tls1_2" else "maybe")
    assert (connects, failures) == (1, 1)


UPLOAD = bytes(300_000)


@pytest.mark.parametrize("name", ["caddy", "openssl"])
async def test_missing_certificate_is_reported_during_an_upload(name: str, ca: Authority, tmp_path: Path) -> None:
    """Even if a write finds the reset before Sidekey reads the alert, as in one of ten runs."""
    clients, leaf = ClientAuthority(tmp_path), ca.leaf("127.0.0.1")
    caddy = Caddy(tmp_path, leaf, clients=clients.bundle)
    openssl = OpensslHttpsServer(tmp_path, leaf, clients=clients.bundle)
    with caddy if name == "caddy" else openssl as server:
        text = (
            f"  it: {{endpoint_prefix: 'https://127.0.0.1:{server.port}/api', "
            "auth: {type: basic, username: svc, password: {env: PASSWORD}}}\n"
        )
        async with serving(text, tmp_path, ca, environ=ENVIRON) as sidekey:
            responses = [await sidekey.reverse("/a", method="POST", body=UPLOAD) for _ in range(30)]
            connects = sum(sidekey.app.metrics.stats("it").connects.values())
    errors = {(item["code"], item["sent"], item["detail"]) for item in map(problem, responses)}
    assert errors == {(REFUSED, "maybe", "the upstream ended TLS with the alert: certificate required")}
    assert {bytes(response.values(b"proxy-status")[0]) for response in responses} == {
        b"sidekey; error=tls_alert_received"
    }
    assert connects == len(responses)


async def sidekey_test(integration: str, ca: Authority, folder: Path) -> CompletedProcess[str]:
    """Run `sidekey test it` with `GET /orders`."""
    network = f"{{allow_private: ['127.0.0.0/8'], trusted_ca: {{file: '{ca.bundle}'}}}}"
    integration = integration.replace("auth:", "test: {method: GET, path: /orders}, auth:")
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\nnetwork: {network}\nintegrations:\n{integration}")
    return await asyncio.to_thread(run_process, "test", "it", "--config", str(path))


async def test_test_command_reports_that_the_server_requested_no_certificate(ca: Authority, tmp_path: Path) -> None:
    """Such a server responds normally to unknown clients."""
    client = ClientAuthority(tmp_path).client("ann")
    with Nginx(tmp_path, leaf=ca.leaf("127.0.0.1")) as nginx:
        result = await sidekey_test(mtls_integration(nginx.tls_port, client), ca, tmp_path)
    assert result.returncode == 0
    assert "the server did not request a client certificate" in result.stdout


async def test_test_command_reports_nothing_if_the_server_requested_the_certificate(
    ca: Authority, tmp_path: Path
) -> None:
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    with Nginx(tmp_path, nginx_with_client_ca(clients), leaf=ca.leaf("127.0.0.1")) as nginx:
        result = await sidekey_test(mtls_integration(nginx.tls_port, client), ca, tmp_path)
        (received,) = nginx.requests(1)
    assert (result.returncode, received["certificate"]) == (0, client.sha1)
    assert "did not request" not in result.stdout + result.stderr
