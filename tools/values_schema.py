"""Makes the chart's values.schema.json of two: helm/values.schema.json, which people write, and the config's own.

Helm before 3.18 knows draft 7 at most, so the config's schema, of 2020-12, is written in its words. Of a union, Helm's
validators tell what each branch finds wrong. Here branches are chosen by `if`, by the type of the value, by the key
that discriminates, or by the provider, so that only the branch that was meant says something.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from support import helm

OWN = helm.ROOT / "helm" / "values.schema.json"
"""What is written by hand: the chart's own values, and what is to replace parts of the config's schema."""
CONFIG = helm.ROOT / "config" / "schema.json"
TARGET = helm.CHART / "values.schema.json"

Schema = dict[str, Any]

WIDTH = 120
LONG = 7
"""How many schemas are in one that is not written twice."""
SIMPLE = frozenset({"string", "integer", "number", "boolean", "null"})
ANNOTATIONS = frozenset({"title", "description", "default", "$schema", "$id"})

SENSITIVE_FIELDS = (
    "([Aa][Uu][Tt][Hh][Oo][Rr][Ii][Zz][Aa][Tt][Ii][Oo][Nn]|[Cc][Oo][Oo][Kk][Ii][Ee]|[Tt][Oo][Kk][Ee][Nn]"
    "|[Ss][Ee][Cc][Rr][Ee][Tt]|[Pp][Aa][Ss][Ss][Ww]|([Aa][Pp][Ii]|[Aa][Cc][Cc][Ee][Ss][Ss]|[Aa][Uu][Tt][Hh])[-_]?[Kk][Ee][Yy])"
)
"""Header fields whose names say that they hold a secret. Draft 7 knows no flag for the case."""

SENSITIVE_PARAMETERS = "^(client_secret|password|refresh_token|assertion|client_assertion|api_key)$"
"""Parameters and claims that hold one: no wider, since `token_type` does not."""


def written() -> str:
    """The text of values.schema.json."""
    own, config = (json.loads(path.read_text("utf-8")) for path in (OWN, CONFIG))
    return f"{_laid_out(joined(own, config))}\n"


def joined(own: Schema, config: Schema) -> Schema:
    """The chart's own schema, with the definitions of the config's that it needs, `Config` being the config itself.

    Of a definition that is in both, the keywords of the chart's own count, and so do single properties.
    """
    found = dict(_Converter(config["$defs"]).converted({**config["$defs"], "Config": _without(config, "$defs")}))
    found["Config"] = _with_empty_sections(found)
    for name, replaced in own["definitions"].items():
        generated = found.get(name, {})
        found[name] = {**generated, **replaced}
        if "properties" in generated and "properties" in replaced:
            found[name]["properties"] = {**generated["properties"], **replaced["properties"]}
    wanted = set(_reached(_without(own, "definitions"), found))
    definitions = _Shared({name: found[name] for name in sorted(found) if name in wanted}).definitions
    return {**own, "definitions": definitions}


def _with_empty_sections(definitions: dict[str, Schema]) -> Schema:
    """The config, whose sections may be null: Sidekey takes a key above all without anything below it for none."""
    config = definitions["Config"]
    sections = dict(config["properties"])
    for key, inner in sections.items():
        schema = definitions[inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
        if schema.get("type") == "object":
            sections[key] = {"if": {"type": "null"}, "then": {}, "else": inner}
    return {**config, "properties": sections}


def _reached(node: Any, definitions: dict[str, Schema]) -> Iterator[str]:
    """The names of all definitions that a schema refers to, and that those refer to."""
    seen: set[str] = set()
    left = [node]
    while left:
        for each in _objects(left.pop()):
            name = str(each.get("$ref", "")).rpartition("/")[2]
            if name and name not in seen:
                seen.add(name)
                left.append(definitions[name])
    return iter(seen)


def _objects(node: Any) -> Iterator[Schema]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _objects(inner)


class _Converter:
    """Rewrites schemas; `definitions` are those that references name."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions

    def converted(self, schemas: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
        """Each schema by its name."""
        for name, schema in schemas.items():
            yield name, self._schema(schema)

    def _schema(self, given: Schema, key: str = "") -> Schema:
        """One schema in other words; `key` is the key of the config that it is of."""
        node = _without(given, *ANNOTATIONS)
        if "$ref" in node:
            return {"$ref": f"#/definitions/{node['$ref'].rpartition('/')[2]}"}
        if "discriminator" in node:
            return self._by_kind(node["discriminator"])
        for union in ("oneOf", "anyOf"):
            if union in node and not any("required" in option and "type" not in option for option in node[union]):
                return self._by_type(node, union, key)
        if node.get("type") == "string" and node.keys() == {"type"}:
            return _ref("plainText")
        if "off" in node.get("enum", ()):
            return {"if": {"type": "boolean"}, "then": _ref("quotedOff"), "else": node}
        if node.get("type") == "object":
            return self._object(node, key)
        if "items" in node:
            node["items"] = self._schema(node["items"], key)
        return node

    def _object(self, node: Schema, key: str) -> Schema:
        if _is_secret(node) or _is_text(node):
            return _ref("keySource" if "url" in node["properties"] else "secret")
        if "properties" in node:
            node["properties"] = {name: self._schema(inner, name) for name, inner in node["properties"].items()}
        if "patternProperties" in node:
            node["patternProperties"] = {
                pattern: self._schema(inner, key) for pattern, inner in node["patternProperties"].items()
            }
        if isinstance(node.get("additionalProperties"), dict):
            value = node["additionalProperties"]
            node["additionalProperties"] = self._schema(value, key)
            node |= self._names_of_secrets(value, key)
        if "anyOf" in node:
            node |= _by_provider(node.pop("anyOf"))
        return node

    def _names_of_secrets(self, value: Schema, key: str) -> Schema:
        """In a mapping whose values may be secrets, a name that says so must hold a reference to one."""
        if not any(_is_secret(each) for each in _objects(self._resolved(value))):
            return {}
        fields = key == "headers"
        strict = {
            "if": {"type": "object"},
            "then": self._schema(value, key),
            "else": _ref("secretField") if fields else _ref("reference"),
        }
        return {"patternProperties": {SENSITIVE_FIELDS if fields else SENSITIVE_PARAMETERS: strict}}

    def _resolved(self, node: Schema) -> Schema:
        return self._definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node

    def _by_kind(self, discriminator: Schema) -> Schema:
        """A chain of the values of the key that discriminates."""
        key, mapping = discriminator["propertyName"], discriminator["mapping"]
        chain: Schema = {
            "type": "object",
            "properties": {key: {"enum": sorted(mapping)}},
            "required": [key],
        }
        for kind, place in sorted(mapping.items(), reverse=True):
            chosen = {"type": "object", "properties": {key: {"const": kind}}, "required": [key]}
            chain = {"if": chosen, "then": _ref(place.rpartition("/")[2]), "else": chain}
        return chain

    def _by_type(self, node: Schema, union: str, key: str) -> Schema:
        """A chain by the type of the value; what is of no type is told all of them, or how a secret is written."""
        options = list(self._options(node))
        if len(options) == 2 and options[0] == {"type": "string"} and _is_text(options[1]):
            return _ref("text")
        simple = {option["type"] for option in options if option.keys() == {"type"} and option["type"] in SIMPLE}
        rest = [option for option in options if option.keys() != {"type"} or option["type"] not in SIMPLE]
        secrets = [option for option in rest if _is_secret(option)]
        last: Schema
        if secrets and simple <= {"null"}:
            last = self._schema(secrets[0], key)
            rest.remove(secrets[0])
            rest += [{"type": name} for name in simple]
        else:
            types = sorted({name for option in options for name in self._types(option)})
            last = {"type": types, **_without(node, union)}
            if None in last.get("enum", ()):
                # Else the message would name null, which nobody writes.
                last |= {"type": [name for name in last["type"] if name != "null"]}
                last["enum"] = [value for value in last["enum"] if value is not None]
                rest.append({"type": "null"})
            if "string" in simple and not simple & {"number", "integer", "boolean"}:
                last = {"if": {"type": ["number", "boolean"]}, "then": _ref("quoted"), "else": last}
        return self._chain(rest, last, key)

    def _chain(self, options: list[Schema], last: Schema, key: str) -> Schema:
        """If the first, then it, else the next. Of several mappings, all but the last are known by their keys."""
        chain, mappings = last, 0
        for option in reversed(options):
            types = self._types(option)
            test: Schema = {"type": types[0] if len(types) == 1 else types}
            if types == ["object"]:
                test |= _recognised(option) if mappings else {}
                mappings += 1
            chain = {"if": test, "then": self._schema(option, key), "else": chain}
        return chain

    def _options(self, node: Schema) -> Iterator[Schema]:
        """The branches of a union, those of unions within it too."""
        for option in (*node.get("oneOf", ()), *node.get("anyOf", ())):
            bare = _without(option, *ANNOTATIONS)
            if {"oneOf", "anyOf"} & bare.keys() and "discriminator" not in bare:
                yield from self._options(bare)
            else:
                yield bare

    def _types(self, option: Schema) -> list[str]:
        found = self._resolved(option)
        if "discriminator" in found:
            return ["object"]
        if "type" in found:
            return [found["type"]]
        if not all(isinstance(value, str) for value in found.get("enum", [found.get("const")])):
            raise TypeError(f"only texts may come without a type, not as in {found}")
        return ["string"]


class _Shared:
    """Definitions in which nothing long is written twice: Helm compiles all of it whenever it renders.

    What is shared is called by the place where it comes first.
    """

    def __init__(self, given: dict[str, Schema]) -> None:
        self._counts = Counter(json.dumps(node) for schema in given.values() for node in subschemas(schema))
        self._names: dict[str, str] = {}
        self.definitions: dict[str, Schema] = {}
        for name, schema in given.items():
            self.definitions[name] = self._within(schema, name)

    def _within(self, schema: Schema, place: str) -> Schema:
        return _mapped(schema, lambda inner, key: self._named(inner, f"{place}.{key}"))

    def _named(self, schema: Schema, place: str) -> Schema:
        text = json.dumps(schema)
        if self._counts[text] == 1 or len(subschemas(schema)) < LONG:
            return self._within(schema, place)
        if text not in self._names:
            self._names[text] = place
            self.definitions[place] = self._within(schema, place)
        return _ref(self._names[text])


def _mapped(schema: Schema, change: Callable[[Schema, str], Schema]) -> Schema:
    """A schema with each that is directly in it changed; `change` gets the key that leads to it as well."""
    found = dict(schema)
    for word in ("additionalProperties", "items", "if", "then", "else", "not"):
        if isinstance(found.get(word), dict):
            found[word] = change(found[word], word)
    for word in ("properties", "patternProperties"):
        if word in found:
            named = word == "properties"
            found[word] = {key: change(inner, key if named else word) for key, inner in found[word].items()}
    for word in ("anyOf", "allOf"):
        if word in found:
            found[word] = [change(inner, f"{word}.{index}") for index, inner in enumerate(found[word])]
    return found


def subschemas(schema: Schema) -> list[Schema]:
    """A schema and all that are in it."""
    found = [schema]

    def visit(inner: Schema, _: str) -> Schema:
        found.extend(subschemas(inner))
        return inner

    _mapped(schema, visit)
    return found


def _recognised(option: Schema) -> Schema:
    """By which keys a mapping is known to be the one that was meant."""
    keys = {"anyOf": [{"required": [name]} for name in option["properties"]]}
    return {**keys, "maxProperties": option["maxProperties"]} if "maxProperties" in option else keys


def _by_provider(ways: list[Schema]) -> Schema:
    """Which keys are required: of a provider's profile what it leaves, else those of one way."""
    own, profiles = ([way for way in ways if ("properties" in way) is named] for named in (False, True))
    if not profiles:
        return {"anyOf": ways}
    chain: Schema = {}
    for way in reversed(profiles):
        left = {"required": [key for key in way["required"] if key != "provider"]}
        others = [each for each in own if not set(left["required"]) <= set(each["required"])]
        enough = {"anyOf": [left, *others]} if others else left
        chain = {"if": {"properties": way["properties"]}, "then": enough, "else": chain}
    named = {"properties": {"provider": {"type": "string"}}, "required": ["provider"]}
    return {"if": named, "then": chain, "else": own[0] if len(own) == 1 else {"anyOf": own}}


def _is_secret(node: Schema) -> bool:
    return "insecure_value" in node.get("properties", ()) and node.get("maxProperties") == 1


def _is_text(node: Schema) -> bool:
    return set(node.get("properties", ())) == {"file", "env"}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _without(node: Schema, *words: str) -> Schema:
    return {word: value for word, value in node.items() if word not in words}


def _laid_out(node: Any, indent: str = "", before: int = 0) -> str:
    """JSON that has in one line what fits into it; `before` is how much of its first line is taken."""
    line = json.dumps(node, ensure_ascii=False)
    if len(line) + before <= WIDTH or not node or not isinstance(node, dict | list):
        return line
    inner = f"{indent}  "
    if isinstance(node, list):
        entries = [_laid_out(each, inner, len(inner) + 1) for each in node]
        return "[\n" + ",\n".join(f"{inner}{entry}" for entry in entries) + f"\n{indent}]"
    named = [(json.dumps(key), value) for key, value in node.items()]
    entries = [f"{key}: {_laid_out(value, inner, len(inner) + len(key) + 3)}" for key, value in named]
    return "{\n" + ",\n".join(f"{inner}{entry}" for entry in entries) + f"\n{indent}}}"
