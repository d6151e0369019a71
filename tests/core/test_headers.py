"""What a header field is taken for, by its name."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.core import headers
from sidekey.core.headers import REQUEST_ROLES, RESPONSE_ROLES, Names, Role

TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=30).map(str.encode)


@pytest.mark.parametrize("name", [b"Host", b"HOST", b"host", b"hOsT"])
def test_names_are_compared_without_case(name: bytes) -> None:
    """RFC 9110 5.1."""
    assert headers.classify(name, REQUEST_ROLES)[0] is Role.HOST


@pytest.mark.parametrize("name", [b"Content_Length", b"transfer_encoding", b"X_Integration_Id", b"Proxy_Authorization"])
def test_a_name_that_is_special_only_with_underscores_is_dropped(name: bytes) -> None:
    """A CGI-like server cannot tell the two apart, so it must not arrive; but it frames and names nothing here."""
    assert headers.classify(name, REQUEST_ROLES)[0] is Role.DROP


@pytest.mark.parametrize(
    "name",
    [
        b"Keep-Alive",
        b"TE",
        b"Trailer",
        b"Proxy-Anything",
        b"proxy_anything",
        b"Sidekey-Anything",
        b"Sidekey_Token",
        b"X-Original-URL",
        b"X-Rewrite-URL",
        b"HTTP2-Settings",
    ],
)
def test_hop_by_hop_and_steering_fields_are_dropped_from_requests(name: bytes) -> None:
    """RFC 9110 7.6.1, and what would let a caller steer another server's routing."""
    assert headers.classify(name, REQUEST_ROLES)[0] is Role.DROP


@pytest.mark.parametrize(
    "name", [b"Authorization", b"Cookie", b"X-Forwarded-For", b"Forwarded", b"Accept", b"X-Request-Id"]
)
def test_other_fields_go_on(name: bytes) -> None:
    """End-to-end fields are none of the proxy's business."""
    role, normal, start = headers.classify(name, REQUEST_ROLES)
    assert (role, normal, start) == (Role.FORWARD, name.lower(), b"\r\n" + name + b": ")


@pytest.mark.parametrize("name", [b"Proxy-Status", b"Proxy-Authenticate", b"Upgrade", b"TE", b"Trailer"])
def test_hop_by_hop_fields_are_dropped_from_answers(name: bytes) -> None:
    """Only our own answers carry Proxy-Status."""
    assert headers.classify(name, RESPONSE_ROLES)[0] is Role.DROP


@given(TOKEN)
def test_a_spelling_is_learnt_as_it_is_classified(name: bytes) -> None:
    """The cache of spellings never says anything else than the table."""
    names = Names(REQUEST_ROLES)
    assert names.learn(name) == headers.classify(name, REQUEST_ROLES)
    assert names.known[name] == headers.classify(name, REQUEST_ROLES)


def test_the_cache_of_spellings_is_bounded() -> None:
    """Invented names cannot fill memory."""
    names = Names(REQUEST_ROLES)
    for number in range(3 * Names.LIMIT):
        names.learn(b"X-%d" % number)
    assert len(names.known) <= Names.LIMIT


@given(st.lists(TOKEN), st.sampled_from([b",", b", ", b" ,\t", b",,"]))
def test_a_list_is_read_into_its_members(members: list[bytes], separator: bytes) -> None:
    """RFC 9110 5.6.1: empty members do not count."""
    assert headers.tokens(separator.join(members)) == [member.lower() for member in members]


def test_connection_names_fields_but_not_by_its_own_options() -> None:
    """RFC 9110 7.6.1."""
    assert headers.nominated(b"close, X_Secret, keep-alive,Upgrade") == {b"x-secret", b"upgrade"}


LINES = [b"\r\nContent-Type: text/plain", b"\r\nContent_Encoding:  Identity ", b"\r\nX-A: 1", b"\r\nx-a:2"]


def test_a_line_is_read_by_its_normalised_name() -> None:
    """Values lose the white space around them, and keep their order."""
    assert [headers.line_name(line) for line in LINES] == [b"content-type", b"content-encoding", b"x-a", b"x-a"]
    assert headers.line_values(LINES, b"x-a") == [b"1", b"2"]


@pytest.mark.parametrize(
    ("codings", "plain"),
    [([], True), ([b"identity"], True), ([b""], True), ([b"gzip"], False), ([b"identity", b"br"], False)],
)
def test_a_body_is_plain_without_a_content_coding(codings: list[bytes], plain: bool) -> None:
    """`identity` is none (RFC 9110 8.4.1)."""
    assert headers.is_plain([b"\r\nContent-Encoding: " + coding for coding in codings]) is plain
