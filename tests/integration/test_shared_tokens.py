"""Processes with one store, and an OAuth server that revokes all tokens when a refresh token is used twice."""

from __future__ import annotations

import json
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from sidekey.tokens.shared import SPENT_REASON
from support.files import replace
from support.http_get import HttpResponse, get, wait_until
from support.oidc import SECRET, OidcProvider
from support.postgres import Postgres
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.sidekey_process import SidekeyProcess, run_process

T = TypeVar("T")
CALLER = {"Sidekey-Token": "caller"}
INTEGRATIONS = ("it", "lost")
"""Each has a refresh token of its own; that of the second is lost in a call."""
PAUSE = 0.1
"""Seconds between two rounds of requests, of which several are in each token's life: for the machine's sake."""

AWAY = "no token is asked for: the store cannot be used: "
HEAD = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
"""


class Gateway:
    """One of several processes with one store and equal integrations in separate files."""

    def __init__(self, folder: Path, ca: Authority, place: str, endpoint: str) -> None:
        folder.mkdir()
        (folder / "secret").write_text(SECRET)
        self._folder = folder
        self._text = f"""\
network: {{allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {ca.bundle}}}}}
store: {{{place}, keys: [{{id: k1, key: {{file: {folder.parent}/key}}}}]}}
callers: {{all: {{token: {{insecure_value: caller}}, integrations: "*"}}}}
integrations:
"""
        for name in INTEGRATIONS:
            self._text += f"""\
  {name}:
    description: first
    auth: {{type: oauth2, token_endpoint: '{endpoint}', client_id: basic, client_secret: {{file: secret}},
           grant: {{type: refresh_token, refresh_token: {{file: {name}}}}}}}
    test: {{path: /api/orders}}
"""
        self.child: SidekeyProcess

    def start(self) -> None:
        """Start the process, or start it again."""
        self.child = SidekeyProcess(self._text, self._folder, head=HEAD).__enter__()

    def edit(self) -> None:
        """Change a field that does not affect the token, and wait until it is in use."""
        seen = len(self.child.lines)
        self._text = self._text.replace("description: first", "description: second")
        text = self.child.config.read_text().replace("description: first", "description: second")
        self.child.rewrite(text)
        self.child.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any('"config reloaded"' in line for line in self.child.lines[seen:]))

    def enter(self, name: str, token: str) -> None:
        """Write a new refresh token into the files of all gateways."""
        replace(self._folder / name, token)

    def send(self, name: str = "it") -> HttpResponse:
        """Send a request with the current token."""
        return get(self.child.proxy_port, f"/i/{name}/api/orders", CALLER)

    def is_refused_with(self, reason: str, name: str = "it") -> bool:
        """Return True if a request gets no token, for this reason."""
        response = self.send(name)
        return response.status == 502 and reason in json.loads(response.body)["detail"]


class World:
    """The OAuth server, and gateways with a first refresh token."""

    def __init__(self, folder: Path, ca: Authority, provider: OidcProvider, place: str, count: int) -> None:
        self.client = httpx.Client(base_url=provider.issuer, verify=ca.client_context(), trust_env=False)
        (folder / "key").write_text(b64encode(bytes(range(32))).decode())
        self.gateways = [Gateway(folder / f"g{n}", ca, place, provider.token_endpoint) for n in range(count)]
        for name in INTEGRATIONS:
            self.enter(name)

    def enter(self, name: str) -> None:
        """Write a new refresh token into the files of all."""
        token = self.client.post("/families").json()["refresh_token"]
        for gateway in self.gateways:
            gateway.enter(name, token)

    def run_concurrently(self, do: Callable[[Gateway], T]) -> list[T]:
        """Run this with all gateways concurrently, and return the results."""
        with ThreadPoolExecutor(len(self.gateways)) as pool:
            return list(pool.map(do, self.gateways))

    def hold(self, gateways: Sequence[Gateway], name: str, pool: ThreadPoolExecutor) -> list[Future[HttpResponse]]:
        """Delay the response to the next call. Return the requests of all gateways, some of which wait for it.

        Sends requests until there is a call: an unused fresh token is not renewed.
        """
        calls: list[Future[HttpResponse]] = []

        def held() -> bool:
            if self.client.post("/hold").json()["held"]:
                return True
            if all(item.done() for item in calls):
                calls[:] = [pool.submit(gateway.send, name) for gateway in gateways]
            return False

        wait_until(held)
        return calls

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.child.__exit__(None, None, None)
        self.client.close()

    def families(self) -> dict[str, int]:
        result: dict[str, int] = self.client.get("/families").json()
        return result

    def renew(self, times: int) -> None:
        """Send requests with all gateways until this many renewals. Each request must return 200."""
        until = self.families()["renewed"] + times
        while self.families()["renewed"] < until:
            responses = self.run_concurrently(Gateway.send)
            assert [response.status for response in responses] == [200] * len(responses), responses
            time.sleep(PAUSE)


@pytest.fixture(scope="module")
def provider(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    """Run the OAuth server with tokens of one second."""
    with OidcProvider(tmp_path_factory.mktemp("provider"), ca.leaf("127.0.0.1"), lifetime=1) as running:
        yield running


def live(world: World, times: int) -> None:
    """Renew tokens in all processes, with a concurrent command, an edit, graceful restarts and SIGKILL.

    No refresh token is used twice.
    """
    first = world.gateways[0]
    world.renew(times)
    tested = run_process("test", "it", "--config", str(first.child.config))
    assert tested.returncode == 0, tested
    world.run_concurrently(Gateway.edit)
    world.renew(2)
    assert first.child.stop() == 0
    first.start()
    world.renew(2)
    assert world.run_concurrently(lambda gateway: gateway.child.stop()) == [0] * len(world.gateways)
    end_in_a_call(world)
    world.run_concurrently(Gateway.start)
    # A process without requests makes no token calls.
    first.child.stop(signal.SIGKILL)
    first.start()
    world.renew(2)
    assert world.families()["revoked"] == 0


def end_in_a_call(world: World) -> None:
    """A process that shuts down stores the result of its call, although no request waits for it."""
    gateway = world.gateways[0]
    gateway.start()
    assert gateway.send().status == 200
    with ThreadPoolExecutor(1) as pool:
        (used,) = world.hold([gateway], "it", pool)
        gateway.child.process.send_signal(signal.SIGTERM)
        wait_until(lambda: _is_refused(gateway))
        world.client.post("/release")
        assert gateway.child.wait() == 0
        assert used.result().status == 200


def _is_refused(gateway: Gateway) -> bool:
    """Return True if the process accepts no connection: a request would wait for the delayed call."""
    try:
        socket.create_connection(("127.0.0.1", gateway.child.proxy_port), DEADLINE).close()
    except ConnectionError:
        return True
    return False


def cut(world: World, postgres: Postgres) -> None:
    """Stop the database during a call. No refresh token is used until it is back, and then renewals continue.

    The process stores the result of that call as soon as it can.
    """
    with ThreadPoolExecutor(len(world.gateways)) as pool:
        calls = world.hold(world.gateways, "it", pool)
        postgres.stop()
        world.client.post("/release")
        # Those that did not wait had a token still.
        assert {item.result().status for item in calls} <= {200, 502}
    renewed = world.families()["renewed"]
    world.run_concurrently(lambda gateway: wait_until(lambda: gateway.is_refused_with(AWAY)))
    assert world.families() == {"renewed": renewed, "revoked": 0}
    postgres.start()
    world.run_concurrently(lambda gateway: wait_until(lambda: gateway.send().status == 200))
    world.renew(2)
    assert world.families()["revoked"] == 0


def lose(world: World) -> None:
    """Delay the response, and kill the process that waits for it: its refresh token is used."""
    first = world.gateways[0]
    with ThreadPoolExecutor(1) as pool:
        (lost,) = world.hold([first], "lost", pool)
        first.child.stop(signal.SIGKILL)
        with pytest.raises(ConnectionError):
            lost.result()
    world.client.post("/release")
    first.start()


def miss(world: World) -> None:
    """After the lease of the killed process, no process uses the lost token. The operator enters a new one."""
    world.run_concurrently(lambda gateway: wait_until(lambda: gateway.is_refused_with(SPENT_REASON, "lost")))
    assert world.families()["revoked"] == 0
    world.enter("lost")
    for gateway in world.gateways:
        gateway.child.process.send_signal(signal.SIGHUP)
    world.run_concurrently(lambda gateway: wait_until(lambda: gateway.send("lost").status == 200))
    assert world.families()["revoked"] == 0


def test_three_processes_on_one_postgresql_never_repeat_a_refresh_token(
    ca: Authority, provider: OidcProvider, tmp_path: Path
) -> None:
    """More than twenty refreshes during the lease of a process that was killed in a call."""
    with Postgres() as postgres:
        (tmp_path / "url").write_text(postgres.url())
        world = World(tmp_path, ca, provider, f"url: {{file: {tmp_path}/url}}", 3)
        try:
            before = world.families()["renewed"]
            world.run_concurrently(Gateway.start)
            lose(world)
            live(world, 12)
            cut(world, postgres)
            miss(world)
            assert world.families()["renewed"] >= before + 20
        finally:
            world.close()


def test_two_processes_on_one_sqlite_file_never_repeat_a_refresh_token(
    ca: Authority, provider: OidcProvider, tmp_path: Path
) -> None:
    """With fewer refreshes, and without SIGKILL."""
    (tmp_path / "db").mkdir()
    world = World(tmp_path, ca, provider, f"path: {tmp_path}/db/store.db", 2)
    try:
        world.run_concurrently(Gateway.start)
        live(world, 4)
        assert world.families()["revoked"] == 0
    finally:
        world.close()
