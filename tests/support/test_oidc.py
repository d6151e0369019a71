"""npm oidc-provider refuses what is wrong: were it lax, integration tests would pass with a wrong request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support import oauth
from support.ca import Authority
from support.oidc import PROGRAM, SECRET, OidcProvider

GRANT = {"grant_type": "client_credentials", "scope": "orders"}
POST = {"client_id": "post", "client_secret": SECRET}
HEADER = {"Authorization": oauth.basic("basic", SECRET)}


@pytest.fixture(scope="module")
def oidc(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    """It runs, with long tokens."""
    with OidcProvider(tmp_path_factory.mktemp("oidc"), ca.leaf("127.0.0.1")) as provider:
        yield provider


@pytest.fixture
def client(oidc: OidcProvider, ca: Authority) -> Iterator[httpx.Client]:
    """It trusts the session's CA."""
    with httpx.Client(base_url=oidc.issuer, verify=ca.client_context(), trust_env=False) as client:
        yield client


def by_jwt(assertion: str) -> dict[str, str]:
    """A form's fields for private_key_jwt."""
    return {"client_assertion_type": oauth.ASSERTION_TYPE, "client_assertion": assertion}


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {"Authorization": oauth.basic("basic", "wrong")}),
        ({}, {"Authorization": oauth.basic("unknown", SECRET)}),
        (POST | {"client_secret": "wrong"}, {}),
        ({"client_id": "jwt", "client_secret": SECRET}, {}),
    ],
)
def test_a_wrong_client_is_invalid(client: httpx.Client, fields: dict[str, str], headers: dict[str, str]) -> None:
    """401 invalid_client: wrong secret, unknown, or a secret in place of a key."""
    answer = client.post("/token", data=GRANT | fields, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("fields", "headers", "error"),
    [
        (POST, HEADER, "invalid_request"),
        ({"grant_type": "password"}, HEADER, "unsupported_grant_type"),
        ({"scope": "invoices"}, HEADER, "invalid_scope"),
    ],
)
def test_a_wrong_request_is_refused(
    client: httpx.Client, fields: dict[str, str], headers: dict[str, str], error: str
) -> None:
    """400: two methods in one request, another grant, a scope that the client may not have."""
    answer = client.post("/token", data=GRANT | fields, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_a_jwt_is_used_once_and_checked(oidc: OidcProvider, client: httpx.Client) -> None:
    """A second use, another key, another audience, one that is over, one without a jti."""
    signer, audience = oauth.signer(), oidc.token_endpoint
    once = signer.assertion("jwt", audience)
    assert client.post("/token", data=GRANT | by_jwt(once)).status_code == 200
    wrong = [
        once,
        oauth.stranger().assertion("jwt", audience),
        signer.assertion("jwt", "https://other.example.com/token"),
        signer.assertion("jwt", audience, exp=int(time.time()) - 600),
        signer.assertion("jwt", audience, jti=None),
    ]
    answers = [client.post("/token", data=GRANT | by_jwt(assertion)) for assertion in wrong]
    assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [(401, "invalid_client")] * 5


def test_the_api_refuses_what_is_no_token(client: httpx.Client) -> None:
    """401 with RFC 6750's challenge, counted."""
    before = client.get("/counts").json()
    for headers in ({}, {"Authorization": "Bearer unknown"}):
        answer = client.get("/api/x", headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
    after = client.get("/counts").json()
    assert after == before | {"refused": before["refused"] + 2}


def test_a_token_of_one_second_ends(ca: Authority, tmp_path: Path) -> None:
    """It is taken at first and refused once its time is over."""
    with (
        OidcProvider(tmp_path, ca.leaf("127.0.0.1"), lifetime=1) as oidc,
        httpx.Client(base_url=oidc.issuer, verify=ca.client_context(), trust_env=False) as client,
    ):
        body = client.post("/token", data=GRANT, headers=HEADER).json()
        assert body["expires_in"] == 1
        deadline = time.monotonic() + 15
        while client.get("/api/x", headers={"Authorization": f"Bearer {body['access_token']}"}).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        counts = client.get("/counts").json()
    assert (counts["issued"], counts["refused"]) == (1, 1)


def test_the_lock_is_whole_and_holds_no_address_of_a_registry() -> None:
    """Every package is pinned by its hash; where it comes from is the user's npm configuration."""
    text = (PROGRAM / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert text.count('"integrity": "sha512-') == text.count('"node_modules/')


def test_a_refresh_token_that_comes_twice_revokes_its_family(client: httpx.Client) -> None:
    """RFC 9700 4.14.2: the newest one and the access tokens end with it. Each use counts."""
    before = client.get("/families").json()

    def use(token: str) -> httpx.Response:
        return client.post("/token", data={"grant_type": "refresh_token", "refresh_token": token}, headers=HEADER)

    def api(token: str) -> int:
        return client.get("/api/x", headers={"Authorization": f"Bearer {token}"}).status_code

    first = client.post("/families").json()["refresh_token"]
    second = use(first).json()
    third = use(second["refresh_token"]).json()
    assert (api(second["access_token"]), api(third["access_token"])) == (200, 200)
    assert (use(first).status_code, use(third["refresh_token"]).status_code) == (400, 400)
    assert api(third["access_token"]) == 401
    after = client.get("/families").json()
    assert {key: after[key] - before[key] for key in after} == {"renewed": 2, "revoked": 1}


def test_responses_are_kept_back_while_they_are_held(client: httpx.Client) -> None:
    """The token is used up by then."""
    token = client.post("/families").json()["refresh_token"]
    client.post("/hold")
    with ThreadPoolExecutor(1) as pool:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        held = pool.submit(client.post, "/token", data=form, headers=HEADER)
        while client.post("/hold").json()["held"] < 1:
            pass
        assert not held.done()
        client.post("/release")
        assert held.result().status_code == 200
