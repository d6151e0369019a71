"""A running Sidekey and its store: create it, poll it, fail over, and fill the disk."""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import b64encode
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sidekey.store.state import Change, Delete, Put, State
from sidekey.store.store import POLL_INTERVAL
from support import programs
from support.api import Api, basic, config, managed
from support.http_get import get, wait_until
from support.nginx import Nginx
from support.postgres import Postgres, Standby
from support.scraping import samples
from support.sidekey_process import SidekeyProcess, run_cli, run_process
from support.stores import ENTRY, KEYS, PostgresBackend, integration

HEAD = 'version: 1\nlisten: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}\n'
KEY = "keys: [{id: k1, key: {env: STORE_KEY}}]"
ENVIRONMENT = {"STORE_KEY": b64encode(KEYS["k1"]).decode()}


def store_metrics(child: SidekeyProcess) -> dict[str, float]:
    """Return the metrics of the store."""
    values = samples(get(child.admin_port, "/metrics").body)
    return {
        name.removeprefix("sidekey_store_"): value
        for (name, labels), value in values.items()
        if name.startswith("sidekey_store_") and not labels
    }


def test_first_start_creates_the_store(tmp_path: Path) -> None:
    """The log reports the creation, because the operator may have expected an existing store."""
    for is_first in (True, False):
        with SidekeyProcess(
            f"store: {{path: store.db, {KEY}}}\n", tmp_path, head=HEAD, environment=ENVIRONMENT
        ) as child:
            values = store_metrics(child)
            assert (values["up"], values["revision"], values["rolled_back"]) == (1, 0, 0)
            assert child.stop() == 0
        assert any('"no store was found: an empty one was created"' in line for line in child.lines) is is_first


def test_start_fails_without_the_key(tmp_path: Path) -> None:
    with SidekeyProcess(f"store: {{path: store.db, {KEY}}}\n", tmp_path, head=HEAD, environment=ENVIRONMENT) as child:
        assert child.stop() == 0
    for key, reason in (
        (b64encode(b"x" * 32).decode(), "store.keys: key k1 is not the key that the store is written with"),
        (b64encode(b"x" * 31).decode(), "key k1: environment variable STORE_KEY must be 32 bytes in base64"),
        ("", "key k1: environment variable STORE_KEY must not be empty"),
    ):
        result = run_process("run", "--config", str(child.config), environment={"STORE_KEY": key})
        assert result.returncode == 1
        assert reason in result.stderr


def test_older_rows_are_served_after_a_failover_to_a_lagging_replica(tmp_path: Path) -> None:
    """The log and a metric report the lost changes."""
    with Nginx(tmp_path) as nginx, Postgres() as primary, Standby(primary) as standby:
        hosts = f"{primary.folder},{standby.folder}"
        (tmp_path / "url").write_text(f"postgresql://sidekey@/postgres?host={hosts}&target_session_attrs=read-write")
        with managed(tmp_path, "url: {file: url}") as child:
            api = Api(child.admin_port)
            api.create("/integrations", {"id": "crm", **basic(nginx.port)})
            token = api.create("/callers", {"name": "billing", "integrations": ["crm"]})["token"]

            def status() -> int:
                return get(child.proxy_port, "/i/crm/x", {"Sidekey-Token": token}).status

            wait_until(lambda: asyncio.run(standby.sql("SELECT count(*) FROM sidekey_rows")) == [(2,)])
            standby.stop()
            assert api.request("PATCH", "/integrations/crm", {"description": "newer"}, match='"1"').status == 200
            assert api.request("DELETE", "/callers/billing", match='"1"').status == 204
            api.create("/integrations", {"id": "sms", **basic(nginx.port)})
            assert status() == 401
            primary.stop()
            standby.start()
            standby.promote()
            child.wait_for_line(lambda line: "a row of the store is older" in line and '"sms"' in line)
            older = [json.loads(line) for line in child.lines if "a row of the store is older" in line]
            assert [(row["kind"], row["id"], row["seen"], row["found"]) for row in older] == [
                ("caller", "billing", 2, 1),
                ("integration", "crm", 2, 1),
                ("integration", "sms", 1, 0),
            ]
            wait_until(lambda: status() == 200)
            assert (store_metrics(child)["up"], store_metrics(child)["rolled_back"]) == (1, 1)
            assert get(child.admin_port, "/readyz").status == 200
            assert [item["id"] for item in api.get("/integrations")["items"]] == ["crm"]
            assert api.request("DELETE", "/callers/billing", match='"1"').status == 204
            assert status() == 401
            assert child.stop() == 0


def test_process_polls_changed_rows_at_varying_intervals(postgres: Postgres, tmp_path: Path) -> None:
    """The server logs the statements: only the first query reads all rows."""
    place = PostgresBackend(postgres, asyncio.run(postgres.schema()))

    async def commit(*changes: Change) -> State:
        async with place.open() as store:
            return await store.commit(changes, ENTRY)

    state = asyncio.run(commit(*(Put(integration(f"i{number}"), None) for number in range(20))))
    (tmp_path / "url").write_text(postgres.url(place.schema))
    log = postgres.folder / "log"
    start = log.stat().st_size
    asyncio.run(postgres.sql("ALTER ROLE sidekey SET log_statement = 'all'"))
    try:
        with managed(tmp_path, "url: {file: url}") as child:
            ((pid,),) = asyncio.run(postgres.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'sidekey'"))

            def statements(pattern: str) -> list[str]:
                """Return the time and the text of each statement of the process that contains this."""
                lines = log.read_bytes()[start:].decode().splitlines()
                return [line for line in lines if f" [{pid}] LOG:  " in line and re.search(pattern, line)]

            wait_until(lambda: len(statements("max\\(revision\\)")) > 8)
            times = [datetime.fromisoformat(line.partition(" UTC ")[0]) for line in statements("max\\(revision\\)")]
            pauses = [later - earlier for earlier, later in pairwise(times[1:])]
            assert min(pauses).total_seconds() < 0.95 * POLL_INTERVAL
            asyncio.run(commit(Put(integration("new"), None), Delete(state.integrations["i3"], 1)))
            wait_until(lambda: store_metrics(child)["revision"] == 2)
            assert len(statements("body FROM sidekey_rows WHERE revision > ")) == 1
            assert len(statements("body FROM sidekey_rows$")) == 1
            assert child.stop() == 0
    finally:
        asyncio.run(postgres.sql("ALTER ROLE sidekey RESET log_statement"))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_changes_are_used_by_another_process_within_two_seconds(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store_settings = "path: ../store.db"
    if kind == "postgres":
        postgres: Postgres = request.getfixturevalue("postgres")
        (tmp_path / "url").write_text(postgres.url(asyncio.run(postgres.schema())))
        store_settings = "url: {file: ../url}"
    with ExitStack() as stack:
        first, second = (
            Api(stack.enter_context(SidekeyProcess(config(folder, store_settings), folder)).admin_port)
            for folder in (tmp_path / "first", tmp_path / "second")
            if folder.mkdir() is None
        )

        def wait_for(version: int | None) -> None:
            began = time.monotonic()
            wait_until(lambda: second.request("GET", "/integrations/crm").json.get("version") == version)
            assert time.monotonic() - began < 2

        first.create("/integrations", {"id": "crm", **basic(1)})
        wait_for(1)
        assert first.request("PATCH", "/integrations/crm", {"description": "x"}, match='"1"').status == 200
        wait_for(2)
        assert first.request("DELETE", "/integrations/crm", match='"2"').status == 204
        wait_for(None)
        first.create("/integrations", {"id": "crm", **basic(1)})
        wait_for(4)


def large(text: str) -> dict[str, Any]:
    """Build a document of 20 KB."""
    return {"auth": {"type": "headers", "headers": {f"X-{number}": text * 2000 for number in range(10)}}}


def test_changes_are_refused_while_the_disk_is_full(tmp_path: Path) -> None:
    """Every acknowledged change survives a restart."""
    prlimit = programs.require("prlimit")
    acknowledged = []
    with SidekeyProcess(config(tmp_path), tmp_path, wrapper=(prlimit, "--fsize=400000")) as child:
        api = Api(child.admin_port)
        while True:
            name = f"i{len(acknowledged)}"
            response = api.request(
                "POST", "/integrations", {"id": name, "endpoint_prefix": "http://127.0.0.1:1", **large("x")}
            )
            if response.status != 201:
                break
            acknowledged.append(name)
        for method, body in (("PATCH", large("y")), ("DELETE", None)):
            again = api.request(method, "/integrations/i0", body, match='"1"')
            assert (again.status, again.code) == (response.status, response.code) == (503, "store_unavailable")
            assert again.json["detail"].startswith("store.path: the file cannot be ")
        assert sorted(item["id"] for item in api.get("/integrations")["items"]) == sorted(acknowledged)
        assert child.stop() == 0
    assert len(acknowledged) > 2
    with SidekeyProcess(config(tmp_path), tmp_path) as child:
        api = Api(child.admin_port)
        versions = {item["id"]: item["version"] for item in api.get("/integrations")["items"]}
        assert versions == dict.fromkeys(acknowledged, 1)
        entries = api.get("/audit")["items"]
        assert [entry["action"] for entry in entries] == ["create"] * len(acknowledged)
        api.create("/integrations", {"id": name, **basic(1)})
        assert run_cli("store", "verify", "--config", str(child.config)).returncode == 0
        assert child.stop() == 0
