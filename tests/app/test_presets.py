"""Whole processes with a store: a preset from its making to its end, by HTTP, on both databases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from sidekey.store.state import Delete
from support.api import TOKENS, Api, Said, basic, managed, rewritten
from support.child import Child, run_process
from support.http_get import Answer, within
from support.postgres import Postgres
from support.raw_connection import DEADLINE
from support.stores import ENTRY, Place, PostgresPlace, SqlitePlace
from support.upstream import RawUpstream

AUTHORIZATION = b"Basic c3ZjOmEtY2FuYXJ5LW9mLWJhc2lj"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database."""
    if request.param == "sqlite":
        return SqlitePlace(tmp_path)
    postgres: Postgres = request.getfixturevalue("postgres")
    found = PostgresPlace(postgres, asyncio.run(postgres.schema()))
    (tmp_path / "store-url").write_text(postgres.url(found.schema))
    return found


@dataclass
class Running:
    """A process with this store, and an upstream that records what arrives."""

    child: Child
    upstream: RawUpstream
    place: Place

    async def ask(self, method: str, path: str, body: Any = None, *, match: str | None = None) -> Said:
        """One request of an editor, or of an admin for callers."""
        token = TOKENS["admin" if path.startswith("/callers") else "editor"]
        return await asyncio.to_thread(Api(self.child.admin_port, token).ask, method, path, body, match=match)

    async def made(self, path: str, document: Any) -> Any:
        said = await self.ask("POST", path, document)
        assert said.status == 201, said
        return said.json

    async def got(self, path: str) -> Any:
        said = await self.ask("GET", path)
        assert said.status == 200, said
        return said.json

    async def send(self, target: str, token: str, body: str) -> Answer:
        """A caller's POST of JSON."""
        return await asyncio.to_thread(post, self.child.proxy_port, target, token, body)

    async def until(self, status: str) -> None:
        """Wait until the preset stands so."""
        api = Api(self.child.admin_port)
        await asyncio.to_thread(within, lambda: api.get("/presets/welcome")["status"] == status)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.upstream.port}/v1"

    def document(self, **more: Any) -> dict[str, Any]:
        """A preset of the integration crm."""
        return {
            "integration": "crm",
            "url": f"{self.base}/users/{{{{user}}}}/mails",
            "headers": {"X-Source": "sidekey"},
            "parameters": {"user": {"type": "text"}, "points": {"type": "number", "default": 0}},
            "body": {"json": {"text": "Hello {{user}}", "points": "{{points}}"}},
            **more,
        }


def post(port: int, target: str, token: str, body: str) -> Answer:
    with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
        connection.request("POST", target, body, {"Sidekey-Token": token, "Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode())


@asynccontextmanager
async def running(folder: Path, place: Place) -> AsyncIterator[Running]:
    where = "path: store.db" if isinstance(place, SqlitePlace) else "url: {file: store-url}"
    async with RawUpstream() as upstream:
        child = managed(folder, where)
        await asyncio.to_thread(child.__enter__)
        try:
            yield Running(child, upstream, place)
        finally:
            await asyncio.to_thread(child.__exit__, None, None, None)


async def test_who_has_only_a_preset_sends_by_it_and_by_nothing_else(tmp_path: Path, place: Place) -> None:
    """The upstream receives the filled request, byte for byte.

    Another start has what was edited, but whoever writes to the database cannot have the credential used.
    """
    async with running(tmp_path, place) as found:
        await found.made("/integrations", {"id": "crm", **basic(found.upstream.port)})
        shown = await found.made("/presets", {"id": "welcome", **found.document()})
        assert (shown["status"], shown["source"], shown["version"]) == ("ok", "store", 1)
        token = (await found.made("/callers", {"name": "billing", "presets": ["welcome"]}))["token"]
        sent = await found.send("/p/welcome", token, '{"user": "a b", "points": 7}')
        assert (sent.status, sent.body) == (200, "ok")
        (request,) = found.upstream.requests
        assert request.start == b"POST /v1/users/a%20b/mails HTTP/1.1"
        assert request.body == b'{"text":"Hello a b","points":7}'
        assert request.values(b"authorization") == [AUTHORIZATION]
        assert request.values(b"x-source") == [b"sidekey"]
        assert request.values(b"sidekey-token") == []
        assert (await found.send("/i/crm/x", token, "{}")).status == 403
        assert len(found.upstream.requests) == 1
        # An edit serves at once, and another start has it, too.
        edit = {"body": {"json": {"points": "{{points}}", "to": "{{user}}"}}}
        assert (await found.ask("PUT", "/presets/welcome", {**shown, **edit}, match='"1"')).etag == '"2"'
        await found.send("/p/welcome", token, '{"user": "a"}')
        assert found.upstream.requests[-1].body == b'{"points":0,"to":"a"}'
        await found.made("/presets", {"id": "altered", **found.document()})
        altered = (await found.made("/callers", {"name": "altered", "presets": ["altered"]}))["token"]
        ((body,),) = await place.sql("SELECT body FROM sidekey_rows WHERE id = 'altered' AND kind = 'preset'")
        await place.sql(
            f"UPDATE sidekey_rows SET body = '{str(body).replace('Hello', 'Goodbye')}' "
            "WHERE id = 'altered' AND kind = 'preset'"
        )
    async with running(tmp_path, place) as again:
        # The upstream is another one: its port is no longer the preset's.
        assert (await again.got("/presets/welcome"))["body"] == edit["body"]
        assert (await again.send("/p/welcome", token, '{"user": 7}')).status == 422
        shown = await again.got("/presets/altered")
        assert (shown["status"], "body" in shown) == ("unusable", False)
        said = await again.send("/p/altered", altered, '{"user": "7"}')
        assert (said.status, json.loads(said.body)["code"]) == (502, "credential_unavailable")
        assert again.upstream.received == []
        found_by_command = await asyncio.to_thread(
            run_process, "preset", "list", "--json", "--config", str(again.child.config)
        )
        listed = {each["id"]: (each["status"], each["source"]) for each in json.loads(found_by_command.stdout)}
        assert listed == {"altered": ("unusable", "store"), "welcome": ("ok", "store")}
        assert (await again.ask("DELETE", "/presets/altered", match='"1"')).status == 204


async def test_an_integration_is_not_taken_from_its_presets(tmp_path: Path, place: Place) -> None:
    """Neither deleted nor pointed elsewhere while they use it; a preset is deleted at any time."""
    async with running(tmp_path, place) as found:
        crm = await found.made("/integrations", {"id": "crm", **basic(found.upstream.port)})
        await found.made("/presets", {"id": "welcome", **found.document()})
        said = await found.ask("DELETE", "/integrations/crm", match='"1"')
        assert (said.status, said.code, said.json["presets"]) == (409, "in_use", ["welcome"])
        assert "preset welcome uses it" in said.json["detail"]
        again = {"username": {"value": "svc"}, "password": {"value": "entered again"}}
        moved = {"endpoint_prefix": f"{found.base}/other", "auth": again}
        for edit in (moved, {"methods": ["GET"]}):
            said = await found.ask("PATCH", "/integrations/crm", edit, match='"1"')
            assert (said.status, said.code, said.json["presets"]) == (409, "in_use", ["welcome"])
            (error,) = said.json["errors"]
            assert error["detail"].startswith("preset welcome: must be allowed by integration crm")
        header = {"type": "headers", "headers": {"X-Source": {"secret": {"value": "x"}}}}
        said = await found.ask("PUT", "/integrations/crm", {**crm, "auth": header}, match='"1"')
        assert (said.code, said.json["presets"]) == ("in_use", ["welcome"])
        # What leaves it usable is saved.
        assert (await found.ask("PATCH", "/integrations/crm", {"methods": ["GET", "POST"]}, match='"1"')).status == 200
        assert (await found.ask("DELETE", "/presets/welcome", match='"1"')).status == 204
        assert (await found.ask("PATCH", "/integrations/crm", {"methods": ["GET"]}, match='"2"')).status == 200
        assert (await found.ask("DELETE", "/integrations/crm", match='"3"')).status == 204
        entries = (await asyncio.to_thread(Api(found.child.admin_port).get, "/audit"))["items"]
        outcomes = {(each["action"], each["object"], each["outcome"]) for each in entries}
        assert ("delete", "integration", "in_use") in outcomes
        assert {("create", "preset", "ok"), ("delete", "preset", "ok")} <= outcomes


async def test_a_preset_of_a_file_is_used_until_it_is_removed_there(tmp_path: Path, place: Place) -> None:
    """It may go by a stored integration; once it is gone, the stored one is used."""
    async with running(tmp_path, place) as found:
        await found.made("/integrations", {"id": "crm", **basic(found.upstream.port)})
        await found.made("/presets", {"id": "welcome", **found.document()})
        token = (await found.made("/callers", {"name": "billing", "presets": "*"}))["token"]
        written = (
            f"presets: {{welcome: {{integration: crm, url: {found.base}/file, content_type: application/json}}}}\n"
        )
        with rewritten(found.child, found.child.config.read_text() + written):
            await found.until("unusable")
            assert (await found.send("/p/welcome", token, "{}")).status == 200
            assert found.upstream.requests[-1].start == b"POST /v1/file HTTP/1.1"
            listed = (await found.got("/presets"))["items"]
            assert [(each["source"], each["status"]) for each in listed] == [("file", "ok"), ("store", "unusable")]
            said = await found.ask("DELETE", "/integrations/crm", match='"1"')
            assert said.json["presets"] == ["welcome"]
        await found.until("ok")
        assert (await found.send("/p/welcome", token, '{"user": "7"}')).status == 200
        assert (await found.got("/presets/welcome"))["version"] == 1


async def test_an_integration_that_another_process_has_deleted_leaves_its_preset_invalid(
    tmp_path: Path, place: Place
) -> None:
    """Each judged by what it had in use: nothing is sent, the preset says why, and is used once there is one again."""
    async with running(tmp_path, place) as found:
        document = {"id": "crm", **basic(found.upstream.port)}
        await found.made("/integrations", document)
        await found.made("/presets", {"id": "welcome", **found.document()})
        token = (await found.made("/callers", {"name": "billing", "presets": ["welcome"]}))["token"]
        async with place.open(create=False) as other:
            await other.commit([Delete(other.state.integrations["crm"], 1)], ENTRY)
        await found.until("unusable")
        assert (await found.got("/presets/welcome"))["problem"] == "no integration has this ID"
        said = await found.send("/p/welcome", token, '{"user": "7"}')
        assert (said.status, json.loads(said.body)["code"]) == (502, "credential_unavailable")
        assert found.upstream.received == []
        await found.made("/integrations", document)
        assert (await found.got("/presets/welcome"))["status"] == "ok"
        assert (await found.send("/p/welcome", token, '{"user": "7"}')).status == 200
