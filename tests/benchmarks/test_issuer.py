"""The token endpoint and its upstream, as a process."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import pytest

from benchmarks import wire
from benchmarks.issuer import HOST, SECRET, Issuer, issuing
from benchmarks.tokens import Client
from support.peers import require
from support.raw import DEADLINE


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    """One process for all tests; each has a client of its own."""
    require("taskset")
    clients = {
        "plain": Client(3600),
        "past": Client(0),
        "refused": Client(3600, refused=True),
        "held": Client(3600, held=True),
        "unasked": Client(3600),
    }
    with issuing(tmp_path_factory.mktemp("issuer") / "own", min(os.sched_getaffinity(0)), clients) as found:
        yield found


def ask(issuer: Issuer, client: str, secret: str = SECRET) -> tuple[str, dict[str, Any]]:
    """A token request over verified https: status and response."""
    context = ssl.create_default_context(cafile=str(issuer.endpoint.ca))
    body = urlencode({"grant_type": "client_credentials", "client_id": client, "client_secret": secret}).encode()
    with (
        socket.create_connection(("127.0.0.1", issuer.endpoint.port)) as raw,
        context.wrap_socket(raw, server_hostname=HOST) as connection,
    ):
        connection.sendall(wire.request("POST", "/token", body))
        head, body = wire.receive_head(connection)
        while len(body) < head.length:
            body += connection.recv(4096)
    return head.start[1], json.loads(body)


def call(issuer: Issuer, authorization: str) -> int:
    """A request to the upstream."""
    connection = HTTPConnection("127.0.0.1", issuer.upstream.port, timeout=DEADLINE)
    try:
        connection.request("POST", "/api/x/hook", b"{}", {"Authorization": authorization})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("client", "status", "good", "expired"),
    [
        pytest.param("plain", 200, 1, 0, id="valid"),
        pytest.param("past", 401, 0, 1, id="expired"),
        pytest.param("refused", 401, 1, 0, id="refused"),
    ],
)
def test_a_token_that_was_issued_is_checked_at_the_upstream(
    issuer: Issuer, client: str, status: int, good: int, expired: int
) -> None:
    """The token call and the request are both counted, and the connection of the call."""
    before = issuer.counts()
    token_status, response = ask(issuer, client)
    assert (token_status, response["token_type"]) == ("200", "Bearer")
    assert call(issuer, f"Bearer {response['access_token']}") == status
    after = issuer.counts()
    assert (after.calls - before.calls, after.connections - before.connections) == (1, 1)
    account = issuer.counts().accounts[client]
    assert (len(account.calls), account.good, account.expired) == (1, good, expired)


@pytest.mark.parametrize(("client", "secret"), [("stranger", SECRET), ("unasked", "guessed")])
def test_a_client_that_does_not_prove_itself_gets_no_token(issuer: Issuer, client: str, secret: str) -> None:
    """RFC 6749 5.2; its request is not counted."""
    assert ask(issuer, client, secret) == ("401", {"error": "invalid_client"})
    assert issuer.counts().accounts["unasked"].calls == []


def test_a_request_without_a_token_is_a_bad_request(issuer: Issuer) -> None:
    """A proxy passes 400 on, which fails the round."""
    assert call(issuer, "Basic YTpi") == 400


def test_a_held_client_gets_its_token_after_its_release(issuer: Issuer) -> None:
    """Until then its requests are counted, and wait."""
    statuses: list[str] = []
    waiting = threading.Thread(target=lambda: statuses.append(ask(issuer, "held")[0]))
    waiting.start()
    while not issuer.counts().accounts["held"].calls:
        assert not statuses
    issuer.release("held")
    waiting.join()
    assert statuses == [ask(issuer, "held")[0]] == ["200"]
