"""A refusal whose Date is far from our clock is logged: what is signed has a time in it."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from sidekey.dataplane.skew import LOG_EVERY
from support.memory import Upstream, running
from support.plane import base_url, get, integration
from support.raw import RawConnection
from support.signing import HmacSigner, signing

DATE = "Tue, 24 Nov 2026 12:00:00 GMT"
THERE = 1795521600.0


def script_of(status: int, *dates: str) -> object:
    """An upstream that gives this status, and these dates."""
    lines = [f"HTTP/1.1 {status} No", *(f"Date: {date}" for date in dates), "Content-Length: 0", "", ""]

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            await connection.send("\r\n".join(lines).encode())

    return script


@pytest.mark.parametrize("ahead", [-61, 61, 3600])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_by_another_clock_is_logged_once_in_a_while(status: int, ahead: int) -> None:
    """By how much, and for which integration; nothing of the request."""
    made_by = script_of(status, DATE)
    with capture_logs() as lines:
        async with Upstream(made_by) as upstream:  # type: ignore[arg-type]
            made = signing(HmacSigner(), port=upstream.port)
            async with running(made, wall=lambda: THERE + ahead) as sidekey:
                for _ in range(2):
                    assert (await sidekey.ask(get())).status == status
                assert len(lines) == 1
                sidekey.wait(LOG_EVERY)
                assert (await sidekey.ask(get())).status == status
    first, _ = lines
    assert first.pop("event") == (
        "clock skew: an upstream refused a signed request, and its Date differs from this machine's clock: set the "
        "clock of this machine"
    )
    assert first == {"integration": "h", "status": status, "ahead_s": ahead, "log_level": "warning"}


@pytest.mark.parametrize(
    ("status", "dates", "signed"),
    [
        (401, ("Tue, 24 Nov 2026 12:00:30 GMT",), True),
        (401, (), True),
        (401, ("then",), True),
        (401, (DATE, DATE), True),
        (400, (DATE,), True),
        (200, (DATE,), True),
        (401, (DATE,), False),
    ],
)
async def test_nothing_is_logged_of_other_responses(status: int, dates: tuple[str, ...], signed: bool) -> None:
    """Of one whose clock is about ours, or is not told, that refuses nothing, or to what is not signed."""
    with capture_logs() as lines:
        async with Upstream(script_of(status, *dates)) as upstream:  # type: ignore[arg-type]
            plain = integration("h", base_url(upstream.port))
            made = signing(HmacSigner(), port=upstream.port) if signed else plain
            ours = THERE + (61 if dates != ("Tue, 24 Nov 2026 12:00:30 GMT",) else 89)
            async with running(made, wall=lambda: ours) as sidekey:
                assert (await sidekey.ask(get())).status == status
    assert lines == []
