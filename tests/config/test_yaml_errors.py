"""Explanations of YAML syntax errors, the same with both loaders of PyYAML."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidekey.config import yaml_reader
from sidekey.config.yaml_reader import Malformed, parse

TAB = "indentation must be spaces: there is a tab on this line"
NO_COLON = "must be a key, a colon and a space before its value"
COLON = "a text with a colon and a space in it must be in quotes"
UNCLEAR = "must be YAML: look at quotes, colons and indentation of this line and the one above"
ENTRIES = "must follow the last entry, and a comma each one before"
COMMA = "here; a text with any of : , { } [ ] must be in quotes"
ESCAPE = r"in double quotes \ begins an escape: write \\ for a backslash, or put the text in single quotes"
BEHIND = "nothing may follow a closing quote: "
TOO_FAR = "is indented too far: the key in line {} has its value already, so this one must begin in column {}"

TABLE = [
    ("a:\n\tb: c\n", (2, 1), TAB),
    ("a:\n  b:\n\t  c: d\n", (3, 1), TAB),
    ("a:\n  b: c\n  \td: e\n", (3, 3), TAB),
    ("a: |\n\tb\n", (2, 1), TAB),
    ("a:\n  b:\n    c: d\n   e: f\n", (4, 4), "indentation does not fit: must begin in column 5 or 3 or 1"),
    ("a:\n    b: c\n  d: e\n", (3, 3), "indentation does not fit: must begin in column 5 or 1"),
    ("a:\n  b: c\n    d: e\n", (3, 5), TOO_FAR.format(2, 3)),
    ("a: b\n  # comment\n\n  c: d\n", (4, 3), "indentation does not fit: must begin in column 1"),
    ("a: {", (1, 5), "must not end here: look for a quote or a bracket above that is not closed"),
    ("  a: b\nc: d\n", (1, 3), "the keys of a file must all begin in the first column: this one is indented"),
    ('a: "b\nc:\n  d: e\n', (1, 4), 'this quote is not closed: " must also end the text'),
    ("a: 'b\nc: d\n", (1, 4), "this quote is not closed: ' must also end the text"),
    ('a: "b\nc: "d"\n', (2, 5), f"{BEHIND}the one that it closes is in line 1"),
    ('a: "b" c\n', (1, 8), BEHIND + r'write \" for a " inside the text'),
    ("a: 'it's'\n", (1, 8), f"{BEHIND}write '' for a ' inside the text"),
    ("a:\n  b: {c: {d: e}\n  f: g\n", (2, 6), f"this {{ is not closed: }} {ENTRIES}"),
    ("a: [b, c\nd: e\n", (1, 4), f"this [ is not closed: ] {ENTRIES}"),
    ("a: {b: c}}\n", (1, 10), "nothing may follow the } that ends a value"),
    ("a: {b: c d: e}\n", (1, 11), f"must have a comma or }} {COMMA}"),
    ('a: ["b" "c"]\n', (1, 9), f"must have a comma or ] {COMMA}"),
    ("a: note: this\n", (1, 8), COLON),
    ("a:\n  - b\n  - c: d: e\n", (3, 9), COLON),
    ("a:\n  b:c\n  d: e\n", (2, 3), NO_COLON),
    ("a:\n  b: c\n  d:e\n", (3, 3), NO_COLON),
    ("a: b\nc\n", (2, 1), NO_COLON),
    (": b\n", (1, 1), NO_COLON),
    ("  :  b\n    c: d\n", (1, 3), NO_COLON),
    ("a:\n  - b\n  c: d\n", (3, 3), "each entry of the list that begins in line 2 must begin with a dash and a space"),
    ("a: @b\n", (1, 4), "a text that begins with @ must be in quotes"),
    ("a: %b\n", (1, 4), "a text that begins with % must be in quotes"),
    ("a: *.b\n", (1, 4), "a text that begins with * must be in quotes"),
    ("a: {b: *}\n", (1, 8), "a text that begins with * must be in quotes"),
    ("a: &\n", (1, 4), "a text that begins with & must be in quotes"),
    ("a: , b\n", (1, 4), "a text that begins with , must be in quotes"),
    ("a: | b\n  c\n", (1, 6), "nothing may follow | or > on its line: the text begins on the next one, indented"),
    ("%YAML 3.0\n---\na: b\n", (1, 1), UNCLEAR),
    ("a: b\n...\nc: d\n", (3, 1), UNCLEAR),
    ("a: {{b}}\n", (1, 5), "a key must be a text; a text that begins with { or [ must be in quotes"),
]


@pytest.fixture(params=["libyaml", "python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use each of PyYAML's two loaders."""
    if request.param == "python":
        monkeypatch.setattr(yaml_reader, "_Loader", yaml.BaseLoader)
    elif not hasattr(yaml, "CBaseLoader"):
        pytest.skip("PyYAML was built without libyaml")


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(("text", "place", "message"), TABLE)
def test_mistake_is_explained_at_its_line_and_column(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(Malformed) as raised:
        parse("c.yaml", text.encode())
    error = raised.value.error
    assert ((error.line, error.column), error.message) == (place, message)


@pytest.mark.usefixtures("loader")
def test_unknown_escape_is_explained() -> None:
    """The loaders report different columns."""
    with pytest.raises(Malformed) as raised:
        parse("c.yaml", b'a: "C:\\keys"\n')
    assert (raised.value.error.line, raised.value.error.message) == (1, ESCAPE)


@given(
    st.lists(st.sampled_from([*"ab:#'\"{}[]-*&!|>%@`,?\\ \n\t", ": ", "\n  ", "\n- ", "hunter2"]), max_size=30).map(
        "".join
    )
)
def test_any_syntax_error_has_a_place_and_shows_no_text_of_the_file(text: str) -> None:
    """Never with a message of the library."""
    try:
        parse("c.yaml", text.encode())
    except Malformed as malformed:
        error = malformed.error
        assert 1 <= error.line <= text.count("\n") + 1
        assert 1 <= error.column <= max(map(len, text.split("\n"))) + 1
        assert "hunter2" not in str(error)
        assert not any(word in error.message for word in ("expected", "token", "context", "found"))
