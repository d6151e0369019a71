"""Authlib's server refuses what is wrong: were it lax, integration tests would pass with a wrong request."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx
import pytest

from support import oauth
from support.authlib_server import SECRET, AuthlibServer
from support.ca import Authority

GRANT = {"grant_type": "client_credentials"}
POST = {"client_id": "post", "client_secret": SECRET}
HEADER = {"Authorization": oauth.basic("basic", SECRET)}


@pytest.fixture
async def server(ca: Authority) -> AsyncIterator[AuthlibServer]:
    """It runs."""
    async with AuthlibServer(ca) as server:
        yield server


@pytest.fixture
async def client(server: AuthlibServer, ca: Authority) -> AsyncIterator[httpx.AsyncClient]:
    """It trusts the session's CA."""
    base = server.token_endpoint.removesuffix("/token")
    async with httpx.AsyncClient(base_url=base, verify=ca.client_context(), trust_env=False) as client:
        yield client


def by_jwt(assertion: str) -> dict[str, str]:
    """A form's fields for private_key_jwt."""
    return {"client_assertion_type": oauth.ASSERTION_TYPE, "client_assertion": assertion}


async def opens(client: httpx.AsyncClient, answer: httpx.Response) -> bool:
    """Whether the API takes the token of a response."""
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    return (await client.get("/api/x", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"client_id": "basic", "client_secret": SECRET}, {}),
        ({}, {"Authorization": oauth.basic("post", SECRET)}),
        ({}, {"Authorization": oauth.basic("jwt", SECRET)}),
        ({}, {"Authorization": oauth.basic("basic", "wrong")}),
        ({}, {"Authorization": oauth.basic("unknown", SECRET)}),
        ({"client_id": "post", "client_secret": "wrong"}, {}),
        ({}, {}),
    ],
)
async def test_the_wrong_method_is_as_bad_as_a_wrong_secret(
    client: httpx.AsyncClient, fields: dict[str, str], headers: dict[str, str]
) -> None:
    """401 invalid_client."""
    answer = await client.post("/token", data=GRANT | fields, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_a_jwt_is_used_once_and_checked(server: AuthlibServer, client: httpx.AsyncClient) -> None:
    """A second use, another key, another audience, one that is over, one without a jti."""
    signer, audience = oauth.signer(), server.token_endpoint
    once = signer.assertion("jwt", audience)
    assert await opens(client, await client.post("/token", data=GRANT | by_jwt(once)))
    wrong = [
        once,
        oauth.stranger().assertion("jwt", audience),
        signer.assertion("jwt", "https://other.example.com/token"),
        signer.assertion("jwt", audience, exp=int(time.time()) - 600),
        signer.assertion("jwt", audience, jti=None),
    ]
    answers = [await client.post("/token", data=GRANT | by_jwt(assertion)) for assertion in wrong]
    assert [answer.json()["error"] for answer in answers] == ["invalid_client"] * 5
    assert len(server.tokens.issued) == 1


async def test_a_refresh_token_that_rotates_is_used_once(server: AuthlibServer, client: httpx.AsyncClient) -> None:
    """The response holds the next one (RFC 6749 6)."""
    fields = {"grant_type": "refresh_token", "refresh_token": server.refresh_token(rotates=True)}
    first = await client.post("/token", data=fields, headers=HEADER)
    again = await client.post("/token", data=fields, headers=HEADER)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    fields["refresh_token"] = first.json()["refresh_token"]
    assert await opens(client, await client.post("/token", data=fields, headers=HEADER))


async def test_a_signed_grant_gets_a_token_without_client_authentication(
    server: AuthlibServer, client: httpx.AsyncClient
) -> None:
    """RFC 7523 2.1; with another key or audience it is an invalid grant."""
    audience = server.token_endpoint

    async def ask(assertion: str) -> httpx.Response:
        return await client.post("/token", data={"grant_type": oauth.JWT_BEARER, "assertion": assertion})

    assert await opens(client, await ask(oauth.signer().assertion("jwt", audience)))
    assert await opens(client, await ask(oauth.signer().assertion("jwt", audience, sub=None)))
    for wrong in (
        oauth.stranger().assertion("jwt", audience),
        oauth.signer().assertion("jwt", "https://other.example.com"),
        oauth.signer().assertion("unknown", audience),
    ):
        answer = await ask(wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
