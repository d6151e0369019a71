"""Outcomes of test requests: the upstream's status, and Sidekey's own codes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

import sidekey.diagnostics.probe
from sidekey.diagnostics.probe import REAL_REQUEST_NOTE, probe, probe_preset
from sidekey.observe.metrics import UNKNOWN
from sidekey.snapshot.request_rules import Limits
from sidekey.snapshot.snapshot import TestRequest as Request
from support.plane import CREDENTIAL, base_url, integration, running
from support.presets import preset
from support.raw_connection import DEADLINE, RawConnection
from support.upstream import OK, RawUpstream, respond_with

ONE = {"a": {"type": "text"}}


async def silent(connection: RawConnection) -> None:
    """Read a request and never respond."""
    await connection.request()


ECHO = b"HTTP/1.1 %d canary-phrase\r\nX-Canary: canary\r\nContent-Length: 6\r\n\r\ncanary"


@pytest.mark.parametrize("pieces", [1, 20])
async def test_endless_response_body_is_not_awaited(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream pauses, or has more than 16 MiB."""
    monkeypatch.setattr(sidekey.diagnostics.probe, "_BODY_SECONDS", 0.1 if pieces == 1 else DEADLINE)

    async def stream(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):
            for _ in range(pieces):
                await connection.send(b"100000\r\n%s\r\n" % bytes(1 << 20))

    async with (
        RawUpstream(stream) as upstream,
        running(integration("h", base_url(upstream.port))) as plane,
    ):
        assert (await probe(plane.plane, "h", Request())).ok


async def test_interim_response_is_not_the_outcome() -> None:
    """RFC 9110 15.2."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ECHO % 200
    async with (
        RawUpstream(respond_with(hints)) as upstream,
        running(integration("h", base_url(upstream.port))) as plane,
    ):
        assert (await probe(plane.plane, "h", Request())).status == 200


async def test_head_may_have_the_configured_size() -> None:
    """A single line may have the whole size."""
    response = b"HTTP/1.1 200 OK\r\nX-Long: %s\r\nContent-Length: 0\r\n\r\n" % (b"x" * 200_000)
    async with (
        RawUpstream(respond_with(response)) as upstream,
        running(integration("h", base_url(upstream.port)), limits=Limits(response_head=256 << 10)) as plane,
    ):
        assert (await probe(plane.plane, "h", Request())).ok


async def test_waiting_tests_block_no_thread() -> None:
    """Scrapes and certificates need the threads."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with (
        RawUpstream(silent) as upstream,
        running(integration("h", base_url(upstream.port))) as plane,
    ):
        waiting = [asyncio.create_task(probe(plane.plane, "h", Request())) for _ in range(3)]
        await upstream.connection(2)
        async with asyncio.timeout(DEADLINE):
            assert await asyncio.to_thread(lambda: "free") == "free"
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_draft_replaces_the_preset_with_its_id() -> None:
    async with RawUpstream(respond_with(OK)) as upstream:
        url = base_url(upstream.port)
        served, draft = preset(url=url, content_type="text/x"), preset(url=f"{url}/before", content_type="text/x")
        async with running(integration("h", url), presets=[served]) as plane:
            assert (await probe_preset(plane.plane, draft, b"payload", draft=True)).ok
        (request,) = upstream.requests
    assert request.target == b"/api/before"


async def test_draft_without_a_response_has_no_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome has no code either, because the upstream has the request."""
    monkeypatch.setattr(sidekey.diagnostics.probe, "_HEAD_SECONDS", 0.2)
    async with RawUpstream(silent) as upstream:
        draft = preset(url=base_url(upstream.port), content_type="text/x")
        async with running(integration("h", base_url(upstream.port))) as plane:
            outcome = await probe_preset(plane.plane, draft, b"payload", draft=True)
    assert (outcome.status, outcome.code, outcome.maybe_sent) == (0, None, True)
    assert outcome.reason == "no response within 0.2 seconds"


@pytest.mark.parametrize(
    ("field", "seconds"), [(b"7", 7), (b"1.5", None), (b"86400", 3600), (b"Wed, 21 Oct 2026 07:28:30 GMT", 30)]
)
async def test_outcome_has_request_id_and_retry_after(field: bytes, seconds: int | None) -> None:
    response = b"HTTP/1.1 429 X\r\nDate: Wed, 21 Oct 2026 07:28:00 GMT\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n"
    async with (
        RawUpstream(respond_with(response % field)) as upstream,
        running(integration("h", base_url(upstream.port))) as plane,
    ):
        outcome = await probe(plane.plane, "h", Request())
    assert outcome.retry_after == seconds
    assert outcome.request_id


@pytest.mark.parametrize(("status", "ok"), [(200, True), (202, True), (204, True), (302, False), (404, False)])
async def test_every_2xx_is_success_for_a_preset(status: int, ok: bool) -> None:
    """A note tells the operator that it was a real request."""
    response = ECHO % status if status != 204 else b"HTTP/1.1 204 canary\r\n\r\n"
    async with RawUpstream(respond_with(response)) as upstream:
        used = preset(url=base_url(upstream.port), content_type="text/x")
        async with running(integration("h", base_url(upstream.port)), presets=[used]) as plane:
            outcome = await probe_preset(plane.plane, used, b"payload")
            assert plane.metrics.presets == {"hook": {f"{status // 100}xx": 1}}
        (request,) = upstream.requests
    assert (outcome.status, outcome.ok, outcome.note) == (status, ok, REAL_REQUEST_NOTE)
    assert (request.body, request.values(b"content-type")) == (b"payload", [b"text/x"])


async def test_draft_leaves_no_metric_series() -> None:
    async with RawUpstream(respond_with(OK, OK)) as upstream:
        url = base_url(upstream.port)
        served, draft = (
            preset(url=url, content_type="text/x"),
            preset(UNKNOWN, url, parameters=ONE, body={"json": "<{{a}}>"}),
        )
        async with running(integration("h", url), presets=[served]) as plane:
            outcome = await probe_preset(plane.plane, draft, b'{"a": "b"}', draft=True)
            assert plane.metrics.presets == {UNKNOWN: {"2xx": 1}}
            refused = await probe_preset(plane.plane, draft, b"{}", draft=True)
            assert (await probe_preset(plane.plane, draft, b"{}")).code == "preset_denied"
        (request,) = upstream.requests
    assert (outcome.ok, outcome.request, outcome.note) == (True, "POST /p/draft", REAL_REQUEST_NOTE)
    assert (request.target, request.body) == (b"/api", b'"<b>"')
    assert request.values(b"authorization") == [CREDENTIAL]
    assert (refused.code, refused.note, "/a: is required" in refused.reason) == ("parameters_invalid", None, True)


async def test_draft_is_checked_like_a_saved_preset() -> None:
    async with running(integration("h", base_url(1)), presets=[]) as plane:
        for draft, code in (
            (preset(UNKNOWN, base_url(1, "/other"), content_type="text/x"), "target_denied"),
            (preset(UNKNOWN, base_url(1), content_type="text/x", integration="gone"), "preset_denied"),
        ):
            outcome = await probe_preset(plane.plane, draft, b"", draft=True)
            assert (outcome.code, outcome.note) == (code, None)
