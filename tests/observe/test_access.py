"""observe/access.py: a hand-built line that is nothing but JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.observe.access import AccessLog
from sidekey.observe.writer import LineWriter
from sidekey.runtime.snapshot import Log, Snapshot

KEYS = "timestamp level event request_id integration door method host status code duration bytes_in bytes_out"


class Pipe:
    """A line writer and what it wrote."""

    def __init__(self) -> None:
        self.end, fd = os.pipe()
        self.writer = LineWriter(fd)

    def line(self) -> bytes:
        return os.read(self.end, 1 << 20)

    def close(self) -> None:
        self.writer.close()
        os.close(self.end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@given(
    texts=st.tuples(*[st.text(max_size=50)] * 6),
    target=st.none() | st.text(max_size=50),
    numbers=st.tuples(st.integers(0, 599), st.integers(0, 1 << 60), st.integers(0, 1 << 60)),
    seconds=st.floats(0, 1e6),
)
def test_a_line_is_what_json_dumps_would_write_for_any_text(
    texts: tuple[str, ...], target: str | None, numbers: tuple[int, ...], seconds: float
) -> None:
    """Whatever the parts hold, quotes, controls or lone surrogates, the line is json.dumps' one."""
    request_id, integration, door, method, host, code = texts
    status, bytes_in, bytes_out = numbers
    pipe = Pipe()
    log = AccessLog(pipe.writer, "all", path=True)
    log.write(request_id, integration, door, method, host, status, code, seconds, bytes_in, bytes_out, target)
    line = pipe.line()
    pipe.close()
    read = json.loads(line)
    expected: dict[str, Any] = {
        "timestamp": read["timestamp"],
        "level": "info" if status < 400 and not code else "warning",
        "event": "request",
        "request_id": request_id,
        "integration": integration,
        "door": door,
        "method": method,
        "host": host or None,
        "status": status,
        "code": code or None,
        "duration": "DURATION",
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
    }
    if target is not None:
        expected["target"] = target
    text = json.dumps(expected, separators=(",", ":")) + "\n"
    assert line.decode() == text.replace('"duration":"DURATION"', f'"duration":{seconds:.6f}')


def write(log: AccessLog, status: int, code: str = "", target: str | None = None) -> None:
    log.write("1f", "crm", "reverse", "POST", "secure.example.com", status, code, 0.00123, 1024, 200, target)


def test_the_keys_are_those_of_the_reference(pipe: Pipe) -> None:
    """A line begins as every log line does, and the duration has six digits."""
    write(AccessLog(pipe.writer, "all", path=False), 200)
    line = pipe.line()
    assert " ".join(json.loads(line)) == KEYS
    assert b'"duration":0.001230,' in line


def test_a_target_is_logged_only_where_the_config_asks_for_it(pipe: Pipe) -> None:
    """Paths and queries may hold secrets, so log.path is off unless set."""
    write(AccessLog(pipe.writer, "all", path=False), 200, target="/send?key=s3cret")
    assert b"s3cret" not in pipe.line()
    write(AccessLog(pipe.writer, "all", path=True), 200, target="/send?key=s3cret")
    assert json.loads(pipe.line())["target"] == "/send?key=s3cret"


def test_a_preset_is_named_where_a_request_came_by_one(pipe: Pipe) -> None:
    """Before the target, which is there only where the config asks for it."""
    for path, keys in ((False, "preset"), (True, "preset target")):
        log = AccessLog(pipe.writer, "all", path=path)
        log.write("1f", "crm", "preset", "POST", "h", 200, "", 0.1, 1, 2, "/x", 'wel"come')
        line = json.loads(pipe.line())
        assert " ".join(line) == f"{KEYS} {keys}"
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
def test_the_level_says_whether_the_exchange_went_well(pipe: Pipe, status: int, code: str, level: str) -> None:
    """A response below 400 is info; an error, and a caller who left, is a warning."""
    write(AccessLog(pipe.writer, "errors", path=False), status, code)
    assert json.loads(pipe.line())["level"] == level


@pytest.mark.parametrize(
    ("mode", "every", "errors"), [("off", False, False), ("errors", False, True), ("all", True, True)]
)
def test_the_mode_says_what_to_write(pipe: Pipe, mode: str, every: bool, errors: bool) -> None:
    """The hot path branches on two booleans."""
    log = AccessLog(pipe.writer, mode, path=False)
    assert (log.every, log.errors) == (every, errors)


def test_another_mode_holds_from_the_next_request_on(pipe: Pipe) -> None:
    """As another config asks."""
    log = AccessLog(pipe.writer, "off", path=False)
    log.prepare(Snapshot(integrations={}, log=Log(access="all", path=True)))()
    assert (log.every, log.errors) == (True, True)
    write(log, 200, target="/send")
    assert json.loads(pipe.line())["target"] == "/send"
    log.prepare(Snapshot(integrations={}, log=Log(access="errors", path=False)))()
    assert (log.every, log.errors) == (False, True)
    write(log, 200, target="/send")
    assert "target" not in json.loads(pipe.line())


def test_lines_that_differ_in_one_part_are_each_their_own(pipe: Pipe) -> None:
    """What lines have in common is spelled once for all of the same parts, and for no others."""
    log = AccessLog(pipe.writer, "all", path=False)
    parts = ("crm", "reverse", "POST", "one.test", 200, "")
    for index, other in enumerate(("sms", "forward", "GET", "", 500, "overloaded")):
        for integration, door, method, host, status, code in (parts, (*parts[:index], other, *parts[index + 1 :])):
            log.write("1f", integration, door, method, host, status, code, 0.1, 1, 2)  # type: ignore[arg-type]
            read = json.loads(pipe.line())
            expected = (integration, door, method, host or None, status, code or None)
            assert tuple(read[key] for key in ("integration", "door", "method", "host", "status", "code")) == expected
            assert read["level"] == ("info" if status == 200 and not code else "warning")


def test_any_number_of_hosts_is_logged(pipe: Pipe) -> None:
    """With targets that pass, callers choose them: what is kept of them is bounded."""
    log = AccessLog(pipe.writer, "all", path=False)
    for number in (*range(3000), 0):
        log.write("1f", "-", "forward", "GET", f"h{number}.test", 200, "", 0.1, 1, 2)
        assert json.loads(pipe.line())["host"] == f"h{number}.test"
