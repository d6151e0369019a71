"""A Sidekey that starts while its store is away: files are served at once, and nothing else is decided yet."""

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
from support.child import Child
from support.http_get import Answer, get, within
from support.ports import free_port
from support.postgres import Postgres
from support.raw_connection import connect
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
"""A tunnel whose bytes pass stays open while the upstream does: the drain must not wait for it."""

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
class Sidecar:
    """How to start one Sidekey again and again, in front of the same upstream and beside the same store."""

    folder: Path
    upstream: RawUpstream
    place: str
    more: str = ""

    def __post_init__(self) -> None:
        self.metrics_port = free_port()

    def child(self) -> Child:
        """A process that has started, whatever its store does."""
        text = FILES.format(port=self.upstream.port, token=FILE_TOKEN)
        head = HEAD.format(metrics=self.metrics_port)
        return Child(config(self.folder, self.place, text) + self.more, self.folder, head=head, probe="/startupz")


@contextmanager
def stopped(postgres: Postgres) -> Iterator[None]:
    """While the database is down."""
    postgres.stop()
    try:
        yield
    finally:
        postgres.start()


@pytest.fixture
async def url(postgres: Postgres, tmp_path: Path) -> str:
    """Where the store is, as the config has it: an empty schema."""
    schema = await postgres.schema()
    (tmp_path / "url").write_text(postgres.url(schema))
    return "url: {file: url}"


async def fill(child: Child, port: int) -> str:
    """Store an integration, and a caller who may use it; the caller's token."""
    api = Api(child.admin_port)
    headers = {"X-Key": {"secret": {"value": "secret-of-stored"}}}
    document = {"id": "stored", "endpoint_prefix": f"http://stored.test:{port}/v1"}
    await asyncio.to_thread(api.make, "/integrations", {**document, "auth": {"type": "headers", "headers": headers}})
    made = await asyncio.to_thread(api.make, "/callers", {"name": "of-the-store", "integrations": ["stored"]})
    return str(made["token"])


async def ask(child: Child, *lines: str) -> Message:
    """The response to one request on a connection of its own."""
    async with connect(child.proxy_port) as raw:
        await raw.send("\r\n".join([*lines, "", ""]).encode())
        return await raw.response()


async def reverse(child: Child, path: str, token: str = FILE_TOKEN) -> Message:
    """Through the reverse proxy."""
    return await ask(child, f"GET {path} HTTP/1.1", "Host: localhost", f"Sidekey-Token: {token}")


async def send(child: Child, preset: str) -> Message:
    """By a preset."""
    fields = ("Host: localhost", f"Sidekey-Token: {FILE_TOKEN}", "Content-Type: text/plain", "Content-Length: 0")
    return await ask(child, f"POST /p/{preset} HTTP/1.1", *fields)


async def forward(child: Child, url: str, *fields: str) -> Message:
    """Through the forward proxy."""
    return await ask(child, f"GET {url} HTTP/1.1", "Host: ignored", f"Sidekey-Token: {FILE_TOKEN}", *fields)


async def inside(child: Child, authority: str, user: str, path: str) -> Message:
    """The response to a CONNECT, or where that succeeds, to a request inside the tunnel."""
    async with connect(child.proxy_port) as raw:
        await raw.send(connect_request(authority, user=user))
        if (await raw.response(to_head=True)).status != 200:
            # Its body as well.
            raw.taken = 0
            return await raw.response()
        await raw.send(f"GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        return await raw.response()


async def probes(port: int) -> dict[str, Answer]:
    """What the probes of a listener say."""
    return {path: await asyncio.to_thread(get, port, path) for path in ("/healthz", "/startupz", "/readyz")}


async def until_ready(child: Child) -> None:
    """Wait until callers may be sent there."""
    await asyncio.to_thread(within, lambda: get(child.admin_port, "/readyz").status == 200)


DOORS = (
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
"""Requests that no file covers."""


async def knock(child: Child, port: int, door: str) -> Message:
    """Send a request that no file covers through a door."""
    named = "X-Integration-Id: of-a-file"
    match door:
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
            raise ValueError(door)


async def served(child: Child, port: int) -> list[int]:
    """The statuses of what the file's integration is asked for, by each way in."""
    return [
        (await reverse(child, "/i/of-a-file/x")).status,
        (await forward(child, f"http://file.test:{port}/v1/x", "X-Integration-Id: of-a-file")).status,
        (await forward(child, f"http://file.test:{port}/v1/x")).status,
        (await inside(child, f"file.test:{port}", f"of-a-file:{FILE_TOKEN}", "/v1/x")).status,
    ]


async def test_a_sidecar_that_restarts_while_the_database_is_down(url: str, postgres: Postgres, tmp_path: Path) -> None:
    """Files are served, nothing else is, and nothing passes; once the database is up all is; then it may go again."""
    async with RawUpstream() as upstream:
        port, sidecar = upstream.port, Sidecar(tmp_path, upstream, url)
        with sidecar.child() as child:
            await until_ready(child)
            token = await fill(child, port)
            assert (await reverse(child, "/i/stored/x", token)).status == 200
            assert await asyncio.to_thread(child.stop) == 0
        with stopped(postgres), ExitStack() as stack:
            child = stack.enter_context(sidecar.child())
            await upstream.forget()
            for listener in (child.admin_port, sidecar.metrics_port):
                said = await probes(listener)
                assert {path: each.status for path, each in said.items()} == {
                    "/healthz": 200,
                    "/startupz": 200,
                    "/readyz": 503,
                }
                reason = "the store has not been read yet: store.url: the database cannot be reached (ENOENT)\n"
                assert said["/readyz"].body == reason
            assert await served(child, port) == [200, 200, 200, 200]
            assert [each.values(b"x-key") for each in upstream.requests] == [[b"secret-of-a-file"]] * 4
            await upstream.forget()
            for door in DOORS:
                answer = await knock(child, port, door)
                assert (door, answer.status, json.loads(answer.body)["code"]) == (door, 503, "store_unavailable")
                assert answer.values(b"retry-after") == [b"5"]
            assert (await reverse(child, "/i/stored/x", token)).status == 503
            assert upstream.requests == []
            child.rewrite(child.config.read_text() + LATE.format(port=port))
            await asyncio.to_thread(child.wait_for_line, lambda line: '"config reloaded"' in line)
            assert (await reverse(child, "/i/late/x")).status == 200
            assert (await probes(child.admin_port))["/readyz"].status == 503
            assert "\nsidekey_store_up 0.0\n" in (await asyncio.to_thread(get, child.admin_port, "/metrics")).body
            left = stack.pop_all()
        with left:
            await until_ready(child)
            assert (await reverse(child, "/i/stored/x", token)).status == 200
            await upstream.forget()
            statuses = {door: (await knock(child, port, door)).status for door in DOORS}
            assert statuses == {
                **dict.fromkeys(DOORS, 200),
                "a caller's token": 401,
                "a preset": 403,
                "a path that no integration of the caller covers": 403,
                "a request in a tunnel": 403,
            }
            bare = [each for each in upstream.requests if b"bare.test" in b"".join(each.values(b"host"))]
            assert [each.values(b"x-key") for each in bare] == [[]] * 3
            with stopped(postgres):
                await asyncio.to_thread(child.wait_for_line, lambda line: "what is loaded stays in use" in line)
                assert {path: each.status for path, each in (await probes(child.admin_port)).items()} == {
                    "/healthz": 200,
                    "/startupz": 200,
                    "/readyz": 200,
                }
                assert (await reverse(child, "/i/stored/x", token)).status == 200
                assert {door: (await knock(child, port, door)).status for door in DOORS} == statuses
            assert await asyncio.to_thread(child.stop) == 0
    written = "\n".join(child.lines)
    assert written.count("the store cannot be used: only what is in files is served") == 1
    assert str(postgres.folder) not in written
    assert "secret-of-" not in written


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


async def test_what_no_stored_row_could_change_is_refused_for_good(tmp_path: Path) -> None:
    """A caller need not send such a request again; which IDs files have is not told by it."""
    (tmp_path / "url").write_text(f"postgresql://sidekey@127.0.0.1:{free_port()}/sidekey")
    async with RawUpstream() as upstream:
        with Sidecar(tmp_path, upstream, "url: {file: url}").child() as child:
            host, token = "Host: localhost", f"Sidekey-Token: {FILE_TOKEN}"
            for case, (code, target, fields) in FINAL.items():
                line = f"GET {target.format(port=upstream.port)} HTTP/1.1"
                answer = await ask(child, line, host, token, *fields)
                assert (case, json.loads(answer.body)["code"]) == (case, code)
                assert answer.values(b"retry-after") == []
            assert (await ask(child, "GET /i/stored/x HTTP/1.1", host)).status == 401
            assert (await probes(child.admin_port))["/readyz"].body.endswith("cannot be reached (ECONNREFUSED)\n")
            assert await asyncio.to_thread(child.stop) == 0
        assert upstream.requests == []


async def test_api_and_console_wait_for_the_store(url: str, postgres: Postgres, tmp_path: Path) -> None:
    """503 for what needs it, also to a token that the store may have; what needs none of it is there."""
    async with RawUpstream() as upstream:
        with stopped(postgres), Sidecar(tmp_path, upstream, url).child() as child:
            api = Api(child.admin_port)
            unknown = api.by("sidekey_" + "0" * 64)
            for asked, method, path in (
                (api, "GET", "/integrations"),
                (api, "GET", "/audit"),
                (api, "DELETE", "/callers/of-a-file"),
                (api, "POST", "/integrations/of-a-file/test"),
                (unknown, "GET", "/kinds"),
            ):
                said = await asyncio.to_thread(asked.ask, method, path)
                assert (path, said.status, said.code) == (path, 503, "store_unavailable")
                assert said.headers["Retry-After"] == "5"
                assert "the store has not been read yet: store.url: " in said.json["detail"]
            for path in ("/kinds", "/providers", "/whoami", "/openapi.json"):
                assert (await asyncio.to_thread(api.ask, "GET", path)).status == 200
            assert (await asyncio.to_thread(api.ask, "GET", "/kinds", headers={"Authorization": ""})).status == 401
            assert (await asyncio.to_thread(get, child.admin_port, "/ui/")).status == 200
            session = await asyncio.to_thread(api.ask, "GET", "/session")
            assert (session.status, session.json["store"]) == (200, "unavailable")
            assert await asyncio.to_thread(child.stop) == 0


async def test_a_database_that_never_answers_does_not_hold_up_the_start(tmp_path: Path) -> None:
    """As behind a firewall that drops packets: connecting neither succeeds nor fails."""
    async with RawUpstream() as upstream:
        with Blackhole("127.0.0.3") as hole:
            (tmp_path / "url").write_text(f"postgresql://canary-user:canary-password@127.0.0.3:{hole.port}/canary")
            with Sidecar(tmp_path, upstream, "url: {file: url}").child() as child:
                assert (await reverse(child, "/i/of-a-file/x")).status == 200
                assert (await reverse(child, "/i/stored/x")).status == 503
                ready = (await probes(child.admin_port))["/readyz"]
                assert (ready.status, "the database does not respond" in ready.body) == (503, True)
                assert await asyncio.to_thread(child.stop) == 0
    assert "canary" not in "\n".join(child.lines) + ready.body


async def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    """Its path is not shown to whoever may ask for the readiness; the log has it."""
    async with RawUpstream() as upstream:
        sidecar = Sidecar(tmp_path, upstream, "path: store.db")
        with sidecar.child() as child:
            token = await fill(child, upstream.port)
            assert await asyncio.to_thread(child.stop) == 0
        with ExitStack() as stack:
            with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
                # A writer alone would not keep anybody from reading.
                other.execute("PRAGMA locking_mode = EXCLUSIVE")
                other.execute("BEGIN EXCLUSIVE")
                child = stack.enter_context(sidecar.child())
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


async def test_a_key_that_is_wrong_once_the_database_is_there_is_said_and_can_be_replaced(
    url: str, postgres: Postgres, tmp_path: Path
) -> None:
    """The process goes on with files: it has begun to serve them."""
    async with RawUpstream() as upstream:
        sidecar = Sidecar(tmp_path, upstream, url)
        with sidecar.child() as child:
            await until_ready(child)
            token = await fill(child, upstream.port)
            assert await asyncio.to_thread(child.stop) == 0
        right = (tmp_path / "key").read_text()
        with ExitStack() as stack:
            with stopped(postgres):
                child = sidecar.child()
                (tmp_path / "key").write_text("A" * 43 + "=")
                stack.enter_context(child)
            wrong = "store.keys: key k1 is not the key that the store is written with"
            await asyncio.to_thread(child.wait_for_line, lambda line: wrong in line)
            assert (await probes(child.admin_port))["/readyz"].body == f"the store has not been read yet: {wrong}\n"
            assert (await reverse(child, "/i/of-a-file/x")).status == 200
            (tmp_path / "key").write_text(right)
            await until_ready(child)
            assert (await reverse(child, "/i/stored/x", token)).status == 200
            assert await asyncio.to_thread(child.stop) == 0


FOREIGN = "CREATE TABLE sidekey_rows (a BIGINT)"
GIVEN_UP = 20.0
"""Seconds after which a start is not one that ends at once."""


def failed(child: Child) -> str:
    """What a process wrote that did not start."""
    child.start()
    assert child.process.wait(timeout=GIVEN_UP) == 1
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
async def test_a_file_that_is_no_store_ends_the_start_at_once(
    content: bytes | str | None, reason: str, tmp_path: Path
) -> None:
    async with RawUpstream() as upstream:
        path, sidecar = tmp_path / "store.db", Sidecar(tmp_path, upstream, "path: store.db")
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            with closing(sqlite3.connect(path)) as foreign:
                foreign.execute(content)
        else:
            with sidecar.child() as child:
                assert await asyncio.to_thread(child.stop) == 0
            with path.open("r+b") as file:
                file.seek(100)
                file.write(b"\xff" * 3996)
        written = await asyncio.to_thread(failed, sidecar.child())
    assert f"store.path: {path} {reason}" in written


async def test_another_programs_database_is_left_as_it_is(tmp_path: Path) -> None:
    """The path may name it by mistake."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE orders (a)")
    before = path.read_bytes()
    async with RawUpstream() as upstream:
        written = await asyncio.to_thread(failed, Sidecar(tmp_path, upstream, "path: store.db").child())
    assert f"store.path: {path} is the database of another program: name a file of Sidekey's own" in written
    assert path.read_bytes() == before


async def test_a_foreign_schema_ends_the_start_at_once(url: str, postgres: Postgres, tmp_path: Path) -> None:
    schema = (tmp_path / "url").read_text().rpartition("search_path=")[2]
    await postgres.sql(FOREIGN, schema)
    async with RawUpstream() as upstream:
        written = await asyncio.to_thread(failed, Sidecar(tmp_path, upstream, url).child())
    assert "store.url: the database refused a statement (SQLSTATE 42P07)" in written
