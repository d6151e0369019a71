"""Processes on one store with an OAuth server that revokes everything if a refresh token comes twice."""

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
from support.child import DEADLINE, Child, run_process
from support.files import replace
from support.http_get import Answer, get, within
from support.oidc import SECRET, OidcProvider
from support.postgres import Postgres
from support.private_ca import Authority

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
    """One process of several that have the same store and, each in a file of its own, the same integration."""

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
        self.child: Child

    def start(self) -> None:
        """Start it, also again."""
        self.child = Child(self._text, self._folder, head=HEAD).__enter__()

    def edit(self) -> None:
        """Change a field that has nothing to do with the token, and wait until it is in use."""
        seen = len(self.child.lines)
        self._text = self._text.replace("description: first", "description: second")
        text = self.child.config.read_text().replace("description: first", "description: second")
        self.child.rewrite(text)
        self.child.process.send_signal(signal.SIGHUP)
        within(lambda: any('"config reloaded"' in line for line in self.child.lines[seen:]))

    def enter(self, name: str, token: str) -> None:
        """Write a refresh token into its file."""
        replace(self._folder / name, token)

    def ask(self, name: str = "it") -> Answer:
        """A request, with whatever is the token."""
        return get(self.child.proxy_port, f"/i/{name}/api/orders", CALLER)

    def is_told(self, reason: str, name: str = "it") -> bool:
        """Whether a request has no token, for this reason."""
        answer = self.ask(name)
        return answer.status == 502 and reason in json.loads(answer.body)["detail"]


class World:
    """The OAuth server, and gateways that are started with a first refresh token."""

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

    def at_once(self, do: Callable[[Gateway], T]) -> list[T]:
        """What comes of doing it with all of them at once."""
        with ThreadPoolExecutor(len(self.gateways)) as pool:
            return list(pool.map(do, self.gateways))

    def hold(self, gateways: Sequence[Gateway], name: str, pool: ThreadPoolExecutor) -> list[Future[Answer]]:
        """Keep back the response to a call that one of these makes. The requests that wait for it, or did not need to.

        They are sent until there is a call: a token may just have been renewed, and one that is not used is not again.
        """
        asked: list[Future[Answer]] = []

        def held() -> bool:
            if self.client.post("/hold").json()["held"]:
                return True
            if all(each.done() for each in asked):
                asked[:] = [pool.submit(gateway.ask, name) for gateway in gateways]
            return False

        within(held)
        return asked

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.child.__exit__(None, None, None)
        self.client.close()

    def families(self) -> dict[str, int]:
        found: dict[str, int] = self.client.get("/families").json()
        return found

    def renew(self, times: int) -> None:
        """Send requests by all until their tokens were renewed so often; each of them is answered 200."""
        until = self.families()["renewed"] + times
        while self.families()["renewed"] < until:
            answers = self.at_once(Gateway.ask)
            assert [answer.status for answer in answers] == [200] * len(answers), answers
            time.sleep(PAUSE)


@pytest.fixture(scope="module")
def provider(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    """Its tokens live a second."""
    with OidcProvider(tmp_path_factory.mktemp("provider"), ca.leaf("127.0.0.1"), lifetime=1) as running:
        yield running


def live(world: World, times: int) -> None:
    """Renewals by all, a command beside them, an edit, restarts in good order and by SIGKILL.

    No refresh token comes twice.
    """
    first = world.gateways[0]
    world.renew(times)
    tested = run_process("test", "it", "--config", str(first.child.config))
    assert tested.returncode == 0, tested
    world.at_once(Gateway.edit)
    world.renew(2)
    assert first.child.stop() == 0
    first.start()
    world.renew(2)
    assert world.at_once(lambda gateway: gateway.child.stop()) == [0] * len(world.gateways)
    end_in_a_call(world)
    world.at_once(Gateway.start)
    # Nothing is under way in a process that was not asked for anything.
    first.child.stop(signal.SIGKILL)
    first.start()
    world.renew(2)
    assert world.families()["revoked"] == 0


def end_in_a_call(world: World) -> None:
    """A process that ends in good order stores what its call brings, although no request waits for it."""
    gateway = world.gateways[0]
    gateway.start()
    assert gateway.ask().status == 200
    with ThreadPoolExecutor(1) as pool:
        (used,) = world.hold([gateway], "it", pool)
        gateway.child.process.send_signal(signal.SIGTERM)
        within(lambda: _is_refused(gateway))
        world.client.post("/release")
        assert gateway.child.wait() == 0
        assert used.result().status == 200


def _is_refused(gateway: Gateway) -> bool:
    """Whether it accepts no connection any more; a request would wait for the call that is kept back."""
    try:
        socket.create_connection(("127.0.0.1", gateway.child.proxy_port), DEADLINE).close()
    except ConnectionError:
        return True
    return False


def cut(world: World, postgres: Postgres) -> None:
    """The database ends while a call is under way. Nothing is presented while it is away; once it is back, all goes on.

    With what that call has brought: it is stored as soon as it can be.
    """
    with ThreadPoolExecutor(len(world.gateways)) as pool:
        asked = world.hold(world.gateways, "it", pool)
        postgres.stop()
        world.client.post("/release")
        # Those that did not wait had a token still.
        assert {each.result().status for each in asked} <= {200, 502}
    renewed = world.families()["renewed"]
    world.at_once(lambda gateway: within(lambda: gateway.is_told(AWAY)))
    assert world.families() == {"renewed": renewed, "revoked": 0}
    postgres.start()
    world.at_once(lambda gateway: within(lambda: gateway.ask().status == 200))
    world.renew(2)
    assert world.families()["revoked"] == 0


def lose(world: World) -> None:
    """The response is kept back, and whoever waits for it is killed: its token may be spent, and is."""
    first = world.gateways[0]
    with ThreadPoolExecutor(1) as pool:
        (lost,) = world.hold([first], "lost", pool)
        first.child.stop(signal.SIGKILL)
        with pytest.raises(ConnectionError):
            lost.result()
    world.client.post("/release")
    first.start()


def miss(world: World) -> None:
    """Once the turn of whoever was killed has run out, no one presents what was lost, until another is entered."""
    world.at_once(lambda gateway: within(lambda: gateway.is_told(SPENT_REASON, "lost")))
    assert world.families()["revoked"] == 0
    world.enter("lost")
    for gateway in world.gateways:
        gateway.child.process.send_signal(signal.SIGHUP)
    world.at_once(lambda gateway: within(lambda: gateway.ask("lost").status == 200))
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
            world.at_once(Gateway.start)
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
    """Fewer refreshes, without a kill."""
    (tmp_path / "db").mkdir()
    world = World(tmp_path, ca, provider, f"path: {tmp_path}/db/store.db", 2)
    try:
        world.at_once(Gateway.start)
        live(world, 4)
        assert world.families()["revoked"] == 0
    finally:
        world.close()
