"""Placement of a token in header, query or body."""

import pytest
from pydantic import ValidationError

from sidekey.credentials.base import Grant, InjectionPoints
from sidekey.credentials.placement import Placement, parse_placement


@pytest.mark.parametrize(
    ("raw", "placement"),
    [
        ("header", Placement("header", "Authorization", "Bearer ")),
        ("query", Placement("query", "access_token", "")),
        ("body", Placement("body", "access_token", "")),
        ({"in": "header"}, Placement("header", "Authorization", "Bearer ")),
        ({"in": "header", "name": "X-Token", "scheme": ""}, Placement("header", "X-Token", "")),
        ({"in": "header", "scheme": "Zoho-oauthtoken"}, Placement("header", "Authorization", "Zoho-oauthtoken ")),
        ({"in": "header", "prefix": "Token "}, Placement("header", "Authorization", "Token ")),
        ({"in": "header", "prefix": "Token token="}, Placement("header", "Authorization", "Token token=")),
        ({"in": "query", "name": "token"}, Placement("query", "token", "")),
    ],
)
def test_placement_is_a_word_or_a_mapping(raw: object, placement: Placement) -> None:
    """The defaults are those of RFC 6750."""
    assert parse_placement(raw) == placement


@pytest.mark.parametrize("raw", ["cookie", None, 5, ["header"], True])
def test_other_values_are_an_error_that_lists_the_valid_ones(raw: object) -> None:
    with pytest.raises(ValueError, match="must be header, body, query"):
        parse_placement(raw)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"in": "cookie"}, "in"),
        ({"name": "X-Token"}, "in"),
        ({"in": "header", "name": "Host"}, "name"),
        ({"in": "header", "name": "X Token"}, "name"),
        ({"in": "header", "name": ""}, "name"),
        ({"in": "query", "name": ""}, "name"),
        ({"in": "query", "scheme": ""}, "scheme"),
        ({"in": "body", "scheme": "Bearer"}, "scheme"),
        ({"in": "header", "scheme": "Bearer "}, "scheme"),
        ({"in": "header", "scheme": "B\u00e4r"}, "scheme"),
        ({"in": "header", "scheme": 5}, "scheme"),
        ({"in": "header", "prefix": ""}, "prefix"),
        ({"in": "header", "prefix": " Token "}, "prefix"),
        ({"in": "header", "prefix": "Token\t"}, "prefix"),
        ({"in": "header", "prefix": "Token\n"}, "prefix"),
        ({"in": "header", "prefix": 5}, "prefix"),
        ({"in": "query", "prefix": "Token "}, "prefix"),
        ({"in": "header", "scheme": "Token", "prefix": "Token "}, "prefix"),
        ({"in": "header", "scheme": "", "prefix": "Token "}, "prefix"),
    ],
)
def test_error_of_a_mapping_has_its_key(raw: object, key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_placement(raw)
    assert [error["loc"] for error in caught.value.errors()] == [(key,)]


@pytest.mark.parametrize(
    ("placement", "grant", "places"),
    [
        (
            Placement(),
            Grant(headers=(("Authorization", "Bearer tok"),), base_url="u", secrets=(b"tok",)),
            InjectionPoints(headers=("Authorization",)),
        ),
        (
            Placement("header", "X", ""),
            Grant(headers=(("X", "tok"),), base_url="u", secrets=(b"tok",)),
            InjectionPoints(headers=("X",)),
        ),
        (
            Placement("header", "X", "Token token="),
            Grant(headers=(("X", "Token token=tok"),), base_url="u", secrets=(b"tok",)),
            InjectionPoints(headers=("X",)),
        ),
        (
            Placement("header", "X", "Schl\u00fcssel "),
            Grant(headers=(("X", "Schl\xc3\xbcssel tok"),), base_url="u", secrets=(b"tok",)),
            InjectionPoints(headers=("X",)),
        ),
        (
            Placement("query", "t", ""),
            Grant(query=(("t", "tok"),), base_url="u", secrets=(b"tok",)),
            InjectionPoints(query=("t",)),
        ),
        (
            Placement("body", "t", ""),
            Grant(body=(("t", "tok"),), base_url="u", secrets=(b"tok",)),
            InjectionPoints(body=("t",)),
        ),
    ],
)
def test_grant_uses_the_injection_points(placement: Placement, grant: Grant, places: InjectionPoints) -> None:
    assert placement.build_grant("tok", "u") == grant
    assert placement.injection_points() == places


@pytest.mark.parametrize(
    ("placement", "bearer"),
    [
        (Placement(), True),
        (Placement("header", "Authorization", "bearer "), True),
        (Placement("header", "Authorization", "Bearer"), False),
        (Placement("query", "access_token", ""), True),
        (Placement("body", "access_token", ""), True),
        (Placement("header", "Authorization", ""), False),
        (Placement("header", "Authorization", "MAC "), False),
    ],
)
def test_only_another_header_prefix_is_not_bearer(placement: Placement, bearer: bool) -> None:
    assert placement.requires_bearer is bearer


def test_canonical_placement_ignores_case_of_header_and_scheme() -> None:
    """The case of a parameter's name counts."""
    header = parse_placement({"in": "header", "name": "AUTHORIZATION", "scheme": "bearer"})
    assert header.canonical() == Placement().canonical() == ["header", "authorization", "bearer"]
    assert parse_placement({"in": "query", "name": "Token"}).canonical() == ["query", "Token", ""]


def test_prefix_that_is_a_scheme_equals_that_scheme() -> None:
    """Any other prefix is compared with its case."""

    def spelled(**written: str) -> object:
        return parse_placement({"in": "header", **written}).canonical()[2]

    assert spelled(prefix="Token ") == spelled(scheme="token") == "token"
    assert spelled(scheme="") == ""
    others = [spelled(prefix=text) for text in ("Token", "token", "Token  ", "Token token=", "Bearer:")]
    assert others == [{"prefix": text} for text in ("Token", "token", "Token  ", "Token token=", "Bearer:")]
