"""Templates: their values, errors, and filling."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.signatures.template import (
    BODY,
    FROM_REQUEST,
    GENERATED,
    RESULTS,
    TemplateValues,
    check_signed_name,
    compile_pieces,
    compile_text,
    parse_template,
)
from sidekey.credentials.signing import OutgoingRequest
from support.outgoing_requests import NEW_ID, NONCE, NOW, UNIQUE, outgoing

NAMES = (*GENERATED, *FROM_REQUEST, BODY)


def facts(request: OutgoingRequest, body: Sequence[bytes] | None) -> TemplateValues:
    return TemplateValues(request, body, NOW, UNIQUE, NEW_ID)


def filled(text: str, body: Sequence[bytes] | None = (), request: OutgoingRequest | None = None) -> bytes:
    return b"".join(
        compile_pieces(parse_template(text, NAMES, fields=True))(facts(request or outgoing(b"X-Tenant:  acme\t"), body))
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", NEW_ID),
        ("timestamp", b"1614265330"),
        ("timestamp_ms", b"1614265330750"),
        ("date", b"Thu, 25 Feb 2021 15:02:10 GMT"),
        ("nonce", NONCE),
        ("method", b"POST"),
        ("scheme", b"https"),
        ("host", b"api.example.com"),
        ("path", b"/v1/mails"),
        ("query", b"a=b"),
        ("target", b"/v1/mails?a=b"),
        ("url", b"https://api.example.com/v1/mails?a=b"),
        ("body", b"one two"),
        ("body_sha256", hashlib.sha256(b"one two").hexdigest().encode()),
        ("header:X-Tenant", b"acme"),
        ("header:x_tenant", b"acme"),
        ("header:host", b"api.example.com"),
    ],
)
def test_name_is_replaced_by_its_value(name: str, value: bytes) -> None:
    assert filled(f"a%{{{name}}}%b", [b"one", b"", b" two"]) == b"a%" + value + b"%b"


def test_query_of_a_target_without_one_is_empty() -> None:
    assert filled("{path}|{query}|{target}", request=outgoing(target=b"/v1")) == b"/v1||/v1"
    assert filled("{path}|{query}", request=outgoing(target=b"/v1?")) == b"/v1|"
    assert filled("{path}|{query}", request=outgoing(target=b"/v1?a?b")) == b"/v1|a?b"


def test_pieces_of_the_body_are_not_joined() -> None:
    """The same objects, which are hashed one after the other."""
    body = [b"x" * 100, b"y" * 100]
    result = compile_pieces(parse_template("{id}.{body}.{body}", NAMES))(facts(outgoing(), body))
    assert result == [NEW_ID + b".", *body, b".", *body]
    assert all(result[index] is body[index % 3 - 1] for index in (1, 2, 4, 5))


def test_hidden_body_and_its_digest_are_redacted() -> None:
    assert filled("{timestamp}.{body}|{body_sha256}", None) == b"1614265330.[redacted]|[redacted]"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{Body}", r"\{Body\} is no value here: use \{id\}, .*, \{body\} or \{header:NAME\}"),
        ("{}", r"\{\} is no value here"),
        ("{secret}", "is no value here"),
        ("{signature}", "is no value here"),
        ("{body", r"a \{ must belong to the name of a value, such as \{id\}"),
        ("body}", r"a \} must belong"),
        ("{{body}}", r"a \{ must belong"),
        ("{header:}", "header: needs the name of a header"),
        ("{header:X Tenant}", "header: needs the name of a header"),
        ("{header:Via}", "the header Via cannot be signed"),
    ],
)
def test_unknown_value_is_an_error_that_lists_the_values(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_template(text, NAMES, fields=True)


def test_header_fields_are_allowed_only_in_the_signed_text() -> None:
    with pytest.raises(ValueError, match=r"use \{id\}$"):
        parse_template("{header:X-Tenant}", ["id"])
    assert parse_template("{header:X_Tenant}{header:x-tenant}{id}", NAMES, fields=True).fields == {"x-tenant"}


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "keep_alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization"),
        *("Expect", "Sidekey-Token", "X-Integration-Id", "HTTP2-Settings", "proxy_connection"),
    ],
)
def test_hop_by_hop_field_cannot_be_signed(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be signed"):
        check_signed_name(name)


@pytest.mark.parametrize("name", ["Host", "Content-Length", "Content-Type", "X_Tenant", "Authorization", "Date"])
def test_end_to_end_field_can_be_signed(name: str) -> None:
    check_signed_name(name)


VALUES = st.sampled_from(NAMES)
TEXTS = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=6)


@given(
    parts=st.lists(st.tuples(TEXTS, VALUES), max_size=6),
    end=TEXTS,
    body=st.lists(st.binary(max_size=10) | st.just(b"{id}%b%%"), max_size=3),
    query=st.sampled_from([b"", b"?", b"?{id}={body}", b"?%7Bid%7D=%25b"]),
)
def test_filling_replaces_each_value_once(
    parts: list[tuple[str, str]], end: str, body: list[bytes], query: bytes
) -> None:
    """Braces and percent signs in values and texts have no meaning."""
    request = outgoing(target=b"/{body}" + query)
    values = {name: value(facts(request, body)) for name, value in (GENERATED | FROM_REQUEST).items()}
    values[BODY] = b"".join(body)
    template = parse_template("".join(f"{text}{{{name}}}" for text, name in parts) + end, NAMES)
    expected = b"".join(text.encode() + values[name] for text, name in parts) + end.encode()
    assert b"".join(compile_pieces(template)(facts(request, body))) == expected


def test_text_with_signatures_is_filled_in_after_its_prefix() -> None:
    values = facts(outgoing(), ())
    values.set_signatures(b"%b", b"{id}")
    names = [*GENERATED, *RESULTS]
    for text, expected in (
        ("", b""),
        ("%d", b"%d"),
        ("t={timestamp}%", b"t=1614265330%"),
        ("{signature},{signatures}%", b"%b,{id}%"),
        ("{signatures}{timestamp}{signature}%", b"{id}1614265330%b%"),
    ):
        assert compile_text(parse_template(text, names), before="\r\nX: ")(values) == b"\r\nX: " + expected
