"""The access log: its lines, and the requests that the config selects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.observe.access import AccessLine, AccessLog
from sidekey.snapshot.snapshot import Log, Snapshot
from support.log_pipe import LogPipe
from tools.log_page import REQUEST_FIELDS

KEYS = [name for name, _ in REQUEST_FIELDS if name not in ("preset", "target")]
LINE: dict[str, Any] = {
    "request_id": "w-1f",
    "integration": "crm",
    "caller": "shop",
    "door": "reverse",
    "method": "POST",
    "status": 200,
    "duration": 0.00123,
    "bytes_in": 1024,
    "bytes_out": 200,
    "host": "secure.example.com",
    "port": 443,
    **dict.fromkeys(("code", "reason", "error", "attempt", "trace_id", "peer", "upstream"), ""),
    **dict.fromkeys(("grant", "connect", "first_byte"), 0.0),
}


NEVER_NULL = ("request_id", "integration", "door", "method", "status", "bytes_in", "bytes_out")
TEXTS = (
    *("request_id", "integration", "caller", "door", "method", "host", "code", "reason", "error", "attempt"),
    *("trace_id", "peer", "upstream"),
)
DURATIONS = ("duration", "grant", "connect", "first_byte")


@given(
    texts=st.fixed_dictionaries(dict.fromkeys(TEXTS, st.text(max_size=50))),
    target=st.none() | st.binary(max_size=50),
    preset=st.text(max_size=50),
    status=st.integers(0, 599),
    numbers=st.fixed_dictionaries(
        {"port": st.integers(0, 65535), "bytes_in": st.integers(0, 1 << 60), "bytes_out": st.integers(0, 1 << 60)}
    ),
    seconds=st.fixed_dictionaries(dict.fromkeys(DURATIONS, st.floats(0, 1e6))),
)
def test_line_equals_json_dumps(
    texts: dict[str, str],
    target: bytes | None,
    preset: str,
    status: int,
    numbers: dict[str, int],
    seconds: dict[str, float],
) -> None:
    """The keys are `REQUEST_FIELDS`."""
    log_pipe = LogPipe()
    values = {**texts, **numbers, **seconds, "status": status, "preset": preset, "target": target}
    AccessLog(log_pipe.writer, "all", path=True).write(AccessLine(**values))  # type: ignore[arg-type]
    line = log_pipe.line()
    log_pipe.close()
    is_error = status >= 400 or texts["code"] or texts["reason"]
    values |= {
        "timestamp": json.loads(line)["timestamp"],
        "level": "warning" if is_error else "info",
        "event": "request",
    }
    expected: dict[str, Any] = {}
    for name, _ in REQUEST_FIELDS:
        value = target.decode("latin-1") if target is not None and name == "target" else values[name]
        if name in DURATIONS:
            expected[name] = f"SECONDS{value:.6f}SECONDS" if value or name == "duration" else None
        elif value or name in NEVER_NULL:
            expected[name] = value
        elif name not in ("preset", "target"):
            expected[name] = None
        elif value is not None and name == "target":
            expected[name] = value
    text = json.dumps(expected, separators=(",", ":")) + "\n"
    assert line.decode() == text.replace('"SECONDS', "").replace('SECONDS"', "")


def write(log: AccessLog, status: int, code: str = "", target: bytes | None = None, **more: Any) -> None:
    log.write(AccessLine(**{**LINE, "status": status, "code": code, "target": target, **more}))


def test_keys_equal_the_reference(log_pipe: LogPipe) -> None:
    write(AccessLog(log_pipe.writer, "all", path=False), 200)
    line = log_pipe.line()
    assert list(json.loads(line)) == KEYS
    assert b'"duration":0.001230,' in line


def test_preset_is_logged_before_the_target(log_pipe: LogPipe) -> None:
    for path, keys in ((False, ["preset"]), (True, ["preset", "target"])):
        write(AccessLog(log_pipe.writer, "all", path=path), 200, target=b"/x", preset='wel"come')
        line = json.loads(log_pipe.line())
        assert list(line) == KEYS + keys
        assert line["preset"] == 'wel"come'


@pytest.mark.parametrize(
    ("status", "code", "level"),
    [
        (200, "", "info"),
        (304, "", "info"),
        (404, "", "warning"),
        (503, "overloaded", "warning"),
        (0, "caller_gone", "warning"),
    ],
)
def test_errors_and_disconnected_callers_are_warnings(log_pipe: LogPipe, status: int, code: str, level: str) -> None:
    write(AccessLog(log_pipe.writer, "errors", path=False), status, code)
    assert json.loads(log_pipe.line())["level"] == level


def test_new_mode_applies_to_the_next_request(log_pipe: LogPipe) -> None:
    log = AccessLog(log_pipe.writer, "off", path=False)
    log.prepare(Snapshot(integrations={}, log=Log(access="all", path=True)))()
    assert (log.logs_all, log.logs_errors) == (True, True)
    write(log, 200, target=b"/send")
    assert json.loads(log_pipe.line())["target"] == "/send"
    log.prepare(Snapshot(integrations={}, log=Log(access="errors", path=False)))()
    assert (log.logs_all, log.logs_errors) == (False, True)
    write(log, 200, target=b"/send")
    assert "target" not in json.loads(log_pipe.line())


def test_lines_with_different_constant_parts_are_not_confused(log_pipe: LogPipe) -> None:
    log = AccessLog(log_pipe.writer, "all", path=False)
    others = {
        "integration": "sms",
        "caller": "billing",
        "door": "forward",
        "method": "GET",
        "host": "other.test",
        "port": 80,
        "status": 500,
        "code": "overloaded",
        "reason": "limits.in_flight is reached",
        "error": "connection_limit_reached",
        "attempt": "retried",
    }
    for name, other in others.items():
        for parts in (LINE, {**LINE, name: other}):
            log.write(AccessLine(**parts))
            read = json.loads(log_pipe.line())
            assert {key: read[key] for key in others} == {key: parts[key] or None for key in others}
            is_success = parts["status"] == 200 and not (parts.get("code") or parts.get("reason"))
            assert read["level"] == ("info" if is_success else "warning")


def test_cache_of_constant_parts_is_bounded(log_pipe: LogPipe) -> None:
    """Callers can choose any number of hosts."""
    log = AccessLog(log_pipe.writer, "all", path=False)
    for number in (*range(3000), 0):
        write(log, 200, host=f"h{number}.test")
        assert json.loads(log_pipe.line())["host"] == f"h{number}.test"
