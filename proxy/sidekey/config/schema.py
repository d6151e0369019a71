"""JSON schemas of the models: of the config file for editors and `sidekey schema`, and of the bodies of the API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, Field, RootModel
from pydantic.json_schema import models_json_schema

from sidekey.config.models import Config
from sidekey.config.profiles import names_of, parameter_properties, profile, takes_profiles
from sidekey.credentials.context import FILE_ONLY
from sidekey.credentials.fields import HIDDEN, SHAPE, Section, Shape
from sidekey.credentials.registry import KINDS

Schema = dict[str, Any]

Where = Literal["file", "body"]
"""Where a document is: in a config file, or in a request or response of the API."""

_PREFIX: Final[Mapping[Where, str]] = {"file": "#/$defs/", "body": "#/components/schemas/"}
_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "file": "Path of a file that holds the value; a relative path starts at the config file's folder",
    "env": "Name of an environment variable that holds the value",
    "url": "An https URL that the value is fetched from",
    "insecure_value": "The secret itself, for trials only",
    "inline": "The value itself",
    "value": "The secret, to be sealed.",
}
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs"})
"""Keywords of JSON Schema that hold schemas by names."""


class EnteredSecret(Section):
    """A secret on its way to Sidekey."""

    value: Annotated[str, Field(min_length=1)] = Field(
        description=_DESCRIPTIONS["value"], json_schema_extra={"writeOnly": True}
    )


class StoredSecret(Section):
    """A secret that is stored. Send it back with its `id` to keep it."""

    set: Literal[True]
    id: str
    set_at: str = ""
    set_by: str = ""


class Secret(RootModel[EnteredSecret | StoredSecret]):
    """A secret of a stored integration."""


DOCUMENT_VALUES: Final = (Secret,)
"""What the schemas of bodies refer to."""


def _object(*keys: str) -> Schema:
    """Return the schema of an object with one of these keys."""
    one: Schema = {"required": [*keys]} if len(keys) == 1 else {"minProperties": 1, "maxProperties": 1}
    return {
        "type": "object",
        "properties": {key: {"type": "string", "minLength": 1, "description": _DESCRIPTIONS[key]} for key in keys},
        "additionalProperties": False,
        **one,
    }


def _component(name: str) -> Schema:
    return {"$ref": f"{_PREFIX['body']}{name}"}


_TEXT: Final[Schema] = {"type": "string"}
_SEALED_URL: Final[Schema] = {
    "type": "object",
    "properties": {"url": {"anyOf": [{**_TEXT, "description": _DESCRIPTIONS["url"]}, _component("StoredSecret")]}},
    "required": ["url"],
    "additionalProperties": False,
}
_SECRET: Final[Schema] = {"title": "Secret", **_object("file", "env", "insecure_value")}
_TEXT_OR_REFERENCE: Final[Schema] = {"title": "Text", "oneOf": [_TEXT, _object("file", "env")]}
_SHAPES: Final[Mapping[Where, Mapping[Shape, Schema]]] = {
    "file": {
        "secret": _SECRET,
        "pem_secret": {**_SECRET, "title": "Secret in PEM"},
        "secret_or_text": {"title": "Secret or text", "oneOf": [_TEXT, _object("file", "env", "insecure_value")]},
        "secret_elsewhere": {"title": "Secret", **_object("file", "env")},
        "text": _TEXT_OR_REFERENCE,
        "pem_text": {**_TEXT_OR_REFERENCE, "title": "Certificate text"},
        "certificate_source": {"title": "Certificate source", **_object("file", "env", "url", "inline")},
        "key_source": {"title": "Key source", **_object("file", "env", "url", "insecure_value")},
        "token_file": _object("file"),
        "tree": {},
        "trusted_ca": {
            "title": "Trusted CA",
            "oneOf": [{"enum": ["mozilla", "system"]}, _object("file"), _object("inline")],
        },
    },
    "body": {
        "secret": _component("Secret"),
        "pem_secret": _component("Secret"),
        "secret_or_text": _component("Secret"),
        "text": _TEXT,
        "pem_text": _TEXT,
        "certificate_source": {"anyOf": [_object("inline"), _SEALED_URL]},
        "key_source": {"anyOf": [_component("Secret"), _SEALED_URL]},
        # Generators of clients know no value that refers to itself.
        "tree": {"type": "object", "additionalProperties": True},
        "trusted_ca": {"anyOf": [{"enum": ["mozilla", "system"]}, _object("inline")]},
    },
}


def schema() -> Schema:
    """JSON Schema (2020-12) of a config file. Defaults are spelled as in the file."""
    return {"$id": "urn:sidekey:config:1", **_config(definitions([Config], "file"))}


def model_schema() -> Schema:
    """The schema of what the models take: a config whose provider profiles are filled in."""
    return _config(definitions([Config], "file", profiles=False))


def _config(found: dict[str, Schema]) -> Schema:
    config = found.pop(Config.__name__)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": found, **config}


def definitions(models: Sequence[type[BaseModel]], where: Where, *, profiles: bool = True) -> dict[str, Schema]:
    """Return the schemas of models, and of all that they contain, by the names of their classes.

    `profiles` allows the parameters of provider profiles, and lets each profile replace the keys that it fills in.
    """
    _, generated = models_json_schema(
        [(each, "validation") for each in models], ref_template=f"{_PREFIX[where]}{{model}}"
    )
    for model in {each for root in models for each in models_in(root)}:
        properties = generated["$defs"][model.__name__].get("properties", {})
        for name, default in written_defaults(model).items():
            if name in properties:
                properties[name]["default"] = default
    found = _reachable(generated["$defs"], models, where)
    for kind, settings in KINDS.items() if profiles else ():
        if takes_profiles(kind) and settings.__name__ in found:
            _let_profiles_fill_in(kind, found[settings.__name__], where)
    return found if where == "file" else {name: _for_clients(each) for name, each in found.items()}


def _reachable(generated: dict[str, Schema], roots: Sequence[type[BaseModel]], where: Where) -> dict[str, Schema]:
    """Put the definitions that the roots need into a context. Models of values with a schema of their own drop out."""
    found: dict[str, Schema] = {}
    waiting = [each.__name__ for each in roots]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _in_context(generated[name], where)
            waiting += _references(found[name])
    return {name: found[name] for name in generated if name in found}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _references(each)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for each in node.values():
            yield from _references(each)


def _in_context(node: Any, where: Where) -> Any:
    """Replace the markers of a schema by what a document may contain there.

    A body has no file-only keys.
    """
    if isinstance(node, list):
        return [_in_context(each, where) for each in node]
    if not isinstance(node, dict):
        return node
    found: Schema = {}
    for key, value in node.items():
        if key == SHAPE:
            found |= _SHAPES[where][value]
        elif key in _NAMED:
            allowed = {name: each for name, each in value.items() if where == "file" or FILE_ONLY not in each}
            found[key] = {name: _in_context(each, where) for name, each in allowed.items()}
        elif key not in (FILE_ONLY, HIDDEN):
            found[key] = _in_context(value, where)
    if "patternProperties" in found:
        found["additionalProperties"] = False
    hidden = [name for name, each in node.get("properties", {}).items() if HIDDEN in each and where == "body"]
    for name in hidden:
        found["properties"][name]["description"] += " Viewers do not see it."
        found["required"].remove(name)
    return found


def _for_clients(node: Any) -> Any:
    """Simplify a schema for generators of clients.

    They name classes by titles, send the defaults, and lose properties beside `anyOf` and those whose names have a
    pattern.
    """
    if isinstance(node, list):
        return [_for_clients(each) for each in node]
    if not isinstance(node, dict):
        return node
    found: Schema = {
        key: {name: _for_clients(each) for name, each in value.items()} if key in _NAMED else _for_clients(value)
        for key, value in node.items()
        if key not in ("title", "default")
    }
    default = node.get("default")
    if default and "description" in found and isinstance(default, str | int):
        written = default if isinstance(default, str) else json.dumps(default)
        found["description"] += f" Default: `{written}`."
    if "patternProperties" in found:
        ((pattern, schema),) = found.pop("patternProperties").items()
        found |= {"propertyNames": {"pattern": pattern}, "additionalProperties": schema}
    if "properties" in found and "anyOf" in found:
        ways = [frozenset(each.get("required", ())) for each in found.pop("anyOf")]
        found["required"] = sorted(frozenset.intersection(*ways).union(found.get("required", ())))
    return found


def _let_profiles_fill_in(kind: str, definition: Schema, where: Where) -> None:
    """Allow the parameters of a kind's provider profiles, and let each profile replace the keys that it fills in."""
    properties, required = definition["properties"], definition.pop("required")
    ways: list[Schema] = definition.pop("anyOf", [{"required": required}])
    properties["provider"] = {**properties["provider"], "enum": [*names_of(kind), None]}
    properties |= {name: _in_context(each, where) for name, each in parameter_properties(kind).items()}
    by_what_remains: dict[tuple[str, ...], list[str]] = {}
    for name in names_of(kind):
        brought = profile(name).auth
        # Of several ways the one that the profile has begun.
        way = max(ways, key=lambda each: len(brought.keys() & each["required"]))
        remaining = tuple(key for key in way["required"] if key not in brought)
        by_what_remains.setdefault(remaining, []).append(name)
    definition["anyOf"] = [
        *ways,
        *(
            {"properties": {"provider": {"enum": found}}, "required": [*keys, "provider"]}
            for keys, found in by_what_remains.items()
        ),
    ]


def written_defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Return the defaults of a model's keys as the file writes them: `5s` rather than 5.0."""
    optional = {name for name, field in model.model_fields.items() if not field.is_required()}
    return model.model_construct().model_dump(mode="json", include=optional, by_alias=True) if optional else {}


def models_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield `model` and every model that its fields name."""
    yield model
    for field in model.model_fields.values():
        for found in (field.annotation, *get_args(field.annotation)):
            if isinstance(found, type) and issubclass(found, BaseModel) and found is not model:
                yield from models_in(found)
