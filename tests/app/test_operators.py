"""A request on a listener is never an operator's test request, which needs no caller's token."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path

import pytest

from sidekey.snapshot.snapshot import TestRequest as Request
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.serving import HEAD, serving
from support.upstream import RawUpstream

OPERATOR_TOKEN = "token-of-an-operator-0123456789"
BASIC = b64encode(f"-:{OPERATOR_TOKEN}".encode()).decode()
CONFIG = """\
callers: {{svc: {{token: {{file: token}}, integrations: [it], presets: [hook]}}}}
admin: {{tokens: {{ann: {{token: {{file: operator}}, role: admin}}}}}}
presets: {{hook: {{integration: it, url: 'http://up.test/a', content_type: text/plain}}}}
integrations:
"""
SERVED = """\
  it:
    endpoint_prefix: http://up.test:{port}
    auth: {{type: basic, username: u, password: {{file: token}}}}
"""
CLAIMED_HEADERS = [
    (),
    (f"Authorization: Bearer {OPERATOR_TOKEN}",),
    (f"Sidekey-Token: {OPERATOR_TOKEN}",),
    (f"Proxy-Authorization: Basic {BASIC}",),
    ("Sidekey-Operator: ann", "Sidekey-Draft: hook", "Sidekey-Caller: svc"),
    ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=unix"),
    ("Origin: http://localhost", "Via: 1.1 sidekey"),
]


@pytest.mark.parametrize("proxy", ["127.0.0.1:0", "unix:proxy.sock"])
async def test_request_on_a_listener_needs_a_callers_token_whatever_its_headers(
    proxy: str, tmp_path: Path, ca: Authority
) -> None:
    """Even a request with the operator's token needs a caller's token."""
    (tmp_path / "token").write_text("token-of-a-caller-0123456789")
    (tmp_path / "operator").write_text(OPERATOR_TOKEN)
    head = HEAD.replace('proxy: "127.0.0.1:0"', f'proxy: "{proxy}"').replace("integrations:\n", CONFIG)
    loop, hosts = asyncio.get_running_loop(), {"up.test": ["127.0.0.1"]}
    async with RawUpstream() as upstream:
        port = upstream.port
        async with serving(SERVED.format(port=port), tmp_path, ca, hosts=hosts, head=head) as sidekey:

            async def send(target: str, *fields: str) -> int:
                method = "POST" if target.startswith("/p/") else "GET"
                lines = (f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *fields, "", "")
                if proxy.startswith("unix:"):
                    _, caller = await loop.create_unix_connection(RawConnection, f"{tmp_path}/proxy.sock")
                else:
                    _, caller = await loop.create_connection(RawConnection, "127.0.0.1", sidekey.port)
                await caller.send("\r\n".join(lines).encode())
                response = await caller.response()
                caller.transport.abort()
                return response.status

            outcome = await sidekey.app.probe("it", Request("GET", "/a"))
            assert (outcome.ok, len(upstream.requests)) == (True, 1)
            targets = {"/i/it/a": 401, "/p/hook": 401, "/p/draft": 401, f"http://up.test:{port}/a": 407}
            for headers in CLAIMED_HEADERS:
                assert {target: await send(target, *headers) for target in targets} == targets, headers
        assert len(upstream.requests) == 1
