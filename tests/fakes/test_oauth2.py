"""The rules that all OAuth fakes share: what is no clean token request is refused, and tokens end."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import urlencode

import pytest

from fakes import oauth2
from fakes.server import Arrived, Refused
from support.oauth import basic

FORM = "application/x-www-form-urlencoded"


def request(
    body: bytes = b"", content_type: str = FORM, authorization: str | None = None, method: str = "POST", query: str = ""
) -> Arrived:
    """One as the server records it."""
    fields = {"Content-Type": content_type} | ({} if authorization is None else {"Authorization": authorization})
    headers = tuple((name.encode(), value.encode()) for name, value in fields.items())
    return Arrived("auth.example.com", method, "/token", query, headers, body)


def test_a_form_is_read_as_utf_8_and_without_empty_values() -> None:
    """RFC 6749 3.2: a parameter without a value counts as left out."""
    body = urlencode({"a": "ü +&", "scope": ""}).encode()
    assert oauth2.form(request(body, f"{FORM}; charset=UTF-8")) == {"a": "ü +&"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"grant_type": "client_credentials"}', "application/json"),
        (b'{"grant_type": "client_credentials"}', FORM),
        (b"grant_type=client_credentials", "text/plain"),
        (b"a=1&a=2", FORM),
        (b"a=1&&b=2", FORM),
        (b"a=%FF", FORM),
        ("a=ü".encode(), FORM),
    ],
)
def test_what_is_no_form_is_an_invalid_request(body: bytes, content_type: str) -> None:
    """Another type or syntax, a parameter that came twice, another charset."""
    with pytest.raises(Refused) as refused:
        oauth2.form(request(body, content_type))
    assert refused.value.answer.status == 400
    assert b'"invalid_request"' in refused.value.answer.body


@pytest.mark.parametrize(
    ("arrived", "status"),
    [(request(method="GET"), 405), (request(query="client_id=a"), 400)],
)
def test_a_token_request_is_a_post_without_a_query(arrived: Arrived, status: int) -> None:
    """RFC 6749 3.2 and 2.3.1."""
    with pytest.raises(Refused) as refused:
        oauth2.expect_post(arrived, "/token")
    assert refused.value.answer.status == status


@pytest.mark.parametrize(
    ("fields", "code"),
    [({}, b"invalid_request"), ({"grant_type": "password"}, b"unsupported_grant_type")],
)
def test_another_grant_is_refused(fields: dict[str, str], code: bytes) -> None:
    """RFC 6749 5.2."""
    with pytest.raises(Refused) as refused:
        oauth2.expect_grant(fields)
    assert code in refused.value.answer.body


def test_basic_is_form_decoded() -> None:
    """RFC 6749 2.3.1: what a client encodes comes back, a colon in the secret too."""
    header = basic("an id:+", "a:b +%/")
    assert oauth2.basic(request(authorization=header)) == ("an id:+", "a:b +%/")


@pytest.mark.parametrize("header", [None, "Bearer x", "Basic", "Basic ?", f"Basic {b64encode(b'nocolon').decode()}"])
def test_anything_else_than_basic_is_no_client(header: str | None) -> None:
    """Missing, of another scheme, or malformed."""
    assert oauth2.basic(request(authorization=header)) is None


def test_a_header_that_came_twice_is_refused() -> None:
    """Nobody guesses which one was meant."""
    header = (b"Authorization", b"Bearer a")
    arrived = Arrived("api.example.com", "GET", "/", "", (header, header), b"")
    with pytest.raises(Refused):
        oauth2.bearer(arrived)


def test_a_token_is_good_until_its_time_is_over_or_it_is_revoked() -> None:
    """Each of several at a time."""
    tokens = oauth2.Tokens(60)
    first, second = tokens.issue("a"), tokens.issue("b")
    assert [tokens.find(token.value) for token in (first, second)] == [first, second]
    tokens.expires_in = 0
    assert tokens.find(tokens.issue().value) is None
    tokens.revoke()
    assert [tokens.find(token.value) for token in tokens.issued] == [None] * 3
    assert tokens.find("unknown") is None
