"""Presets: forwarded headers, strict parameters, and the request that is built."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from sidekey.errors import Problem
from sidekey.policy.headers import Role, normalise
from sidekey.policy.messages import RequestHead
from sidekey.presets.preset import FilledRequest, Parameter, PresetRules, read_parameters
from support.presets import preset

PLAIN = preset(headers={"X-Source": "sidekey", "Accept": "text/x"}).rules
FILLED = preset(
    url="https://h.test/u/{{user}}",
    headers={"X-User": "u-{{user}}"},
    parameters={"user": {"type": "text"}, "n": {"type": "number", "default": 1}},
    body={"json": {"n": "{{n}}"}},
).rules


PARAMETERS = {
    "user": Parameter("text", max_length=5, enum=("ann", "bob", "longest")),
    "points": Parameter("number", Decimal(0), enum=(Decimal(0), Decimal("1.5"), Decimal(10), Decimal(2**80))),
    "on": Parameter("boolean", False),
}


def text_body(text: str) -> dict[str, str]:
    return {"text": text, "content_type": "text/plain"}


def head(*lines: str, control_headers: dict[Role, bytes] | None = None, connection: bytes | None = None) -> RequestHead:
    """Build a POST with these headers."""
    fields = [f"\r\n{line}".encode() for line in lines]
    names = [normalise(line.partition(":")[0].encode()) for line in lines]
    return RequestHead(
        b"POST", b"/p/hook", b"h.test", fields, names, control_headers, connection, 5, has_content_length=True
    )


def received(rules: PresetRules, *lines: str, **more: object) -> RequestHead:
    result = rules.build_head(head(*lines, **more))  # type: ignore[arg-type]
    assert isinstance(result, RequestHead)
    return result


def fill(
    payload: bytes, rules: PresetRules = FILLED, *, max_body: int = 1000, max_target: int = 1000
) -> FilledRequest | Problem:
    return rules.fill(
        received(rules, "Content-Type: application/json"), payload, max_body=max_body, max_target=max_target
    )


def filled(payload: bytes, rules: PresetRules = FILLED) -> FilledRequest:
    result = fill(payload, rules)
    assert isinstance(result, FilledRequest)
    return result


def errors(payload: bytes, rules: PresetRules = FILLED, **limits: int) -> tuple[tuple[str, str], ...]:
    result = fill(payload, rules, **limits)
    assert isinstance(result, Problem)
    assert result.code == "parameters_invalid"
    return result.errors


def test_few_headers_are_forwarded_and_the_preset_overrides_them() -> None:
    """Names keep their spelling. Via is kept to detect loops."""
    result = received(
        PLAIN,
        "Content-Type: application/json",
        "content-encoding: gzip",
        "Accept: */*",
        "Idempotency-Key: 1",
        "TraceParent: 2",
        "tracestate: 3",
        "Authorization: mine",
        "Cookie: a=b",
        "X-Source: caller",
        "X_Source: caller",
        "User-Agent: x",
        "Via: 1.1 a",
    )
    assert result.fields == [
        b"\r\nContent-Type: application/json",
        b"\r\ncontent-encoding: gzip",
        b"\r\nIdempotency-Key: 1",
        b"\r\nTraceParent: 2",
        b"\r\ntracestate: 3",
        b"\r\nVia: 1.1 a",
        b"\r\nX-Source: sidekey",
        b"\r\nAccept: text/x",
    ]
    assert result.names == [normalise(line[2:].partition(b":")[0]) for line in result.fields]


def test_headers_in_connection_are_dropped() -> None:
    """RFC 9110 7.6.1."""
    result = received(PLAIN, "Content-Type: application/json", "tracestate: 1", connection=b"tracestate")
    assert b"tracestate" not in result.names
    assert result.connection is None


def test_only_the_expect_mark_is_kept() -> None:
    """Until the preset needs the body."""
    control_headers = {Role.EXPECT: b"100-continue", Role.MAX_FORWARDS: b"1"}
    assert received(PLAIN, "Content-Type: application/json", control_headers=control_headers).control_headers == {
        Role.EXPECT: b"100-continue"
    }
    result = FILLED.fill(
        received(FILLED, "Content-Type: application/json", control_headers=control_headers),
        b'{"user":"x"}',
        max_body=99,
        max_target=99,
    )
    assert isinstance(result, FilledRequest)
    assert result.head.control_headers is None


@pytest.mark.parametrize(
    ("content_type", "lines", "accepted"),
    [
        ("application/json", ("Content-Type: application/json",), True),
        ("application/json", ("Content-Type:  Application/JSON ",), True),
        ("application/json", ("Content-Type: application/json; charset=utf-8",), True),
        ("application/json", ("Content-Type: text/json",), False),
        ("application/json", (), False),
        ("application/json", ("Content-Type: application/json", "Content-Type: application/json"), False),
        ("application/json", ("Content-Type: application/json", "Content_Type: text/html"), False),
        ("text/xml; charset=utf-8", ("Content-Type: text/xml; charset=utf-8",), True),
        ("text/xml; charset=utf-8", ('Content-Type: text/xml;Charset="UTF-8"',), True),
        ("text/xml; charset=utf-8", ("Content-Type: text/xml",), False),
        ("text/xml; charset=utf-8", ("Content-Type: text/xml; charset=utf-16",), False),
        ("multipart/form-data", ("Content-Type: multipart/form-data; boundary=x",), True),
        (None, ("Content-Type: image/png",), True),
        (None, ('Content-Type:\tmultipart/form-data ; boundary="x y"',), True),
        (None, ("Content-Type: text/plain", "Content-Type: text/plain"), False),
        (None, ("Content-Type: text/plain, text/html",), False),
        (None, ("Content-Type: text",), False),
        (None, ("Content-Type:",), False),
        (None, (), False),
    ],
)
def test_payload_has_the_content_type_of_the_preset(
    content_type: str | None, lines: tuple[str, ...], accepted: bool
) -> None:
    """The caller may add parameters. A preset without a type accepts any valid one."""
    result = preset(content_type=content_type).rules.build_head(head(*lines))
    if accepted:
        assert isinstance(result, RequestHead)
    else:
        assert isinstance(result, Problem)
        assert (result.code, result.status) == ("content_type_denied", 415)


def test_content_type_in_connection_does_not_count() -> None:
    """The upstream would not get it."""
    result = PLAIN.build_head(head("Content-Type: application/json", connection=b"Content-Type"))
    assert isinstance(result, Problem)


@pytest.mark.parametrize(
    ("lines", "connection", "accepted"),
    [
        (("Content-Type: application/json",), None, True),
        (("Content-Type: application/json; charset=UTF-8", "Content-Encoding: identity"), None, True),
        (("Content-Type: application/json; charset=latin1",), None, False),
        (("Content-Type: application/json", "Content-Encoding: gzip"), None, False),
        (("Content-Type: application/x-www-form-urlencoded",), None, False),
        (("Content-Type: text/plain",), None, False),
        (("Content-Type: application/json", "Content-Type: application/json"), None, False),
        ((), None, False),
        (("Content-Type: application/json", "Content-Encoding: gzip"), b"content-encoding", False),
        (("Content-Type: application/json",), b"content-type", False),
    ],
)
def test_parameters_are_json_without_a_coding(lines: tuple[str, ...], connection: bytes | None, accepted: bool) -> None:
    """The type of the preset's own body does not matter."""
    result = FILLED.build_head(head(*lines, connection=connection))
    if accepted:
        assert isinstance(result, RequestHead)
        assert not {b"content-type", b"content-encoding"} & set(result.names)
    else:
        assert isinstance(result, Problem)
        assert result.code == "content_type_denied"


def test_parameters_fill_url_headers_and_body() -> None:
    result = filled(b'{"user": "a b\xc3\xa9", "n": 12}')
    assert result.head.target == b"https://h.test/u/a%20b%C3%A9"
    assert result.head.fields == [b"\r\nX-User: u-a b\xc3\xa9", b"\r\nContent-Type: application/json"]
    assert result.head.names == [b"x-user", b"content-type"]
    assert result.body == b'{"n":12}'
    assert (result.head.length, result.head.has_content_length) == (8, True)


def test_all_errors_are_reported_together() -> None:
    """Errors of values, and of the places that values are written to."""
    assert errors(b'{"user": "a/b\\n", "n": "x", "zz": 1}') == (
        ("/n", "must be a number, such as 12.50"),
        ("/zz", "the preset has no such parameter"),
        (
            "/user",
            "must not leave its segment of the path: / \\ ; ? # and controls are not allowed there, encoded or not, "
            "and the segment must not be empty, . or ..",
        ),
    )


def test_control_character_is_refused_in_a_header() -> None:
    rules = preset(
        headers={"X-User": "{{user}}"}, parameters={"user": {"type": "text"}}, body={"json": "{{user}}"}
    ).rules
    (result,) = errors(b'{"user": "a\\r\\nX-Evil: 1"}', rules)
    assert result == ("/user", "must not contain control characters: it goes into a header")


def test_body_limit_counts_bytes() -> None:
    rules = preset(parameters={"a": {"type": "text"}}, body=text_body("{{a}}{{a}}")).rules
    longest = fill(b'{"a": "%b"}' % (b"\xc3\xa9" * 10), rules, max_body=40)
    assert isinstance(longest, FilledRequest)
    assert len(longest.body) == 40
    reason = "the filled body or the filled headers must not be over limits.preset_body (39 bytes)"
    assert errors(b'{"a": "%b"}' % (b"\xc3\xa9" * 10), rules, max_body=39) == (("", reason),)


def test_limit_applies_to_all_headers_together() -> None:
    """A thousand headers could repeat one value."""
    rules = preset(headers={"X-A": "{{a}}", "X-B": "{{a}}"}, parameters={"a": {"type": "text"}}, body={"json": 1}).rules
    assert isinstance(fill(b'{"a": "1234567890"}', rules, max_body=20), FilledRequest)
    reason = "the filled body or the filled headers must not be over limits.preset_body (19 bytes)"
    assert errors(b'{"a": "1234567890"}', rules, max_body=19) == (("", reason),)


def test_target_has_the_limit_of_callers_targets() -> None:
    reason = "the filled URL must not be over limits.target (40 bytes)"
    assert errors(b'{"user": "%b"}' % (b"x" * 40), max_target=40) == (("", reason),)


@pytest.mark.parametrize(("method", "announced"), [("GET", False), ("DELETE", False), ("POST", True), ("PUT", True)])
def test_empty_body_has_a_length_if_the_method_expects_a_body(method: str, announced: bool) -> None:
    """RFC 9110 8.6."""
    rules = preset(method=method, parameters={"a": {"type": "text"}}, body=text_body("{{a}}")).rules
    result = filled(b'{"a": ""}', rules)
    assert (result.head.length, result.head.has_content_length, result.head.names) == (0, announced, [])


def test_preset_without_a_body_accepts_no_parameters() -> None:
    assert not PLAIN.has_body
    with pytest.raises(ValueError, match="has no parameters"):
        PLAIN.fill(head(), b"{}", max_body=1, max_target=1)


def test_caller_fields_are_forwarded_unless_the_preset_sets_them() -> None:
    """For example the caller's message ID, unless Connection names it."""
    caller_fields = frozenset({b"webhook-id", b"x-source"})
    lines = ("Content-Type: application/json", "Webhook_Id: m1", "X-Source: forged", "X-Other: 1")
    result = PLAIN.build_head(head(*lines), caller_fields)
    assert isinstance(result, RequestHead)
    assert result.names == [b"content-type", b"webhook-id", b"x-source", b"accept"]
    assert b"\r\nX-Source: sidekey" in result.fields
    assert b"webhook-id" not in received(PLAIN, *lines).names
    rest = PLAIN.build_head(head(*lines, connection=b"webhook-id"), caller_fields)
    assert isinstance(rest, RequestHead)
    assert b"webhook-id" not in rest.names


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "must be valid JSON in UTF-8"),
        (b"{", "must be valid JSON in UTF-8"),
        (b"\xef\xbb\xbf{}", "must be valid JSON in UTF-8"),
        (b'{"a": "\xff"}', "must be valid JSON in UTF-8"),
        (b"{'a': 1}", "must be valid JSON in UTF-8"),
        (b'{"a": 01}', "must be valid JSON in UTF-8"),
        (b'{"a": "\n"}', "must be valid JSON in UTF-8"),
        (b'{"a": 1} {}', "must be valid JSON in UTF-8"),
        (b'{"a": 1, "a": 1}', "must not contain a key twice"),
        (b'{"a": [{"b": 1, "\\u0062": 2}]}', "must not contain a key twice"),
        (b'{"a": 1e99999999999999999999}', "must not contain a number with such an exponent"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
)
def test_parameters_must_be_strict_json(payload: bytes, reason: str) -> None:
    assert read_parameters(PARAMETERS, payload) == ({}, [("", f"the parameters {reason}")])


@pytest.mark.parametrize("digits", ["0.12345678901234567890123456789", "9007199254740993", "1" * 60_000, "1.50", "-0"])
def test_a_number_keeps_its_digits(digits: str) -> None:
    rules = preset(parameters={"n": {"type": "number"}}, body={"json": ["{{n}}", "{{n}}!"]}).rules
    result = fill(b'{"n": %b}' % digits.encode(), rules, max_body=1 << 20)
    assert isinstance(result, FilledRequest)
    assert result.body.decode() == f'[{digits},"{digits}!"]'


@pytest.mark.parametrize("number", ["1e400", "1.50e+07", "-1E-7", "1e999999999999999999"])
def test_a_number_with_an_exponent_keeps_its_value(number: str) -> None:
    rules = preset(parameters={"n": {"type": "number"}}, body={"json": "{{n}}"}).rules
    body = filled(b'{"n": %b}' % number.encode(), rules).body
    assert json.loads(body, parse_float=Decimal) == Decimal(number)


def test_defaults_are_used() -> None:
    assert read_parameters(PARAMETERS, b'{"user": "bob"}') == ({"user": "bob", "points": 0, "on": False}, [])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("user", "7", "must be a text"),
        ("user", "null", "must be a text"),
        ("user", '["ann"]', "must be a text"),
        ("user", '"longest"', "must have at most 5 characters"),
        ("user", '"eve"', "must be one of ann, bob, longest"),
        ("user", '"\\ud800"', "must not contain lone surrogates, which have no UTF-8"),
        ("points", '"1"', "must be a number, such as 12.50"),
        ("points", "true", "must be a number, such as 12.50"),
        ("points", "NaN", "must be a number, such as 12.50"),
        ("points", "-Infinity", "must be a number, such as 12.50"),
        ("points", "null", "must be a number, such as 12.50"),
        ("points", "1.6", f"must be one of 0, 1.5, 10, {2**80}"),
        ("points", str(2**80 + 1), f"must be one of 0, 1.5, 10, {2**80}"),
        ("on", "0", "must be true or false"),
        ("on", "{}", "must be true or false"),
    ],
)
def test_an_error_names_the_parameter_and_never_the_value(name: str, value: str, reason: str) -> None:
    sent = {"user": '"ann"', name: value}
    payload = ",".join(f'"{name}": {text}' for name, text in sent.items())
    assert read_parameters(PARAMETERS, f"{{{payload}}}".encode())[1] == [(f"/{name}", reason)]


def test_many_choices_are_not_listed() -> None:
    parameter = Parameter("text", enum=[f"choice-{number}" for number in range(50)])
    assert parameter.find_error("other") == "must be one of the values that the preset allows"


@pytest.mark.parametrize("number", ["0", "0.0", "-0", "1.50", "1e1", str(2**80)])
def test_allowed_number_may_be_written_differently(number: str) -> None:
    assert read_parameters(PARAMETERS, b'{"user": "ann", "points": %b}' % number.encode())[1] == []


def test_an_unknown_name_is_repeated_only_if_a_parameter_may_have_it() -> None:
    """It may be a misplaced secret."""
    payload = json.dumps({"user": "ann", "a b": 1, "x" * 64: 1, "ok_name": 1}).encode()
    assert read_parameters(PARAMETERS, payload)[1] == [
        ("", "the preset has no such parameter"),
        ("", "the preset has no such parameter"),
        ("/ok_name", "the preset has no such parameter"),
    ]


def test_the_number_of_listed_errors_is_limited() -> None:
    assert len(read_parameters(PARAMETERS, json.dumps({f"n{at}": 1 for at in range(5000)}).encode())[1]) == 64
