"""admin/console/form/trees.py: every document has rows, and rows that are sent back unchanged are that document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.admin.console.form.rows import Row
from sidekey.admin.console.form.trees import Place, path_of, place_of, read_tree, shown_tree

WHERE = "/auth/login/body"
READ = {"set": True, "updated_at": "2026-11-03T10:00:00Z", "updated_by": "ann"}
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6) | st.sampled_from(
    ["a", "0", "12", "a.b", "\\", "\\0", "..", " ", "value"]
)
NAMES = NAMES.filter(lambda name: name not in {"set", "value"})
"""With one of them alone a mapping is a secret."""

LEAVES = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=6),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.just(READ),
)
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def sent_of(rows: Sequence[Row]) -> dict[str, str]:
    """What a browser sends of rows: an input of one line has lost its ends of lines."""
    found: dict[str, str] = {}
    for each in rows:
        base = f"{WHERE}#{each.number}"
        parts = {"name": each.name, "was": each.was, "kind": each.kind, "value": each.value.replace("\n", "")}
        parts |= {"row": each.row} if each.row else {}
        parts |= {"value#do": "keep"} if each.stored else {}
        found |= {f"{base}#{part}": text.replace("\r", "") for part, text in parts.items()}
    return found


def typed(*rows: tuple[str, str, str], former: Any = None) -> Any:
    """What rows of path, kind and value say."""
    sent: dict[str, str] = {}
    for number, (path, kind, value) in enumerate(rows):
        base = f"{WHERE}#{number}"
        sent |= {f"{base}#name": path, f"{base}#kind": kind, f"{base}#value": value}
    return read_tree(WHERE, sent, former)


def said(found: Any) -> list[tuple[str, ...]]:
    """What is wrong with each row."""
    return [each.errors for each in found.rows]


@given(document=DOCUMENTS)
def test_what_is_shown_and_sent_back_is_the_document(document: dict[str, Any]) -> None:
    """To the type of each number, and the name of each secret."""
    number = iter(range(10**6))

    def numbered(value: Any, *, listed: bool) -> Any:
        if value == READ:
            return {**READ, "row": f"r_{next(number)}"} if listed else value
        if isinstance(value, dict):
            return {name: numbered(each, listed=listed) for name, each in value.items()}
        return [numbered(each, listed=True) for each in value] if isinstance(value, list) else value

    document = numbered(document, listed=False)
    rows = shown_tree(document, WHERE)
    found = read_tree(WHERE, sent_of(rows), document)
    assert repr(dict(found or {})) == repr(document)
    assert found is None or not any(said(found))


@given(place=st.lists(NAMES | st.integers(0, 9999), min_size=1, max_size=4))
def test_a_path_leads_to_the_place_that_it_was_made_of(place: list[str | int]) -> None:
    """Whatever its names are."""
    found: Place = ("x", *place)
    assert place_of(path_of(found)) == found


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "must be names"),
        ("a..b", "must be names"),
        (".a", "must be names"),
        ("0.a", "must begin with a name"),
        ("a.12345", "smaller number"),
        ("a\\", "must not end with"),
        (".".join("a" * 17), "must have at most 16"),
        (".".join("a" * 5000), "must have at most 16"),
    ],
)
def test_what_is_no_path_is_an_error_of_its_row(path: str, reason: str) -> None:
    """The other rows are read all the same."""
    found = typed((path, "text", "x"), ("b", "text", "y"))
    assert found == {"b": "y"}
    assert reason in said(found)[0][0]
    assert said(found)[1] == ()


def test_what_is_typed_is_of_its_type() -> None:
    """A number in a list tells the order, and no more."""
    found = typed(
        ("user.name", "text", " svc "),
        ("user.age", "number", " 5 "),
        ("rate", "number", "0.5"),
        ("on", "flag", "true"),
        ("key", "secret", "s3"),
        ("scopes.7", "text", "b"),
        ("scopes.2", "text", "a"),
        ("many.0.a", "list", "ignored"),
        ("many.1.\\0", "mapping", ""),
        ("empty", "text", ""),
        ("", "text", ""),
    )
    assert found == {
        "user": {"name": " svc ", "age": 5},
        "rate": 0.5,
        "on": True,
        "key": {"value": "s3"},
        "scopes": ["a", "b"],
        "many": [{"a": []}, {"0": {}}],
        "empty": "",
    }
    assert [each.pointer.removeprefix(WHERE) for each in found.rows] == [
        "/user/name",
        "/user/age",
        "/rate",
        "/on",
        "/key",
        "/scopes/1",
        "/scopes/0",
        "/many/0/a",
        "/many/1/0",
        "/empty",
    ]
    assert "s3" not in repr(found.rows)
    assert typed(("", "text", "")) is None
    assert typed(("", "text", ""), former={}) == {}


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([("a", "text", "x"), ("a", "text", "y")], ["must not be there twice"]),
        ([("a", "text", "x"), ("a.b", "text", "y")], ["must not be below a, which has a value"]),
        ([("a.b", "text", "x"), ("a", "text", "y")], ["has others below it"]),
        ([("a.b", "text", "x"), ("a.0", "text", "y")], ["must not have numbers of a list and names"]),
        ([("a.0", "text", "x"), ("a.0", "text", "y")], ["must not be there twice"]),
        ([("a", "text", "x"), ("b", "number", "1e5x")], ["must be a number"]),
        ([("a", "text", "x"), ("b", "flag", "yes")], ["must be true or false"]),
        ([("a", "text", "x"), ("b.", "number", "y")], ["must be a number", "must be names"]),
    ],
)
def test_rows_that_no_document_can_say_are_told_and_stay(rows: list[tuple[str, str, str]], reasons: list[str]) -> None:
    """The first one counts, and what was typed is shown again."""
    found = typed(*rows)
    first, second = said(found)
    assert first == ()
    assert [reason in text for reason, text in zip(reasons, second, strict=True)] == [True] * len(reasons)
    assert [(each.name, each.kind, each.value) for each in found.rows] == rows


def test_a_secret_is_kept_wherever_its_row_goes() -> None:
    """By its row ID in a list; what is kept stays a secret, and what is gone is not made up."""
    former = {"keys": [{**READ, "row": "r_1"}, {**READ, "row": "r_2"}], "key": READ}
    first, second, alone = shown_tree(former, WHERE)
    assert (first.name, first.kind, first.row, alone.name) == ("keys.0", "secret", "r_1", "key")

    def moved(**paths: str) -> Mapping[str, Any]:
        sent = sent_of([first, second, alone])
        for number, path in paths.items():
            sent[f"{WHERE}#{number.removeprefix('n')}#name"] = path
        found = read_tree(WHERE, sent, former)
        assert found is not None
        return found

    assert moved(n0="keys.1", n1="keys.0") == {**former, "keys": former["keys"][::-1]}
    assert moved(n0="")["keys"] == [{**READ, "row": "r_2"}]
    assert moved(n2="other")["other"] == READ
    changed = {**sent_of([alone]), f"{WHERE}#2#kind": "text"}
    assert read_tree(WHERE, changed, former) == {"key": READ}
    assert read_tree(WHERE, {**changed, f"{WHERE}#2#value#do": "replace"}, former) == {"key": ""}
    assert read_tree(WHERE, sent_of([alone]), {}) == {"key": {"value": ""}}
    typed_in = {**sent_of([alone]), f"{WHERE}#2#value": "new", f"{WHERE}#2#value#do": "replace"}
    assert read_tree(WHERE, typed_in, former) == {"key": {"value": "new"}}


def test_a_secret_that_was_sent_is_not_shown() -> None:
    """It is to be typed again."""
    (secret, field) = shown_tree({"key": {"value": "canary"}, "more": {"value": "x", "name": "y"}}, WHERE)[:2]
    assert (secret.name, secret.kind, secret.value, secret.stored) == ("key", "secret", "", None)
    assert (field.name, field.value) == ("more.value", "x")


@pytest.mark.parametrize("value", [None, "text", [1], 5])
def test_what_is_no_document_has_no_rows(value: Any) -> None:
    """Another version may have stored it."""
    assert shown_tree(value, WHERE) == []
    assert typed(("a", "text", "x"), former=value) == {"a": "x"}
