"""Client certificates with OAuth2: nginx requires one for the token endpoint and the API (RFC 8705)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from support import authlib_server
from support.authlib_server import AuthlibServer
from support.client_files import ClientAuthority, ClientFiles
from support.nginx import Nginx
from support.private_ca import Authority
from support.serving import problem, serving

ENVIRON = {"SECRET": authlib_server.SECRET}
FRONT = """
    ssl_client_certificate {bundle};
    ssl_verify_client on;
    location / {{
        proxy_pass https://127.0.0.1:{port};
        proxy_set_header Host 127.0.0.1:{port};
        proxy_set_header {seen} $ssl_client_fingerprint;
    }}
"""


@contextmanager
def in_front(server: AuthlibServer, clients: ClientAuthority, ca: Authority, folder: Path) -> Iterator[Nginx]:
    """Run an nginx that passes the client certificate to the server."""
    snippet = FRONT.format(bundle=clients.bundle, port=server.port, seen=authlib_server.SEEN)
    with Nginx(folder, snippet, leaf=ca.leaf("127.0.0.1")) as nginx:
        yield nginx


def integration(nginx: Nginx, client: ClientFiles, more: str) -> str:
    """Build an integration whose only allowed base URL is that of nginx."""
    endpoint = f"https://127.0.0.1:{nginx.tls_port}/token"
    auth = f"{{type: oauth2, token_endpoint: '{endpoint}', {more}}}"
    return f"  it: {{client_certificate: {{{client.keys()}}}, auth: {auth}}}\n"


@pytest.mark.parametrize(
    "more", ["client_id: basic, client_secret: {env: SECRET}", "client_id: tls, client_authentication: tls_client_auth"]
)
async def test_token_endpoint_and_api_receive_the_certificate(more: str, ca: Authority, tmp_path: Path) -> None:
    """With a client secret, and as client authentication. Through both proxies, with one token."""
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    async with AuthlibServer(ca) as server:
        server.register_certificate(client.sha1)
        with in_front(server, clients, ca, tmp_path) as nginx:
            async with serving(integration(nginx, client, more), tmp_path, ca, environ=ENVIRON) as sidekey:
                assert (await sidekey.reverse("/api/orders")).status == 200
                assert (await sidekey.forward(f"https://127.0.0.1:{nginx.tls_port}/api/orders")).status == 200
            received = nginx.requests(3)
        asked = server.received[0]
    assert [line["target"] for line in received] == ["/token", "/api/orders", "/api/orders"]
    assert {line["certificate"] for line in received} == {client.sha1}
    fields = dict(parse_qsl(asked.body.decode()))
    by_certificate = "tls_client_auth" in more
    assert "client_secret" not in fields
    assert bool(asked.values("authorization")) is not by_certificate
    assert fields.get("client_id") == ("tls" if by_certificate else None)


async def test_certificate_of_another_client_gets_no_token(ca: Authority, tmp_path: Path) -> None:
    """It has the right CA, but is not registered: `invalid_client`, and no call to the API."""
    clients = ClientAuthority(tmp_path)
    async with AuthlibServer(ca) as server:
        server.register_certificate(clients.client("ann").sha1)
        with in_front(server, clients, ca, tmp_path) as nginx:
            more = "client_id: tls, client_authentication: tls_client_auth"
            text = integration(nginx, clients.client("bob"), more)
            async with serving(text, tmp_path, ca) as sidekey:
                error = problem(await sidekey.reverse("/api/orders"))
            received = nginx.requests(1)
    assert (error["code"], error["sent"]) == ("credential_unavailable", "no")
    assert error["detail"] == "token endpoint returned 401 invalid_client"
    assert [line["target"] for line in received] == ["/token"]
