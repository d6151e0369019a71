"""Reloads and a rotation of the CA while callers send requests in kept tunnels."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.files import replace
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import connect
from support.serving import HEAD, RunningApp, serving
from support.sidekey_process import run_process
from support.tunnels import TlsCaller, connect_request
from support.upstream import RawUpstream, always_ok

HOST = "up.test"
HOSTS = {HOST: ["127.0.0.1"]}
WITH_CA = HEAD.replace("integrations:\n", "ca: {{folder: state}}\nintegrations:\n")
RELOADS = 100
CALLERS = 4


def integration(port: int, word: str) -> str:
    """Build an integration whose credential identifies its config."""
    auth = f"type: headers, headers: {{X-Key: {{secret: {{insecure_value: '{word}'}}}}}}"
    return f"  it: {{endpoint_prefix: 'https://{HOST}:{port}/api', auth: {{{auth}}}}}\n"


def write(folder: Path, port: int, number: int) -> None:
    """Replace the config by the one with this number."""
    path = folder / "sidekey.yaml"
    head, key, _ = path.read_text().partition("integrations:\n")
    replace(path, head + key + integration(port, str(number)))


def trusting(*pems: str) -> ssl.SSLContext:
    """Build the TLS context of a caller that trusts only these CAs."""
    return ssl.create_default_context(cadata="".join(pems))


@asynccontextmanager
async def tunnel(sidekey: RunningApp, port: int, context: ssl.SSLContext) -> AsyncIterator[TlsCaller]:
    """Open a tunnel to the upstream, and complete the TLS handshake."""
    async with connect(sidekey.port) as raw:
        await raw.send(connect_request(f"{HOST}:{port}", user="it:x"))
        assert (await raw.response(to_head=True)).status == 200
        caller = TlsCaller(raw, context, HOST)
        await caller.handshake()
        yield caller


class Callers:
    """Callers that send requests in kept tunnels until `stop`.

    `loaded` is the number of the last config that is certainly in use, and `written` that of the last config in the
    file. `possible` has the numbers of the configs that a request may have used, by its target.
    """

    def __init__(self) -> None:
        self.loaded = self.written = 0
        self.possible: dict[bytes, range] = {}
        self.rounds = [0] * CALLERS
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, callers: list[TlsCaller], port: int) -> None:
        for number, caller in enumerate(callers):
            self._tasks.append(asyncio.ensure_future(self._send(number, caller, port)))

    async def stop(self) -> None:
        """Stop after the requests in flight. Raises the first error."""
        self._over = True
        await asyncio.gather(*self._tasks)

    async def until_any_response(self) -> None:
        """Wait until a caller has sent a new request and has its response."""
        expected = [count + 2 for count in self.rounds]
        await self._until(lambda: any(now >= then for now, then in zip(self.rounds, expected, strict=True)))

    async def until_all_responses(self) -> None:
        """Wait until each caller has sent a new request and has its response."""
        expected = [count + 2 for count in self.rounds]
        await self._until(lambda: all(now >= then for now, then in zip(self.rounds, expected, strict=True)))

    async def _until(self, condition: Callable[[], bool]) -> None:
        def holds() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return condition()

        await eventually(holds)

    async def _send(self, number: int, caller: TlsCaller, port: int) -> None:
        while not self._over:
            target = f"/api/{number}/{self.rounds[number]}"
            loaded = self.loaded
            await caller.send(f"GET {target} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
            response = await caller.response()
            assert (response.status, response.body) == (200, b"ok"), (target, response)
            self.possible[target.encode()] = range(loaded, self.written + 1)
            self.rounds[number] += 1
            # Limit the load: the callers still have requests in flight at any time.
            await asyncio.sleep(0.002)

    def check(self, upstream: RawUpstream) -> None:
        """Check that the upstream received each request once, with the credential of a possible config."""
        keys = {request.target: [int(value) for value in request.values(b"x-key")] for request in upstream.requests}
        assert len(upstream.requests) == len(keys) == len(self.possible)
        assert [target for target, (key,) in keys.items() if key not in self.possible[target]] == []


@asynccontextmanager
async def callers_in_tunnels(folder: Path, ca: Authority) -> AsyncIterator[tuple[RunningApp, int, Callers, str]]:
    """Run a Sidekey and callers in kept tunnels. Return both, the upstream's port and the trusted CA in PEM."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(RawUpstream(always_ok, ssl_context=ca.server_context(HOST)))
        port, callers = upstream.port, Callers()
        sidekey = await stack.enter_async_context(
            serving(integration(port, "0"), folder, ca, hosts=HOSTS, head=WITH_CA)
        )
        trusted = (folder / "state" / "trust" / "ca.pem").read_text()
        connections = [
            await stack.enter_async_context(tunnel(sidekey, port, trusting(trusted))) for _ in range(CALLERS)
        ]
        callers.start(connections, port)
        yield sidekey, port, callers, trusted
        await callers.until_all_responses()
        await callers.stop()
        callers.check(upstream)
        assert sidekey.app.metrics.tunnels["terminated"] == CALLERS


async def test_reloads_with_kept_tunnels_fail_no_request(ca: Authority, tmp_path: Path) -> None:
    """Each request uses the config at its start."""
    async with callers_in_tunnels(tmp_path, ca) as (sidekey, port, callers, _):
        for number in range(1, RELOADS + 1):
            previous, callers.written = sidekey.app.snapshot.integrations["it"], number
            write(tmp_path, port, number)
            sidekey.hang_up()
            await eventually(lambda previous=previous: sidekey.app.snapshot.integrations["it"] is not previous)
            callers.loaded = number
            await callers.until_any_response()
        assert {count for possible in callers.possible.values() for count in possible} == {*range(RELOADS + 1)}
        # Sidekey logs a config after it is in use, and twice if both the signal and the file watch load it.
        await eventually(lambda: sum(map(has_changes, sidekey.lines())) == RELOADS)


def has_changes(line: dict[str, Any]) -> bool:
    """Return True if this line reports a reload with changes."""
    return line["event"] == "config reloaded" and line["changed"] == 1


async def test_ca_rotation_with_kept_tunnels_fails_no_request(ca: Authority, tmp_path: Path) -> None:
    """Only new handshakes see the new CA."""
    trust = tmp_path / "state" / "trust" / "ca.pem"

    async def rotate(*step: str) -> None:
        result = await asyncio.to_thread(run_process, "ca", "rotate", *step, "--config", str(tmp_path / "sidekey.yaml"))
        assert result.returncode == 0, result.stderr

    async with callers_in_tunnels(tmp_path, ca) as (sidekey, port, callers, old):
        await rotate()
        assert trust.read_text().startswith(old)
        new = trust.read_text().removeprefix(old)
        await callers.until_all_responses()
        async with tunnel(sidekey, port, trusting(old)):
            pass
        await rotate("--activate")
        await sidekey.logged("the local CA that signs certificates has changed")
        await callers.until_all_responses()
        with pytest.raises(ssl.SSLCertVerificationError):
            async with tunnel(sidekey, port, trusting(old)):
                pass
        async with tunnel(sidekey, port, trusting(new)):
            pass
        await rotate("--retire")
        assert trust.read_text() == new
        await callers.until_all_responses()
        async with tunnel(sidekey, port, trusting(new)):
            pass
        await eventually(lambda: sidekey.app.metrics.tunnels["terminated"] == CALLERS)
