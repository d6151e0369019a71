"""Writing calls and reading their responses: forms, queries, JSON objects, lifetimes, Retry-After, errors."""

from __future__ import annotations

import json
import string
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.credentials import calls
from sidekey.credentials.base import Reply
from sidekey.credentials.calls import encode_form, with_accept, with_query
from sidekey.policy.parameters import Scalar

PAIRS: list[tuple[str, Scalar]] = [("a b", "c&d"), ("n", 5), ("r", 0.5), ("t", True), ("f", False), ("é", "+/=")]
READ = [("a b", "c&d"), ("n", "5"), ("r", "0.5"), ("t", "true"), ("f", "false"), ("é", "+/=")]


def test_form_and_query_encode_the_same_values() -> None:
    """Booleans as the config writes them. Only a form encodes a space as a plus."""
    assert parse_qsl(encode_form(PAIRS), strict_parsing=True) == READ
    query = with_query("https://a.example/b", PAIRS).partition("?")[2]
    assert parse_qsl(query, strict_parsing=True) == READ
    assert (encode_form(PAIRS)[:8], query[:10]) == ("a+b=c%26", "a%20b=c%26")


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        *(("https://a.example", "?x=y"), ("https://a.example/?", "x=y")),
        *(("https://a.example/?a=b", "&x=y"), ("https://a.example/?a=b&", "x=y")),
    ],
)
def test_parameters_are_appended_to_an_existing_query(url: str, whole: str) -> None:
    assert with_query(url, [("x", "y")]) == url + whole
    assert with_query(url, []) == url


@given(st.lists(st.tuples(st.text(min_size=1), st.text() | st.integers()), min_size=1))
def test_encoded_parameters_are_ascii_and_decode_to_the_same_values(pairs: list[tuple[str, Scalar]]) -> None:
    result = encode_form(pairs)
    assert result.isascii()
    assert parse_qsl(result, keep_blank_values=True) == [(name, str(value)) for name, value in pairs]


def test_configured_accept_replaces_the_default() -> None:
    assert with_accept((("X-A", "b"),), "*/*") == (("Accept", "*/*"), ("X-A", "b"))
    assert with_accept((("aCCept", "text/xml"),), "*/*") == (("aCCept", "text/xml"),)


@pytest.mark.parametrize("body", [b'{"a": 1}', b'\xef\xbb\xbf{"a": 1}', b' {"a": 1}\r\n', b'{"a": 0, "a": 1}'])
def test_json_object_is_read(body: bytes) -> None:
    """With a byte order mark, too (RFC 8259 8.1)."""
    assert calls.parse_json_object(body) == {"a": 1}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"5", b'"{}"', b"{}}", b"{'a': 1}", b"\xff", b'{"a": ' + b"9" * 5000 + b"}", b"[" * 100_000]
)
def test_anything_but_an_object_is_none(body: bytes) -> None:
    assert calls.parse_json_object(body) is None


@given(st.binary())
@example('{"a": 1}'.encode("utf-16"))
def test_any_bytes_give_an_object_or_none(body: bytes) -> None:
    result = calls.parse_json_object(body)
    assert result is None or json.loads(body.decode("utf-8-sig")) == result


@given(st.text())
def test_token_consists_of_visible_ascii(text: str) -> None:
    visible = set(string.ascii_letters + string.digits + string.punctuation)
    assert calls.is_token(text) is (text != "" and set(text) <= visible)


@pytest.mark.parametrize("value", [None, 5, b"tok", ["tok"]])
def test_only_a_string_is_a_token(value: object) -> None:
    assert not calls.is_token(value)


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 120 "}, 120),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT", "date": DATE}, 60),
        # RFC 9110 5.6.7: the two older forms.
        ({"retry-after": "Sunday, 06-Nov-94 08:50:37 GMT", "date": DATE}, 60),
        ({"retry-after": "Sun Nov  6 08:50:37 1994", "date": DATE}, 60),
        ({"retry-after": "Sun, 06 Nov 1994 07:50:37 GMT", "date": DATE}, 0),
        ({"retry-after": DATE}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT", "date": "today"}, None),
        ({"retry-after": "Sun, 66 Nov 1994 08:50:37 GMT", "date": DATE}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    """RFC 9110 10.2.3. A date counts from the response's `Date`, so Sidekey's clock does not matter."""
    assert calls.retry_after(headers) == seconds


@given(st.text(), st.text() | st.just(DATE))
@example("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", DATE)
@example("Sun, 06 Nov 1994 08:49:37 +9999999999", DATE)
@example("Sun, 06 Nov 1994 99:99:99 GMT", DATE)
def test_any_retry_after_gives_seconds_or_none(value: str, date: str) -> None:
    seconds = calls.retry_after({"retry-after": value, "date": date})
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("status", "word", "outcome", "needs_config_change"),
    [
        (204, "", "invalid", False),
        (307, "", "invalid", False),
        (400, "", "refused", True),
        (400, "our words", "refused", True),
        (401, "", "refused", True),
        (403, "our words", "refused", True),
        (404, "our words", "refused", False),
        (404, "", "refused", False),
        (429, "", "rate_limited", False),
        (502, "", "unreachable", False),
    ],
)
def test_status_determines_the_error(status: int, word: str, outcome: str, needs_config_change: bool) -> None:
    """400, 401 and 403 mean that the config is wrong."""
    error = calls.error_of_status("login", Reply(status, {"retry-after": "7"}, b"hunter2"), word)
    assert (error.outcome, error.needs_config_change, error.retry_after) == (outcome, needs_config_change, 7)
    assert error.reason == f"login returned {status} {word}".strip()


@pytest.mark.parametrize(
    ("status", "unspent"),
    [
        *((status, False) for status in (200, 204, 500, 502, 504)),
        *((status, True) for status in (302, 400, 401, 429, 503)),
    ],
)
def test_error_tells_if_the_refresh_token_may_be_used_up(status: int, unspent: bool) -> None:
    """After a 5xx other than 503, a server may have processed the request."""
    assert calls.error_of_status("token endpoint", Reply(status, {}, b"")).unspent is unspent
