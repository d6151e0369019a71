"""JSON documents with secrets at their leaves."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sidekey.config.stored.document import with_new_ids
from sidekey.credentials.context import Context
from sidekey.credentials.destination import destination_of, references_in
from sidekey.credentials.fields import Reference
from sidekey.credentials.json_values import (
    MAX_DEPTH,
    MAX_VALUES,
    JsonDocument,
    canonicalize_tree,
    fill_secrets,
    parse_tree,
    public_texts,
    references,
)

BODY: dict[str, Any] = {
    "user": {"name": "svc", "key": {"file": "k"}},
    "scopes": ["read", {"env": "SCOPE"}, {"of": [1, 2.5, True]}],
    "empty": {},
    "none": [],
    "field": {"value": "x", "name": "y"},
}


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    body: JsonDocument = Field(default={}, description="The body.")


def model_of(raw: object, context: Context) -> Model:
    return Model.model_validate({"body": raw}, context=context)


def errors_of(raw: object, where: Literal["file", "body"] = "file") -> dict[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as caught:
        model_of(raw, Context(where))
    return {error["loc"]: error["msg"].removeprefix("Value error, ") for error in caught.value.errors()}


def test_secrets_and_texts_have_their_locations() -> None:
    """A list index is a decimal text."""
    tree = parse_tree(BODY, Context("file"))
    assert dict(references(tree, "login", "body")) == {
        ("login", "body", "user", "key"): Reference("file", "k"),
        ("login", "body", "scopes", "1"): Reference("env", "SCOPE"),
    }
    assert dict(public_texts(tree)) == {
        ("user", "name"): "svc",
        ("scopes", 0): "read",
        ("field", "value"): "x",
        ("field", "name"): "y",
    }


def test_secrets_are_filled_in() -> None:
    """All other values keep their type."""
    values = {("user", "key"): "hunter2", ("scopes", "1"): "write"}
    result = fill_secrets(parse_tree(BODY, Context("file")), values, convert_text=str.upper)
    assert json.dumps(result) == json.dumps(
        {
            "user": {"name": "SVC", "key": "hunter2"},
            "scopes": ["READ", "write", {"of": [1, 2.5, True]}],
            "empty": {},
            "none": [],
            "field": {"value": "X", "name": "Y"},
        }
    )


@pytest.mark.parametrize("raw", [None, "text", ["list"], 5])
def test_document_is_a_mapping(raw: object) -> None:
    assert errors_of(raw) == {("body",): "must be a mapping"}


def test_all_errors_are_reported_at_their_locations() -> None:
    """None repeats a value."""
    raw = {
        "": 1,
        "a": [None, {"b\n": "x"}],
        "c": {"file": "k", "env": "K"},
        "d": {"insecure_value": "hunter2", "name": "x"},
        "e": {"env": "not a name"},
        "f": float("inf"),
        "g": "two\nlines",
        "h": {"insecure_value": ""},
        "i": {"value": "as a stored document has it"},
        "j": {"set": True},
    }
    result = errors_of(raw)
    assert {place[1:] for place in result} == {
        ("", "[key]"),
        ("a", 0),
        ("a", 1, "b\n", "[key]"),
        ("c",),
        ("d",),
        ("e",),
        ("f",),
        ("g",),
        ("h",),
        ("i",),
        ("j",),
    }
    assert "hunter2" not in str(result)
    assert result["body", "c"] == "a reference must have exactly one key: use {file: PATH} or {env: NAME}"


def test_depth_and_size_are_limited() -> None:
    deep: Any = "x"
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert parse_tree({"a": deep}, Context("file"))
    assert list(errors_of({"a": [deep]}).values()) == [f"must not be nested deeper than {MAX_DEPTH} levels"]
    # The document itself, and the list.
    assert parse_tree({"a": [1] * (MAX_VALUES - 2)}, Context("file"))
    assert errors_of({"a": [1] * (MAX_VALUES - 1)}) == {("body",): f"must not have more than {MAX_VALUES} values"}


@pytest.mark.parametrize("written", [{"value": "hunter2"}, {"set": True, "id": "s_1", "set_by": "eve"}])
def test_reference_keys_are_the_same_in_files_and_store(written: dict[str, Any]) -> None:
    """Otherwise the import of a file could change the document that is sent."""
    result = errors_of({"a": written, "b": {"value": 1, "name": "x"}})
    assert set(result) == {("body", "a")}


def test_stored_document_has_new_or_kept_secrets() -> None:
    """With other keys next to it, `value` is a field name."""
    raw = with_new_ids(
        {"a": {"value": "hunter2"}, "b": [{"set": True, "id": "s_1", "set_by": "eve"}], "c": {"value": 1, "name": "x"}}
    )
    tree = parse_tree(raw, Context("body"))
    assert {place: item.source for place, item in references(tree)} == {("a",): "stored", ("b", "0"): "stored"}
    result = errors_of(
        with_new_ids({"a": {"file": "/etc/passwd"}, "b": {"value": 5}, "c": {"insecure_value": "x"}}), "body"
    )
    assert result["body", "a"].startswith("no file of Sidekey's machine may be read")
    assert set(result) == {("body", "a"), ("body", "b"), ("body", "c")}


def test_dump_redacts_public_texts_too() -> None:
    """Someone may have pasted a secret."""
    model = model_of({"a": "hunter2", "b": [{"c": {"insecure_value": "hunter2"}}]}, Context("file"))
    assert "hunter2" not in repr(model)
    assert model.model_dump() == {"body": {"a": "REDACTED", "b": [{"c": "REDACTED"}]}}


def test_destination_is_public_values_and_names_of_secrets() -> None:
    assert destination_of(Model()) == {}
    raw = with_new_ids(BODY | {"user": {"value": "x"}, "scopes": ["a", {"value": "y"}]})
    assert destination_of(model_of(raw, Context("body"))) == {
        "body": {"user": {}, "scopes": ["a", {"": {}}], "empty": None, "none": [], "field": {"value": "x", "name": "y"}}
    }
    places = [place for place, item in references_in(model_of(BODY, Context("file"))) if item.source != "text"]
    assert places == [("body", "user", "key"), ("body", "scopes", 1)]


NAMES = st.sampled_from(["a", "b", "value", "set", "name"])
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        st.sampled_from(["", "x", 0, 1, 1.5, True, False, {"value": "s"}]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)


def is_secret(node: Any) -> bool:
    return isinstance(node, dict) and [*node] == ["value"] and isinstance(node["value"], str) and node["value"] != ""


def without_secrets(node: Any) -> Any:
    """Return a document without its secrets, in a form of this test. A list of secrets becomes one entry."""
    if is_secret(node):
        return "secret"
    if isinstance(node, dict):
        return ["mapping", sorted((name, without_secrets(item)) for name, item in node.items())]
    if isinstance(node, list):
        public = [without_secrets(item) for item in node if not is_secret(item)]
        return ["list", public, len(public) < len(node)] if public or not node else "secret"
    return ["value", type(node).__name__, node]


def form(raw: dict[str, Any]) -> str | None:
    try:
        return json.dumps(canonicalize_tree(parse_tree(with_new_ids(raw), Context("body"))), sort_keys=True)
    except ValidationError:
        return None


@given(first=DOCUMENTS, second=DOCUMENTS)
def test_documents_with_the_same_form_have_the_same_public_content(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    forms = form(first), form(second)
    if None not in forms:
        assert (forms[0] == forms[1]) is (json.dumps(without_secrets(first)) == json.dumps(without_secrets(second)))


def test_secret_added_to_public_values_changes_the_destination() -> None:
    """It may be one more audience of a token. In a list of secrets it changes nothing."""
    secret = {"value": "s"}
    assert form({"aud": ["x"]}) != form({"aud": ["x", secret]})
    assert form({"aud": ["x", secret]}) == form({"aud": [secret, "x", secret]})
    assert form({"aud": [secret]}) == form({"aud": [secret, secret]}) == form({"aud": secret})
