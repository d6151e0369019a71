"""observe/log.py: each event is one JSON line."""

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
    """A configured log and the lines that came out."""

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


def test_a_line_begins_with_time_level_and_event() -> None:
    """What varies follows under keys, in the order given."""
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
def test_a_level_lets_itself_and_what_is_graver_through(level: str, expected: list[str]) -> None:
    """The config's log.level is the lowest that is written."""
    log = Log(level)
    logger = get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("event")
    assert [line["level"] for line in log.lines()] == expected


def test_a_logger_made_before_the_configuration_follows_it() -> None:
    """Modules make their loggers when they are imported."""
    logger = get_logger()
    log = Log("info")
    logger.info("event")
    assert len(log.lines()) == 1


def test_an_exception_is_logged_without_its_message() -> None:
    """However it is passed to the logger."""
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


def test_an_object_that_json_does_not_know_shows_its_type_only() -> None:
    """A repr may hold anything."""
    log = Log("info")
    get_logger().info("event", value=SECRET.encode(), path={1, 2})
    (line,) = log.lines()
    assert (line["value"], line["path"]) == ("bytes", "set")


def test_text_cannot_begin_a_line_of_its_own() -> None:
    """Line feeds in a value are escaped, so no value forges a line."""
    log = Log("info")
    get_logger().info("event", reason='x\n{"level":"error"}')
    (line,) = log.lines()
    assert line["reason"] == 'x\n{"level":"error"}'


def test_a_defect_is_found_by_the_id_that_its_caller_was_reported() -> None:
    """The response names the id, the log says the rest."""
    log = Log("info")
    defect = report_defect(ValueError(SECRET))
    (line,) = log.lines()
    assert (line["event"], line["id"], line["error"]) == ("defect", defect, ["ValueError"])


def test_lines_go_where_another_snapshot_wants_them_once_it_is_in_use(tmp_path: Path) -> None:
    """The file is opened before that; what is prepared and never used is closed."""
    log = Log("info")
    file = tmp_path / "log"
    output = LogOutput(log.writer, LogSettings())
    logger = get_logger()

    def prepared(wanted: LogSettings) -> Callable[[], None]:
        return output.prepare(Snapshot(integrations={}, log=wanted))

    to_file = prepared(LogSettings(file=str(file)))
    assert file.exists()
    logger.info("before")
    to_file()
    logger.info("in the file")
    prepared(LogSettings(file=str(file), level="debug"))()
    prepared(LogSettings(file=str(file), format="text"))()
    logger.info("as text")
    assert [line["event"] for line in log.lines()] == ["before", "log lines go to a file"]
    first, second = file.read_text().splitlines()
    assert json.loads(first)["event"] == "in the file"
    assert second.endswith(" info    as text")


def test_a_file_that_cannot_be_opened_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """And the lines go on where they went."""
    log = Log("info")
    output = LogOutput(log.writer, LogSettings())
    path = tmp_path / "none" / "log"
    with pytest.raises(
        PublishRefused, match=f"log.file: {path} cannot be opened for writing: No such file or directory"
    ):
        output.prepare(Snapshot(integrations={}, log=LogSettings(file=str(path))))
    get_logger().info("event")
    assert [line["event"] for line in log.lines()] == ["event"]


async def test_the_level_of_another_snapshot_counts_from_the_next_step_of_the_loop_on() -> None:
    """So that it does not matter whether what another part logs while it commits comes before or after."""
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
