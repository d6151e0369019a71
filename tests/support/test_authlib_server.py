"""Authlib's server takes each client by its own method alone, and three grants."""

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
    """Whether the API takes the token of an answer."""
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    return (await client.get("/api/x", headers=headers)).status_code == 200


@pytest.mark.parametrize("method", ["basic", "post", "jwt"])
async def test_each_client_gets_a_token(server: AuthlibServer, client: httpx.AsyncClient, method: str) -> None:
    """By the method that it is registered with."""
    fields = {"basic": {}, "post": POST, "jwt": by_jwt(oauth.signer().assertion("jwt", server.token_endpoint))}[method]
    answer = await client.post("/token", data=GRANT | fields, headers=HEADER if method == "basic" else {})
    assert await opens(client, answer)
    assert (answer.json()["expires_in"], answer.json()["scope"]) == (3600, "orders")
    assert "refresh_token" not in answer.json()
    assert [arrived.path for arrived in server.received] == ["/token", "/api/x"]


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


async def test_a_refresh_token_gets_access_tokens(server: AuthlibServer, client: httpx.AsyncClient) -> None:
    """Again and again, but for its own client only."""
    token = server.refresh_token()
    fields = {"grant_type": "refresh_token", "refresh_token": token}
    for _ in range(2):
        answer = await client.post("/token", data=fields, headers=HEADER)
        assert await opens(client, answer)
        assert "refresh_token" not in answer.json()
    other = await client.post("/token", data=fields | POST)
    unknown = await client.post("/token", data=fields | {"refresh_token": "unknown"}, headers=HEADER)
    assert [answer.json()["error"] for answer in (other, unknown)] == ["invalid_grant"] * 2


async def test_a_refresh_token_that_rotates_is_used_once(server: AuthlibServer, client: httpx.AsyncClient) -> None:
    """The answer holds the next one (RFC 6749 6)."""
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


@pytest.mark.parametrize(
    ("fields", "error"),
    [({"grant_type": "password"}, "unsupported_grant_type"), ({"scope": "other"}, "invalid_scope")],
)
async def test_a_wrong_request_is_refused(client: httpx.AsyncClient, fields: dict[str, str], error: str) -> None:
    """Another grant, an unknown scope."""
    answer = await client.post("/token", data=GRANT | fields, headers=HEADER)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_json_is_refused(client: httpx.AsyncClient) -> None:
    """The body is a form."""
    assert (await client.post("/token", json=GRANT, headers=HEADER)).status_code == 400


async def test_revoked_tokens_and_other_paths_are_refused(server: AuthlibServer, client: httpx.AsyncClient) -> None:
    """401 with RFC 6750's challenge, and 404."""
    token = (await client.post("/token", data=GRANT, headers=HEADER)).json()["access_token"]
    server.tokens.revoke()
    answer = await client.get("/api/x", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert (await client.get("/other")).status_code == 404


async def test_failures_can_be_ordered(server: AuthlibServer, client: httpx.AsyncClient) -> None:
    """As with the fakes of platforms."""
    server.host.fail_next(503, {"Retry-After": "3"})
    answers = [await client.post("/token", data=GRANT, headers=HEADER) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 200]
