"""A Sidekey with a store: changes of stored integrations and callers while it serves."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from sidekey.store.audit import AuditEntry
from sidekey.store.records import CallerRow, IntegrationRow, new_row_id
from sidekey.store.state import Delete, Put
from sidekey.store_manager import StoreManager
from support import files
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import RawConnection, connect
from support.serving import HEAD, RunningApp, problem, serving
from support.stored import saved
from support.tunnels import connect_request, problem_of
from support.upstream import OK, RawUpstream

STORE = "store: {{path: store.db, keys: [{{id: k1, key: {{file: k1}}}}], allow_private: ['127.0.0.0/8']}}\n"
MANAGED = HEAD.replace("log:", f"{STORE}log:")
ENTRY = AuditEntry(who="ann", action="update")
TOKEN = "Sidekey-Token: secret-of-billing"
HOSTS = {"up.test": ["127.0.0.1"], "own.test": ["127.0.0.1"]}


class Editor:
    """Writes to the store of a running Sidekey."""

    def __init__(self, sidekey: RunningApp) -> None:
        managed = sidekey.app.manager
        assert managed is not None
        self.managed: StoreManager = managed

    async def put(self, name: str, document: Mapping[str, Any]) -> None:
        """Save a document as the API does."""
        vault, previous = self.managed.sealing_keys, self.managed.store.state.integrations.get(name)
        version = None if previous is None else previous.version
        await self.managed.commit([Put(saved(vault, name, document, previous), version)], ENTRY)

    def row(self, name: str) -> IntegrationRow:
        return self.managed.store.state.integrations[name]

    async def delete(self, name: str) -> None:
        row = self.row(name)
        await self.managed.commit([Delete(row, row.version)], ENTRY)

    async def put_caller(self, *integrations: str) -> None:
        """Store a caller that may use these."""
        previous = self.managed.store.state.callers.get("billing")
        row = CallerRow(
            row_id=new_row_id() if previous is None else previous.row_id,
            id="billing",
            token_sha256=sha256(b"secret-of-billing").hexdigest(),
            integrations=integrations,
        )
        await self.managed.commit([Put(row, None if previous is None else previous.version)], ENTRY)


def integration(port: int, word: str) -> dict[str, Any]:
    """Build an integration whose path and credential contain this word."""
    headers = {"X-Key": {"secret": {"value": f"{word}-secret"}}}
    return {"endpoint_prefix": f"http://up.test:{port}/{word}", "auth": {"type": "headers", "headers": headers}}


@asynccontextmanager
async def managed(folder: Path, ca: Authority, head: str = MANAGED) -> AsyncIterator[tuple[RunningApp, Editor]]:
    (folder / "k1").write_text(b64encode(b"1" * 32).decode())
    async with serving("  {}\n", folder, ca, hosts=HOSTS, head=head) as sidekey:
        yield sidekey, Editor(sidekey)


def changes_in(sidekey: RunningApp) -> list[dict[str, Any]]:
    """Return the lines of changes in the log."""
    return [line for line in sidekey.lines() if line["event"] == "config changed"]


async def test_each_change_is_logged_with_its_operator_and_without_a_secret(tmp_path: Path, ca: Authority) -> None:
    async with managed(tmp_path, ca) as (sidekey, editor):
        await editor.put_caller("it")
        await editor.put("it", integration(1, "one"))
        wider = {**integration(1, "two"), "endpoint_prefix": "http://up.test:1"}
        await editor.put("it", wider)
        await editor.delete("it")
        await eventually(lambda: len(changes_in(sidekey)) == 4)
        changes = changes_in(sidekey)
        revision = editor.managed.store.state.revision
        logged = sidekey.log.read_text()
    assert [(line["source"], line["by"]) for line in changes] == [("store", ["ann"])] * 4
    assert [line["revision"] for line in changes] == list(range(revision - 3, revision + 1))
    caller, created, widened, deleted = changes
    assert caller["added_keys"] == ["callers.billing"]
    assert created["added_keys"] == ["integrations.it"]
    assert widened["changed_keys"] == ["integrations.it.auth.headers.X-Key.secret", "integrations.it.endpoint_prefix"]
    assert deleted["removed_keys"] == ["integrations.it"]
    assert "one-secret" not in logged
    assert "two-secret" not in logged


async def test_no_request_mixes_two_states_of_the_store(tmp_path: Path, ca: Authority) -> None:
    """Each request has the path and the credential of the same version, even if files change meanwhile."""
    async with RawUpstream() as upstream, managed(tmp_path, ca) as (sidekey, editor):
        await editor.put_caller("it")
        await editor.put("it", integration(upstream.port, "w0"))
        over = asyncio.Event()

        async def send() -> None:
            while not over.is_set():
                assert (await sidekey.reverse("/x", TOKEN)).status == 200

        senders = [asyncio.create_task(send()) for _ in range(4)]
        config = tmp_path / "sidekey.yaml"
        for number in range(1, 8):
            await editor.put("it", integration(upstream.port, f"w{number}"))
            files.replace(config, config.read_text() + f"# {number}\n")
        over.set()
        await asyncio.gather(*senders)
    received = {(request.target, *request.values(b"x-key")) for request in upstream.requests}
    assert received <= {(f"/w{number}/x".encode(), f"w{number}-secret".encode()) for number in range(8)}
    assert len(received) > 1


async def test_tunnel_to_a_stored_integration_needs_its_host_in_the_config(tmp_path: Path, ca: Authority) -> None:
    """An editor cannot make the local CA sign for another host."""

    async def opened(sidekey: RunningApp, *, user: str, tunnel: bool) -> Any:
        async with connect(sidekey.port) as caller:
            await caller.send(connect_request("up.test:443", user=user))
            # The response that opens a tunnel has no body (RFC 9110 9.3.6).
            return await caller.response(to_head=tunnel)

    secure = {**integration(1, "one"), "endpoint_prefix": "https://up.test/one"}
    head = MANAGED.replace("log:", "forward: {{match_by_host: true}}\nca: {{folder: authority, hosts: [HOSTS]}}\nlog:")
    for hosts, status in (("other.test", 502), ("up.test", 200)):
        folder = tmp_path / hosts
        folder.mkdir()
        async with managed(folder, ca, head=head.replace("HOSTS", hosts)) as (sidekey, editor):
            await editor.put_caller("it")
            await editor.put("it", secure)
            named = await opened(sidekey, user="it:secret-of-billing", tunnel=status == 200)
            assert named.status == status
            if status != 200:
                assert problem_of(named)["code"] == "ca_unavailable"
            by_host = await opened(sidekey, user="-:secret-of-billing", tunnel=status == 200)
            assert by_host.status == (200 if status == 200 else 403)


class Issuer:
    """A token endpoint that returns t1, t2 and so on for the client's secret, beside an API that accepts any token."""

    def __init__(self) -> None:
        self.issued = 0
        self.used: list[tuple[bytes, list[bytes]]] = []

    async def __call__(self, connection: RawConnection) -> None:
        while True:
            request = await connection.request()
            if request.target != b"/token":
                self.used.append((request.target, request.values(b"authorization")))
                await connection.send(OK)
            elif b"right" not in request.body:
                await connection.send(b'HTTP/1.1 401 No\r\nContent-Length: 26\r\n\r\n{"error":"invalid_client"}')
            else:
                self.issued += 1
                body = b'{"access_token": "t%d", "expires_in": 3600}' % self.issued
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def test_token_is_sent_only_to_the_destination_of_its_secret(tmp_path: Path, ca: Authority) -> None:
    """An editor who moves an integration without its secret gets no token of that secret."""
    issuer = Issuer()

    def document(port: int, host: str, secret: str, *, redact: bool = False) -> dict[str, Any]:
        auth = {"type": "oauth2", "token_endpoint": f"https://127.0.0.1:{port}/token", "client_id": "id"}
        auth |= {"client_authentication": "body", "client_secret": {"value": secret}}
        destination = {"allow_other_domains": True, "allowed_domains": [f"https://{host}:{port}"]}
        return {**destination, "auth": auth, "redact_response": redact}

    context = ca.server_context("127.0.0.1", "up.test", "own.test")
    async with RawUpstream(issuer, ssl_context=context) as upstream, managed(tmp_path, ca) as (sidekey, editor):
        port = upstream.port
        await editor.put_caller("it")
        await editor.put("it", document(port, "up.test", "right"))
        assert (await sidekey.reverse("/x", TOKEN)).status == 200
        await editor.put("it", {**document(port, "up.test", "right"), "description": "edited"})
        assert (await sidekey.reverse("/x", TOKEN)).status == 200
        # An edit that only makes the integration safer keeps the secrets.
        await editor.put("it", document(port, "up.test", "right", redact=True))
        assert (await sidekey.reverse("/x", TOKEN)).status == 200
        for moved in (document(port, "own.test", "wrong"), document(port, "up.test", "wrong")):
            await editor.put("it", moved)
            assert problem(await sidekey.reverse("/x", TOKEN))["detail"] == "token endpoint returned 401 invalid_client"
    assert issuer.used == [(b"/x", [b"Bearer t1"])] * 3


async def test_row_edited_by_sql_disables_only_its_integration(tmp_path: Path, ca: Authority) -> None:
    """An attacker with access to the database cannot redirect a secret."""
    async with RawUpstream() as upstream, managed(tmp_path, ca) as (sidekey, editor):
        await editor.put_caller("it", "fine")
        await editor.put("it", integration(upstream.port, "one"))
        await editor.put("fine", integration(upstream.port, "fine"))
        with closing(sqlite3.connect(tmp_path / "store.db")) as database, database:
            (body,) = database.execute("SELECT body FROM sidekey_rows WHERE id = 'it'").fetchone()
            edited = json.loads(body)
            edited["document"] = edited["document"].replace("/one", "/two")
            text = json.dumps(edited, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            database.execute("UPDATE sidekey_rows SET body = ?, revision = revision + 99 WHERE id = 'it'", (text,))
        await eventually(lambda: any(sidekey.app.metrics.stored.problems.values()))
        assert await sidekey.metric('sidekey_store_integrations{state="unusable"}') == 1
        assert await sidekey.metric('sidekey_store_integrations{state="ok"}') == 1
        error = problem(await sidekey.reverse("/x", TOKEN))
        assert (error["code"], error["detail"]) == (
            "credential_unavailable",
            "store: the integration cannot be used; an operator must look at it",
        )
        assert (await sidekey.reverse("/x", TOKEN, name="fine")).status == 200
    assert [request.target for request in upstream.requests] == [b"/fine/x"]
