"""Limits of tunnels, and reports of tunnels that failed."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
import structlog

from sidekey.proxy.tunnel.registry import LOG_EVERY, Tunnels
from sidekey.snapshot.request_rules import Limits
from support.leaves import IssuedLeaves
from support.plane import UPSTREAM, eventually, integration, problem, running
from support.private_ca import Authority
from support.scripted import ScriptedPlane
from support.tunnels import TlsCaller, connect_request, tunnel

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


@VERSIONS
async def test_caller_that_does_not_trust_the_ca_is_logged_with_the_remedy(
    ca: Authority, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """By its alert, with ID and host, each time in the access log."""
    with structlog.testing.capture_logs() as lines:
        await distrust(ca, version, tmp_path / "log")
    message = "a caller does not trust the local CA: have it trust bundle.pem of ca.trust_folder, and restart it"
    (line,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert [item.pop("request_id") for item in lines] == [line["request_id"]]
    expected = {
        "level": "warning",
        "method": "CONNECT",
        "status": 200,
        "integration": "h",
        "host": "up.test",
        "reason": message,
    }
    assert expected.items() <= line.items()
    assert lines == [{"event": message, "integration": "h", "host": "up.test", "log_level": "warning"}]


async def distrust(ca: Authority, version: ssl.TLSVersion, log: Path) -> None:
    """Open a tunnel as a caller that trusts only public CAs."""
    served = integration("h", "https://up.test/api")
    async with running(served, leaves=IssuedLeaves(ca), log=log, access="errors") as sidekey:
        async with sidekey.connect() as raw:
            await raw.send(connect_request("up.test:443"))
            await raw.response(to_head=True)
            context = ssl.create_default_context()
            context.maximum_version = context.minimum_version = version
            caller = TlsCaller(raw, context, UPSTREAM)
            with pytest.raises(ssl.SSLCertVerificationError):
                await caller.handshake()
            await caller._flush()
        await eventually(lambda: sidekey.metrics.tunnel_outcomes == {("h", "ca_untrusted"): 1})


async def test_tunnels_are_limited(ca: Authority, tmp_path: Path) -> None:
    """They count from the CONNECT to their end. A normal end is not logged as an error."""
    served, log = integration("h", "https://up.test/api"), tmp_path / "log"
    async with running(served, leaves=IssuedLeaves(ca), limits=Limits(tunnels=1), log=log, access="errors") as sidekey:
        async with tunnel(sidekey, ca, "up.test:443"):
            refused = await sidekey.send(connect_request("up.test:443"))
            assert (refused.status, problem(refused)["detail"]) == (503, "limits.tunnels is reached")
        await eventually(lambda: sidekey.metrics.tunnels["terminated"] == 0)
        async with tunnel(sidekey, ca, "up.test:443"):
            pass
    assert [json.loads(line)["code"] for line in log.read_text().splitlines()] == ["overloaded"]


async def test_no_caller_has_more_than_half_of_the_tunnels(ca: Authority) -> None:
    async with (
        running(
            integration("h", "https://up.test/api"),
            leaves=IssuedLeaves(ca),
            limits=Limits(tunnels=3),
            tokens={"one": None, "two": None},
        ) as sidekey,
        tunnel(sidekey, ca, "up.test:443", user="h:one"),
    ):
        assert (await sidekey.send(connect_request("up.test:443", user="h:one"))).status == 503
        async with tunnel(sidekey, ca, "up.test:443", user="h:two"):
            pass


async def test_fixable_outcome_is_logged_once_a_minute(ca: Authority) -> None:
    """With host, ID and remedy."""
    with structlog.testing.capture_logs() as lines:
        async with running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca)) as sidekey:
            for number in (1, 2, 3):
                with pytest.raises(ssl.SSLError):
                    async with tunnel(sidekey, ca, "up.test:443", server_name="evil.test"):
                        pass
                await eventually(lambda number=number: sidekey.metrics.tunnel_outcomes == {("h", "sni"): number})
                if number == 2:
                    sidekey.advance(LOG_EVERY + 1)
    message = "a caller's TLS handshake names another host than its CONNECT"
    assert [line.pop("request_id")[8:] for line in lines] == ["-1", "-3"]
    assert lines == [{"event": message, "integration": "h", "host": "up.test", "log_level": "warning"}] * 2


async def test_each_fixable_outcome_is_logged_once_per_integration() -> None:
    """Once in `LOG_EVERY` seconds. Other outcomes are only counted."""
    sidekey = ScriptedPlane()
    tunnels = Tunnels(sidekey.plane.worker)
    with structlog.testing.capture_logs() as lines:
        for name in ("h", "k", "h"):
            for outcome in ("ca_untrusted", "sni", "tls_failed", "opened"):
                tunnels.record(name, "up.test", outcome, "w-1")
    message = (
        "a caller does not trust the local CA: have it trust bundle.pem of ca.trust_folder, and restart it",
        "a caller's TLS handshake names another host than its CONNECT",
        "TLS with a caller failed in a tunnel: Sidekey speaks TLS 1.2 or newer",
    )
    assert lines == [
        {"event": item, "request_id": "w-1", "integration": name, "host": "up.test", "log_level": "warning"}
        for name in ("h", "k")
        for item in message
    ]
    assert sidekey.metrics.tunnel_outcomes["h", "ca_untrusted"] == 2
    assert sidekey.metrics.tunnel_outcomes["h", "opened"] == 2


async def test_tunnel_over_a_limit_gets_retry_after() -> None:
    """Over the limit of all callers or of one. A closed tunnel makes room."""
    worker = ScriptedPlane(limits=Limits(tunnels=4), tokens={"a": None, "b": None}).plane.worker
    assert [worker.enter_tunnel(caller, worker.rules) for caller in ("a", "a", "b", "b")] == [None] * 4
    full = worker.enter_tunnel("c", worker.rules)
    assert full is not None
    assert (full.code, full.detail, full.headers) == (
        "overloaded",
        "limits.tunnels is reached",
        (("Retry-After", "1"),),
    )
    worker.leave_tunnel("b")
    own = worker.enter_tunnel("a", worker.rules)
    assert own is not None
    assert (own.code, own.headers) == ("overloaded", (("Retry-After", "1"),))
    assert own.detail == "the caller has half of limits.tunnels, which is the most that one may have"
    worker.leave_tunnel("a")
    assert worker.enter_tunnel("a", worker.rules) is None
    assert worker.tunnel_count == 3
