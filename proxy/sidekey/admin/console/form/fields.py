"""What a form asks for: fields that are made of a JSON schema of the API, whatever kind it describes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sidekey.credentials.fields import EXACT_TEXT, PEM_SECRET_SCHEMA, mapping

Schema = Mapping[str, Any]
Widget = Literal["text", "number", "flag", "choice", "lines", "secret", "secrets", "pem", "rows", "tree", "group"]
"""How a value is entered. `lines` is a list of texts, `secrets` one of secrets, `rows` a mapping of names to values,
`tree` a document by paths, `pem` what is pasted, uploaded or fetched from a URL, `group` further fields."""

_PREFIX: Final = "#/components/schemas/"
_SECRET: Final = f"{_PREFIX}Secret"
_CERTIFICATE: Final = f"{_PREFIX}Certificate"
_PEM_SECRET: Final = PEM_SECRET_SCHEMA["title"]
_NUMBERS: Final = frozenset({"integer", "number"})


Condition = tuple[str, tuple[str, ...]]
"""The pointer of a field, and the values of which it must have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. `pointer` (RFC 6901) is where its value stands in the document.

    `choices` are of a choice, or words that may stand in place of PEM; `sources` say how PEM may come ("text",
    "inline", "secret", "url"), of rows what a value may be ("text", "number", "flag", "secret"), and of lines that they
    are numbers ("number"); `prefixed`: a secret in a row has a public text before it; `exact`: spaces at the ends of a
    text count. `default` is what the value is where it is left out. `when` has conditions of which one must be met for
    the field to count; without any it does.
    """

    pointer: str
    label: str
    widget: Widget
    help: str = ""
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    prefixed: bool = False
    exact: bool = False
    parts: tuple[Field, ...] = ()
    when: tuple[Condition, ...] = ()

    @property
    def key(self) -> str:
        """The last name of the pointer."""
        return self.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")

    def walk(self) -> Iterator[Field]:
        """The field itself, or those of a group, in their order."""
        if self.widget == "group":
            for each in self.parts:
                yield from each.walk()
        else:
            yield self


def every(fields: Iterable[Field]) -> Iterator[Field]:
    """Fields with all that are in them, also the groups."""
    for each in fields:
        yield each
        yield from every(each.parts)


class Unsupported(Exception):
    """A schema that no widget is for; the document keeps what it has there."""


class Reader:
    """Makes fields of schemas that refer to `components`."""

    def __init__(self, components: Mapping[str, Schema]) -> None:
        self._components = components

    def fields(self, schema: Schema, where: str) -> tuple[Field, ...]:
        """Those of an object's properties, in the order of the model; `where` is the object's pointer."""
        required = frozenset(schema.get("required", ()))
        found = []
        for name, each in schema["properties"].items():
            if each.get("readOnly") or "const" in each:
                continue
            pointer = f"{where}/{name.replace('~', '~0').replace('/', '~1')}"
            try:
                found.append(self._field(each, pointer, label_of(name), required=name in required))
            except Unsupported:
                continue
        return tuple(found)

    def _field(self, schema: Schema, pointer: str, label: str, *, required: bool) -> Field:
        # A reference is how a config file says where a secret is; in a form it is typed.
        said = schema.get("description", "").replace(", as a reference", "")
        default = schema.get("default")
        node = self._bare(schema)

        def field(widget: Widget, **more: Any) -> Field:
            help_text = said or node.get("description", "")
            return Field(
                pointer=pointer, label=label, widget=widget, help=help_text, required=required, default=default, **more
            )

        secret = self._of_secrets(node)
        if secret is not None:
            widget, sources = secret
            return field(widget, sources=sources)
        if "properties" in node:
            return field("group", parts=self.fields(node, pointer))
        if isinstance(node.get("additionalProperties"), Mapping):
            if self._is_tree(node["additionalProperties"]):
                return field("tree")
            kinds, prefixed = self._values(node["additionalProperties"])
            if prefixed:
                # What is injected is mostly a credential: what is typed is not public unless somebody says so.
                kinds = ("secret", *(each for each in kinds if each != "secret"))
            return field("rows", sources=kinds, prefixed=prefixed)
        if "enum" in node:
            return field("choice", choices=tuple(str(each) for each in node["enum"] if each is not None))
        if "discriminator" in node:
            return field("group", parts=self._of_kinds(node, pointer))
        if node.get("type") == "array":
            item = _simple(self._bare(node.get("items", {})))
            if item in ("text", "number"):
                return field("lines", sources=("number",) if item == "number" else ())
        simple = _simple(node)
        if simple is not None:
            return field(simple, exact=node.get("title") == EXACT_TEXT)
        return self._of_alternatives(node, field)

    def _of_kinds(self, node: Schema, where: str) -> tuple[Field, ...]:
        """The fields of an object of several kinds: which it is, and those of each."""
        name, kinds = node["discriminator"]["propertyName"], node["discriminator"]["mapping"]
        chooses = f"{where}/{name}"
        default = mapping(node.get("default")).get(name)
        found = {
            chooses: Field(
                pointer=chooses, label=label_of(name), widget="choice", default=default, choices=tuple(sorted(kinds))
            )
        }
        for kind, reference in sorted(kinds.items()):
            for each in self.fields(self._bare({"$ref": reference}), where):
                other = found.get(each.pointer)
                also = () if other is None else other.when[0][1]
                # What it is must be said by the kind that is chosen: else a field that is hidden would be asked for.
                found[each.pointer] = replace(each, required=False, when=((chooses, (*also, kind)),))
        return tuple(found.values())

    def _of_secrets(self, node: Schema) -> tuple[Widget, tuple[str, ...]] | None:
        """How a secret is entered, a list of them, or what is in PEM, and how it may come; None: it is none of them."""
        if node.get("$ref") == _SECRET:
            # PEM has lines, which an input of one line would lose.
            return ("pem", ("secret",)) if node.get("title") == _PEM_SECRET else ("secret", ())
        ways = [self._bare(each) for each in node.get("anyOf", ())]
        if any(self._bare(each.get("items", {})).get("$ref") == _SECRET for each in ways):
            return "secrets", ()
        if {each.get("$ref") for each in ways} & {_SECRET, _CERTIFICATE}:
            return "pem", _sources(node)
        return None

    def _of_alternatives(self, node: Schema, field: Any) -> Field:
        """What stands for several ways to write the same: the one that can say most."""
        ways = [self._bare(each) for each in (*node.get("oneOf", ()), *node.get("anyOf", ()))]
        words = next((each["enum"] for each in ways if "enum" in each), ())
        references = {each.get("$ref") for way in ways for each in way.get("anyOf", ())}
        if words and _CERTIFICATE in references:
            pem: Field = field("pem", choices=tuple(words), sources=("inline",))
            return pem
        if any(_is_text(each) for each in ways) and any(each.get("type") == "array" for each in ways):
            found: Field = field("lines")
            return found
        for each in ways:
            if "properties" in each:
                parts = self.fields(each, field("group").pointer)
                return field("group", parts=parts)  # type: ignore[no-any-return]
        raise Unsupported

    def _bare(self, schema: Schema) -> Schema:
        """A schema without what only wraps it: references to models, null, and alternatives of one."""
        node = schema
        while True:
            reference = node.get("$ref", "")
            if reference and reference not in {_SECRET, _CERTIFICATE}:
                node = self._components[reference.removeprefix(_PREFIX)]
                continue
            for key in ("anyOf", "oneOf"):
                ways = [each for each in node.get(key, ()) if each.get("type") != "null"]
                if len(ways) == 1 and "properties" not in node:
                    node = {**{name: node[name] for name in ("enum",) if name in node}, **ways[0]}
                    break
            else:
                return node

    def _is_tree(self, schema: Schema) -> bool:
        """Whether a value of a mapping may be a mapping of such values."""
        ways = [self._bare(each) for each in self._bare(schema).get("anyOf", ())]
        return any(each.get("additionalProperties") == schema for each in ways)

    def _values(self, schema: Schema) -> tuple[tuple[str, ...], bool]:
        """What a value of a mapping may be."""
        ways = [self._bare(each) for each in (schema.get("oneOf") or schema.get("anyOf") or (schema,))]
        kinds: list[str] = []
        prefixed = False
        for each in ways:
            if each.get("$ref") == _SECRET:
                kinds.append("secret")
            elif "secret" in each.get("properties", {}):
                kinds.append("secret")
                prefixed = True
            elif _is_text(each):
                kinds.append("text")
            elif each.get("type") in _NUMBERS:
                kinds.append("number")
            elif each.get("type") == "boolean":
                kinds.append("flag")
        if not kinds:
            raise Unsupported
        return tuple(kinds), prefixed


def _simple(node: Schema) -> Widget | None:
    """How one plain value is entered; None: it is none."""
    if node.get("type") == "boolean":
        return "flag"
    if _is_text(node):
        return "text"
    return "number" if node.get("type") in _NUMBERS else None


def _is_text(node: Schema) -> bool:
    kind = node.get("type")
    return kind == "string" or (isinstance(kind, list) and "string" in kind and "object" not in kind)


def _sources(node: Schema) -> tuple[str, ...]:
    """How what is in PEM may come: public, sealed, or from a URL."""
    found = []
    for each in node["anyOf"]:
        if "inline" in each.get("properties", {}):
            found.append("inline")
        elif _is_text(each):
            found.append("text")
        elif "url" in each.get("properties", {}):
            found.append("url")
        elif each.get("$ref") == _SECRET:
            found.append("secret")
    # Where a URL reads as a secret does, the secret itself is not public.
    return tuple(each for each in found if each != "secret" or "inline" not in found)


_WORDS: Final[Mapping[str, str]] = {"ca": "CA", "id": "ID", "pem": "PEM", "url": "URL", "api": "API", "uri": "URI"}


def label_of(name: str) -> str:
    """What a form calls a key: its words, with those in capitals that are written so."""
    words = [_WORDS.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])
