"""Presets with any parameters: a filled body has the structure of its template, and a URL keeps its segments."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes
from xml.etree import ElementTree as ET

from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from sidekey.policy.targets import Policy, judge_target, parse_prefix
from sidekey.policy.urls import parse_target
from sidekey.presets.template import Errors, UrlTemplate
from sidekey.snapshot.snapshot import Preset
from support import wire
from support.plane import base_url, integration
from support.presets import post, preset
from support.scripted import ScriptedPlane

H = integration("h", base_url(1))
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
XML_TEXTS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\ufffe\uffff").filter(
        lambda item: item >= " " or item in "\t\n\r"
    ),
    max_size=20,
)
NUMBERS = st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
MARKUP = st.sampled_from(
    [
        "{{text}}",
        '"',
        "\\",
        "<a>",
        "&amp;",
        "]]>",
        "%2e%2e",
        "..",
        "/",
        "&a=b",
        "+",
        "\r\n",
        "{{{{",
    ]
)
VALUES = st.fixed_dictionaries(
    {
        "text": TEXTS | st.lists(MARKUP | TEXTS, max_size=4).map("".join),
        "number": NUMBERS,
        "on": st.booleans(),
    }
)
PARAMETERS = {
    "text": {"type": "text"},
    "number": {"type": "number"},
    "on": {"type": "boolean"},
}
LITERALS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="{}\ufeff"), max_size=6)


def written(value: object) -> str:
    """Return the text of a value."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool) else str(Decimal(json.dumps(value)))


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Draw a text with placeholders, and its pieces: literals, and names in between."""
    pieces = [draw(LITERALS)]
    for _ in range(draw(st.integers(0, 3))):
        pieces += [draw(st.sampled_from(sorted(PARAMETERS))), draw(LITERALS)]
    spelled = [f"{{{{{piece}}}}}" if at % 2 else piece for at, piece in enumerate(pieces)]
    return "".join(spelled), pieces


def filled_text(pieces: list[str], values: dict[str, Any]) -> str:
    return "".join([written(values[piece]) if at % 2 else piece for at, piece in enumerate(pieces)])


@st.composite
def documents(draw: st.DrawFn) -> tuple[object, object]:
    """Draw a JSON document with placeholders, and its structure with a pair (kind, text) for each text."""
    exact = st.sampled_from(sorted(PARAMETERS)).map(lambda name: (f"{{{{{name}}}}}", ("exact", name)))
    text = texts().map(lambda result: (result[0], ("text", result[1])))
    plain = (st.none() | st.booleans() | st.integers(-9, 9)).map(lambda value: (value, ("plain", value)))

    def lists(inner: st.SearchStrategy[tuple[object, object]]) -> st.SearchStrategy[tuple[object, object]]:
        many = st.lists(inner, max_size=4)
        keys = st.dictionaries(LITERALS, inner, max_size=4)
        return many.map(lambda result: ([item for item, _ in result], [item for _, item in result])) | keys.map(
            lambda result: (
                {key: item for key, (item, _) in result.items()},
                {key: item for key, (_, item) in result.items()},
            )
        )

    return draw(st.recursive(exact | text | plain, lists, max_leaves=8))


def expected(shape: object, values: dict[str, Any]) -> object:
    """Return the document with these values."""
    if isinstance(shape, list):
        return [expected(item, values) for item in shape]
    if isinstance(shape, dict):
        return {key: expected(item, values) for key, item in shape.items()}
    assert isinstance(shape, tuple)
    kind, what = shape
    if kind == "text":
        # A text that came to be exactly one placeholder keeps the value's type.
        if len(what) == 3 and what[0] == what[2] == "":
            return values[what[1]]
        return filled_text(what, values)
    return values[what] if kind == "exact" else what


def arrived(preset_: Preset, payload: dict[str, Any]) -> wire.Message | bytes:
    """Return the request that the upstream receives for these parameters, or the response without one."""
    return sent_for(preset_, post(json.dumps(payload, ensure_ascii=False).encode()))


def sent_for(preset_: Preset, raw: bytes) -> wire.Message | bytes:
    """Return the request that the upstream receives for a caller's, or the response without one."""

    async def main() -> wire.Message | bytes:
        sidekey = ScriptedPlane(H, presets=[preset_])
        caller = sidekey.caller()
        caller.feed(raw)
        for _ in range(8):
            await asyncio.sleep(0)
        assert sidekey.defects == []
        if not sidekey.upstreams:
            return caller.read()
        (message,) = wire.requests(sidekey.upstreams[0].read())
        return message

    return asyncio.run(main())


@given(documents(), VALUES)
def test_json_body_has_the_structure_of_its_template(result: tuple[object, object], values: dict[str, Any]) -> None:
    """Values keep their types if a text is only a placeholder."""
    document, shape = result
    message = arrived(preset(parameters=PARAMETERS, body={"json": document}), values)
    assert isinstance(message, wire.Message)
    assert json.loads(message.body) == expected(shape, values)
    assert message.values(b"content-length") == [b"%d" % len(message.body)]


@given(st.dictionaries(LITERALS, texts(), min_size=1, max_size=4), VALUES)
def test_form_has_the_fields_of_its_template(fields: dict[str, tuple[str, list[str]]], values: dict[str, Any]) -> None:
    body = {name: text for name, (text, _) in fields.items()}
    message = arrived(preset(parameters=PARAMETERS, body={"form": body}), values)
    assert isinstance(message, wire.Message)
    assert parse_qsl(message.body.decode(), keep_blank_values=True, strict_parsing=True) == [
        (name, filled_text(pieces, values)) for name, (_, pieces) in fields.items()
    ]


@given(XML_TEXTS | MARKUP, XML_TEXTS)
@example("\r\n\t'\"]]>&lt;", "--><b/>")
def test_xml_has_the_elements_and_attributes_of_its_template(first: str, second: str) -> None:
    body = "<?xml version='1.0'?><r a='{{a}}' b=\"x{{b}}y\"><!-- c --><c>{{b}}</c>t{{a}}<d e='{{b}}{{a}}'/></r>"
    parameters = {"a": {"type": "text"}, "b": {"type": "text"}}
    preset_ = preset(parameters=parameters, body={"text": body, "content_type": "application/xml"})
    message = arrived(preset_, {"a": first, "b": second})
    assert isinstance(message, wire.Message)
    root = ET.fromstring(message.body)
    assert root.attrib == {"a": first, "b": f"x{second}y"}
    inner, other = list(root)
    assert (root.text or "", inner.text or "", inner.tail, list(inner)) == ("", second, f"t{first}", [])
    assert other.attrib == {"e": second + first}


@given(TEXTS)
def test_characters_that_xml_does_not_allow_are_refused(value: str) -> None:
    preset_ = preset(parameters={"a": {"type": "text"}}, body={"text": "<r>{{a}}</r>", "content_type": "text/xml"})
    result = arrived(preset_, {"a": value})
    allowed = all(item in "\t\n\r" or (item >= " " and item not in "\ufffe\uffff") for item in value)
    assert isinstance(result, wire.Message) is allowed


ODD_PIECES = [
    *(".", "..", "/", "\\", ";", "?", "#", "%", "%25", "%2e", "%2f", "%252F", "%u002f", "%u2215", "%00", "2f", "u002f"),
    *("a", "\xe9", "\u2044", "\uff0f", "\xa5", "\u2100", "\uff0e", "\u0338", " ", "\xa0", "\n", "\x85"),
    *("+", "&", "=", ":", "@", "::$DATA"),
]
ODD = st.lists(st.sampled_from(ODD_PIECES) | TEXTS, max_size=5).map("".join)


@given(ODD, ODD)
@example("..%2Fadmins", "x")
@example("%25", "2f")
@example(".", ".")
@example("%u", "002f")
def test_filled_url_keeps_its_segments_in_any_decoding(first: str, second: str) -> None:
    """It stays inside the policy, with the same query and its value."""
    template = UrlTemplate.parse("https://h.test/api/{{a}}.{{b}}/{{b}}/mails?to={{a}}&x=1", ("a", "b"))
    errors: Errors = {}
    url = template.fill({"a": first, "b": second}, errors, 1 << 20)
    event("refused" if errors else "filled")
    if errors:
        return
    target = parse_target(url)
    assert target.origin == parse_target("https://h.test/").origin
    assert parse_qsl(target.query or "", keep_blank_values=True) == [("to", first), ("x", "1")]
    assert [unquote_to_bytes(item).decode() for item in target.path.split("/")[2:4]] == [f"{first}.{second}", second]
    reading = target.path
    for _ in range(8):
        segments = reading.replace("\\", "/").split("/")
        assert len(segments) == 5
        assert segments[:2] == ["", "api"]
        assert segments[4] == "mails"
        assert not {".", "..", ""} & set(segments[2:4])
        assert not set(";?#") & set(reading)
        reading = unicodedata.normalize("NFKC", unquote(reading, errors="surrogateescape"))
    inside = Policy(prefixes=(parse_prefix("https://h.test/api"),))
    assert judge_target(inside, target).allowed


@given(st.integers(0, 3), st.booleans())
@settings(max_examples=8)
def test_body_limit_is_exact(short: int, over: bool) -> None:
    """256 KiB, in bytes of UTF-8."""
    size = (256 << 10) // 8 - short
    body = {"text": "{{a}}" * 8 + "x" * (8 * short + over), "content_type": "text/plain"}
    preset_ = preset(parameters={"a": {"type": "text"}}, body=body)
    assume(size % 2 == 0)
    result = arrived(preset_, {"a": "é" * (size // 2)})
    if over:
        assert isinstance(result, bytes)
        assert result.startswith(b"HTTP/1.1 422 ")
    else:
        assert isinstance(result, wire.Message)
        assert len(result.body) == 256 << 10


FRAGMENTS = st.sampled_from(
    [
        *(
            b"{",
            b"}",
            b"[",
            b"]",
            b'"',
            b":",
            b",",
            b'"user"',
            b'"points"',
            b"1",
            b"-",
            b"e9",
            b"9" * 99,
            b"NaN",
            b"null",
        ),
        *(b" ", b"\\", b"\\u", b"d800", b"\0", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"{{user}}", b'{"user": "x"'),
        b"[" * 40,
    ]
)


@given(st.lists(FRAGMENTS | st.binary(max_size=3), max_size=12).map(b"".join), st.booleans())
@example(b'{"user": "x", "points": 1}', False)
def test_any_parameters_get_a_response(payload: bytes, chunked: bool) -> None:
    """A complete request, or 422. Never a defect or a cut connection."""
    parameters = {"user": {"type": "text"}, "points": {"type": "number", "default": 1}}
    preset_ = preset(url=base_url(1, "/api/{{user}}"), parameters=parameters, body={"json": ["{{points}}", "{{user}}"]})
    raw = post(payload)
    if chunked and payload:
        raw = post(b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload), payload), framing="Transfer-Encoding: chunked")
    result = sent_for(preset_, raw)
    if isinstance(result, wire.Message):
        points, user = json.loads(result.body)
        assert isinstance(user, str)
        assert isinstance(points, int | float)
    else:
        assert result.startswith(b"HTTP/1.1 422 ")
