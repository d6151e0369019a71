"""A changed client secret in two processes with one store: tokens and test results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.api import Api, ApiResponse, managed
from support.authlib_server import SECRET, AuthlibServer
from support.http_get import get, wait_until
from support.private_ca import Authority
from support.sidekey_process import HEAD, SidekeyProcess

WRONG = "token endpoint returned 401 invalid_client"


class SharedIntegration:
    """Two processes that share the stored integration `crm`, and its server."""

    def __init__(self, server: AuthlibServer, children: list[SidekeyProcess]) -> None:
        self.server = server
        self.children = children
        self.apis = [Api(child.admin_port) for child in children]
        self.methods = ["GET"]

    async def make(self, **more: Any) -> None:
        auth = {
            "type": "oauth2",
            "token_endpoint": self.server.token_endpoint,
            "client_id": "basic",
            "client_secret": {"value": SECRET},
            **more,
        }
        document = {"id": "crm", "methods": self.methods, "auth": auth, "test": {"path": "/api/orders"}}
        await asyncio.to_thread(self.apis[0].create, "/integrations", document)
        await self.settle()

    async def enter(self, secret: str) -> None:
        """Save another client secret through the first process, and wait until both processes use it."""
        self.methods.append(("POST", "PUT")[len(self.methods) - 1])
        change = {"methods": self.methods, "auth": {"client_secret": {"value": secret}}}
        response = await asyncio.to_thread(self.apis[0].request, "PATCH", "/integrations/crm", change, match="*")
        assert response.status == 200, response
        await self.settle()

    async def settle(self) -> None:
        """Wait until both processes serve the newest version of the integration, which its methods identify."""

        def serves(api: Api) -> bool:
            response = api.request("POST", "/integrations/crm/explain", {"url": "/api/orders"})
            return response.status == 200 and set(response.json["methods"]) == set(self.methods)

        await asyncio.to_thread(wait_until, lambda: all(map(serves, self.apis)))

    async def tokens(self) -> list[str]:
        """Send a request through each process, and return the tokens that the API received and accepted."""
        count = len(self.received_tokens)
        for child in self.children:
            response = await asyncio.to_thread(get, child.proxy_port, "/i/crm/api/orders", {"Sidekey-Token": "caller"})
            assert response.status == 200, response
        return self.received_tokens[count:]

    async def test(self, number: int) -> Any:
        """Test the integration through a process, which allows one test a second."""

        def run() -> ApiResponse:
            return self.apis[number].request("POST", "/integrations/crm/test")

        while (response := await asyncio.to_thread(run)).status == 429:
            await asyncio.sleep(float(response.headers["Retry-After"]))
        return response.json

    @property
    def received_tokens(self) -> list[str]:
        """Return the tokens that the API received."""
        received = [request for request in self.server.received if request.path.startswith("/api/")]
        return [value for request in received for value in request.values("authorization")]


@pytest.fixture
async def shared(ca: Authority, tmp_path: Path) -> AsyncIterator[SharedIntegration]:
    head = HEAD.replace("network: {{", f"network: {{{{trusted_ca: {{{{file: {ca.bundle}}}}}, ")
    callers = 'callers: {all: {token: {insecure_value: caller}, integrations: "*"}}\nintegrations: {}\n'
    async with AuthlibServer(ca) as server:
        with ExitStack() as stack:
            folders = [tmp_path / name for name in ("first", "second")]
            children = []
            for folder in folders:
                folder.mkdir()
                child = managed(folder, f"path: {tmp_path}/store.db", callers, head)
                children.append(await asyncio.to_thread(stack.enter_context, child))
            yield SharedIntegration(server, children)


@pytest.mark.parametrize("is_shared", [False, True], ids=["a token for each process", "a shared token"])
async def test_wrong_secret_fails_the_test_and_leaves_the_old_token_in_use(
    shared: SharedIntegration, is_shared: bool
) -> None:
    """With the corrected secret, each process gets a new token at once."""
    await shared.make(single_live_token=is_shared)
    old = await shared.tokens()
    assert len(set(old)) == (1 if is_shared else 2)
    await shared.enter("wrong")
    for number in range(2):
        result = await shared.test(number)
        assert (result["ok"], result["code"], result["reason"]) == (False, "credential_unavailable", WRONG)
    assert await shared.tokens() == old
    await shared.enter(SECRET)
    # The shared token in the store was obtained with this secret.
    assert (set(await shared.tokens()) & set(old)) == (set(old) if is_shared else set())
    for number in range(2):
        assert (await shared.test(number))["ok"]


async def test_test_fails_with_a_revoked_secret_although_a_token_is_valid(shared: SharedIntegration) -> None:
    await shared.make(renewal_interval="1s")
    old = await shared.tokens()
    shared.server.revoke_secret()
    await asyncio.sleep(1)  # the interval
    for number in range(2):
        assert (await shared.test(number))["reason"] == WRONG
    assert await shared.tokens() == old
