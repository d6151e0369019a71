"""Injected headers: Proxy-Authorization as a credential, and public headers."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from support.api import TOKENS, Api, managed
from support.http_get import get
from support.sidekey_process import run_cli
from support.upstream import RawUpstream, always_ok

CALLERS = 'callers: {all: {token: {insecure_value: of-a-caller}, integrations: "*"}}\n'
SECRET = "canary-of-a-proxy"


def headers(port: int, **fields: Any) -> dict[str, Any]:
    return {"id": "it", "endpoint_prefix": f"http://127.0.0.1:{port}", "auth": {"type": "headers", "headers": fields}}


async def test_proxy_authorization_is_injected_and_the_callers_is_consumed(tmp_path: Path) -> None:
    """The caller's header is for Sidekey (RFC 9110 11.7.1)."""
    async with RawUpstream(always_ok) as upstream:
        with managed(tmp_path, more=f"{CALLERS}integrations: {{}}") as child:
            document = headers(
                upstream.port, **{"Proxy-Authorization": {"prefix": "Bearer ", "secret": {"value": SECRET}}}
            )
            created = await asyncio.to_thread(Api(child.admin_port).create, "/integrations", document)
            assert SECRET not in str(created)
            callers_header = {"Proxy-Authorization": f"Basic {b64encode(b'it:of-a-caller').decode()}"}
            for target, sent in (
                ("/i/it/x", {"Sidekey-Token": "of-a-caller"}),
                ("/i/it/x", {"Sidekey-Token": "of-a-caller", **callers_header}),
                (f"http://127.0.0.1:{upstream.port}/x", callers_header),
            ):
                assert (await asyncio.to_thread(get, child.proxy_port, target, sent)).status == 200
            assert await asyncio.to_thread(child.stop) == 0
        for request in upstream.requests:
            assert request.values(b"proxy-authorization") == [f"Bearer {SECRET}".encode()]


@pytest.mark.parametrize("name", ["Proxy-Authorization", "proxy_authorization"])
def test_proxy_authorization_in_public_is_refused(name: str, tmp_path: Path) -> None:
    """The error has a remedy and does not repeat the value."""
    with managed(tmp_path, more=f"{CALLERS}integrations: {{}}") as child:
        response = Api(child.admin_port).request("POST", "/integrations", headers(1, **{name: SECRET}))
        assert (response.status, response.pointers) == (422, {"/auth/headers"})
    config = tmp_path / "other.yaml"
    auth = f"auth: {{type: headers, headers: {{{name}: {SECRET}}}}}"
    config.write_text(f"version: 1\nintegrations: {{it: {{endpoint_prefix: https://a.test, {auth}}}}}\n")
    checked = run_cli("check", "--config", str(config))
    for text in (response.body.decode(), checked.stdout):
        assert f"{name} must be a secret: write {{prefix: TEXT, secret: ...}}" in text
        assert SECRET not in text


def test_public_headers_are_shown(tmp_path: Path) -> None:
    """Viewers see public headers, but no secret ones."""
    secret = {"secret": {"value": SECRET}}
    with managed(tmp_path, more=f"{CALLERS}integrations: {{}}") as child:
        Api(child.admin_port).create("/integrations", headers(1, **{"X-Tenant": "acme-corp", "X-Key": secret}))
        document = Api(child.admin_port, TOKENS["viewer"]).get("/integrations/it")
    assert document["auth"]["headers"]["X-Tenant"] == "acme-corp"
    assert SECRET not in str(document)
