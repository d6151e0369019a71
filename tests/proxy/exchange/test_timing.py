"""Wait times of an exchange in the access log and in the histogram."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.errors import Problem, ProblemError
from sidekey.observe.access import AccessLog
from sidekey.observe.metrics import Durations
from sidekey.observe.writer import LineWriter
from support.plane import base_url, denied, get, integration, request
from support.scripted import GatedGrantSource, ScriptedDialer, ScriptedPlane, settle
from support.upstream import OK

WATCHED = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
NEWER = Grant(headers=(("Authorization", "Bearer newer"),))
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
UNREACHABLE = Problem("upstream_unreachable", "the upstream refused the connection")


class TimedPlane(ScriptedPlane):
    """A plane whose clock only `advance` changes, with its access log."""

    def __init__(self, log: AccessLog, path: Path, **options: Any) -> None:
        super().__init__(integration("h", base_url(1), traits=WATCHED), access=log, **options)
        self.now = 1000.0
        self.plane.worker.clock = lambda: self.now
        self._path = path

    async def advance(self, seconds: float) -> None:
        """Run the loop, then advance the clock."""
        await settle()
        self.now += seconds

    def line(self) -> dict[str, Any]:
        """Return the only log line."""
        (line,) = map(json.loads, self._path.read_text().splitlines())
        return line

    def waits(self) -> tuple[float | None, ...]:
        """Return the waits and the total time."""
        line = self.line()
        return tuple(line[key] for key in ("grant", "connect", "first_byte", "duration"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(path: Path) -> Iterator[AccessLog]:
    writer = LineWriter(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    yield AccessLog(writer, "all", path=False)
    writer.close()


def counted(sidekey: TimedPlane) -> tuple[int, int, int]:
    """Return the number of waits of each kind. Their sums must match the log line."""

    def count(durations: Durations, key: str) -> int:
        assert durations.seconds == pytest.approx(sidekey.line()[key] or 0)
        return sum(durations.buckets)

    metrics = sidekey.metrics
    return (
        count(metrics.grants, "grant"),
        count(metrics.connections, "connect"),
        count(metrics.first_bytes, "first_byte"),
    )


async def test_each_phase_has_its_own_time(log: AccessLog, path: Path) -> None:
    """Token, connection, upload, head and rest of the response."""
    source, dialer = GatedGrantSource(), ScriptedDialer()
    dialer.go.clear()
    sidekey = TimedPlane(log, path, sources={"h": source}, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(request("POST", body=b"four")[:-2])
    await sidekey.advance(1)
    source.go.set()
    await sidekey.advance(2)
    dialer.go.set()
    await sidekey.advance(4)
    caller.feed(b"ur")
    await sidekey.advance(8)
    upstream = await sidekey.upstream()
    upstream.feed(OK[:-1])
    await sidekey.advance(16)
    upstream.feed(OK[-1:])
    assert sidekey.waits() == (1.0, 2.0, 8.0, 31.0)
    assert counted(sidekey) == (1, 1, 1)


async def test_request_with_everything_ready_waits_only_for_the_response(log: AccessLog, path: Path) -> None:
    sidekey = TimedPlane(log, path, sources={"h": GatedGrantSource(available=True)})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    await sidekey.advance(1)
    upstream.feed(OK)
    for pieces, first_byte in (((OK,), 3.0), ((OK[:-1], OK[-1:]), 3.0)):
        os.truncate(path, 0)
        caller.feed(get())
        await sidekey.advance(3)
        for piece in pieces:
            upstream.feed(piece)
            await sidekey.advance(1)
        assert [sidekey.line()[key] for key in ("grant", "connect", "first_byte")] == [None, None, first_byte]
    assert sum(sidekey.metrics.first_bytes.buckets) == 3
    assert sidekey.metrics.first_bytes.seconds == 1 + 3 + 3
    assert sum(sidekey.metrics.connections.buckets) == sum(sidekey.metrics.grants.buckets) == 0


async def test_early_response_is_timed_from_the_last_write(log: AccessLog, path: Path) -> None:
    sidekey = TimedPlane(log, path, sources={"h": GatedGrantSource(available=True)})
    caller = sidekey.caller()
    caller.feed(request("POST", body=b"four")[:-2])
    await sidekey.advance(5)
    (await sidekey.upstream()).feed(OK)
    assert sidekey.waits() == (None, None, 5.0, 5.0)


async def test_replay_counts_the_newer_token_and_the_second_response(log: AccessLog, path: Path) -> None:
    """And both connections, but not the refused response."""
    source, dialer = GatedGrantSource(available=True), ScriptedDialer()
    source.refreshed = NEWER
    sidekey = TimedPlane(log, path, sources={"h": source}, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    await sidekey.advance(1)
    upstream.feed(REFUSED)
    await sidekey.advance(2)
    dialer.go.clear()
    source.go.set()
    await sidekey.advance(4)
    dialer.go.set()
    await sidekey.advance(8)
    (await sidekey.upstream(1)).feed(OK)
    assert sidekey.waits() == (2.0, 4.0, 8.0, 15.0)
    assert sidekey.line()["attempt"] == "replayed"


async def test_forwarded_refusal_counts_from_its_head(log: AccessLog, path: Path) -> None:
    """Sidekey fetched no newer token."""
    source = GatedGrantSource(available=True)
    sidekey = TimedPlane(log, path, sources={"h": source})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    await sidekey.advance(1)
    upstream.feed(REFUSED)
    await sidekey.advance(2)
    source.go.set()
    await settle()
    assert sidekey.line()["status"] == 401
    assert sidekey.waits() == (2.0, None, 1.0, 3.0)


async def test_retry_is_logged_and_counts_its_connection(log: AccessLog, path: Path) -> None:
    """The reused connection was closed."""
    dialer = ScriptedDialer()
    sidekey = TimedPlane(log, path, sources={"h": GatedGrantSource(available=True)}, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    os.truncate(path, 0)
    dialer.go.clear()
    caller.feed(get())
    upstream.finish()
    await sidekey.advance(2)
    dialer.go.set()
    await sidekey.advance(1)
    (await sidekey.upstream(1)).feed(OK)
    assert sidekey.waits() == (None, 2.0, 1.0, 3.0)
    assert sidekey.line()["attempt"] == "retried"


@pytest.mark.parametrize("phase", ["grant", "connect"])
async def test_failed_wait_is_logged(phase: str, log: AccessLog, path: Path) -> None:
    """It explains why a request took five seconds to fail."""
    source, dialer = GatedGrantSource(available=phase == "connect"), ScriptedDialer()
    source.error = dialer.error = ProblemError(UNREACHABLE)
    dialer.go.clear()
    sidekey = TimedPlane(log, path, sources={"h": source}, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(get())
    await sidekey.advance(5)
    source.go.set()
    dialer.go.set()
    await settle()
    line = sidekey.line()
    assert (line["status"], line["reason"], line["error"]) == (502, UNREACHABLE.detail, "connection_refused")
    assert {key: line[key] for key in ("grant", "connect", "first_byte")} == {
        **dict.fromkeys(("grant", "connect", "first_byte")),
        phase: 5.0,
    }
    assert counted(sidekey) == (int(phase == "grant"), int(phase == "connect"), 0)


async def test_refused_or_abandoned_request_has_no_waits(log: AccessLog, path: Path) -> None:
    sidekey = TimedPlane(log, path, sources={"h": GatedGrantSource(available=True)})
    caller = sidekey.caller()
    caller.feed(denied())
    assert sidekey.waits() == (None, None, None, 0.0)
    os.truncate(path, 0)
    caller.feed(get())
    await sidekey.upstream()
    await sidekey.advance(3)
    caller.fail(ConnectionResetError())
    await settle()
    assert sidekey.waits() == (None, None, None, 3.0)
    assert sum(sidekey.metrics.first_bytes.buckets) == 0


async def test_truncated_response_has_a_head_time(log: AccessLog, path: Path) -> None:
    sidekey = TimedPlane(log, path, sources={"h": GatedGrantSource(available=True)})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    await sidekey.advance(3)
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    await sidekey.advance(1)
    upstream.finish()
    await settle()
    line = sidekey.line()
    assert sidekey.waits() == (None, None, 3.0, 4.0)
    assert (line["status"], line["code"], line["error"]) == (200, "upstream_protocol_error", "http_response_incomplete")
    assert line["reason"] == "the upstream closed the connection in the middle of its response"
