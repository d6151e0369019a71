"""The event log: one JSON line per event, at the configured level and output."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from sidekey.observe.log import LogLevel, LogOutput, configure, get_logger, report_defect
from sidekey.observe.writer import LineWriter
from sidekey.publish import PublishRefused
from sidekey.snapshot.snapshot import Log as LogSettings
from sidekey.snapshot.snapshot import Snapshot

SECRET = "hunter2-s3cret"


class Log:
    """A configured log and its lines."""

    def __init__(self, level: str) -> None:
        self.end, fd = os.pipe()
        self.writer = LineWriter(fd)
        configure(level, self.writer)

    def lines(self) -> list[dict[str, Any]]:
        self.writer.close()
        with os.fdopen(self.end, "rb") as end:
            return [json.loads(line) for line in end]


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_line_begins_with_time_level_and_event() -> None:
    log = Log("info")
    get_logger(part="pool").warning("listening", address="127.0.0.1:8080", count=2)
    (line,) = log.lines()
    assert list(line) == ["timestamp", "level", "event", "part", "address", "count"]
    assert line["timestamp"].endswith("Z")
    assert {**line, "timestamp": ""} == {
        "timestamp": "",
        "level": "warning",
        "event": "listening",
        "part": "pool",
        "address": "127.0.0.1:8080",
        "count": 2,
    }


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_level_logs_itself_and_higher_levels(level: str, expected: list[str]) -> None:
    log = Log(level)
    logger = get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("event")
    assert [line["level"] for line in log.lines()] == expected


def test_existing_logger_follows_a_later_configuration() -> None:
    """Modules create their loggers at import."""
    logger = get_logger()
    log = Log("info")
    logger.info("event")
    assert len(log.lines()) == 1


def test_exception_is_logged_without_its_message() -> None:
    log = Log("info")
    try:
        int(SECRET)
    except ValueError as error:
        get_logger().exception("defect", id="1f")
        get_logger().error("defect", exc_info=error, reason=error, stack_info=True)
        get_logger().error("defect", exc_info=(ValueError, error, error.__traceback__), reasons=[error])
    lines = log.lines()
    assert [line["event"] for line in lines] == ["defect"] * 3
    assert lines[1]["reason"] == "ValueError"
    assert SECRET not in json.dumps(lines)
    assert "Traceback" not in json.dumps(lines)


def test_object_that_is_not_json_is_logged_as_its_type() -> None:
    """The repr of an object may contain a secret."""
    log = Log("info")
    get_logger().info("event", value=SECRET.encode(), path={1, 2})
    (line,) = log.lines()
    assert (line["value"], line["path"]) == ("bytes", "set")


def test_value_cannot_forge_a_line() -> None:
    log = Log("info")
    get_logger().info("event", reason='x\n{"level":"error"}')
    (line,) = log.lines()
    assert line["reason"] == 'x\n{"level":"error"}'


def test_defect_is_logged_with_the_id_in_the_response() -> None:
    log = Log("info")
    defect = report_defect(ValueError(SECRET))
    (line,) = log.lines()
    assert (line["event"], line["id"], line["error"]) == ("defect", defect, ["ValueError"])


def test_output_of_a_new_snapshot_is_used_after_its_commit(tmp_path: Path) -> None:
    """Sidekey opens the output before the commit."""
    log = Log("info")
    file = tmp_path / "log"
    output = LogOutput(log.writer, LogSettings())
    logger = get_logger()

    def prepare(settings: LogSettings) -> Callable[[], None]:
        return output.prepare(Snapshot(integrations={}, log=settings))

    to_file = prepare(LogSettings(file=str(file)))
    assert file.exists()
    logger.info("before")
    to_file()
    logger.info("in the file")
    prepare(LogSettings(file=str(file), level="debug"))()
    prepare(LogSettings(file=str(file), format="text"))()
    logger.info("as text")
    assert [line["event"] for line in log.lines()] == ["before", "log lines go to a file"]
    first, second = file.read_text().splitlines()
    assert json.loads(first)["event"] == "in the file"
    assert second.endswith(" info    as text")


def test_snapshot_with_an_unwritable_file_is_refused(tmp_path: Path) -> None:
    log = Log("info")
    output = LogOutput(log.writer, LogSettings())
    path = tmp_path / "none" / "log"
    with pytest.raises(
        PublishRefused, match=f"log.file: {path} cannot be opened for writing: No such file or directory"
    ):
        output.prepare(Snapshot(integrations={}, log=LogSettings(file=str(path))))
    get_logger().info("event")
    assert [line["event"] for line in log.lines()] == ["event"]


async def test_new_level_applies_from_the_next_iteration_of_the_event_loop() -> None:
    """Otherwise the order of commits would matter."""
    log = Log("info")
    logger = get_logger()
    level = LogLevel("info")
    logger.info("before")
    commit = level.prepare(Snapshot(integrations={}, log=LogSettings(level="error")))
    logger.info("prepared")
    await asyncio.sleep(0)
    logger.info("still only prepared")
    commit()
    logger.info("in the same step")
    await asyncio.sleep(0)
    logger.warning("too low")
    logger.error("at the new level")
    level.prepare(Snapshot(integrations={}, log=LogSettings(level="debug")))()
    await asyncio.sleep(0)
    logger.debug("lower again")
    events = [line["event"] for line in log.lines()]
    assert events == [
        "before",
        "prepared",
        "still only prepared",
        "in the same step",
        "at the new level",
        "lower again",
    ]
