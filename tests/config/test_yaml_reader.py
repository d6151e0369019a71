import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidekey.config.errors import error_at
from sidekey.config.yaml_reader import MAX_DEPTH, Malformed, parse

SCALARS = [
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("0", 0),
    ("-12", -12),
    ("1.5", 1.5),
    ("1e3", "1e3"),
    ("off", "off"),
    ("no", "no"),
    ("On", "On"),
    ("yes", "yes"),
    ("y", "y"),
    ("0660", "0660"),
    ("0x1f", "0x1f"),
    ("1_000", "1_000"),
    ("+1", "+1"),
    ("12:30", "12:30"),
    ("2024-01-01", "2024-01-01"),
    (".inf", ".inf"),
    ("127.0.0.1", "127.0.0.1"),
    ("5s", "5s"),
    ("'true'", "true"),
    ('"12"', "12"),
    ("!!str 12", "12"),
    ("${HOME}", "${HOME}"),
    ("1234567890123456789", "1234567890123456789"),
]

MALFORMED = [
    ("an empty file", b"", "1:1: (file): must not be empty: begin with version: 1"),
    ("only a comment", b"# nothing\n", "1:1: (file): must not be empty: begin with version: 1"),
    ("a list", b"\n- 1\n", "2:1: (file): must be a mapping: begin with version: 1"),
    ("a text", b"hunter2", "1:1: (file): must be a mapping: begin with version: 1"),
    (
        "two documents",
        b"a: 1\n---\nb: 2\n",
        "2:1: (file): must contain one document: remove --- and what follows it",
    ),
    (
        "a tab as indentation",
        b"a:\n\tb: 1\n",
        "2:1: (file): indentation must be spaces: there is a tab on this line",
    ),
    ("two colons", b"a: b: c\n", "1:5: (file): a text with a colon and a space in it must be in quotes"),
    (
        "an open bracket",
        b"a: {b: 1\n",
        "1:4: (file): this { is not closed: } must follow the last entry, and a comma each one before",
    ),
    ("an open quote", b'a: "hunter2\n', '1:4: (file): this quote is not closed: " must also end the text'),
    (
        "a wrong indentation",
        b"a:\n    b: 1\n  c: 2\n",
        "3:3: (file): indentation does not fit: must begin in column 5 or 1",
    ),
    (
        "a tag",
        b"a: !!python/object:os.system hunter2\n",
        "1:4: (file): tags (!...) are not supported: put text in quotes",
    ),
    ("a tag on a mapping", b"a: !!map {}\n", "1:4: (file): tags (!...) are not supported: put text in quotes"),
    (
        "a key that is a list",
        b"? [a]\n: 1\n",
        "1:3: (file): a key must be a text; a text that begins with { or [ must be in quotes",
    ),
    (
        "an alias without an anchor",
        b"a: *b\n",
        "1:4: (file): this alias has no anchor above it; a text that begins with * must be in quotes",
    ),
    (
        "an alias inside its own anchor",
        b"a: &a\n  b: *a\n",
        "2:6: (file): this alias has no anchor above it; a text that begins with * must be in quotes",
    ),
    ("bytes that are not UTF-8", b"a: 1\nb: \xe9\n", "2:4: (file): must be UTF-8"),
    ("a file in UTF-16", "a: 1\n".encode("utf-16"), "1:1: (file): must be UTF-8"),
    (
        "a control character",
        "ä: 1\nb: ü\x01\n".encode(),
        "2:5: (file): must not contain a control character: remove it",
    ),
    ("a NUL", b"a: \0\n", "1:4: (file): must not contain a control character: remove it"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_only_words_and_numbers_of_yaml_1_2_are_typed(text: str, value: object) -> None:
    """`off`, `no`, dates and leading zeros stay text."""
    result = parse("c.yaml", f"key: {text}\n".encode())[0]["key"]
    assert (result, type(result)) == (value, type(value))


def test_keys_are_always_text() -> None:
    """An integration may be called 42."""
    assert list(parse("c.yaml", b"42: a\ntrue: b\nnull: c\n")[0]) == ["42", "true", "null"]


@pytest.mark.parametrize(("data", "line"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_unreadable_document_has_a_place_and_a_reason(data: bytes, line: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse("c.yaml", data)
    assert str(caught.value.error) == f"c.yaml:{line}"


@pytest.mark.parametrize("before", [65535, 65536, 200_000])
def test_control_character_is_found_anywhere(before: int) -> None:
    """A long file is searched in slices."""
    with pytest.raises(Malformed) as caught:
        parse("c.yaml", b"a: " + b"x" * (before - 3) + b"\x01\n")
    assert str(caught.value.error) == f"c.yaml:1:{before + 1}: (file): must not contain a control character: remove it"


def test_byte_order_mark_is_ignored() -> None:
    assert parse("c.yaml", b"\xef\xbb\xbfa: 1\n")[0] == {"a": 1}


def test_columns_count_characters() -> None:
    """An umlaut counts as one column, not as two bytes."""
    root, _ = parse("c.yaml", "a: [ü, {b: ö, c: 1}]\n".encode())
    assert str(error_at(root, ("a", 1, "c"), "here")) == "c.yaml:1:18: a[1].c: here"


def test_duplicate_key_is_an_error_and_the_first_value_counts() -> None:
    root, errors = parse("c.yaml", b"a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert root == {"a": {"b": 1, "c": 2}}
    assert [str(error) for error in errors] == [
        "c.yaml:4:3: a.b: this key is given twice: remove one; the first is in line 2"
    ]


def test_alias_has_the_value_and_place_of_its_anchor() -> None:
    root, _ = parse("c.yaml", b"a: &x {b: 1}\nc: *x\n")
    assert root["c"] == {"b": 1}
    assert error_at(root, ("c", "b"), "here").line == 1


def test_aliases_of_aliases_are_bounded() -> None:
    """Nine levels of nine aliases would expand to 400 million values ("billion laughs")."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(Malformed, match="aliases must stand for at most 10000 values in this file"):
        parse("c.yaml", "\n".join(lines).encode())


def test_long_file_may_have_more_aliased_values() -> None:
    shared = "x: &x {a: 1, b: 2, c: 3, d: [4, 5, 6]}\n"
    many = "".join(f"integration-{number}: *x\n" for number in range(5_000))
    root, errors = parse("c.yaml", (shared + many).encode())
    assert (len(root), errors) == (5_001, [])


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    """A file of brackets must not exhaust the stack."""
    with pytest.raises(Malformed):
        parse("c.yaml", b"a: " + b"[" * depth + b"]" * depth)


def test_nesting_within_the_limit_is_read() -> None:
    depth = MAX_DEPTH - 1
    assert str(parse("c.yaml", b"a: " + b"[" * depth + b"]" * depth)[0]["a"]) == "LocatedList(1 values)"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.text(st.characters(exclude_categories=("Cs", "Cc"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_-.", min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abc_-.", min_size=1), VALUES, min_size=1, max_size=4), st.booleans())
def test_values_of_flow_and_block_style_are_read_unchanged(tree: dict[str, object], flow: bool) -> None:
    text = json.dumps(tree, ensure_ascii=False) if flow else yaml.safe_dump(tree, allow_unicode=True)
    assert json.loads(json.dumps(parse("c.yaml", text.encode())[0])) == tree


def test_only_the_first_200_duplicates_are_listed() -> None:
    _, errors = parse("f", b"a: 1\n" * 1000)
    assert len(errors) == 201
    assert errors[-1].message == "799 more errors: correct the first 200, then check again"
