"""Templates: each value in its place, written as the place needs it, and out of it by no value."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

import pytest

from sidekey.core.preset_parameters import DEPTH, Number, Parameter
from sidekey.core.templates import (
    Errors,
    Findings,
    InvalidTemplate,
    TooLarge,
    UrlTemplate,
    body_template,
    header_written,
    json_written,
    kind_of,
    parameters_of,
    parse,
    stays_in_segment,
)

PARAMETERS = {
    name: Parameter(name, kind)
    for name, kind in {"a": "text", "b": "text", "n": "number", "t": "boolean", "l": "list", "o": "object"}.items()
}
VALUES = {"a": "x", "b": "y\"<&>'\\\n", "n": Number("1.50"), "t": True, "l": [Number("1"), None], "o": {"k": "v"}}

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
XML = "text/xml"
TEXT = "text/plain"


def fill(content_type: str, body: object, **values: object) -> str:
    findings: Findings = []
    template = body_template(content_type, body, PARAMETERS, findings)
    assert findings == []
    assert template is not None
    errors: Errors = {}
    filled = template.fill({**VALUES, **values}, errors, 1 << 20)
    assert errors == {}
    return filled


def findings_of(content_type: str, body: object) -> Findings:
    findings: Findings = []
    assert body_template(content_type, body, PARAMETERS, findings) is None
    return findings


@pytest.mark.parametrize(
    ("text", "literals", "names"),
    [
        ("", [""], []),
        ("plain } }} { text", ["plain } }} { text"], []),
        ("{{a}}", ["", ""], ["a"]),
        ("x{{a}}y{{b}}", ["x", "y", ""], ["a", "b"]),
        ("{{{{a}}", ["{{a}}"], []),
        ("{{{{{{a}}}}", ["{{", "}}"], ["a"]),
        ("{{a}}}", ["", "}"], ["a"]),
    ],
)
def test_a_text_is_read_into_its_parts(text: str, literals: list[str], names: list[str]) -> None:
    assert parse(text) == (literals, names)


@pytest.mark.parametrize(
    "text", ["{{", "{{ a }}", "{{a}", "{{{a}}", "{{1a}}", "{{a.b}}", "{{a|b}}", "{{#if a}}", "{{é}}"]
)
def test_nothing_but_a_name_is_a_placeholder(text: str) -> None:
    with pytest.raises(InvalidTemplate, match=r"write \{\{\{\{ for"):
        parse(text)


def test_a_json_value_keeps_its_type() -> None:
    """Where a text is a placeholder and nothing else; inside a text its text."""
    body = {
        "a": "{{a}}",
        "n": "{{n}}",
        "t": "{{t}}",
        "l": ["{{l}}"],
        "o": "{{o}}",
        "in": "{{n}} {{t}} {{b}}",
        "k": [1.5, None],
    }
    assert fill(JSON, body) == (
        '{"a":"x","n":1.50,"t":true,"l":[[1,null]],"o":{"k":"v"},"in":"1.50 true y\\"<&>\'\\\\\\n","k":[1.5,null]}'
    )


def test_a_json_document_may_be_one_value() -> None:
    assert fill(JSON, "{{o}}") == '{"k":"v"}'
    assert fill("application/cloudevents+json", "{{{{}} é") == '"{{}} é"'


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"{{a}}": 1}, [(("{{a}}",), "a key must not contain {{")]),
        ({"k": {"x{{{{": 1}}, [(("k", "x{{{{"), "a key must not contain {{")]),
        ({"k": ["{{zz}}"]}, [(("k", 0), "a placeholder must name one of the parameters")]),
        (
            {"k": "x {{l}}", "o": "{{o}}{{a}}"},
            [
                (("k",), "a list or an object may only stand alone, as a whole value of a JSON body"),
                (("o",), "a list or an object may only stand alone, as a whole value of a JSON body"),
            ],
        ),
        ({"k": "{{a"}, [(("k",), "{{ must begin a placeholder such as {{name}}: write {{{{ for {{ itself")]),
        ({"k": float("nan")}, [(("k",), "must be a value that JSON has")]),
    ],
)
def test_every_error_of_a_json_body_has_its_place(body: object, found: Findings) -> None:
    assert findings_of(JSON, body) == found


def test_a_body_is_not_nested_deeper_than_parameters_are() -> None:
    body: object = 1
    for _ in range(DEPTH + 1):
        body = [body]
    assert findings_of(JSON, body) == [((0,) * DEPTH, f"must not be nested deeper than {DEPTH} levels")]


def test_fields_of_a_form_are_encoded() -> None:
    filled = fill(FORM, {"q": "a {{b}}&", "n": "{{n}}", "k y": 1, "t": True})
    assert parse_qsl(filled, strict_parsing=True) == [
        ("q", "a y\"<&>'\\\n&"),
        ("n", "1.50"),
        ("k y", "1"),
        ("t", "true"),
    ]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("a=b", [((), "the body of a form must be a mapping of fields to texts")]),
        ({"{{a}}": "x"}, [(("{{a}}",), "a key must not contain {{")]),
        ({"x": "{{l}}"}, [(("x",), "a list or an object may only stand alone, as a whole value of a JSON body")]),
        ({"x": ["y"]}, [(("x",), "a field of a form must be a text, a number, true or false")]),
        ({"x": None}, [(("x",), "a field of a form must be a text, a number, true or false")]),
    ],
)
def test_a_form_has_texts_alone(body: object, found: Findings) -> None:
    assert findings_of(FORM, body) == found


def test_values_are_escaped_in_xml() -> None:
    filled = fill(XML, "<r a='{{b}}' c=\"{{b}}\"><!-- note -->in {{b}}<![CDATA[{{{{]]></r>")
    assert filled == (
        "<r a='y&quot;&lt;&amp;&gt;&apos;\\&#10;' c=\"y&quot;&lt;&amp;&gt;&apos;\\&#10;\"><!-- note -->"
        "in y&quot;&lt;&amp;&gt;&apos;\\\n<![CDATA[{{]]></r>"
    )
    root = ET.fromstring(filled)
    assert (root.get("a"), root.get("c"), root.text) == (VALUES["b"], VALUES["b"], f"in {VALUES['b']}{{{{")


def test_xml_may_contain_what_resembles_the_mark_of_a_placeholder() -> None:
    body = "<p0q0r q='p1q0r p2q1r{{a}}p3q'>p0q0r{{a}}{{a}}q5p</p0q0r>"
    assert fill(XML, body) == body.replace("{{a}}", "x")


@pytest.mark.parametrize(
    "body",
    [
        "<{{a}}/>",
        "<r {{a}}='1'/>",
        "<r><!-- {{a}} --></r>",
        "<r><![CDATA[{{a}}]]></r>",
        "<r><?x {{a}}?></r>",
        "<r>{{a}}</r><!-- {{a}} -->",
        "<r><!-- {{a}} -->&#112;0q0r</r>",
        "<r><!-- {{a}} -->p&#x0030;&#x71;0&#0114;</r>",
        "<r><!-- {{a}} --><s t='p0&#x00071;0r'/></r>",
    ],
)
def test_a_placeholder_of_xml_is_text_or_a_value_of_an_attribute(body: str) -> None:
    assert findings_of(XML, body) == [((), "in XML a placeholder may stand only in text and in values of attributes")]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<r>", "the body must be well-formed XML, with one element that holds all others"),
        ("{{a}}", "the body must be well-formed XML, with one element that holds all others"),
        ("<r/>{{a}}", "the body must be well-formed XML, with one element that holds all others"),
        ("<r>&{{a}};</r>", "in XML a placeholder may stand only in text and in values of attributes"),
        ("<r a={{a}}/>", "the body must be well-formed XML, with one element that holds all others"),
        ("<!DOCTYPE r [<!ENTITY e 'x'>]><r>&e;</r>", "the body must not have a document type declaration"),
        ("<?xml version='1.0' encoding='iso-8859-1'?><r>{{a}}</r>", "the encoding of the body must be UTF-8"),
        ({"r": "{{a}}"}, "with this content_type a body must be a text"),
    ],
)
def test_xml_is_well_formed_and_plain(body: object, reason: str) -> None:
    found = findings_of(XML, body)
    if "&{{a}}" in str(body):
        # An entity that is not declared is not well-formed; one that is would be a name.
        assert len(found) == 1
    else:
        assert found == [((), reason)]


@pytest.mark.parametrize("value", ["\0", "a\x1f", "\ufffe"])
def test_xml_has_no_characters_that_it_does_not_allow(value: str) -> None:
    findings: Findings = []
    template = body_template(XML, "<r>{{a}}{{b}}</r>", PARAMETERS, findings)
    assert template is not None
    errors: Errors = {}
    template.fill({**VALUES, "a": value}, errors, 1000)
    assert errors == {"a": "must not contain characters that XML does not allow"}


def test_plain_text_is_as_it_is() -> None:
    assert fill(TEXT, "{{b}}{{n}}\n{{{{") == "y\"<&>'\\\n1.50\n{{"


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        ("application/vnd.api+json", JSON),
        ("application/soap+xml", "application/xml"),
        ("text/xml; charset=utf-8", "application/xml"),
        ("text/plain", TEXT),
        (FORM, FORM),
        ("multipart/form-data", None),
        ("text/html", None),
        ("application/octet-stream", None),
    ],
)
def test_bodies_are_filled_by_their_type(content_type: str, kind: str | None) -> None:
    assert kind_of(content_type) == kind


def test_a_body_of_another_type_is_not_filled() -> None:
    reason = "needs a content_type of JSON, XML, text/plain or application/x-www-form-urlencoded"
    assert findings_of("text/html", "<p>{{a}}</p>") == [((), reason)]


def test_what_is_filled_in_is_bounded_before_it_is_there() -> None:
    """A value may stand in a thousand places."""
    template = body_template(TEXT, "{{a}}" * 1000, PARAMETERS, [])
    assert template is not None
    assert template.fill_bytes({"a": "x" * 10}, {}, 10_000) == b"x" * 10_000
    with pytest.raises(TooLarge):
        template.fill({"a": "x" * 10}, {}, 9_999)
    with pytest.raises(TooLarge):
        template.fill_bytes({"a": "é" * 10}, {}, 10_000)


def test_a_header_has_no_controls() -> None:
    assert header_written("é") == "Ã©"
    for control in ("\r\n", "\t", "\0", "\x7f", "\x85"):
        with pytest.raises(ValueError, match="must not contain control characters"):
            header_written(f"a{control}b")


def test_json_is_written_whole() -> None:
    value = {"a\n": [None, True, Number("1e5"), "é\x7f\u2028", {}]}
    assert json.loads(json_written(value)) == {"a\n": [None, True, 1e5, "é\x7f\u2028", {}]}


def url(text: str, **values: object) -> str | Errors:
    errors: Errors = {}
    filled = UrlTemplate.read(text, PARAMETERS).fill({**VALUES, **values}, errors, 1 << 20)
    return errors or filled


def test_a_url_takes_values_in_segments_and_in_its_query() -> None:
    text = "https://h.example/v1/u-{{a}}.{{n}}/x?q={{b}}&r=1{{t}}2&s"
    assert url(text, a="a b/é%".replace("/", "|")) == (
        "https://h.example/v1/u-a%20b%7C%C3%A9%25.1.50/x?q=y%22%3C%26%3E%27%5C%0A&r=1true2&s"
    )
    template = UrlTemplate.read(text, PARAMETERS)
    assert template.literal is None
    assert template.sample() == "https://h.example/v1/u-x.x/x?q=x&r=1x2&s"
    assert UrlTemplate.read("https://h.example/a?b={{{{", PARAMETERS).literal == "https://h.example/a?b={{"


@pytest.mark.parametrize(
    "text",
    [
        "https://{{a}}/x",
        "https://h.{{a}}/x",
        "https://h.example:{{n}}/x",
        "{{a}}://h.example/",
        "https://{{a}}@h.example/",
    ],
)
def test_no_value_is_part_of_the_host(text: str) -> None:
    with pytest.raises(InvalidTemplate, match="must not stand in the scheme or the host"):
        url(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://h.example/?{{a}}", "only in a value"),
        ("https://h.example/?{{a}}=1", "only in a value"),
        ("https://h.example/?x=1&y{{a}}=2", "only in a value"),
        ("https://h.example/a%2f{{a}}", "beside a placeholder"),
        ("https://h.example/a;b={{a}}", "beside a placeholder"),
        ("https://h.example/%25{{a}}", "beside a placeholder"),
        ("https://h.example/#{{a}}", "percent-encoded"),
        ("https://h.example/a b", "percent-encoded"),
        ("https://h.example/%{{a}}", "invalid percent-encoding"),
        ("/v1/{{a}}", "must be an absolute URL"),
        ("https://h.example/{{zz}}", "must name one of the parameters"),
        ("https://h.example/{{l}}", "may only stand alone"),
        ("https://h.example/\0{{a}}", "must be a URL"),
    ],
)
def test_a_url_is_sound_whatever_is_filled_in(text: str, reason: str) -> None:
    with pytest.raises(InvalidTemplate, match=reason):
        url(text)


@pytest.mark.parametrize(
    "value",
    [
        "", ".", "..", "a/b", "a\\b", "a;b", "a?b", "a#b", "a\nb", "a\0", "a\x7f", "..%2Fadmins", "%2e%2e", "%252e",
        "a%2fb", "a%252Fb", "%3b", "%u002f", "a%5cb", "%0a", "a\u2044b", "a\u2215b", "a\uff0fb", "\uff0e\uff0e", "\xa5",
        "\u2024\u2024", "\u2100", "\u2025", "a%00", "%c0%af", ". ", "..\u00a0", "::$DATA/",
    ],
)  # fmt: skip
def test_a_value_that_leaves_its_segment_in_some_reading_is_refused(value: str) -> None:
    found = url("https://h.example/v1/{{a}}/mails", a=value)
    assert isinstance(found, dict)
    assert found["a"].startswith("must not leave its segment of the path")


@pytest.mark.parametrize(
    "value", ["a", "a.b", "...a", "a..b", "a b", "é", "100%", "a%zz", "caf%C3%A9", "a+b", "a:b@c", "日本"]
)
def test_any_other_value_stays_in_it(value: str) -> None:
    assert isinstance(url("https://h.example/v1/{{a}}/mails", a=value), str)


def test_parameters_of_a_type_are_compared_without_their_quotes() -> None:
    """Names in any case, and a charset's value as well."""
    assert parameters_of('a/b; Boundary="xAx" ;CHARSET="UTF-8"') == {"boundary=xAx", "charset=utf-8"}
    assert parameters_of("a/b") == frozenset()


def test_a_segment_is_judged_whole() -> None:
    """What two values, or a value and what stands beside it, come to together."""
    found = url("https://h.example/{{a}}{{b}}", a=".", b=".")
    assert isinstance(found, dict)
    assert set(found) == {"a", "b"}
    assert isinstance(url("https://h.example/{{a}}{{b}}", a="%2", b="f"), dict)
    assert isinstance(url("https://h.example/.{{a}}", a="."), dict)
    assert isinstance(url("https://h.example/x{{a}}", a=""), str)


def test_a_segment_stays_one_in_each_reading() -> None:
    assert stays_in_segment("a-b_c.d~e")
    assert not stays_in_segment("")
    for segment in (".", "..", "%2e", "%2E%2e", "%252e%252e", "..;", "a%252f", "a%5cb", "a%3bb", "%00"):
        assert not stays_in_segment(segment), segment


def test_what_is_too_long_is_not_read() -> None:
    """Whether a value leaves its segment is asked only of one that has room, with the literal before it."""
    template = UrlTemplate.read(f"https://x.test/{'a' * 50}{{{{a}}}}", {"a": Parameter("a", "text")})
    errors: dict[str, str] = {}
    with pytest.raises(TooLarge):
        template.fill({"a": "/"}, errors, 52)
    assert errors == {}
    template.fill({"a": "/"}, errors, 100)
    assert errors.keys() == {"a"}
    whole = template.fill({"a": "b"}, {}, 66)
    assert (len(whole), whole[-2:]) == (66, "ab")
    with pytest.raises(TooLarge):
        template.fill({"a": "b"}, {}, 65)


def test_a_url_is_given_up_before_it_is_whole() -> None:
    """A value may stand in it thousands of times: all of them would be gigabytes."""
    for where in ("{{a}}" * 20_000, "/{{a}}" * 20_000):
        template = UrlTemplate.read(f"https://x.test/{where}", {"a": Parameter("a", "text")})
        with pytest.raises(TooLarge):
            template.fill({"a": "x" * 1_000_000}, {}, 8192)
