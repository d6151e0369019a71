"""observe/audit.py: a line for each change of a config, and for each use of a credential where it is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from sidekey.observe.audit import AuditLog
from sidekey.observe.writer import LineWriter
from sidekey.runtime.changes import Changes, Granted, Names, Widened
from sidekey.runtime.snapshot import Log, Snapshot
from tools.log_page import CHANGE_FIELDS


class Pipe:
    """A line writer and what it wrote."""

    def __init__(self) -> None:
        self.end, fd = os.pipe()
        self.writer = LineWriter(fd)

    def line(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(os.read(self.end, 1 << 20))
        return said


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.writer.close()
    os.close(pipe.end)


EVERYTHING = Changes(
    integrations=Names(added=("a",)),
    presets=Names(removed=("p",)),
    callers=Names(changed=("web",)),
    secrets=("callers.web.token",),
    settings=tuple(f"limits.{number}" for number in range(30)),
    granted=(Granted("web", "preset", "q"),),
    widened=(Widened("b", "methods", ("GET",), ("GET", "PUT")),),
    revision=7,
)


def test_a_change_is_one_line_with_the_keys_of_the_reference(pipe: Pipe) -> None:
    """In their order, after what every line begins with; `by` and `revision` are the store's."""
    AuditLog(pipe.writer, "off").change(EVERYTHING, "store", ("ann", "bob"))
    line = pipe.line()
    known = [key for key, _ in CHANGE_FIELDS]
    assert [key for key in line if key in known] == [key for key in known if key in line]
    assert set(line) - set(known) == {"presets", "callers"}
    assert (line["level"], line["event"], line["source"], line["by"]) == (
        "info",
        "config changed",
        "store",
        ["ann", "bob"],
    )
    assert line["granted"] == [{"caller": "web", "preset": "q"}]
    assert line["omitted"] == {"settings": 10}


def test_what_changes_nothing_is_no_line(pipe: Pipe) -> None:
    """Nor is a revision of the store by which nothing is served otherwise."""
    AuditLog(pipe.writer, "off").change(Changes(revision=8), "store")
    AuditLog(pipe.writer, "off").change(Changes(settings=("via",)), "files")
    assert pipe.line()["settings"] == ["via"]


def test_uses_are_written_as_the_snapshot_in_use_asks(pipe: Pipe) -> None:
    """From its commit on."""
    audit = AuditLog(pipe.writer, "off")
    commit = audit.prepare(Snapshot({}, log=Log(audit="uses")))
    assert not audit.uses
    commit()
    assert audit.uses
