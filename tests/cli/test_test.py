"""`sidekey test`: a request through a data plane in the process of the command."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import parse_qs

import pytest

from sidekey.cli.test import WOULD_SPEND, ProbeResult
from sidekey.config.load import Loader
from sidekey.store.open import open_store
from support.commands import SECRET, write_config
from support.loading import loaded_snapshot
from support.nginx import Nginx
from support.ports import free_port
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.recording import recording
from support.sidekey_process import run_cli, run_process
from support.upstream import OK, RawUpstream, respond_with

AUTHORIZATION = b"Basic " + b64encode(f"svc:{SECRET}".encode())


def config(folder: Path, base: str, *, test: str = "{method: GET, path: /whoami}", more: str = "") -> str:
    """Write a config with an integration `crm` and its secret in a file."""
    (folder / "password").write_text(SECRET)
    path = folder / "sidekey.yaml"
    path.write_text(f"""\
version: 1
network: {{hosts: {{up.test: ["127.0.0.1"]}}, allow_private: ["127.0.0.0/8"]}}
{more}
integrations:
  crm:
    endpoint_prefix: {base}
    auth: {{type: basic, username: svc, password: {{file: password}}}}
    test: {test}
""")
    return str(path)


def sidekey_test(path: str, *arguments: str) -> CompletedProcess[str]:
    return run_cli("test", "crm", "--config", path, *arguments)


async def process(path: str) -> CompletedProcess[str]:
    """Run the command as a process while the upstream of this loop responds."""
    return await asyncio.to_thread(run_process, "test", "crm", "--config", path)


async def test_configured_request_reaches_the_upstream_with_its_credential(tmp_path: Path) -> None:
    """The body is empty."""
    async with RawUpstream() as upstream:
        base = f"http://up.test:{upstream.port}/api"
        result = await process(config(tmp_path, base, test="{method: POST, path: /whoami}"))
        (request,) = upstream.requests
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "ok: POST /i/crm/whoami: 200 OK, from the upstream\n"
    assert (request.method, request.target, request.body) == (b"POST", b"/api/whoami", b"")
    assert request.values(b"authorization") == [AUTHORIZATION]


async def test_use_of_the_credential_is_audited(tmp_path: Path) -> None:
    """If the log file cannot be opened, the command sends nothing."""
    async with RawUpstream() as upstream:
        base = f"http://up.test:{upstream.port}/api"
        path = config(tmp_path, base, more="log: {audit: uses, file: sidekey.log}")
        assert (await process(path)).returncode == 0
        (line,) = map(json.loads, (tmp_path / "sidekey.log").read_text().splitlines())
        refused = await process(config(tmp_path, base, more="log: {audit: uses, file: none/sidekey.log}"))
        assert len(upstream.requests) == 1
    assert (line["event"], line["by"], line["integration"], line["status"]) == (
        "credential used",
        "operator",
        "crm",
        200,
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"log.file: {tmp_path / 'none' / 'sidekey.log'} cannot be opened for writing")


@pytest.mark.parametrize(
    "status", [b"204 Fine", b"301 elsewhere", b"401 who", b"500 oops", b"599 odd"], ids=bytes.decode
)
def test_every_other_status_is_a_failure(status: bytes, tmp_path: Path) -> None:
    """The output has the standard reason phrase, not that of the upstream."""
    with recording(respond_with(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)) as upstream:
        result = sidekey_test(config(tmp_path, f"http://up.test:{upstream.port}"))
    number, phrase = status.decode().split()
    assert result.returncode == 1
    assert result.stdout.startswith(f"failed: GET /i/crm/whoami: {number} ")
    assert phrase not in result.stdout.split()


def test_output_repeats_only_the_status_of_a_response(tmp_path: Path) -> None:
    """The upstream echoes the credential in reason phrase, header and body."""
    echo = b"HTTP/1.1 403 %b\r\nX-Echo: %b\r\nProxy-Status: sidekey; error=x\r\nContent-Length: %d\r\n\r\n%b"
    response = echo % (AUTHORIZATION, AUTHORIZATION, len(AUTHORIZATION), AUTHORIZATION)
    with recording(respond_with(response)) as upstream:
        result = sidekey_test(config(tmp_path, f"http://up.test:{upstream.port}"))
    assert result.stdout == "failed: GET /i/crm/whoami: 403 Forbidden, from the upstream\n"
    assert AUTHORIZATION.decode() not in result.stderr


def test_response_of_sidekey_is_reported_with_code_and_detail(tmp_path: Path) -> None:
    path = config(tmp_path, f"http://up.test:{free_port()}")
    result = sidekey_test(path)
    assert result.returncode == 1
    assert result.stdout.startswith("failed: GET /i/crm/whoami: 502 upstream_unreachable: ")
    as_json = json.loads((sidekey_test(path, "--json")).stdout)
    assert (as_json["ok"], as_json["status"], as_json["code"]) == (False, 502, "upstream_unreachable")


def test_response_to_head_is_reported_by_its_proxy_status(tmp_path: Path) -> None:
    """The response has no body with a detail."""
    path = config(tmp_path, f"http://up.test:{free_port()}", test="{method: HEAD}")
    result = sidekey_test(path)
    assert result.returncode == 1
    assert result.stdout == "failed: HEAD /i/crm: 502 sidekey: sidekey; error=connection_refused\n"


def test_unreadable_secret_is_the_reason(tmp_path: Path) -> None:
    """The command sends nothing to the upstream."""
    with recording() as upstream:
        path = config(tmp_path, f"http://up.test:{upstream.port}")
        (tmp_path / "password").unlink()
        result = sidekey_test(path)
        assert upstream.connections == []
    assert result.returncode == 1
    assert "502 credential_unavailable: auth.password: the file does not exist" in result.stdout


def test_test_needs_no_callers_token(tmp_path: Path) -> None:
    with recording() as upstream:
        callers = "callers: {billing: {token: {insecure_value: a-token}, integrations: []}}"
        result = sidekey_test(config(tmp_path, f"http://up.test:{upstream.port}", more=callers))
    assert result.returncode == 0


def test_listeners_of_the_config_are_refused_as_targets(tmp_path: Path) -> None:
    with recording() as upstream:
        listen = f'listen: {{admin: "127.0.0.1:{upstream.port}"}}'
        result = sidekey_test(config(tmp_path, f"http://up.test:{upstream.port}", more=listen))
        assert upstream.connections == []
    assert result.returncode == 1
    assert "403 destination_denied: " in result.stdout


def test_no_listener_is_opened(tmp_path: Path) -> None:
    """The command works while a Sidekey with the same config runs."""
    with recording() as upstream, recording() as other:
        listen = f'listen: {{proxy: "127.0.0.1:{other.port}"}}'
        result = sidekey_test(config(tmp_path, f"http://up.test:{upstream.port}", more=listen))
    assert result.returncode == 0


def test_hanging_upstream_times_out(tmp_path: Path) -> None:
    """The timeouts of the config apply."""
    with recording(respond_with()) as upstream:
        path = config(tmp_path, f"http://up.test:{upstream.port}", more="timeouts: {response: 100ms}")
        result = sidekey_test(path)
    assert result.returncode == 1
    assert "504 upstream_timeout: " in result.stdout


def test_incomplete_response_is_a_failure(tmp_path: Path) -> None:
    async def break_off(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Len")
        connection.close()

    with recording(break_off) as upstream:
        result = sidekey_test(config(tmp_path, f"http://up.test:{upstream.port}"))
    assert result.returncode == 1
    assert "502 upstream_protocol_error: " in result.stdout


def test_https_upstream_is_verified_with_the_trusted_ca(ca: Authority, tmp_path: Path) -> None:
    with Nginx(tmp_path, leaf=ca.leaf("up.test")) as nginx:
        base = f"https://up.test:{nginx.tls_port}"
        path = Path(config(tmp_path, base))
        refused = sidekey_test(str(path))
        path.write_text(path.read_text().replace("network: {", f"network: {{trusted_ca: {{file: {ca.bundle}}}, "))
        trusted = sidekey_test(str(path))
    assert "502 upstream_tls_failed: " in refused.stdout
    assert (refused.returncode, trusted.returncode) == (1, 0)


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (ProbeResult("GET /i/a", 200, None, "OK"), "ok: GET /i/a: 200 OK"),
        (ProbeResult("GET /i/a", 404, None, "Not Found"), "failed: GET /i/a: 404 Not Found"),
        (ProbeResult("GET /i/a", 403, "target_denied", "outside"), "failed: GET /i/a: 403 target_denied: outside"),
        (ProbeResult("GET /i/a", 0, None, "no response"), "failed: GET /i/a: no response"),
    ],
)
def test_outcome_is_one_line(outcome: ProbeResult, text: str) -> None:
    assert str(outcome) == text


def write_rotating_config(
    folder: Path, ca: Authority, port: int, *, secret: str = "first", scope: str = "orders", store: bool = True
) -> str:
    """Write a config with a refresh token that each use replaces."""
    (folder / "key").write_text(b64encode(bytes(range(32))).decode())
    path = folder / "sidekey.yaml"
    store_settings = "store: {path: store.db, keys: [{id: k1, key: {file: key}}]}" if store else ""
    path.write_text(f"""\
version: 1
network: {{allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {ca.bundle}}}}}
{store_settings}
integrations:
  crm:
    auth: {{type: oauth2, token_endpoint: "https://127.0.0.1:{port}/token", client_id: id,
           client_secret: {{insecure_value: {secret}}},
           grant: {{type: refresh_token, refresh_token: {{insecure_value: r0}}}},
           token_request: {{body: {{scope: {scope}}}}}}}
    test: {{method: GET, path: /whoami}}
""")
    return str(path)


class Issuer:
    """A token endpoint that returns the tokens t1, r1, t2, r2 and so on, beside an API."""

    def __init__(self) -> None:
        self.presented: list[str] = []
        self.used: list[bytes] = []

    async def __call__(self, connection: RawConnection) -> None:
        while True:
            request = await connection.request()
            if request.target == b"/token":
                self.presented += parse_qs(request.body.decode())["refresh_token"]
                number = len(self.presented)
                tokens = {"access_token": f"t{number}", "refresh_token": f"r{number}", "expires_in": 3600}
                body = json.dumps(tokens).encode()
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            else:
                self.used += request.values(b"authorization")
                await connection.send(OK)


async def make_store(path: str) -> None:
    """Create the store, like the first `sidekey run`."""
    rules = loaded_snapshot(Loader(path, {}).load()).store
    assert rules is not None
    store = await open_store(rules)
    await store.close()


async def test_commands_share_a_token_in_the_store(ca: Authority, tmp_path: Path) -> None:
    """No command reuses a refresh token, and none requests an unnecessary token."""
    issuer = Issuer()
    async with RawUpstream(issuer, ssl_context=ca.server_context("127.0.0.1")) as upstream:
        path = write_rotating_config(tmp_path, ca, upstream.port)
        await make_store(path)
        for _ in range(2):
            result = await process(path)
            assert (result.returncode, result.stderr) == (0, ""), result
        # With another scope or secret, the command requests a new token with the newest refresh token.
        for secret in ("first", "second"):
            result = await process(write_rotating_config(tmp_path, ca, upstream.port, scope="invoices", secret=secret))
            assert result.returncode == 0
    assert issuer.presented == ["r0", "r1", "r2"]
    assert issuer.used == [b"Bearer t1", b"Bearer t1", b"Bearer t2", b"Bearer t3"]


def test_shared_token_is_not_requested_without_the_store(ca: Authority, tmp_path: Path) -> None:
    """A request would revoke the token of running processes, and the new token would be lost."""
    with recording(Issuer(), ssl_context=ca.server_context("127.0.0.1")) as upstream:
        result = sidekey_test(write_rotating_config(tmp_path, ca, upstream.port))
        assert upstream.connections == []
    assert result.returncode == 1
    assert "no token is asked for: the store cannot be used: store.path: " in result.stdout


def test_rotating_refresh_token_is_not_used_without_a_store(ca: Authority, tmp_path: Path) -> None:
    """With `rotates: false` the refresh token stays valid, so the command uses it."""
    issuer = Issuer()
    with recording(issuer, ssl_context=ca.server_context("127.0.0.1")) as upstream:
        path = Path(write_rotating_config(tmp_path, ca, upstream.port, store=False))
        result = sidekey_test(str(path))
        assert upstream.connections == []
        path.write_text(path.read_text().replace("grant: {", "grant: {rotates: false, "))
        fixed = sidekey_test(str(path))
    assert (result.returncode, result.stdout) == (1, f"failed: GET /i/crm/whoami: {WOULD_SPEND}\n")
    assert (fixed.returncode, issuer.presented) == (0, ["r0"])


def test_test_without_a_test_request_names_the_missing_key(tmp_path: Path) -> None:
    result = run_cli("test", "crm", "--config", write_config(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("integrations.crm.test: this key is missing: write test: {method: GET, path: ")
