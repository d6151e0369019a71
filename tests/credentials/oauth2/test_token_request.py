"""Token requests, and the credential that sends them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from sidekey.credentials.base import Attempt, CallError, Reply, Verdict
from sidekey.credentials.oauth2.client_authentication import ClientProof
from sidekey.credentials.oauth2.parameters import Parameters
from sidekey.credentials.oauth2.token_request import TokenRequest
from support.drive_kinds import NOW, credential_of, first_call, issue, reply

AUTH: dict[str, Any] = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/oauth2/token",
    "client_id": "client-1",
    "client_secret": {"env": "SECRET"},
}
TOKEN = {"access_token": "tok-1", "token_type": "bearer", "expires_in": 3600, "refresh_token": "refresh-2"}
BY_TOKEN = {"type": "refresh_token", "refresh_token": {"insecure_value": "refresh-1"}}
REFRESHING = {**AUTH, "grant": BY_TOKEN}


def test_rotated_refresh_token_is_sent_next() -> None:
    """RFC 6749 6."""
    credential = credential_of(REFRESHING)
    issued, calls = issue(credential, reply(TOKEN))
    assert b"refresh_token=refresh-1" in calls[0].body
    assert issued.memory == "refresh-2"
    assert b"refresh_token=refresh-2" in first_call(credential, Attempt(NOW, memory=issued.memory)).body


def test_refresh_token_without_rotation_is_always_the_configs() -> None:
    """Any number of processes may use it."""
    credential = credential_of({**AUTH, "grant": {**BY_TOKEN, "rotates": False}})
    issued, calls = issue(credential, reply(TOKEN), attempt=Attempt(NOW, memory="refresh-7"))
    assert b"refresh_token=refresh-1" in calls[0].body
    assert issued.memory is None


def test_configured_lifetime_is_the_default() -> None:
    """Salesforce returns none."""
    response = {key: value for key, value in TOKEN.items() if key != "expires_in"}
    assert issue(credential_of({**AUTH, "token_lifetime": "15m"}), reply(response))[0].lifetime == 900
    assert issue(credential_of({**AUTH, "token_lifetime": "15m"}), reply(TOKEN))[0].lifetime == 3600


@pytest.mark.parametrize("rotated", [None, "", 5, "a b", "\ud800"])
def test_refresh_token_stays_if_the_response_has_no_usable_one(rotated: object) -> None:
    response = {**TOKEN, "refresh_token": rotated}
    issued, _ = issue(credential_of(REFRESHING), reply(response), attempt=Attempt(NOW, memory="refresh-7"))
    assert issued.memory == "refresh-7"


@pytest.mark.parametrize(
    ("change", "memory"),
    [
        ({"expires_in": 0}, "refresh-2"),
        ({"access_token": None}, "refresh-2"),
        ({"token_type": "mac"}, "refresh-2"),
        ({"token_type": "mac", "refresh_token": None}, "refresh-7"),
    ],
)
def test_refresh_token_of_an_unusable_response_is_kept(change: dict[str, object], memory: str) -> None:
    """The previous one may be used up."""
    with pytest.raises(CallError) as caught:
        issue(credential_of(REFRESHING), reply({**TOKEN, **change}), attempt=Attempt(NOW, memory="refresh-7"))
    assert caught.value.memory == memory
    with pytest.raises(CallError) as caught:
        issue(credential_of(AUTH), reply({**TOKEN, "expires_in": 0}))
    assert caught.value.memory is None


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("query", {"query": (("access_token", "tok-1"),)}),
        ("body", {"body": (("access_token", "tok-1"),)}),
        ({"in": "header", "name": "X-Token", "scheme": ""}, {"headers": (("X-Token", "tok-1"),)}),
    ],
)
def test_token_is_in_the_configured_place(placement: object, expected: dict[str, object]) -> None:
    """RFC 6750 2.1 to 2.3, and other headers."""
    issued, _ = issue(credential_of({**AUTH, "token_placement": placement}), reply(TOKEN))
    result = {place: getattr(issued.grant, place) for place in ("headers", "query", "body")}
    assert {place: pairs for place, pairs in result.items() if pairs} == expected


@pytest.mark.parametrize("body", [None, b"", b'{"error":"invalid_token"}'])
def test_only_a_401_rejects_the_token(body: bytes | None) -> None:
    """RFC 6750 3.1."""
    credential = credential_of(AUTH)
    assert credential.verdict(401, body) is Verdict.REJECTED
    assert credential.verdict(403, body) is Verdict.GOOD


@pytest.mark.parametrize(
    ("response", "unspent"),
    [
        (reply({**TOKEN, "access_token": None}), True),
        (reply({**TOKEN, "expires_in": 0}), True),
        (reply({"access_token": None}), True),
        (reply({"error": "invalid_grant"}), True),
        (reply({"error": "invalid_grant"}, 400), True),
        (reply(b"", 503), True),
        (reply({**TOKEN, "access_token": None, "refresh_token": "a b"}), False),
        (reply({"access_token": None, "refresh_token": None}), False),
        (reply(b"<html>"), False),
        (reply({}, 500), False),
        (reply({**TOKEN, "refresh_token": "refresh-2"}, 502), False),
    ],
    ids=["next", "ended", "none", "said in 200", "400", "503", "unusable", "null", "no JSON", "500", "502"],
)
def test_error_is_unspent_if_the_next_refresh_token_is_known(response: Reply, unspent: bool) -> None:
    """Otherwise the current one may be used up, and its successor lost (RFC 6749 6)."""
    with pytest.raises(CallError) as failed:
        issue(credential_of(REFRESHING), response)
    assert failed.value.unspent is unspent


URL = "https://auth.example.com/oauth2/token"
GRANTED: Parameters = (("grant_type", "client_credentials"),)
FURTHER: Parameters = (("scope", "a b"), ("account", 510), ("ratio", 0.5), ("flag", True))


def test_form_request_has_content_type_and_accept() -> None:
    """RFC 6749 4.4.2."""
    call = TokenRequest(URL, body=FURTHER).build_call(GRANTED, ClientProof())
    assert (call.method, call.url) == ("POST", URL)
    assert dict(call.headers) == {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    assert call.body == b"grant_type=client_credentials&scope=a+b&account=510&ratio=0.5&flag=true"


def test_json_request_keeps_numbers_and_booleans() -> None:
    """Salesforce Marketing Cloud's account_id is a number."""
    call = TokenRequest(URL, format="json", body=FURTHER).build_call(GRANTED, ClientProof())
    assert dict(call.headers)["Content-Type"] == "application/json"
    assert json.loads(call.body) == {**dict(GRANTED), **dict(FURTHER)}
    assert b'"account": 510' in call.body
    assert b'"flag": true' in call.body


def test_proof_is_in_the_body_or_in_the_query() -> None:
    proof = ClientProof(
        headers=(("Authorization", "Basic x"),), fields=(("client_id", "c"),), query=(("client_secret", "s/ "),)
    )
    call = TokenRequest(f"{URL}?policy=p", query=(("scope", "a b"),)).build_call(GRANTED, proof)
    assert call.url == f"{URL}?policy=p&client_secret=s%2F%20&scope=a%20b"
    assert call.body == b"grant_type=client_credentials&client_id=c"
    assert call.headers[0] == ("Authorization", "Basic x")


def test_get_sends_all_parameters_in_the_query() -> None:
    """Marketo requires it. There is no body, and no header of a body."""
    proof = ClientProof(query=(("client_id", "c"), ("client_secret", "s")))
    call = TokenRequest(URL, "GET", query=FURTHER).build_call(GRANTED, proof)
    assert (call.method, call.body, call.headers) == ("GET", b"", (("Accept", "application/json"),))
    assert parse_qsl(urlsplit(call.url).query) == [
        ("grant_type", "client_credentials"),
        ("client_id", "c"),
        ("client_secret", "s"),
        ("scope", "a b"),
        ("account", "510"),
        ("ratio", "0.5"),
        ("flag", "true"),
    ]
