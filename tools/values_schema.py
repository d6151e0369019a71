"""Generate the chart's values.schema.json from the hand-written helm/values.schema.json and the config's schema.

Helm before 3.18 supports JSON Schema draft 7 at most, so the config's schema (2020-12) is converted. For an invalid
value of a union, Helm's validators report the errors of all branches. Here `if` selects one branch, by the type of the
value, the discriminator or the provider, so that only its errors are reported.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from sidekey.config.schema import SHAPES
from support import helm

CHART_SCHEMA = helm.ROOT / "helm" / "values.schema.json"
"""The hand-written schema of the chart's own values, with replacements for parts of the config's schema."""
CONFIG_SCHEMA = helm.ROOT / "config" / "schema.json"
TARGET = helm.CHART / "values.schema.json"

Schema = dict[str, Any]

WIDTH = 120
MIN_SHARED_SIZE = 7
"""Minimum number of schemas in a repeated schema that becomes a shared definition."""
SIMPLE = frozenset({"string", "integer", "number", "boolean", "null"})
ANNOTATIONS = frozenset({"title", "description", "default", "$schema", "$id"})

SENSITIVE_FIELDS = (
    "([Aa][Uu][Tt][Hh][Oo][Rr][Ii][Zz][Aa][Tt][Ii][Oo][Nn]|[Cc][Oo][Oo][Kk][Ii][Ee]|[Tt][Oo][Kk][Ee][Nn]"
    "|[Ss][Ee][Cc][Rr][Ee][Tt]|[Pp][Aa][Ss][Ss][Ww]|([Aa][Pp][Ii]|[Aa][Cc][Cc][Ee][Ss][Ss]|[Aa][Uu][Tt][Hh])[-_]?[Kk][Ee][Yy])"
)
"""Names of header fields that hold a secret. Draft 7 has no flag to ignore the case."""

SENSITIVE_PARAMETERS = "^(client_secret|password|refresh_token|assertion|client_assertion|api_key)$"
"""Names of parameters and claims that hold a secret. A wider pattern would match `token_type`."""


def render() -> str:
    """Return the text of values.schema.json."""
    chart, config = (json.loads(path.read_text("utf-8")) for path in (CHART_SCHEMA, CONFIG_SCHEMA))
    return f"{_format(combine(chart, config))}\n"


def combine(chart: Schema, config: Schema) -> Schema:
    """Add to the chart's schema the definitions of the config's that it needs. `Config` is the config itself.

    If both have a definition, the chart's keywords and single properties have precedence.
    """
    config = _with_values(config, config["$defs"])
    config["$defs"] = _without(config["$defs"], *SHAPES["file"])
    combined = dict(_Converter(config["$defs"]).convert_all({**config["$defs"], "Config": _without(config, "$defs")}))
    combined["Config"] = _with_empty_sections(combined)
    for name, replacement in chart["definitions"].items():
        generated = combined.get(name, {})
        combined[name] = {**generated, **replacement}
        if "properties" in generated and "properties" in replacement:
            combined[name]["properties"] = {**generated["properties"], **replacement["properties"]}
    needed = _referenced(_without(chart, "definitions"), combined)
    definitions = _Shared({name: combined[name] for name in sorted(combined) if name in needed}).definitions
    return {**chart, "definitions": definitions}


def _with_values(node: Any, definitions: dict[str, Schema]) -> Any:
    """Replace references to the schemas of values (`sidekey.config.schema.SHAPES`) by these schemas."""
    if isinstance(node, list):
        return [_with_values(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    name = str(node.get("$ref", "")).rpartition("/")[2]
    if name in SHAPES["file"]:
        return {**definitions[name], **_without(node, "$ref")}
    return {key: _with_values(item, definitions) for key, item in node.items()}


def _with_empty_sections(definitions: dict[str, Schema]) -> Schema:
    """Allow null for the sections of the config: Sidekey ignores a top-level key without a value."""
    config = definitions["Config"]
    sections = dict(config["properties"])
    for key, inner in sections.items():
        schema = definitions[inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
        if schema.get("type") == "object":
            sections[key] = {"if": {"type": "null"}, "then": {}, "else": inner}
    return {**config, "properties": sections}


def _referenced(node: Any, definitions: dict[str, Schema]) -> set[str]:
    """Return the names of all definitions that a schema refers to, directly or through others."""
    names: set[str] = set()
    pending = [node]
    while pending:
        for item in _objects(pending.pop()):
            name = str(item.get("$ref", "")).rpartition("/")[2]
            if name and name not in names:
                names.add(name)
                pending.append(definitions[name])
    return names


def _objects(node: Any) -> Iterator[Schema]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _objects(inner)


class _Converter:
    """Converts schemas of draft 2020-12 to draft 7. `definitions` resolve their references."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions

    def convert_all(self, schemas: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
        """Yield each converted schema with its name."""
        for name, schema in schemas.items():
            yield name, self._convert(schema)

    def _convert(self, schema: Schema, key: str = "") -> Schema:
        """Convert the schema of a config `key`."""
        node = _without(schema, *ANNOTATIONS)
        if "$ref" in node:
            return {"$ref": f"#/definitions/{node['$ref'].rpartition('/')[2]}"}
        if "discriminator" in node:
            return self._by_discriminator(node["discriminator"])
        for union in ("oneOf", "anyOf"):
            if union in node and not any("required" in option and "type" not in option for option in node[union]):
                return self._by_type(node, union, key)
        if node.get("type") == "string" and node.keys() == {"type"}:
            return _ref("plainText")
        if "off" in node.get("enum", ()):
            return {"if": {"type": "boolean"}, "then": _ref("quotedOff"), "else": node}
        if node.get("type") == "object":
            return self._convert_object(node, key)
        if "items" in node:
            node["items"] = self._convert(node["items"], key)
        return node

    def _convert_object(self, node: Schema, key: str) -> Schema:
        if _is_secret(node) or _is_text(node):
            return _ref("keySource" if "url" in node["properties"] else "secret")
        if "properties" in node:
            node["properties"] = {name: self._convert(inner, name) for name, inner in node["properties"].items()}
        if "patternProperties" in node:
            node["patternProperties"] = {
                pattern: self._convert(inner, key) for pattern, inner in node["patternProperties"].items()
            }
        if isinstance(node.get("additionalProperties"), dict):
            value = node["additionalProperties"]
            node["additionalProperties"] = self._convert(value, key)
            node |= self._secret_names(value, key)
        if "anyOf" in node:
            node |= _by_provider(node.pop("anyOf"))
        return node

    def _secret_names(self, value: Schema, key: str) -> Schema:
        """Require references for the sensitive names of a mapping whose values may be secrets."""
        if not any(_is_secret(item) for item in _objects(self._resolved(value))):
            return {}
        are_headers = key == "headers"
        strict = {
            "if": {"type": "object"},
            "then": self._convert(value, key),
            "else": _ref("secretField") if are_headers else _ref("reference"),
        }
        return {"patternProperties": {SENSITIVE_FIELDS if are_headers else SENSITIVE_PARAMETERS: strict}}

    def _resolved(self, node: Schema) -> Schema:
        return self._definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node

    def _by_discriminator(self, discriminator: Schema) -> Schema:
        """Build a chain of `if` over the values of the discriminator."""
        key, mapping = discriminator["propertyName"], discriminator["mapping"]
        chain: Schema = {
            "type": "object",
            "properties": {key: {"enum": sorted(mapping)}},
            "required": [key],
        }
        for tag, reference in sorted(mapping.items(), reverse=True):
            test = {"type": "object", "properties": {key: {"const": tag}}, "required": [key]}
            chain = {"if": test, "then": _ref(reference.rpartition("/")[2]), "else": chain}
        return chain

    def _by_type(self, node: Schema, union: str, key: str) -> Schema:
        """Build a chain of `if` over the type of the value.

        The last branch reports all types, or how to write a secret, for a value of another type.
        """
        options = list(self._options(node))
        if len(options) == 1:
            return self._convert(options[0], key)
        if len(options) == 2 and options[0] == {"type": "string"} and _is_text(options[1]):
            return _ref("text")
        simple = {option["type"] for option in options if option.keys() == {"type"} and option["type"] in SIMPLE}
        rest = [option for option in options if option.keys() != {"type"} or option["type"] not in SIMPLE]
        secrets = [option for option in rest if _is_secret(option)]
        last: Schema
        if secrets and simple <= {"null"}:
            last = self._convert(secrets[0], key)
            rest.remove(secrets[0])
            rest += [{"type": name} for name in simple]
        else:
            types = sorted({name for option in options for name in self._types(option)})
            last = {"type": types, **_without(node, union)}
            if None in last.get("enum", ()):
                # The message should not suggest null.
                last |= {"type": [name for name in last["type"] if name != "null"]}
                last["enum"] = [value for value in last["enum"] if value is not None]
                rest.append({"type": "null"})
            if "string" in simple and not simple & {"number", "integer", "boolean"}:
                last = {"if": {"type": ["number", "boolean"]}, "then": _ref("quoted"), "else": last}
        return self._chain(rest, last, key)

    def _chain(self, options: list[Schema], last: Schema, key: str) -> Schema:
        """Build a chain of `if` over the options. Keys distinguish all mappings but the last one."""
        chain, mappings = last, 0
        for option in reversed(options):
            types = self._types(option)
            test: Schema = {"type": types[0] if len(types) == 1 else types}
            if types == ["object"]:
                test |= _has_key_of(option) if mappings else {}
                mappings += 1
            chain = {"if": test, "then": self._convert(option, key), "else": chain}
        return chain

    def _options(self, node: Schema) -> Iterator[Schema]:
        """Yield the branches of a union and of the unions in it."""
        for option in (*node.get("oneOf", ()), *node.get("anyOf", ())):
            bare = _without(option, *ANNOTATIONS)
            if _is_left_to_chart(bare):
                continue
            if {"oneOf", "anyOf"} & bare.keys() and "discriminator" not in bare:
                yield from self._options(bare)
            else:
                yield bare

    def _types(self, option: Schema) -> list[str]:
        schema = self._resolved(option)
        if "discriminator" in schema:
            return ["object"]
        if "type" in schema:
            return [schema["type"]]
        if not all(isinstance(value, str) for value in schema.get("enum", [schema.get("const")])):
            raise TypeError(f"only texts may come without a type, not as in {schema}")
        return ["string"]


class _Shared:
    """Moves large repeated schemas to definitions of their own, because Helm compiles the schema at each rendering.

    A shared definition is named after the location of its first use.
    """

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self._counts = Counter(json.dumps(node) for schema in schemas.values() for node in subschemas(schema))
        self._names: dict[str, str] = {}
        self.definitions: dict[str, Schema] = {}
        for name, schema in schemas.items():
            self.definitions[name] = self._share_children(schema, name)

    def _share_children(self, schema: Schema, location: str) -> Schema:
        return _map_children(schema, lambda child, key: self._share(child, f"{location}.{key}"))

    def _share(self, schema: Schema, location: str) -> Schema:
        text = json.dumps(schema)
        if self._counts[text] == 1 or len(subschemas(schema)) < MIN_SHARED_SIZE:
            return self._share_children(schema, location)
        if text not in self._names:
            self._names[text] = location
            self.definitions[location] = self._share_children(schema, location)
        return _ref(self._names[text])


def _map_children(schema: Schema, change: Callable[[Schema, str], Schema]) -> Schema:
    """Replace each direct child of a schema by `change(child, key)`."""
    changed = dict(schema)
    for keyword in ("additionalProperties", "items", "if", "then", "else", "not"):
        if isinstance(changed.get(keyword), dict):
            changed[keyword] = change(changed[keyword], keyword)
    for keyword in ("properties", "patternProperties"):
        if keyword in changed:
            by_name = keyword == "properties"
            changed[keyword] = {
                key: change(child, key if by_name else keyword) for key, child in changed[keyword].items()
            }
    for keyword in ("anyOf", "allOf"):
        if keyword in changed:
            changed[keyword] = [change(child, f"{keyword}.{index}") for index, child in enumerate(changed[keyword])]
    return changed


def subschemas(schema: Schema) -> list[Schema]:
    """Return a schema and all schemas in it."""
    schemas = [schema]

    def visit(child: Schema, _: str) -> Schema:
        schemas.extend(subschemas(child))
        return child

    _map_children(schema, visit)
    return schemas


def _has_key_of(option: Schema) -> Schema:
    """Return the test for a mapping that has a key of this option."""
    keys = {"anyOf": [{"required": [name]} for name in option["properties"]]}
    return {**keys, "maxProperties": option["maxProperties"]} if "maxProperties" in option else keys


def _by_provider(alternatives: list[Schema]) -> Schema:
    """Require the keys that the provider's profile does not fill in, or those of one alternative without a provider.

    An alternative with other properties applies if the value has them.
    """
    profiles = [alternative for alternative in alternatives if "provider" in alternative.get("properties", ())]
    plain = [alternative for alternative in alternatives if "properties" not in alternative]
    conditional = [item for item in alternatives if "properties" in item and item not in profiles]
    if not profiles:
        return {"anyOf": alternatives}
    chain: Schema = {}
    for profile in reversed(profiles):
        remaining = {"required": [key for key in profile["required"] if key != "provider"]}
        others = [option for option in plain if not set(remaining["required"]) <= set(option["required"])]
        required = {"anyOf": [remaining, *others]} if others else remaining
        chain = {"if": {"properties": profile["properties"]}, "then": required, "else": chain}
    unnamed: Schema = plain[0] if len(plain) == 1 else {"anyOf": plain}
    for item in conditional:
        applies = {"properties": item["properties"], "required": [*item["properties"]]}
        unnamed = {"if": applies, "then": {"required": item["required"]}, "else": unnamed}
    names_provider = {"properties": {"provider": {"type": "string"}}, "required": ["provider"]}
    return {"if": names_provider, "then": chain, "else": unnamed}


def _is_left_to_chart(node: Schema) -> bool:
    """Return True for an entry of a file and for a command, which the chart's definition of a secret allows."""
    return node.get("required") in (["file", "format", "key"], ["command"])


def _is_secret(node: Schema) -> bool:
    return "insecure_value" in node.get("properties", ()) and node.get("maxProperties") == 1


def _is_text(node: Schema) -> bool:
    return set(node.get("properties", ())) == {"file", "env"}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _without(node: Schema, *words: str) -> Schema:
    return {word: value for word, value in node.items() if word not in words}


def _format(node: Any, indent: str = "", offset: int = 0) -> str:
    """Format JSON with a node on one line if it fits. The first line begins at column `offset`."""
    line = json.dumps(node, ensure_ascii=False)
    if len(line) + offset <= WIDTH or not node or not isinstance(node, dict | list):
        return line
    inner = f"{indent}  "
    if isinstance(node, list):
        entries = [_format(item, inner, len(inner) + 1) for item in node]
        return "[\n" + ",\n".join(f"{inner}{entry}" for entry in entries) + f"\n{indent}]"
    keys_and_values = [(json.dumps(key), value) for key, value in node.items()]
    entries = [f"{key}: {_format(value, inner, len(inner) + len(key) + 3)}" for key, value in keys_and_values]
    return "{\n" + ",\n".join(f"{inner}{entry}" for entry in entries) + f"\n{indent}}}"
