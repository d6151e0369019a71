"""Templates: values are escaped for their context and cannot break out of it."""

from __future__ import annotations

import json
from decimal import Decimal
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

import pytest

from sidekey.presets.template import (
    Errors,
    Findings,
    InvalidTemplate,
    Template,
    TooLarge,
    UrlTemplate,
    Value,
    as_header,
    content_type_parameters,
    form_template,
    json_template,
    parse,
    stays_in_segment,
    text_template,
)

NAMES = ("a", "b", "n", "t")
VALUES: dict[str, Value] = {"a": "x", "b": "y\"<&>'\\\n", "n": Decimal("1.50"), "t": True}


def fill(template: Template, **values: Value) -> str:
    errors: Errors = {}
    filled = template.fill({**VALUES, **values}, errors, 1 << 20)
    assert errors == {}
    return filled


def filled_json(body: object, **values: Value) -> str:
    findings: Findings = []
    template = json_template(body, NAMES, findings)
    assert findings == []
    assert template is not None
    return fill(template, **values)


def filled_text(content_type: str, body: str, **values: Value) -> str:
    return fill(text_template(content_type, body, NAMES), **values)


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
def test_a_text_is_parsed_into_literals_and_names(text: str, literals: list[str], names: list[str]) -> None:
    assert parse(text, NAMES) == (literals, names)


@pytest.mark.parametrize(
    "text", ["{{", "{{ a }}", "{{a}", "{{{a}}", "{{1a}}", "{{a.b}}", "{{a|b}}", "{{#if a}}", "{{é}}"]
)
def test_a_placeholder_is_a_name_and_nothing_else(text: str) -> None:
    with pytest.raises(InvalidTemplate, match=r"write \{\{\{\{ for"):
        parse(text, NAMES)


def test_json_value_keeps_its_type() -> None:
    body = {"a": "{{a}}", "n": "{{n}}", "t": ["{{t}}", "{{b}}"], "in": "{{n}} {{t}} {{b}}", "k": [1.5, None, {}]}
    assert filled_json(body) == (
        '{"a":"x","n":1.50,"t":[true,"y\\"<&>\'\\\\\\n"],"in":"1.50 true y\\"<&>\'\\\\\\n","k":[1.5,null,{}]}'
    )


@pytest.mark.parametrize(
    "text",
    [
        *('"{{a}}"', '\\"{{a}}"', "{{a}}{{a}}", "\\{{a}}", '{{a}}"', '"{{a}}', '{{a}}\\"', '"', "\\", "{{{{a}}"),
        *('{{a}}"{{a}}', '","{{a}}","', "\n{{a}}\x7f\u2028", "é{{a}}", "{{a}}}}", "{{{{{{a}}", '{{{{"{{a}}"'),
    ],
)
@pytest.mark.parametrize("value", ['"', "\\", '","x":"', "{{b}}", "é\u2028\x00", ""])
def test_json_strings_contain_values_as_text(text: str, value: str) -> None:
    """Text around the placeholder does not matter."""
    expected = text.replace("{{{{", "\ue000").replace("{{a}}", value).replace("\ue000", "{{")
    key = text.replace("{{", "")
    filled = filled_json({"k": [text, "{{n}}"], key: 1}, a=value)
    assert json.loads(filled) == {"k": [expected, 1.5], key: 1}


def test_json_document_may_be_one_value() -> None:
    assert filled_json("{{n}}") == "1.50"
    assert filled_json("{{{{}} é") == '"{{}} é"'
    assert filled_json(None) == "null"


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"{{a}}": 1}, [(("{{a}}",), "a key must not contain {{")]),
        ({"k": {"x{{{{": 1}}, [(("k", "x{{{{"), "a key must not contain {{")]),
        ({"k": ["{{zz}}"]}, [(("k", 0), "{{zz}} must name a parameter: add the parameter, or remove the placeholder")]),
        ({"k": "{{a"}, [(("k",), "{{ must begin a placeholder such as {{name}}: write {{{{ for {{ itself")]),
        ({"k": [1, float("inf")]}, [(("k", 1), "must be a number that JSON has")]),
    ],
)
def test_each_error_of_a_json_body_has_its_place(body: object, result: Findings) -> None:
    findings: Findings = []
    assert json_template(body, NAMES, findings) is None
    assert findings == result


def test_form_fields_are_percent_encoded() -> None:
    findings: Findings = []
    body = {"q": "a {{b}}&", "n": "{{n}}", "k y{": 1, "t": True, "l": "{{{{}} {%7B"}
    template = form_template(body, NAMES, findings)
    assert findings == []
    assert template is not None
    filled = fill(template)
    assert parse_qsl(filled, strict_parsing=True) == [
        ("q", "a y\"<&>'\\\n&"),
        ("n", "1.50"),
        ("k y{", "1"),
        ("t", "true"),
        ("l", "{{}} {%7B"),
    ]
    assert not set("{}") & set(filled)


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("a=b", [((), "must be a mapping of fields to texts, numbers, true or false")]),
        ({"{{a}}": "x"}, [(("{{a}}",), "a key must not contain {{")]),
        ({"x": ["y"]}, [(("x",), "must be a text, a number, true or false")]),
        ({"x": None}, [(("x",), "must be a text, a number, true or false")]),
        ({"x": "{{zz}}"}, [(("x",), "{{zz}} must name a parameter: add the parameter, or remove the placeholder")]),
    ],
)
def test_form_contains_scalars_only(body: object, result: Findings) -> None:
    findings: Findings = []
    assert form_template(body, NAMES, findings) is None
    assert findings == result


@pytest.mark.parametrize("content_type", ["text/xml", "application/xml; charset=utf-8", "application/soap+xml"])
def test_values_are_escaped_in_xml(content_type: str) -> None:
    filled = filled_text(content_type, "<r a='{{b}}' c=\"{{b}}\"><!-- note -->in {{b}}{{{{</r>")
    escaped = "y&#34;&#60;&#38;&#62;&#39;\\&#10;"
    assert filled == f"<r a='{escaped}' c=\"{escaped}\"><!-- note -->in {escaped}{{{{</r>"
    root = ET.fromstring(filled)
    assert (root.get("a"), root.get("c"), root.text) == (VALUES["b"], VALUES["b"], f"in {VALUES['b']}{{{{")


@pytest.mark.parametrize(
    "body",
    [
        "<{{a}}/>",
        "<r {{a}}='1'/>",
        "<r><!-- {{a}} --></r>",
        "<r><?x {{a}}?></r>",
        "<r>{{a}}</r><!-- {{a}} -->",
        "<r xmlns:x='{{a}}'/>",
    ],
)
def test_xml_placeholder_is_in_text_or_in_an_attribute_value(body: str) -> None:
    with pytest.raises(InvalidTemplate, match="only in text and in values of attributes"):
        filled_text("text/xml", body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<r>", "well-formed"),
        ("{{a}}", "well-formed"),
        ("<r/>{{a}}", "well-formed"),
        ("<r>&{{a}};</r>", "well-formed"),
        ("<r a={{a}}/>", "well-formed"),
        ("<!DOCTYPE r [<!ENTITY e 'x'>]><r>&e;</r>", "must not contain <!DOCTYPE"),
        ("<r><![CDATA[{{a}}]]></r>", r"must not contain <!DOCTYPE or <!\[CDATA\["),
        ("<?xml version='1.0' encoding='iso-8859-1'?><r>{{a}}</r>", "the encoding must be UTF-8"),
        ('<?xml version="1.0" encoding = "utf-16"?><r>{{a}}</r>', "the encoding must be UTF-8"),
    ],
)
def test_xml_is_well_formed_and_plain(body: str, reason: str) -> None:
    with pytest.raises(InvalidTemplate, match=reason):
        filled_text("text/xml", body)


def test_a_value_does_not_complete_the_end_of_a_cdata_section() -> None:
    filled = filled_text("text/xml", "<r>{{a}}></r>", a="]]")
    assert ET.fromstring(filled).text == "]]>"


def test_xml_declaration_may_name_utf_8() -> None:
    body = "<?xml version='1.0' encoding='UTF-8'?><r>{{a}}</r>"
    assert filled_text("text/xml", body) == body.replace("{{a}}", "x")


@pytest.mark.parametrize("value", ["\0", "a\x1f", "\ufffe"])
def test_characters_that_xml_does_not_allow_are_refused(value: str) -> None:
    errors: Errors = {}
    text_template("text/xml", "<r>{{a}}{{b}}</r>", NAMES).fill({**VALUES, "a": value}, errors, 1000)
    assert errors == {"a": "must not contain characters that XML does not allow"}


def test_other_text_contains_values_unchanged() -> None:
    assert filled_text("text/plain", "{{b}}{{n}}\n{{{{") == "y\"<&>'\\\n1.50\n{{"


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json", "text/json"),
        *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/x-ndjson"),
    ],
)
def test_text_must_not_be_json_or_a_form(content_type: str) -> None:
    """A value could add members, fields or parts."""
    with pytest.raises(InvalidTemplate, match="use json or form"):
        filled_text(content_type, "{{a}}")


def test_filled_text_is_limited_before_it_is_complete() -> None:
    """A value may be repeated a thousand times."""
    template = text_template("text/plain", "{{a}}" * 1000, NAMES)
    assert template.fill({"a": "x" * 10}, {}, 10_000) == "x" * 10_000
    with pytest.raises(TooLarge):
        template.fill({"a": "x" * 10}, {}, 9_999)


def test_header_value_has_no_controls() -> None:
    assert as_header("é") == "Ã©"
    for control in ("\r\n", "\t", "\0", "\x7f", "\x85"):
        with pytest.raises(ValueError, match="must not contain control characters"):
            as_header(f"a{control}b")


def url(text: str, **values: Value) -> str | Errors:
    errors: Errors = {}
    filled = UrlTemplate.parse(text, NAMES).fill({**VALUES, **values}, errors, 1 << 20)
    return errors or filled


def test_url_contains_values_in_segments_and_query() -> None:
    text = "https://h.example/v1/u-{{a}}.{{n}}/x?q={{b}}&r=1{{t}}2&s"
    assert url(text, a="a b|é%") == (
        "https://h.example/v1/u-a%20b%7C%C3%A9%25.1.50/x?q=y%22%3C%26%3E%27%5C%0A&r=1true2&s"
    )
    template = UrlTemplate.parse(text, NAMES)
    assert template.literal is None
    assert template.fill_sample() == "https://h.example/v1/u-x.x/x?q=x&r=1x2&s"
    assert UrlTemplate.parse("https://h.example/a?b={{{{", NAMES).literal == "https://h.example/a?b={{"


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
def test_placeholder_in_the_host_is_refused(text: str) -> None:
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
        ("https://h.example/{{zz}}", "must name a parameter: add the parameter, or remove the placeholder"),
        ("https://h.example/\0{{a}}", "percent-encoded"),
    ],
)
def test_url_that_a_value_could_break_is_refused(text: str, reason: str) -> None:
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
    result = url("https://h.example/v1/{{a}}/mails", a=value)
    assert isinstance(result, dict)
    assert result["a"].startswith("must not leave its segment of the path")


@pytest.mark.parametrize(
    "value", ["a", "a.b", "...a", "a..b", "a b", "é", "100%", "a%zz", "caf%C3%A9", "a+b", "a:b@c", "日本"]
)
def test_any_other_value_stays_in_its_segment(value: str) -> None:
    assert isinstance(url("https://h.example/v1/{{a}}/mails", a=value), str)


def test_content_type_parameters_are_compared_without_quotes() -> None:
    """Names and the charset are compared without case."""
    assert content_type_parameters('a/b; Boundary="xAx" ;CHARSET="UTF-8"') == {"boundary=xAx", "charset=utf-8"}
    assert content_type_parameters("a/b") == frozenset()


def test_segment_is_checked_with_all_its_values() -> None:
    """Two values together may leave it."""
    result = url("https://h.example/{{a}}{{b}}", a=".", b=".")
    assert isinstance(result, dict)
    assert set(result) == {"a", "b"}
    assert isinstance(url("https://h.example/{{a}}{{b}}", a="%2", b="f"), dict)
    assert isinstance(url("https://h.example/.{{a}}", a="."), dict)
    assert isinstance(url("https://h.example/x{{a}}", a=""), str)


def test_a_segment_is_one_segment_in_each_reading() -> None:
    assert stays_in_segment("a-b_c.d~e")
    assert not stays_in_segment("")
    for segment in (".", "..", "%2e", "%2E%2e", "%252e%252e", "..;", "a%252f", "a%5cb", "a%3bb", "%00"):
        assert not stays_in_segment(segment), segment


def test_segment_with_a_missing_value_is_not_checked() -> None:
    """Its parameter has an error already."""
    errors: Errors = {}
    UrlTemplate.parse("https://h.example/{{a}}/{{b}}", NAMES).fill({"b": ".."}, errors, 1000)
    assert errors.keys() == {"b"}


def test_url_is_limited_before_it_is_complete() -> None:
    """A value may be repeated thousands of times, which would be gigabytes."""
    template = UrlTemplate.parse(f"https://x.test/{'a' * 50}{{{{a}}}}", NAMES)
    assert len(template.fill({"a": "b"}, {}, 66)) == 66
    with pytest.raises(TooLarge):
        template.fill({"a": "b"}, {}, 65)
    for where in ("{{a}}" * 20_000, "/{{a}}" * 20_000):
        template = UrlTemplate.parse(f"https://x.test/{where}", NAMES)
        with pytest.raises(TooLarge):
            template.fill({"a": "x" * 1_000_000}, {}, 8192)
