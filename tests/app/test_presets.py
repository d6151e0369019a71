"""Presets in a store, on both databases: create, send, edit, alter and delete them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from sidekey.store.state import Delete
from support.api import TOKENS, Api, ApiResponse, basic, managed, rewritten
from support.http_get import HttpResponse, wait_until
from support.raw_connection import DEADLINE
from support.sidekey_process import SidekeyProcess, run_process
from support.stores import ENTRY, StoreBackend
from support.upstream import RawUpstream

AUTHORIZATION = b"Basic c3ZjOmEtY2FuYXJ5LW9mLWJhc2lj"


@dataclass
class Running:
    """A process with this store, and an upstream that records requests."""

    child: SidekeyProcess
    upstream: RawUpstream
    place: StoreBackend

    async def request(self, method: str, path: str, body: Any = None, *, match: str | None = None) -> ApiResponse:
        """Send a request of an editor, or of an admin for callers."""
        token = TOKENS["admin" if path.startswith("/callers") else "editor"]
        return await asyncio.to_thread(Api(self.child.admin_port, token).request, method, path, body, match=match)

    async def create(self, path: str, document: Any) -> Any:
        response = await self.request("POST", path, document)
        assert response.status == 201, response
        return response.json

    async def read(self, path: str) -> Any:
        response = await self.request("GET", path)
        assert response.status == 200, response
        return response.json

    async def send(self, target: str, token: str, body: str) -> HttpResponse:
        """Send a POST of JSON as a caller."""
        return await asyncio.to_thread(post, self.child.proxy_port, target, token, body)

    async def until(self, status: str) -> None:
        """Wait until the preset has this status."""
        api = Api(self.child.admin_port)
        await asyncio.to_thread(wait_until, lambda: api.get("/presets/welcome")["status"] == status)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.upstream.port}/v1"

    def document(self, **more: Any) -> dict[str, Any]:
        """Build a preset of the integration crm."""
        return {
            "integration": "crm",
            "url": f"{self.base}/users/{{{{user}}}}/mails",
            "headers": {"X-Source": "sidekey"},
            "parameters": {"user": {"type": "text"}, "points": {"type": "number", "default": 0}},
            "body": {"json": {"text": "Hello {{user}}", "points": "{{points}}"}},
            **more,
        }


def post(port: int, target: str, token: str, body: str) -> HttpResponse:
    with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
        connection.request("POST", target, body, {"Sidekey-Token": token, "Content-Type": "application/json"})
        response = connection.getresponse()
        return HttpResponse(response.status, response.headers, response.read().decode())


@asynccontextmanager
async def running(folder: Path, place: StoreBackend, store_settings: str) -> AsyncIterator[Running]:
    async with RawUpstream() as upstream:
        child = managed(folder, store_settings)
        await asyncio.to_thread(child.__enter__)
        try:
            yield Running(child, upstream, place)
        finally:
            await asyncio.to_thread(child.__exit__, None, None, None)


async def test_caller_with_a_preset_can_only_send_that_preset(
    tmp_path: Path, place: StoreBackend, store_settings: str
) -> None:
    """A preset that was altered in the database is not sent until an editor replaces it."""
    async with running(tmp_path, place, store_settings) as first:
        await first.create("/integrations", {"id": "crm", **basic(first.upstream.port)})
        document = await first.create("/presets", {"id": "welcome", **first.document()})
        assert (document["status"], document["source"], document["version"]) == ("ok", "store", 1)
        token = (await first.create("/callers", {"name": "billing", "presets": ["welcome"]}))["token"]
        sent = await first.send("/p/welcome", token, '{"user": "a b", "points": 7}')
        assert (sent.status, sent.body) == (200, "ok")
        (request,) = first.upstream.requests
        assert request.start == b"POST /v1/users/a%20b/mails HTTP/1.1"
        assert request.body == b'{"text":"Hello a b","points":7}'
        assert request.values(b"authorization") == [AUTHORIZATION]
        assert request.values(b"x-source") == [b"sidekey"]
        assert request.values(b"sidekey-token") == []
        assert (await first.send("/i/crm/x", token, "{}")).status == 403
        assert len(first.upstream.requests) == 1
        # An edit takes effect at once, and survives a restart.
        edit = {"body": {"json": {"points": "{{points}}", "to": "{{user}}"}}}
        assert (await first.request("PUT", "/presets/welcome", {**document, **edit}, match='"1"')).etag == '"2"'
        await first.send("/p/welcome", token, '{"user": "a"}')
        assert first.upstream.requests[-1].body == b'{"points":0,"to":"a"}'
        complete = first.document()
        await first.create("/presets", {"id": "altered", **complete})
        altered = (await first.create("/callers", {"name": "altered", "presets": ["altered"]}))["token"]
        ((body,),) = await place.sql("SELECT body FROM sidekey_rows WHERE id = 'altered' AND kind = 'preset'")
        await place.sql(
            f"UPDATE sidekey_rows SET body = '{str(body).replace('Hello', 'Goodbye')}' "
            "WHERE id = 'altered' AND kind = 'preset'"
        )
    async with running(tmp_path, place, store_settings) as second:
        # The preset still has the port of the first upstream.
        assert (await second.read("/presets/welcome"))["body"] == edit["body"]
        assert (await second.send("/p/welcome", token, '{"user": 7}')).status == 422
        document = await second.read("/presets/altered")
        assert (document["status"], "body" in document) == ("unusable", False)
        response = await second.send("/p/altered", altered, '{"user": "7"}')
        assert (response.status, json.loads(response.body)["code"]) == (502, "credential_unavailable")
        assert second.upstream.received == []
        preset_list = await asyncio.to_thread(
            run_process, "preset", "list", "--json", "--config", str(second.child.config)
        )
        listed = {item["id"]: (item["status"], item["source"]) for item in json.loads(preset_list.stdout)}
        assert listed == {"altered": ("unusable", "store"), "welcome": ("ok", "store")}
        patch = await second.request("PATCH", "/presets/altered", {"description": "x"}, match='"1"')
        assert (patch.status, "send the complete document with PUT" in patch.json["detail"]) == (422, True)
        replaced = (await second.request("PUT", "/presets/altered", complete, match='"1"')).json
        assert (replaced["status"], replaced["body"]) == ("ok", complete["body"])
        assert (await second.request("DELETE", "/presets/altered", match='"2"')).status == 204


async def test_integration_of_a_preset_cannot_be_deleted_or_moved(
    tmp_path: Path, place: StoreBackend, store_settings: str
) -> None:
    async with running(tmp_path, place, store_settings) as first:
        crm = await first.create("/integrations", {"id": "crm", **basic(first.upstream.port)})
        await first.create("/presets", {"id": "welcome", **first.document()})
        response = await first.request("DELETE", "/integrations/crm", match='"1"')
        assert (response.status, response.code, response.json["presets"]) == (409, "in_use", ["welcome"])
        assert "preset welcome uses it" in response.json["detail"]
        secrets = {"username": {"value": "svc"}, "password": {"value": "entered again"}}
        moved = {"endpoint_prefix": f"{first.base}/other", "auth": secrets}
        for edit in (moved, {"methods": ["GET"]}):
            response = await first.request("PATCH", "/integrations/crm", edit, match='"1"')
            assert (response.status, response.code, response.json["presets"]) == (409, "in_use", ["welcome"])
            (error,) = response.json["errors"]
            assert error["detail"].startswith("preset welcome: must be allowed by integration crm")
        header = {"type": "headers", "headers": {"X-Source": {"secret": {"value": "x"}}}}
        response = await first.request("PUT", "/integrations/crm", {**crm, "auth": header}, match='"1"')
        assert (response.code, response.json["presets"]) == ("in_use", ["welcome"])
        # An edit that leaves the preset usable is saved.
        assert (
            await first.request("PATCH", "/integrations/crm", {"methods": ["GET", "POST"]}, match='"1"')
        ).status == 200
        assert (await first.request("DELETE", "/presets/welcome", match='"1"')).status == 204
        assert (await first.request("PATCH", "/integrations/crm", {"methods": ["GET"]}, match='"2"')).status == 200
        assert (await first.request("DELETE", "/integrations/crm", match='"3"')).status == 204
        entries = (await asyncio.to_thread(Api(first.child.admin_port).get, "/audit"))["items"]
        outcomes = {(entry["action"], entry["object"], entry["outcome"]) for entry in entries}
        assert ("delete", "integration", "in_use") in outcomes
        assert {("create", "preset", "ok"), ("delete", "preset", "ok")} <= outcomes


async def test_preset_of_a_file_is_used_until_the_file_omits_it(
    tmp_path: Path, place: StoreBackend, store_settings: str
) -> None:
    """The preset of a file may use a stored integration."""
    async with running(tmp_path, place, store_settings) as first:
        await first.create("/integrations", {"id": "crm", **basic(first.upstream.port)})
        await first.create("/presets", {"id": "welcome", **first.document()})
        token = (await first.create("/callers", {"name": "billing", "presets": "*"}))["token"]
        file_preset = (
            f"presets: {{welcome: {{integration: crm, url: {first.base}/file, content_type: application/json}}}}\n"
        )
        with rewritten(first.child, first.child.config.read_text() + file_preset):
            await first.until("unusable")
            assert (await first.send("/p/welcome", token, "{}")).status == 200
            assert first.upstream.requests[-1].start == b"POST /v1/file HTTP/1.1"
            listed = (await first.read("/presets"))["items"]
            assert [(item["source"], item["status"]) for item in listed] == [("file", "ok"), ("store", "unusable")]
            response = await first.request("DELETE", "/integrations/crm", match='"1"')
            assert response.json["presets"] == ["welcome"]
        await first.until("ok")
        assert (await first.send("/p/welcome", token, '{"user": "7"}')).status == 200
        assert (await first.read("/presets/welcome"))["version"] == 1


async def test_preset_is_unusable_after_another_process_deleted_its_integration(
    tmp_path: Path, place: StoreBackend, store_settings: str
) -> None:
    """A new integration with the same ID makes the preset usable again."""
    async with running(tmp_path, place, store_settings) as first:
        document = {"id": "crm", **basic(first.upstream.port)}
        await first.create("/integrations", document)
        await first.create("/presets", {"id": "welcome", **first.document()})
        token = (await first.create("/callers", {"name": "billing", "presets": ["welcome"]}))["token"]
        async with place.open(create=False) as other:
            await other.commit([Delete(other.state.integrations["crm"], 1)], ENTRY)
        await first.until("unusable")
        assert (await first.read("/presets/welcome"))["problem"] == "no integration has this ID"
        response = await first.send("/p/welcome", token, '{"user": "7"}')
        assert (response.status, json.loads(response.body)["code"]) == (502, "credential_unavailable")
        assert first.upstream.received == []
        await first.create("/integrations", document)
        assert (await first.read("/presets/welcome"))["status"] == "ok"
        assert (await first.send("/p/welcome", token, '{"user": "7"}')).status == 200
