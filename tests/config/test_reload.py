"""Reloads in a running process, with real files, folders and signals, and their log lines."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter, time
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidekey.config.errors import ConfigError
from sidekey.config.file_stamps import stamp
from sidekey.config.load import Loader
from sidekey.config.load_result import Loaded, LocatedFinding, RetainedIntegration
from sidekey.config.reload import WARNINGS_SHOWN, Reloader, ReloadHooks, log_load
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.observe.writer import LineWriter
from sidekey.publish import Commit, Publisher, PublishRefused
from sidekey.snapshot.snapshot import Snapshot
from support.configmap_mount import ConfigMapMount
from support.files import replace
from support.plane import eventually
from support.raw_connection import DEADLINE

CONFIG = """\
version: 1
integrations:
  a:
    description: {text}
    endpoint_prefix: https://a.test/v1
    auth: {{type: basic, username: u, password: {{file: {secret}}}}}
"""
NOT_RELOADED = "the config was not reloaded because of a defect in Sidekey; the previous one stays in use"
IN_PART = "the config was reloaded only in part because of a defect in Sidekey: restart it"


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many checks a second."""
    monkeypatch.setattr("sidekey.config.reload.CHECK_EVERY", 0.01)


@dataclass(slots=True)
class Process:
    """A process that reloads its config, and keeps the snapshots instead of serving them."""

    folder: Path
    secret: ConfigMapMount
    metrics: Metrics = field(default_factory=Metrics)
    adopted: list[Snapshot] = field(default_factory=list)
    certificates: set[Path] = field(default_factory=set)
    rotated: list[set[Path]] = field(default_factory=list)
    defects: list[BaseException] = field(default_factory=list)
    reloader: Reloader | None = None
    fails: Callable[[], Exception] | None = None
    """The error that the preparation of the next snapshot raises."""
    fails_to_commit: type[Exception] | None = None

    def hooks(self, loaded: Loaded) -> ReloadHooks:
        assert loaded.snapshot is not None
        publisher = Publisher(loaded.snapshot, [self], self.report)
        audit = AuditLog(LineWriter(os.open(self.folder / "audit", os.O_WRONLY | os.O_CREAT, 0o600)), "off")
        return ReloadHooks(publisher, lambda: self.certificates, self.rotate, self.metrics, self.report, audit)

    @property
    def config(self) -> Path:
        return self.folder / "sidekey.yaml"

    def write(self, text: str) -> None:
        """Write a new file and rename it, as editors do."""
        replace(self.config, CONFIG.format(text=text, secret=self.secret.folder / "pw"))

    async def rotate(self, paths: set[Path]) -> None:
        self.rotated.append(paths)

    def prepare(self, snapshot: Snapshot) -> Commit:
        assert not gc.isenabled()
        fails, self.fails = self.fails, None
        if fails is not None:
            raise fails()

        def commit() -> None:
            assert not gc.isenabled()
            self.adopted.append(snapshot)
            fails, self.fails_to_commit = self.fails_to_commit, None
            if fails is not None:
                raise fails

        return commit

    def report(self, defect: BaseException) -> str:
        self.defects.append(defect)
        return "1"

    def description(self) -> str:
        return self.adopted[-1].integrations["a"].description


@asynccontextmanager
async def following(
    folder: Path, *, strict: bool = False, certificates: frozenset[Path] = frozenset()
) -> AsyncIterator[Process]:
    process = Process(folder, ConfigMapMount(folder / "secret", {"pw": "one"}), certificates=set(certificates))
    process.write("first")
    loader = Loader(process.config, {})
    loaded = loader.load()
    process.reloader = Reloader(loader, loaded, process.hooks(loaded), strict=strict)
    process.reloader.start()
    try:
        yield process
    finally:
        await process.reloader.close()
    assert process.defects == []


async def test_a_changed_config_is_reloaded(tmp_path: Path) -> None:
    async with following(tmp_path) as process:
        process.write("second")
        await eventually(lambda: process.adopted)
        assert process.description() == "second"


async def test_audit_has_each_change_once_before_the_reload_is_logged(tmp_path: Path) -> None:
    """The start and changes without effect are left out. Only the path of a secret is written."""

    def changes() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]

    async with following(tmp_path) as process:
        assert process.reloader is not None
        assert changes() == []
        process.write("second")
        await eventually(lambda: len(changes()) == 1)
        process.secret.update({"pw": "two-and-secret"})
        await eventually(lambda: len(changes()) == 2)
        adopted = len(process.adopted)
        process.reloader.request_load()
        process.secret.update({"pw": "two-and-secret"})
        await eventually(lambda: len(process.adopted) > adopted)
    first, second = changes()
    assert list(first) == ["timestamp", "level", "event", "source", "changed_keys"]
    assert (first["level"], first["event"], first["source"]) == ("info", "config changed", "files")
    assert first["changed_keys"] == ["integrations.a.description"]
    assert second["changed_keys"] == ["integrations.a.auth.password"]
    assert "two-and-secret" not in (tmp_path / "audit").read_text()


async def test_replaced_snapshot_stays_readable(tmp_path: Path) -> None:
    """A thread may still build a page or an API response from it."""
    async with following(tmp_path) as process:
        process.write("second")
        await eventually(lambda: process.adopted)
        read = process.adopted[-1]
        for count, text in enumerate(("third", "fourth"), start=2):
            process.write(text)
            await eventually(lambda expected=count: len(process.adopted) >= expected)
        assert process.reloader is not None
        # The thread has then finished what the previous load left to it.
        await process.reloader.publish_store(lambda: None)
        assert read.integrations["a"].description == "second"


async def test_change_between_the_load_and_the_first_check_is_reloaded(tmp_path: Path) -> None:
    process = Process(tmp_path, ConfigMapMount(tmp_path / "secret", {"pw": "one"}))
    process.write("first")
    loader = Loader(process.config, {})
    loaded = loader.load()
    process.write("second")
    reloader = Reloader(loader, loaded, process.hooks(loaded), strict=False)
    reloader.start()
    await eventually(lambda: process.adopted)
    await reloader.close()
    assert process.description() == "second"


async def test_every_swap_of_a_mounted_secret_changes_the_credential(tmp_path: Path) -> None:
    async with following(tmp_path) as process:
        integrations = []
        for count, value in enumerate(("two", "three", "four"), start=1):
            process.secret.update({"pw": value})
            await eventually(lambda expected=count: len(process.adopted) >= expected)
            integrations.append(process.adopted[-1].integrations["a"])
        assert len({id(credential) for credential in integrations}) == 3


async def test_invalid_config_changes_nothing_and_logs_every_error(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with following(tmp_path) as process:
            process.metrics.config_loaded = True
            replace(process.config, "version: 1\nbogus: 1\nother: 2\n")
            await eventually(lambda: not process.metrics.config_loaded)
            assert process.adopted == []
            process.write("corrected")
            await eventually(lambda: process.adopted)
            assert process.metrics.config_loaded
    places = [line["place"] for line in lines if line["event"] == "config error"]
    assert any("bogus" in place for place in places)
    assert any("other" in place for place in places)


async def test_changes_within_a_moment_are_one_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[Callable[[], None]] = []

    def settle(_: float) -> None:
        changes.pop()()

    monkeypatch.setattr(
        "sidekey.config.reload.time", SimpleNamespace(sleep=settle, perf_counter=perf_counter, time=time)
    )
    with capture_logs() as lines:
        async with following(tmp_path) as process:
            changes.append(partial(process.write, "second"))
            replace(process.config, "version: 1\nintegrations: [")
            await eventually(lambda: process.adopted)
            assert process.description() == "second"
    assert [line for line in lines if line["log_level"] == "error"] == []


async def test_invalid_config_is_not_loaded_again_before_it_changes(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with following(tmp_path) as process:
            replace(process.config, "version: 1\nbogus: 1\n")
            await eventually(lambda: any("not reloaded" in line["event"] for line in lines))
            process.write("corrected")
            await eventually(lambda: process.adopted)
    assert len([line for line in lines if "not reloaded" in line["event"]]) == 1


async def test_request_load_loads_without_a_change(tmp_path: Path) -> None:
    async with following(tmp_path) as process:
        assert process.reloader is not None
        process.reloader.request_load()
        await eventually(lambda: process.adopted)
        assert process.description() == "first"


@pytest.mark.parametrize("first", [None, ZeroDivisionError])
async def test_request_load_is_done_after_a_load_that_began_later(
    first: type[Exception] | None, tmp_path: Path
) -> None:
    process = Process(tmp_path, ConfigMapMount(tmp_path / "secret", {"pw": "one"}))
    process.write("first")
    reads, proceed = threading.Event(), threading.Event()

    class Slow(Loader):
        def load(self, now: float | None = None) -> Loaded:
            loaded = super().load(now)
            if not reads.is_set():
                reads.set()
                proceed.wait(DEADLINE)
                if first is not None:
                    raise first
            return loaded

    loaded = Loader(process.config, {}).load()
    reloader = Reloader(Slow(process.config, {}), loaded, process.hooks(loaded), strict=False)
    reloader.start()
    reloader.request_load()
    await asyncio.to_thread(reads.wait)
    process.write("second")
    requested = reloader.request_load()
    assert not requested.done()
    proceed.set()
    await requested
    assert process.description() == "second"
    await reloader.close()


async def test_unusable_secret_is_counted_and_the_previous_one_stays(tmp_path: Path) -> None:
    async with following(tmp_path) as process:
        process.secret.update({"pw": ""})
        await eventually(lambda: process.adopted)
        assert process.metrics.reload_failures["a", "secret"] == 1
        assert process.adopted[-1].integrations["a"].usable


async def test_strict_refuses_a_config_with_an_unreadable_secret(tmp_path: Path) -> None:
    async with following(tmp_path, strict=True) as process:
        process.metrics.config_loaded = True
        text = process.config.read_text().replace("/pw", "/none").replace("first", "second")
        replace(process.config, text)
        await eventually(lambda: not process.metrics.config_loaded)
        assert process.adopted == []


@pytest.mark.parametrize("strict", [False, True])
async def test_preset_mismatch_refuses_the_preset_or_with_strict_the_config(tmp_path: Path, *, strict: bool) -> None:
    async with following(tmp_path, strict=strict) as process:
        process.metrics.config_loaded = True
        keys = "{integration: a, url: https://elsewhere.example.com, content_type: text/plain}"
        replace(process.config, f"{process.config.read_text()}\npresets: {{hook: {keys}}}\n")
        await eventually(lambda: process.adopted or not process.metrics.config_loaded)
        assert process.metrics.config_loaded is not strict
        assert [bool(snapshot.presets["hook"].invalid) for snapshot in process.adopted] == ([] if strict else [True])


async def test_changed_certificate_is_rotated_without_a_load(tmp_path: Path) -> None:
    file = tmp_path / "tls.crt"
    file.write_text("one")
    async with following(tmp_path, certificates=frozenset({file})) as process:
        replace(file, "another")
        await eventually(lambda: process.rotated)
        assert process.rotated[0] == {file}
        assert process.adopted == []


async def test_secret_in_a_new_folder_is_loaded(tmp_path: Path) -> None:
    process = Process(tmp_path, ConfigMapMount(tmp_path / "secret", {"pw": "one"}))
    process.config.write_text(CONFIG.format(text="x", secret=tmp_path / "later/pw"))
    loader = Loader(process.config, {})
    loaded = loader.load()
    reloader = Reloader(loader, loaded, process.hooks(loaded), strict=False)
    reloader.start()
    (tmp_path / "later").mkdir()
    replace(tmp_path / "later/pw", "there")
    await eventually(lambda: process.adopted and process.adopted[-1].integrations["a"].usable)
    await reloader.close()
    assert process.adopted[-1].integrations["a"].secrets.unreadable is None


async def test_the_collector_runs_again_after_a_reload(tmp_path: Path) -> None:
    async with following(tmp_path) as process:
        process.write("second")
        await eventually(lambda: process.adopted)
    assert gc.isenabled()


async def test_config_that_cannot_be_prepared_changes_nothing_until_the_next_change(tmp_path: Path) -> None:
    """Metric and log show the failure, and it is not tried again before a change."""
    with capture_logs() as lines:
        async with following(tmp_path) as process:
            process.metrics.config_loaded = True
            process.fails = ZeroDivisionError
            process.write("second")
            await eventually(lambda: process.defects)
            assert (process.adopted, process.metrics.config_loaded, process.metrics.config_loaded_at) == (
                [],
                False,
                0.0,
            )
            process.write("third")
            await eventually(lambda: process.adopted)
            assert [snapshot.integrations["a"].description for snapshot in process.adopted] == ["third"]
            assert process.metrics.config_loaded
            assert [type(defect) for defect in process.defects] == [ZeroDivisionError]
            process.defects.clear()
            await eventually(lambda: any(line["event"] == "config reloaded" for line in lines))
    failed, reloaded = (line for line in lines if line["event"].startswith(("the config was", "config")))
    assert failed["event"] == NOT_RELOADED
    assert (failed["log_level"], failed["defect"]) == ("error", "1")
    # Counted from the config that stayed in use.
    assert (reloaded["integrations"], reloaded["changed"], reloaded["removed"]) == (1, 1, 0)


async def test_refused_publication_is_logged_with_the_reason_and_not_as_a_defect(tmp_path: Path) -> None:
    """For example, if a log file cannot be opened."""
    with capture_logs() as lines:
        async with following(tmp_path) as process:
            process.metrics.config_loaded = True
            process.fails = partial(PublishRefused, "log.file: no")
            process.write("second")
            await eventually(lambda: not process.metrics.config_loaded and process.fails is None)
            assert process.adopted == []
    (line,) = lines
    assert (line["log_level"], line["reason"]) == ("error", "log.file: no")
    assert line["event"] == "the config was not reloaded; the previous one stays in use"


async def test_config_that_could_not_be_prepared_is_loaded_again_on_request(tmp_path: Path) -> None:
    """Its integrations were not in use, although they have not changed since."""
    async with following(tmp_path) as process:
        assert process.reloader is not None
        process.fails = ZeroDivisionError
        process.write("second")
        await eventually(lambda: process.defects)
        process.reloader.request_load()
        await eventually(lambda: process.adopted)
        assert process.description() == "second"
        process.defects.clear()


async def test_failed_commit_is_a_failed_reload(tmp_path: Path) -> None:
    """The config is in use all the same, so its findings are logged, and the next change is compared with it."""
    with capture_logs() as lines:
        async with following(tmp_path) as process:
            process.metrics.config_loaded = True
            process.fails_to_commit = ZeroDivisionError
            text = process.config.read_text().replace("/pw", "/none").replace("first", "second")
            replace(process.config, text)
            await eventually(lambda: process.defects)
            assert (process.metrics.config_loaded, process.metrics.config_loaded_at) == (False, 0.0)
            assert process.description() == "second"
            process.write("third")
            await eventually(lambda: len(process.adopted) == 2)
            assert process.metrics.config_loaded
            assert [type(defect) for defect in process.defects] == [ZeroDivisionError]
            process.defects.clear()
            await eventually(lambda: any(line["event"] == "config reloaded" for line in lines))
    events = [line["event"] for line in lines]
    assert events.count(IN_PART) == 1
    assert "config reloaded" in events[events.index(IN_PART) :]
    assert events.index(IN_PART) < events.index("secret or CA file cannot be read; what needs it is unavailable")
    assert NOT_RELOADED not in events


async def test_findings_of_an_unused_config_are_not_logged(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with following(tmp_path) as process:
            process.fails = ZeroDivisionError
            replace(process.config, process.config.read_text().replace("/pw", "/none"))
            await eventually(lambda: process.defects)
            process.defects.clear()
    assert [line["event"] for line in lines] == [NOT_RELOADED]


async def test_certificate_that_changes_with_a_failing_config_is_rotated(tmp_path: Path) -> None:
    """The next check does not see this change again."""
    file = tmp_path / "tls.crt"
    file.write_text("one")
    process = Process(tmp_path, ConfigMapMount(tmp_path / "secret", {"pw": "one"}), certificates={file})
    process.write("first")
    loader = Loader(process.config, {})
    loaded = loader.load()
    loaded.certificate_stamps[file] = stamp(file)

    class Defective(Loader):
        def load(self, now: float | None = None) -> Loaded:
            raise ZeroDivisionError(now)

    reloader = Reloader(Defective(process.config, {}), loaded, process.hooks(loaded), strict=False)
    process.write("second")
    file.write_text("another")
    reloader.start()
    await eventually(lambda: process.rotated)
    await reloader.close()
    assert (process.rotated, process.adopted) == ([{file}], [])
    assert [type(defect) for defect in process.defects] == [ZeroDivisionError], "it is not tried again before a change"


async def test_no_log_line_of_a_reload_has_a_secret(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with following(tmp_path) as process:
            process.secret.update({"pw": "s3cr3t-value"})
            await eventually(lambda: process.adopted)
            process.secret.update({"pw": "s3cr3t-value\x01"})
            await eventually(lambda: len(process.adopted) == 2)
    assert "s3cr3t" not in json.dumps(lines)
    await asyncio.sleep(0)


async def test_secret_rotated_during_an_invalid_config_causes_one_load(tmp_path: Path) -> None:
    """A config with a syntax error names no secrets, so those of the config in use are still watched."""
    with capture_logs() as lines:

        def refused() -> int:
            return len([line for line in lines if "not reloaded" in line["event"]])

        async with following(tmp_path) as process:
            replace(process.config, "version: 1\nintegrations: [")
            await eventually(lambda: refused() == 1)
            process.secret.update({"pw": "two"})
            await eventually(lambda: refused() == 2)
            process.write("corrected")
            await eventually(lambda: process.adopted)
    assert refused() == 2


async def test_certificate_that_changed_after_the_load_is_rotated(tmp_path: Path) -> None:
    process = Process(tmp_path, ConfigMapMount(tmp_path / "secret", {"pw": "one"}))
    process.write("first")
    loader = Loader(process.config, {})
    loaded = loader.load()
    file = tmp_path / "tls.crt"
    file.write_text("one")
    loaded.certificate_stamps[file] = stamp(file)
    file.write_text("another")
    process.certificates = {file}
    reloader = Reloader(loader, loaded, process.hooks(loaded), strict=False)
    reloader.start()
    await eventually(lambda: process.rotated)
    await reloader.close()
    assert process.rotated == [{file}]


async def test_load_that_raises_is_a_failed_reload(tmp_path: Path) -> None:
    process = Process(tmp_path, ConfigMapMount(tmp_path / "secret", {"pw": "one"}))
    process.write("first")
    loader = Loader(process.config, {})
    loaded = loader.load()
    process.metrics.config_loaded = True

    class Defective(Loader):
        def load(self, now: float | None = None) -> Loaded:
            raise ZeroDivisionError(now)

    reloader = Reloader(Defective(process.config, {}), loaded, process.hooks(loaded), strict=False)
    reloader.start()
    reloader.request_load()
    await eventually(lambda: process.defects)
    await reloader.close()
    assert not process.metrics.config_loaded


async def test_transient_read_error_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidekey.config.reload.RETRY_EVERY", 0.01)
    process = Process(tmp_path, ConfigMapMount(tmp_path / "secret", {"pw": "one"}))
    process.write("first")
    loads: list[Loaded] = []

    class Late(Loader):
        def load(self, now: float | None = None) -> Loaded:
            late = Loaded(
                findings=[LocatedFinding(ConfigError("sidekey.yaml", 1, 1, "", "Too many open files"), "error")],
                transient=True,
            )
            loads.append(late if len(loads) < 2 else super().load(now))
            return loads[-1]

    loaded = Loader(process.config, {}).load()
    reloader = Reloader(Late(process.config, {}), loaded, process.hooks(loaded), strict=False)
    reloader.start()
    reloader.request_load()
    await eventually(lambda: process.adopted)
    await reloader.close()
    assert [load.transient for load in loads] == [True, True, False]


async def test_lasting_transient_error_is_retried_slowly_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry_every = 0.3
    monkeypatch.setattr("sidekey.config.reload.RETRY_EVERY", retry_every)
    process = Process(tmp_path, ConfigMapMount(tmp_path / "secret", {"pw": "one"}))
    process.write("first")
    began: list[float] = []
    message = "Too many open files"

    class Unreadable(Loader):
        def load(self, now: float | None = None) -> Loaded:
            began.append(perf_counter())
            return Loaded(
                findings=[LocatedFinding(ConfigError("sidekey.yaml", 1, 1, "", message), "error")], transient=True
            )

    def changes() -> list[str]:
        return [line["place"].rpartition(": ")[2] for line in logged if line["event"] == "config error"]

    loaded = Loader(process.config, {}).load()
    reloader = Reloader(Unreadable(process.config, {}), loaded, process.hooks(loaded), strict=False)
    with capture_logs() as logged:
        reloader.start()
        await reloader.request_load()
        await eventually(lambda: len(began) == 4)
        assert began[3] - began[0] >= 2 * retry_every
        assert changes() == ["Too many open files"]
        await reloader.request_load()
        assert changes() == ["Too many open files"] * 2
        message = "Stale file handle"
        await eventually(lambda: len(changes()) == 3)
        await reloader.close()
    assert changes()[2] == "Stale file handle"


A = ConfigError("c.yaml", 3, 5, "integrations.a", "is odd")
B = ConfigError("c.yaml", 4, 5, "integrations.b", "is odd too")


def test_each_unreadable_file_is_an_error() -> None:
    with capture_logs() as lines:
        log_load(Loaded(findings=[LocatedFinding(A, "unreadable"), LocatedFinding(B, "unreadable")]))
    assert [(line["log_level"], line["place"]) for line in lines] == [("error", str(A)), ("error", str(B))]


def test_each_preset_that_does_not_fit_its_integration_is_an_error() -> None:
    with capture_logs() as lines:
        log_load(Loaded(findings=[LocatedFinding(A, "mismatched")]))
    assert [(line["log_level"], line["place"]) for line in lines] == [("error", str(A))]
    assert "preset" in lines[0]["event"]


def test_retained_integration_is_named() -> None:
    with capture_logs() as lines:
        log_load(Loaded(retained={"a": RetainedIntegration([A], ())}))
    assert [(line["log_level"], line["integration"], line["place"]) for line in lines] == [("error", "a", str(A))]


def test_first_20_warnings_are_logged() -> None:
    warnings = [ConfigError("c.yaml", line, 5, "integrations.a", "is odd") for line in range(3000)]
    with capture_logs() as lines:
        log_load(Loaded(findings=[LocatedFinding(warning, "warning") for warning in warnings]))
    assert {line["log_level"] for line in lines} == {"warning"}
    assert lines[0]["count"] == 3000
    assert [line["place"] for line in lines[1:]] == [str(warning) for warning in warnings[:WARNINGS_SHOWN]]
