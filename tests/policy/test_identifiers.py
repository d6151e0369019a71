"""The integration ID and the token in targets and headers."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.policy import identifiers


@pytest.mark.parametrize("text", ["crm", "a", "0", "a-b_c", "x" * 63, "unknown2"])
def test_id_has_lower_case_letters_digits_hyphens_and_underscores(text: str) -> None:
    """Up to 63 characters, of which the first is a letter or digit."""
    assert identifiers.valid_id(text)


@pytest.mark.parametrize("text", ["", "unknown", "CRM", "-a", "_a", "a.b", "a b", "a\n", "é", "x" * 64, "a%62"])
def test_id_with_other_characters_is_invalid(text: str) -> None:
    """Metrics use `unknown` for requests without an integration."""
    assert not identifiers.valid_id(text)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/i/crm", (b"crm", b"")),
        (b"/i/crm/", (b"crm", b"/")),
        (b"/i/crm/a/b?x=/y", (b"crm", b"/a/b?x=/y")),
        (b"/i/crm?x=/y", (b"crm", b"?x=/y")),
        (b"/i/", (b"", b"")),
        (b"/i//crm", (b"", b"/crm")),
        (b"/i/%63rm/a", (b"%63rm", b"/a")),
        (b"/i/?a=1", (b"", b"?a=1")),
        (b"/i/crm?", (b"crm", b"?")),
    ],
)
def test_reverse_proxy_does_not_decode_the_id(target: bytes, parts: tuple[bytes, bytes]) -> None:
    """It ends at the next slash or question mark."""
    assert identifiers.split_reverse(target) == parts


@given(st.binary(max_size=40).filter(lambda name: b":" not in name), st.binary(max_size=40))
@example(b"-", b"token")
def test_proxy_authorization_is_parsed(name: bytes, password: bytes) -> None:
    """The first colon separates user and password (RFC 7617). `-` names no integration."""
    value = b"Basic " + base64.b64encode(name + b":" + password)
    user = identifiers.parse_proxy_authorization(value)
    assert (user.integration, user.token) == (b"" if name == b"-" else name, password)


@pytest.mark.parametrize("value", [b"Basic YTpi", b"BASIC YTpi", b" \tbasic  YTpi \t"])
def test_scheme_ignores_case_and_spaces(value: bytes) -> None:
    """RFC 9110 11.1, 5.6.3."""
    user = identifiers.parse_proxy_authorization(value)
    assert (user.integration, user.token) == (b"a", b"b")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "the scheme of Proxy-Authorization must be Basic"),
        (b"Bearer YTpi", "the scheme of Proxy-Authorization must be Basic"),
        (b"Basic\tYTpi", "the scheme of Proxy-Authorization must be Basic"),
        (b"Basic !", "Proxy-Authorization must be base64"),
        (b"Basic YQ=", "Proxy-Authorization must be base64"),
        (b"Basic YTpi YTpi", "Proxy-Authorization must be base64"),
        (b"Basic YTpi\n", "Proxy-Authorization must be base64"),
        (b"Basic", "Proxy-Authorization must have a colon between user name and password"),
        (b"Basic YWI=", "Proxy-Authorization must have a colon between user name and password"),
    ],
)
def test_invalid_proxy_authorization_is_refused(value: bytes, reason: str) -> None:
    """The reason repeats nothing of the value."""
    with pytest.raises(identifiers.InvalidIdentifiers) as refused:
        identifiers.parse_proxy_authorization(value)
    assert str(refused.value) == reason


def test_single_value_ignores_missing_sources() -> None:
    assert identifiers.single_value(None, b"", b"crm", b"crm") == b"crm"
    assert identifiers.single_value(None, b"") is None
    with pytest.raises(
        identifiers.InvalidIdentifiers, match=r"\Athe request must not name two integrations or two callers\Z"
    ):
        identifiers.single_value(b"crm", None, b"sms")


@pytest.mark.parametrize(
    ("target", "preset", "reverse"),
    [
        (b"/p/welcome", b"welcome", b""),
        (b"/p/WELCOME", b"WELCOME", b""),
        (b"/p/", b"", b""),
        (b"/p", b"", b""),
        (b"/p/welcome/", b"", b""),
        (b"/p/welcome?", b"", b""),
        (b"/p//welcome", b"", b""),
        (b"/i/crm", b"", b"crm"),
        (b"/i/crm/p/welcome", b"", b"crm"),
        (b"http://h.test/p/welcome", b"", b""),
        (b"*", b"", b""),
    ],
)
def test_target_names_a_preset_or_an_integration(target: bytes, preset: bytes, reverse: bytes) -> None:
    """Nothing follows a preset's ID."""
    assert (identifiers.preset_id(target), identifiers.reverse_id(target)) == (preset, reverse)
