"""http token endpoints on loopback, as of mock servers: allowed with a warning, and dialled only on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.private_ca import Authority
from support.serving import HEAD, problem, serving
from support.sidekey_process import run_cli
from support.upstream import RawUpstream, respond_with

WARNING = "the client's secret and the token travel in the clear: for tests only"
REFUSAL = "must be an https URL: the secret would travel in the clear (RFC 6749 3.2)"
TOKEN = b'{"access_token": "tok-1", "token_type": "Bearer", "expires_in": 3600}'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(TOKEN), TOKEN)


def auth(endpoint: str) -> str:
    """Return the keys of an integration with this token endpoint."""
    return f"auth: {{type: oauth2, token_endpoint: {endpoint}, client_id: id, client_secret: {{env: SECRET}}}}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_token_is_fetched_from_http_endpoint_on_loopback(host: str, ca: Authority, tmp_path: Path) -> None:
    """The request then reaches the upstream with the token."""
    async with RawUpstream(respond_with(RESPONSE)) as upstream:
        text = f"  it: {{{auth(f'http://{host}:{upstream.port}/token')}}}\n"
        hosts = {"localhost": ["127.0.0.1"]}
        async with serving(text, tmp_path, ca, hosts=hosts, environ={"SECRET": "s3cret"}) as sidekey:
            assert (await sidekey.reverse("/orders")).status == 200
    token_request, request = upstream.requests
    assert token_request.start == b"POST /token HTTP/1.1"
    assert request.values(b"authorization") == [b"Bearer tok-1"]


async def test_localhost_that_resolves_elsewhere_is_not_dialled(ca: Authority, tmp_path: Path) -> None:
    """Even if the network rules allow that address: the secret would leave this machine in plain text."""
    head = HEAD.replace('["127.0.0.0/8"]', '["127.0.0.0/8", "10.0.0.0/8"]')
    text = f"  it: {{{auth('http://localhost:8080/token')}}}\n"
    hosts = {"localhost": ["10.0.0.1"]}
    async with serving(text, tmp_path, ca, hosts=hosts, environ={"SECRET": "s3cret"}, head=head) as sidekey:
        detail = problem(await sidekey.reverse("/orders"))["detail"]
    assert detail == "token endpoint: its URL is http, and its host has no loopback address: use https"


@pytest.mark.parametrize(
    ("endpoint", "status", "expected"),
    [
        ("http://127.0.0.1:9000/token", 0, WARNING),
        ("http://[::1]:9000/token", 0, WARNING),
        ("http://localhost/token", 0, WARNING),
        ("http://auth.example.com/token", 1, REFUSAL),
        ("http://localhost.example.com/token", 1, REFUSAL),
        ("http://128.0.0.1/token", 1, REFUSAL),
        ("http://10.0.0.1/token", 1, REFUSAL),
        ("http://[::ffff:127.0.0.1]/token", 1, REFUSAL),
        ("{env: ENDPOINT}", 1, REFUSAL),
    ],
)
def test_check_warns_on_loopback_and_refuses_http_elsewhere(
    endpoint: str, status: int, expected: str, tmp_path: Path
) -> None:
    """It refuses a URL from a variable, because `run` may read another value."""
    path = tmp_path / "sidekey.yaml"
    network = 'network: {allow_private: ["127.0.0.0/8", "::1/128"]}\n'
    text = endpoint if endpoint.startswith("{") else f'"{endpoint}"'
    path.write_text(f"version: 1\n{network}integrations:\n  it: {{{auth(text)}}}\n")
    environment = {"SECRET": "s3cret", "ENDPOINT": "http://127.0.0.1/token"}
    result = run_cli("check", "--config", str(path), environment=environment)
    results = [line for line in result.stdout.splitlines() if ".auth.token_endpoint: " in line]
    assert (result.returncode, [line.partition(".auth.token_endpoint: ")[2] for line in results]) == (
        status,
        [expected],
    )
    assert all(line.startswith("warning: ") is (status == 0) for line in results)


def test_client_certificate_needs_an_https_endpoint(tmp_path: Path) -> None:
    """Without TLS, no certificate can be sent."""
    path = tmp_path / "sidekey.yaml"
    keys = "token_endpoint: 'http://localhost/token', client_id: id, client_authentication: tls_client_auth"
    certificate = "client_certificate: {pem: {file: pem}}"
    path.write_text(f"version: 1\nintegrations:\n  it: {{auth: {{type: oauth2, {keys}}}, {certificate}}}\n")
    result = run_cli("check", "--config", str(path))
    assert "auth.client_authentication: tls_client_auth needs an https token_endpoint" in result.stdout


def test_http_prefix_and_http_domain_are_both_warned_about(tmp_path: Path) -> None:
    """The credential would be sent in plain text."""
    path = tmp_path / "sidekey.yaml"
    (tmp_path / "secret").write_text("s3cret")
    domains = "allow_other_domains: true, allowed_domains: ['https://a.example.com', 'HTTP://b.example.com']"
    basic = "auth: {type: basic, username: svc, password: {file: secret}}"
    prefixes = "endpoint_prefix: ['https://a.example.com/v1', 'http://b.example.com/v1']"
    path.write_text(f"version: 1\nintegrations:\n  it: {{{prefixes}, {domains}, {basic}}}\n")
    result = json.loads(run_cli("check", "--json", "--config", str(path)).stdout)
    message = "the credential travels in the clear"
    assert [(results["path"], results["message"]) for results in result["warnings"]] == [
        ("integrations.it.endpoint_prefix[1]", message),
        ("integrations.it.allowed_domains[1]", message),
    ]
