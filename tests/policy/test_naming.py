"""The integration ID and the token in targets and headers."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.policy import naming, paths
from sidekey.policy.urls import check_characters


@pytest.mark.parametrize("text", ["crm", "a", "0", "a-b_c", "x" * 63, "unknown2"])
def test_id_has_lower_case_letters_digits_hyphens_and_underscores(text: str) -> None:
    """Up to 63 characters, of which the first is a letter or digit."""
    assert naming.valid_id(text)


@pytest.mark.parametrize("text", ["", "unknown", "CRM", "-a", "_a", "a.b", "a b", "a\n", "é", "x" * 64, "a%62"])
def test_id_with_other_characters_is_invalid(text: str) -> None:
    """Metrics use `unknown` for requests without an integration."""
    assert not naming.valid_id(text)


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
    assert naming.split_reverse(target) == parts


@given(st.binary(max_size=40).filter(lambda name: b":" not in name), st.binary(max_size=40))
@example(b"-", b"token")
def test_proxy_authorization_is_parsed(name: bytes, password: bytes) -> None:
    """The first colon separates user and password (RFC 7617). `-` names no integration."""
    value = b"Basic " + base64.b64encode(name + b":" + password)
    user = naming.parse_proxy_authorization(value)
    assert (user.integration, user.token) == (b"" if name == b"-" else name, password)


@pytest.mark.parametrize("value", [b"Basic YTpi", b"BASIC YTpi", b" \tbasic  YTpi \t"])
def test_scheme_ignores_case_and_spaces(value: bytes) -> None:
    """RFC 9110 11.1, 5.6.3."""
    user = naming.parse_proxy_authorization(value)
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
    with pytest.raises(naming.InvalidNaming) as refused:
        naming.parse_proxy_authorization(value)
    assert str(refused.value) == reason


def test_single_value_ignores_missing_sources() -> None:
    assert naming.single_value(None, b"", b"crm", b"crm") == b"crm"
    assert naming.single_value(None, b"") is None
    with pytest.raises(naming.InvalidNaming, match=r"\Athe request must not name two integrations or two callers\Z"):
        naming.single_value(b"crm", None, b"sms")


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1",
        b"127.0.0.1:8080",
        b"127.0.0.1:",
        b"[::1]:",
        b"[::1]:80",
        b"[::1]",
        b"localhost",
        b"LOCALHOST:1",
        b"10.1.2.3",
        b"side.svc:80",
    ],
)
def test_host_of_the_listener_is_recognized(host: bytes) -> None:
    """A page cannot send an IP literal as Host for a name that it controls."""
    assert naming.is_own_host(host, frozenset({"side.svc"}))


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.example",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"127.0.0.1:x",
        b"127.0.0.1:80x",
        b"127.0.0.1:\xb2",
        b"[::1]x",
        b"[::1]80",
        b"[::1]:x",
        b"[127.0.0.1]",
        b"::1",
        b"[::1",
        b"[localhost]",
        b"side.svc.",
    ],
)
def test_other_hosts_are_not_the_listener(host: bytes) -> None:
    """DNS rebinding sends another name."""
    assert not naming.is_own_host(host, frozenset({"side.svc"}))


@pytest.mark.parametrize(
    ("via", "loops"),
    [
        (b"", False),
        (b"1.1 other", False),
        (b"1.1 sidekey (aaaa)", False),
        (b"1.1 sidekey (beef)", True),
        (b"1.0 x, 1.1 sidekey (beef), 1.1 y", True),
        (b",".join([b"1.1 Sidekey (a)"] * 5), False),
        (b",".join([b"1.1 Sidekey (a)"] * 6), True),
    ],
)
def test_loop_is_detected_by_via(via: bytes, loops: bool) -> None:
    """This process's word, or more than five Sidekeys (RFC 9110 7.6.3)."""
    assert naming.is_loop(via, b"beef") is loops


@given(st.from_regex(naming.PLAIN, fullmatch=True))
def test_plain_path_is_its_own_final_form(target: bytes) -> None:
    """So the fast parser agrees with the exact one."""
    path = re.split(rb"\?", target, maxsplit=1)[0].decode() or "/"
    check_characters(target.decode())
    assert paths.final_form(path) == path


@pytest.mark.parametrize(
    "host", [b"1" * 5000, b"0x" + b"f" * 60_000, b"a" * 261, b"[" + b":" * 300 + b"]", b"0" * 260 + b"1"]
)
def test_too_long_host_is_not_the_listener(host: bytes) -> None:
    """Even if it reads as an address."""
    assert not naming.is_own_host(host, frozenset({"a" * 261}))


def test_host_of_the_maximum_length_is_accepted() -> None:
    longest = b"a" * (naming.MAX_HOST_LENGTH - 6) + b":65535"
    assert naming.is_own_host(longest, frozenset({"a" * (naming.MAX_HOST_LENGTH - 6)}))
    assert naming.is_own_host(b"0" * (naming.MAX_HOST_LENGTH - 1) + b"1", frozenset())


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
    """The path of a preset ends with its ID."""
    assert (naming.preset_id(target), naming.reverse_id(target)) == (preset, reverse)
