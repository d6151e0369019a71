"""Callers with JWTs in a running Sidekey with TLS: the example config, real clients, and reloads."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidekey.config.load import load
from support import oauth, programs
from support.caller_certificates import SPIFFE_ID, CallerCa, uri
from support.nginx import Nginx
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import RawConnection, connect
from support.serving import RunningApp, problem, serving
from support.upstream import RawUpstream
from support.wire import Message

EXAMPLE = Path(__file__).parents[2] / "examples" / "callers" / "sidekey.yaml"
SUBJECT = "system:serviceaccount:prod:billing"
ISSUER = "https://kubernetes.default.svc.cluster.local"
CREDENTIAL = b"Bearer crm-secret"


def token(**changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": ["sidekey"], "sub": SUBJECT, "iat": now, "nbf": now, "exp": now + 600} | changes
    return oauth.signer().sign(claims, kid="cluster")


@asynccontextmanager
async def gateway(folder: Path, ca: Authority) -> AsyncIterator[tuple[RunningApp, CallerCa, RawUpstream]]:
    """Serve the example, with its files, an upstream of the test, and an API server that publishes keys."""
    for name in ("tls", "cluster", "tokens", "served"):
        (folder / name).mkdir()
    caller_ca = CallerCa.create(folder)
    # Of another CA than the callers' certificates: real clients are strict about it.
    leaf = ca.leaf("localhost", "127.0.0.1")
    (folder / "tls" / "tls.crt").write_bytes(leaf.certificate.read_bytes())
    (folder / "tls" / "tls.key").write_bytes(leaf.key.read_bytes())
    (folder / "tls" / "ca.crt").write_bytes(caller_ca.issued.pem)
    (folder / "cluster" / "ca.crt").write_bytes(ca.bundle.read_bytes())
    for name, text in {"tokens/crm": "crm-secret", "tokens/legacy": "legacy-token", "cluster/token": "own"}.items():
        (folder / name).write_text(text)
    key = oauth.signer().public_jwk | {"kid": "cluster"}
    (folder / "served" / "jwks").write_text(json.dumps({"keys": [key]}))
    snippet = f"location = /openid/v1/jwks {{ alias {folder}/served/jwks; }}"
    tls = ca.server_context("up.test")
    with Nginx(folder, snippet, leaf=ca.leaf("127.0.0.1")) as nginx:
        async with RawUpstream(ssl_context=tls) as upstream:
            text = EXAMPLE.read_text()
            for old, new in {
                "proxy: 0.0.0.0:8443": 'proxy: "127.0.0.1:0"\n  admin: "127.0.0.1:0"',
                "https://kubernetes.default.svc.cluster.local/openid": f"https://127.0.0.1:{nginx.tls_port}/openid",
                "[10.0.0.0/8]": "[127.0.0.0/8]",
                "https://token.actions.githubusercontent.com": f"https://127.0.0.1:{nginx.tls_port}",
                "https://api.example.com/v1": f"https://up.test:{upstream.port}/v1",
                "version: 1": "version: 1\nca: {{folder: state}}\n"
                'network: {{hosts: {hosts}, allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {bundle}}}}}\n'
                "log: {{access: all}}",
            }.items():
                assert old in text
                text = text.replace(old, new)
            head = text.split("version: 1", 1)[1].split("log: {{access: all}}", 1)
            body = head[1].replace("{", "{{").replace("}", "}}")
            config = f"version: 1{head[0]}log: {{{{access: all}}}}{body}"
            async with serving("", folder, ca, hosts={"up.test": ["127.0.0.1"]}, head=config) as app:
                yield app, caller_ca, upstream


async def ask(caller: RawConnection, *fields: str) -> Message:
    lines = ("GET /i/crm/x HTTP/1.1", "Host: localhost", *fields, "", "")
    await caller.send("\r\n".join(lines).encode())
    return await caller.response()


async def run(folder: Path, *command: str, **variables: str) -> bytes:
    environ = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()} | variables
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environ, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


REQUESTS = "import requests; print(requests.get(URL, timeout=45).text, end='')"
HTTPX = (
    "import httpx, ssl; print(httpx.get(URL, verify=ssl.create_default_context(cafile=CA), timeout=45).text, end='')"
)
AGENT = Path(__file__).parents[1] / "peers" / "clients" / "node_modules" / "https-proxy-agent"
NODE = f"""
const {{ HttpsProxyAgent }} = require("{AGENT}");
const agent = new HttpsProxyAgent(process.env.HTTPS_PROXY);
require("https").get(URL, {{ agent }}, response => response.pipe(process.stdout));
"""


@pytest.mark.parametrize("client", ["curl", "requests", "httpx", "node"])
async def test_unchanged_client_with_an_https_proxy(client: str, tmp_path: Path, ca: Authority) -> None:
    """HTTPS_PROXY names the gateway, with the JWT as the password. The client does TLS within TLS."""
    if client == "node":
        programs.require_npm("clients")
    async with gateway(tmp_path, ca) as (app, _, upstream):
        both = tmp_path / "both.pem"
        trust = (tmp_path / "state" / "trust" / "ca.pem").read_bytes()
        both.write_bytes(trust + ca.bundle.read_bytes())
        url = f"https://up.test:{upstream.port}/v1/x"
        proxy = f"https://crm:{token()}@localhost:{app.port}"
        files = dict.fromkeys(
            ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), str(both)
        )
        variables = files | {"HTTPS_PROXY": proxy, "https_proxy": proxy}
        names = f"URL, CA = {url!r}, {str(both)!r}\n"
        command = {
            "curl": lambda: [programs.require("curl"), "-sS", "--proxy-cacert", str(ca.bundle), url],
            "requests": lambda: [sys.executable, "-c", names + REQUESTS],
            "httpx": lambda: [sys.executable, "-c", names + HTTPX],
            "node": lambda: [programs.require("node"), "-e", NODE.replace("URL", json.dumps(url))],
        }[client]()
        assert await run(tmp_path, *command, **variables) == b"ok"
        assert upstream.requests[0].values(b"authorization") == [CREDENTIAL]
        await eventually(lambda: ("billing", "GET", "tunnel") in _requests(app))


def _requests(app: RunningApp) -> list[tuple[str, str, str]]:
    """Return caller, method and door of each logged request."""
    lines = [line for line in app.lines() if line["event"] == "request"]
    return [(line["caller"], line["method"], line["door"]) for line in lines]


@pytest.mark.parametrize(
    ("field", "status", "reason"),
    [
        (f"Sidekey-Token: {token()}", 200, ""),
        (f"Proxy-Authorization: Basic {b64encode(f'crm:{token()}'.encode()).decode()}", 200, ""),
        ("Sidekey-Token: legacy-token", 200, ""),
        (f"Sidekey-Token: {token(sub='system:serviceaccount:prod:other')}", 401, "token_unknown"),
        (f"Sidekey-Token: {token(aud='https://kubernetes.default.svc')}", 401, "jwt_invalid"),
        (f"Sidekey-Token: {token(exp=1)}", 401, "jwt_invalid"),
        ("Sidekey-Token: ey.x.y", 401, "jwt_invalid"),
        (f"Authorization: Bearer {token()}", 401, "token_missing"),
    ],
)
async def test_jwt_in_place_of_a_token(field: str, status: int, reason: str, tmp_path: Path, ca: Authority) -> None:
    async with gateway(tmp_path, ca) as (app, _caller_ca, upstream):
        async with connect(app.port, ssl_context=ca.client_context()) as caller:
            for _ in range(2):
                assert (await ask(caller, field)).status == status
        assert len(upstream.requests) == (2 if status == 200 else 0)
        assert all(b"sidekey-token" not in data.lower() for data in upstream.received)
        if reason:
            metric = f'sidekey_denials_total{{integration="crm",reason="{reason}"}}'
            other = metric.replace('"crm"', '"unknown"')
            assert await app.metric(metric) + await app.metric(other) == 2
            assert all(line["caller"] is None for line in app.lines() if line["event"] == "request")
        secret = field.rsplit(" ", maxsplit=1)[-1]
        assert secret not in app.log.read_text()


async def test_certificate_and_jwt_of_one_caller(tmp_path: Path, ca: Authority) -> None:
    async with gateway(tmp_path, ca) as (app, caller_ca, _):
        caller_ca.client("billing", uri(SPIFFE_ID))
        context = ca.client_context()
        context.load_cert_chain(tmp_path / "billing.crt", tmp_path / "billing.key")
        async with connect(app.port, ssl_context=context) as caller:
            assert (await ask(caller)).status == 200
            assert (await ask(caller, f"Sidekey-Token: {token()}")).status == 200
            assert (await ask(caller, f"Sidekey-Token: {token(exp=1)}")).status == 401
            assert (await ask(caller, "Sidekey-Token: legacy-token")).status == 400


async def test_reload_that_removes_a_caller_counts_for_verified_jwts(tmp_path: Path, ca: Authority) -> None:
    async with gateway(tmp_path, ca) as (app, _caller_ca, _):
        field = f"Sidekey-Token: {token()}"
        async with connect(app.port, ssl_context=ca.client_context()) as caller:
            assert (await ask(caller, field)).status == 200
            config = tmp_path / "sidekey.yaml"
            config.write_text(config.read_text().replace(SUBJECT, "system:serviceaccount:prod:renamed"))
            app.hang_up()
            await app.logged("config reloaded")
            response = await ask(caller, field)
            assert (response.status, problem(response)["detail"]) == (
                401,
                "no caller has the issuer and subject of this JWT",
            )


async def test_jwt_that_expires_ends_its_tunnel(tmp_path: Path, ca: Authority) -> None:
    """A client that keeps the tunnel then opens another one, with its next JWT."""
    async with gateway(tmp_path, ca) as (app, _caller_ca, upstream):
        proxy_user = b64encode(f"crm:{token()}".encode()).decode()
        async with connect(app.port, ssl_context=ca.client_context()) as caller:
            authority = f"up.test:{upstream.port}"
            await caller.send(
                f"CONNECT {authority} HTTP/1.1\r\nProxy-Authorization: Basic {proxy_user}\r\n\r\n".encode()
            )
            await caller.until_contains(b"\r\n\r\n")
            caller.consumed = len(caller.received)
            request = f"GET /v1/x HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()
            await caller.send(request)
            # The caller is known, but plain HTTP in the tunnel is outside the policy.
            assert problem(await caller.response())["code"] == "target_denied"
            app.app._jwt_issuers._wall = lambda: time.time() + 601
            await caller.send(request)
            response = await caller.response()
            assert (response.status, response.values(b"connection")) == (403, [b"close"])
            assert problem(response)["detail"].startswith("the JWT has expired")


async def test_issuer_without_keys_is_a_temporary_error(tmp_path: Path, ca: Authority) -> None:
    """The issuer `github` of the example has no discovery document here."""
    async with gateway(tmp_path, ca) as (app, _caller_ca, _):
        issuer = app.app.snapshot.jwt_issuers["github"].issuer
        field = f"Sidekey-Token: {token(iss=issuer, aud='https://sidekey.example.com')}"
        async with connect(app.port, ssl_context=ca.client_context()) as caller:
            response = await ask(caller, field)
            assert (response.status, response.values(b"retry-after")) == (503, [b"5"])
            assert problem(response)["code"] == "issuer_unavailable"
        assert await app.metric('sidekey_jwks_fetches_total{issuer="github",outcome="invalid"}') >= 1
        assert await app.metric('sidekey_jwks_fetches_total{issuer="cluster",outcome="ok"}') == 1
        line = await app.logged("the keys of a JWT issuer cannot be fetched")
        assert (line["issuer"], line["url"]) == ("github", f"{issuer}/.well-known/openid-configuration")


async def test_renewed_token_of_the_key_requests_keeps_the_keys(tmp_path: Path, ca: Authority) -> None:
    """Sidekey's own token changes every hour. No JWT is refused meanwhile."""
    async with gateway(tmp_path, ca) as (app, _caller_ca, _):
        (tmp_path / "cluster" / "token").write_text("renewed")
        app.hang_up()
        await eventually(lambda: app.app.snapshot.jwt_issuers["cluster"].token == "renewed")
        async with connect(app.port, ssl_context=ca.client_context()) as caller:
            assert (await ask(caller, f"Sidekey-Token: {token()}")).status == 200
        assert await app.metric('sidekey_jwks_fetches_total{issuer="cluster",outcome="ok"}') == 1


def test_example_names_every_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "sidekey.yaml"
    path.write_text(EXAMPLE.read_text())
    loaded = load(path, {})
    assert [error.path for error in loaded.errors] == [
        "listen.tls.certificate",
        "listen.tls.private_key",
        "listen.tls.client_ca",
    ]
    assert [error.path for error in loaded.of("unreadable")] == [
        "jwt_issuers.cluster.trusted_ca",
        "jwt_issuers.cluster.token",
        "callers.legacy.token",
        "integrations.crm.auth.headers.Authorization.secret",
    ]
