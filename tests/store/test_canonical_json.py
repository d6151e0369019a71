"""Canonical JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.store.canonical_json import Json, canonical

SCALARS = st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner)
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ({"é": "€\U0001f511"}, '{"é":"€\U0001f511"}'),
        ('"\\/\n\x00\x7f', '"\\"\\\\/\\n\\u0000\x7f"'),
        ({"10": 1, "9": 2, "Z": 3, "a": 4}, '{"10":1,"9":2,"Z":3,"a":4}'),
    ],
)
def test_canonical_form_never_changes(value: Json, text: str) -> None:
    assert canonical(value) == text


@given(VALUES)
def test_canonical_form_is_unique_and_parses_back(value: Json) -> None:
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text
    assert "\n" not in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}])
def test_value_outside_json_is_refused(value: Json) -> None:
    with pytest.raises(ValueError, match=r"surrogate|JSON compliant"):
        canonical(value)
