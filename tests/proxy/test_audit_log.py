"""What `log.audit` writes of requests: one line for each that was sent with a credential, and none of any other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from sidekey.diagnostics.probe import probe
from sidekey.snapshot import snapshot
from support.plane import base_url, get, integration, running
from support.presets import post, preset
from support.upstream import RawUpstream, answering
from tools.log_page import USE_FIELDS


def uses_in(log: Path) -> list[dict[str, Any]]:
    """The lines, all of which are of uses."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["event"] for line in lines} <= {"credential used"}
    return lines


async def test_a_request_that_was_sent_with_a_credential_is_a_line(tmp_path: Path) -> None:
    """Who, by which integration, where to and with which result; also where the access log says nothing of it."""
    log = tmp_path / "log"
    tokens = {"secret-of-web": frozenset({"h"})}
    async with RawUpstream() as upstream:
        used = integration("h", base_url(upstream.port))
        async with running(used, tokens=tokens, log=log, access="off", audit="uses") as sidekey:
            answer = await sidekey.ask(get("/a", "Sidekey-Token: secret-of-web"))
            assert answer.status == 200
    (line,) = uses_in(log)
    assert list(line) == [key for key, _ in USE_FIELDS]
    (request_id,) = answer.values(b"sidekey-request-id")
    assert line["request_id"] == request_id.decode()
    assert (line["level"], line["by"], line["integration"], line["preset"]) == ("info", "caller", "h", None)
    assert (line["method"], line["host"], line["port"]) == ("GET", "up.test", upstream.port)
    assert (line["caller"], line["status"], line["code"]) == ("caller0", 200, None)
    assert line["peer"]
    assert "secret" not in log.read_text()


async def test_a_request_that_took_no_credential_with_it_is_none(tmp_path: Path) -> None:
    """It was nobody could be reached, or it passes: whatever else becomes of it."""
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        used = integration("h", base_url(upstream.port))
        gone = integration("gone", base_url(9))
        async with running(used, gone, log=log, access="off", audit="uses", passing=True) as sidekey:
            assert (await sidekey.ask(get("/../x"))).status == 400
            assert (await sidekey.ask(get("/x", name="other"))).status == 403
            assert (await sidekey.ask(get("/x", name="gone"))).status == 502
            url = f"http://other.test:{upstream.port}/x"
            passed = f"GET {url} HTTP/1.1\r\nHost: other.test\r\n\r\n".encode()
            await sidekey.ask(passed)
            assert uses_in(log) == []


async def test_an_upstream_that_fails_may_have_it_all_the_same(tmp_path: Path) -> None:
    """So that is a use, with what the caller got."""
    log = tmp_path / "log"
    async with RawUpstream(answering(b"nonsense\r\n\r\n")) as upstream:
        used = integration("h", base_url(upstream.port))
        async with running(used, log=log, access="all", audit="off") as sidekey:
            sidekey.plane.worker.audit.prepare(USES)()
            sidekey.plane.worker.access.prepare(USES)()
            assert (await sidekey.ask(get("/a"))).status == 502
    (line,) = uses_in(log)
    assert (line["status"], line["code"]) == (502, "upstream_protocol_error")


async def test_a_caller_that_resets_its_connection_is_not_taken_for_the_operator(tmp_path: Path) -> None:
    """Its socket may know no address of it any more, even before its request is read."""
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        used = integration("h", base_url(upstream.port))
        async with running(used, log=log, access="off", audit="uses") as sidekey:
            # The connection to the upstream is kept, so that what comes next is sent in the turn in which it is read.
            await sidekey.ask(get("/a"))
            reset = asyncio.Event()

            class Unknown(asyncio.Transport):
                """One whose socket knows nothing of its peer any more."""

                def get_extra_info(self, name: str, default: Any = None) -> Any:
                    return default

                def write(self, data: bytes | bytearray | memoryview) -> None:
                    reset.set()

                def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
                    return

                def is_closing(self) -> bool:
                    return False

            connection = sidekey.plane.connection()
            connection.connection_made(Unknown())
            connection.data_received(get("/a"))
            await reset.wait()
            connection.connection_lost(None)
    _, line = uses_in(log)
    assert (line["by"], line["peer"]) == ("caller", "unknown")


async def test_a_preset_and_an_operators_test_are_uses_too(tmp_path: Path) -> None:
    """By whom they are: nobody has connected for a request that Sidekey itself makes."""
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        used = integration("h", base_url(upstream.port))
        hook = preset(url=base_url(upstream.port, "/api/hook"))
        async with running(used, presets=[hook], log=log, access="off", audit="uses") as sidekey:
            assert (await sidekey.ask(post(b"{}"))).status == 200
            assert (await probe(sidekey.plane, "h", snapshot.TestRequest("GET", "/test"))).ok
    sent, tested = uses_in(log)
    assert (sent["by"], sent["preset"], sent["method"]) == ("caller", "hook", "POST")
    assert (tested["by"], tested["peer"], tested["caller"], tested["preset"]) == ("operator", None, None, None)


USES = snapshot.Snapshot({}, log=snapshot.Log(access="off", audit="uses"))
