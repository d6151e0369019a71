"""What is written as a config file is read again as the same."""

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
def test_values_come_back_as_they_were(document: dict[str, Any]) -> None:
    """Of the same types, keys in the same order."""
    read, errors = parse("", write(document, "a comment\nof two lines").encode())
    assert errors == []
    assert repr(_plain(read)) == repr(document)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def test_what_a_config_file_cannot_say_is_named_by_its_place() -> None:
    """Whole numbers beyond 18 digits would be texts; what is too deep is no config at all."""
    with pytest.raises(Inexpressible, match=r"^a\.b\[1\]: cannot be written in a config file$"):
        write({"a": {"b": [1, 10**18]}})
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(Inexpressible, match=r"^it cannot be written"):
        write({"a": deep})
    with pytest.raises(Inexpressible, match=r"^it cannot be written"):
        write({"a": "\ud800"})


def test_it_reads_well() -> None:
    """PEM as lines, lists below their keys, the comment above."""
    text = write({"version": 1, "a": ["x"], "pem": "-----BEGIN\nabc\n-----END\n"}, "first\n\nlast")
    assert text == ("# first\n#\n# last\nversion: 1\na:\n  - x\npem: |\n  -----BEGIN\n  abc\n  -----END\n")
