"""A document with secrets at its leaves, as it is sent: the body of a login, the claims of a token.

It consists of mappings, lists, texts, numbers, true and false. A mapping that is exactly a reference is a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeAlias

from pydantic import GetJsonSchemaHandler, PlainSerializer
from pydantic_core import CoreSchema, core_schema

from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.destination import ComparedAs, Json, is_stored
from sidekey.credentials.fields import (
    REDACTED,
    Keys,
    Reference,
    check_field_name,
    is_kept,
    marker,
    parse_scalar,
    refuse,
)

Node: TypeAlias = "dict[str, Node] | list[Node] | Reference | int | float | bool"
"""A value as the config holds it; a public text is a reference to itself, and so never shown."""

Tree: TypeAlias = "dict[str, Node]"

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool"
"""A value as it is sent."""

Place = tuple[str | int, ...]
"""Names and list indexes below the document."""

MAX_DEPTH: Final = 16
MAX_VALUES: Final = 2000
"""Values of one document: it is filled and encoded whole, on the event loop."""

_NAMES: Final = frozenset({"file", "env", "insecure_value", "value"})
"""What a mapping has that stands for a secret: the same everywhere, so that no document means something else there."""


def parse_tree(raw: object, context: Context) -> Tree:
    """Parse a document. Raises ValueError, or pydantic's with every error at its place."""
    if not isinstance(raw, Mapping):
        raise ValueError("must be a mapping")  # noqa: TRY004 - pydantic reports ValueError
    if _count(raw) > MAX_VALUES:
        raise ValueError(f"must not have more than {MAX_VALUES} values")
    found: list[tuple[Place, ValueError]] = []
    tree = _mapping(raw, context, (), found)
    refuse(found)
    return tree


def _count(raw: Mapping[str, Any]) -> int:
    """Count the values of a document, as far as they may be. A secret is one, whether it is entered or kept."""
    waiting: list[object] = [*raw.values()]
    count = 1
    while waiting and count <= MAX_VALUES:
        node = waiting.pop()
        count += 1
        if isinstance(node, Mapping):
            waiting += () if _is_reference(node) else node.values()
        elif isinstance(node, list):
            waiting += node
    return count


def _mapping(raw: Mapping[str, Any], context: Context, place: Place, found: list[tuple[Place, ValueError]]) -> Tree:
    tree: Tree = {}
    for name, value in raw.items():
        try:
            check_field_name(name)
        except ValueError as error:
            found.append(((*place, name, "[key]"), error))
        tree[name] = _node(value, context, (*place, name), found)
    return tree


def _node(raw: object, context: Context, place: Place, found: list[tuple[Place, ValueError]]) -> Node:
    try:
        if not isinstance(raw, Mapping | list) or (isinstance(raw, Mapping) and _is_reference(raw)):
            reason = "must be a text, a number, true, false, a list, a mapping, or a secret as a reference"
            return parse_scalar(raw, context, reason)
    except ValueError as error:
        found.append((place, error))
        return False
    if len(place) >= MAX_DEPTH:
        found.append((place, ValueError(f"must not be nested deeper than {MAX_DEPTH} levels")))
        return False
    if isinstance(raw, list):
        return [_node(each, context, (*place, index), found) for index, each in enumerate(raw)]
    return _mapping(raw, context, place, found)


def _is_reference(raw: Mapping[str, Any]) -> bool:
    """Whether a mapping stands for a secret, or was meant to, in a file or a stored document.

    Other names beside that of a reference make it a mapping of the document: `value` is the name of many a field. What
    is one in a store must not be a mapping in a file, or importing the file would change what is sent.
    """
    return is_kept(raw) or "insecure_value" in raw or (len(raw) > 0 and raw.keys() <= _NAMES)


def references(tree: Tree, *place: str) -> Iterator[tuple[Keys, Reference]]:
    """The secrets, each with its place below `place`; an index of a list is a decimal text."""
    for found, node in _leaves(tree, ()):
        if isinstance(node, Reference) and node.source != "text":
            yield (*place, *map(str, found)), node


def texts(tree: Tree) -> Iterator[tuple[Place, str]]:
    """The public texts, each with its place."""
    for found, node in _leaves(tree, ()):
        if isinstance(node, Reference) and node.source == "text":
            yield found, node.value


def _leaves(node: Node, place: Place) -> Iterator[tuple[Place, Node]]:
    if isinstance(node, dict):
        for name, each in node.items():
            yield from _leaves(each, (*place, name))
    elif isinstance(node, list):
        for index, each in enumerate(node):
            yield from _leaves(each, (*place, index))
    else:
        yield place, node


def _same(text: str) -> str:
    return text


def filled(tree: Tree, values: Mapping[Keys, str], *place: str, text: Callable[[str], str] = _same) -> dict[str, Plain]:
    """The document as it is sent, with what was read for its secrets. `text` makes of a public text what is sent."""
    return {name: _filled(node, values, (*place, name), text) for name, node in tree.items()}


def _filled(node: Node, values: Mapping[Keys, str], place: Keys, text: Callable[[str], str]) -> Plain:
    if isinstance(node, dict):
        return {name: _filled(each, values, (*place, name), text) for name, each in node.items()}
    if isinstance(node, list):
        return [_filled(each, values, (*place, str(index)), text) for index, each in enumerate(node)]
    if isinstance(node, Reference):
        return text(node.value) if node.source == "text" else values[place]
    return node


_BESIDE: Final[Json] = {"": {}}
"""Stands for the secrets of a list that has public values as well: no name in a document is empty."""


def form_of(tree: Tree) -> Json:
    """What of a document decides where secrets may go: all that is public, and the names that its secrets have.

    Each meaning has a form of its own: that of a secret is an empty mapping, and that of an empty mapping is null,
    which no document has. In a list of secrets each may be added, moved and removed without the others. What is public
    in a list counts in its order, and whether secrets are beside it: whoever adds one may not know the others.
    """
    return {name: _form(node) for name, node in tree.items()}


def _form(node: Node) -> Json:
    if isinstance(node, dict):
        return {name: _form(each) for name, each in node.items()} or None
    if isinstance(node, list):
        public = [_form(each) for each in node if not is_stored(each)]
        if len(public) == len(node):
            return public
        return [*public, _BESIDE] if public else {}
    if isinstance(node, Reference):
        return {} if is_stored(node) else node.value
    return node


def _redacted(node: Node) -> Any:
    if isinstance(node, dict):
        return {name: _redacted(each) for name, each in node.items()}
    return [_redacted(each) for each in node] if isinstance(node, list) else REDACTED


_VALUE: Final = "DocumentValue"


def _schema() -> CoreSchema:
    """What the JSON schema of a document is made of; documents are read by `parse_tree`."""
    secret = core_schema.any_schema(metadata={"pydantic_js_functions": [lambda *_: marker("secret")]})
    plain = (core_schema.str_schema(), core_schema.int_schema(), core_schema.float_schema(), core_schema.bool_schema())
    value = core_schema.definition_reference_schema(_VALUE)
    document = core_schema.dict_schema(core_schema.str_schema(), value)
    ways = core_schema.union_schema([*plain, secret, core_schema.list_schema(value), document], ref=_VALUE)
    return core_schema.definitions_schema(document, [ways])


class _Schema:
    """The JSON schema of a document, in which one of a value refers to itself."""

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(_schema()), **marker("tree")}


WrittenTree = Annotated[
    # Not Tree, which pydantic would resolve without end.
    dict[str, Any],
    parsed_by(parse_tree),
    PlainSerializer(_redacted),
    _Schema(),
    ComparedAs(form_of),
]
"""A key whose value is such a document; left out, it is empty."""
