"""admin/console/form/presets.py: what the form of a preset shows of a document, and the document that it sends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.admin.api.problems import ItemError
from sidekey.admin.console.form.presets import (
    InvalidJson,
    entries_of,
    example_of,
    example_payload,
    json_in,
    placed_errors,
    read_document,
    sample_in,
    samples_of,
    typed_of,
    value_in,
)
from sidekey.core.preset_parameters import TYPES, values_of
from sidekey.settings.presets import read_preset

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.from_regex(r"[a-z_][a-z0-9_-]{0,5}", fullmatch=True)
LEAVES = (
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | ANY
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3), max_leaves=8
)
PARAMETERS = st.dictionaries(
    NAMES,
    st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("text")},
            optional={
                "default": ANY,
                "max_length": st.integers(1, 99),
                "one_of": st.lists(ANY, min_size=1, max_size=3),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("number")},
            optional={"default": st.floats(-1e9, 1e9), "one_of": st.lists(st.integers(0, 9), min_size=1, max_size=3)},
        ),
        st.fixed_dictionaries(
            {"type": st.sampled_from(["list", "object"])},
            optional={"default": VALUES.filter(lambda each: each is not None)},
        ),
        st.fixed_dictionaries(
            {"type": st.just("boolean")}, optional={"default": st.booleans(), "required": st.booleans()}
        ),
    ),
    max_size=3,
)
BODIES = st.one_of(
    st.tuples(
        st.sampled_from(["application/json", "application/x+json; charset=utf-8"]),
        VALUES.filter(lambda each: each is not None),
    ),
    st.tuples(
        st.just("application/x-www-form-urlencoded"),
        st.dictionaries(ANY, ANY | st.integers(0, 9) | st.booleans(), max_size=3),
    ),
    st.tuples(st.sampled_from(["text/plain", "application/xml"]), ANY),
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """What may be stored: nothing here asks whether it is a preset."""
    found: dict[str, Any] = {
        "integration": "crm",
        "url": f"https://api.example.com/{draw(st.sampled_from(['', 'a', '{{user}}']))}",
        "content_type": "application/json",
    }
    for key, values in {
        "description": ANY,
        "tags": st.lists(ANY, min_size=1, max_size=3),
        "method": st.just("PROPFIND"),
    }.items():
        if draw(st.booleans()):
            found[key] = draw(values)
    if draw(st.booleans()):
        found["headers"] = draw(st.dictionaries(NAMES, ANY, min_size=1, max_size=3))
    if draw(st.booleans()):
        found["of-a-later-version"] = draw(VALUES)
    if draw(st.booleans()):
        found["content_type"], found["body"] = draw(BODIES)
        if parameters := draw(PARAMETERS):
            found["parameters"] = parameters
    return found


def from_browser(typed: Mapping[str, str]) -> dict[str, str]:
    """What a browser sends: of a line without its ends of lines, of an area with CRLF (HTML, "value sanitization")."""
    lines = re.compile(r"\r\n?|\n")
    areas = ("/body", "#one_of")
    return {name: lines.sub("\r\n" if name.endswith(areas) else "", text) for name, text in typed.items()}


@given(documents())
def test_what_nobody_has_changed_stays_as_it_is(document: dict[str, Any]) -> None:
    """Whatever a browser does to it, and also what no input is for."""
    read = read_document(from_browser(typed_of(document)), document)
    assert read.errors == ()
    assert json.dumps(read.document) == json.dumps(document)


@given(documents(), ANY)
def test_one_change_changes_nothing_else(document: dict[str, Any], text: str) -> None:
    sent = {**from_browser(typed_of(document)), "/description": f"new {text}".replace("\n", "").replace("\r", "")}
    read = read_document(sent, document)
    assert read.document.pop("description") == sent["/description"].strip()
    assert read.document == {key: value for key, value in document.items() if key != "description"}


@given(VALUES)
def test_a_body_of_json_is_what_was_typed(value: Any) -> None:
    sent = {"/sends": "parameters", "/content_type": "application/json", "/body": json.dumps(value, indent=3)}
    read = read_document(sent, {})
    assert (read.errors, json.dumps(read.document["body"])) == ((), json.dumps(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "b": }', "line 2, column 7: is not JSON from here on"),
        ("", "line 1, column 1: is not JSON from here on"),
        ('{"a": 1, "a": 2}', "must not have a key twice in an object"),
        ("[NaN]", "must be JSON (RFC 8259), which has no NaN and no infinity"),
        ('"\\ud800"', "must not contain a lone surrogate, which is not a character"),
        ("1" * 5000, "must not have a number of so many digits"),
        ("[" * 50 + "]" * 50, "must not be nested deeper than"),
        ("[" * 100_000, "must not be nested so deeply"),
        ("1e999", "must not have a number that no double can hold"),
    ],
)
def test_what_is_no_json_is_told_with_its_line_and_without_a_value(text: str, said: str) -> None:
    with pytest.raises(InvalidJson) as error:
        json_in(text)
    assert said in str(error.value)
    read = read_document({"/sends": "parameters", "/content_type": "application/json", "/body": text}, {})
    assert [each.pointer for each in read.errors] == ["/body"]


def test_rows_are_refused_that_would_be_lost() -> None:
    """A name twice, or a value without one; an empty row is none."""
    sent = {
        "/sends": "parameters",
        "/content_type": "application/json",
        "/body": "1",
        "/headers#0#name": "X-A",
        "/headers#0#value": "1",
        "/headers#5#name": " X-A ",
        "/headers#5#value": "2",
        "/headers#6#name": "",
        "/headers#6#value": "3",
        "/headers#7#name": "",
        "/headers#7#value": "",
        "/parameters#0#name": "",
        "/parameters#0#type": "text",
        "/parameters#0#need": "required",
        "/parameters#0#sample": "x",
        "/parameters#1#name": "",
        "/parameters#1#type": "text",
        "/parameters#1#one_of": "x",
    }
    found = read_document(sent, {}).errors
    assert [(each.pointer, each.detail) for each in found] == [
        ("/headers/X-A", "must not be there twice"),
        ("/headers", "a row has a value and no name"),
        ("/parameters", "a row has a value and no name"),
    ]


def test_what_the_page_hides_is_not_in_the_document() -> None:
    """Nobody could remove it there: a length of a number, a default of what must be given, the body of a payload."""
    row = {"name": "n", "type": "boolean", "need": "required", "default": "x", "max_length": "3", "one_of": "a\r\nb"}
    sent = {
        "/content_type": "application/json",
        "/body": "1",
        **{f"/parameters#0#{part}": text for part, text in row.items()},
    }
    assert read_document({**sent, "/sends": "parameters"}, {}).document["parameters"] == {"n": {"type": "boolean"}}
    assert read_document({**sent, "/sends": "payload"}, {}).document.keys() == {"id", "content_type"}
    sent["/parameters#0#type"] = "text"
    found = read_document({**sent, "/sends": "parameters"}, {}).document["parameters"]
    assert found == {"n": {"type": "text", "max_length": 3, "one_of": ["a", "b"]}}


def test_a_form_has_fields_and_other_bodies_are_as_they_are_written() -> None:
    sent = {"/sends": "parameters", "/body#0#name": "q", "/body#0#value": "{{a}} b", "/body": "<a>\r\n</a>"}
    assert read_document({**sent, "/content_type": "application/x-www-form-urlencoded"}, {}).document["body"] == {
        "q": "{{a}} b"
    }
    assert read_document({**sent, "/content_type": "text/xml"}, {}).document["body"] == "<a>\n</a>"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", " 7 ", " 7 "),
        ("integer", " 7 ", 7),
        ("number", "1.50", 1.5),
        ("number", "1,5", "1,5"),
        ("integer", "true", "true"),
        ("boolean", "true", True),
        ("boolean", "yes", "yes"),
        ("list", "[1]", [1]),
        ("object", "{}", {}),
    ],
)
def test_values_are_typed_as_their_type_is_written(kind: str, text: str, value: Any) -> None:
    """What is none stays a text, of which the API says what must be true."""
    assert value_in(kind, text) == value


@given(PARAMETERS)
def test_examples_are_what_a_preset_takes(parameters: dict[str, Any]) -> None:
    """Whatever else was declared: what is copied can be sent."""
    document = {"integration": "crm", "url": "https://a.example/", "content_type": "application/json", "body": 1}
    built = read_preset("x", {**document, "parameters": parameters})
    if built.preset is None:
        return
    values, errors = samples_of(parameters, {})
    body = built.preset.rules._body
    assert (errors, body is not None) == ([], True)
    assert body is not None
    assert values_of(body.parameters, json.dumps(values).encode())[1] == []


def test_samples_are_typed_and_told_apart() -> None:
    parameters = {"a": {"type": "integer"}, "b": {"type": "list"}, "c": {"type": "text", "default": "x"}}
    assert samples_of(parameters, {"a": "7", "b": "[", "c": ""}) == (
        {"a": 7},
        [ItemError("/b", "line 1, column 2: is not JSON from here on")],
    )
    typed = {"/parameters#4#name": " a ", "/parameters#4#sample": "7"}
    assert (sample_in(typed, "a"), sample_in(typed, "b")) == ("7", "")
    assert [example_of("user", {"type": each}) for each in TYPES] == ["user", 1, 1.5, True, [], {}]
    assert example_of("user", {"type": "text", "max_length": 2}) == "us"
    assert example_payload("text/xml") == "<event/>"
    assert example_payload("image/png") == "example"


def test_messages_stand_at_what_the_form_has_an_input_for() -> None:
    """And say what they are about below it."""
    typed = {"/content_type": "application/json", "/parameters#0#name": "n", "/parameters#0#type": "text"}
    errors = [
        ItemError("/body/a/0", "wrong"),
        ItemError("/parameters/n/default", "wrong"),
        ItemError("/headers/X~1A", "wrong"),
        ItemError("/tags/0", "wrong"),
        ItemError("/sample/n", "wrong"),
        ItemError("", "wrong"),
    ]
    assert placed_errors(typed, errors) == [
        ItemError("/body", "at /a/0: wrong"),
        ItemError("/parameters/n", "Default: wrong"),
        ItemError("/headers/X~1A", "wrong"),
        ItemError("/tags", "wrong"),
        ItemError("/sample/n", "wrong"),
        ItemError("", "wrong"),
    ]
    entries = entries_of(typed, None, errors)
    assert (entries.parameters[0].errors, entries.errors["/body"]) == (("Default: wrong",), ("at /a/0: wrong",))
    assert [row.name for row in entries.parameters] == ["n", "", ""]
    fields = {**typed, "/content_type": "application/x-www-form-urlencoded", "/body#0#name": "a"}
    assert entries_of(fields, None, [ItemError("/body/a", "wrong")]).fields[0].errors == ("wrong",)
