"""What the name of a header field means to the proxy."""

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
def test_field_names_are_compared_without_case(name: bytes) -> None:
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
def test_a_request_field_that_the_proxy_reads_has_a_role_of_its_own(name: bytes, role: Role) -> None:
    """The roles are how the readers recognise framing, naming and the fields that a browser adds."""
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
def test_a_response_field_that_the_proxy_reads_has_a_role_of_its_own(name: bytes, role: Role) -> None:
    """Framing, and whether the upstream's connection may be used again."""
    assert headers.classify(name, RESPONSE_ROLES).role is role


def test_forward_alone_is_false() -> None:
    """Readers ask of each field whether it has another role by its truth."""
    assert [role for role in Role if not role] == [Role.FORWARD]


def test_fields_that_steer_around_a_rule_are_known() -> None:
    """Those that override the method, repeat the request's URL, or are digests of a body."""
    names = [b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override"]
    assert set(map(headers.normalise, names)) == headers.METHOD_OVERRIDES
    assert {b"location", b"content-location", b"link", b"refresh"} == headers.HOLD_URLS
    assert {b"digest", b"content-digest", b"repr-digest", b"content-md5"} == headers.BODY_DIGESTS


@pytest.mark.parametrize("name", [b"Content_Length", b"transfer_encoding", b"X_Integration_Id", b"Proxy_Authorization"])
def test_a_name_that_is_special_only_with_underscores_is_dropped(name: bytes) -> None:
    """A CGI-like server cannot tell the two apart, so it must not arrive; but it frames and names nothing here."""
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
def test_hop_by_hop_and_steering_fields_are_dropped_from_requests(name: bytes) -> None:
    """RFC 9110 7.6.1, and what would let a caller steer another server's routing."""
    assert headers.classify(name, REQUEST_ROLES).role is Role.DROP


@pytest.mark.parametrize(
    "name", [b"Authorization", b"Cookie", b"X-Forwarded-For", b"Forwarded", b"Accept", b"X-Request-Id"]
)
def test_other_fields_are_forwarded(name: bytes) -> None:
    """End-to-end fields do not concern the proxy."""
    spelling = headers.classify(name, REQUEST_ROLES)
    role, normal, start = spelling.role, spelling.normal, spelling.start
    assert (role, normal, start) == (Role.FORWARD, name.lower(), b"\r\n" + name + b": ")


@pytest.mark.parametrize("name", [b"Proxy-Status", b"Proxy-Authenticate", b"Upgrade", b"TE", b"Trailer"])
def test_hop_by_hop_fields_are_dropped_from_responses(name: bytes) -> None:
    """Only our own responses have Proxy-Status."""
    assert headers.classify(name, RESPONSE_ROLES).role is Role.DROP


def means(spelling: FieldName) -> tuple[bytes, Role, bytes, bytes]:
    """All that is said of a spelling."""
    return spelling.raw, spelling.role, spelling.normal, spelling.start


def read_head(names: FieldNames, fields: list[bytes]) -> list[FieldName]:
    """The spellings of a head, as a reader asks for them."""
    found: list[FieldName] = []
    for name in fields:
        found.append(names.read(name, found[-1] if found else names.first))
    return found


FIELDS = st.lists(st.sampled_from([*SPECIAL, b"Accept", b"accept", b"X-A", b"x" * 70]) | TOKEN, max_size=8)


@given(st.lists(FIELDS, max_size=6))
def test_a_spelling_means_the_same_wherever_it_stands(heads: list[list[bytes]]) -> None:
    """Whatever came before it, in this head and in those before: what is remembered saves work and decides nothing."""
    names = FieldNames(REQUEST_ROLES)
    for fields in heads * 2:
        found = read_head(names, fields)
        assert list(map(means, found)) == [means(headers.classify(name, REQUEST_ROLES)) for name in fields]


def test_a_spelling_is_remembered() -> None:
    """It is one object, in the place that it had the last time and in every other."""
    names = FieldNames(REQUEST_ROLES)
    host, accept = read_head(names, [b"Host", b"Accept"])
    assert host.follower is accept
    assert read_head(names, [b"Host", b"Accept"]) == [host, accept]
    assert read_head(names, [b"Accept", b"Host", b"Accept"]) == [accept, host, accept]


def alive() -> int:
    """How many spellings there are, in all of the process."""
    gc.collect()
    return sum(isinstance(each, FieldName) for each in gc.get_objects())


@pytest.mark.parametrize("size", [6, 62], ids=["short", "long"])
def test_the_spellings_that_are_remembered_are_bounded(size: int) -> None:
    """Invented names cannot fill memory: by their number, by their length, or by one that leads to the next.

    A connection that is in the middle of a head holds its last one.
    """
    names, before = FieldNames(REQUEST_ROLES), alive()
    held = spelling = names.read(b"X-First", names.first)
    for number in range(3 * FieldNames.LIMIT):
        spelling = names.read(b"X-%0*d" % (size, number), spelling)
    assert alive() - before <= FieldNames.LIMIT + 2
    assert means(held)[0] == b"X-First"


def test_a_spelling_of_up_to_64_bytes_is_remembered() -> None:
    """A longer one is read again each time."""
    names = FieldNames(REQUEST_ROLES)
    for size, kept in ((64, True), (65, False)):
        name = b"X" * size
        assert (names.read(name, names.first) is names.read(name, names.first)) is kept
        assert (name in names.known) is kept


@given(st.lists(TOKEN), st.sampled_from([b",", b", ", b" ,\t", b",,"]))
def test_a_list_is_split_into_its_members(members: list[bytes], separator: bytes) -> None:
    """RFC 9110 5.6.1: empty members do not count."""
    assert headers.tokens(separator.join(members)) == [member.lower() for member in members]


def test_the_options_of_connection_name_no_fields() -> None:
    """RFC 9110 7.6.1: `close` and `keep-alive` are not fields; everything else is."""
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
    """`identity` is not a coding (RFC 9110 8.4.1)."""
    assert headers.is_plain([b"\r\nContent-Encoding: " + coding for coding in codings]) is plain


@pytest.mark.parametrize(
    "name",
    ["ETag", "Accept-Ranges", "Content-Encoding", "Digest", "Content-Digest", "Repr-Digest", "Content-MD5"],
)
def test_a_field_that_is_true_of_an_exact_body_goes_where_the_body_changes(name: str) -> None:
    """RFC 9110 8.8.3, 14.3 and 8.4, RFC 9530; other fields stay."""
    kept = [b"\r\nContent-Type: text/plain", b"\r\nLast-Modified: Tue, 24 Nov 2026 12:00:00 GMT"]
    assert headers.drop_fields([*kept, f"\r\n{name}: x".encode()], headers.OF_EXACT_BODY) == kept
