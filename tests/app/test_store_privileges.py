"""Processes with the PostgreSQL users of docs/store.md: one may edit, the other only serves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from support.api import Api, ApiResponse, config
from support.http_get import get, wait_until
from support.oidc import SECRET, OidcProvider
from support.postgres import Postgres
from support.private_ca import Authority
from support.scraping import samples
from support.sidekey_process import SidekeyProcess, run_cli

DOCS = Path(__file__).parents[2] / "docs" / "store.md"
HEAD = """\
version: 1
listen: {{{{proxy: "127.0.0.1:{{proxy}}", admin: "127.0.0.1:{{admin}}"}}}}
network: {{{{allow_private: ["127.0.0.0/8"], trusted_ca: {{{{file: {ca}}}}}}}}}
"""
NO_USAGE = "usage and failures stay in this process"
READ_ONLY = "the database user may not change the store"


@pytest.fixture(scope="module")
def provider(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    """Run a provider with tokens of one second and rotating refresh tokens."""
    with OidcProvider(tmp_path_factory.mktemp("provider"), ca.leaf("127.0.0.1"), lifetime=1) as running:
        yield running


@pytest.fixture
def database() -> Iterator[Postgres]:
    """Run a server for one test, because all databases of a server share its roles."""
    with Postgres() as running:
        yield running


def documented() -> tuple[str, str]:
    """Return the statements of docs/store.md for before and after the first start."""
    first, second = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return first, second


def run(database: Postgres, script: str) -> None:
    """Execute statements as the administrator."""

    async def execute() -> None:
        connection = await asyncpg.connect(database.url())
        try:
            await connection.execute(script)
        finally:
            await connection.close()

    asyncio.run(execute())


@contextmanager
def sidekey(folder: Path, database: Postgres, user: str, ca: Authority) -> Iterator[SidekeyProcess]:
    """Run a process that connects to the store as this user."""
    folder.mkdir()
    (folder / "url").write_text(f"postgresql://{user}@/postgres?host={database.folder}")
    head = HEAD.format(ca=ca.bundle)
    with SidekeyProcess(config(folder, "url: {file: url}"), folder, head=head) as child:
        yield child
        assert child.stop() == 0


def shared(provider: OidcProvider, token: str) -> dict[str, Any]:
    """Build a document with a rotating refresh token."""
    grant = {"type": "refresh_token", "refresh_token": {"value": token}}
    auth = {"type": "oauth2", "token_endpoint": provider.token_endpoint, "client_id": "basic", "grant": grant}
    return {"auth": {**auth, "client_secret": {"value": SECRET}}, "test": {"path": "/api/orders"}}


def denied(response: ApiResponse) -> str:
    """Return the table for which the user lacks a privilege, as in the response."""
    assert (response.status, response.code) == (403, "store_denied")
    return str(response.json["detail"]).partition("lacks a privilege on ")[2].partition(":")[0]


def test_serving_user_can_do_everything_except_edit(
    database: Postgres, provider: OidcProvider, ca: Authority, tmp_path: Path
) -> None:
    first, after = documented()
    run(database, first)
    with (
        httpx.Client(base_url=provider.issuer, verify=ca.client_context(), trust_env=False) as client,
        sidekey(tmp_path / "edit", database, "sidekey_edit", ca) as editing,
    ):
        edit = Api(editing.admin_port)
        token = client.post("/families").json()["refresh_token"]
        edit.create("/integrations", {"id": "it", **shared(provider, token)})
        caller = {"Sidekey-Token": edit.create("/callers", {"name": "billing", "integrations": ["it"]})["token"]}
        operator = edit.create("/tokens", {"name": "ops", "role": "admin", "own_token": edit.token})["token"]
        run(database, after)
        with sidekey(tmp_path / "serve", database, "sidekey_serve", ca) as child:
            serve = Api(child.admin_port, operator)

            def status(port: int) -> int:
                return get(port, "/i/it/api/orders", caller).status

            # Both processes use the same refresh token, which the provider revokes if it is used twice.
            until = client.get("/families").json()["renewed"] + 4
            while client.get("/families").json()["renewed"] < until:
                assert (status(child.proxy_port), status(editing.proxy_port)) == (200, 200)
            assert client.get("/families").json()["revoked"] == 0
            assert edit.request("PATCH", "/integrations/it", {"description": "x"}, match='"1"').status == 200
            wait_until(lambda: serve.get("/integrations/it").get("description") == "x")
            wait_until(lambda: "ops" in {item["name"] for item in edit.get("/tokens")["items"] if item["last_used_at"]})

            assert (
                denied(serve.request("PATCH", "/integrations/it", {"description": "y"}, match='"2"')) == "sidekey_rows"
            )
            assert denied(serve.request("DELETE", "/integrations/it", match='"2"')) == "sidekey_rows"
            assert denied(serve.request("POST", "/callers", {"name": "other", "integrations": "*"})) == "sidekey_rows"
            assert denied(serve.request("POST", "/integrations/it/test")) == "sidekey_audit"
            assert denied(serve.request("GET", "/audit")) == "sidekey_audit"
            key = {"Idempotency-Key": "a-key-of-a-send-1"}
            assert denied(serve.request("POST", "/presets/it/sends", {"payload": "x"}, headers=key)) == "sidekey_sends"

            # With 401 a page would ask for a log-in that cannot help. A forged cookie causes no query.
            page = {"Authorization": "", "Sec-Fetch-Site": "same-origin", "Sidekey-Console": "1"}
            set_cookie = edit.request("POST", "/session", {"token": operator}, headers=page).headers["Set-Cookie"]
            cookie = set_cookie.partition(";")[0]
            for path in ("/whoami", "/session"):
                assert denied(serve.request("GET", path, headers={**page, "Cookie": cookie})) == "sidekey_sessions"
            assert denied(serve.request("POST", "/session", {"token": operator}, headers=page)) == "sidekey_sessions"
            forged = {**page, "Cookie": f"{cookie[:-32]}{'0' * 32}"}
            assert serve.request("GET", "/whoami", headers=forged).code == "unauthenticated"
            settings = ("--config", str(child.config))
            result = run_cli("token", "create", "me", *settings)
            assert (result.returncode, "lacks a privilege on sidekey_rows" in result.stderr) == (1, True)
            assert run_cli("store", "verify", *settings).returncode == 0

            child.wait_for_line(lambda line: READ_ONLY in line)
            assert samples(get(child.admin_port, "/metrics").body)["sidekey_store_up", ()] == 1
            assert status(child.proxy_port) == 200
            assert get(child.proxy_port, "/i/it/none", caller).status == 404
            assert edit.request("DELETE", "/callers/billing", match='"1"').status == 204
            wait_until(lambda: status(child.proxy_port) == 401)
            assert child.stop() == 0
        assert not any('"level":"error"' in line or "the store cannot be used" in line for line in child.lines)
        assert not any(NO_USAGE in line for line in child.lines)
        # The serving user has written its counts to the store, but may not delete them.
        assert edit.get("/integrations/it/usage")["outcomes"]["4xx"] == 1
        assert [item["status"] for item in edit.get("/integrations/it/failures")["items"]] == [404]
        for table in ("usage", "failures"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                run(database, f"SET ROLE sidekey_serve; DELETE FROM sidekey.sidekey_{table}")
        assert sum(READ_ONLY in line for line in child.lines) == 1
    assert not any(READ_ONLY in line for line in editing.lines)


def test_missing_privilege_for_usage_is_logged_once(database: Postgres, ca: Authority, tmp_path: Path) -> None:
    first, after = documented()
    run(database, first)
    with sidekey(tmp_path / "edit", database, "sidekey_edit", ca):
        run(database, "\n".join(line for line in after.splitlines() if "sidekey_usage" not in line))
        with sidekey(tmp_path / "serve", database, "sidekey_serve", ca) as child:
            child.wait_for_line(lambda line: NO_USAGE in line)
            assert Api(child.admin_port).request("GET", "/integrations?status=failing").status == 200
        assert sum(NO_USAGE in line for line in child.lines) == 1


def test_first_start_names_a_user_that_may_not_create_tables(database: Postgres, tmp_path: Path) -> None:
    run(database, documented()[0])
    (tmp_path / "url").write_text(f"postgresql://sidekey_serve@/postgres?host={database.folder}")
    child = SidekeyProcess(config(tmp_path, "url: {file: url}"), tmp_path)
    child.start()
    assert child.wait() == 1
    assert "lacks a privilege" in "\n".join(child.lines)
