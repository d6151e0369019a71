"""npm oidc-provider takes each client by its own method, refuses the wrong ones, and its short tokens end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support import oauth, peers
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


@pytest.mark.parametrize("method", ["basic", "post", "jwt"])
def test_each_client_gets_a_token_that_its_api_takes(oidc: OidcProvider, client: httpx.Client, method: str) -> None:
    """The secret holds what must be encoded, and comes out right."""
    fields = {"basic": {}, "post": POST, "jwt": by_jwt(oauth.signer().assertion("jwt", oidc.token_endpoint))}[method]
    answer = client.post("/token", data=GRANT | fields, headers=HEADER if method == "basic" else {})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 3600, "orders")
    answer = client.get("/api/x", headers={"Authorization": f"Bearer {body['access_token']}"})
    assert (answer.status_code, answer.json()["client_id"]) == (200, method)


def test_the_issuer_may_be_the_audience_of_a_jwt(oidc: OidcProvider, client: httpx.Client) -> None:
    """RFC 7523 3 leaves both open."""
    fields = by_jwt(oauth.signer().assertion("jwt", oidc.issuer))
    assert client.post("/token", data=GRANT | fields).status_code == 200


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


def test_json_is_refused(client: httpx.Client) -> None:
    """The body is a form."""
    assert client.post("/token", json=GRANT, headers=HEADER).status_code == 400


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


def test_a_program_that_ends_says_why(ca: Authority, tmp_path: Path) -> None:
    """The error shows what it wrote."""
    leaf = ca.leaf("127.0.0.1")
    provider = OidcProvider(tmp_path, leaf)
    (tmp_path / "clients.json").unlink()
    with pytest.raises(RuntimeError, match=r"ENOENT.*clients\.json"), provider:
        pass


def test_without_its_packages_the_peer_is_missing(
    ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before `make peers`."""
    monkeypatch.delenv(peers.STRICT, raising=False)
    monkeypatch.setattr("support.oidc.PROGRAM", tmp_path)
    with pytest.raises(pytest.skip.Exception, match=r"^peer oidc-provider is missing: "):
        OidcProvider(tmp_path, ca.leaf("127.0.0.1"))


def test_the_lock_is_whole_and_holds_no_address_of_a_registry() -> None:
    """Every package is pinned by its hash; where it comes from is the user's npm configuration."""
    text = (PROGRAM / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert text.count('"integrity": "sha512-') == text.count('"node_modules/')
