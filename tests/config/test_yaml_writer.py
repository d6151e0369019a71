"""Values are the same after writing and reading them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.config.yaml_reader import parse
from sidekey.config.yaml_writer import Inexpressible, write

NUMBERS = st.integers(-(10**18) + 1, 10**18 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(document=st.dictionaries(TEXTS, VALUES, max_size=4))
@example(
    {"words": ["off", "no", "0660", "2001-01-01", "1_000", "~", "", "null", "1e5", "0x1f", "=", "<<", "! a", "&a"]}
)
@example({"lines": "a\nb\n", "ends": "a\n\n", "tabs": "\ta\n b", "spaces": " a \n", "odd": "\x85\ufeff\u2028"})
@example({"numbers": [1e300, 1e-7, -0.0, 1e16, 10**18 - 1, 12]})
@example({"long": "x " * 5000, "k" * 2000: 1})
def test_written_values_are_read_unchanged(document: dict[str, Any]) -> None:
    read, errors = parse("", write(document, "a comment\nof two lines").encode())
    assert errors == []
    assert repr(_plain(read)) == repr(document)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def test_value_that_yaml_cannot_represent_is_refused_with_its_path() -> None:
    """The reader takes numbers beyond 18 digits for text, and limits the depth."""
    with pytest.raises(Inexpressible, match=r"^a\.b\[1\]: cannot be written in a config file$"):
        write({"a": {"b": [1, 10**18]}})
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(Inexpressible, match=r"^it cannot be written"):
        write({"a": deep})
    with pytest.raises(Inexpressible, match=r"^it cannot be written"):
        write({"a": "\ud800"})


def test_output_is_readable() -> None:
    """PEM has its lines, lists are indented, and the comment is above."""
    text = write({"version": 1, "a": ["x"], "pem": "-----BEGIN\nabc\n-----END\n"}, "first\n\nlast")
    assert text == ("# first\n#\n# last\nversion: 1\na:\n  - x\npem: |\n  -----BEGIN\n  abc\n  -----END\n")
