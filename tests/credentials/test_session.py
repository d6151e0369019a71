"""The kind `session`: the login, its response, and the identity of the token."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sidekey.credentials.base import Attempt, CallError, Destinations, InjectionPoints, Lineage, Reply, Verdict
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.session import SessionSettings, TokenField, parse_time, parse_token_field
from sidekey.policy.targets import Domain, Forbidden, Prefix
from sidekey.policy.urls import Origin
from support.drive_kinds import NOW, credential_of, first_call, issue, reply, settings_of
from support.oauth import signer
from support.stored import SESSION, copied, destination

URL = "https://ws.example.com/login"
AUTH: dict[str, Any] = {"type": "session", "login": {"url": URL}, "token": {"from": "t"}}
BASIC = {"type": "basic", "username": "svc", "password": {"env": "SECRET"}}
KEYS = {"KEY": signer().private_pem.decode(), "P": "x"}
JWT = {"type": "jwt", "algorithm": "RS256", "private_key": {"env": "KEY"}, "claims": {"iss": "app"}}


def auth(login: dict[str, Any] | None = None, token: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Build the block with additional keys."""
    return {**AUTH, "login": {**AUTH["login"], **(login or {})}, "token": {**AUTH["token"], **(token or {})}, **more}


def errors(block: dict[str, Any]) -> dict[str, str]:
    """Return the locations and messages of errors."""
    with pytest.raises(ValidationError) as caught:
        settings_of(block)
    result = caught.value.errors()
    return {".".join(map(str, error["loc"][1:])): error["msg"].removeprefix("Value error, ") for error in result}


@pytest.mark.parametrize(
    ("block", "place", "message"),
    [
        (auth({"url": "http://ws.example.com/login"}), "login.url", "must be an https URL"),
        (auth({"method": "DELETE"}), "login.method", "Input should be 'POST', 'PUT' or 'GET'"),
        (auth({"format": "xml"}), "login.format", "Input should be 'form' or 'json'"),
        (auth({"headers": {"Host": "x"}}), "login.headers.Host.[key]", "may not be injected"),
        (auth({"headers": {"content-type": "x"}}), "login.headers.content-type.[key]", "may not be set"),
        (auth({"query": {"a": {"b": "c"}}}), "login.query.a", "a query has no lists and mappings"),
        (auth({"format": "form", "body": {"a": ["b"]}}), "login.body.a", "a form has no lists and mappings"),
        (auth({"method": "GET", "body": {"a": "b"}}), "login.body", "may not be used with GET"),
        (auth({"auth": {"type": "digest"}}), "login.auth", "does not match any of the expected tags"),
        (auth({"auth": {**BASIC, "username": "a:b"}}), "login.auth.basic.username", "must not contain a colon"),
        (auth({"auth": BASIC, "headers": {"authorization": "x"}}), "login.auth", "also in login.headers"),
        (auth({"auth": {"type": "headers", "headers": {}}}), "login.auth.headers.headers", "at least 1 item"),
        (
            auth({"auth": {**JWT, "token_placement": "query"}}),
            "login.auth.jwt.token_placement",
            "must be in a header",
        ),
        (auth({"auth": {**JWT, "renewal_interval": "1m"}}), "login.auth.jwt.renewal_interval", "may not be set here"),
        (auth(token={"from": ""}), "token.from", "must not be empty"),
        (auth(token={"from": "a..b"}), "token.from", "must not be empty"),
        (auth(token={"from": "header:a b"}), "token.from", "must be a header name"),
        (auth(token={"expires_in": "a", "expires_at": "b"}), "token.expires_at", "may not be used with expires_in"),
        (auth(token={"lifetime": "999ms"}), "token.lifetime", "must be at least 1s"),
        (auth(rejected=[]), "rejected", "must be a list of 401, 403, 419, 440, 498"),
        (auth(rejected=[401, 401]), "rejected", "each once"),
        (auth(rejected=[500]), "rejected", "may have been processed"),
        (auth(logins_a_minute=0), "logins_a_minute", "greater than or equal to 1"),
        (auth(logins_a_minute=61), "logins_a_minute", "less than or equal to 60"),
        (auth(renewal_interval="5ms"), "renewal_interval", "must be at least 1s"),
    ],
)
def test_error_has_its_key(block: dict[str, Any], place: str, message: str) -> None:
    """One error causes no other."""
    result = errors(block)
    assert list(result) == [place]
    assert message in result[place]


def test_all_errors_are_reported_at_once() -> None:
    block = auth({"url": "x", "method": "X"}, {"from": "", "lifetime": "0s"}, rejected=[200], placement="cookie")
    assert set(errors(block)) == {"login.url", "login.method", "token.from", "token.lifetime", "rejected", "placement"}


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ("token", TokenField("json", "token")),
        ("data.token", TokenField("json", "data.token")),
        ("body", TokenField("body")),
        ("json:body", TokenField("json", "body")),
        ("json:header:x", TokenField("json", "header:x")),
        ("header:X-Token", TokenField("header", "x-token")),
        ("ns:token", TokenField("json", "ns:token")),
    ],
)
def test_token_field_is_parsed(written: str, field: TokenField) -> None:
    """`body` is the whole body; `json:body` is a field of that name."""
    assert parse_token_field(written) == field


def test_login_is_sent_as_configured() -> None:
    """Nested, with numbers as numbers, and its secrets filled in."""
    login = {
        "query": {"a b": "c", "n": 5, "key": {"env": "SECRET"}},
        "headers": {"X-App": {"prefix": "App ", "secret": {"env": "P"}}},
        "body": {"user": {"name": "svc", "key": {"env": "P"}}, "roles": ["a", {"env": "P"}], "n": 1.5, "b": True},
    }
    call = first_call(credential_of(auth(login), KEYS))
    assert call.url == f"{URL}?a%20b=c&n=5&key=s3cret%2F%2B%20%26%3D%25%3A~"
    assert json.loads(call.body) == {"user": {"name": "svc", "key": "x"}, "roles": ["a", "x"], "n": 1.5, "b": True}
    assert call.headers == (("Accept", "application/json"), ("X-App", "App x"), ("Content-Type", "application/json"))
    assert (call.step, call.method) == ("login", "POST")
    assert "SECRET" not in repr(call)


@pytest.mark.parametrize("source", ["body", "header:x-t"])
def test_accept_is_any_type_unless_the_token_is_in_json(source: str) -> None:
    """A server with text/plain only would return 406. A configured Accept is kept."""
    call = first_call(credential_of(auth(token={"from": source})))
    assert call.headers == (("Accept", "*/*"),)
    call = first_call(credential_of(auth({"headers": {"accept": "text/plain"}}, {"from": source})))
    assert call.headers == (("accept", "text/plain"),)


@pytest.mark.parametrize(
    ("how", "headers"),
    [
        ({"type": "none"}, ()),
        (BASIC | {"username": "é"}, (("Authorization", "Basic w6k6czNjcmV0LysgJj0lOn4="),)),
        ({"type": "headers", "headers": {"X-A": "b", "X-K": {"secret": {"env": "P"}}}}, (("X-A", "b"), ("X-K", "x"))),
    ],
)
def test_authentication_headers_precede_other_headers(how: dict[str, Any], headers: tuple[Any, ...]) -> None:
    call = first_call(credential_of(auth({"auth": how, "headers": {"X-B": "c"}}), KEYS))
    assert call.headers == (*headers, ("Accept", "application/json"), ("X-B", "c"))


def test_each_login_has_a_new_jwt() -> None:
    """A server may refuse a `jti` that it has seen."""
    credential = credential_of(auth({"auth": {**JWT, "jti": True}}), KEYS)
    calls = [first_call(credential) for _ in range(2)]
    assert len({dict(call.headers)["Authorization"] for call in calls}) == 2
    assert all(call.headers[0][1].startswith("Bearer ey") for call in calls)


def test_unusable_value_is_named_when_it_is_read() -> None:
    block = auth({"url": {"env": "U"}, "auth": BASIC | {"username": {"env": "N"}}, "body": {"a": {"env": "NO"}}})
    with pytest.raises(SecretUnreadable) as caught:
        credential_of(block, {"U": "http://a.example/", "N": "a:b"})
    places = [place for place, _ in caught.value.reasons]
    assert places == [("auth", "login", *rest) for rest in (("url",), ("body", "a"), ("auth", "username"))]


@pytest.mark.parametrize(
    ("source", "response"),
    [
        ("t", reply({"t": "tok-1"})),
        ("t", reply({"t": "tok-1"}, 201)),
        ("data.t", reply({"data": {"t": "tok-1"}}, 299)),
        ("json:body", reply({"body": "tok-1"})),
        ("header:X-T", Reply(204, {"x-t": "tok-1"}, b"")),
        ("header:x-t", Reply(200, {"x-t": " tok-1"}, b"<html>")),
        ("body", reply(b"tok-1")),
        ("body", reply(b"\xef\xbb\xbf tok-1\r\n")),
        ("body", reply(b'"tok-1"')),
        ("body", reply(b'"tok\\u002d1"\n')),
    ],
)
def test_any_success_returns_the_token(source: str, response: Reply) -> None:
    issued, _ = issue(credential_of(auth(token={"from": source})), response)
    assert issued.grant.headers == (("Authorization", "Bearer tok-1"),)
    assert issued.grant.secrets == (b"tok-1",)
    assert (issued.lifetime, issued.memory) == (300.0, None)


@pytest.mark.parametrize(
    ("source", "response", "reason"),
    [
        ("t", reply({"t": 5}), "did not return a usable token under t"),
        ("t", reply({"t": "a b"}), "did not return a usable token under t"),
        ("t", reply({"t": "a\r\nb"}), "did not return a usable token under t"),
        ("t", reply({"t": ""}), "did not return a usable token under t"),
        ("t", reply({"t": "é"}), "did not return a usable token under t"),
        ("t", reply([]), "did not return a JSON object"),
        ("t", reply(b"tok-1"), "did not return a JSON object"),
        ("header:x-t", reply({}), "did not return a usable token in the header x-t"),
        ("header:x-t", Reply(200, {"x-t": "a, b"}, b""), "did not return a usable token in the header x-t"),
        *(
            ("body", reply(body), "did not return a usable token as its body")
            for body in (
                b"",
                b"null",
                b"true",
                b'{"a":1}',
                b"[1]",
                b"<html></html>",
                b'"a',
                b"{a",
                b"a b",
                b"\xff",
                b'"a b"',
            )
        ),
        ("body", reply(b"[" * 100_000), "did not return a usable token as its body"),
        ("t", reply({"t": "tok-1"}, 302), "returned 302"),
        ("t", reply({"t": "tok-1"}, 401), "returned 401"),
        ("t", reply({"t": "tok-1"}, 500), "returned 500"),
    ],
)
def test_unusable_response_is_an_error_that_repeats_nothing(source: str, response: Reply, reason: str) -> None:
    with pytest.raises(CallError) as caught:
        issue(credential_of(auth(token={"from": source})), response)
    assert caught.value.reason == f"login {reason}"


@pytest.mark.parametrize("number", ["123456789012", "1.5"])
def test_number_as_the_whole_body_is_a_token(number: str) -> None:
    """With its digits unchanged."""
    issued, _ = issue(credential_of(auth(token={"from": "body"})), reply(number.encode()))
    assert issued.grant.secrets == (number.encode(),)


DATE = {"date": "Mon, 21 Sep 2026 14:13:20 GMT"}
"""The date of a response. Its clock differs from Sidekey's."""


@pytest.mark.parametrize(
    ("token", "body", "lifetime"),
    [
        ({}, {}, 300),
        ({"lifetime": "2h"}, {}, 7200),
        ({"expires_in": "e"}, {"e": 60}, 60),
        ({"expires_in": "e"}, {"e": "60"}, 60),
        ({"expires_in": "d.e", "lifetime": "1h"}, {"d": {"e": None}}, 3600),
        ({"expires_in": "e", "lifetime": "1h"}, {"e": "soon"}, 3600),
        ({"expires_in": "e", "lifetime": "1h"}, {"e": 1e12}, 3600),
        ({"expires_at": "e"}, {"e": NOW + 60}, 60),
        ({"expires_at": "e"}, {"e": (NOW + 60) * 1000}, 60),
        ({"expires_at": "e"}, {"e": str(int(NOW + 60))}, 60),
        ({"expires_at": "e"}, {"e": str(int(NOW + 60) * 1000)}, 60),
        ({"expires_at": "e"}, {"e": "2026-09-21T14:14:20Z"}, 60),
        ({"expires_at": "e"}, {"e": "2026-09-21T16:14:20.500000123+02:00"}, 60.5),
        ({"expires_at": "e", "lifetime": "1h"}, {"e": "2026-09-21T14:14:20"}, 3600),
        ({"expires_at": "e", "lifetime": "1h"}, {"e": "2026-02-31T14:14:20Z"}, 3600),
        ({"expires_at": "e", "lifetime": "1h"}, {"e": True}, 3600),
        ({"expires_at": "e", "lifetime": "1h"}, {}, 3600),
        ({"expires_at": "e", "lifetime": "1h"}, {"e": 10**400}, 3600),
        ({"expires_at": "e", "lifetime": "1h"}, {"e": float("nan")}, 3600),
    ],
)
def test_response_may_have_lifetime_or_expiry(token: dict[str, str], body: dict[str, Any], lifetime: float) -> None:
    """An invalid one counts as missing."""
    response = reply({"t": "tok-1", **body})
    issued, _ = issue(credential_of(auth(token=token)), response, attempt=Attempt(NOW))
    assert issued.lifetime == pytest.approx(lifetime, abs=1e-3)


def test_expiry_is_relative_to_the_responses_date() -> None:
    """Sidekey's clock may differ."""
    response = reply({"t": "tok-1", "e": NOW + 60}, headers=DATE)
    issued, _ = issue(credential_of(auth(token={"expires_at": "e"})), response, attempt=Attempt(NOW - 900))
    assert issued.lifetime == 60


@pytest.mark.parametrize("token", [{"expires_in": "e"}, {"expires_at": "e"}])
def test_expired_token_is_an_error(token: dict[str, str]) -> None:
    """The next login may return another one."""
    with pytest.raises(CallError, match="has expired") as caught:
        issue(credential_of(auth(token=token)), reply({"t": "tok-1", "e": 0}))
    assert caught.value.expired


@given(st.integers(0, 2**36))
def test_seconds_and_milliseconds_differ_by_their_size(seconds: int) -> None:
    """From 1973 until the year 4147."""
    assert parse_time(seconds) == seconds
    if seconds * 1000 >= 1e11:
        assert parse_time(seconds * 1000) == parse_time(str(seconds * 1000)) == seconds


@given(st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.integers()))
def test_any_time_is_a_number_or_none(value: object) -> None:
    result = parse_time(value)
    assert result is None or isinstance(result, float)


def test_only_configured_statuses_reject_the_token() -> None:
    credential = credential_of(auth(rejected=[403, 440]))
    verdicts = {status: credential.verdict(status, b"") for status in (200, 401, 403, 440, 500)}
    assert {status for status, verdict in verdicts.items() if verdict is Verdict.REJECTED} == {403, 440}
    assert credential_of(AUTH).verdict(401, None) is Verdict.REJECTED
    assert settings_of(auth(rejected=[403, 440])).traits().watched == {403, 440}


def test_traits_follow_the_config() -> None:
    traits = settings_of(auth(placement={"in": "query", "name": "s"}, single_live_token=True)).traits()
    assert (traits.injection_points, traits.calls, traits.needs_lease) == (InjectionPoints(query=("s",)), True, True)
    assert credential_of(AUTH).calls_a_minute == 5
    assert credential_of(auth(logins_a_minute=9)).calls_a_minute == 9


def test_login_is_never_a_target() -> None:
    """Its origin is an allowed domain."""
    origin = Origin("https", "ws.example.com", 443)
    settings = settings_of(AUTH)
    assert settings.destinations({("login", "url"): URL}) == Destinations(
        domains=(Domain(origin),), forbidden=(Forbidden(origin, "/login"),), base=Prefix(origin, "")
    )
    assert settings.destinations({}) is None
    assert not settings.needs_prefix


def test_placement_with_disadvantages_is_a_warning() -> None:
    block = auth(placement="query", single_live_token=True)
    assert [place for place, _ in SessionSettings.find_warnings({"auth": block})] == [("auth", "placement")]
    assert [place for place, _ in SessionSettings.find_single_process({"auth": block})] == [
        ("auth", "single_live_token")
    ]
    assert list(SessionSettings.find_warnings({"auth": AUTH})) == []
    assert list(SessionSettings.find_single_process({"auth": AUTH})) == []


WHOLE = auth({"body": {"user": "ann", "key": {"env": "P"}}, "headers": {"X-A": "b"}, "auth": BASIC})


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (WHOLE, set()),
        ({**WHOLE, "rejected": [403], "logins_a_minute": 9, "renewal_interval": "5s"}, set()),
        ({**WHOLE, "token": {"from": "json:t", "expires_in": "e", "lifetime": "9s"}}, set()),
        ({**WHOLE, "login": {**WHOLE["login"], "body": {"key": {"env": "P"}, "user": "ann"}}}, set()),
        ({**WHOLE, "login": {**WHOLE["login"], "headers": {"x_a": "b"}}}, set()),
        ({**WHOLE, "login": {**WHOLE["login"], "auth": {**BASIC, "password": {"env": "P"}}}}, {"proof"}),
        ({**WHOLE, "login": {**WHOLE["login"], "auth": {**BASIC, "username": "ben"}}}, {"client"}),
        ({**WHOLE, "login": {**WHOLE["login"], "auth": JWT}}, {"client", "proof"}),
        ({**WHOLE, "login": {**WHOLE["login"], "url": f"{URL}2"}}, {"client"}),
        ({**WHOLE, "login": {**WHOLE["login"], "body": {"user": "ben", "key": {"env": "P"}}}}, {"token"}),
        ({**WHOLE, "login": {**WHOLE["login"], "body": {"user": "ann", "key": {"env": "SECRET"}}}}, {"token"}),
        ({**WHOLE, "login": {**WHOLE["login"], "query": {"a": "b"}}}, {"token"}),
        ({**WHOLE, "login": {**WHOLE["login"], "headers": {"X-A": "c"}}}, {"token"}),
        ({**WHOLE, "login": {**WHOLE["login"], "method": "PUT"}}, {"token"}),
        ({**WHOLE, "token": {"from": "u"}}, {"token"}),
        ({**WHOLE, "placement": "query"}, {"token"}),
    ],
)
def test_change_that_may_name_another_user_changes_the_lineage(block: dict[str, Any], parts: set[str]) -> None:
    """A secret of the body may be a user name. A separate password is not."""
    first, second = credential_of(WHOLE, KEYS).lineage, credential_of(block, KEYS).lineage
    assert {name for name in ("client", "token", "proof") if getattr(first, name) != getattr(second, name)} == parts


def test_lineage_can_be_serialized() -> None:
    """Processes that share a token compare it in the store."""
    for how in (BASIC, JWT, {"type": "none"}, {"type": "headers", "headers": {"X-K": {"secret": {"env": "P"}}}}):
        lineage = credential_of(auth({"auth": how}), KEYS).lineage
        assert isinstance(lineage, Lineage)
        assert repr(lineage) == "Lineage(REDACTED)"
        hash((lineage.client, lineage.token, lineage.proof))


def test_login_is_the_destination_in_canonical_form() -> None:
    """Without its secrets."""

    def with_login(**login: Any) -> Any:
        document = copied(SESSION)
        document["auth"]["login"] |= login
        return document

    assert destination(with_login(url="https://WS.example.com:443/login")) == destination(SESSION)
    assert destination(with_login(method="POST", format="json", auth={"type": "none"})) == destination(SESSION)
    body = SESSION["auth"]["login"]["body"]
    for other in (
        with_login(url="https://ws.example.com/other"),
        with_login(method="PUT"),
        with_login(headers={"X-A": "b"}),
        with_login(query={"a": "b"}),
        with_login(body={**body, "user": {**body["user"], "name": "other"}}),
        with_login(auth={"type": "basic", "username": {"value": "a"}, "password": {"value": "x"}}),
    ):
        assert destination(other) != destination(SESSION)
