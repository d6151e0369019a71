"""Processes on one store with an OAuth server that revokes everything when a refresh token comes twice."""

from __future__ import annotations

import json
import signal
import socket
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from sidekey.sources.tokens.sharing import SPENT
from support.ask import Answer, get, within
from support.ca import Authority
from support.child import DEADLINE, Child
from support.oidc import SECRET, OidcProvider
from support.postgres import Postgres

CALLER = {"Sidekey-Token": "caller"}
HEAD = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
"""


class Gateway:
    """One process of several that have the same store and, each in a file of its own, the same integration."""

    def __init__(self, folder: Path, ca: Authority, place: str, endpoint: str) -> None:
        folder.mkdir()
        (folder / "secret").write_text(SECRET)
        self.token = folder / "token"
        self._folder = folder
        self._text = f"""\
network: {{allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {ca.bundle}}}}}
store: {{{place}, keys: [{{id: k1, key: {{file: {folder.parent}/key}}}}]}}
callers: {{all: {{token: {{insecure_value: caller}}, integrations: "*"}}}}
integrations:
  it:
    description: first
    auth: {{type: oauth2, token_endpoint: '{endpoint}', client_id: basic, client_secret: {{file: secret}},
           grant: refresh_token, refresh_token: {{file: token}}}}
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

    def ask(self) -> Answer:
        """A request, with whatever is the token."""
        return get(self.child.proxy_port, "/i/it/api/orders", CALLER)


class World:
    """The OAuth server, and gateways that are started with a first refresh token."""

    def __init__(self, folder: Path, ca: Authority, provider: OidcProvider, place: str, count: int) -> None:
        self.client = httpx.Client(base_url=provider.issuer, verify=ca.client_context(), trust_env=False)
        (folder / "key").write_text(b64encode(bytes(range(32))).decode())
        self.gateways = [Gateway(folder / f"g{n}", ca, place, provider.token_endpoint) for n in range(count)]
        self.enter()

    def enter(self) -> None:
        """Write a new refresh token into the files of all."""
        token = self.client.post("/families").json()["refresh_token"]
        for gateway in self.gateways:
            gateway.token.write_text(token)

    def start(self) -> None:
        """Start all of them at once."""
        with ThreadPoolExecutor(len(self.gateways)) as pool:
            list(pool.map(Gateway.start, self.gateways))

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
        with ThreadPoolExecutor(len(self.gateways)) as pool:
            while self.families()["renewed"] < until:
                answers = list(pool.map(Gateway.ask, self.gateways))
                assert [answer.status for answer in answers] == [200] * len(answers), answers


@pytest.fixture
def provider(ca: Authority, tmp_path: Path) -> Iterator[OidcProvider]:
    """Its tokens live a second."""
    with OidcProvider(tmp_path, ca.leaf("127.0.0.1"), lifetime=1) as running:
        yield running


def live(world: World, times: int) -> None:
    """Renewals by all, an edit, restarts in good order and by SIGKILL: no refresh token comes twice."""
    first = world.gateways[0]
    world.start()
    world.renew(times)
    for gateway in world.gateways:
        gateway.edit()
    world.renew(2)
    assert first.child.stop() == 0
    first.start()
    world.renew(2)
    # Nothing is under way in a process that was not asked for anything.
    with ThreadPoolExecutor(len(world.gateways)) as pool:
        list(pool.map(lambda gateway: gateway.child.stop(), world.gateways))
    end_in_a_call(world)
    world.start()
    first.child.stop(signal.SIGKILL)
    first.start()
    world.renew(2)
    assert world.families()["revoked"] == 0


def end_in_a_call(world: World) -> None:
    """A process that ends in good order stores what its call brings, although no request waits for it."""
    gateway = world.gateways[0]
    gateway.start()
    assert gateway.ask().status == 200
    world.client.post("/hold")
    with ThreadPoolExecutor(1) as pool:
        # A token that is used is renewed before its end; the one of the first request may have been renewed by now.
        used = pool.submit(gateway.ask)
        within(lambda: world.client.post("/hold").json()["held"])
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
    """While the database is away nothing is presented; once it is back, all goes on."""
    postgres.stop()
    renewed = world.families()["renewed"]
    for gateway in world.gateways:
        within(lambda gateway=gateway: gateway.ask().status == 502)
        assert json.loads(gateway.ask().body)["detail"].startswith("the store cannot be used, so no token is asked for")
    assert world.families() == {"renewed": renewed, "revoked": 0}
    postgres.start()
    for gateway in world.gateways:
        within(lambda gateway=gateway: gateway.ask().status == 200)
    world.renew(2)
    assert world.families()["revoked"] == 0


def lose(world: World) -> None:
    """The response is kept back, and whoever waits for it is killed: its token may be spent, and is."""
    first, *others = world.gateways
    for gateway in others:
        assert gateway.child.stop() == 0
    world.client.post("/hold")
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(_until_lost, first)
        within(lambda: world.client.post("/hold").json()["held"])
        first.child.stop(signal.SIGKILL)
        lost.result()
    world.client.post("/release")
    renewed = world.families()["renewed"]
    world.start()
    for gateway in world.gateways:
        answer = _without_token(gateway)
        assert json.loads(answer.body)["detail"] == SPENT
    assert world.families() == {"renewed": renewed, "revoked": 0}

    world.enter()
    for gateway in world.gateways:
        gateway.child.process.send_signal(signal.SIGHUP)
        within(lambda gateway=gateway: gateway.ask().status == 200)
    world.renew(2)
    assert world.families()["revoked"] == 0


def _until_lost(gateway: Gateway) -> None:
    """Ask until the connection ends."""
    try:
        while True:
            gateway.ask()
    except (ConnectionError, OSError):
        return


def _without_token(gateway: Gateway) -> Answer:
    """The answer once the last token has ended, and the turn of whoever was killed."""
    found: list[Answer] = []

    def ended() -> bool:
        found.append(gateway.ask())
        return found[-1].status == 502 and json.loads(found[-1].body)["detail"] == SPENT

    within(ended)
    return found[-1]


@pytest.mark.long
def test_three_processes_on_one_postgresql_revoke_no_family(
    ca: Authority, provider: OidcProvider, tmp_path: Path
) -> None:
    """Twenty renewals and more, and one that is lost: it takes the 15 s that a turn may last."""
    with Postgres() as postgres:
        (tmp_path / "url").write_text(postgres.url())
        world = World(tmp_path, ca, provider, f"url: {{file: {tmp_path}/url}}", 3)
        try:
            live(world, 20)
            cut(world, postgres)
            lose(world)
        finally:
            world.close()


@pytest.mark.long
def test_two_processes_on_one_sqlite_file_revoke_no_family(
    ca: Authority, provider: OidcProvider, tmp_path: Path
) -> None:
    """Fewer renewals, and none that is lost."""
    (tmp_path / "db").mkdir()
    world = World(tmp_path, ca, provider, f"path: {tmp_path}/db/store.db", 2)
    try:
        live(world, 4)
    finally:
        world.close()
