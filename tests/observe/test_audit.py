"""The audit log: changes of the config, and uses of credentials."""

from __future__ import annotations

import json

from sidekey.observe.audit import MAX_PATHS, AuditLog
from sidekey.publish import Changes
from sidekey.snapshot.snapshot import Log, Snapshot
from support.log_pipe import LogPipe
from tools.log_page import CHANGE_FIELDS


def test_change_is_one_line_with_the_keys_of_the_reference(log_pipe: LogPipe) -> None:
    limits = tuple(f"limits.{number}" for number in range(MAX_PATHS + 10))
    changes = Changes(("integrations.a",), ("presets.p",), limits, revision=7)
    AuditLog(log_pipe.writer, "off").log_change(changes, "store", ("ann", "bob"))
    line = json.loads(log_pipe.line())
    assert list(line) == [key for key, _ in CHANGE_FIELDS]
    del line["timestamp"]
    assert line == {
        "level": "info",
        "event": "config changed",
        "source": "store",
        "by": ["ann", "bob"],
        "revision": 7,
        "added_keys": ["integrations.a"],
        "removed_keys": ["presets.p"],
        "changed_keys": [*limits[:MAX_PATHS]],
        "omitted": {"changed_keys": 10},
    }


def test_change_of_only_the_store_revision_is_not_logged(log_pipe: LogPipe) -> None:
    AuditLog(log_pipe.writer, "off").log_change(Changes(revision=8), "store")
    AuditLog(log_pipe.writer, "off").log_change(Changes(changed=("via",)), "files")
    line = json.loads(log_pipe.line())
    assert [*line][3:] == ["source", "changed_keys"]
    assert line["changed_keys"] == ["via"]


def test_uses_are_logged_if_the_snapshot_enables_them(log_pipe: LogPipe) -> None:
    """The setting applies from the commit of the snapshot."""
    audit = AuditLog(log_pipe.writer, "off")
    commit = audit.prepare(Snapshot({}, log=Log(audit="uses")))
    assert not audit.logs_uses
    commit()
    assert audit.logs_uses
