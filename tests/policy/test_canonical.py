"""The canonical form of targets: it keeps their meaning, and there is only one."""

from __future__ import annotations

import re
import sys
from types import FrameType
from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy import paths
from sidekey.policy.canonical import PLAIN_PATH, CanonicalForm, canonical_form, canonical_query
from sidekey.policy.parameters import UnreadableNames
from sidekey.policy.targets import parse_prefix
from sidekey.policy.urls import parse_target
from support.http_strategies import soup

SPELLING = CanonicalForm("x-amz-")

UNRESERVED = "-._~0-9A-Za-z"
WRITTEN = st.lists(
    st.sampled_from(
        ["a", "Z", "%61", "%2f", "%2F", "%25", "%252F", "@", "+", "=", "~", ".", "%2e", ";", "%C3%A9", "%ff"]
    )
).map("".join)


@pytest.mark.parametrize(
    ("path", "spelled"),
    [
        ("/", "/"),
        ("/a@b/c+d", "/a%40b/c%2Bd"),
        ("/year=2024/a:b;c,d", "/year%3D2024/a%3Ab%3Bc%2Cd"),
        ("/%41%2d%2e%5f%7e", "/A-._~"),
        ("/a%2fb/%2F", "/a%2Fb/%2F"),
        ("/%252f%2525", "/%252f%2525"),
        ("/%c3%a9/%ff", "/%C3%A9/%FF"),
        ("/%2e%2e/a", "/../a"),
        ("/a//b/", "/a//b/"),
        ("/a%20b", "/a%20b"),
        ("/%00", "/%00"),
    ],
)
def test_path_segments_are_decoded_and_encoded_once(path: str, spelled: str) -> None:
    assert canonical_form(path) == spelled
    assert canonical_form(spelled) == spelled


@pytest.mark.parametrize(
    ("query", "spelled"),
    [
        (None, ""),
        ("", ""),
        ("&&", ""),
        ("uploads", "uploads"),
        ("b=2&a=1&b=1", "b=2&a=1&b=1"),
        ("a=x+y%20z%2B", "a=x%20y%20z%2B"),
        ("a=b=c&=&d=", "a=b%3Dc&=&d="),
        ("p=/a/b@c:d;e", "p=%2Fa%2Fb%40c%3Ad%3Be"),
        ("%70refix=%61%26b", "prefix=a%26b"),
    ],
)
def test_query_parts_are_decoded_and_encoded_once_in_order(query: str | None, spelled: str) -> None:
    assert canonical_query(query) == spelled
    assert canonical_query(spelled) == spelled


@pytest.mark.parametrize("part", ["a&", "%41&", "+&", "a==&", "%C3%A9=@&"])
def test_work_for_each_part_of_a_query_is_bounded(part: str) -> None:
    """A long query must not block the event loop."""
    steps = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal steps
        steps += event == "call"

    sys.setprofile(count)
    try:
        spelled = canonical_query(part * 1000)
    finally:
        sys.setprofile(None)
    assert spelled == "&".join([canonical_query(part.strip("&"))] * 1000)
    assert steps <= (part.count("%") + 2 * part.count("==")) * 1000 + 5


@given(st.lists(WRITTEN, max_size=4), st.lists(st.tuples(WRITTEN, WRITTEN), max_size=4))
def test_canonical_form_keeps_the_meaning_of_a_target(segments: list[str], parts: list[tuple[str, str]]) -> None:
    path = "/" + "/".join(segments)
    query = "&".join(f"{name}={value}" for name, value in parts)
    target = SPELLING.canonicalize(parse_target(f"https://h.test{path}?{query}"))
    assert re.fullmatch(rf"/(?:[{UNRESERVED}/]|%[0-9A-F]{{2}})*", target.path)
    assert re.fullmatch(rf"(?:[{UNRESERVED}=&]|%[0-9A-F]{{2}})*", target.query or "")
    assert SPELLING.canonicalize(target) == target
    result = [unquote(part, "latin-1") for part in target.path[1:].split("/")]
    assert result == [unquote(part, "latin-1") for part in path[1:].split("/")]
    pairs = [part.partition("=")[::2] for part in (target.query or "").split("&") if part]
    expected = [part.partition("=")[::2] for part in query.split("&") if part]
    assert [tuple(unquote(part, "latin-1") for part in pair) for pair in pairs] == [
        tuple(unquote_plus(part, "latin-1") for part in pair) for pair in expected
    ]


@given(soup())
def test_plain_path_is_canonical_and_unambiguous(path: str) -> None:
    if PLAIN_PATH.fullmatch(path.encode("latin-1")):
        assert canonical_form(path) == path
        assert paths.PLAIN_TARGET.fullmatch(path.encode("latin-1"))


def test_prefix_has_the_canonical_form_of_targets() -> None:
    assert str(SPELLING.canonicalize_prefix(parse_prefix("https://h.test/a@b/c%20d"))) == "https://h.test/a%40b/c%20d"


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Signature=1",
        "a=1&x-amz-security-token=t",
        "x-amz-",
        "%58-Amz-Date=1",
        "%2558-amz-date=1",
        "x%252damz-date=1",
        "a=1%3Bx-amz-date=2",
        "+x-amz-date=1",
        "%EF%BD%98-amz-date=1",
        "x%u002damz-date",
        "[x-amz-date]=1",
    ],
)
def test_reserved_name_is_detected_in_any_encoding(query: str) -> None:
    assert SPELLING.contains_reserved(canonical_query(query))
    assert SPELLING.contains_reserved(query)


@pytest.mark.parametrize(
    "query", ["x-am-z=1", "ax-amz-date=1", "a=x-amz-date", "x-id=PutObject", "xamz=1&x_amz_=1", ""]
)
def test_other_names_are_not_reserved(query: str) -> None:
    assert not SPELLING.contains_reserved(query)


def test_query_encoded_too_many_times_is_refused() -> None:
    with pytest.raises(UnreadableNames):
        SPELLING.contains_reserved("a%" + "25" * 8 + "=1")
