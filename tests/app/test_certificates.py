"""Client certificates in a running Sidekey: in use, rotated, expired, unusable, and fetched from a URL."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.api import Api, managed
from support.certificate_files import client_certificate_of, mount, require_client_certificate, valid_now
from support.certificates import issue
from support.files import replace
from support.http_get import get, wait_until
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.scraping import value_of
from support.sidekey_process import SidekeyProcess, run_cli, run_process
from support.upstream import RawUpstream, always_ok

HEAD = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
"""
CURRENT = valid_now()


def config(ca: Authority, port: int, *, name: str = "bank", keys: str = "") -> str:
    keys = keys or "certificate: {file: tls.crt}, private_key: {file: tls.key}"
    return f"""\
network: {{hosts: {{up.test: ["127.0.0.1"]}}, allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {ca.bundle}}}}}
integrations:
  {name}:
    endpoint_prefix: https://up.test:{port}
    auth: {{type: mtls, allow_private_ca: true, {keys}}}
    test: {{path: /x}}
"""


async def test_rotated_certificate_is_loaded_without_a_restart(ca: Authority, tmp_path: Path) -> None:
    """New connections use the rotated certificate. Until certificate and key match, Sidekey uses the previous pair."""
    first, second = mount(tmp_path, valid_now("first")), valid_now("second")
    context = require_client_certificate(ca.server_context("up.test"), first, second)
    async with RawUpstream(always_ok, ssl_context=context) as upstream:
        with SidekeyProcess(config(ca, upstream.port), tmp_path, head=HEAD) as child:

            async def send() -> int:
                return (await asyncio.to_thread(get, child.proxy_port, "/i/bank/x")).status

            async def logged(event: str) -> None:
                await asyncio.to_thread(child.wait_for_line, lambda line: f'"event":"{event}"' in line)

            assert await send() == 200
            replace(tmp_path / "tls.crt", second.pem)
            await logged("a client certificate could not be loaded")
            assert await send() == 200
            replace(tmp_path / "tls.key", second.key_pem)
            await logged("the client certificate is valid again")
            await logged("a client certificate was loaded")
            assert await send() == 200
            page = (await asyncio.to_thread(get, child.admin_port, "/metrics")).body
            assert await asyncio.to_thread(child.stop) == 0
        assert [client_certificate_of(connection) for connection in upstream.connections] == [first.der, second.der]
    labels = '{integration="bank",credential="certificate"}'
    end = second.certificate.not_valid_after_utc.timestamp()
    assert value_of(page, f"sidekey_credential_expiry_timestamp_seconds{labels}") == end
    assert value_of(page, f"sidekey_credential_reload_failures_total{labels}") == 1


def test_expired_certificate_affects_only_its_integration(ca: Authority, tmp_path: Path) -> None:
    """/readyz still succeeds, but `run --strict` fails."""
    mount(tmp_path, issue(start=datetime(2026, 1, 1, tzinfo=UTC), life=timedelta(days=31)))
    with SidekeyProcess(config(ca, 1), tmp_path, head=HEAD) as child:
        response = get(child.proxy_port, "/i/bank/x")
        assert (response.status, json.loads(response.body)["code"]) == (502, "credential_unavailable")
        assert "expired on 2026-02-01" in json.loads(response.body)["detail"]
        assert get(child.admin_port, "/readyz").status == 200
        usable = run_cli("list", "--usable", "--config", str(child.config))
        assert (usable.returncode, usable.stdout) == (0, "")
        assert "\nbank " in run_cli("list", "--config", str(child.config)).stdout
        strict = run_process("run", "--strict", "--config", str(child.config))
        assert (strict.returncode, "expired" in strict.stderr) == (1, True)
        assert child.stop() == 0


def failures(child: SidekeyProcess) -> float:
    """Return the failed reloads of the certificate, by the metric."""
    series = 'sidekey_credential_reload_failures_total{integration="bank",credential="certificate"}'
    return value_of(get(child.admin_port, "/metrics").body, series)


def test_unusable_certificate_is_counted_once_for_each_change_of_its_files(ca: Authority, tmp_path: Path) -> None:
    """Requests do not count again."""
    mount(tmp_path, issue(start=datetime(2026, 1, 1, tzinfo=UTC), life=timedelta(days=31)))
    with SidekeyProcess(config(ca, 1), tmp_path, head=HEAD) as child:
        assert get(child.proxy_port, "/i/bank/x").status == 502
        assert failures(child) == 0
        for count in (1, 2):
            replace(tmp_path / "tls.key", valid_now().key_pem)
            wait_until(lambda count=count: failures(child) == count)  # type: ignore[misc]
            assert get(child.proxy_port, "/i/bank/x").status == 502
            assert failures(child) == count
        assert child.stop() == 0


async def test_url_that_does_not_return_the_certificate_is_counted_once(ca: Authority, tmp_path: Path) -> None:
    """Retries do not count again."""

    async def unavailable(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")

    async with RawUpstream(unavailable, ssl_context=ca.server_context("up.test")) as server:
        text = config(ca, 1, keys=f'pem: {{url: "https://up.test:{server.port}/pem"}}')
        with SidekeyProcess(text, tmp_path, head=HEAD) as child:
            await server.connection(2)
            assert await asyncio.to_thread(failures, child) == 1
            assert await asyncio.to_thread(child.stop) == 0


async def test_certificate_at_a_url_is_fetched_by_run_and_by_test(ca: Authority, tmp_path: Path) -> None:
    issued = valid_now()
    body = issued.pem + issued.key_pem

    async def serve_pem(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    context = require_client_certificate(ca.server_context("up.test"), issued)
    async with (
        RawUpstream(serve_pem, ssl_context=ca.server_context("up.test")) as server,
        RawUpstream(always_ok, ssl_context=context) as upstream,
    ):
        text = config(ca, upstream.port, keys=f'pem: {{url: "https://up.test:{server.port}/pem"}}')
        with SidekeyProcess(text, tmp_path, head=HEAD) as child:
            await asyncio.to_thread(child.wait_for_line, lambda line: "a client certificate was loaded" in line)
            assert (await asyncio.to_thread(get, child.proxy_port, "/i/bank/x")).status == 200
            result = await asyncio.to_thread(run_process, "test", "bank", "--config", str(child.config))
            assert await asyncio.to_thread(child.stop) == 0
        assert (result.returncode, result.stderr) == (0, "")
        assert [client_certificate_of(connection) for connection in upstream.connections] == [issued.der, issued.der]
        assert len(server.requests) == 2


async def test_list_reads_the_status_of_a_fetched_certificate_from_the_running_process(
    ca: Authority, tmp_path: Path
) -> None:
    issued = issue(start=datetime.now(UTC) - timedelta(days=1), life=timedelta(days=4))
    body = issued.pem + issued.key_pem

    async def serve_pem(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def listed(child: SidekeyProcess) -> tuple[str, str | None, bool]:
        (item,) = json.loads(run_process("list", "--json", "--config", str(child.config)).stdout)
        return item["status"], item["expires_at"], item["usable"]

    async with RawUpstream(serve_pem, ssl_context=ca.server_context("up.test")) as server:
        text = config(ca, 1, keys=f'pem: {{url: "https://up.test:{server.port}/pem"}}')
        with SidekeyProcess(text, tmp_path, head=HEAD) as child:
            await asyncio.to_thread(child.wait_for_line, lambda line: "a client certificate was loaded" in line)
            running = await asyncio.to_thread(listed, child)
            assert await asyncio.to_thread(child.stop) == 0
            stopped = await asyncio.to_thread(listed, child)
    end = issued.certificate.not_valid_after_utc
    assert running == ("expiring", f"{end:%Y-%m-%dT%H:%M:%SZ}", True)
    assert stopped == ("unknown", None, True)


async def test_client_authenticates_with_its_certificate_at_the_token_endpoint(ca: Authority, tmp_path: Path) -> None:
    """RFC 8705 2: the token endpoint and the API see the certificate, and the token request has the client ID."""
    issued = mount(tmp_path, valid_now())
    token = b'{"access_token": "t1", "token_type": "Bearer", "expires_in": 600}'

    async def endpoint(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(token), token)
        )

    contexts = [require_client_certificate(ca.server_context("up.test"), issued) for _ in range(2)]
    async with (
        RawUpstream(endpoint, ssl_context=contexts[0]) as issuer,
        RawUpstream(always_ok, ssl_context=contexts[1]) as upstream,
    ):
        head, _, _ = config(ca, upstream.port).partition("    endpoint_prefix")
        text = f"""\
{head}    allow_other_domains: true
    allowed_domains: ["https://up.test:{upstream.port}"]
    client_certificate: {{certificate: {{file: tls.crt}}, private_key: {{file: tls.key}}, allow_private_ca: true}}
    auth:
      type: oauth2
      token_endpoint: https://up.test:{issuer.port}/token
      client_id: client-1
      client_authentication: tls_client_auth
"""
        with SidekeyProcess(text, tmp_path, head=HEAD) as child:
            response = await asyncio.to_thread(get, child.proxy_port, "/i/bank/x")
            assert await asyncio.to_thread(child.stop) == 0
        assert response.status == 200, response.body
        assert [client_certificate_of(server.connections[0]) for server in (issuer, upstream)] == [
            issued.der,
            issued.der,
        ]
        (token_request,), (sent,) = issuer.requests, upstream.requests
    assert token_request.body == b"grant_type=client_credentials&client_id=client-1"
    assert token_request.values(b"authorization") == []
    assert sent.values(b"authorization") == [b"Bearer t1"]


async def test_certificate_at_a_url_is_usable_after_the_fetch(ca: Authority, tmp_path: Path) -> None:
    """Until then the API shows the reason, and a preset cannot use the integration."""
    issued, responses = valid_now(), [b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"]
    body = issued.pem + issued.key_pem

    async def serve_pem(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(responses[0])

    async with RawUpstream(serve_pem, ssl_context=ca.server_context("up.test")) as server:
        text = config(ca, 1, keys=f'pem: {{url: "https://up.test:{server.port}/pem"}}')
        with managed(tmp_path, more=text, head=HEAD) as child:
            api = Api(child.admin_port)

            def bank() -> dict[str, Any]:
                document: dict[str, Any] = api.get("/integrations/bank")
                return document

            def is_listed_as_ok() -> bool:
                return "bank" in [item["id"] for item in api.get("/integrations?status=ok")["items"]]

            def check_not_fetched() -> None:
                wait_until(lambda: "404" in bank()["problem"])
                reason = "its client certificate was not fetched yet: auth.pem: the server returned 404"
                assert {**bank(), "status": "unusable", "problem": reason} == bank()
                assert not is_listed_as_ok()
                preset = {
                    "id": "hook",
                    "integration": "bank",
                    "url": "https://up.test:1/x",
                    "content_type": "text/plain",
                }
                assert api.request("POST", "/presets", preset).pointers == {"/integration"}

            def check_fetched() -> None:
                wait_until(lambda: bank()["status"] == "ok")
                assert bank()["problem"] is None
                assert is_listed_as_ok()

            await asyncio.to_thread(check_not_fetched)
            responses[0] = b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            await asyncio.to_thread(check_fetched)
            assert await asyncio.to_thread(child.stop) == 0


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (CURRENT.der, "certificate in DER, not PEM: convert it with openssl x509 -inform der"),
        (valid_now("another").pem, "private key does not belong to the certificate of CN=another"),
        (
            issue(start=datetime(2026, 1, 1, tzinfo=UTC), life=timedelta(days=31)).pem,
            "expired on 2026-02-01",
        ),
    ],
    ids=["der", "mismatched", "expired"],
)
def test_unusable_certificate_is_reported_with_its_problem(
    certificate: bytes, reason: str, ca: Authority, tmp_path: Path
) -> None:
    """The API, a response, `check` and the log do not call the certificate missing or unreadable."""
    mount(tmp_path, CURRENT)
    (tmp_path / "tls.crt").write_bytes(certificate)
    callers = 'callers: {shop: {token: {insecure_value: of-a-caller}, integrations: "*"}}'
    with managed(tmp_path, more=f"{callers}\n{config(ca, 1)}", head=HEAD) as child:
        document = Api(child.admin_port).get("/integrations/bank")
        assert (document["status"], reason in document["problem"]) == ("unusable", True)
        detail = json.loads(get(child.proxy_port, "/i/bank/x", {"Sidekey-Token": "of-a-caller"}).body)["detail"]
        checked = run_cli("check", "--config", str(child.config)).stdout
        assert reason in detail
        assert reason in checked
        (line,) = [entry for entry in child.lines if reason in entry and '"level":"error"' in entry]
        for text in (document["problem"], detail, checked, line):
            assert "cannot be read" not in text
            assert "missing" not in text
