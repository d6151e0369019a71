"""JSON documents with secrets at their leaves: the body of a login, the claims of a token.

A document consists of mappings, lists, texts, numbers and booleans. A mapping that is exactly a reference is a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeAlias

from pydantic import GetJsonSchemaHandler, PlainSerializer
from pydantic_core import CoreSchema, core_schema

from sidekey.credentials.commands import is_command
from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.destination import ComparedAs, Json, Place, is_stored
from sidekey.credentials.fields import (
    ENTRY_KEYS,
    REDACTED,
    Keys,
    Reference,
    check_field_name,
    keeps_stored_secret,
    parse_scalar,
    refuse,
    shape_marker,
)

Node: TypeAlias = "dict[str, Node] | list[Node] | Reference | int | float | bool"
"""A value in the config. A public text is a reference too, so it is never shown."""

Tree: TypeAlias = "dict[str, Node]"

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool"
"""A value of the document that Sidekey sends."""

MAX_DEPTH: Final = 16
MAX_VALUES: Final = 2000
"""Maximum number of values in a document, because the event loop fills and encodes it."""

_REFERENCE_KEYS: Final = frozenset({"file", "env", "insecure_value", "value"})
"""Keys of a reference to a secret. They are the same in files and in the store, so a document has one meaning."""


def parse_tree(raw: object, context: Context) -> Tree:
    """Parse a document. Raises ValueError, or pydantic's error with the location of each error."""
    if not isinstance(raw, Mapping):
        raise ValueError("must be a mapping")  # noqa: TRY004 - pydantic reports ValueError
    if _count(raw) > MAX_VALUES:
        raise ValueError(f"must not have more than {MAX_VALUES} values")
    errors: list[tuple[Place, ValueError]] = []
    tree = _parse_mapping(raw, context, (), errors)
    refuse(errors)
    return tree


def _count(raw: Mapping[str, Any]) -> int:
    """Count the values of a document, up to one above the limit. A secret counts as one value."""
    nodes: list[object] = [*raw.values()]
    count = 1
    while nodes and count <= MAX_VALUES:
        node = nodes.pop()
        count += 1
        if isinstance(node, Mapping):
            nodes += () if _is_reference(node) else node.values()
        elif isinstance(node, list):
            nodes += node
    return count


def _parse_mapping(
    raw: Mapping[str, Any], context: Context, place: Place, errors: list[tuple[Place, ValueError]]
) -> Tree:
    tree: Tree = {}
    for name, value in raw.items():
        try:
            check_field_name(name)
        except ValueError as error:
            errors.append(((*place, name, "[key]"), error))
        tree[name] = _parse_node(value, context, (*place, name), errors)
    return tree


def _parse_node(raw: object, context: Context, place: Place, errors: list[tuple[Place, ValueError]]) -> Node:
    try:
        if not isinstance(raw, Mapping | list) or (isinstance(raw, Mapping) and _is_reference(raw)):
            reason = "must be a text, a number, true, false, a list, a mapping, or a secret as a reference"
            return parse_scalar(raw, context, reason)
    except ValueError as error:
        errors.append((place, error))
        return False
    if len(place) >= MAX_DEPTH:
        errors.append((place, ValueError(f"must not be nested deeper than {MAX_DEPTH} levels")))
        return False
    if isinstance(raw, list):
        return [_parse_node(item, context, (*place, index), errors) for index, item in enumerate(raw)]
    return _parse_mapping(raw, context, place, errors)


def _is_reference(raw: Mapping[str, Any]) -> bool:
    """Return True if a mapping is a reference to a secret, valid or not, in a file or in the store.

    Any other key makes it a mapping of the document, because fields are often named `value`. The rule is the same for
    files and the store: otherwise the import of a file could change the document that is sent.
    """
    return (
        keeps_stored_secret(raw)
        or "insecure_value" in raw
        or (len(raw) > 0 and raw.keys() <= _REFERENCE_KEYS)
        or raw.keys() == ENTRY_KEYS
        or is_command(raw)
    )


def references(tree: Tree, *place: str) -> Iterator[tuple[Keys, Reference]]:
    """Yield each secret with its location below `place`. A list index becomes a decimal text."""
    for path, node in _leaves(tree, ()):
        if isinstance(node, Reference) and node.is_secret:
            yield (*place, *map(str, path)), node


def public_texts(tree: Tree) -> Iterator[tuple[Place, str]]:
    """Yield each public text with its location."""
    for path, node in _leaves(tree, ()):
        if isinstance(node, Reference) and not node.is_secret:
            yield path, node.value


def _leaves(node: Node, place: Place) -> Iterator[tuple[Place, Node]]:
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(child, (*place, name))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _leaves(child, (*place, index))
    else:
        yield place, node


def _unchanged(text: str) -> str:
    return text


def fill_secrets(
    tree: Tree, values: Mapping[Keys, str], *place: str, convert_text: Callable[[str], str] = _unchanged
) -> dict[str, Plain]:
    """Build the document to send. `values` are its secrets by location. `convert_text` converts each public text."""
    return {name: _fill(node, values, (*place, name), convert_text) for name, node in tree.items()}


def _fill(node: Node, values: Mapping[Keys, str], place: Keys, convert_text: Callable[[str], str]) -> Plain:
    if isinstance(node, dict):
        return {name: _fill(child, values, (*place, name), convert_text) for name, child in node.items()}
    if isinstance(node, list):
        return [_fill(child, values, (*place, str(index)), convert_text) for index, child in enumerate(node)]
    if isinstance(node, Reference):
        return values[place] if node.is_secret else convert_text(node.value)
    return node


_HAS_SECRETS: Final[Json] = {"": {}}
"""Represents the secrets of a list with public values. No name in a document is empty, so it is unique."""


def canonicalize_tree(tree: Tree) -> Json:
    """Return the canonical form of a document, for the destination of its secrets.

    It has the public values, and an empty mapping for each secret. An empty mapping becomes null, which no document
    contains. A list of secrets becomes an empty mapping, so that an editor can add, move or remove a secret without
    entering the remaining ones. A list with public values keeps their order, and a mark if it also has secrets.
    """
    return {name: _canonicalize_node(node) for name, node in tree.items()}


def _canonicalize_node(node: Node) -> Json:
    if isinstance(node, dict):
        return {name: _canonicalize_node(child) for name, child in node.items()} or None
    if isinstance(node, list):
        public = [_canonicalize_node(item) for item in node if not is_stored(item)]
        if len(public) == len(node):
            return public
        return [*public, _HAS_SECRETS] if public else {}
    if isinstance(node, Reference):
        return {} if is_stored(node) else node.value
    return node


def _redact(node: Node) -> Any:
    if isinstance(node, dict):
        return {name: _redact(child) for name, child in node.items()}
    return [_redact(item) for item in node] if isinstance(node, list) else REDACTED


_VALUE: Final = "DocumentValue"


def _build_schema() -> CoreSchema:
    """Describe documents to pydantic's JSON schema generator. `parse_tree` validates them."""
    secret = core_schema.any_schema(metadata={"pydantic_js_functions": [lambda *_: shape_marker("secret")]})
    plain = (core_schema.str_schema(), core_schema.int_schema(), core_schema.float_schema(), core_schema.bool_schema())
    value = core_schema.definition_reference_schema(_VALUE)
    document = core_schema.dict_schema(core_schema.str_schema(), value)
    union = core_schema.union_schema([*plain, secret, core_schema.list_schema(value), document], ref=_VALUE)
    return core_schema.definitions_schema(document, [union])


class _Schema:
    """Adds the recursive JSON schema of a document to an annotation."""

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(_build_schema()), **shape_marker("tree")}


JsonDocument = Annotated[
    # Not `Tree`: pydantic would resolve the recursive type without end.
    dict[str, Any],
    parsed_by(parse_tree),
    PlainSerializer(_redact),
    _Schema(),
    ComparedAs(canonicalize_tree),
]
"""The type of a key whose value is a document."""
