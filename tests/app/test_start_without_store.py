"""A start while the store is unreachable: Sidekey serves files at once, and refuses everything else for now."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.api import Api, config
from support.blackhole import Blackhole
from support.http_get import HttpResponse, get, wait_until
from support.ports import free_port
from support.postgres import Postgres
from support.raw_connection import connect
from support.sidekey_process import SidekeyProcess
from support.tunnels import connect_request
from support.upstream import RawUpstream
from support.wire import Message

FILE_TOKEN = "token-of-the-file-caller"
HEAD = """\
version: 1
listen: {{{{proxy: "127.0.0.1:{{proxy}}", admin: "127.0.0.1:{{admin}}", metrics: "127.0.0.1:{metrics}"}}}}
network:
  allow_private: ["127.0.0.0/8"]
  hosts: {{{{file.test: [127.0.0.1], stored.test: [127.0.0.1], bare.test: [127.0.0.1]}}}}
ca: {{{{folder: ca, hosts: [stored.test]}}}}
timeouts: {{{{drain: 1s}}}}
"""
"""`drain` is short, because a tunnel without interception stays open as long as the upstream does."""

FILES = """\
forward: {{unmatched: pass, pass_ports: [{port}], match_by_host: true}}
callers:
  of-a-file: {{token: {{insecure_value: {token}}}, integrations: [of-a-file, stored, late], presets: "*"}}
presets:
  hook:
    {{integration: stored, url: "http://stored.test:{port}/v1/hook", method: GET, content_type: text/plain}}
integrations:
  of-a-file:
    endpoint_prefix: http://file.test:{port}/v1
    auth: {{type: headers, headers: {{X-Key: {{secret: {{insecure_value: secret-of-a-file}}}}}}}}
"""
LATE = """\
  late:
    endpoint_prefix: http://file.test:{port}/late
    auth: {{type: headers, headers: {{X-Key: {{secret: {{insecure_value: secret-of-late}}}}}}}}
"""


@dataclass
class Restarts:
    """Starts of a Sidekey with the same upstream and the same store."""

    folder: Path
    upstream: RawUpstream
    place: str
    more: str = ""

    def __post_init__(self) -> None:
        self.metrics_port = free_port()

    def child(self) -> SidekeyProcess:
        """Build a process that counts as started without its store."""
        text = FILES.format(port=self.upstream.port, token=FILE_TOKEN)
        head = HEAD.format(metrics=self.metrics_port)
        return SidekeyProcess(
            config(self.folder, self.place, text) + self.more, self.folder, head=head, probe="/startupz"
        )


@contextmanager
def stopped(postgres: Postgres) -> Iterator[None]:
    """Stop the database for the block."""
    postgres.stop()
    try:
        yield
    finally:
        postgres.start()


@pytest.fixture
async def url(postgres: Postgres, tmp_path: Path) -> str:
    """Return the settings of an empty schema."""
    schema = await postgres.schema()
    (tmp_path / "url").write_text(postgres.url(schema))
    return "url: {file: url}"


async def store_integration_and_caller(child: SidekeyProcess, port: int) -> str:
    """Store an integration and a caller that may use it, and return the caller's token."""
    api = Api(child.admin_port)
    headers = {"X-Key": {"secret": {"value": "secret-of-stored"}}}
    document = {"id": "stored", "endpoint_prefix": f"http://stored.test:{port}/v1"}
    await asyncio.to_thread(api.create, "/integrations", {**document, "auth": {"type": "headers", "headers": headers}})
    created = await asyncio.to_thread(api.create, "/callers", {"name": "of-the-store", "integrations": ["stored"]})
    return str(created["token"])


async def request(child: SidekeyProcess, *lines: str) -> Message:
    """Send a request on a new connection."""
    async with connect(child.proxy_port) as raw:
        await raw.send("\r\n".join([*lines, "", ""]).encode())
        return await raw.response()


async def reverse(child: SidekeyProcess, path: str, token: str = FILE_TOKEN) -> Message:
    """Send through the reverse proxy."""
    return await request(child, f"GET {path} HTTP/1.1", "Host: localhost", f"Sidekey-Token: {token}")


async def send(child: SidekeyProcess, preset: str) -> Message:
    """Send a preset."""
    fields = ("Host: localhost", f"Sidekey-Token: {FILE_TOKEN}", "Content-Type: text/plain", "Content-Length: 0")
    return await request(child, f"POST /p/{preset} HTTP/1.1", *fields)


async def forward(child: SidekeyProcess, url: str, *fields: str) -> Message:
    """Send through the forward proxy."""
    return await request(child, f"GET {url} HTTP/1.1", "Host: ignored", f"Sidekey-Token: {FILE_TOKEN}", *fields)


async def inside(child: SidekeyProcess, authority: str, user: str, path: str) -> Message:
    """Send inside a tunnel, or return the response to the CONNECT if it is denied."""
    async with connect(child.proxy_port) as raw:
        await raw.send(connect_request(authority, user=user))
        if (await raw.response(to_head=True)).status != 200:
            # Read the response again with its body.
            raw.consumed = 0
            return await raw.response()
        await raw.send(f"GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        return await raw.response()


async def probes(port: int) -> dict[str, HttpResponse]:
    """Return the responses to the health checks of a listener."""
    return {path: await asyncio.to_thread(get, port, path) for path in ("/healthz", "/startupz", "/readyz")}


async def until_ready(child: SidekeyProcess) -> None:
    """Wait until /readyz succeeds."""
    await asyncio.to_thread(wait_until, lambda: get(child.admin_port, "/readyz").status == 200)


UNCOVERED = (
    "an ID at the reverse proxy",
    "an ID at the forward proxy",
    "a caller's token",
    "a preset",
    "a preset of a file",
    "a target",
    "a target beside a named integration",
    "a path that no integration of the caller covers",
    "a tunnel to a target",
    "a tunnel of an ID",
    "a request in a tunnel",
)
"""Requests that no integration, caller or preset of a file covers."""


async def send_uncovered(child: SidekeyProcess, port: int, case: str) -> Message:
    """Send the request of a case in `UNCOVERED`."""
    named = "X-Integration-Id: of-a-file"
    match case:
        case "an ID at the reverse proxy":
            return await reverse(child, "/i/stored/x")
        case "an ID at the forward proxy":
            return await forward(child, f"http://stored.test:{port}/v1/x", "X-Integration-Id: stored")
        case "a caller's token":
            return await reverse(child, "/i/of-a-file/x", "a-token-of-nobody")
        case "a preset":
            return await send(child, "unknown")
        case "a preset of a file":
            return await send(child, "hook")
        case "a target":
            return await forward(child, f"http://bare.test:{port}/x")
        case "a target beside a named integration":
            return await forward(child, f"http://bare.test:{port}/x", named)
        case "a path that no integration of the caller covers":
            return await forward(child, f"http://file.test:{port}/elsewhere")
        case "a tunnel to a target":
            return await inside(child, f"bare.test:{port}", f"-:{FILE_TOKEN}", "/x")
        case "a tunnel of an ID":
            return await inside(child, f"stored.test:{port}", f"stored:{FILE_TOKEN}", "/v1/x")
        case "a request in a tunnel":
            return await inside(child, f"file.test:{port}", f"-:{FILE_TOKEN}", "/elsewhere")
        case _:
            raise ValueError(case)


async def send_covered(child: SidekeyProcess, port: int) -> list[int]:
    """Send requests to the file's integration by each route, and return the statuses."""
    return [
        (await reverse(child, "/i/of-a-file/x")).status,
        (await forward(child, f"http://file.test:{port}/v1/x", "X-Integration-Id: of-a-file")).status,
        (await forward(child, f"http://file.test:{port}/v1/x")).status,
        (await inside(child, f"file.test:{port}", f"of-a-file:{FILE_TOKEN}", "/v1/x")).status,
    ]


async def test_restart_while_the_database_is_down_serves_files(url: str, postgres: Postgres, tmp_path: Path) -> None:
    """Everything is served once the database is up, and after it stops again."""
    async with RawUpstream() as upstream:
        port, restarts = upstream.port, Restarts(tmp_path, upstream, url)
        with restarts.child() as child:
            await until_ready(child)
            token = await store_integration_and_caller(child, port)
            assert (await reverse(child, "/i/stored/x", token)).status == 200
            assert await asyncio.to_thread(child.stop) == 0
        with stopped(postgres), ExitStack() as stack:
            child = stack.enter_context(restarts.child())
            await upstream.reset()
            for listener in (child.admin_port, restarts.metrics_port):
                probe_responses = await probes(listener)
                assert {path: received.status for path, received in probe_responses.items()} == {
                    "/healthz": 200,
                    "/startupz": 200,
                    "/readyz": 503,
                }
                reason = "the store has not been read yet: store.url: the database cannot be reached (ENOENT)\n"
                assert probe_responses["/readyz"].body == reason
            assert await send_covered(child, port) == [200, 200, 200, 200]
            assert [received.values(b"x-key") for received in upstream.requests] == [[b"secret-of-a-file"]] * 4
            await upstream.reset()
            for case in UNCOVERED:
                response = await send_uncovered(child, port, case)
                assert (case, response.status, json.loads(response.body)["code"]) == (case, 503, "store_unavailable")
                assert response.values(b"retry-after") == [b"5"]
            assert (await reverse(child, "/i/stored/x", token)).status == 503
            assert upstream.requests == []
            child.rewrite(child.config.read_text() + LATE.format(port=port))
            await asyncio.to_thread(child.wait_for_line, lambda line: '"config reloaded"' in line)
            assert (await reverse(child, "/i/late/x")).status == 200
            assert (await probes(child.admin_port))["/readyz"].status == 503
            assert "\nsidekey_store_up 0.0\n" in (await asyncio.to_thread(get, child.admin_port, "/metrics")).body
            running = stack.pop_all()
        with running:
            await until_ready(child)
            assert (await reverse(child, "/i/stored/x", token)).status == 200
            await upstream.reset()
            statuses = {case: (await send_uncovered(child, port, case)).status for case in UNCOVERED}
            assert statuses == {
                **dict.fromkeys(UNCOVERED, 200),
                "a caller's token": 401,
                "a preset": 403,
                "a path that no integration of the caller covers": 403,
                "a request in a tunnel": 403,
            }
            bare = [received for received in upstream.requests if b"bare.test" in b"".join(received.values(b"host"))]
            assert [received.values(b"x-key") for received in bare] == [[]] * 3
            with stopped(postgres):
                await asyncio.to_thread(child.wait_for_line, lambda line: "what is loaded stays in use" in line)
                assert {path: probe.status for path, probe in (await probes(child.admin_port)).items()} == {
                    "/healthz": 200,
                    "/startupz": 200,
                    "/readyz": 200,
                }
                assert (await reverse(child, "/i/stored/x", token)).status == 200
                assert {case: (await send_uncovered(child, port, case)).status for case in UNCOVERED} == statuses
            assert await asyncio.to_thread(child.stop) == 0
    output = "\n".join(child.lines)
    assert output.count("the store cannot be used: only what is in files is served") == 1
    assert str(postgres.folder) not in output
    assert "secret-of-" not in output


FINAL = {
    "an ID that the caller's list lacks": ("integration_denied", "/i/of-another/x", ()),
    "a path outside the prefix": (
        "target_denied",
        "http://file.test:{port}/elsewhere",
        ("X-Integration-Id: of-a-file",),
    ),
    "a request of a web page": ("door_denied", "/i/stored/x", ("Sec-Fetch-Site: cross-site",)),
    "two names": ("request_invalid", "/i/stored/x", ("X-Integration-Id: of-a-file",)),
}


async def test_denial_that_no_stored_row_could_change_is_final(tmp_path: Path) -> None:
    """A caller need not retry it. The denial does not reveal which IDs are in files."""
    (tmp_path / "url").write_text(f"postgresql://sidekey@127.0.0.1:{free_port()}/sidekey")
    async with RawUpstream() as upstream:
        with Restarts(tmp_path, upstream, "url: {file: url}").child() as child:
            host, token = "Host: localhost", f"Sidekey-Token: {FILE_TOKEN}"
            for case, (code, target, fields) in FINAL.items():
                line = f"GET {target.format(port=upstream.port)} HTTP/1.1"
                response = await request(child, line, host, token, *fields)
                assert (case, json.loads(response.body)["code"]) == (case, code)
                assert response.values(b"retry-after") == []
            assert (await request(child, "GET /i/stored/x HTTP/1.1", host)).status == 401
            assert (await probes(child.admin_port))["/readyz"].body.endswith("cannot be reached (ECONNREFUSED)\n")
            assert await asyncio.to_thread(child.stop) == 0
        assert upstream.requests == []


async def test_api_and_console_wait_for_the_store(url: str, postgres: Postgres, tmp_path: Path) -> None:
    """Requests that need the store get 503, also with a token that may be in the store."""
    async with RawUpstream() as upstream:
        with stopped(postgres), Restarts(tmp_path, upstream, url).child() as child:
            api = Api(child.admin_port)
            unknown = api.by("sidekey_" + "0" * 64)
            for client, method, path in (
                (api, "GET", "/integrations"),
                (api, "GET", "/audit"),
                (api, "DELETE", "/callers/of-a-file"),
                (api, "POST", "/integrations/of-a-file/test"),
                (unknown, "GET", "/kinds"),
            ):
                response = await asyncio.to_thread(client.request, method, path)
                assert (path, response.status, response.code) == (path, 503, "store_unavailable")
                assert response.headers["Retry-After"] == "5"
                assert "the store has not been read yet: store.url: " in response.json["detail"]
            for path in ("/kinds", "/providers", "/whoami", "/openapi.json"):
                assert (await asyncio.to_thread(api.request, "GET", path)).status == 200
            assert (await asyncio.to_thread(api.request, "GET", "/kinds", headers={"Authorization": ""})).status == 401
            assert (await asyncio.to_thread(get, child.admin_port, "/ui/")).status == 200
            session = await asyncio.to_thread(api.request, "GET", "/session")
            assert (session.status, session.json["store"]) == (200, "unavailable")
            assert await asyncio.to_thread(child.stop) == 0


async def test_silent_database_does_not_delay_the_start(tmp_path: Path) -> None:
    """A firewall that drops packets has the same effect."""
    async with RawUpstream() as upstream:
        with Blackhole("127.0.0.3") as hole:
            (tmp_path / "url").write_text(f"postgresql://canary-user:canary-password@127.0.0.3:{hole.port}/canary")
            with Restarts(tmp_path, upstream, "url: {file: url}").child() as child:
                assert (await reverse(child, "/i/of-a-file/x")).status == 200
                assert (await reverse(child, "/i/stored/x")).status == 503
                ready = (await probes(child.admin_port))["/readyz"]
                assert (ready.status, "the database does not respond" in ready.body) == (503, True)
                assert await asyncio.to_thread(child.stop) == 0
    assert "canary" not in "\n".join(child.lines) + ready.body


async def test_locked_store_file_is_retried(tmp_path: Path) -> None:
    """The response of /readyz does not show the path of the file."""
    async with RawUpstream() as upstream:
        restarts = Restarts(tmp_path, upstream, "path: store.db")
        with restarts.child() as child:
            token = await store_integration_and_caller(child, upstream.port)
            assert await asyncio.to_thread(child.stop) == 0
        with ExitStack() as stack:
            with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
                # Without the exclusive mode, other processes could read.
                other.execute("PRAGMA locking_mode = EXCLUSIVE")
                other.execute("BEGIN EXCLUSIVE")
                child = stack.enter_context(restarts.child())
                assert (await reverse(child, "/i/of-a-file/x")).status == 200
                assert (await reverse(child, "/i/stored/x", token)).status == 503
                await asyncio.to_thread(child.wait_for_line, lambda line: "is locked by another process" in line)
                ready = (await probes(child.admin_port))["/readyz"]
                assert ready.body == (
                    "the store has not been read yet: store.path: the file is locked by another process (SQLITE_BUSY)\n"
                )
            await until_ready(child)
            assert (await reverse(child, "/i/stored/x", token)).status == 200
            assert await asyncio.to_thread(child.stop) == 0


async def test_wrong_key_is_reported_when_the_database_is_up_and_can_be_replaced(
    url: str, postgres: Postgres, tmp_path: Path
) -> None:
    async with RawUpstream() as upstream:
        restarts = Restarts(tmp_path, upstream, url)
        with restarts.child() as child:
            await until_ready(child)
            token = await store_integration_and_caller(child, upstream.port)
            assert await asyncio.to_thread(child.stop) == 0
        right_key = (tmp_path / "key").read_text()
        with ExitStack() as stack:
            with stopped(postgres):
                child = restarts.child()
                (tmp_path / "key").write_text("A" * 43 + "=")
                stack.enter_context(child)
            wrong_key = "store.keys: key k1 is not the key that the store is written with"
            await asyncio.to_thread(child.wait_for_line, lambda line: wrong_key in line)
            assert (await probes(child.admin_port))["/readyz"].body == f"the store has not been read yet: {wrong_key}\n"
            assert (await reverse(child, "/i/of-a-file/x")).status == 200
            (tmp_path / "key").write_text(right_key)
            await until_ready(child)
            assert (await reverse(child, "/i/stored/x", token)).status == 200
            assert await asyncio.to_thread(child.stop) == 0


FOREIGN = "CREATE TABLE sidekey_rows (a BIGINT)"
START_TIMEOUT = 20.0
"""Maximum seconds until a failing start exits."""


def failed_start(child: SidekeyProcess) -> str:
    """Return the output of a process that did not start."""
    child.start()
    assert child.process.wait(timeout=START_TIMEOUT) == 1
    child.wait()
    return "\n".join(child.lines)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a database" * 100, "is not an SQLite database (SQLITE_NOTADB)"),
        (None, "is damaged: restore it from a backup (SQLITE_CORRUPT"),
        (FOREIGN, "refused a statement (SQLITE_ERROR)"),
    ],
    ids=["no database", "damaged", "foreign tables"],
)
async def test_file_that_is_not_a_store_is_an_error_of_the_start(
    content: bytes | str | None, reason: str, tmp_path: Path
) -> None:
    async with RawUpstream() as upstream:
        path, restarts = tmp_path / "store.db", Restarts(tmp_path, upstream, "path: store.db")
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            with closing(sqlite3.connect(path)) as foreign:
                foreign.execute(content)
        else:
            with restarts.child() as child:
                assert await asyncio.to_thread(child.stop) == 0
            with path.open("r+b") as file:
                file.seek(100)
                file.write(b"\xff" * 3996)
        output = await asyncio.to_thread(failed_start, restarts.child())
    assert f"store.path: {path} {reason}" in output


async def test_database_of_another_program_stays_unchanged(tmp_path: Path) -> None:
    """The operator may have configured its path by mistake."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE orders (a)")
    content = path.read_bytes()
    async with RawUpstream() as upstream:
        output = await asyncio.to_thread(failed_start, Restarts(tmp_path, upstream, "path: store.db").child())
    assert f"store.path: {path} is the database of another program: use a file for Sidekey alone" in output
    assert path.read_bytes() == content


async def test_unknown_schema_is_an_error_of_the_start(url: str, postgres: Postgres, tmp_path: Path) -> None:
    schema = (tmp_path / "url").read_text().rpartition("search_path=")[2]
    await postgres.sql(FOREIGN, schema)
    async with RawUpstream() as upstream:
        output = await asyncio.to_thread(failed_start, Restarts(tmp_path, upstream, url).child())
    assert "store.url: the database refused a statement (SQLSTATE 42P07)" in output
