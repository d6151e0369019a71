"""The JSON of stored integrations: parsing, secrets, patches and serialization."""

from __future__ import annotations

import json
import re
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.config.stored.document import (
    MAX_INTEGER,
    MAX_VALUES,
    MalformedError,
    SavedDocument,
    changed_pointers,
    check_limits,
    merge_patch,
    parse,
    pointer,
    secrets_in,
    split_certificates,
    value_at,
    with_new_ids,
    with_secret_ids,
    with_values,
)
from support.stored import PROFILE, chain, stored

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner, max_size=3)
    ),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff", "UTF-8"),
        (b"{", "must be JSON .* see line 1, column 2"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "infinity"),
        (b'{"a": {"b": 1, "b": 2}}', "twice"),
        (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, "nested deeper"),
        (b'{"a": ' + b"9" * 5000 + b"}", "18 digits"),
        (b'{"a": [1e999]}', "number that no double"),
        (b'{"a": {"b": ["x\\udc00"]}}', "surrogate"),
        (b'{"\\ud800": 1}', "surrogate"),
        (b'{"a": ' + b"[" * 32 + b"]" * 32 + b"}", "32 levels"),
        (b'{"a": [-1000000000000000000]}', "18 digits"),
        (b'{"a": [1' + b",1" * MAX_VALUES + b"]}", "20000 values"),
        (b'{"a": [' + b"{}," * MAX_VALUES + b"{}]}", "20000 values"),
        # Text that does not end, which a careless look for it would read again and again.
        (b"," * (MAX_VALUES + 1) + rb"\"" * 200_000, "20000 values"),
    ],
)
def test_invalid_json_is_malformed(data: bytes, reason: str) -> None:
    """The message repeats nothing of the text."""
    with pytest.raises(MalformedError, match=reason):
        parse(data)


def test_valid_json_is_parsed() -> None:
    assert parse('{"a": ["é", 1, null]}'.encode()) == {"a": ["é", 1, None]}


def test_separators_in_strings_do_not_count_as_values() -> None:
    """The document has as many values as allowed, and a string with ten times as many separators."""
    text = r",[{:\"" * MAX_VALUES
    document = {"a": [1] * (MAX_VALUES - 10), "b": text}
    assert parse(json.dumps(document).encode()) == document


@pytest.mark.parametrize("raw", [{"a": "\ud800"}, {"\udfff": 1}, {"a": [{"b": "x\udc00"}]}])
def test_lone_surrogate_is_malformed(raw: Any) -> None:
    """No encoding accepts it."""
    with pytest.raises(MalformedError, match="surrogate"):
        check_limits(raw)


def test_deep_document_is_malformed() -> None:
    """The limit is that of config files."""
    deep: Any = "x"
    for _ in range(31):
        deep = {"a": deep}
    check_limits(deep)
    with pytest.raises(MalformedError, match="32 levels"):
        check_limits({"a": [deep]})


def test_long_keys_above_a_value_are_malformed() -> None:
    """Each error and each secret below would repeat the keys."""
    check_limits({"a" * 999: [1]})
    with pytest.raises(MalformedError, match="1000 characters"):
        check_limits({"a" * 500: {"b" * 500: [1]}})


@given(OBJECTS)
def test_new_ids_do_not_change_a_document(raw: dict[str, Any]) -> None:
    document = with_new_ids(raw)
    assert document == raw
    assert with_values(document, {}) == raw


@pytest.mark.parametrize(("place", "text"), [((), ""), (("a", 0, "b"), "/a/0/b"), (("a/b", "m~n", ""), "/a~1b/m~0n/")])
def test_pointer_escapes_tilde_and_slash(place: tuple[str | int, ...], text: str) -> None:
    """RFC 6901 has these two escapes."""
    assert pointer(place) == text


def test_pointer_outside_the_document_has_no_value() -> None:
    assert [value_at({"a": [1]}, at) for at in ("/b", "/a/1", "/a/x", "/a/0/b", "/a/-1")] == [None] * 5


# RFC 7396, appendix A.
EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), EXAMPLES)
def test_merge_patch_passes_the_examples_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    before = json.dumps(target)
    assert merge_patch(target, patch) == result
    assert json.dumps(target) == before


def test_patch_replaces_all_keys_of_a_stored_secret() -> None:
    target = {"password": {"set": True, "id": "s_1", "set_at": "2026-01-01T00:00:00Z", "set_by": "ann"}}
    assert merge_patch(target, {"password": {"value": "x"}}) == {"password": {"value": "x"}}
    assert merge_patch(target, {"other": 1})["password"] == target["password"]


def test_saved_document_keeps_the_order_of_keys() -> None:
    """Headers are sent in this order."""
    text = SavedDocument({"b": 1, "a": {"set": True, "id": "s_1"}}).text()
    assert list(SavedDocument.load(text).content) == ["b", "a"]
    row = stored(PROFILE)
    assert SavedDocument.load(row.document).text() == row.document


_PROFILE = {"provider": "x", "parameters": [], "domains": True}
_TORN: list[tuple[object, object]] = [(1, {"auth": {}}), ({}, {"auth": 1}), ({}, {}), ({}, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"integration": 1}',
        '{"integration": {}, "profile": {}}',
        '{"integration": {}, "profile": 1}',
        *(json.dumps({"integration": {"auth": auth}, "profile": {**_PROFILE, "keys": keys}}) for auth, keys in _TORN),
    ],
)
def test_malformed_saved_document_raises(text: str) -> None:
    """The error must not affect other rows."""
    with pytest.raises(MalformedError):
        SavedDocument.load(text)


def test_changed_pointers_descend_into_objects_but_not_lists() -> None:
    before = {"a": 1, "b": {"c": [1], "d": 2}, "same": {"x": 1}}
    after = {"a": 2, "b": {"c": [2], "d": 2, "e/f": 3}, "same": {"x": 1}}
    assert list(changed_pointers(before, after)) == ["/a", "/b/c", "/b/e~1f"]


KEPT = {"set": True, "id": "s_0123456789abcdef", "set_by": "ann"}


def test_every_secret_has_an_id_and_a_place() -> None:
    """A new secret gets a new ID. Other mappings have none."""
    raw = {
        "a": [{"value": "x"}, KEPT, {"c~/": {"url": "https://a.example"}}],
        "b": {"url": KEPT},
        "c": [{"value": "x", "more": 1}, {"set": False, "id": "s_1"}, {"set": True}, {"set": True, "id": 1}],
    }
    new, kept, url, kept_url = secrets_in(with_new_ids(raw))
    assert [re.fullmatch("s_[0-9a-f]{16}", secret.id) is not None for secret in (new, url)] == [True, True]
    assert new.id != url.id
    assert (kept.id, kept_url.id) == (KEPT["id"], KEPT["id"])
    assert [secret.loc for secret in (new, kept, url, kept_url)] == [
        ("a", 0),
        ("a", 1),
        ("a", 2, "c~/", "url"),
        ("b", "url"),
    ]


def test_id_replaces_a_secret() -> None:
    """Mappings that are not secrets stay unchanged."""
    raw = with_new_ids({"a": {"value": "x"}, "b": {"value": "y"}, "c": {"url": "z"}, "d": KEPT})
    new, _, url, kept = (secret.id for secret in secrets_in(raw))
    assert with_secret_ids(raw, {new, url, kept}) == {
        "a": {"set": True, "id": new},
        "b": {"value": "y"},
        "c": {"url": {"set": True, "id": url}},
        "d": {"set": True, "id": kept},
    }


def test_values_are_replaced_at_their_places() -> None:
    assert with_values({"a": ["x", {"b": 1}]}, {("a", 1, "b"): 2, ("a", 0): {}}) == {"a": [{}, {"b": 2}]}


@given(OBJECTS)
def test_document_without_a_pasted_key_is_unchanged(document: dict[str, Any]) -> None:
    assert split_certificates(document) is document


@pytest.mark.parametrize(
    ("key", "split"),
    [
        (None, True),
        ({"set": True, "id": "s_1"}, True),
        ({"value": f"{chain().leaf.pem.decode()}{chain().leaf.key_pem.decode()}"}, True),
        ({"value": chain().intermediate.key_pem.decode()}, False),
        ({"url": "https://vault.example/key"}, False),
        ("bare", False),
    ],
)
def test_pasted_key_replaces_only_a_missing_kept_or_equal_key(key: Any, split: bool) -> None:
    """If the document has another key, the certificate stays unchanged, and validation refuses it."""
    leaf = chain().leaf
    both = leaf.key_pem.decode() + leaf.pem.decode()
    section = {"certificate": {"inline": both}, **({} if key is None else {"private_key": key})}
    expected = {"certificate": {"inline": leaf.pem.decode()}, "private_key": {"value": leaf.key_pem.decode()}}
    document = {"auth": {"type": "mtls", **section}, "tags": ["a"]}
    result = split_certificates(document)
    assert result == ({**document, "auth": {"type": "mtls", **expected}} if split else document)
    assert document["auth"]["certificate"]["inline"] == both  # type: ignore[index,call-overload]


def test_splitting_pasted_keys_takes_linear_time() -> None:
    """Measured as the least CPU time of this thread in three runs."""
    blocks = [f"-----BEGIN {label}-----\n-----END {label}-----\n" for label in ("CERTIFICATE", "PRIVATE KEY")]
    pasted = {"certificate": {"inline": "".join(blocks)}}

    def cost(size: int) -> float:
        document = {"auth": {f"n{number}": pasted for number in range(size)}}
        before = thread_time()
        split_certificates(document)
        return thread_time() - before

    half = min(cost(8_000) for _ in range(3))
    full = min(cost(16_000) for _ in range(3))
    assert full <= 3 * half, (half, full)
