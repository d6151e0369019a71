"""admin/console/origin.py: which requests come from a page of ours."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.admin.console.origin import CrossSiteToken, is_same_origin

NAMES = frozenset({"sidekey.internal", "keys.example.com"})


@pytest.mark.parametrize(
    ("origin", "host", "tls", "behind", "expected"),
    [
        ("http://127.0.0.1:9090", "127.0.0.1:9090", False, False, True),
        ("http://[::1]:9090", "[::1]:9090", False, False, True),
        ("https://sidekey.internal", "sidekey.internal", True, False, True),
        ("http://sidekey.internal", "sidekey.internal", True, False, False),
        ("https://127.0.0.1:9090", "127.0.0.1:9090", False, False, False),
        ("http://127.0.0.1:9091", "127.0.0.1:9090", False, False, False),
        ("https://keys.example.com", "10.0.0.1:9090", False, True, True),
        ("https://keys.example.com", "keys.example.com", False, True, True),
        ("https://keys.example.com:8443", "keys.example.com:8443", False, True, True),
        ("https://keys.example.com:8443", "keys.example.com", False, True, False),
        ("http://keys.example.com", "keys.example.com", False, True, False),
        ("https://other.example.com", "other.example.com", False, True, False),
        ("https://keys.example.com.evil.example", "keys.example.com", False, True, False),
        ("https://keys.example.com/", "keys.example.com", False, True, False),
        ("https://u@keys.example.com", "keys.example.com", False, True, False),
        ("null", "keys.example.com", False, True, False),
        ("", "", False, False, False),
        ("http://", "", False, False, False),
        ("\udcff", "127.0.0.1:9090", False, False, False),
        ("\udcff", "keys.example.com", False, True, False),
        ("https://[", "keys.example.com", False, True, False),
    ],
)
def test_an_origin_is_ours_or_not(origin: str, host: str, tls: bool, behind: bool, expected: bool) -> None:
    headers = {"Origin": origin, "Host": host}
    assert is_same_origin(headers, tls=tls, behind_tls=behind, names=NAMES) is expected


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", ""])
def test_what_the_browser_says_of_the_site_counts_as_well(site: str) -> None:
    headers = {"Origin": "http://localhost:9090", "Host": "localhost:9090", "Sec-Fetch-Site": site}
    assert not is_same_origin(headers, tls=False, behind_tls=False, names=NAMES)


def test_a_token_is_masked_each_time_and_is_one_browsers() -> None:
    one, other = CrossSiteToken("one"), CrossSiteToken("other")
    first, second = one.masked(), one.masked()
    assert first != second
    assert one.accepts(first)
    assert one.accepts(second)
    assert not other.accepts(first)


@given(st.one_of(st.text(max_size=100), st.binary(max_size=70).map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_nothing_else_is_a_token(sent: str) -> None:
    assert not CrossSiteToken("one").accepts(sent)
