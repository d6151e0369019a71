"""`log.audit`: one line for each request that Sidekey sent with a credential, and no other line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from sidekey.diagnostics.probe import probe
from sidekey.snapshot import snapshot
from support.plane import base_url, get, integration, running
from support.presets import post, preset
from support.upstream import RawUpstream, respond_with
from tools.log_page import USE_FIELDS


def uses_in(log: Path) -> list[dict[str, Any]]:
    """Parse the lines, which must all be uses."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["event"] for line in lines} <= {"credential used"}
    return lines


async def test_request_with_a_credential_is_logged(tmp_path: Path) -> None:
    """Caller, integration, target and result. Also without access log."""
    log = tmp_path / "log"
    tokens = {"secret-of-web": frozenset({"h"})}
    async with RawUpstream() as upstream:
        used = integration("h", base_url(upstream.port))
        async with running(used, tokens=tokens, log=log, access="off", audit="uses") as sidekey:
            response = await sidekey.send(get("/a", "Sidekey-Token: secret-of-web"))
            assert response.status == 200
    (line,) = uses_in(log)
    assert list(line) == [key for key, _ in USE_FIELDS]
    (request_id,) = response.values(b"sidekey-request-id")
    assert line["request_id"] == request_id.decode()
    assert (line["level"], line["by"], line["integration"], line["preset"]) == ("info", "caller", "h", None)
    assert (line["method"], line["host"], line["port"]) == ("GET", "up.test", upstream.port)
    assert (line["caller"], line["status"], line["code"]) == ("caller0", 200, None)
    assert line["peer"]
    assert "secret" not in log.read_text()


async def test_request_without_a_credential_is_not_logged(tmp_path: Path) -> None:
    """The upstream was unreachable, or the target passes."""
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        used = integration("h", base_url(upstream.port))
        gone = integration("gone", base_url(9))
        async with running(used, gone, log=log, access="off", audit="uses", passing=True) as sidekey:
            assert (await sidekey.send(get("/../x"))).status == 400
            assert (await sidekey.send(get("/x", name="other"))).status == 403
            assert (await sidekey.send(get("/x", name="gone"))).status == 502
            url = f"http://other.test:{upstream.port}/x"
            passed = f"GET {url} HTTP/1.1\r\nHost: other.test\r\n\r\n".encode()
            await sidekey.send(passed)
            assert uses_in(log) == []


async def test_failed_request_is_logged(tmp_path: Path) -> None:
    """The upstream may have the credential. The line has the status for the caller."""
    log = tmp_path / "log"
    async with RawUpstream(respond_with(b"nonsense\r\n\r\n")) as upstream:
        used = integration("h", base_url(upstream.port))
        async with running(used, log=log, access="all", audit="off") as sidekey:
            sidekey.plane.worker.audit.prepare(USES)()
            sidekey.plane.worker.access.prepare(USES)()
            assert (await sidekey.send(get("/a"))).status == 502
    (line,) = uses_in(log)
    assert (line["status"], line["code"]) == (502, "upstream_protocol_error")


async def test_caller_that_resets_is_not_logged_as_operator(tmp_path: Path) -> None:
    """Its socket may have lost the peer address."""
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        used = integration("h", base_url(upstream.port))
        async with running(used, log=log, access="off", audit="uses") as sidekey:
            # The connection to the upstream is kept, so that what comes next is sent in the turn in which it is read.
            await sidekey.send(get("/a"))
            reset = asyncio.Event()

            class Unknown(asyncio.Transport):
                """A transport whose socket has lost the peer address."""

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


async def test_presets_and_operators_tests_are_logged(tmp_path: Path) -> None:
    """With the operator, and without a peer."""
    log = tmp_path / "log"
    async with RawUpstream() as upstream:
        used = integration("h", base_url(upstream.port))
        hook = preset(url=base_url(upstream.port, "/api/hook"))
        async with running(used, presets=[hook], log=log, access="off", audit="uses") as sidekey:
            assert (await sidekey.send(post(b"{}"))).status == 200
            assert (await probe(sidekey.plane, "h", snapshot.TestRequest("GET", "/test"))).ok
    sent, tested = uses_in(log)
    assert (sent["by"], sent["preset"], sent["method"]) == ("caller", "hook", "POST")
    assert (tested["by"], tested["peer"], tested["caller"], tested["preset"]) == ("operator", None, None, None)


USES = snapshot.Snapshot({}, log=snapshot.Log(access="off", audit="uses"))
