from typing import Any

import pytest

from sidekey.config.build.builder import equal_values
from sidekey.config.yaml_reader import parse


def read(text: str, file: str = "c.yaml") -> Any:
    return parse(file, f"key: {text}\n".encode())[0]["key"]


@pytest.mark.parametrize("text", ["1", "text", "null", "[1, {a: b}]", "{a: {b: [true]}, c: 1.5}", "{}", "[]"])
def test_same_ignores_places_and_layout(text: str) -> None:
    assert equal_values(read(text), read(f"\n    {text}", "other.yaml"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1", "true"),
        ("0", "false"),
        ("1", "1.0"),
        ("1", "'1'"),
        ("null", "''"),
        ("{}", "[]"),
        ("{}", "null"),
        ("{a: 1}", "{a: true}"),
        ("[1]", "[true]"),
        ("[1]", "[1, 2]"),
        ("[1, 2]", "[2, 1]"),
        ("{a: 1}", "{a: 1, b: 2}"),
        ("{a: 1, b: 2}", "{b: 2, a: 1}"),
        ("{a: {b: x}}", "{a: {b: y}}"),
    ],
)
def test_same_compares_types_and_the_order_of_keys(first: str, second: str) -> None:
    """Headers are sent in the order of keys."""
    assert not equal_values(read(first), read(second))
