"""A reload uses either the previous or the new config completely, even if a part fails."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidekey.app import App
from sidekey.observe.writer import LineWriter
from sidekey.publish import Commit, CommitError, PublishedPart
from sidekey.snapshot.snapshot import Address, Listen, Snapshot
from support.certificate_files import mount
from support.certificates import issue
from support.files import replace
from support.plane import eventually, problem
from support.private_ca import Authority
from support.raw_connection import connect
from support.serving import RunningApp, serving
from support.upstream import RawUpstream
from support.wire import Message

PARTS = 12
NOT_RELOADED = "the config was not reloaded because of a defect in Sidekey; the previous one stays in use"
IN_PART = "the config was reloaded only in part because of a defect in Sidekey: restart it"
RELOADED = "config reloaded"
LOADED = "sidekey_config_last_reload_successful"
LIMIT = "sidekey_in_flight_limit"
HOSTS = {"up.test": ["127.0.0.1"]}
ERROR = ZeroDivisionError("not-to-be-seen")


@dataclass(slots=True)
class Failing:
    """A part that fails while it prepares or when it commits."""

    commits: bool = False

    def prepare(self, snapshot: Snapshot) -> Commit:
        del snapshot
        if not self.commits:
            raise ERROR

        def commit() -> None:
            raise ERROR

        return commit


def integration(port: int, word: str, host: str = "up.test", name: str = "it") -> str:
    """Build an integration whose credential and path contain this word."""
    auth = f"type: headers, headers: {{X-Key: {{secret: {{insecure_value: {word}}}}}}}"
    return f"  {name}: {{endpoint_prefix: 'http://{host}:{port}/{word}', auth: {{{auth}}}}}\n"


def write(folder: Path, head: str, integrations: str) -> None:
    """Replace the config, as editors do."""
    replace(folder / "sidekey.yaml", head + integrations)


def global_settings(folder: Path) -> str:
    """Return the config above the integrations."""
    head, key, _ = (folder / "sidekey.yaml").read_text().partition("integrations:\n")
    return head + key


async def received_request(sidekey: RunningApp, upstream: RawUpstream) -> Message:
    """Send a request to `it`, and return the request that the upstream receives."""
    assert (await sidekey.reverse("/x")).status == 200
    return upstream.requests[-1]


async def uses(sidekey: RunningApp, upstream: RawUpstream, word: str) -> bool:
    """Return True if a request to `it` has both the path and the credential of this config."""
    request = await received_request(sidekey, upstream)
    return (request.target, request.values(b"x-key")) == (f"/{word}/x".encode(), [word.encode()])


async def readiness(sidekey: RunningApp) -> int:
    """Return the status of /readyz."""
    async with connect(sidekey.app.admin_address.port) as asking:
        await asking.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await asking.response()).status


@pytest.mark.parametrize("index", range(PARTS + 1))
async def test_failed_prepare_keeps_the_previous_config(index: int, ca: Authority, tmp_path: Path) -> None:
    """The failing part may have any position. The next change is loaded."""
    async with (
        RawUpstream() as upstream,
        serving(integration(upstream.port, "old"), tmp_path, ca, hosts=HOSTS) as sidekey,
    ):
        parts = sidekey.app.publisher.parts
        assert len(parts) == PARTS
        assert await uses(sidekey, upstream, "old")
        snapshot, limit = sidekey.app.snapshot, await sidekey.metric(LIMIT)
        parts.insert(index, Failing())
        head = global_settings(tmp_path)
        changed = head.replace("level: debug, access: all", "level: error, access: off")
        changed = changed.replace("integrations:", "limits: {in_flight: 5}\nvia: false\nintegrations:")
        changed = changed.replace("up.test", "new.test")
        more = integration(upstream.port, "more", "new.test", name="more")
        write(tmp_path, changed, integration(upstream.port, "new", "new.test") + more)
        line = await sidekey.logged(NOT_RELOADED)
        (defect,) = [entry for entry in sidekey.lines() if entry["event"] == "defect"]
        assert (line["defect"], defect["error"]) == (defect["id"], ["ZeroDivisionError"])
        assert await sidekey.metric(LOADED) == 0
        assert await readiness(sidekey) == 200
        assert sidekey.app.snapshot is snapshot
        assert await uses(sidekey, upstream, "old")
        assert upstream.requests[-1].values(b"via") != []
        assert len(upstream.connections) == 1
        assert problem(await sidekey.reverse("/x", name="more"))["code"] == "integration_denied"
        assert await sidekey.metric(LIMIT) == limit
        assert await sidekey.metric('sidekey_integration_info{integration="more",kind="headers"}') == 0
        await eventually(lambda: len([entry for entry in sidekey.lines() if entry["event"] == "request"]) == 3)
        del parts[index]
        write(tmp_path, head, integration(upstream.port, "newer"))
        reloaded = await sidekey.logged(RELOADED)
        assert (reloaded["changed"], reloaded["removed"]) == (1, 0)
        assert await uses(sidekey, upstream, "newer")
        assert await sidekey.metric(LOADED) == 1
        assert "not-to-be-seen" not in sidekey.log.read_text()


@pytest.mark.parametrize("index", [0, PARTS // 2, PARTS])
async def test_failed_commit_does_not_prevent_the_other_parts_from_using_the_new_config(
    index: int, ca: Authority, tmp_path: Path
) -> None:
    async with (
        RawUpstream() as upstream,
        serving(integration(upstream.port, "old"), tmp_path, ca, hosts=HOSTS) as sidekey,
    ):
        assert await uses(sidekey, upstream, "old")
        sidekey.app.publisher.parts.insert(index, Failing(commits=True))
        write(tmp_path, global_settings(tmp_path), integration(upstream.port, "new"))
        await sidekey.logged(IN_PART)
        assert (await sidekey.logged("defect"))["error"] == ["ZeroDivisionError"]
        assert await sidekey.metric(LOADED) == 0
        assert await readiness(sidekey) == 200
        assert await uses(sidekey, upstream, "new")
        assert RELOADED not in {line["event"] for line in sidekey.lines()}


@pytest.mark.parametrize(("commits", "raised"), [(False, ZeroDivisionError), (True, CommitError)])
async def test_failed_publish_at_the_start_opens_no_listener(
    commits: bool, raised: type[Exception], tmp_path: Path
) -> None:
    proxy, admin = (Address(path=str(tmp_path / name)) for name in ("proxy.sock", "admin.sock"))
    writer = LineWriter(os.open(os.devnull, os.O_WRONLY))
    app = App(Snapshot(integrations={}, listen=Listen(proxy=proxy, admin=admin)), writer)
    app.publisher.parts.append(Failing(commits))
    with pytest.raises(raised):
        await app.start()
    writer.close()
    assert list(tmp_path.iterdir()) == []
    assert not app.metrics.config_loaded


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_lower_limit_does_not_cut_an_upload_in_flight(framing: str, ca: Authority, tmp_path: Path) -> None:
    """The next upload of this size is too large."""
    half = bytes(range(256)) * 40
    chunked = framing == "chunked"
    field = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {2 * len(half)}"
    head = f"POST /i/it/x HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n".encode()
    part = b"%x\r\n%b\r\n" % (len(half), half) if chunked else half
    end = b"0\r\n\r\n" if chunked else b""
    async with (
        RawUpstream() as upstream,
        serving(integration(upstream.port, "old"), tmp_path, ca, hosts=HOSTS) as sidekey,
        connect(sidekey.port) as caller,
    ):
        await caller.send(head + part)
        await (await upstream.connection()).until_received(len(half))
        tighter = "limits: {request_body: 10KiB}\ntimeouts: {response: 300ms, idle: 300ms}"
        write(tmp_path, re.sub("timeouts: .*", tighter, global_settings(tmp_path)), integration(upstream.port, "new"))
        await sidekey.logged(RELOADED)
        await caller.send(part + end)
        assert (await caller.response()).status == 200
        (request,) = upstream.requests
        assert (request.target, request.values(b"x-key"), request.body) == (b"/old/x", [b"old"], 2 * half)
        await caller.send(head + part + part + end)
        refused = await caller.response()
        assert (refused.status, problem(refused)["code"]) == (413, "request_too_large")


def keep_order(parts: list[PublishedPart[Snapshot]]) -> None:
    """Keep the order of `App`."""
    del parts


def reverse_order(parts: list[PublishedPart[Snapshot]]) -> None:
    """Reverse the order."""
    parts.reverse()


def shuffle(seed: int) -> Callable[[list[PublishedPart[Snapshot]]], None]:
    """Return a function that shuffles the parts, always the same for a seed."""
    return random.Random(seed).shuffle


EXPIRES = "the client certificate expires soon"
BANK = (
    "  {name}: {{endpoint_prefix: 'https://{host}', auth: {{type: mtls, certificate: {{file: tls.crt}},"
    " private_key: {{file: tls.key}}, allow_private_ca: true}}}}\n"
)


def uncovered(port: int) -> bytes:
    """Send a request through the forward proxy to a host that no integration covers."""
    return b"GET http://127.0.0.1:%d/y HTTP/1.1\r\nHost: ignored\r\n\r\n" % port


async def denied(sidekey: RunningApp, name: str) -> bool:
    """Return True if this integration is unknown."""
    return bool(problem(await sidekey.reverse("/x", name=name))["code"] == "integration_denied")


@pytest.mark.parametrize("arrange", [keep_order, reverse_order, *map(shuffle, range(6))])
async def test_order_of_the_parts_does_not_matter(
    arrange: Callable[[list[PublishedPart[Snapshot]]], None], ca: Authority, tmp_path: Path
) -> None:
    """All settings change at once, and back."""
    mount(tmp_path, issue(start=datetime.now(UTC) - timedelta(days=1), life=timedelta(days=6)))
    async with RawUpstream() as upstream, RawUpstream() as other:
        old_integrations = integration(upstream.port, "old") + integration(upstream.port, "gone", name="gone")
        old_integrations += BANK.format(name="bank", host="bank.test") + BANK.format(name="previous", host="bank.test")
        after = integration(other.port, "new", "new.test") + integration(other.port, "more", "new.test", name="more")
        after += BANK.format(name="bank", host="other.test") + BANK.format(name="another", host="bank.test")
        async with serving(old_integrations, tmp_path, ca, hosts=HOSTS) as sidekey:
            metrics = sidekey.app.metrics
            arrange(sidekey.app.publisher.parts)
            limit = await sidekey.metric(LIMIT)

            async def check_first_config() -> None:
                assert await uses(sidekey, upstream, "old")
                assert upstream.requests[-1].values(b"via") != []
                assert (await sidekey.reverse("/x", name="gone")).status == 200
                assert (await sidekey.reverse("/x", method="POST", body=bytes(20_000))).status == 200
                assert await denied(sidekey, "more")
                assert problem(await sidekey.send(uncovered(upstream.port)))["code"] == "integration_required"
                assert await sidekey.metric(LIMIT) == limit
                assert set(metrics.expiries) == {("bank", "certificate"), ("previous", "certificate")}
                assert set(metrics.reload_failures) == set(metrics.expiries)
                assert set(metrics.integrations) == {"it", "gone", "bank", "previous"}

            await check_first_config()
            head = global_settings(tmp_path)
            changed = head.replace("level: debug, access: all", "level: error, access: errors")
            changed = changed.replace("up.test", "new.test").replace(
                "integrations:",
                "limits: {in_flight: 5, request_body: 10KiB}\nvia: false\nforward: {unmatched: pass}\nintegrations:",
            )
            first = upstream.connections[0]
            write(tmp_path, changed, after)
            await eventually(lambda: "more" in sidekey.app.snapshot.integrations)
            await first.until_ended()
            assert await uses(sidekey, other, "new")
            assert other.requests[-1].values(b"via") == []
            assert (await sidekey.reverse("/x", name="more")).status == 200
            assert await denied(sidekey, "gone")
            too_large = await sidekey.reverse("/x", method="POST", body=bytes(20_000))
            assert problem(too_large)["code"] == "request_too_large"
            assert (await sidekey.send(uncovered(upstream.port))).status == 200
            assert upstream.requests[-1].values(b"x-key") == []
            assert await sidekey.metric(LIMIT) == 5
            assert set(metrics.expiries) == {("bank", "certificate"), ("another", "certificate")}
            assert set(metrics.reload_failures) == set(metrics.expiries)
            assert set(metrics.integrations) == {"it", "more", "bank", "another"}
            assert await sidekey.metric('sidekey_requests_total{integration="gone",outcome="2xx"}') == 0

            write(tmp_path, head, old_integrations)
            await sidekey.logged(RELOADED)
            await check_first_config()
            lines = sidekey.lines()
    # While the parts commit, the previous log level applies: first debug, then error.
    warned = [line["integration"] for line in lines if line["event"] == EXPIRES]
    assert sorted(warned) == ["another", "bank", "bank", "previous"]
    assert [line["event"] for line in lines].count(RELOADED) == 1
