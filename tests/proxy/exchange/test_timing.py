"""What an exchange waited for, as its line and the histogram have it."""

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
from support.scripted import Awaited, Scripted, ScriptedDialer, settle
from support.upstream import OK

WATCHED = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
NEWER = Grant(headers=(("Authorization", "Bearer newer"),))
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
UNREACHABLE = Problem("upstream_unreachable", "the upstream refused the connection")


class Timed(Scripted):
    """A plane whose clock stands still but for `wait`, and what its access log said."""

    def __init__(self, log: AccessLog, path: Path, **options: Any) -> None:
        super().__init__(integration("h", base_url(1), traits=WATCHED), access=log, **options)
        self.now = 1000.0
        self.plane.worker.clock = lambda: self.now
        self._path = path

    async def wait(self, seconds: float) -> None:
        """Let everything happen that needs no time, then let time pass."""
        await settle()
        self.now += seconds

    def line(self) -> dict[str, Any]:
        """The only line."""
        (line,) = map(json.loads, self._path.read_text().splitlines())
        return line

    def waits(self) -> tuple[float | None, ...]:
        """What was waited for, and how long it took in all."""
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


def counted(sidekey: Timed) -> tuple[int, int, int]:
    """How many waits were counted of each kind; the sums are those of the line."""

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
    """A token, a connection, an upload, the response's head, and its rest."""
    source, dialer = Awaited(), ScriptedDialer()
    dialer.go.clear()
    sidekey = Timed(log, path, sources={"h": source}, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(request("POST", body=b"four")[:-2])
    await sidekey.wait(1)
    source.go.set()
    await sidekey.wait(2)
    dialer.go.set()
    await sidekey.wait(4)
    caller.feed(b"ur")
    await sidekey.wait(8)
    upstream = await sidekey.upstream()
    upstream.feed(OK[:-1])
    await sidekey.wait(16)
    upstream.feed(OK[-1:])
    assert sidekey.waits() == (1.0, 2.0, 8.0, 31.0)
    assert counted(sidekey) == (1, 1, 1)


async def test_what_finds_everything_there_waits_for_the_response_alone(log: AccessLog, path: Path) -> None:
    """Whether the response comes in one read or in two."""
    sidekey = Timed(log, path, sources={"h": Awaited(there=True)})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    await sidekey.wait(1)
    upstream.feed(OK)
    for pieces, first_byte in (((OK,), 3.0), ((OK[:-1], OK[-1:]), 3.0)):
        os.truncate(path, 0)
        caller.feed(get())
        await sidekey.wait(3)
        for piece in pieces:
            upstream.feed(piece)
            await sidekey.wait(1)
        assert [sidekey.line()[key] for key in ("grant", "connect", "first_byte")] == [None, None, first_byte]
    assert sum(sidekey.metrics.first_bytes.buckets) == 3
    assert sidekey.metrics.first_bytes.seconds == 1 + 3 + 3
    assert sum(sidekey.metrics.connections.buckets) == sum(sidekey.metrics.grants.buckets) == 0


async def test_a_response_before_the_requests_end_is_timed_from_what_was_written(log: AccessLog, path: Path) -> None:
    sidekey = Timed(log, path, sources={"h": Awaited(there=True)})
    caller = sidekey.caller()
    caller.feed(request("POST", body=b"four")[:-2])
    await sidekey.wait(5)
    (await sidekey.upstream()).feed(OK)
    assert sidekey.waits() == (None, None, 5.0, 5.0)


async def test_a_replay_waits_for_a_newer_token_and_for_its_own_response(log: AccessLog, path: Path) -> None:
    """The response that was refused counts no more; both connections do."""
    source, dialer = Awaited(there=True), ScriptedDialer()
    source.refreshed = NEWER
    sidekey = Timed(log, path, sources={"h": source}, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    await sidekey.wait(1)
    upstream.feed(REFUSED)
    await sidekey.wait(2)
    dialer.go.clear()
    source.go.set()
    await sidekey.wait(4)
    dialer.go.set()
    await sidekey.wait(8)
    (await sidekey.upstream(1)).feed(OK)
    assert sidekey.waits() == (2.0, 4.0, 8.0, 15.0)
    assert sidekey.line()["attempt"] == "replayed"


async def test_a_refused_response_that_goes_on_after_all_was_there_all_the_time(log: AccessLog, path: Path) -> None:
    """Since there is no newer token: the head had come before it was asked for."""
    source = Awaited(there=True)
    sidekey = Timed(log, path, sources={"h": source})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    await sidekey.wait(1)
    upstream.feed(REFUSED)
    await sidekey.wait(2)
    source.go.set()
    await settle()
    assert sidekey.line()["status"] == 401
    assert sidekey.waits() == (2.0, None, 1.0, 3.0)


async def test_a_retry_is_said_and_waits_for_its_connection(log: AccessLog, path: Path) -> None:
    """The kept connection had closed."""
    dialer = ScriptedDialer()
    sidekey = Timed(log, path, sources={"h": Awaited(there=True)}, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    os.truncate(path, 0)
    dialer.go.clear()
    caller.feed(get())
    upstream.finish()
    await sidekey.wait(2)
    dialer.go.set()
    await sidekey.wait(1)
    (await sidekey.upstream(1)).feed(OK)
    assert sidekey.waits() == (None, 2.0, 1.0, 3.0)
    assert sidekey.line()["attempt"] == "retried"


@pytest.mark.parametrize("phase", ["grant", "connect"])
async def test_what_was_waited_for_in_vain_is_told_as_well(phase: str, log: AccessLog, path: Path) -> None:
    """Why a request took five seconds to fail."""
    source, dialer = Awaited(there=phase == "connect"), ScriptedDialer()
    source.error = dialer.error = ProblemError(UNREACHABLE)
    dialer.go.clear()
    sidekey = Timed(log, path, sources={"h": source}, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(get())
    await sidekey.wait(5)
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


async def test_a_request_that_is_refused_or_left_has_waited_for_nothing(log: AccessLog, path: Path) -> None:
    """Nothing was written, or no response came."""
    sidekey = Timed(log, path, sources={"h": Awaited(there=True)})
    caller = sidekey.caller()
    caller.feed(denied())
    assert sidekey.waits() == (None, None, None, 0.0)
    os.truncate(path, 0)
    caller.feed(get())
    await sidekey.upstream()
    await sidekey.wait(3)
    caller.lose(ConnectionResetError())
    await settle()
    assert sidekey.waits() == (None, None, None, 3.0)
    assert sum(sidekey.metrics.first_bytes.buckets) == 0


async def test_the_head_of_a_cut_response_had_come(log: AccessLog, path: Path) -> None:
    sidekey = Timed(log, path, sources={"h": Awaited(there=True)})
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    await sidekey.wait(3)
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    await sidekey.wait(1)
    upstream.finish()
    await settle()
    line = sidekey.line()
    assert sidekey.waits() == (None, None, 3.0, 4.0)
    assert (line["status"], line["code"], line["error"]) == (200, "upstream_protocol_error", "http_response_incomplete")
    assert line["reason"] == "the upstream closed the connection in the middle of its response"
