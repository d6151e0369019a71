"""Parameters of presets: strict JSON, and every error at once by name, never by value."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.core.preset_parameters import (
    TYPES,
    MalformedJson,
    Number,
    Parameter,
    read_json,
    same,
    values_of,
)

ANY = {
    "user": Parameter("user", "text", max_length=5, one_of=("ann", "bob", "longest")),
    "points": Parameter("points", "integer", Number("0")),
    "ratio": Parameter("ratio", "number", Number("1.5")),
    "on": Parameter("on", "boolean", False),
    "tags": Parameter("tags", "list", [], max_length=2),
    "more": Parameter("more", "object", {}),
}


def errors_of(payload: object) -> list[tuple[str, str]]:
    return values_of(ANY, json.dumps(payload).encode())[1]


def plain(value: object) -> object:
    """A value as the standard library reads it."""
    if isinstance(value, Number):
        return json.loads(value.text)
    if isinstance(value, list):
        return [plain(each) for each in value]
    return {name: plain(each) for name, each in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    ("data", "reason"),
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
        (b'{"a": NaN}', "must not contain NaN or Infinity, which are not JSON (RFC 8259 6)"),
        (b'{"a": -Infinity}', "must not contain NaN or Infinity, which are not JSON (RFC 8259 6)"),
        (b'{"a": "\\ud800"}', "must not contain lone surrogates"),
        (b'{"a": [["x\\udfff"]]}', "must not contain lone surrogates"),
        (b'{"\\ud800": 1}', "must not contain lone surrogates"),
        (b'{"a": %s}' % (b"9" * 65), "numbers must have at most 64 characters"),
        (b'{"a": %s}' % (b"9" * 60_000), "numbers must have at most 64 characters"),
        (b'{"a": 1.%s}' % (b"9" * 5000), "numbers must have at most 64 characters"),
        (b"[" * 33 + b"]" * 33, "must not be nested deeper than 32 levels"),
        (b"[" * 32_000 + b"]" * 32_000, "must not be nested deeper than 32 levels"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "must not be nested deeper than 32 levels"),
    ],
)
def test_what_json_leaves_to_chance_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedJson, match=re.escape(reason)):
        read_json(data)


def test_what_is_as_deep_as_may_be_is_read() -> None:
    assert plain(read_json(b"[" * 32 + b"]" * 32)) == json.loads("[" * 32 + "]" * 32)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**60), 10**60)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=("Cs",))),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
        max_leaves=20,
    )
)
def test_what_is_read_is_what_the_standard_library_reads(value: object) -> None:
    """Escaped or not; numbers by their spelling."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert plain(read_json(text.encode())) == json.loads(text)


def test_numbers_keep_their_spelling() -> None:
    values, errors = values_of(ANY, b'{"user": "ann", "points": -0, "ratio": 1.50e+07}')
    assert errors == []
    assert isinstance(points := values["points"], Number)
    assert isinstance(ratio := values["ratio"], Number)
    assert (points.text, ratio.text) == ("-0", "1.50e+07")


def test_defaults_are_filled_in() -> None:
    values, errors = values_of(ANY, b'{"user": "bob"}')
    assert errors == []
    assert {name: plain(value) for name, value in values.items()} == {
        "user": "bob",
        "points": 0,
        "ratio": 1.5,
        "on": False,
        "tags": [],
        "more": {},
    }


def test_every_error_is_named_at_once() -> None:
    """By the parameter's name and what must be true of it."""
    found = errors_of({"points": 1.5, "ratio": "1", "on": 1, "tags": [1, 2, 3], "more": None, "odd": 1})
    assert found == [
        ("/user", "is required"),
        ("/points", "must be a whole number"),
        ("/ratio", "must be a number"),
        ("/on", "must be true or false"),
        ("/tags", "must have at most 2 entries"),
        ("/more", "must be an object"),
        ("/odd", "the preset has no such parameter"),
    ]


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (7, "must be a text"),
        (None, "must be a text"),
        ("longest", "must have at most 5 characters"),
        ("eve", "must be one of the values that the preset allows"),
    ],
)
def test_no_error_shows_a_value(user: object, reason: str) -> None:
    assert errors_of({"user": user}) == [("/user", reason)]


def test_there_is_a_parameter_of_each_type_under_its_name() -> None:
    assert {name: each.name for name, each in ANY.items()} == dict(zip(ANY, ANY, strict=True))
    assert tuple(each.type for each in ANY.values()) == TYPES


def test_a_true_is_no_number_a_number_no_truth_and_an_object_no_list() -> None:
    assert errors_of({"user": "ann", "points": True, "on": 0, "tags": {}}) == [
        ("/points", "must be a whole number"),
        ("/on", "must be true or false"),
        ("/tags", "must be a list"),
    ]


@pytest.mark.parametrize("payload", ["[]", '"text"', "1", "null"])
def test_parameters_are_an_object(payload: str) -> None:
    assert values_of(ANY, payload.encode()) == ({}, [("", "the parameters must be a JSON object")])


def test_an_unknown_name_is_repeated_only_where_a_parameter_could_have_it() -> None:
    """It may be anything that a caller sends, so it may be a secret that was put in the wrong place."""
    found = errors_of({"user": "ann", "a b": 1, "x" * 64: 1, "ok_name": 1})
    assert found == [
        ("", "the preset has no such parameter"),
        ("", "the preset has no such parameter"),
        ("/ok_name", "the preset has no such parameter"),
    ]


def test_errors_are_listed_up_to_a_bound() -> None:
    assert len(errors_of({f"n{number}": 1 for number in range(5000)})) == 64


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Number("1"), Number("1.0"), True),
        (Number("10"), Number("1e1"), True),
        (Number("9007199254740993"), Number("9007199254740992"), False),
        (Number("1e400"), Number("1e401"), False),
        ("1", Number("1"), False),
        ("a", "a", True),
        ("a", "A", False),
    ],
)
def test_numbers_are_the_same_whatever_their_spelling(one: object, other: object, *, expected: bool) -> None:
    assert same(one, other) is expected


def test_a_number_does_not_show_itself() -> None:
    assert repr(Number("7")) == "Number(...)"
