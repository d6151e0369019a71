"""The store of a running process: commits, changes of other processes, the key ring, metrics and log lines."""

from __future__ import annotations

import asyncio
import sqlite3
from base64 import b64encode
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from sidekey.config.load import Loader
from sidekey.config.stored.secrets import SealingKeys
from sidekey.errors import StartError
from sidekey.observe.metrics import Metrics
from sidekey.publish import Commit, PublishRefused
from sidekey.snapshot.snapshot import Snapshot
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import StoreUnavailable
from sidekey.store.records import IntegrationRow
from sidekey.store.state import Name, Put, State, StateMark
from sidekey.store.store import Health
from sidekey.store_manager import StoreManager, StoreReport, add_stored_content
from support.loading import loaded_snapshot
from support.managed import process
from support.plane import eventually
from support.scraping import samples, scrape
from support.stored import BASIC, saved

HEAD = "version: 1\nstore: {path: store.db, keys: [{id: k1, key: {file: k1}}]}\n"
ENTRY = AuditEntry(who="ann", action="create")


def integration_row(vault: SealingKeys, name: str) -> IntegrationRow:
    """Build a new integration for a store."""
    return saved(vault, name, BASIC)


def prepare(folder: Path) -> None:
    (folder / "k1").write_text(b64encode(b"1" * 32).decode())
    (folder / "k2").write_text(b64encode(b"2" * 32).decode())
    (folder / "sidekey.yaml").write_text(HEAD)


class Counting:
    """A part that counts commits."""

    def __init__(self) -> None:
        self.count = 0

    def prepare(self, snapshot: Snapshot) -> Commit:
        del snapshot
        return self._commit

    def _commit(self) -> None:
        self.count += 1


async def test_own_commit_is_loaded_once(tmp_path: Path) -> None:
    """The watch sees the change too, but loading ten thousand integrations again would change nothing."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        counting = Counting()
        running.publisher.parts.append(counting)
        for count, name in enumerate(("crm", "sms"), 1):
            state = await running.managed.commit(
                [Put(integration_row(running.managed.sealing_keys, name), None)], ENTRY
            )
            await eventually(lambda state=state: running.metrics.store == (True, state.revision, False))
            assert counting.count == count


class RefusingOnce:
    """A part that refuses the first snapshot."""

    def __init__(self) -> None:
        self.refused = False

    def prepare(self, snapshot: Snapshot) -> Commit:
        del snapshot
        if not self.refused:
            self.refused = True
            raise PublishRefused("not yet")
        return lambda: None


async def test_refused_first_load_of_the_store_is_retried(tmp_path: Path) -> None:
    """Without a change of the store, because nothing of it is served until then."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "crm"), None)], ENTRY)
    part = RefusingOnce()
    async with AsyncExitStack() as stack:
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as lock:
            lock.execute("PRAGMA locking_mode = EXCLUSIVE")
            lock.execute("BEGIN EXCLUSIVE")
            running = await stack.enter_async_context(process(tmp_path))
            assert running.managed.unread_reason
            running.publisher.parts.append(part)
        await eventually(lambda: running.managed.unread_reason == "")
        assert part.refused
        assert running.states() == {"crm": "ok"}


async def test_reload_changes_the_key_ring(tmp_path: Path) -> None:
    prepare(tmp_path)
    async with process(tmp_path) as running:
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "crm"), None)], ENTRY)
        both = HEAD.replace("[{", "[{id: k2, key: {file: k2}}, {")
        running.write(both)
        await eventually(lambda: running.managed.sealing_keys.ring.ids == ("k2", "k1"))
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "sms"), None)], ENTRY)
        assert all(secret.sealed.startswith("1:k2:") for secret in running.row("sms").secrets.values())
        assert running.states() == {"crm": "ok", "sms": "ok"}


async def wait_for_log(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Wait until the log contains a text."""
    output: list[str] = []

    def is_logged() -> bool:
        output.append(capsys.readouterr().out)
        return text in "".join(output)

    await eventually(is_logged)


BAD_RINGS = {
    "another": (HEAD, b64encode(b"x" * 32).decode(), "key k1 is not the key that the store is written with"),
    "another behind the first": (
        HEAD.replace("[{", "[{id: k2, key: {file: k2}}, {"),
        b64encode(b"x" * 32).decode(),
        "key k1 is not the key that the store is written with",
    ),
    "missing": (
        HEAD.replace("[{id: k1, key: {file: k1}}]", "[{id: k2, key: {file: k2}}]"),
        b64encode(b"1" * 32).decode(),
        "key k1 is missing: the store is written with it",
    ),
    "empty": (HEAD, "", "must not be empty"),
    "short": (HEAD, b64encode(b"1" * 31).decode(), "key k1: the file must be 32 bytes in base64"),
}


@pytest.mark.parametrize(("text", "key", "reason"), BAD_RINGS.values(), ids=BAD_RINGS)
async def test_reload_with_a_wrong_key_ring_is_refused(
    text: str, key: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that it writes would not verify with the right ring. The ring in use stays."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "crm"), None)], ENTRY)
        ring = running.managed.sealing_keys.ring
        running.metrics.config_loaded = True
        (tmp_path / "k1").write_text(key)
        running.write(f"{text}# {reason}\n")
        await wait_for_log(capsys, reason)
        assert not running.metrics.config_loaded
        assert running.managed.sealing_keys.ring is ring
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "sms"), None)], ENTRY)
        assert running.states() == {"crm": "ok", "sms": "ok"}
    prepare(tmp_path)
    async with process(tmp_path) as restarted:
        assert restarted.states() == {"crm": "ok", "sms": "ok"}


async def test_key_ring_changes_only_while_the_store_is_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reload is repeated automatically."""
    monkeypatch.setattr("sidekey.config.reload.CHECK_EVERY", 0.05)
    prepare(tmp_path)
    both = HEAD.replace("}}]", "}}, {id: k2, key: {file: k2}}]")
    async with process(tmp_path) as running:
        running.metrics.config_loaded = True
        (tmp_path / "store.db").rename(tmp_path / "away.db")
        running.write(both)
        await wait_for_log(capsys, "cannot be checked while the store cannot be read")
        (tmp_path / "away.db").rename(tmp_path / "store.db")
        await eventually(lambda: running.metrics.config_loaded)
        assert running.managed.sealing_keys.ring.ids == ("k1", "k2")


async def test_commit_is_refused_before_follow(tmp_path: Path) -> None:
    """The admin listener opens earlier, and must not report a change that is not served."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        loader = Loader(running.folder / "sidekey.yaml", {})
        rules = running.snapshot.store
        assert rules is not None
        starting = await StoreManager.open(rules, loader)
        row = integration_row(starting.sealing_keys, "early")
        with pytest.raises(StoreUnavailable, match="starting"):
            await starting.commit([Put(row, None)], ENTRY)
        assert "early" not in starting.store.state.integrations
        await starting.close()


async def test_store_that_cannot_be_opened_is_a_start_error(tmp_path: Path) -> None:
    prepare(tmp_path)
    loader = Loader(tmp_path / "sidekey.yaml", {})
    rules = loaded_snapshot(loader.load()).store
    assert rules is not None
    with pytest.raises(StartError):
        await StoreManager.open(rules, loader, create=False)


def test_command_joins_files_and_store(tmp_path: Path) -> None:
    prepare(tmp_path)

    async def fill() -> None:
        async with process(tmp_path) as running:
            await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "crm"), None)], ENTRY)

    asyncio.run(fill())
    loader = Loader(tmp_path / "sidekey.yaml", {})
    loaded = loader.load()
    rules = loaded_snapshot(loaded).store
    assert rules is not None
    assert loaded_snapshot(loaded).integrations == {}
    assert list(add_stored_content(rules, loader, loaded).integrations) == ["crm"]


OLDER: dict[Name, tuple[int, int]] = {("caller", "billing"): (7, 3)}


async def page(metrics: Metrics) -> dict[str, float]:
    """Scrape the samples of the store."""
    scraped = samples(await scrape(metrics))
    return {name: value for (name, _), value in scraped.items() if name.startswith("sidekey_store_")}


async def test_process_without_a_store_has_no_series() -> None:
    assert await page(Metrics()) == {}


async def test_series_have_the_last_report() -> None:
    metrics = Metrics()
    report = StoreReport(metrics)
    report.update(Health(up=True), State(StateMark(1, 7, "7")))
    assert await page(metrics) == {"sidekey_store_up": 1, "sidekey_store_revision": 7, "sidekey_store_rolled_back": 0}
    report.update(Health(up=False, problem="x"), State(StateMark(1, 7, "7"), rolled_back=OLDER))
    assert await page(metrics) == {"sidekey_store_up": 0, "sidekey_store_revision": 7, "sidekey_store_rolled_back": 1}


@pytest.fixture
def logged() -> Any:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_log_has_each_change_once(logged: list[Mapping[str, Any]]) -> None:
    report = StoreReport(Metrics())
    for problem, read in (("", True), ("gone", True), ("", True), ("away", False)):
        for _ in range(2):
            report.update(Health(not problem, problem), State(), is_served=read)
    assert [(line["log_level"], line["event"], line.get("reason")) for line in logged] == [
        ("warning", "the store cannot be used: what is loaded stays in use", "gone"),
        ("info", "the store is in use", None),
        ("warning", "the store cannot be used: only what is in files is served", "away"),
    ]


def test_altered_row_is_logged_once(logged: list[Mapping[str, Any]]) -> None:
    report = StoreReport(Metrics())
    caller: Name = ("caller", "b")
    for altered in ({("token", "ops"), caller}, {caller, ("token", "ops")}, set[Name](), {caller}):
        report.update(Health(up=True), State(altered=frozenset(altered)))
    assert [(line["kind"], line["id"]) for line in logged] == [("caller", "b"), ("token", "ops"), ("caller", "b")]


def test_older_row_is_logged_once_with_its_versions(logged: list[Mapping[str, Any]]) -> None:
    report = StoreReport(Metrics())
    for rolled_back in ({}, OLDER, OLDER, {**OLDER, ("preset", "hook"): (2, 0)}):
        report.update(Health(up=True), State(rolled_back=rolled_back))
    assert [(line["kind"], line["id"], line["seen"], line["found"]) for line in logged] == [
        ("caller", "billing", 7, 3),
        ("preset", "hook", 2, 0),
    ]
