"""Roles of headers, and the cache of their names."""

from __future__ import annotations

import gc
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy import headers
from sidekey.policy.headers import REQUEST_ROLES, RESPONSE_ROLES, FieldName, FieldNames, Role

TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=30).map(str.encode)


@pytest.mark.parametrize("name", [b"Host", b"HOST", b"host", b"hOsT"])
def test_names_are_compared_without_case(name: bytes) -> None:
    """RFC 9110 5.1."""
    assert headers.classify(name, REQUEST_ROLES).role is Role.HOST


SPECIAL = {
    b"Host": Role.HOST,
    b"Content-Length": Role.CONTENT_LENGTH,
    b"Transfer-Encoding": Role.TRANSFER_ENCODING,
    b"Connection": Role.CONNECTION,
    b"Upgrade": Role.UPGRADE,
    b"Expect": Role.EXPECT,
    b"Via": Role.VIA,
    b"Origin": Role.ORIGIN,
    b"Sec-Fetch-Site": Role.SEC_FETCH_SITE,
    b"Max-Forwards": Role.MAX_FORWARDS,
    b"X-Integration-Id": Role.INTEGRATION_ID,
    b"Proxy-Authorization": Role.PROXY_AUTHORIZATION,
    b"Sidekey-Token": Role.TOKEN,
    b"Proxy-Connection": Role.PROXY_CONNECTION,
}


@pytest.mark.parametrize(("name", "role"), SPECIAL.items(), ids=str)
def test_roles_of_request_headers(name: bytes, role: Role) -> None:
    assert headers.classify(name, REQUEST_ROLES).role is role


@pytest.mark.parametrize(
    ("name", "role"),
    [
        (b"Content-Length", Role.CONTENT_LENGTH),
        (b"Transfer-Encoding", Role.TRANSFER_ENCODING),
        (b"Connection", Role.CONNECTION),
        (b"Keep-Alive", Role.KEEP_ALIVE),
    ],
)
def test_roles_of_response_headers(name: bytes, role: Role) -> None:
    assert headers.classify(name, RESPONSE_ROLES).role is role


def test_forward_is_the_only_falsy_role() -> None:
    """Parsers test the truth value of a role."""
    assert [role for role in Role if not role] == [Role.FORWARD]


def test_headers_that_bypass_rules() -> None:
    """Overrides of the method, headers that repeat the URL, and digests of the body."""
    names = [b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override"]
    assert set(map(headers.normalise, names)) == headers.METHOD_OVERRIDES
    assert {b"location", b"content-location", b"link", b"refresh"} == headers.URL_FIELDS
    assert {b"digest", b"content-digest", b"repr-digest", b"content-md5"} == headers.BODY_DIGESTS


@pytest.mark.parametrize("name", [b"Content_Length", b"transfer_encoding", b"X_Integration_Id", b"Proxy_Authorization"])
def test_name_that_has_a_role_only_with_underscores_is_dropped(name: bytes) -> None:
    """CGI-like servers cannot tell it from the real header."""
    assert headers.classify(name, REQUEST_ROLES).role is Role.DROP


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
def test_hop_by_hop_and_routing_headers_are_dropped_from_requests(name: bytes) -> None:
    """RFC 9110 7.6.1, and headers that would replace the target at the upstream."""
    assert headers.classify(name, REQUEST_ROLES).role is Role.DROP


@pytest.mark.parametrize(
    "name", [b"Authorization", b"Cookie", b"X-Forwarded-For", b"Forwarded", b"Accept", b"X-Request-Id"]
)
def test_other_headers_are_forwarded(name: bytes) -> None:
    spelling = headers.classify(name, REQUEST_ROLES)
    role, normal, start = spelling.role, spelling.normal, spelling.start
    assert (role, normal, start) == (Role.FORWARD, name.lower(), b"\r\n" + name + b": ")


@pytest.mark.parametrize("name", [b"Proxy-Status", b"Proxy-Authenticate", b"TE", b"Trailer"])
def test_hop_by_hop_headers_are_dropped_from_responses(name: bytes) -> None:
    """Only Sidekey's own responses have Proxy-Status."""
    assert headers.classify(name, RESPONSE_ROLES).role is Role.DROP


def means(spelling: FieldName) -> tuple[bytes, Role, bytes, bytes]:
    """Return all attributes of a name except its follower."""
    return spelling.raw, spelling.role, spelling.normal, spelling.start


def read_head(names: FieldNames, fields: list[bytes]) -> list[FieldName]:
    """Read the names of a head as a parser does."""
    result: list[FieldName] = []
    for name in fields:
        result.append(names.read(name, result[-1] if result else names.first))
    return result


FIELDS = st.lists(st.sampled_from([*SPECIAL, b"Accept", b"accept", b"X-A", b"x" * 70]) | TOKEN, max_size=8)


@given(st.lists(FIELDS, max_size=6))
def test_cache_never_changes_the_role_of_a_name(heads: list[list[bytes]]) -> None:
    """The preceding names, in this head and in others, do not matter."""
    names = FieldNames(REQUEST_ROLES)
    for fields in heads * 2:
        result = read_head(names, fields)
        assert list(map(means, result)) == [means(headers.classify(name, REQUEST_ROLES)) for name in fields]


def test_name_is_cached() -> None:
    """It is one object at any position."""
    names = FieldNames(REQUEST_ROLES)
    host, accept = read_head(names, [b"Host", b"Accept"])
    assert host.follower is accept
    assert read_head(names, [b"Host", b"Accept"]) == [host, accept]
    assert read_head(names, [b"Accept", b"Host", b"Accept"]) == [accept, host, accept]


def alive() -> int:
    """Count the names in the process."""
    gc.collect()
    return sum(isinstance(item, FieldName) for item in gc.get_objects())


@pytest.mark.parametrize("size", [6, 62], ids=["short", "long"])
def test_cache_is_bounded(size: int) -> None:
    """By number, by length and by follower links. A connection in the middle of a head keeps its last name."""
    names, before = FieldNames(REQUEST_ROLES), alive()
    held = spelling = names.read(b"X-First", names.first)
    for number in range(3 * FieldNames.LIMIT):
        spelling = names.read(b"X-%0*d" % (size, number), spelling)
    assert alive() - before <= FieldNames.LIMIT + 2
    assert means(held)[0] == b"X-First"


def test_name_of_up_to_64_bytes_is_cached() -> None:
    """Longer names are classified again each time."""
    names = FieldNames(REQUEST_ROLES)
    for size, is_cached in ((64, True), (65, False)):
        name = b"X" * size
        assert (names.read(name, names.first) is names.read(name, names.first)) is is_cached
        assert (name in names.known) is is_cached


@given(st.lists(TOKEN), st.sampled_from([b",", b", ", b" ,\t", b",,"]))
def test_list_is_split_into_members(members: list[bytes], separator: bytes) -> None:
    """RFC 9110 5.6.1: empty members are ignored."""
    assert headers.tokens(separator.join(members)) == [member.lower() for member in members]


def test_connection_options_are_not_headers() -> None:
    """RFC 9110 7.6.1: `close` and `keep-alive` are options, all others are header names."""
    assert headers.nominated(b"close, X_Secret, keep-alive,Upgrade") == {b"x-secret", b"upgrade"}


LINES = [b"\r\nContent-Type: text/plain", b"\r\nContent_Encoding:  Identity ", b"\r\nX-A: 1", b"\r\nx-a:2"]


def test_lines_are_selected_by_normalized_name() -> None:
    """Values are stripped and keep their order."""
    assert [headers.line_name(line) for line in LINES] == [b"content-type", b"content-encoding", b"x-a", b"x-a"]
    assert headers.line_values(LINES, b"x-a") == [b"1", b"2"]


@pytest.mark.parametrize(
    ("codings", "plain"),
    [([], True), ([b"identity"], True), ([b""], True), ([b"gzip"], False), ([b"identity", b"br"], False)],
)
def test_body_without_a_content_coding_is_plain(codings: list[bytes], plain: bool) -> None:
    """`identity` is not a coding (RFC 9110 8.4.1)."""
    assert headers.is_plain([b"\r\nContent-Encoding: " + coding for coding in codings]) is plain


@pytest.mark.parametrize(
    "name",
    ["ETag", "Accept-Ranges", "Content-Encoding", "Digest", "Content-Digest", "Repr-Digest", "Content-MD5"],
)
def test_headers_of_the_exact_body_are_dropped(name: str) -> None:
    """RFC 9110 8.8.3, 14.3 and 8.4, RFC 9530."""
    is_cached = [b"\r\nContent-Type: text/plain", b"\r\nLast-Modified: Tue, 24 Nov 2026 12:00:00 GMT"]
    assert headers.drop_fields([*is_cached, f"\r\n{name}: x".encode()], headers.EXACT_BODY_FIELDS) == is_cached
