"""The fake Entra ID: scopes end in /.default, tokens are for one API, version 1 says numbers as strings."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fakes.client import Client
from fakes.entra import TENANT, VAULT, VAULT_HOST, Entra
from fakes.oauth2 import CLIENT_ID, CLIENT_SECRET
from support import oauth
from support.ca import Authority

TOKEN = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
TOKEN_1 = f"https://login.microsoftonline.com/{TENANT}/oauth2/token"
GRAPH = "https://graph.microsoft.com"
MANAGEMENT = "https://management.azure.com"
GRANT = {"grant_type": "client_credentials", "client_id": CLIENT_ID}
SECRET = GRANT | {"client_secret": CLIENT_SECRET}
RIGHT = SECRET | {"scope": f"{GRAPH}/.default"}


@pytest.fixture
async def entra(ca: Authority) -> AsyncIterator[Entra]:
    """It runs, and knows the client's certificate."""
    async with Entra(ca, certificate=oauth.signer().certificate) as fake:
        yield fake


@pytest.fixture
async def client(entra: Entra, ca: Authority) -> AsyncIterator[Client]:
    """It finds all hosts."""
    async with Client(ca, entra.auth, entra.graph, entra.management, entra.vault) as client:
        yield client


def assertion(signer: oauth.Signer | None = None, header: dict[str, str] | None = None, **claims: Any) -> str:
    """A certificate login's JWT; `claims` and `header` differ from the right ones."""
    now = int(time.time())
    right = {"iss": CLIENT_ID, "sub": CLIENT_ID, "aud": TOKEN, "jti": "1", "nbf": now, "exp": now + 300}
    names = {"x5t#S256": oauth.signer().thumbprint} if header is None else header
    return (signer or oauth.signer()).sign(right | claims, **names)


def with_assertion(jwt: str, kind: str = oauth.ASSERTION_TYPE) -> dict[str, str]:
    """A token request by certificate."""
    more = {"client_assertion_type": kind, "client_assertion": jwt, "scope": f"{GRAPH}/.default"}
    return GRANT | more


async def test_a_token_opens_the_api_that_its_scope_names_and_no_other(client: Client) -> None:
    """Version 2: expires_in is a number, and there is no refresh token."""
    reply = await client.form(TOKEN, RIGHT)
    assert (reply.status, reply.body["expires_in"]) == (200, 3599)
    assert "refresh_token" not in reply.body
    bearer = f"Bearer {reply.body['access_token']}"
    assert (await client.get(f"{GRAPH}/v1.0/users", bearer)).status == 200
    assert (await client.get(f"{MANAGEMENT}/subscriptions", bearer)).status == 401


async def test_a_vault_is_at_a_host_that_its_scope_does_not_name(client: Client) -> None:
    """Every customer's vaults have their own names."""
    reply = await client.form(TOKEN, SECRET | {"scope": f"{VAULT}/.default"})
    bearer = f"Bearer {reply.body['access_token']}"
    assert (await client.get(f"https://{VAULT_HOST}/secrets", bearer)).status == 200
    assert (await client.get(GRAPH, bearer)).status == 401


async def test_basic_is_taken_in_place_of_the_body(client: Client) -> None:
    """The metadata document names both."""
    fields = {"grant_type": "client_credentials", "scope": f"{MANAGEMENT}/.default"}
    reply = await client.form(TOKEN, fields, oauth.basic(CLIENT_ID, CLIENT_SECRET))
    assert (await client.get(MANAGEMENT, f"Bearer {reply.body['access_token']}")).status == 200


async def test_version_1_takes_a_resource_and_says_numbers_as_strings(client: Client) -> None:
    """`expires_on` comes besides."""
    reply = await client.form(TOKEN_1, SECRET | {"resource": f"{GRAPH}/"})
    assert (reply.status, reply.body["expires_in"]) == (200, "3599")
    assert int(reply.body["expires_on"]) > time.time()
    assert (await client.get(GRAPH, f"Bearer {reply.body['access_token']}")).status == 200
    assert (await client.form(TOKEN_1, RIGHT)).body["error"] == "invalid_resource"


@pytest.mark.parametrize(
    ("fields", "status", "code", "number"),
    [
        (RIGHT | {"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        (GRANT | {"scope": f"{GRAPH}/.default"}, 401, "invalid_client", 7000215),
        (RIGHT | {"client_id": "wrong"}, 400, "unauthorized_client", 700016),
        (SECRET, 400, "invalid_request", 90014),
        (SECRET | {"scope": ""}, 400, "invalid_request", 90014),
        (SECRET | {"scope": f"{GRAPH}/User.Read.All"}, 400, "invalid_scope", 1002012),
        (SECRET | {"scope": "https://other.example.com/.default"}, 400, "invalid_scope", 1002012),
    ],
)
async def test_a_wrong_parameter_is_refused(
    client: Client, fields: dict[str, str], status: int, code: str, number: int
) -> None:
    """With RFC 6749's code and Entra's own number."""
    reply = await client.form(TOKEN, fields)
    assert (reply.status, reply.body["error"], reply.body["error_codes"]) == (status, code, [number])


async def test_other_requests_are_refused(entra: Entra, client: Client) -> None:
    """JSON, two methods at a time, another grant, another tenant, another path."""
    header = oauth.basic(CLIENT_ID, CLIENT_SECRET)
    replies = [
        await client.json(TOKEN, RIGHT),
        await client.form(TOKEN, RIGHT, header),
        await client.form(TOKEN, RIGHT | {"grant_type": "password"}),
        await client.form(TOKEN.replace(TENANT, "other"), RIGHT),
        await client.form(TOKEN.replace("v2.0", "v3.0"), RIGHT),
    ]
    assert [reply.status for reply in replies] == [400, 400, 400, 400, 404]
    assert entra.tokens.issued == []


async def test_a_certificate_login_gets_a_token_once(client: Client) -> None:
    """A JWT is used up with its jti."""
    request = with_assertion(assertion())
    assert [(await client.form(TOKEN, request)).status for _ in range(2)] == [200, 401]


@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
async def test_a_certificate_login_is_signed_by_rsa(client: Client, algorithm: str) -> None:
    """Microsoft's page asks for PS256, its older clients use RS256."""
    request = with_assertion(assertion(header={"x5t#S256": oauth.signer().thumbprint, "algorithm": algorithm}))
    assert (await client.form(TOKEN, request)).status == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "wrong"},
        {"sub": "wrong"},
        {"aud": TOKEN_1},
        {"jti": ""},
        {"exp": 1},
        {"exp": 9_999_999_999},
        {"nbf": 9_999_999_999},
        {"header": {}},
        {"header": {"x5t#S256": "wrong"}},
    ],
    ids=str,
)
async def test_a_wrong_jwt_is_an_invalid_client(client: Client, claims: dict[str, Any]) -> None:
    """Each claim and the header's thumbprint are checked."""
    reply = await client.form(TOKEN, with_assertion(assertion(**claims)))
    assert (reply.status, reply.body["error_codes"]) == (401, [700027])


async def test_what_the_certificate_did_not_sign_is_an_invalid_client(client: Client) -> None:
    """Another key's JWT, what is none, and one that is called something else."""
    requests = [*map(with_assertion, (assertion(oauth.stranger()), "a.b.c", "x")), with_assertion(assertion(), "other")]
    for request in requests:
        assert (await client.form(TOKEN, request)).status == 401


async def test_the_apis_refuse_bad_tokens_each_in_its_way(entra: Entra, client: Client) -> None:
    """Graph's challenge names no error; that of Azure Resource Manager does."""
    token = (await client.form(TOKEN, RIGHT)).body["access_token"]
    entra.tokens.revoke()
    for value in (None, "Bearer unknown", f"Bearer {token}"):
        graph = await client.get(GRAPH, value)
        assert (graph.status, graph.body["error"]["code"]) == (401, "InvalidAuthenticationToken")
        assert graph.headers["WWW-Authenticate"].startswith("Bearer ")
        assert "error=" not in graph.headers["WWW-Authenticate"]
        management = await client.get(MANAGEMENT, value)
        assert 'error="invalid_token"' in management.headers["WWW-Authenticate"]
