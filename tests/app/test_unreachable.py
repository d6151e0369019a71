"""Integrations whose targets the policy or the address guard always denies."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.private_ca import Authority
from support.raw_connection import connect
from support.serving import HEAD, RunningApp, problem, serving
from support.tunnels import TlsCaller, connect_request
from support.upstream import RawUpstream
from support.wire import Message

HOSTS = {
    "up.test": ["127.0.0.1"],
    "in.test": ["10.0.0.5"],
    "meta.test": ["169.254.169.254"],
    "x.responsys.net": ["127.0.0.1"],
}
WITH_CA = HEAD.replace("integrations:\n", "ca: {{folder: state}}\nintegrations:\n")
SECRET = "{insecure_value: not-to-be-seen-4711}"
KEY = f"type: headers, headers: {{X-Key: {{secret: {SECRET}}}}}"
OAUTH2 = f"type: oauth2, token_endpoint: 'http://127.0.0.1:PORT/token', client_id: id, client_secret: {SECRET}"
SESSION = f"type: session, login: {{url: 'https://up.test/login', body: {{p: {SECRET}}}}}, token: {{from: 'json:t'}}"
RESPONSYS = f"type: responsys, login_endpoint: 'https://login2.responsys.net', username: u, password: {SECRET}"

DENIED = {
    # The address guard refuses the address: a literal, one in network.hosts, IPv4 in IPv6, and link-local metadata.
    "literal": ("http://10.0.0.5/v1", KEY, "destination_denied"),
    "static": ("https://in.test/v1", KEY, "destination_denied"),
    "embedded": ("http://[64:ff9b::a00:5]/v1", KEY, "destination_denied"),
    "metadata": ("http://meta.test/v1", KEY, "destination_denied"),
    # The target is outside the allowed domains, which are those of the token endpoint or login.
    "oauth2": ("http://up.test:PORT/v1", OAUTH2, "target_denied"),
    "base_url": ("http://up.test:PORT/v1", f"{OAUTH2}, token_response: {{base_url: url}}", "target_denied"),
    "session": ("http://up.test:PORT/v1", SESSION, "target_denied"),
    # The target is outside the path of the kind, or it is the path of the login.
    "path": ("https://x.responsys.net/other", RESPONSYS, "target_denied"),
    "login": ("https://x.responsys.net/rest/api/v1.3/auth", RESPONSYS, "target_denied"),
}


def is_denied(response: Message, code: str) -> bool:
    """Return True if the response is this error and shows neither the address nor the secret."""
    error = problem(response)
    assert not any(text in str(error) for text in ("10.0.0.5", "169.254.169.254", "4711"))
    return (response.status, error["code"]) == (403, code)


async def send_in_tunnel(sidekey: RunningApp, url: str, state: Path) -> Message:
    """Send a request in a tunnel, and return its response, or the response to a denied CONNECT."""
    parts = urlsplit(url)
    host, port = parts.netloc.removesuffix(f":{parts.port}"), parts.port or {"http": 80, "https": 443}[parts.scheme]
    async with connect(sidekey.port) as caller:
        connecting = connect_request(f"{host}:{port}", user="it:x")
        await caller.send(connecting)
        if (await caller.response(to_head=True)).status != 200:
            return await sidekey.send(connecting)
        request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        if parts.scheme == "http":
            await caller.send(request)
            return await caller.response()
        inside = TlsCaller(caller, ssl.create_default_context(cafile=state / "trust" / "ca.pem"), host)
        await inside.handshake()
        await inside.send(request)
        return await inside.response()


@pytest.mark.parametrize("case", DENIED)
async def test_no_request_passes(case: str, ca: Authority, tmp_path: Path) -> None:
    """The test covers every route, and paths for the fast and the full parser."""
    prefix, auth, code = DENIED[case]
    async with RawUpstream() as upstream:
        prefix, auth = (text.replace("PORT", str(upstream.port)) for text in (prefix, auth))
        config = (
            f"  it: {{endpoint_prefix: '{prefix}', auth: {{{auth}}}, allow_private: [169.254.0.0/16]}}\n"
            f"  good: {{endpoint_prefix: 'http://up.test:{upstream.port}/v1', auth: {{{KEY}}}}}\n"
        )
        async with serving(config, tmp_path, ca, hosts=HOSTS, head=WITH_CA) as sidekey:
            for path in ("/x", "/%78"):
                assert is_denied(await sidekey.reverse(path), code)
                assert is_denied(await sidekey.forward(f"{prefix}{path}"), code)
            assert is_denied(await send_in_tunnel(sidekey, f"{prefix}/x", tmp_path / "state"), code)
            # Sidekey sent nothing, not even a token request.
            assert upstream.connections == []
            assert (await sidekey.reverse("/x", name="good")).status == 200
