"""Headers that an integration injects: Proxy-Authorization as a credential, and public ones in the console."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from support.api import TOKENS, Api, managed
from support.ask import get
from support.child import run_cli
from support.pages import Pages
from support.upstream import RawUpstream, always_ok

CALLERS = 'callers: {all: {token: {insecure_value: of-a-caller}, integrations: "*"}}\n'
SECRET = "canary-of-a-proxy"


def headers(port: int, **fields: Any) -> dict[str, Any]:
    return {"id": "it", "endpoint_prefix": f"http://127.0.0.1:{port}", "auth": {"type": "headers", "headers": fields}}


async def test_proxy_authorization_is_injected_and_the_callers_own_is_consumed(tmp_path: Path) -> None:
    """The caller's is for Sidekey alone (RFC 9110 11.7.1), at the reverse proxy and at the forward proxy."""
    async with RawUpstream(always_ok) as upstream:
        with managed(tmp_path, more=f"{CALLERS}integrations: {{}}") as child:
            document = headers(
                upstream.port, **{"Proxy-Authorization": {"prefix": "Bearer ", "secret": {"value": SECRET}}}
            )
            shown = await asyncio.to_thread(Api(child.admin_port).make, "/integrations", document)
            assert SECRET not in str(shown)
            own = {"Proxy-Authorization": f"Basic {b64encode(b'it:of-a-caller').decode()}"}
            for target, sent in (
                ("/i/it/x", {"Sidekey-Token": "of-a-caller"}),
                ("/i/it/x", {"Sidekey-Token": "of-a-caller", **own}),
                (f"http://127.0.0.1:{upstream.port}/x", own),
            ):
                assert (await asyncio.to_thread(get, child.proxy_port, target, sent)).status == 200
            assert await asyncio.to_thread(child.stop) == 0
        for request in upstream.requests:
            assert request.values(b"proxy-authorization") == [f"Bearer {SECRET}".encode()]


@pytest.mark.parametrize("name", ["Proxy-Authorization", "proxy_authorization"])
def test_proxy_authorization_in_public_is_refused(name: str, tmp_path: Path) -> None:
    """In the store and in a file, with the way out; nothing of it is repeated."""
    with managed(tmp_path, more=f"{CALLERS}integrations: {{}}") as child:
        said = Api(child.admin_port).ask("POST", "/integrations", headers(1, **{name: SECRET}))
        assert (said.status, said.pointers) == (422, {"/auth/headers"})
    config = tmp_path / "other.yaml"
    auth = f"auth: {{type: headers, headers: {{{name}: {SECRET}}}}}"
    config.write_text(f"version: 1\nintegrations: {{it: {{endpoint_prefix: https://a.test, {auth}}}}}\n")
    checked = run_cli("check", "--config", str(config))
    for text in (said.body.decode(), checked.stdout):
        assert f"{name} must be a secret: write {{prefix: TEXT, secret: ...}}" in text
        assert SECRET not in text


@pytest.mark.parametrize("role", TOKENS)
def test_public_headers_are_shown_in_the_console(role: str, tmp_path: Path) -> None:
    """To viewers as well, of the store and of a file; of a secret one there is nothing."""
    secret = {"secret": {"value": SECRET}}
    auth = "{type: headers, headers: {X-Of-File: '<public>', X-Key: {secret: {insecure_value: canary-of-a-file}}}}"
    of_file = f"integrations: {{of-file: {{endpoint_prefix: https://a.test, auth: {auth}}}}}"
    with managed(tmp_path, more=f"{CALLERS}{of_file}") as child:
        Api(child.admin_port).make("/integrations", headers(1, **{"X-Tenant": "acme-corp", "X-Key": secret}))
        pages = Pages(child.admin_port)
        pages.log_in(TOKENS[role])
        stored, filed = pages.get("/integrations/it"), pages.get("/integrations/of-file")
    assert "Header X-Tenant: acme-corp" in stored.text
    assert "X-Of-File: &lt;public&gt;" in filed.body
    assert "canary" not in stored.body + filed.body
