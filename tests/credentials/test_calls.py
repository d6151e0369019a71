from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.calls import Scalar, accepting, form, with_query

PAIRS: list[tuple[str, Scalar]] = [("a b", "c&d"), ("n", 5), ("r", 0.5), ("t", True), ("f", False), ("é", "+/=")]
READ = [("a b", "c&d"), ("n", "5"), ("r", "0.5"), ("t", "true"), ("f", "false"), ("é", "+/=")]


def test_a_form_and_a_query_say_the_same() -> None:
    """True and false as the config writes them; a space is + in forms alone."""
    assert parse_qsl(form(PAIRS), strict_parsing=True) == READ
    query = with_query("https://a.example/b", PAIRS).partition("?")[2]
    assert parse_qsl(query, strict_parsing=True) == READ
    assert (form(PAIRS)[:8], query[:10]) == ("a+b=c%26", "a%20b=c%26")


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        *(("https://a.example", "?x=y"), ("https://a.example/?", "x=y")),
        *(("https://a.example/?a=b", "&x=y"), ("https://a.example/?a=b&", "x=y")),
    ],
)
def test_parameters_follow_the_query_that_is_there(url: str, whole: str) -> None:
    """With one mark between them; without parameters the URL is what it is."""
    assert with_query(url, [("x", "y")]) == url + whole
    assert with_query(url, []) == url


@given(st.lists(st.tuples(st.text(min_size=1), st.text() | st.integers()), min_size=1))
def test_what_is_written_is_in_ascii_and_read_again(pairs: list[tuple[str, Scalar]]) -> None:
    """By whoever reads forms."""
    found = form(pairs)
    assert found.isascii()
    assert parse_qsl(found, keep_blank_values=True) == [(name, str(value)) for name, value in pairs]


def test_accept_is_sent_once() -> None:
    """Another in the config replaces ours, however it is spelled."""
    assert accepting((("X-A", "b"),), "*/*") == (("Accept", "*/*"), ("X-A", "b"))
    assert accepting((("aCCept", "text/xml"),), "*/*") == (("aCCept", "text/xml"),)
