"""The fake Responsys: logins by form, a token without a scheme word, and only at the endPoint of the response."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from fakes.client import Client, Reply
from fakes.responsys import PASSWORD, USERNAME, Responsys
from support.ca import Authority

LOGIN = "https://login2.responsys.net/rest/api/v1.3/auth/token"
API = "https://api2-009.responsys.net/rest/api/v1.3/campaigns"
RIGHT = {"user_name": USERNAME, "password": PASSWORD, "auth_type": "password"}
REFRESH = {"auth_type": "token"}


@pytest.fixture
async def responsys(ca: Authority) -> AsyncIterator[Responsys]:
    """It runs."""
    async with Responsys(ca) as fake:
        yield fake


@pytest.fixture
async def client(responsys: Responsys, ca: Authority) -> AsyncIterator[Client]:
    """It finds both hosts."""
    async with Client(ca, responsys.login, responsys.api) as client:
        yield client


def refusal(reply: Reply) -> tuple[int, str]:
    """Status and errorCode of an error, whose form is always the same."""
    assert reply.body.keys() == {"type", "title", "errorCode", "detail", "errorDetails"}
    return reply.status, reply.body["errorCode"]


async def token_of(client: Client) -> str:
    """A new token."""
    return str((await client.form(LOGIN, RIGHT)).body["authToken"])


async def test_a_login_returns_a_token_and_where_it_is_good(client: Client) -> None:
    """Three fields, none of them an expiry; the token is the whole value of Authorization."""
    reply = await client.form(LOGIN, RIGHT)
    assert reply.status == 200
    assert reply.body.keys() == {"authToken", "issuedAt", "endPoint"}
    assert abs(reply.body["issuedAt"] / 1000 - time.time()) < 60
    assert reply.body["endPoint"] == "https://api2-009.responsys.net"
    assert (await client.get(API, reply.body["authToken"])).status == 200
    assert (
        await client.get("https://api2-009.responsys.net/rest/api/ratelimit", reply.body["authToken"])
    ).status == 200


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"user_name": "wrong"}])
async def test_wrong_credentials_are_a_400(client: Client, change: dict[str, str]) -> None:
    """INVALID_USER_NAME_PASSWORD, not a 401."""
    assert refusal(await client.form(LOGIN, RIGHT | change)) == (400, "INVALID_USER_NAME_PASSWORD")


async def test_other_logins_are_refused(responsys: Responsys, client: Client) -> None:
    """JSON, credentials in the URL, another or no auth_type, missing or further fields, an old token beside it."""
    replies = [
        await client.json(LOGIN, RIGHT),
        await client.form(f"{LOGIN}?user_name=a", RIGHT),
        await client.form(f"{LOGIN}?user_name=a&password=b&auth_type=password", {}),
        await client.form(LOGIN, RIGHT | {"auth_type": "server"}),
        await client.form(LOGIN, {"user_name": USERNAME, "password": PASSWORD}),
        await client.form(LOGIN, {"user_name": USERNAME, "auth_type": "password"}),
        await client.form(LOGIN, RIGHT | {"grant_type": "client_credentials"}),
        await client.form(LOGIN, RIGHT, "old"),
    ]
    assert [refusal(reply) for reply in replies] == [(400, "INVALID_PARAMETER")] * 8
    assert responsys.issued == []


async def test_a_refresh_returns_another_token(client: Client) -> None:
    """The old token stands in Authorization without a scheme; it stays valid."""
    old = await token_of(client)
    reply = await client.form(LOGIN, REFRESH, old)
    assert reply.status == 200
    assert reply.body["authToken"] != old
    assert [(await client.get(API, token)).status for token in (old, reply.body["authToken"])] == [200, 200]


async def test_a_refresh_without_a_valid_token_is_refused(responsys: Responsys, client: Client) -> None:
    """Unknown, missing, with a scheme, revoked, or switched off; and with credentials in its body."""
    old = await token_of(client)
    for value in ("unknown", None, f"Bearer {old}"):
        assert refusal(await client.form(LOGIN, REFRESH, value)) == (401, "INVALID_TOKEN")
    assert refusal(await client.form(LOGIN, RIGHT | REFRESH, old)) == (400, "INVALID_PARAMETER")
    responsys.refreshes = False
    assert refusal(await client.form(LOGIN, REFRESH, old)) == (401, "INVALID_TOKEN")
    responsys.refreshes = True
    responsys.revoke()
    assert refusal(await client.form(LOGIN, REFRESH, old)) == (401, "INVALID_TOKEN")


async def test_one_login_too_many_is_a_401_that_says_limit(responsys: Responsys, client: Client) -> None:
    """Ten a minute, wrong ones included; refreshes do not count."""
    for number in range(10):
        await client.form(LOGIN, RIGHT if number % 2 else RIGHT | {"password": "wrong"})
    assert refusal(await client.form(LOGIN, RIGHT)) == (401, "API_LIMIT_EXCEEDED")
    assert (await client.form(LOGIN, REFRESH, responsys.issued[-1])).status == 200


async def test_a_bad_token_is_a_401_that_says_so(responsys: Responsys, client: Client) -> None:
    """None, unknown, with a scheme word, expired, revoked."""
    token = await token_of(client)
    for value in (None, "unknown", f"Bearer {token}", f"Basic {token}"):
        assert refusal(await client.get(API, value)) == (401, "INVALID_TOKEN")
    responsys.lifetime = 0
    assert refusal(await client.get(API, await token_of(client))) == (401, "INVALID_TOKEN")
    responsys.revoke()
    assert refusal(await client.get(API, token)) == (401, "INVALID_TOKEN")


async def test_a_bad_token_can_be_a_500_as_recorded(responsys: Responsys, client: Client) -> None:
    """UNEXPECTED_EXCEPTION with the recorded words."""
    responsys.complains_with_500 = True
    reply = await client.get(API, "unknown")
    assert refusal(reply) == (500, "UNEXPECTED_EXCEPTION")
    assert reply.body["detail"] == "Not a valid authentication token"


@pytest.mark.parametrize(
    "code", ["API_LIMIT_EXCEEDED", "INSUFFICIENT_ACCESS", "API_DISABLED_FOR_USER", "ACCOUNT_SUSPENDED"]
)
async def test_a_good_token_can_be_answered_401_too(responsys: Responsys, client: Client, code: str) -> None:
    """The status is overloaded: only the errorCode tells."""
    token = await token_of(client)
    responsys.refuses_calls_with = code
    assert refusal(await client.get(API, token)) == (401, code)


async def test_each_host_has_its_part_only(client: Client) -> None:
    """Calls to the login host and logins at the endPoint fail."""
    token = await token_of(client)
    assert refusal(await client.get(API.replace("api2-009", "login2"), token)) == (404, "RESOURCE_NOT_FOUND")
    assert refusal(await client.form(LOGIN.replace("login2", "api2-009"), RIGHT)) == (401, "INVALID_TOKEN")
    assert refusal(await client.get("https://api2-009.responsys.net/other", token)) == (404, "RESOURCE_NOT_FOUND")


async def test_the_end_point_is_what_the_test_says(responsys: Responsys, client: Client) -> None:
    """Such as a bare host, or one that is not Oracle's."""
    responsys.end_point = "api2-009.responsys.net"
    assert (await client.form(LOGIN, RIGHT)).body["endPoint"] == "api2-009.responsys.net"
