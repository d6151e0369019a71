"""Sends while processes, stores and networks fail: each is sent at most once, and its result is right or `unknown`."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from support.api import ApiResponse
from support.http_get import wait_until
from support.postgres import Postgres
from support.raw_connection import DEADLINE
from support.relay import Relay
from support.sends import HEAD, SendApi, SendSetup, SendUpstream, new_key, sending, sql


@pytest.fixture
def upstream() -> Iterator[SendUpstream]:
    with SendUpstream().running() as running:
        yield running


@contextmanager
def in_flight(running: SendSetup, key: str) -> Iterator[SendApi]:
    """Run the block while a send of this key is in flight."""
    mark = running.by("mark")
    with ThreadPoolExecutor(1) as thread:
        response = thread.submit(mark.send, "welcome", key, phone="hold")
        wait_until(lambda: "hold" in running.upstream.words)
        yield mark
        running.upstream.release.set()
        assert response.result().json["outcome"] == "accepted"


def audit_of(api: SendApi) -> list[tuple[str, str]]:
    """Return actions and outcomes of the audit, newest first."""
    return [(item["action"], item["outcome"]) for item in api.get("/audit")["items"]]


def test_process_that_dies_leaves_an_unknown_send(upstream: SendUpstream, tmp_path: Path) -> None:
    """The outcome is `unknown` after 90 seconds, and no process sends the request again."""
    key = new_key()
    with sending(tmp_path, upstream) as running, closing(running.by("mark").begin("welcome", key, phone="hold")):
        wait_until(lambda: upstream.words == ["hold"])
        running.child.process.kill()
        running.child.wait()
    with sending(tmp_path, upstream) as running:
        mark = running.by("mark")
        assert mark.get(f"/sends/{key}")["outcome"] == "sending"
        assert mark.send("welcome", key, phone="hold").code == "sending"
        sql(tmp_path, "UPDATE sidekey_sends SET at = at - 90100")
        assert mark.get(f"/sends/{key}")["outcome"] == "unknown"
        assert mark.send("welcome", key, phone="hold").json["outcome"] == "unknown"
        assert audit_of(running.by("admin")) == [("send", "sent")]
    assert upstream.words == ["hold"]


def test_unreachable_store_gets_the_result_later(upstream: SendUpstream, tmp_path: Path) -> None:
    """The sender gets the result at once. Sidekey sends nothing else meanwhile."""
    store, key = tmp_path / "store.db", new_key()
    with sending(tmp_path, upstream) as running:
        with in_flight(running, key) as mark:
            store.rename(tmp_path / "elsewhere.db")
            response = mark.send("welcome", phone="200")
            assert (response.code, "Retry-After" in response.headers) == ("store_unavailable", True)
        (tmp_path / "elsewhere.db").rename(store)
        wait_until(lambda: mark.get(f"/sends/{key}")["outcome"] == "accepted")
        assert audit_of(running.by("admin")) == [("send", "ok")]
    assert upstream.words == ["hold"]


def test_results_that_cannot_be_recorded_are_logged_at_the_exit(upstream: SendUpstream, tmp_path: Path) -> None:
    with sending(tmp_path, upstream) as running:
        with in_flight(running, new_key()):
            (tmp_path / "store.db").rename(tmp_path / "elsewhere.db")
        assert running.child.stop() == 0
        assert any(
            '"results of sends could not be stored' in line and '"sends":1' in line for line in running.child.lines
        )


@pytest.mark.parametrize("released", [True, False])
def test_drain_waits_for_sends_or_records_that_they_were_cut(
    upstream: SendUpstream, tmp_path: Path, *, released: bool
) -> None:
    key = new_key()
    with sending(tmp_path, upstream) as running, ThreadPoolExecutor(2) as threads:
        mark = running.by("mark")
        response = threads.submit(mark.send, "welcome", key, phone="hold")
        wait_until(lambda: upstream.words == ["hold"])
        exit_status = threads.submit(running.child.stop)
        running.child.wait_for_line(lambda line: "draining" in line)
        wait_until(lambda: mark.send("welcome", phone="200").code == "stopping")
        # Known sends can still be read.
        assert mark.send("welcome", key, phone="hold").code == "sending"
        if released:
            upstream.release.set()
        outcome = "accepted" if released else "unknown"
        assert response.result().json["outcome"] == outcome
        assert exit_status.result() == 0
    assert sql(tmp_path, "SELECT outcome FROM sidekey_sends") == [(outcome,)]
    ((entry,),) = sql(tmp_path, "SELECT entry FROM sidekey_audit")
    assert str(entry).startswith(f'["send","{"ok" if released else "unknown"}"')
    assert upstream.words == ["hold"]


def test_sends_are_accepted_until_the_end_of_the_drain_delay(upstream: SendUpstream, tmp_path: Path) -> None:
    """Load balancers still route to this process."""
    head = HEAD.replace("{{drain:", "{{drain_delay: 120s, drain:")
    with sending(tmp_path, upstream, head=head) as running:
        running.child.process.send_signal(signal.SIGTERM)
        running.child.wait_for_line(lambda line: "draining" in line)
        assert running.by("mark").send("welcome", phone="200").json["outcome"] == "accepted"
        assert running.child.stop() == 128 + signal.SIGTERM
    assert upstream.words == ["200"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the store like another process that writes, so that no row can be reserved."""
    with closing(sqlite3.connect(folder / "store.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_send_without_a_file_descriptor_is_recorded_as_not_sent(upstream: SendUpstream, tmp_path: Path) -> None:
    key = new_key()
    with (
        sending(tmp_path, upstream) as running,
        closing(HTTPConnection("127.0.0.1", running.child.admin_port, timeout=DEADLINE)) as connection,
    ):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        pid = running.child.process.pid
        used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
        limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min({*range(max(used) + 2)} - used), limit[1]))
        running.by("mark").send_on(connection, "welcome", key, phone="200")
        result = json.loads(connection.getresponse().read())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        assert (result["outcome"], result["code"]) == ("not_sent", "overloaded")
        assert running.by("mark").get(f"/sends/{key}")["outcome"] == "not_sent"
    assert upstream.words == []


def test_request_is_sent_only_if_the_store_can_record_it(upstream: SendUpstream, tmp_path: Path) -> None:
    with sending(tmp_path, upstream) as running:
        mark, key = running.by("mark"), new_key()
        with locked(tmp_path):
            assert mark.send("welcome", key, phone="200").code == "store_unavailable"
        assert mark.request("GET", f"/sends/{key}").code == "not_found"
        assert upstream.words == []
        # The same key may be sent again.
        assert mark.send("welcome", key, phone="200").json["outcome"] == "accepted"
    assert upstream.words == ["200"]


def test_refused_sends_do_not_displace_results(upstream: SendUpstream, tmp_path: Path) -> None:
    """The store is read-only meanwhile."""
    key = new_key()
    with sending(tmp_path, upstream) as running:
        with in_flight(running, key), ThreadPoolExecutor(4) as threads:
            for event in ("INSERT", "UPDATE"):
                trigger = f"CREATE TRIGGER full_{event} BEFORE {event} ON sidekey_sends"
                sql(tmp_path, f"{trigger} BEGIN SELECT RAISE(ABORT, 'full'); END")
            anna = running.by("anna")
            codes = Counter(
                response.code for response in threads.map(lambda _: anna.send("welcome", phone="200"), range(1000))
            )
            assert codes == {"store_unavailable": 1000}
        for event in ("INSERT", "UPDATE"):
            sql(tmp_path, f"DROP TRIGGER full_{event}")
        wait_until(lambda: running.by("mark").get(f"/sends/{key}")["outcome"] == "accepted")
    assert upstream.words == ["hold"]


@contextmanager
def relayed(postgres: Postgres, folder: Path) -> Iterator[tuple[Relay, str, str]]:
    """Run a relay, and return it with the settings of a store through the relay and of the same store without it."""
    schema = asyncio.run(postgres.schema())
    # The path of a unix socket has at most about 100 characters.
    with tempfile.TemporaryDirectory(prefix="sidekey-relay-") as short:
        relay = Relay(Path(short), postgres.folder)
        for name, host in (("relayed", short), ("direct", str(postgres.folder))):
            url = f"postgresql://sidekey@/postgres?host={host}&search_path={schema}"
            (folder / f"{name}-url").write_text(url)
        with relay.running():
            yield relay, f"url: {{file: {folder}/relayed-url}}", f"url: {{file: {folder}/direct-url}}"


def test_uncertain_reservation_sends_nothing(postgres: Postgres, upstream: SendUpstream, tmp_path: Path) -> None:
    """The commit was applied, so the row exists. It soon has the outcome `not_sent`."""
    with relayed(postgres, tmp_path) as (relay, place, _), sending(tmp_path, upstream, place) as running:
        mark, key = running.by("mark"), new_key()
        relay.lose(b"INSERT INTO sidekey_sends", applied=True)
        assert mark.send("welcome", key, phone="200").code == "store_unavailable"
        assert relay.lost == 1
        wait_until(lambda: mark.get(f"/sends/{key}")["outcome"] == "not_sent")
        document = mark.send("welcome", key, phone="200").json
        assert (document["outcome"], document["code"]) == ("not_sent", "store_unavailable")
        assert upstream.words == []


def test_result_of_a_lost_reservation_does_not_change_the_send_of_another_process(
    postgres: Postgres, upstream: SendUpstream, tmp_path: Path
) -> None:
    """The commit was not applied, and meanwhile another process sends with the same key."""
    with relayed(postgres, tmp_path) as (relay, place, direct), ExitStack() as stack:
        one = stack.enter_context(sending(tmp_path / "one", upstream, place))
        other = stack.enter_context(sending(tmp_path / "other", upstream, direct))
        key = new_key()
        relay.lose(b"INSERT INTO sidekey_sends", applied=False)
        assert one.by("mark").send("welcome", key, phone="hold").code == "store_unavailable"
        assert relay.lost == 1
        with in_flight(other, key) as mark:
            # The first process tries to record that it sent nothing, but the row belongs to the other process.
            relay.note(b"UPDATE sidekey_sends")
            wait_until(lambda: relay.noted)
            assert mark.get(f"/sends/{key}")["outcome"] == "sending"
        for running in (one, other):
            assert running.by("mark").get(f"/sends/{key}")["outcome"] == "accepted"
        assert audit_of(one.by("admin")) == [("send", "ok")]
    assert upstream.words == ["hold"]


def test_result_that_was_perhaps_recorded_is_recorded_once(
    postgres: Postgres, upstream: SendUpstream, tmp_path: Path
) -> None:
    with relayed(postgres, tmp_path) as (relay, place, _), sending(tmp_path, upstream, place) as running:
        mark, key = running.by("mark"), new_key()
        relay.lose(b"UPDATE sidekey_sends", applied=True)
        assert mark.send("welcome", key, phone="200").json["outcome"] == "accepted"
        assert relay.lost == 1
        relay.note(b"UPDATE sidekey_sends")
        wait_until(lambda: relay.noted)
        assert mark.get(f"/sends/{key}")["outcome"] == "accepted"
        assert audit_of(running.by("admin")) == [("send", "ok")]
    assert upstream.words == ["200"]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_limits_and_keys_apply_across_processes(
    request: pytest.FixtureRequest, upstream: SendUpstream, tmp_path: Path, database: str
) -> None:
    """Two processes send the same 40 keys once each. With a limit of 60, 20 of 200 further keys are sent."""
    place = f"path: {tmp_path}/store.db"
    if database == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        (tmp_path / "url").write_text(server.url(asyncio.run(server.schema())))
        place = f"url: {{file: {tmp_path}/url}}"
    limits = "per_minute: 60, per_day: 1000"
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(sending(tmp_path / name, upstream, place, limits)) for name in ("one", "other")
        )
        threads = stack.enter_context(ThreadPoolExecutor(8))

        def send(job: tuple[SendSetup, str]) -> ApiResponse:
            running, key = job
            return running.by("mark").send("welcome", key, phone="200")

        same = [(running, f"{number:032}") for number in range(40) for running in (one, other)]
        outcomes = Counter("ok" if response.status == 200 else response.code for response in threads.map(send, same))
        assert upstream.words == ["200"] * 40
        assert outcomes["ok"] >= 40 and outcomes["ok"] + outcomes["sending"] == 80
        different = [((one, other)[number % 2], new_key()) for number in range(200)]
        responses = [*threads.map(send, different)]
        assert Counter("ok" if response.status == 200 else response.code for response in responses) == {
            "ok": 20,
            "send_limit": 180,
        }
        assert upstream.words == ["200"] * 60
        refused = next(response for response in responses if response.status != 200)
        assert refused.pointers == {"/per_minute"}
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        # A repeated key returns its result even beyond the limit.
        assert send(same[0]).json["outcome"] == "accepted"
