"""Processes that share a store agree on usage, failures and status, also after restarts."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sidekey.snapshot.status import FAILING_AFTER
from support.api import Api, config
from support.http_get import get, post, wait_until
from support.nginx import Nginx
from support.postgres import Postgres
from support.scraping import series
from support.sidekey_process import SidekeyProcess

SNIPPET = """
        location /crm/good { return 200; }
        location /crm/hook { return 500; }
        location /crm/missing { return 404; }
        location / { return 401; }
"""
METRIC = "sidekey_integration_failing_since_timestamp_seconds"
CALLER = {"Sidekey-Token": "of-a-caller"}
CONFIG = """\
callers: {{billing: {{token: {{insecure_value: of-a-caller}}, integrations: "*", presets: "*"}}}}
integrations:
  crm:
    endpoint_prefix: 'http://127.0.0.1:{port}/crm'
    auth: {{type: basic, username: svc, password: {{insecure_value: wrong}}}}
presets:
  hook:
    integration: crm
    url: 'http://127.0.0.1:{port}/crm/hook/{{{{phone}}}}'
    parameters: {{phone: {{type: text}}}}
    body: {{json: {{phone: "{{{{phone}}}}"}}}}
"""

QUICK = """\
import sidekey.observe.history
sidekey.observe.history._USAGE_INTERVAL = 0.2
sidekey.observe.history._FAILURES_INTERVAL = 0.1
from sidekey.cli import main
main(prog_name="sidekey")
"""
"""Code for a `SidekeyProcess` that synchronizes with the store several times a second."""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "nginx").mkdir()
    with Nginx(tmp_path / "nginx", SNIPPET) as nginx:
        yield nginx.port


@contextmanager
def process(
    folder: Path, port: int, name: str = "a", code: str | None = None, store: str = ""
) -> Iterator[SidekeyProcess]:
    """Run a process with the store of this folder, and stop it."""
    (folder / name).mkdir(exist_ok=True)
    text = config(folder / name, store or f"path: {folder}/store.db", CONFIG.format(port=port))
    with SidekeyProcess(text, folder / name, code=code) as child:
        yield child
        assert child.stop() == 0
        assert not any('"level":"error"' in line for line in child.lines), child.lines


def send(child: SidekeyProcess, path: str, times: int = 1) -> None:
    status = {"good": 200, "missing": 404}.get(path, 401)
    for _ in range(times):
        assert get(child.proxy_port, f"/i/crm/{path}", CALLER).status == status


def send_preset(child: SidekeyProcess) -> None:
    headers = {**CALLER, "Content-Type": "application/json"}
    assert post(child.proxy_port, "/p/hook", headers, b'{"phone": "a-canary"}').status == 500


def read(child: SidekeyProcess, path: str) -> Any:
    return Api(child.admin_port).get(path)


def status(child: SidekeyProcess) -> str:
    value: str = read(child, "/integrations/crm")["status"]
    return value


def test_failing_is_known_to_all_processes_until_a_request_succeeds(tmp_path: Path, port: int) -> None:
    with process(tmp_path, port) as first:
        send(first, "bad", FAILING_AFTER)
        assert status(first) == "failing"
    with process(tmp_path, port, "b") as second:
        wait_until(lambda: status(second) == "failing")
        since = read(second, "/integrations/crm")["failing_since"]
        begin = datetime.fromisoformat(since).timestamp()
        assert series(get(second.admin_port, "/metrics").body, METRIC) == [({"integration": "crm"}, begin)]
    with process(tmp_path, port) as first, process(tmp_path, port, "b") as second:
        wait_until(lambda: status(first) == status(second) == "failing")
        assert read(first, "/integrations/crm")["failing_since"] == since
        # Neither a failure nor a mistake of a caller ends the status.
        send(first, "bad")
        assert get(first.proxy_port, "/i/crm/%zz", CALLER).status == 400
        assert status(first) == "failing"
        send(first, "good")
        assert status(first) == "ok"
    with process(tmp_path, port, "b") as second:
        wait_until(lambda: read(second, "/integrations/crm/usage")["outcomes"]["2xx"] == 1)
        assert status(second) == "ok"


def test_running_process_reads_the_status_of_other_processes(postgres: Postgres, tmp_path: Path, port: int) -> None:
    store = f"url: {{file: {tmp_path}/url}}"
    (tmp_path / "url").write_text(postgres.url(asyncio.run(postgres.schema())))
    with process(tmp_path, port, "a", QUICK, store) as first, process(tmp_path, port, "b", QUICK, store) as second:
        send(first, "bad", FAILING_AFTER)
        wait_until(lambda: status(second) == "failing")
        send(second, "bad", FAILING_AFTER)
        # Timestamps of states have a resolution of one second.
        time.sleep(1)
        send(first, "good")
        wait_until(lambda: status(first) == status(second) == "ok")
        for child in (first, second):
            send(child, "missing", 3)
        for child in (first, second):
            wait_until(lambda child=child: read(child, "/integrations/crm/usage")["outcomes"]["4xx"] == 6)
            assert {item["status"] for item in read(child, "/integrations/crm/failures")["items"]} & {401, 404}


def test_counts_are_written_when_the_store_is_reachable_again(tmp_path: Path, port: int) -> None:
    database = tmp_path / "store.db"
    with process(tmp_path, port, "a", QUICK) as first, process(tmp_path, port, "b", QUICK) as second:
        send(first, "good")
        wait_until(lambda: read(second, "/integrations/crm/usage")["outcomes"] == {"2xx": 1})
        moved_database = tmp_path / "away"
        database.rename(moved_database)
        send(first, "good", 2)
        send(first, "missing")
        assert Api(first.admin_port).request("GET", "/integrations/crm/usage").code == "store_unavailable"
        moved_database.rename(database)
        wait_until(lambda: read(second, "/integrations/crm/usage")["outcomes"] == {"2xx": 3, "4xx": 1})
        wait_until(lambda: [item["status"] for item in read(second, "/integrations/crm/failures")["items"]] == [404])
        assert read(first, "/integrations/crm/usage")["outcomes"] == {"2xx": 3, "4xx": 1}


def test_process_with_one_failure_does_not_clear_the_status(tmp_path: Path, port: int) -> None:
    with process(tmp_path, port) as first:
        send(first, "bad", FAILING_AFTER)
    with process(tmp_path, port, "b") as second:
        wait_until(lambda: status(second) == "failing")
        send(second, "bad")
    with process(tmp_path, port) as first:
        wait_until(lambda: status(first) == "failing")
        # Failures of an integration that was changed do not count.
        first.rewrite(first.config.read_text().replace("insecure_value: wrong", "insecure_value: right"))
        wait_until(lambda: status(first) == "ok")


def test_integration_that_changed_while_the_process_was_down_is_ok(tmp_path: Path, port: int) -> None:
    auth = {"type": "basic", "username": {"value": "svc"}, "password": {"value": "wrong"}}
    with process(tmp_path, port) as first:
        document = {"id": "own", "endpoint_prefix": f"http://127.0.0.1:{port}/own", "auth": auth}
        Api(first.admin_port).create("/integrations", document)
        for _ in range(FAILING_AFTER):
            assert get(first.proxy_port, "/i/own/x", CALLER).status == 401
        # Timestamps of states have a resolution of one second.
        time.sleep(1)
    with process(tmp_path, port, "b") as second:
        api = Api(second.admin_port)
        wait_until(lambda: api.get("/integrations/own")["status"] == "failing")
        patch = {"auth": {"password": {"value": "right"}}}
        assert api.request("PATCH", "/integrations/own", patch, match='"1"').status == 200
        assert api.get("/integrations/own")["status"] == "ok"
    with process(tmp_path, port) as first:
        wait_until(lambda: read(first, "/integrations/own/usage")["outcomes"] == {"401/403": FAILING_AFTER})
        assert read(first, "/integrations/own")["status"] == "ok"


def test_counts_of_all_processes_add_up(tmp_path: Path, port: int) -> None:
    with process(tmp_path, port) as first:
        send(first, "good", 5)
        send(first, "missing", 2)
        # The counts include requests that are not written yet.
        assert read(first, "/integrations/crm/usage")["outcomes"] == {"2xx": 5, "4xx": 2}
    with process(tmp_path, port, "b") as second:
        send(second, "good", 1)
        send(second, "bad", 2)
        send_preset(second)
        wait_until(lambda: read(second, "/integrations/crm/usage")["outcomes"].get("2xx") == 6)
        usage = read(second, "/integrations/crm/usage")
        assert usage["outcomes"] == {"2xx": 6, "401/403": 2, "4xx": 2, "5xx": 1}
        assert (usage["period"], usage["step"], len(usage["points"])) == ("24h", 3600, 24)
        # The hour may have changed meanwhile.
        assert [sum(point[key] for point in usage["points"][-2:]) for key in ("requests", "failed")] == [11, 5]
        assert [bucket["to_ms"] for bucket in usage["latency"]] == [50, 100, 250, 1000, 5000, None]
        assert sum(bucket["count"] for bucket in usage["latency"]) == 11
        assert abs(datetime.fromisoformat(usage["last_used_at"]).timestamp() - time.time()) < 120
        for period, points in (("7d", 28), ("30d", 30)):
            longer = read(second, f"/integrations/crm/usage?period={period}")
            assert (len(longer["points"]), longer["outcomes"]) == (points, usage["outcomes"])
    with process(tmp_path, port) as first:
        wait_until(lambda: read(first, "/presets/hook/usage")["outcomes"] == {"5xx": 1})
        assert read(first, "/presets/hook/usage")["latency"] == []


def test_failures_of_two_processes_add_one_row_a_second(tmp_path: Path, port: int) -> None:
    with process(tmp_path, port) as first, process(tmp_path, port, "b") as second:
        begin = int(time.time())
        senders = [
            threading.Thread(target=lambda child=child: [send(child, "bad", 5) or time.sleep(0.1) for _ in range(15)])
            for child in (first, second)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        end = int(time.time())
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        times = [at for (at,) in connection.execute("SELECT at FROM sidekey_failures ORDER BY at")]
    assert times == list(range(times[0], times[-1] + 1))
    assert begin <= times[0] <= times[-1] <= end


def test_failure_has_caller_and_target_but_no_value(tmp_path: Path, port: int) -> None:
    with process(tmp_path, port) as first:
        send_preset(first)
        # Sidekey keeps one failure a second.
        wait_until(lambda: send(first, "bad?q=a-canary") or len(read(first, "/integrations/crm/failures")["items"]) > 1)
        latest = read(first, "/integrations/crm/failures")
    with process(tmp_path, port, "b") as second:
        failures = read(second, "/integrations/crm/failures")
        assert failures == latest
        assert failures["next"] is None
        bad, preset = failures["items"][0], failures["items"][-1]
        assert (bad["who"], bad["preset"], bad["target"], bad["method"]) == ("billing", "", "127.0.0.1", "GET")
        assert (bad["status"], bad["code"]) == (401, "")
        assert bad["request_id"]
        assert bad["at"] > preset["at"]
        template = f"http://127.0.0.1:{port}/crm/hook/{{{{phone}}}}"
        assert (preset["preset"], preset["target"], preset["status"]) == ("hook", template, 500)
        assert "a-canary" not in str(failures)
        assert Api(second.admin_port).request("GET", "/integrations/none/failures").code == "not_found"
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert "a-canary" not in str(connection.execute("SELECT * FROM sidekey_failures").fetchall())


def test_old_usage_and_failures_are_deleted(tmp_path: Path, port: int) -> None:
    """The API returns all remaining failures in pages."""
    with process(tmp_path, port):
        pass
    now = int(time.time())
    day, hour = 86_400, now // 3600
    # 1,100 failures of one integration, and a failure that is older than the retention.
    failures = [*(("crm", now - number) for number in range(1100)), ("other", now - 8 * day), ("other", now - day)]
    hours = [*range(hour - 36 * 24, hour - 34 * 24)]
    database = tmp_path / "store.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        rows = [(*key, "", "", "", "GET", 401, "", "", 1, "") for key in failures]
        connection.executemany("INSERT INTO sidekey_failures VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows)
        used = [("integration", f"i{name}", at, *([1] * 20)) for at in hours for name in range(250)]
        connection.executemany(f"INSERT INTO sidekey_usage VALUES ({','.join('?' * 23)})", used)

    def count(statement: str) -> int:
        with closing(sqlite3.connect(database)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {statement}").fetchone()[0])

    with process(tmp_path, port) as child:
        wait_until(lambda: count("sidekey_failures") == 1001)
        assert count(f"sidekey_failures WHERE integration = 'crm' AND at > {now - 1000}") == 1000
        assert count("sidekey_failures WHERE integration = 'other'") == 1
        # The list has one hour less if a new hour begins meanwhile.
        wait_until(lambda: count("sidekey_usage") in (250 * 24, 250 * 23))
        path = "/integrations/crm/failures"
        pages = [read(child, path)]
        while pages[-1]["next"]:
            pages.append(read(child, f"{path}?before={pages[-1]['next']}"))
        assert [len(page["items"]) for page in pages] == [50] * 20
        assert len({item["at"] for page in pages for item in page["items"]}) == 1000
