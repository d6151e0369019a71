"""Tokens during config changes: requests to platforms while a running Sidekey reloads edited files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from fakes import responsys, salesforce_marketing_cloud
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from fakes.responsys import Responsys
from fakes.salesforce_marketing_cloud import SalesforceMarketingCloud
from fakes.server import ReceivedRequest
from support import authlib_server
from support.authlib_server import AuthlibServer
from support.configmap_mount import ConfigMapMount
from support.files import replace
from support.plane import eventually
from support.private_ca import Authority
from support.serving import RunningApp, problem, serving

RELOADED = "config reloaded"
RESPONSYS = (
    "  it: {{description: '{text}', auth: {{type: responsys, login_endpoint: 'https://login2.responsys.net', "
    "username: api_user, password: {{file: {password}}}{more}}}}}\n"
)


class Config:
    """The config file of a running Sidekey, with a count of its reloads."""

    def __init__(self, sidekey: RunningApp, folder: Path) -> None:
        self._sidekey = sidekey
        self._path = folder / "sidekey.yaml"
        self._reloads = 0

    async def edit(self, integrations: str) -> None:
        """Replace the integrations as editors do, and wait until they are in use."""
        head, key, _ = self._path.read_text().partition("integrations:\n")
        replace(self._path, head + key + integrations)
        await self.reloaded()

    async def reloaded(self) -> None:
        """Wait for the next reload."""
        self._reloads += 1
        lines = self._sidekey.lines
        await eventually(lambda: [line["event"] for line in lines()].count(RELOADED) >= self._reloads)


def authorizations(received: list[ReceivedRequest]) -> list[str]:
    """Return the Authorization of each request at the API."""
    return [
        value
        for received_message in received
        if received_message.values("via")
        for value in received_message.values("authorization")
    ]


def token_requests(server: AuthlibServer) -> list[ReceivedRequest]:
    """Return the token requests."""
    return [received for received in server.received if received.path == "/token"]


async def test_edits_of_an_integration_make_no_login(ca: Authority, tmp_path: Path) -> None:
    """Seven edits within seconds: descriptions, and a rewritten file of a secret."""
    password = tmp_path / "password"
    password.write_text(responsys.PASSWORD)
    text = RESPONSYS.format(text="0", password=password, more="")
    async with Responsys(ca) as platform, serving(text, tmp_path, ca, hosts=platform.hosts) as sidekey:
        config = Config(sidekey, tmp_path)
        assert (await sidekey.reverse("/campaigns")).status == 200
        for number in range(1, 8):
            if number % 2:
                await config.edit(RESPONSYS.format(text=number, password=password, more=""))
            else:
                replace(password, responsys.PASSWORD + "\n")
                await config.reloaded()
            assert (await sidekey.reverse("/campaigns")).status == 200
        assert len(platform.login.received) == 1
        assert authorizations(platform.api.received) == platform.issued * 8
        # A narrower API is another base URL, for which the token is refreshed; another policy judges each request.
        await config.edit(RESPONSYS.format(text=8, password=password, more=", path_prefix: /rest/api/v1.3/lists"))
        await sidekey.reverse("/x")
        assert platform.api.received[-1].path == "/rest/api/v1.3/lists/x"
        assert [b"auth_type=token" in item.body for item in platform.login.received] == [False, True]


async def test_edit_while_the_token_endpoint_is_down_keeps_the_token(ca: Authority, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(responsys.PASSWORD)
    text = RESPONSYS.format(text="before", password=password, more="")
    async with Responsys(ca) as platform, serving(text, tmp_path, ca, hosts=platform.hosts) as sidekey:
        config = Config(sidekey, tmp_path)
        assert (await sidekey.reverse("/campaigns")).status == 200
        await platform.login.close()
        await config.edit(RESPONSYS.format(text="after", password=password, more=""))
        assert (await sidekey.reverse("/campaigns")).status == 200
        replace(password, "a new one, which nobody can check now")
        await config.reloaded()
        assert (await sidekey.reverse("/campaigns")).status == 200
        assert authorizations(platform.api.received) == platform.issued * 3


async def test_one_changed_key_of_a_secret_volume_refetches_one_token(ca: Authority, tmp_path: Path) -> None:
    """Each swap replaces every file of a mounted Secret. With a wrong secret, Sidekey keeps the old token."""
    names = [f"crm{number}" for number in range(11)]
    keys = dict.fromkeys(names, authlib_server.SECRET)
    secret = ConfigMapMount(tmp_path / "secret", keys)
    async with AuthlibServer(ca) as server:
        text = "".join(
            f"  {name}: {{auth: {{type: oauth2, token_endpoint: '{server.token_endpoint}', client_id: basic, "
            f"client_secret: {{file: {secret.folder / name}}}}}}}\n"
            for name in names
        )
        async with serving(text, tmp_path, ca) as sidekey:
            config = Config(sidekey, tmp_path)
            for name in names:
                assert (await sidekey.reverse("/api/orders", name=name)).status == 200
            secret.update({**keys, "crm3": "wrong-for-now"})
            await config.reloaded()
            for name in names:
                assert (await sidekey.reverse("/api/orders", name=name)).status == 200
            assert len(token_requests(server)) == 12
            assert sidekey.calls("refused", "crm3") == 1
            shown = authorizations(server.received)
            assert shown[:11] == shown[11:]
            assert len(set(shown)) == 11
            secret.update(keys)
            await config.reloaded()
            assert (await sidekey.reverse("/api/orders", name="crm3")).status == 200
            assert authorizations(server.received)[-1] not in shown
            assert sidekey.calls("ok", "crm3") == 2


async def test_rotating_refresh_token_is_kept_over_changes(ca: Authority, tmp_path: Path) -> None:
    """The first use spent the configured one. A second use would revoke all tokens."""
    async with AuthlibServer(ca) as server:
        spent = tmp_path / "refresh"
        spent.write_text(server.refresh_token(rotates=True))
        auth = (
            "  it: {{description: '{text}', auth: {{type: oauth2, token_endpoint: '{endpoint}', client_id: basic, "
            "grant: {{type: refresh_token, refresh_token: {{file: {spent}}}}}, "
            "client_secret: {{env: SECRET}}{more}}}}}\n"
        )

        def text(number: int, more: str = "") -> str:
            return auth.format(text=number, endpoint=server.token_endpoint, spent=spent, more=more)

        environ = {"SECRET": authlib_server.SECRET}
        async with serving(text(0), tmp_path, ca, environ=environ) as sidekey:
            config = Config(sidekey, tmp_path)
            assert (await sidekey.reverse("/api/orders")).status == 200
            # Another client secret's method, another placement, another scope, and nothing but words.
            for number, more in enumerate(
                ("", ", token_request: {body: {scope: orders}}", ", token_placement: {in: header, scheme: Bearer}", "")
            ):
                await config.edit(text(number + 1, more))
                server.tokens.revoke()
                await sidekey.reverse("/api/orders")
                assert sidekey.calls("refused") == 0
            used = [dict(parse_qsl(received.body.decode()))["refresh_token"] for received in token_requests(server)]
            assert len(set(used)) == len(used) >= 3
            # A new one in the config is for good reason there.
            replace(spent, new := server.refresh_token(rotates=True))
            await config.reloaded()
            assert (await sidekey.reverse("/api/orders")).status == 200
            used = [dict(parse_qsl(received.body.decode()))["refresh_token"] for received in token_requests(server)]
            assert used[-1] == new


async def test_running_call_serves_requests_of_both_configs(ca: Authority, tmp_path: Path) -> None:
    async with AuthlibServer(ca) as server:
        auth = (
            "  it: {{description: '{text}', auth: {{type: oauth2, token_endpoint: '{endpoint}', client_id: basic, "
            "client_secret: {{env: SECRET}}}}}}\n"
        )
        text = auth.format(text="before", endpoint=server.token_endpoint)
        async with serving(text, tmp_path, ca, environ={"SECRET": authlib_server.SECRET}) as sidekey:
            config = Config(sidekey, tmp_path)
            server.host.delay = asyncio.Event()
            before = asyncio.create_task(sidekey.reverse("/api/orders"))
            await eventually(lambda: server.received)
            await config.edit(auth.format(text="after", endpoint=server.token_endpoint))
            after = asyncio.create_task(sidekey.reverse("/api/orders"))
            await eventually(lambda: sidekey.app.metrics.in_flight == 2)
            server.host.delay.set()
            assert [(await item).status for item in (before, after)] == [200, 200]
            assert len(token_requests(server)) == 1
            first, second = authorizations(server.received)
            assert first == second


async def test_base_url_is_checked_by_the_new_policy(ca: Authority, tmp_path: Path) -> None:
    text = (
        "  it: {{auth: {{type: oauth2, provider: salesforce-marketing-cloud, subdomain: {subdomain}, client_id: "
        "'{client}', client_secret: {{env: SECRET}}}}{more}}}\n"
    )

    def config_of(more: str) -> str:
        return text.format(subdomain=salesforce_marketing_cloud.SUBDOMAIN, client=CLIENT_ID, more=more)

    platform = SalesforceMarketingCloud(ca)
    async with (
        platform,
        serving(config_of(""), tmp_path, ca, hosts=platform.hosts, environ={"SECRET": CLIENT_SECRET}) as sidekey,
    ):
        config = Config(sidekey, tmp_path)
        assert (await sidekey.reverse("/asset/v1/content/assets")).status == 200
        received = len(authorizations(platform.received))
        await config.edit(config_of(", allowed_domains: ['https://other.example']"))
        denied = await sidekey.reverse("/asset/v1/content/assets")
        assert problem(denied)["code"] in ("credential_unavailable", "target_denied")
        assert len(authorizations(platform.received)) == received


@pytest.mark.parametrize("secret", [True, False], ids=["secret", "description"])
async def test_changed_secret_ends_the_pause_of_the_endpoint(secret: bool, ca: Authority, tmp_path: Path) -> None:
    """Retry-After is an hour. A changed description keeps the pause."""
    async with AuthlibServer(ca) as server:
        file = tmp_path / "client"
        file.write_text("wrong")
        auth = (
            "  it: {{description: '{text}', auth: {{type: oauth2, token_endpoint: '{endpoint}', client_id: basic, "
            "client_secret: {{file: {file}}}}}}}\n"
        )
        text = auth.format(text="before", endpoint=server.token_endpoint, file=file)
        async with serving(text, tmp_path, ca) as sidekey:
            config = Config(sidekey, tmp_path)
            server.host.fail_next(429, {"Retry-After": "7200"})
            refused = await sidekey.reverse("/api/orders")
            assert refused.values(b"retry-after") == [b"3600"]
            if secret:
                replace(file, authlib_server.SECRET)
                await config.reloaded()
            else:
                await config.edit(auth.format(text="after", endpoint=server.token_endpoint, file=file))
            response = await sidekey.reverse("/api/orders")
            assert (response.status, len(token_requests(server))) == ((200, 2) if secret else (502, 1))
